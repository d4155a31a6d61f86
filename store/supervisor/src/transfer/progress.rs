//! Progress of a transfer, as containerd's `Progress` messages on a stream of the client's. Never
//! waits: what a slow client does not take is lost.

use crate::diff::to_wire;
use crate::streaming::{Stream, tell};
use containerd_api::any;
use containerd_api::transfer_types as api;
use oci::Descriptor;

/// Where progress goes.
#[derive(Debug, Default)]
pub struct Progress(Option<Stream>);

impl Progress {
    /// Progress on a stream; without one it goes nowhere.
    pub fn new(stream: Option<Stream>) -> Self {
        Self(stream)
    }

    /// Says that something happened.
    pub(super) fn tell(&self, event: &str, name: &str, of: Option<&Descriptor>) {
        let Some(stream) = &self.0 else { return };
        let message = api::Progress {
            event: event.into(),
            name: name.into(),
            total: of.map_or(0, |d| d.size as i64),
            progress: of.map_or(0, |d| d.size as i64),
            desc: of.map(to_wire),
            ..api::Progress::default()
        };
        tell(stream, any::pack(&message));
    }
}
