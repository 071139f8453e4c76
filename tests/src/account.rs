//! Another account of this machine.

use rustix::process::Uid;

/// The account that owns nothing.
const NOBODY: u32 = 65534;

/// Set by whoever runs the tests without the right to become another account: a test that does nothing shall not look like one
/// that has passed.
const SKIP: &str = "K8S_CLI_SKIP_OTHER_ACCOUNT";

/// Runs something as another account, in a thread that ends with it; `None` where that is not permitted, and may be skipped.
///
/// Sockets that are made there stay that account's.
pub fn as_another_account<T: Send + 'static>(action: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let thread = std::thread::spawn(move || match rustix::thread::set_thread_uid(Uid::from_raw(NOBODY)) {
        Ok(()) => Some(action()),
        Err(error) => {
            assert!(
                std::env::var_os(SKIP).is_some(),
                "this test becomes account {NOBODY}: {error}; run it as root, or set {SKIP}=1"
            );
            None
        }
    });
    thread.join().unwrap()
}
