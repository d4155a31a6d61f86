//! Task events and how shims forward them (`containerd.services.events.ttrpc.v1.Events`).
//! No queueing, no publishing.

#![allow(missing_docs, reason = "fields are the protocol's own, described by containerd's API")]

use crate::task::Mount;
use prost::Message;
use prost_types::{Any, Timestamp};

/// The ttrpc service on which a supervisor takes events of shims.
pub const SERVICE: &str = "containerd.services.events.ttrpc.v1.Events";
/// Its only method; takes a [`ForwardRequest`], answers `Empty`.
pub const FORWARD: &str = "Forward";

/// An event: its type's name and the topic it goes under.
pub trait Event: Message + Sized {
    /// The `type_url` in an envelope.
    const TYPE_URL: &'static str;
    /// Where it is published.
    const TOPIC: &'static str;

    /// The envelope's content.
    fn pack(&self) -> Any {
        Any { type_url: Self::TYPE_URL.to_owned(), value: self.encode_to_vec() }
    }
}

macro_rules! events {
    ($($name:ident = $url:literal, $topic:literal;)*) => {
        $(impl Event for $name {
            const TYPE_URL: &'static str = $url;
            const TOPIC: &'static str = $topic;
        })*
    };
}

events! {
    TaskCreate = "containerd.events.TaskCreate", "/tasks/create";
    TaskStart = "containerd.events.TaskStart", "/tasks/start";
    TaskDelete = "containerd.events.TaskDelete", "/tasks/delete";
    TaskExit = "containerd.events.TaskExit", "/tasks/exit";
    TaskOom = "containerd.events.TaskOOM", "/tasks/oom";
    TaskExecAdded = "containerd.events.TaskExecAdded", "/tasks/exec-added";
    TaskExecStarted = "containerd.events.TaskExecStarted", "/tasks/exec-started";
    TaskPaused = "containerd.events.TaskPaused", "/tasks/paused";
    TaskResumed = "containerd.events.TaskResumed", "/tasks/resumed";
    TaskCheckpointed = "containerd.events.TaskCheckpointed", "/tasks/checkpointed";
}

/// `containerd.types.Envelope`: an event on its way.
#[derive(Clone, PartialEq, Message)]
pub struct Envelope {
    #[prost(message, optional, tag = "1")]
    pub timestamp: Option<Timestamp>,
    #[prost(string, tag = "2")]
    pub namespace: String,
    #[prost(string, tag = "3")]
    pub topic: String,
    #[prost(message, optional, tag = "4")]
    pub event: Option<Any>,
}

/// `containerd.services.events.ttrpc.v1.ForwardRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct ForwardRequest {
    #[prost(message, optional, tag = "1")]
    pub envelope: Option<Envelope>,
}

/// `containerd.events.TaskCreate`.
#[derive(Clone, PartialEq, Message)]
pub struct TaskCreate {
    #[prost(string, tag = "1")]
    pub container_id: String,
    #[prost(string, tag = "2")]
    pub bundle: String,
    #[prost(message, repeated, tag = "3")]
    pub rootfs: Vec<Mount>,
    #[prost(message, optional, tag = "4")]
    pub io: Option<TaskIo>,
    #[prost(string, tag = "5")]
    pub checkpoint: String,
    #[prost(uint32, tag = "6")]
    pub pid: u32,
}

/// `containerd.events.TaskStart`.
#[derive(Clone, PartialEq, Message)]
pub struct TaskStart {
    #[prost(string, tag = "1")]
    pub container_id: String,
    #[prost(uint32, tag = "2")]
    pub pid: u32,
}

/// `containerd.events.TaskDelete`.
#[derive(Clone, PartialEq, Message)]
pub struct TaskDelete {
    #[prost(string, tag = "1")]
    pub container_id: String,
    #[prost(uint32, tag = "2")]
    pub pid: u32,
    #[prost(uint32, tag = "3")]
    pub exit_status: u32,
    #[prost(message, optional, tag = "4")]
    pub exited_at: Option<Timestamp>,
    #[prost(string, tag = "5")]
    pub id: String,
}

/// `containerd.events.TaskIO`.
#[derive(Clone, PartialEq, Message)]
pub struct TaskIo {
    #[prost(string, tag = "1")]
    pub stdin: String,
    #[prost(string, tag = "2")]
    pub stdout: String,
    #[prost(string, tag = "3")]
    pub stderr: String,
    #[prost(bool, tag = "4")]
    pub terminal: bool,
}

/// `containerd.events.TaskExit`.
#[derive(Clone, PartialEq, Message)]
pub struct TaskExit {
    #[prost(string, tag = "1")]
    pub container_id: String,
    #[prost(string, tag = "2")]
    pub id: String,
    #[prost(uint32, tag = "3")]
    pub pid: u32,
    #[prost(uint32, tag = "4")]
    pub exit_status: u32,
    #[prost(message, optional, tag = "5")]
    pub exited_at: Option<Timestamp>,
}

/// `containerd.events.TaskOOM`.
#[derive(Clone, PartialEq, Message)]
pub struct TaskOom {
    #[prost(string, tag = "1")]
    pub container_id: String,
}

/// `containerd.events.TaskExecAdded`.
#[derive(Clone, PartialEq, Message)]
pub struct TaskExecAdded {
    #[prost(string, tag = "1")]
    pub container_id: String,
    #[prost(string, tag = "2")]
    pub exec_id: String,
}

/// `containerd.events.TaskExecStarted`.
#[derive(Clone, PartialEq, Message)]
pub struct TaskExecStarted {
    #[prost(string, tag = "1")]
    pub container_id: String,
    #[prost(string, tag = "2")]
    pub exec_id: String,
    #[prost(uint32, tag = "3")]
    pub pid: u32,
}

/// `containerd.events.TaskPaused`.
#[derive(Clone, PartialEq, Message)]
pub struct TaskPaused {
    #[prost(string, tag = "1")]
    pub container_id: String,
}

/// `containerd.events.TaskResumed`.
#[derive(Clone, PartialEq, Message)]
pub struct TaskResumed {
    #[prost(string, tag = "1")]
    pub container_id: String,
}

/// `containerd.events.TaskCheckpointed`.
#[derive(Clone, PartialEq, Message)]
pub struct TaskCheckpointed {
    #[prost(string, tag = "1")]
    pub container_id: String,
    #[prost(string, tag = "2")]
    pub checkpoint: String,
}
