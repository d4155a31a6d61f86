//! D-Bus for synchronous programs: a codec that does no I/O, and a small client over a unix socket.
//!
//! [`Connection`] is what most callers want: it opens a bus, calls methods with a deadline, and
//! keeps the signals that arrive meanwhile. Below it, [`Message`] and [`Decoder`] turn values into
//! bytes and back, [`Handshake`] speaks the authentication, and nothing of them touches a socket.
//!
//! ```no_run
//! use std::time::Duration;
//! use dbus::{Connection, Message, Value};
//!
//! # fn main() -> Result<(), dbus::Error> {
//! let mut bus = Connection::system(Duration::from_secs(5))?;
//! let call = Message::call("/org/freedesktop/systemd1", "StartTransientUnit")
//!     .to("org.freedesktop.systemd1")
//!     .on("org.freedesktop.systemd1.Manager")
//!     .with(Value::text("a.scope"))
//!     .with(Value::text("replace"))
//!     .with(Value::array("(sv)", [Value::pair("PIDs", Value::array("u", [Value::U32(42)]))]))
//!     .with(Value::array("(sa(sv))", []));
//! let reply = bus.call(call, Duration::from_secs(10))?;
//! let job = reply.body.first().and_then(Value::as_text);
//! # let _ = job; Ok(()) }
//! ```
//!
//! Not here: descriptors in messages (they are neither asked for nor accepted), servers, other
//! transports than unix sockets, an event loop (a connection is a descriptor: poll it, then
//! [`Connection::receive`]).

mod address;
mod auth;
mod client;
mod decode;
mod encode;
mod error;
mod message;
mod name;
mod rule;
mod signature;
mod value;

pub use address::Address;
pub use auth::Handshake;
pub use client::Connection;
pub use decode::{Decoder, MAX_MESSAGE};
pub use error::{Error, Invalid, Result};
pub use message::{Kind, Message};
pub use rule::Rule;
pub use value::Value;
