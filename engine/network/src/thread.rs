//! The thread that owns `Networks`: others hand it closures; between them it does what waits.
//! Not here: any policy, any async runtime (a caller's closure may complete a future).

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use crate::networks::Networks;
use crate::{Error, Result};

type Job = Box<dyn FnOnce(&mut Networks) + Send>;

/// Work that waits is begun after this much quiet, so that it never stands before a start.
const QUIET: Duration = Duration::from_millis(3);
/// Under steady work, what waits is done this often all the same.
const AT_LEAST: Duration = Duration::from_millis(50);
/// A failed round of what waits is tried again after this.
const AGAIN: Duration = Duration::from_secs(1);

/// Hands work to the thread. Cheap to clone; the thread ends when the last is dropped.
#[derive(Clone)]
pub struct Handle {
    /// Taken at drop alone, so that the thread sees the end when it wakes.
    jobs: Option<Sender<Job>>,
    wake: Arc<OwnedFd>,
}

impl Handle {
    /// Queues `job`; false when the thread has ended.
    pub fn submit(&self, job: impl FnOnce(&mut Networks) + Send + 'static) -> bool {
        let queued = self.jobs.as_ref().is_some_and(|jobs| jobs.send(Box::new(job)).is_ok());
        self.wake();
        queued
    }

    /// Runs `job` and waits for what it returns; `None` when the thread has ended.
    pub fn call<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Networks) -> T + Send + 'static,
    ) -> Option<T> {
        let (answer, result) = mpsc::channel();
        self.submit(move |networks| {
            // A caller that is gone needs no answer.
            let _ = answer.send(job(networks));
        });
        result.recv().ok()
    }

    fn wake(&self) {
        // A full counter wakes as well.
        let _ = rustix::io::write(&*self.wake, &1u64.to_ne_bytes());
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.jobs = None;
        self.wake();
    }
}

/// Starts the thread, named `kernel`, and gives it what `open` returns; `open` runs on it.
pub fn spawn(
    open: impl FnOnce() -> Result<Networks> + Send + 'static,
) -> Result<(Handle, JoinHandle<()>)> {
    let failed = |what: &'static str| move |e: std::io::Error| Error::kernel(what, e);
    let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
        .map_err(|e| Error::kernel("eventfd", e))?;
    let wake = Arc::new(wake);
    let (jobs, queue) = mpsc::channel();
    let (opened, result) = mpsc::channel();
    let own = wake.clone();
    let thread = std::thread::Builder::new()
        .name("kernel".to_owned())
        .spawn(move || match open() {
            Ok(networks) => {
                let _ = opened.send(Ok(()));
                serve(networks, &queue, &own);
            }
            Err(error) => {
                let _ = opened.send(Err(error));
            }
        })
        .map_err(failed("start thread kernel"))?;
    match result.recv() {
        Ok(Ok(())) => Ok((Handle { jobs: Some(jobs), wake }, thread)),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(Error::kernel("start thread kernel", std::io::Error::other("it panicked"))),
    }
}

fn serve(mut networks: Networks, queue: &Receiver<Job>, wake: &OwnedFd) {
    let mut next: Option<Duration> = Some(Duration::ZERO);
    let mut last = Instant::now();
    loop {
        match queue.try_recv() {
            Ok(job) => {
                job(&mut networks);
                next = Some(QUIET);
                if last.elapsed() < AT_LEAST {
                    continue;
                }
            }
            Err(TryRecvError::Disconnected) => break,
            Err(TryRecvError::Empty) => {
                if wait(&networks, wake, next) && last.elapsed() < AT_LEAST {
                    continue;
                }
                // A job that comes now goes first.
                match queue.recv_timeout(Duration::ZERO) {
                    Ok(job) => {
                        job(&mut networks);
                        next = Some(QUIET);
                        continue;
                    }
                    Err(RecvTimeoutError::Disconnected) => break,
                    Err(RecvTimeoutError::Timeout) => {}
                }
            }
        }
        last = Instant::now();
        next = match networks.maintain() {
            Ok(next) => next,
            Err(error) => {
                tracing::warn!(%error, "network maintenance failed");
                Some(AGAIN)
            }
        };
    }
    networks.end();
}

/// Waits for a job, a kernel event or the time; true when a job came.
fn wait(networks: &Networks, wake: &OwnedFd, at_most: Option<Duration>) -> bool {
    let wake_fd = PollFd::from_borrowed_fd(wake.as_fd(), PollFlags::IN);
    let kernel = networks.wakers().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
    let mut fds: Vec<PollFd<'_>> = [wake_fd].into_iter().chain(kernel).collect();
    let timeout = at_most.map(|d| Timespec {
        tv_sec: d.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: d.subsec_nanos().into(),
    });
    // An interrupted wait is a wake-up without a reason: harmless.
    let _ = poll(&mut fds, timeout.as_ref());
    let mut counter = [0u8; 8];
    rustix::io::read(wake, &mut counter).is_ok()
}
