//! Finds out whether a request failed because the other end belongs to another account.

use peer::UntrustedPeer;

/// The [`UntrustedPeer`] error in the chain of causes, if the request failed because of it.
pub(crate) fn find_untrusted_peer(error: &reqwest::Error) -> Option<&UntrustedPeer> {
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        if let Some(found) = inner.downcast_ref() {
            return Some(found);
        }
        cause = inner.source();
    }
    None
}
