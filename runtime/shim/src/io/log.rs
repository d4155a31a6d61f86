//! Writing logs: one thread a process, started with the first output, behind a bounded queue,
//! because a regular file can't be polled. It alone touches log files, rotates them, and survives
//! a full disk. It knows nothing of pipes, attachers or processes.

use super::json::{self, Lines};
use super::spool::Cursor;
use shim_api::sink::{JsonFile, Mode};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::SystemTime;
use sys::epoll::Waker;

/// Queued bytes beyond which the container has to wait.
const QUEUE: usize = 256 * 1024;
/// Encoded bytes that are written at once.
const BATCH: usize = 32 * 1024;
/// The thread's stack: its deepest call is a rename.
const STACK: usize = 64 * 1024;
/// What an entry costs beside its bytes.
const OVERHEAD: usize = 64;

/// Where a stream's bytes go.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    /// Docker's json-file; both streams share it.
    Json(JsonFile),
    /// Appended as they are; one path a stream (`None`: dropped).
    Raw([Option<PathBuf>; 2]),
}

struct Entry {
    stream: u8,
    time: SystemTime,
    /// Empty: the stream has ended.
    data: Box<[u8]>,
}

#[derive(Default)]
struct Queue {
    entries: VecDeque<Entry>,
    bytes: usize,
    working: bool,
    closed: bool,
    wants_room: bool,
    wants_idle: bool,
    lost: u64,
}

struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
    waker: Waker,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The loop's end of the queue.
pub(crate) struct Log {
    shared: Arc<Shared>,
    target: Target,
    thread: Option<JoinHandle<()>>,
    /// For the thread, once it starts.
    cursor: Option<Cursor>,
    limit: usize,
    drops: bool,
}

impl Log {
    /// A log; its thread starts with the first output.
    pub(crate) fn new(target: Target, mode: Mode) -> io::Result<Self> {
        let shared =
            Shared { queue: Mutex::default(), filled: Condvar::new(), waker: Waker::new()? };
        let (limit, drops) = match mode {
            Mode::Blocking => (QUEUE, false),
            Mode::NonBlocking { max_buffer } => (max_buffer as usize, true),
        };
        Ok(Self { shared: Arc::new(shared), target, thread: None, cursor: None, limit, drops })
    }

    /// Notes its progress from now on. Before the first output only.
    pub(crate) fn set_cursor(&mut self, cursor: Cursor) {
        self.cursor = Some(cursor);
    }

    /// Readable after [`Log::is_full`] or [`Log::is_idle`] has answered unfavourably and that
    /// has changed.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.shared.waker.as_fd()
    }

    /// Makes [`Log::fd`] unreadable.
    pub(crate) fn clear(&self) {
        self.shared.waker.clear();
    }

    /// Whether output must wait.
    pub(crate) fn is_full(&self) -> bool {
        if self.drops || self.thread.is_none() {
            return false;
        }
        let mut queue = self.shared.lock();
        let full = queue.bytes >= self.limit;
        queue.wants_room |= full;
        full
    }

    /// Whether everything queued has been written.
    pub(crate) fn is_idle(&self) -> bool {
        if self.thread.is_none() {
            return true;
        }
        let mut queue = self.shared.lock();
        let idle = queue.entries.is_empty() && !queue.working;
        queue.wants_idle |= !idle;
        idle
    }

    /// Queues output; empty `data`: the stream has ended.
    pub(crate) fn push(&mut self, stream: u8, data: &[u8]) {
        if self.thread.is_none() {
            if data.is_empty() {
                return;
            }
            let (shared, target) = (Arc::clone(&self.shared), self.target.clone());
            let cursor = self.cursor.take();
            let builder = std::thread::Builder::new().name("log".into()).stack_size(STACK);
            let Ok(thread) = builder.spawn(move || work(&shared, target, cursor)) else {
                self.shared.lock().lost += 1;
                return;
            };
            self.thread = Some(thread);
        }
        let mut queue = self.shared.lock();
        if self.drops && !data.is_empty() && queue.bytes + data.len() > self.limit {
            queue.lost += 1;
            return;
        }
        queue.bytes += data.len() + OVERHEAD;
        let entry = Entry { stream, time: SystemTime::now(), data: data.into() };
        queue.entries.push_back(entry);
        drop(queue);
        self.shared.filled.notify_one();
    }

    /// Takes no more output. The thread writes what is queued and ends; whoever ends the process
    /// joins it first.
    pub(crate) fn finish(&mut self) -> Option<JoinHandle<()>> {
        self.shared.lock().closed = true;
        self.shared.filled.notify_one();
        self.thread.take()
    }
}

