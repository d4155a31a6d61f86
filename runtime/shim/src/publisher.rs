//! Events on their way to the supervisor: one at a time, so that they arrive in order, kept until
//! acknowledged, and sent again when the supervisor is back. No decisions about what to publish.

use crate::io::Ctx;
use crate::poll::{Timer, Token};
use rustix::io::Errno;
use shim_api::events::{Envelope, Event, FORWARD, ForwardRequest, SERVICE};
use shim_api::ttrpc::Client;
use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};
use sys::epoll::Interest;

/// Events kept for a supervisor that does not answer; beyond, the oldest go.
const KEPT: usize = 4096;
/// Refusals of one event after which it is given up.
const TRIES: u32 = 5;

struct Link {
    socket: OwnedFd,
    client: Client,
    /// The first event of the queue is on its way.
    sent: bool,
    writing: bool,
}

/// The queue and the connection.
pub(crate) struct Publisher {
    address: Option<PathBuf>,
    namespace: String,
    queue: VecDeque<Envelope>,
    link: Option<Link>,
    delay: Duration,
    waiting: bool,
    refused: u32,
}

impl Publisher {
    /// For the supervisor's ttrpc socket; without one, events gather for [`Publisher::take`].
    pub(crate) fn new(address: Option<PathBuf>, namespace: &str) -> Self {
        Self {
            address,
            namespace: namespace.to_owned(),
            queue: VecDeque::new(),
            link: None,
            delay: Duration::from_millis(20),
            waiting: false,
            refused: 0,
        }
    }

    /// Queues an event and sends it if nothing is before it.
    pub(crate) fn publish<E: Event>(&mut self, event: &E, ctx: &Ctx) {
        if self.queue.len() >= KEPT {
            self.queue.pop_front();
        }
        self.queue.push_back(Envelope {
            timestamp: Some(shim_api::time::timestamp(SystemTime::now())),
            namespace: self.namespace.clone(),
            topic: E::TOPIC.to_owned(),
            event: Some(event.pack()),
        });
        self.advance(ctx);
    }

    /// Whether everything was acknowledged.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The next event, when there is no ttrpc address to send it to.
    pub(crate) fn take(&mut self) -> Option<Envelope> {
        if self.address.is_none() { self.queue.pop_front() } else { None }
    }

    /// The supervisor may be back.
    pub(crate) fn retry(&mut self, ctx: &Ctx) {
        self.waiting = false;
        self.advance(ctx);
    }

    fn advance(&mut self, ctx: &Ctx) {
        let Some(address) = self.address.as_ref().filter(|_| !self.queue.is_empty()) else {
            return;
        };
        if self.link.is_none() {
            if self.waiting {
                return;
            }
            match sys::unix::connect(address, true) {
                Ok(socket) => {
                    let token = Token::Publisher.encode();
                    if ctx.epoll.add(socket.as_fd(), token, Interest::READ).is_ok() {
                        let client = Client::default();
                        self.link = Some(Link { socket, client, sent: false, writing: false });
                    }
                }
                Err(_) => return self.later(ctx),
            }
        }
        if let (Some(link), Some(first)) = (&mut self.link, self.queue.front())
            && !link.sent
        {
            let request = ForwardRequest { envelope: Some(first.clone()) };
            match link.client.call(SERVICE, FORWARD, &request, 0) {
                Ok(_) => link.sent = true,
                Err(_) => return self.cut(ctx),
            }
        }
        self.flush(ctx);
    }

    fn flush(&mut self, ctx: &Ctx) {
        let Some(link) = &mut self.link else { return };
        while !link.client.pending().is_empty() {
            let sent = rustix::net::send(
                &link.socket,
                link.client.pending(),
                rustix::net::SendFlags::NOSIGNAL,
            );
            match sent {
                Ok(n) => link.client.advance(n),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => return self.cut(ctx),
            }
        }
        let writing = !link.client.pending().is_empty();
        if writing != link.writing {
            link.writing = writing;
            let interest = Interest { read: true, write: writing };
            let _ = ctx.epoll.modify(link.socket.as_fd(), Token::Publisher.encode(), interest);
        }
    }

    /// Handles an event of the connection.
    pub(crate) fn event(&mut self, ctx: &Ctx) {
        self.flush(ctx);
        let Some(link) = &mut self.link else { return };
        let mut buffer = [0; 1024];
        match rustix::io::read(&link.socket, &mut buffer) {
            Ok(0) => return self.cut(ctx),
            Ok(n) => {
                if link.client.feed(&buffer[..n]).is_err() {
                    return self.cut(ctx);
                }
            }
            Err(Errno::AGAIN | Errno::INTR) => return,
            Err(_) => return self.cut(ctx),
        }
        while let Some(reply) = link.client.next_reply() {
            link.sent = false;
            self.delay = Duration::from_millis(20);
            if reply.result.is_ok() || self.refused + 1 >= TRIES {
                self.queue.pop_front();
                self.refused = 0;
            } else {
                self.refused += 1;
            }
        }
        if self.refused > 0 { self.later(ctx) } else { self.advance(ctx) }
    }

    /// The connection is no more: what was not acknowledged is sent again on the next one.
    fn cut(&mut self, ctx: &Ctx) {
        if let Some(link) = self.link.take() {
            let _ = ctx.epoll.remove(link.socket.as_fd());
        }
        if !self.queue.is_empty() {
            self.later(ctx);
        }
    }

    fn later(&mut self, ctx: &Ctx) {
        if !std::mem::replace(&mut self.waiting, true) {
            ctx.timers.borrow_mut().after(self.delay, Timer::Publish);
            self.delay = (self.delay * 2).min(Duration::from_secs(1));
        }
    }
}
