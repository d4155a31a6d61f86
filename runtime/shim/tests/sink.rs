//! The sink as attachers meet it: input and its end, many readers, slow and vanished ones.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may")]

mod common;

use common::Rig;
use shim_api::sink::{Decoder, Frame, Stdin, encode};
use shim_api::task::{SERVICE_V2, WaitRequest, WaitResponse};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

/// An attacher that was told READY.
struct Attacher {
    stream: UnixStream,
    decoder: Decoder,
}

impl Attacher {
    fn new(rig: &Rig, stdin: bool) -> Self {
        let mut made = Self { stream: rig.attach_with(stdin), decoder: Decoder::default() };
        assert!(matches!(made.next(), Some(Frame::Ready(_))));
        made
    }

    fn next(&mut self) -> Option<Frame> {
        let mut buffer = [0; 16384];
        loop {
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                return Some(frame);
            }
            let n = self.stream.read(&mut buffer).unwrap();
            if n == 0 {
                return None;
            }
            self.decoder.feed(&buffer[..n]);
        }
    }

    fn say(&mut self, frame: &Frame) {
        let mut bytes = Vec::new();
        encode(&mut bytes, frame);
        self.stream.write_all(&bytes).unwrap();
    }

    /// Reads until so many bytes of output, or DRAINED.
    fn read(&mut self, wanted: usize) -> Vec<u8> {
        let mut seen = Vec::new();
        while seen.len() < wanted {
            match self.next().expect("an end without DRAINED") {
                Frame::Stdout(bytes) => seen.extend(bytes),
                Frame::Drained => break,
                other => panic!("{other:?}"),
            }
        }
        seen
    }
}

fn wait(rig: &mut Rig) -> u32 {
    let request = WaitRequest { id: rig.id.clone(), exec_id: String::new() };
    let exit: WaitResponse = rig.call(SERVICE_V2, "Wait", &request).unwrap();
    exit.exit_status
}

#[test]
fn a_lost_attacher_never_closes_input_and_a_leaving_one_only_under_once() {
    let script = "while read x; do echo got $x; done; echo over; exit 4";
    for mode in [Stdin::Open, Stdin::Once] {
        let Some(mut rig) = Rig::new(script) else { return };
        rig.stdin = mode;
        rig.create();
        let mut first = Attacher::new(&rig, true);
        rig.start();
        first.say(&Frame::Stdin(b"one\n".to_vec()));
        assert_eq!(first.read(8), b"got one\n");
        drop(first);
        let mut second = Attacher::new(&rig, true);
        let mut watcher = Attacher::new(&rig, false);
        second.say(&Frame::Stdin(b"two\n".to_vec()));
        assert_eq!(second.read(8), b"got two\n");
        assert_eq!(watcher.read(8), b"got two\n");
        second.say(&Frame::Leave);
        assert!(second.next().is_none());
        if mode == Stdin::Open {
            let mut third = Attacher::new(&rig, true);
            third.say(&Frame::Stdin(b"three".to_vec()));
            third.say(&Frame::StdinClose);
            assert_eq!(third.read(usize::MAX), b"over\n");
        }
        assert_eq!(watcher.read(usize::MAX), b"over\n");
        assert_eq!(wait(&mut rig), 4);
        assert_eq!(rig.record().exit_code, 4);
        // Who comes late is told that there is no more.
        assert_eq!(Attacher::new(&rig, true).read(usize::MAX), b"");
    }
}

#[test]
fn a_slow_attacher_holds_the_container_up_and_loses_nothing() {
    let script = "i=0; while [ $i -lt 60000 ]; do echo line $i; i=$((i+1)); done; : >/done";
    let Some(mut rig) = Rig::new(script) else { return };
    rig.create();
    let mut slow = Attacher::new(&rig, false);
    let vanishing = Attacher::new(&rig, false);
    rig.start();
    std::thread::sleep(std::time::Duration::from_millis(1500));
    let mark = rig.folder.path().join("bundle/rootfs/done");
    assert!(!mark.exists(), "the container ran on though nobody read");
    drop(vanishing);
    let seen = slow.read(usize::MAX);
    let wanted: String = (0..60000).map(|i| format!("line {i}\n")).collect();
    assert!(wanted.as_bytes() == seen, "{} of {} bytes", seen.len(), wanted.len());
    assert_eq!(wait(&mut rig), 0);
    let log = std::fs::read_to_string(rig.folder.path().join("log")).unwrap();
    assert_eq!(log.lines().count(), 60000);
}

