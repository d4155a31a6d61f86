//! Fault points: places where a test may kill the process, named by their step.
//!
//! Without the feature `fault` a point is nothing. With it, `FERRY_FAULT=NAME` (or
//! `NAME:N` for the N-th passage) makes the process kill itself with SIGKILL there.

/// Steps of the store at which a kill must lose nothing that was promised.
pub const STEPS: [&str; 7] = [
    "journal-before",
    "journal-torn",
    "journal-after",
    "fold-before",
    "fold-uncommitted",
    "fold-committed",
    "fold-cut",
];

/// Whether a kill is due at `step`; counts the passage.
#[cfg(feature = "fault")]
pub fn due(step: &str) -> bool {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};
    static WANTED: OnceLock<Option<(String, u32)>> = OnceLock::new();
    static PASSED: AtomicU32 = AtomicU32::new(0);
    let wanted = WANTED.get_or_init(|| {
        let text = std::env::var("FERRY_FAULT").ok()?;
        Some(match text.split_once(':') {
            Some((name, count)) => (name.to_owned(), count.parse().unwrap_or(1)),
            None => (text, 1),
        })
    });
    wanted.as_ref().is_some_and(|(name, count)| {
        name == step && PASSED.fetch_add(1, Ordering::SeqCst) + 1 == *count
    })
}

/// Whether a kill is due at `step`: never, in this build.
#[cfg(not(feature = "fault"))]
pub const fn due(_step: &str) -> bool {
    false
}

/// Ends the process at once, as `kill -9` does.
pub fn die() {
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
}

/// A place where a test may kill the process.
pub fn point(step: &str) {
    if due(step) {
        die();
    }
}
