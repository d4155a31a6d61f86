//! The sink's socket: whoever attaches gets output and sends input, framed as `shim-api::sink`
//! says. Lossless: a connected attacher that does not read holds the container up; one that is
//! gone is forgotten. Only a wish to close input closes it, never a lost connection.

use super::{Ctx, Part, Token};
use rustix::io::Errno;
use shim_api::sink::{Decoder, Frame, Hello, Ready, SinkUri, Stdin, encode, encode_header};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use sys::epoll::Interest;

/// Bytes waiting for one attacher beyond which output waits.
const BACKLOG: usize = 64 * 1024;

struct Attacher {
    socket: OwnedFd,
    decoder: Decoder,
    hello: Option<Hello>,
    out: Vec<u8>,
    sent: usize,
    /// Input waits in the process's pipe: nothing is read from here.
    held: bool,
    interest: Interest,
}

impl Attacher {
    fn waiting(&self) -> usize {
        self.out.len() - self.sent
    }

    fn wants(&self, stream: u8) -> bool {
        self.hello.is_some_and(|h| if stream == 0 { h.stdout } else { h.stderr })
    }
}

/// What attachers asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// Bytes for the process.
    Bytes(Vec<u8>),
    /// End of input.
    Close,
}

/// The socket and its attachers.
pub(crate) struct Hub {
    uri: SinkUri,
    io: u32,
    listener: OwnedFd,
    attachers: BTreeMap<u32, Attacher>,
    next: u32,
    drained: bool,
}

impl Hub {
    /// Listens at the URI's socket, whose stale file it replaces.
    pub(crate) fn new(uri: SinkUri, io: u32, ctx: &Ctx) -> io::Result<Self> {
        let _ = std::fs::remove_file(&uri.sock);
        let listener = sys::unix::listen(&uri.sock, 0o600)?;
        let token = Token::Io(io, Part::Listener).encode();
        ctx.epoll.add(listener.as_fd(), token, Interest::READ)?;
        Ok(Self { uri, io, listener, attachers: BTreeMap::new(), next: 0, drained: false })
    }

    /// Lets who connects learn this process, which is a fork of the one that began to listen.
    pub(crate) fn claim(&self) -> io::Result<()> {
        sys::unix::claim(self.listener.as_fd())
    }

    /// The sink's description.
    pub(crate) fn uri(&self) -> &SinkUri {
        &self.uri
    }

    /// Takes all connections that wait.
    pub(crate) fn accept(&mut self, ctx: &Ctx) {
        while let Ok(Some(socket)) = sys::unix::accept(self.listener.as_fd()) {
            self.next = (self.next + 1) & 0xff_ffff;
            let token = Token::Io(self.io, Part::Attacher(self.next)).encode();
            if ctx.epoll.add(socket.as_fd(), token, Interest::READ).is_ok() {
                let attacher = Attacher {
                    socket,
                    decoder: Decoder::default(),
                    hello: None,
                    out: Vec::new(),
                    sent: 0,
                    held: false,
                    interest: Interest::READ,
                };
                self.attachers.insert(self.next, attacher);
            }
        }
    }

    /// Whether some attacher that wants a stream has too much waiting.
    pub(crate) fn is_full(&self, stream: u8) -> bool {
        self.attachers.values().any(|a| a.wants(stream) && a.waiting() > BACKLOG)
    }

    /// Gives output to whoever wants it.
    pub(crate) fn output(&mut self, stream: u8, data: &[u8], ctx: &Ctx) {
        let header = encode_header(stream + 1, data.len());
        let ids: Vec<u32> =
            self.attachers.iter().filter(|(_, a)| a.wants(stream)).map(|(id, _)| *id).collect();
        for id in ids {
            if let Some(attacher) = self.attachers.get_mut(&id) {
                attacher.out.extend_from_slice(&header);
                attacher.out.extend_from_slice(data);
            }
            self.flush(id, ctx);
        }
    }

    /// Everything was forwarded: says so to everyone, and to everyone who still comes.
    pub(crate) fn drain(&mut self, ctx: &Ctx) {
        if std::mem::replace(&mut self.drained, true) {
            return;
        }
        let ids: Vec<u32> = self.attachers.keys().copied().collect();
        for id in ids {
            if let Some(attacher) = self.attachers.get_mut(&id).filter(|a| a.hello.is_some()) {
                encode(&mut attacher.out, &Frame::Drained);
                self.flush(id, ctx);
            }
        }
    }

    /// Whether attachers still have output to get.
    pub(crate) fn is_busy(&self) -> bool {
        self.attachers.values().any(|a| a.waiting() > 0)
    }

