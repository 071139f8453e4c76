//! What only `kubectl` needs: the listener and the kubeconfig to reach the API, discovery documents, access reviews,
//! tables, and strategic merge patches.

mod access_review;
mod discovery;
mod kubeconfig;
mod listener;
mod strategic_merge;
mod table;

pub use access_review::review_access;
pub use discovery::{DiscoveryDocument, document};
pub use kubeconfig::Credentials;
pub use listener::listen;
pub use strategic_merge::strategic_merge;
pub use table::table;
