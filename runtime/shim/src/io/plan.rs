//! From a client's stdio words (paths and URIs) to open descriptors: what the process is given,
//! and the [`Io`] that serves the other ends.

use super::attach::Hub;
use super::input::InputEnd;
use super::log::{Log, Target};
use super::output::{Dest, Output};
use super::spool::{Cursor, Spool};
use super::{Ctx, Io, LateFeed};
use crate::poll::{Part, Token};
use rustix::pipe::{PipeFlags, pipe_with};
use shim_api::sink::{Driver, Mode, SinkUri, Stdin, percent_decode, query};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use sys::epoll::Interest;
use sys::unix::{FifoEnd, open_fifo, set_nonblocking};

/// Stdio that can't be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StdioError {
    /// A scheme that shims do not know.
    #[error("unknown STDIO scheme {0}")]
    Scheme(String),
    /// A malformed sink's or logger's URI.
    #[error("{0}")]
    Uri(String),
    /// An operation failed.
    #[error("{what} {path}: {source}")]
    Io {
        /// What was attempted.
        what: &'static str,
        /// On what.
        path: String,
        /// Why not.
        source: io::Error,
    },
}

fn failed<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> StdioError + 'a {
    move |source| StdioError::Io { what, path: path.display().to_string(), source }
}

/// A parsed word of stdio.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Uri {
    /// `/dev/null`.
    None,
    /// A FIFO.
    Fifo(PathBuf),
    /// A file that output is appended to.
    File(PathBuf),
    /// A logging program and its arguments.
    Binary(PathBuf, Vec<String>),
    /// This program as the sink.
    Sink(Box<SinkUri>),
}

impl Uri {
    /// Parses a path (a FIFO) or a URI; `own` is this program's path.
    pub(crate) fn parse(text: &str, own: &Path) -> Result<Self, StdioError> {
        if text.is_empty() {
            return Ok(Self::None);
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Ok(Self::Fifo(PathBuf::from(text)));
        };
        let (path, arguments) = rest.split_once('?').unwrap_or((rest, ""));
        let malformed = || StdioError::Uri(format!("malformed URI {text:?}"));
        let path = PathBuf::from(percent_decode(path, false).ok_or_else(malformed)?);
        match scheme {
            "fifo" => Ok(Self::Fifo(path)),
            "file" => Ok(Self::File(path)),
            "binary" => {
                let same = path == own || path.file_name() == own.file_name();
                if same && SinkUri::looks_like(text) {
                    let sink =
                        text.parse::<SinkUri>().map_err(|e| StdioError::Uri(e.to_string()))?;
                    return Ok(Self::Sink(Box::new(sink)));
                }
                let pairs = query(arguments).ok_or_else(malformed)?;
                let words = pairs.into_iter().flat_map(|(key, value)| [key, value]);
                Ok(Self::Binary(path, words.filter(|w| !w.is_empty()).collect()))
            }
            other => Err(StdioError::Scheme(other.to_owned())),
        }
    }
}

/// What a client asks for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Spec {
    /// A terminal.
    pub(crate) tty: bool,
    /// Word of standard input.
    pub(crate) stdin: String,
    /// Word of standard output.
    pub(crate) stdout: String,
    /// Word of standard error.
    pub(crate) stderr: String,
    /// Owner of the pipes, for remapped users.
    pub(crate) owner: (u32, u32),
}

/// What the process gets.
#[derive(Debug, Default)]
pub(crate) struct Given {
    /// Descriptors 0, 1, 2; `None`: `/dev/null`.
    pub(crate) fds: [Option<OwnedFd>; 3],
    /// A logging program to be started first: program, arguments, its descriptors 3 and 4.
    pub(crate) logger: Option<(PathBuf, Vec<String>, OwnedFd, OwnedFd)>,
}

fn pipe() -> Result<(OwnedFd, OwnedFd), StdioError> {
    let made = pipe_with(PipeFlags::CLOEXEC).map_err(io::Error::from);
    made.map_err(failed("make a", Path::new("pipe")))
}

/// A pipe for output: our reading end, the process's writing end.
fn output_pipe(owner: (u32, u32)) -> Result<(OwnedFd, OwnedFd), StdioError> {
    let (read, write) = pipe()?;
    let done = set_nonblocking(read.as_fd(), true).and_then(|()| give(&write, owner));
    done.map_err(failed("set up a", Path::new("pipe")))?;
    Ok((read, write))
}

fn give(fd: &OwnedFd, (uid, gid): (u32, u32)) -> io::Result<()> {
    if (uid, gid) != (0, 0) {
        let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
        rustix::fs::fchown(fd, Some(uid), Some(gid))?;
    }
    Ok(())
}

