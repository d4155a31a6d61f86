//! One run of `criu swrk`: CRIU as a child that takes one request over a socket, tells of its steps,
//! and waits for leave to go on at each.

use super::wire::{Answer, Message, kind};
use crate::error::{At, Error, Result};
use crate::idmap::find_helper;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Largest answer that is read; CRIU's are far smaller.
const LIMIT: usize = 40 * 1024;
/// Where CRIU finds the socket, and the descriptors that it is to use after it.
const SOCKET: i32 = 3;
pub(super) const FIRST_EXTRA: i32 = 4;

/// CRIU, waiting for a request.
pub(super) struct Service {
    socket: OwnedFd,
    child: sys::spawn::Child,
}

/// What CRIU is started with beside its socket.
#[derive(Default)]
pub(super) struct Start<'a> {
    /// Descriptors from [`FIRST_EXTRA`] on.
    pub(super) extra: &'a [OwnedFd],
    /// Files of the cgroup that it enters, and with it what it restores.
    pub(super) join: &'a [OwnedFd],
    /// Whether the restored processes get our standard streams.
    pub(super) streams: bool,
}

impl Service {
    /// Starts it.
    ///
    /// # Errors
    /// When it is not installed.
    pub(super) fn start(how: &Start<'_>) -> Result<Self> {
        let missing =
            || Error::Refused("exec: \"criu\": executable file not found in $PATH".into());
        let program = find_helper("criu").ok_or_else(missing)?;
        let (ours, theirs) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .at(|| "socketpair".into())?;
        let mut command = sys::spawn::Command::new(program).args(["swrk", "3"]).inherit_env();
        if how.streams {
            let streams =
                [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
            for (number, stream) in streams.into_iter().enumerate() {
                command = command.fd(stream, number as i32);
            }
        }
        command = command.fd(theirs.as_fd(), SOCKET);
        for (number, fd) in how.extra.iter().enumerate() {
            command = command.fd(fd.as_fd(), FIRST_EXTRA + number as i32);
        }
        for file in how.join {
            command = command.cgroup(file.as_fd());
        }
        let child = command.spawn().map_err(|e| Error::Refused(e.to_string()))?;
        Ok(Self { socket: ours, child })
    }

    /// Its process id.
    pub(super) fn pid(&self) -> i32 {
        self.child.pid()
    }

    fn send(&self, message: &Message) -> Result<()> {
        rustix::net::send(&self.socket, message.encoded(), SendFlags::NOSIGNAL)
            .map(drop)
            .at(|| "write to criu".into())
    }

    /// Sends the request and answers its steps until it is done.
    ///
    /// # Errors
    /// When it failed, or a step did.
    pub(super) fn run(
        self,
        request: &Message,
        step: &mut dyn FnMut(&Answer, Option<OwnedFd>) -> Result<()>,
    ) -> Result<Answer> {
        let result = self.talk(request, step);
        // It ends once nobody listens; what failed here must not leave it behind.
        drop(self.socket);
        let ended = self.child.wait().at(|| "wait for criu".into());
        let answer = result?;
        // After a pre-dump CRIU waits for the dump that another run will ask for.
        match ended?.code() {
            0 => Ok(answer),
            _ if answer.kind == kind::PRE_DUMP => Ok(answer),
            code => Err(Error::Refused(format!("criu failed: exit status {code}"))),
        }
    }

    fn talk(
        &self,
        request: &Message,
        step: &mut dyn FnMut(&Answer, Option<OwnedFd>) -> Result<()>,
    ) -> Result<Answer> {
        self.send(request)?;
        let mut buffer = vec![0u8; LIMIT];
        loop {
            let (got, fd) = sys::tty::recv_fd(self.socket.as_fd(), &mut buffer)
                .at(|| "read from criu".into())?;
            if got == 0 {
                return Err(Error::Refused("criu failed: it ended without an answer".into()));
            }
            let answer = Answer::decode(&buffer[..got])
                .ok_or_else(|| Error::Refused("unable to parse the response of criu".into()))?;
            if !answer.success {
                let kind = name(answer.kind);
                let text = Some(answer.message.trim_end()).filter(|m| !m.is_empty());
                let text = text.map(|m| format!(": {m}")).unwrap_or_default();
                return Err(Error::Refused(format!(
                    "criu failed: type {kind} errno {}{text}",
                    answer.errno
                )));
            }
            if answer.kind != kind::NOTIFY {
                return Ok(answer);
            }
            step(&answer, fd)?;
            let mut leave = Message::default();
            leave.number(1, kind::NOTIFY).number(3, 1);
            self.send(&leave)?;
        }
    }
}

fn name(kind: u64) -> String {
    match kind {
        kind::DUMP => "DUMP".into(),
        kind::RESTORE => "RESTORE".into(),
        kind::PRE_DUMP => "PRE_DUMP".into(),
        kind::NOTIFY => "NOTIFY".into(),
        kind::FEATURES => "FEATURE_CHECK".into(),
        kind::VERSION => "VERSION".into(),
        other => other.to_string(),
    }
}

/// CRIU's version as one number: 31701 for 3.17.1.
///
/// # Errors
/// When it is not installed.
pub(super) fn version() -> Result<u64> {
    let mut request = Message::default();
    request.number(1, kind::VERSION);
    Service::start(&Start::default())
        .and_then(|service| service.run(&request, &mut |_, _| Ok(())))
        .map(|answer| answer.version)
        .map_err(|why| Error::Refused(format!("CRIU version check failed: {why}")))
}

/// Makes sure that CRIU and this kernel can do what a flag needs.
///
/// # Errors
/// When they can't.
pub(super) fn require(field: u64, feature: &str) -> Result<()> {
    let (mut request, mut features) = (Message::default(), Message::default());
    features.number(field, 1);
    request.number(1, kind::FEATURES).message(5, &features);
    let answer = Service::start(&Start::default())
        .and_then(|service| service.run(&request, &mut |_, _| Ok(())))
        .map_err(|why| Error::Refused(format!("CRIU feature check failed: {why}")))?;
    let there = if field == 1 { answer.tracks_memory } else { answer.lazy_pages };
    if there == Some(false) {
        return Err(Error::Refused(format!("criu is missing features: [{feature}]")));
    }
    Ok(())
}

/// The lines of CRIU's log that tell of errors, for who has only our message.
pub(super) fn errors_of(log: &Path) -> Vec<String> {
    let bytes = crate::record::read_file(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let errors: Vec<String> =
        text.lines().filter(|line| line.contains("Error")).map(str::to_owned).collect();
    errors[errors.len().saturating_sub(8)..].to_vec()
}
