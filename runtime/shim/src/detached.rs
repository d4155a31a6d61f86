//! The sink beside a foreign shim: a process of its own that reads the FIFOs which that shim
//! writes, keeps the log and serves attachers. Started again after a kill, it goes on where it
//! was. It knows no task and leaves no exit record: it never sees the process end, only output.

use crate::io::{Ctx, Io, open_fifos};
use crate::poll::{Timer, Token};
use shim_api::sink::SinkUri;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::rc::Rc;
use sys::epoll::{Epoll, Interest};
use sys::process::Fork;
use sys::signal::SignalFd;

type Failure = Box<dyn std::error::Error>;

struct Words {
    uri: SinkUri,
    stdin: Option<PathBuf>,
    stdout: Option<PathBuf>,
    stderr: Option<PathBuf>,
}

fn parse(words: &[String]) -> Result<Words, Failure> {
    let (mut uri, mut stdin, mut stdout, mut stderr) = (None, None, None, None);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("sink: {word} needs a value"))?;
        let path = Some(PathBuf::from(value)).filter(|p| !p.as_os_str().is_empty());
        match word.as_str() {
            "--uri" => uri = Some(value.parse::<SinkUri>()?),
            "--stdin" => stdin = path,
            "--stdout" => stdout = path,
            "--stderr" => stderr = path,
            other => return Err(format!("sink: unknown flag {other}").into()),
        }
    }
    let uri = uri.ok_or("sink: --uri is missing")?;
    Ok(Words { uri, stdin, stdout, stderr })
}

/// Opens everything, says READY and the pid of the process that goes on in the background.
pub(crate) fn main(words: &[String]) -> Result<(), Failure> {
    let words = parse(words)?;
    let ctx = Ctx::new(Rc::new(Epoll::new()?));
    let outputs = [words.stdout.as_deref(), words.stderr.as_deref()];
    let io = open_fifos(words.uri, words.stdin.as_deref(), outputs, &ctx)?;
    match sys::process::fork_alone()? {
        Fork::Parent(pid) => Ok(writeln!(io::stdout(), "READY {pid}")?),
        Fork::Child => serve(io, &ctx),
    }
}

fn serve(mut io: Io, ctx: &Ctx) -> Result<(), Failure> {
    sys::process::detach()?;
    io.claim()?;
    // After the fork: a signalfd in an epoll tells of the signals of whoever put it there.
    let signals = SignalFd::new(&[rustix::process::Signal::TERM.as_raw()])?;
    ctx.epoll.add(signals.as_fd(), Token::Signals.encode(), Interest::READ)?;
    let mut events = Vec::new();
    let mut stopping = false;
    // Here, since it may start the log's thread.
    io.resume(ctx);
    while !io.is_finished() && !stopping {
        let patience = ctx.timers.borrow().patience();
        ctx.epoll.wait(&mut events, patience)?;
        for event in &events {
            match Token::decode(event.token) {
                // Asked to end: what is in the FIFOs is taken, and that was all.
                Token::Signals => stopping = matches!(signals.next(), Ok(Some(_))) || stopping,
                Token::Io(_, part) => io.event(part, *event, ctx),
                _ => {}
            }
        }
        loop {
            let timer = ctx.timers.borrow_mut().pop();
            match timer {
                Some(Timer::Drain(_)) => io.stop_waiting(ctx),
                Some(_) => {}
                None => break,
            }
        }
    }
    io.close(ctx);
    ctx.join_logs();
    Ok(())
}