/// Opens everything that a client asks for. `own` is this program's path.
pub(crate) fn open(spec: &Spec, id: u32, own: &Path, ctx: &Ctx) -> Result<(Io, Given), StdioError> {
    let mut io = bare(id, spec.tty);
    let mut given = Given::default();
    let (stdout, stderr) = (Uri::parse(&spec.stdout, own)?, Uri::parse(&spec.stderr, own)?);
    let stderr = if spec.tty { Uri::None } else { stderr };
    if let Uri::Sink(sink) = stdout {
        if !matches!(&stderr, Uri::None) && stderr != Uri::Sink(sink.clone()) {
            return Err(StdioError::Uri("both streams must go to the same sink".into()));
        }
        open_sink(&mut io, &mut given, *sink, spec, ctx)?;
        return Ok((io, given));
    }
    open_input(&mut io, &mut given, spec)?;
    if let Uri::Binary(path, args) = stdout {
        let ((out_r, out_w), (err_r, err_w)) = (pipe()?, pipe()?);
        if spec.tty {
            set_nonblocking(out_w.as_fd(), true).map_err(failed("set up", &path))?;
            let dest = Some(Dest { fd: out_w, fifo: None });
            io.outputs[0] = Some(Output::new(id, 0, None, false, dest));
        } else {
            given.fds[1] = Some(out_w);
            given.fds[2] = Some(err_w);
        }
        given.logger = Some((path, args, out_r, err_r));
        return Ok((io, given));
    }
    let mut files = [None, None];
    for (n, uri) in [stdout, stderr].into_iter().enumerate() {
        let dest = match uri {
            Uri::None => continue,
            Uri::Fifo(path) => {
                let fd = open_fifo(&path, FifoEnd::Both).map_err(failed("open FIFO", &path))?;
                Some(Dest { fd, fifo: Some(path) })
            }
            Uri::File(path) => {
                files[n] = Some(path);
                None
            }
            Uri::Binary(path, _) => {
                return Err(StdioError::Uri(format!(
                    "standard error alone can't go to {}",
                    path.display()
                )));
            }
            Uri::Sink(_) => {
                return Err(StdioError::Uri("standard error alone can't go to a sink".into()));
            }
        };
        let mut source = None;
        if !spec.tty {
            let (read, write) = output_pipe(spec.owner)?;
            given.fds[n + 1] = Some(write);
            source = Some(read);
        }
        io.outputs[n] = Some(Output::new(id, n as u8, source, false, dest));
    }
    if files.iter().any(Option::is_some) {
        open_log(&mut io, Target::Raw(files), Mode::Blocking, ctx)?;
    }
    // A terminal's output must be read even if nobody wants it, or the process would hang.
    if spec.tty && io.outputs[0].is_none() {
        io.outputs[0] = Some(Output::new(id, 0, None, false, None));
    }
    Ok((io, given))
}

fn bare(id: u32, tty: bool) -> Io {
    Io {
        id,
        outputs: [None, None],
        input: None,
        feed: None,
        late_feed: None,
        hub: None,
        log: None,
        tty,
        exited: false,
        finished: false,
    }
}

fn open_log(io: &mut Io, target: Target, mode: Mode, ctx: &Ctx) -> Result<(), StdioError> {
    let log = Log::new(target, mode).map_err(failed("make a", Path::new("log queue")))?;
    let token = Token::Io(io.id, Part::Log).encode();
    let watched = ctx.epoll.add(log.fd(), token, Interest::READ);
    watched.map_err(failed("watch a", Path::new("log queue")))?;
    io.log = Some(log);
    Ok(())
}

/// Input from a FIFO.
fn open_input(io: &mut Io, given: &mut Given, spec: &Spec) -> Result<(), StdioError> {
    let path = match Uri::parse(&spec.stdin, Path::new(""))? {
        Uri::None => return Ok(()),
        Uri::Fifo(path) => path,
        _ => return Err(StdioError::Uri(format!("input can't come from {:?}", spec.stdin))),
    };
    let found = std::fs::metadata(&path).map_err(failed("find FIFO", &path))?;
    if !std::os::unix::fs::FileTypeExt::is_fifo(&found.file_type()) {
        return Err(StdioError::Uri(format!("input {} is no FIFO", path.display())));
    }
    io.late_feed = Some(LateFeed { path, closed: false });
    input_pipe(io, given, spec)
}