#[test]
fn input_that_a_vanished_attacher_sent_still_arrives() {
    let Some(mut rig) = Rig::new("sleep 1; wc -c 2>/dev/null || cat | wc -c") else { return };
    rig.stdin = Stdin::Open;
    rig.create();
    let mut sender = Attacher::new(&rig, true);
    let mut watcher = Attacher::new(&rig, false);
    rig.start();
    // More than pipe and queue hold: the sink stops reading until the program begins to.
    for _ in 0..20 {
        sender.say(&Frame::Stdin(vec![b'x'; 10_000]));
    }
    sender.say(&Frame::StdinClose);
    drop(sender);
    assert_eq!(String::from_utf8(watcher.read(usize::MAX)).unwrap().trim(), "200000");
    assert_eq!(wait(&mut rig), 0);
}

/// Starts the sink as a daemon beside a foreign shim does; its pid.
fn detached_sink(shim: &std::path::Path, folder: &std::path::Path) -> u32 {
    let at = |name: &str| folder.join(name).display().to_string();
    let uri = format!(
        "binary://{}?v=1&id=c&driver=json-file&log={}&max-size=-1&exit={}&sock={}&stdin=none&tty=0",
        shim.display(),
        at("log"),
        at("exit"),
        at("sock")
    );
    let mut command = std::process::Command::new(shim);
    command.args(["sink", "--uri", &uri, "--stdout", &at("stdout"), "--stderr", &at("stderr")]);
    let said = command.output().unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    said.trim().strip_prefix("READY ").expect("READY and a pid").parse().unwrap()
}

#[test]
fn a_detached_sink_killed_again_and_again_loses_no_byte_and_repeats_none() {
    const LINES: u32 = 60_000;
    let Some(rig) = Rig::new("exit 0") else { return };
    let folder = tempfile::Builder::new().prefix("ferry-shim-sink-").tempdir().unwrap();
    let mut ends = Vec::new();
    for name in ["stdout", "stderr"] {
        let path = folder.path().join(name);
        sys::unix::make_fifo(&path, 0o600).unwrap();
        // As the stock shim: the FIFO lives as long as the process.
        ends.push(std::fs::File::options().read(true).write(true).open(path).unwrap());
    }
    let shims: Vec<_> = ends.iter().map(|end| end.try_clone().unwrap()).collect();
    let mut sink = detached_sink(&rig.shim, folder.path());
    let writers: Vec<_> = ends
        .into_iter()
        .map(|mut end| {
            std::thread::spawn(move || {
                for n in 0..LINES {
                    // In two pieces: a kill also meets half a line.
                    end.write_all(b"line ").unwrap();
                    end.write_all(format!("{n}\n").as_bytes()).unwrap();
                }
            })
        })
        .collect();
    let mut kills = 0;
    while writers.iter().any(|writer| !writer.is_finished()) {
        std::thread::sleep(std::time::Duration::from_millis(7));
        let pid = rustix::process::Pid::from_raw(i32::try_from(sink).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        kills += 1;
        sink = detached_sink(&rig.shim, folder.path());
    }
    for writer in writers {
        writer.join().unwrap();
    }
    drop(shims);
    // The last sink sees the end, writes all of it and leaves.
    let started = std::time::Instant::now();
    while std::path::Path::new(&format!("/proc/{sink}/exe")).exists() {
        assert!(started.elapsed().as_secs() < 20, "the sink does not end");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
    for stream in ["stdout", "stderr"] {
        let mark = format!("\"stream\":\"{stream}\"");
        let mut lines = log.lines().filter(|line| line.contains(&mark));
        for n in 0..LINES {
            let line = lines.next().unwrap_or_else(|| panic!("{stream} {n} after {kills} kills"));
            assert!(line.contains(&format!("\"line {n}\\n\"")), "{stream} {n}: {line}");
        }
        assert_eq!(lines.next(), None);
    }
    assert!(kills > 3, "{kills}");
}
