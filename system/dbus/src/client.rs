//! A connection over a unix socket, for one thread: every wait has a deadline, and what arrives
//! while a reply is awaited is kept, within bounds.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, socket_with,
};

use crate::address::Address;
use crate::auth::Handshake;
use crate::decode::Decoder;
use crate::error::{Error, Invalid, Result};
use crate::message::{Kind, Message};
use crate::rule::Rule;
use crate::value::Value;

const BUS: &str = "org.freedesktop.DBus";
const BUS_PATH: &str = "/org/freedesktop/DBus";
/// More unread messages mean that nobody reads them.
const MOST_UNREAD: usize = 4096;
/// A peer that takes nothing for so long is gone.
const SEND: Duration = Duration::from_secs(10);
const BUFFER: usize = 16 * 1024;

/// A connection to a bus, or directly to a peer.
#[derive(Debug)]
pub struct Connection {
    socket: OwnedFd,
    decoder: Decoder,
    serial: u32,
    name: Option<String>,
    unread: VecDeque<Message>,
    closed: bool,
}

impl Connection {
    /// Opens the system bus.
    pub fn system(limit: Duration) -> Result<Self> {
        Self::open(&Address::system()?, limit)
    }

    /// Opens a bus: connects, authenticates, says hello.
    pub fn open(address: &Address, limit: Duration) -> Result<Self> {
        let end = Instant::now() + limit;
        let hello = Message::call(BUS_PATH, "Hello").to(BUS).on(BUS);
        let (mut this, serial) = Self::start(address, Some(hello), end)?;
        let reply = this.await_reply(serial, "Hello", end)?;
        this.name = reply.body.first().and_then(Value::as_text).map(str::to_owned);
        Ok(this)
    }

    /// Opens a connection to a peer without a bus between, such as systemd's private socket.
    pub fn open_peer(address: &Address, limit: Duration) -> Result<Self> {
        Ok(Self::start(address, None, Instant::now() + limit)?.0)
    }

    fn start(address: &Address, first: Option<Message>, end: Instant) -> Result<(Self, u32)> {
        let socket = connect(address, end)?;
        let mut this = Self {
            socket,
            decoder: Decoder::default(),
            serial: 0,
            name: None,
            unread: VecDeque::new(),
            closed: false,
        };
        let mut bytes = Handshake::hello().to_vec();
        if let Some(message) = first {
            this.serial += 1;
            bytes.extend_from_slice(&message.encode(this.serial)?);
        }
        this.write(&bytes, end)?;
        let mut hand = Handshake::default();
        let mut buffer = vec![0; BUFFER];
        loop {
            let len = this.read(&mut buffer, end)?;
            if len == 0 {
                return Err(Error::Timeout(format!("D-Bus at {}", address.as_str())));
            }
            if let Some(rest) = hand.take(&buffer[..len])? {
                this.decoder.push(&rest);
                let serial = this.serial;
                return Ok((this, serial));
            }
        }
    }

    /// Our own name on the bus, such as `:1.42`; `None` without a bus.
    pub fn unique_name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Calls a method and awaits its reply; signals and calls that arrive meanwhile are kept for
    /// [`receive`](Self::receive). A reply that comes after the deadline is handed out there too.
    pub fn call(&mut self, message: Message, limit: Duration) -> Result<Message> {
        let end = Instant::now() + limit;
        let title = message.title();
        let serial = self.send(&message)?;
        self.await_reply(serial, &title, end)
    }

    /// Asks the bus to hand on the signals that a rule matches.
    pub fn subscribe(&mut self, rule: &Rule, limit: Duration) -> Result<()> {
        let call = Message::call(BUS_PATH, "AddMatch").to(BUS).on(BUS).with(rule.as_str());
        self.call(call, limit).map(|_| ())
    }