fn input_pipe(io: &mut Io, given: &mut Given, spec: &Spec) -> Result<(), StdioError> {
    if spec.tty {
        io.input = Some(InputEnd::later(io.id));
        return Ok(());
    }
    let (read, write) = pipe()?;
    let done = set_nonblocking(write.as_fd(), true).and_then(|()| give(&read, spec.owner));
    done.map_err(failed("set up a", Path::new("pipe")))?;
    io.input = Some(InputEnd::new(io.id, write));
    given.fds[0] = Some(read);
    Ok(())
}

fn open_sink(
    io: &mut Io,
    given: &mut Given,
    uri: SinkUri,
    spec: &Spec,
    ctx: &Ctx,
) -> Result<(), StdioError> {
    if uri.tty != spec.tty {
        return Err(StdioError::Uri("tty of the sink is not the process's".into()));
    }
    if uri.stdin != Stdin::None {
        input_pipe(io, given, spec)?;
    }
    for n in 0..(if spec.tty { 1 } else { 2 }) {
        let mut source = None;
        if !spec.tty {
            let (read, write) = output_pipe(spec.owner)?;
            given.fds[n + 1] = Some(write);
            source = Some(read);
        }
        io.outputs[n] = Some(Output::new(io.id, n as u8, source, false, None));
    }
    serve(io, uri, ctx)
}

fn serve(io: &mut Io, uri: SinkUri, ctx: &Ctx) -> Result<(), StdioError> {
    if let Driver::JsonFile(file) = &uri.driver {
        open_log(io, Target::Json(file.clone()), uri.mode, ctx)?;
    }
    let sock = uri.sock.clone();
    io.hub = Some(Hub::new(uri, io.id, ctx).map_err(failed("listen at", &sock))?);
    Ok(())
}

/// The detached sink: output comes from FIFOs that a foreign shim writes, input goes to one.
pub(crate) fn open_fifos(
    uri: SinkUri,
    stdin: Option<&Path>,
    outputs: [Option<&Path>; 2],
    ctx: &Ctx,
) -> Result<Io, StdioError> {
    let mut io = bare(1, false);
    for (n, path) in outputs.into_iter().enumerate() {
        let Some(path) = path else { continue };
        let source = open_fifo(path, FifoEnd::Read).map_err(failed("open FIFO", path))?;
        io.outputs[n] = Some(Output::new(1, n as u8, Some(source), true, None));
    }
    if let Some(path) = stdin {
        let end = open_fifo(path, FifoEnd::Both).map_err(failed("open FIFO", path))?;
        io.input = Some(InputEnd::new(1, end));
    }
    let kept = match (&uri.driver, uri.mode, outputs[0].and_then(Path::parent)) {
        (Driver::JsonFile(file), Mode::Blocking, Some(folder)) => Some((file.path.clone(), folder)),
        _ => None,
    };
    serve(&mut io, uri, ctx)?;
    if let Some((log, folder)) = kept {
        keep(&mut io, &log, folder).map_err(failed("keep output in", folder))?;
    }
    // The writers' end is the process's end here.
    io.exited = true;
    io.begin(ctx);
    Ok(io)
}

/// What is read stays in files beside the FIFOs until it is logged.
fn keep(io: &mut Io, log: &Path, folder: &Path) -> io::Result<()> {
    let mut cursor = Cursor::open(&folder.join("cursor"), log)?;
    for (n, name) in ["stdout.spool", "stderr.spool"].into_iter().enumerate() {
        if let Some(output) = &mut io.outputs[n] {
            let spool = Spool::open(&folder.join(name), cursor.done(n))?;
            cursor.give_back(n, spool.file()?);
            output.set_spool(spool);
        }
    }
    if let Some(log) = &mut io.log {
        log.set_cursor(cursor);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stdio_words_are_told_apart() {
        let parse = |text: &str| Uri::parse(text, Path::new("/bin/shim")).unwrap();
        assert_eq!(parse(""), Uri::None);
        assert_eq!(parse("/run/f"), Uri::Fifo("/run/f".into()));
        assert_eq!(parse("fifo:///run/f"), Uri::Fifo("/run/f".into()));
        assert_eq!(parse("file:///a%20b"), Uri::File("/a b".into()));
        let words = vec!["--x".to_owned(), "1".to_owned(), "y".to_owned()];
        assert_eq!(parse("binary:///l?--x=1&y="), Uri::Binary("/l".into(), words));
        let sink = "binary:///bin/shim?v=1&id=a&driver=none&exit=/e&sock=/s&stdin=none&tty=0";
        assert!(matches!(parse(sink), Uri::Sink(_)));
        let error = Uri::parse("ftp://x", Path::new("/bin/shim")).unwrap_err();
        assert_eq!(error.to_string(), "unknown STDIO scheme ftp");
    }
}