    /// Input can flow again (or must not): reads from attachers follow.
    pub(crate) fn hold_input(&mut self, held: bool, ctx: &Ctx) {
        let ids: Vec<u32> = self.attachers.keys().copied().collect();
        for id in ids {
            if let Some(attacher) = self.attachers.get_mut(&id).filter(|a| a.held != held) {
                attacher.held = held;
                self.watch(id, ctx);
            }
        }
    }

    /// Handles an event of an attacher; returns what it asks for.
    pub(crate) fn event(&mut self, id: u32, ctx: &Ctx) -> Vec<Input> {
        self.flush(id, ctx);
        let mut asked = Vec::new();
        let Some(attacher) = self.attachers.get_mut(&id).filter(|a| !a.held) else {
            return asked;
        };
        let mut buffer = vec![0; 16 * 1024];
        match rustix::io::read(&attacher.socket, &mut buffer) {
            Ok(0) => self.forget(id, ctx),
            Ok(n) => {
                attacher.decoder.feed(&buffer[..n]);
                self.frames(id, &mut asked, ctx);
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.forget(id, ctx),
        }
        asked
    }

    fn frames(&mut self, id: u32, asked: &mut Vec<Input>, ctx: &Ctx) {
        while let Some(attacher) = self.attachers.get_mut(&id) {
            let frame = match attacher.decoder.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => return,
                Err(_) => return self.forget(id, ctx),
            };
            let input = attacher.hello.is_some_and(|h| h.stdin);
            match frame {
                Frame::Hello(hello) if attacher.hello.is_none() && hello.v == 1 => {
                    attacher.hello = Some(hello);
                    encode(&mut attacher.out, &Frame::Ready(Ready { v: 1 }));
                    if self.drained {
                        encode(&mut attacher.out, &Frame::Drained);
                    }
                    self.flush(id, ctx);
                }
                Frame::Stdin(bytes) if input => asked.push(Input::Bytes(bytes)),
                Frame::StdinClose if input => asked.push(Input::Close),
                Frame::Leave => {
                    if input && self.uri.stdin == Stdin::Once {
                        asked.push(Input::Close);
                    }
                    return self.forget(id, ctx);
                }
                // Anything else, and anything before HELLO, is not this protocol.
                _ => return self.forget(id, ctx),
            }
        }
    }

    fn flush(&mut self, id: u32, ctx: &Ctx) {
        let Some(attacher) = self.attachers.get_mut(&id) else { return };
        while attacher.waiting() > 0 {
            match super::send(attacher.socket.as_fd(), &attacher.out[attacher.sent..]) {
                Ok(n) => attacher.sent += n,
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(_) => return self.forget(id, ctx),
            }
        }
        if attacher.waiting() == 0 {
            attacher.out = Vec::new();
            attacher.sent = 0;
            if self.drained && attacher.hello.is_some() {
                return self.forget(id, ctx);
            }
        } else if attacher.sent > BACKLOG {
            attacher.out.drain(..attacher.sent);
            attacher.sent = 0;
        }
        self.watch(id, ctx);
    }

    fn watch(&mut self, id: u32, ctx: &Ctx) {
        let Some(attacher) = self.attachers.get_mut(&id) else { return };
        let interest = Interest { read: !attacher.held, write: attacher.waiting() > 0 };
        if interest == attacher.interest {
            return;
        }
        // One that is neither read nor written is not watched at all: its hang-up would be
        // reported for ever, while what it sent before still waits to be read.
        let idle = |i: Interest| !i.read && !i.write;
        let (before, socket) = (attacher.interest, attacher.socket.as_fd());
        let token = Token::Io(self.io, Part::Attacher(id)).encode();
        let done = match (idle(before), idle(interest)) {
            (_, true) => ctx.epoll.remove(socket),
            (true, false) => ctx.epoll.add(socket, token, interest),
            (false, false) => ctx.epoll.modify(socket, token, interest),
        };
        if done.is_ok() {
            attacher.interest = interest;
        }
    }

    fn forget(&mut self, id: u32, ctx: &Ctx) {
        if let Some(attacher) = self.attachers.remove(&id) {
            let _ = ctx.epoll.remove(attacher.socket.as_fd());
        }
    }

    /// Closes everything and removes the socket.
    pub(crate) fn close(self, ctx: &Ctx) {
        for attacher in self.attachers.values() {
            let _ = ctx.epoll.remove(attacher.socket.as_fd());
        }
        let _ = ctx.epoll.remove(self.listener.as_fd());
        let _ = std::fs::remove_file(&self.uri.sock);
    }
}
