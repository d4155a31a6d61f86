//! Fault points: places where a test may kill a process, named by their step.
//!
//! In an optimised build a point is nothing. In others `FERRY_FAULT=STEP[:N]` makes the process kill
//! itself with SIGKILL at the N-th passage of the step, `any` being every step. A daemon that runs
//! is told by the file that `FERRY_FAULT_FILE` names, once it is there: `PROGRAM STEP[:N] [PID]`,
//! where PROGRAM is whose passages with the file there count and PID who is killed instead of it. The
//! file is renamed to `….done` when that happens.

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

/// Whether this process is to die at `step`; counts the passage.
#[cfg(debug_assertions)]
pub fn due(step: &str) -> bool {
    armed::due(step)
}

/// Whether this process is to die at `step`: never, in this build.
#[cfg(not(debug_assertions))]
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

#[cfg(debug_assertions)]
mod armed {
    use rustix::process::{Pid, Signal, getpid, kill_process};
    use std::path::PathBuf;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[derive(Clone)]
    struct Wanted {
        step: String,
        passage: u32,
        victim: Pid,
    }

    static PASSED: AtomicU32 = AtomicU32::new(0);

    pub(super) fn due(step: &str) -> bool {
        let Some(wanted) = wanted() else { return false };
        let counts = wanted.step == step || wanted.step == "any";
        if !counts || PASSED.fetch_add(1, Ordering::SeqCst) + 1 != wanted.passage {
            return false;
        }
        // Whoever took the file away meanwhile believes that nobody dies.
        if let Some(file) = file()
            && std::fs::rename(file, file.with_extension("done")).is_err()
        {
            return false;
        }
        if wanted.victim != getpid() {
            let _ = kill_process(wanted.victim, Signal::KILL);
            return false;
        }
        true
    }

    fn wanted() -> Option<Wanted> {
        static OWN: OnceLock<Option<Wanted>> = OnceLock::new();
        let own = OWN.get_or_init(|| parse(&std::env::var("FERRY_FAULT").ok()?, ""));
        if own.is_some() {
            return own.clone();
        }
        let text = std::fs::read_to_string(file()?).ok()?;
        let (program, rest) = text.trim().split_once(' ')?;
        let this = std::env::current_exe().ok()?;
        (this.file_name()? == program).then(|| {
            let (step, victim) = rest.split_once(' ').unwrap_or((rest, ""));
            parse(step, victim)
        })?
    }

    fn file() -> Option<&'static PathBuf> {
        static FILE: OnceLock<Option<PathBuf>> = OnceLock::new();
        FILE.get_or_init(|| std::env::var_os("FERRY_FAULT_FILE").map(PathBuf::from)).as_ref()
    }

    fn parse(step: &str, victim: &str) -> Option<Wanted> {
        let (step, passage) = step.split_once(':').unwrap_or((step, "1"));
        let victim = victim.parse().ok().and_then(Pid::from_raw).unwrap_or_else(getpid);
        Some(Wanted { step: step.into(), passage: passage.parse().ok()?, victim })
    }
}