fn work(shared: &Shared, target: Target, cursor: Option<Cursor>) {
    let mut writer = Writer::new(target);
    writer.cursor = cursor;
    loop {
        let mut queue = shared.lock();
        queue.working = false;
        if queue.entries.is_empty() && std::mem::take(&mut queue.wants_idle) {
            shared.waker.wake();
        }
        while queue.entries.is_empty() && !queue.closed {
            queue = shared.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        if queue.entries.is_empty() {
            return;
        }
        queue.working = true;
        let batch = std::mem::take(&mut queue.entries);
        drop(queue);
        let bytes: usize = batch.iter().map(|e| e.data.len() + OVERHEAD).sum();
        let lost: u64 = batch.into_iter().map(|entry| writer.take(&entry)).sum();
        let lost = lost + writer.flush();
        let mut queue = shared.lock();
        queue.bytes -= bytes;
        queue.lost += lost;
        if std::mem::take(&mut queue.wants_room) {
            shared.waker.wake();
        }
    }
}

struct Writer {
    target: Target,
    lines: [Lines; 2],
    files: [Option<(File, u64)>; 2],
    out: [Vec<u8>; 2],
    cursor: Option<Cursor>,
}

impl Writer {
    fn new(target: Target) -> Self {
        let (lines, out) = Default::default();
        Self { target, lines, files: [None, None], out, cursor: None }
    }

    /// Encodes an entry, writing what has gathered when it is much. Returns bytes lost.
    fn take(&mut self, entry: &Entry) -> u64 {
        let n = usize::from(entry.stream & 1);
        match &self.target {
            Target::Raw(_) => {
                self.out[n].extend_from_slice(&entry.data);
                if self.out[n].len() >= BATCH { self.flush() } else { 0 }
            }
            Target::Json(config) => {
                let config = config.clone();
                let mut lines = std::mem::take(&mut self.lines[n]);
                let mut lost = 0;
                let mut emit = |text: &[u8], time| {
                    lost += self.append(&config, text, entry.stream, time);
                };
                if entry.data.is_empty() {
                    lines.finish(entry.time, &mut emit);
                } else {
                    lines.feed(&entry.data, entry.time, &mut emit);
                }
                self.lines[n] = lines;
                lost
            }
        }
    }

    fn append(&mut self, config: &JsonFile, text: &[u8], stream: u8, time: SystemTime) -> u64 {
        let mut lost = 0;
        if self.files[0].is_none() {
            self.files[0] = open(&config.path).ok();
        }
        let size = self.files[0].as_ref().map_or(0, |(_, size)| *size) + self.out[0].len() as u64;
        if config.max_size.is_some_and(|max| size >= max) {
            lost += self.flush();
            self.files[0] = None;
            if let Some(cursor) = &self.cursor {
                // What was written is whole, whatever becomes of the file now.
                let _ = cursor.settle();
            }
            rotate(&config.path, config.max_file);
        } else if self.out[0].len() >= BATCH {
            lost += self.flush();
        }
        json::record(&mut self.out[0], text, stream, &config.attrs, time);
        if let Some(cursor) = &mut self.cursor {
            cursor.took(stream, text.len());
        }
        lost
    }

    /// Writes what has gathered. What a full disk refuses is lost and counted, a half-written
    /// record is cut off again, and the next write tries anew.
    fn flush(&mut self) -> u64 {
        let mut lost = 0;
        for n in 0..2 {
            let out = std::mem::take(&mut self.out[n]);
            if out.is_empty() {
                continue;
            }
            if self.files[n].is_none() {
                let path = match &self.target {
                    Target::Json(config) => Some(&config.path),
                    Target::Raw(paths) => paths[n].as_ref(),
                };
                self.files[n] = path.and_then(|p| open(p).ok());
            }
            let Some((file, size)) = &mut self.files[n] else {
                lost += out.len() as u64;
                continue;
            };
            if let Some(cursor) = &mut self.cursor {
                // Without the note a kill at this very moment repeats lines; without the
                // write they would be missing for certain.
                let _ = cursor.intend(file, *size, out.len() as u64);
            }
            if file.write_all(&out).is_ok() {
                *size += out.len() as u64;
            } else {
                let _ = file.set_len(*size);
                lost += out.len() as u64;
            }
            if let Some(cursor) = &mut self.cursor {
                cursor.written();
            }
        }
        lost
    }
}

fn open(path: &Path) -> io::Result<(File, u64)> {
    let file = File::options().append(true).create(true).mode(0o640).open(path)?;
    let size = file.metadata()?.len();
    Ok((file, size))
}

/// `PATH.(n-1)` → `PATH.n`, …, `PATH` → `PATH.1`; with one file kept, it starts anew.
fn rotate(path: &Path, max_file: u32) {
    let numbered = |n: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{n}"));
        PathBuf::from(name)
    };
    if max_file <= 1 {
        let _ = File::options().write(true).truncate(true).open(path);
        return;
    }
    for n in (2..max_file).rev() {
        // Gaps are normal while the log has not rotated that often.
        let _ = std::fs::rename(numbered(n - 1), numbered(n));
    }
    let _ = std::fs::rename(path, numbered(1));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(path: &Path, max_size: Option<u64>, max_file: u32) -> Target {
        let path = path.to_owned();
        Target::Json(JsonFile { path, max_size, max_file, attrs: String::new() })
    }

    #[test]
    fn a_log_rotates_and_keeps_the_newest_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c-json.log");
        let mut log = Log::new(config(&path, Some(1000), 3), Mode::Blocking).unwrap();
        for n in 0..100 {
            log.push(0, format!("line {n}\n").as_bytes());
        }
        log.finish().unwrap().join().unwrap();
        let names: Vec<String> = ["c-json.log.2", "c-json.log.1", "c-json.log"]
            .map(|n| std::fs::read_to_string(folder.path().join(n)).unwrap())
            .into();
        assert!(names.iter().all(|text| text.len() < 1100));
        let all = names.concat();
        let last: Vec<&str> = all.lines().collect();
        assert!(last.last().unwrap().contains("line 99\\n"));
        let numbers =
            last.iter().map(|l| l["{\"log\":\"line ".len()..].split('\\').next().unwrap());
        let numbers: Vec<u32> = numbers.map(|n| n.parse().unwrap()).collect();
        assert!(numbers.windows(2).all(|w| w[0] + 1 == w[1]), "{numbers:?}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3);
    }

    #[test]
    fn a_full_disk_loses_lines_and_nothing_else() {
        let target = Target::Raw([Some("/dev/full".into()), None]);
        let mut log = Log::new(target, Mode::Blocking).unwrap();
        log.push(0, b"lost\n");
        log.push(1, b"dropped\n");
        log.finish().unwrap().join().unwrap();
        assert_eq!(log.shared.lock().lost, 13);
    }

    #[test]
    fn an_unfinished_line_is_written_when_its_stream_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut log = Log::new(config(&path, None, 1), Mode::Blocking).unwrap();
        log.push(1, b"no newline");
        log.push(1, b"");
        log.finish().unwrap().join().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("{\"log\":\"no newline\",\"stream\":\"stderr\""), "{text}");
    }
}