    /// The process at the other end of a name on the bus.
    pub fn process_of(&mut self, name: &str, limit: Duration) -> Result<u32> {
        let call = Message::call(BUS_PATH, "GetConnectionUnixProcessID").to(BUS).on(BUS).with(name);
        let reply = self.call(call, limit)?;
        let pid = reply.body.first().and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok());
        pid.ok_or_else(|| Error::Invalid(Invalid::new("the bus told no process id")))
    }

    /// Whether somebody owns this name on the bus.
    pub fn is_owned(&mut self, name: &str, limit: Duration) -> Result<bool> {
        let call = Message::call(BUS_PATH, "NameHasOwner").to(BUS).on(BUS).with(name);
        let reply = self.call(call, limit)?;
        Ok(reply.body.first().and_then(Value::as_bool) == Some(true))
    }

    /// Sends a message without awaiting anything; the number by which its reply will be known.
    pub fn send(&mut self, message: &Message) -> Result<u32> {
        if self.closed {
            return Err(Error::Closed(None));
        }
        let serial = self.serial.checked_add(1).unwrap_or(1);
        let bytes = message.encode(serial)?;
        self.serial = serial;
        self.write(&bytes, Instant::now() + SEND)?;
        Ok(serial)
    }

    /// The next message that is no awaited reply: signals, calls from others (which want
    /// [`Message::reply`] or [`Message::refuse`]), replies to what [`send`](Self::send) sent.
    /// `None` when none came in time; a limit of zero does not wait.
    ///
    /// With a poll loop: receive until `None`, then poll. The kept ones make nothing readable.
    pub fn receive(&mut self, limit: Duration) -> Result<Option<Message>> {
        match self.unread.pop_front() {
            Some(message) => Ok(Some(message)),
            None => self.next(Instant::now() + limit),
        }
    }

    fn await_reply(&mut self, serial: u32, title: &str, end: Instant) -> Result<Message> {
        loop {
            let Some(message) = self.next(end)? else {
                return Err(Error::Timeout(title.to_owned()));
            };
            if message.reply_to == Some(serial) {
                return match message.kind {
                    Kind::Error => Err(Error::Remote {
                        call: title.to_owned(),
                        name: message.error.clone().unwrap_or_default(),
                        text: message
                            .body
                            .first()
                            .and_then(Value::as_text)
                            .unwrap_or_default()
                            .to_owned(),
                    }),
                    _ => Ok(message),
                };
            }
            if self.unread.len() >= MOST_UNREAD {
                return Err(self.close("too many messages that nobody read"));
            }
            self.unread.push_back(message);
        }
    }

    /// The next message off the socket; `None` at the deadline.
    fn next(&mut self, end: Instant) -> Result<Option<Message>> {
        let mut buffer = Vec::new();
        loop {
            match self.decoder.next_message() {
                Ok(Some(message)) => return Ok(Some(message)),
                Ok(None) => {}
                Err(error) => return Err(self.close(&error.to_string())),
            }
            if self.closed {
                return Err(Error::Closed(None));
            }
            buffer.resize(BUFFER, 0);
            let len = self.read(&mut buffer, end)?;
            if len == 0 {
                return Ok(None);
            }
            self.decoder.push(&buffer[..len]);
        }
    }

    /// Reads what there is, waiting until the deadline; 0 when nothing came.
    fn read(&mut self, into: &mut [u8], end: Instant) -> Result<usize> {
        loop {
            match rustix::net::recv(&self.socket, &mut *into, RecvFlags::DONTWAIT) {
                Ok((0, _)) => return Err(self.close("the other side hung up")),
                Ok((len, _)) => return Ok(len),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    if !wait(self.socket.as_fd(), PollFlags::IN, end)? {
                        return Ok(0);
                    }
                }
                Err(Errno::CONNRESET) => return Err(self.close("the other side hung up")),
                Err(error) => return Err(self.close(&io::Error::from(error).to_string())),
            }
        }
    }

    fn write(&mut self, mut bytes: &[u8], end: Instant) -> Result<()> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        while !bytes.is_empty() {
            match rustix::net::send(&self.socket, bytes, flags) {
                Ok(len) => bytes = bytes.get(len..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    if !wait(self.socket.as_fd(), PollFlags::OUT, end)? {
                        // Half a message may be out: nothing after it would be understood.
                        return Err(self.close("the other side takes no messages"));
                    }
                }
                Err(error) => return Err(self.close(&io::Error::from(error).to_string())),
            }
        }
        Ok(())
    }

    fn close(&mut self, why: &str) -> Error {
        self.closed = true;
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
        Error::Closed(Some(why.to_owned()))
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn connect(address: &Address, end: Instant) -> Result<OwnedFd> {
    let failed = |source: Errno| Error::Connect {
        address: address.as_str().to_owned(),
        source: source.into(),
    };
    let mut last = Errno::NOENT;
    for socket in address.sockets() {
        match socket.and_then(|socket| connect_one(&socket, end)) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(failed(last))
}

fn connect_one(address: &SocketAddrUnix, end: Instant) -> rustix::io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // It bounds connecting, when the listener's queue is full; zero would mean for ever.
    let left = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    set_socket_timeout(&socket, Timeout::Send, Some(left))?;
    rustix::net::connect(&socket, address)?;
    Ok(socket)
}

/// Whether the descriptor is ready before the deadline.
fn wait(fd: BorrowedFd<'_>, flags: PollFlags, end: Instant) -> Result<bool> {
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let timeout = Timespec {
            tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        match poll(&mut [PollFd::from_borrowed_fd(fd, flags)], Some(&timeout)) {
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return Ok(true),
            Err(error) => return Err(Error::Io(error.into())),
        }
    }
}
