//! Another account of this machine.

use rustix::process::Uid;

/// The account that owns nothing.
const NOBODY: u32 = 65534;

/// Runs something as another account, in a thread that ends with it; `None` where that is not permitted.
///
/// Sockets that are made there stay that account's.
pub fn as_another_account<T: Send + 'static>(action: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let thread = std::thread::spawn(move || match rustix::thread::set_thread_uid(Uid::from_raw(NOBODY)) {
        Ok(()) => Some(action()),
        Err(error) => {
            println!("skipped: this process may not become account {NOBODY}: {error}");
            None
        }
    });
    thread.join().unwrap()
}
