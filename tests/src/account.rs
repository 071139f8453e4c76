//! Acting as another account of this machine.

use rustix::process::Uid;

/// The account `nobody`, which owns nothing.
const NOBODY: u32 = 65534;

/// Set by those who run the tests without the right to switch accounts. Without it such tests fail: a test that did
/// nothing must not look like one that passed.
const SKIP: &str = "K8S_CLI_SKIP_OTHER_ACCOUNT";

/// Runs a closure as another account, in a thread of its own. Returns `None` where that is not permitted and may be
/// skipped.
///
/// Sockets that it creates keep that account as their owner.
pub fn as_another_account<T: Send + 'static>(action: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let thread = std::thread::spawn(move || match rustix::thread::set_thread_uid(Uid::from_raw(NOBODY)) {
        Ok(()) => Some(action()),
        Err(error) => {
            assert!(
                std::env::var_os(SKIP).is_some(),
                "cannot become account {NOBODY}: {error}; run this test as root, or set {SKIP}=1"
            );
            None
        }
    });
    thread.join().unwrap()
}
