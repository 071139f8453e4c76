//! What only `kubectl` needs: the listener and the kubeconfig to reach the API, discovery documents, access reviews,
//! tables, and strategic merge patches.

mod access_review;
mod discovery;
mod kubeconfig;
mod listener;
mod strategic_merge;
mod table;

pub(crate) use access_review::review_access;
pub(crate) use discovery::{DiscoveryDocument, document};
pub(crate) use kubeconfig::Credentials;
pub(crate) use listener::listen;
pub(crate) use strategic_merge::strategic_merge;
pub(crate) use table::table;
