//! What only `kubectl` needs: the listener and the kubeconfig to reach the API, discovery documents, tables, and
//! strategic merge patches.

mod discovery;
mod kubeconfig;
mod listener;
mod strategic_merge;
mod table;

pub use discovery::{DiscoveryDocument, document};
pub use kubeconfig::Credentials;
pub use listener::listen;
pub use strategic_merge::strategic_merge;
pub use table::table;
