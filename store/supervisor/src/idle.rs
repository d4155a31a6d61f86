//! Giving memory back once nothing has been asked for a while. No timer runs before the first
//! request, and none after the memory went.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

/// How long nothing must have been asked.
const QUIET: Duration = Duration::from_secs(2);

/// What is going on, as far as the allocator is concerned.
#[derive(Debug, Default)]
pub struct Activity {
    count: AtomicU64,
    begun: Notify,
}

impl Activity {
    /// Something is done now that leaves memory behind.
    pub fn touch(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.begun.notify_one();
    }

    /// Something long begins; what it leaves behind counts from its end.
    pub(crate) fn until_end(&self) -> impl Drop + '_ {
        struct End<'a>(&'a Activity);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                self.0.touch();
            }
        }
        End(self)
    }

    /// Gives free memory back after each burst, for as long as the daemon lives.
    pub(crate) async fn run(&self) {
        loop {
            self.begun.notified().await;
            loop {
                let before = self.count.load(Ordering::Relaxed);
                tokio::time::sleep(QUIET).await;
                if self.count.load(Ordering::Relaxed) == before {
                    break;
                }
            }
            sys::memory::trim();
        }
    }
}
