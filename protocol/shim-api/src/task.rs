//! The task service (`containerd.task.v2.Task` and `containerd.task.v3.Task`): both carry the
//! same messages under the same numbers, so there is one set. No behaviour but names.

#![allow(missing_docs, reason = "fields are the protocol's own, described by containerd's API")]

use prost::Message;
use prost_types::{Any, Timestamp};
use std::collections::HashMap;

/// Service name of version 2.
pub const SERVICE_V2: &str = "containerd.task.v2.Task";
/// Service name of version 3.
pub const SERVICE_V3: &str = "containerd.task.v3.Task";

/// `containerd.v1.types.Status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Status {
    Unknown = 0,
    Created = 1,
    Running = 2,
    Stopped = 3,
    Paused = 4,
    Pausing = 5,
}

macro_rules! methods {
    ($($name:ident = $wire:literal),* $(,)?) => {
        /// A method of the task service.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Method { $($name),* }

        impl Method {
            /// All of them, in the service's order.
            pub const ALL: &[Method] = &[$(Method::$name),*];

            /// The name on the wire.
            pub const fn name(self) -> &'static str {
                match self { $(Method::$name => $wire),* }
            }

            /// The method of a name; `None`: the service has none so called.
            pub fn parse(name: &str) -> Option<Self> {
                match name { $($wire => Some(Method::$name),)* _ => None }
            }
        }
    };
}

methods! {
    State = "State",
    Create = "Create",
    Start = "Start",
    Delete = "Delete",
    Pids = "Pids",
    Pause = "Pause",
    Resume = "Resume",
    Checkpoint = "Checkpoint",
    Kill = "Kill",
    Exec = "Exec",
    ResizePty = "ResizePty",
    CloseIo = "CloseIO",
    Update = "Update",
    Wait = "Wait",
    Stats = "Stats",
    Connect = "Connect",
    Shutdown = "Shutdown",
}

/// `containerd.types.Mount`: a mount as snapshotters give it.
#[derive(Clone, PartialEq, Message)]
pub struct Mount {
    #[prost(string, tag = "1")]
    pub r#type: String,
    #[prost(string, tag = "2")]
    pub source: String,
    #[prost(string, tag = "3")]
    pub target: String,
    #[prost(string, repeated, tag = "4")]
    pub options: Vec<String>,
}

/// `containerd.v1.types.ProcessInfo`.
#[derive(Clone, PartialEq, Message)]
pub struct ProcessInfo {
    #[prost(uint32, tag = "1")]
    pub pid: u32,
    #[prost(message, optional, tag = "2")]
    pub info: Option<Any>,
}

/// `containerd.task.v2.CreateTaskRequest`: make the container of a bundle, up to its exec.
#[derive(Clone, PartialEq, Message)]
pub struct CreateTaskRequest {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(string, tag = "2")]
    pub bundle: String,
    #[prost(message, repeated, tag = "3")]
    pub rootfs: Vec<Mount>,
    #[prost(bool, tag = "4")]
    pub terminal: bool,
    #[prost(string, tag = "5")]
    pub stdin: String,
    #[prost(string, tag = "6")]
    pub stdout: String,
    #[prost(string, tag = "7")]
    pub stderr: String,
    #[prost(string, tag = "8")]
    pub checkpoint: String,
    #[prost(string, tag = "9")]
    pub parent_checkpoint: String,
    #[prost(message, optional, tag = "10")]
    pub options: Option<Any>,
}

/// `containerd.task.v2.CreateTaskResponse`.
#[derive(Clone, PartialEq, Message)]
pub struct CreateTaskResponse {
    #[prost(uint32, tag = "1")]
    pub pid: u32,
}

/// `containerd.task.v2.DeleteRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct DeleteRequest {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(string, tag = "2")]
    pub exec_id: String,
}

/// `containerd.task.v2.DeleteResponse`.
#[derive(Clone, PartialEq, Message)]
pub struct DeleteResponse {
    #[prost(uint32, tag = "1")]
    pub pid: u32,
    #[prost(uint32, tag = "2")]
    pub exit_status: u32,
    #[prost(message, optional, tag = "3")]
    pub exited_at: Option<Timestamp>,
}

/// `containerd.task.v2.ExecProcessRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct ExecProcessRequest {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(string, tag = "2")]
    pub exec_id: String,
    #[prost(bool, tag = "3")]
    pub terminal: bool,
    #[prost(string, tag = "4")]
    pub stdin: String,
    #[prost(string, tag = "5")]
    pub stdout: String,
    #[prost(string, tag = "6")]
    pub stderr: String,
    #[prost(message, optional, tag = "7")]
    pub spec: Option<Any>,
}

/// `containerd.task.v2.ResizePtyRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct ResizePtyRequest {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(string, tag = "2")]
    pub exec_id: String,
    #[prost(uint32, tag = "3")]
    pub width: u32,
    #[prost(uint32, tag = "4")]
    pub height: u32,
}

/// `containerd.task.v2.StateRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct StateRequest {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(string, tag = "2")]
    pub exec_id: String,
}

/// `containerd.task.v2.StateResponse`.
#[derive(Clone, PartialEq, Message)]
pub struct StateResponse {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(string, tag = "2")]
    pub bundle: String,
    #[prost(uint32, tag = "3")]
    pub pid: u32,
    #[prost(enumeration = "Status", tag = "4")]
    pub status: i32,
    #[prost(string, tag = "5")]
    pub stdin: String,
    #[prost(string, tag = "6")]
    pub stdout: String,
    #[prost(string, tag = "7")]
    pub stderr: String,
    #[prost(bool, tag = "8")]
    pub terminal: bool,
    #[prost(uint32, tag = "9")]
    pub exit_status: u32,
    #[prost(message, optional, tag = "10")]
    pub exited_at: Option<Timestamp>,
    #[prost(string, tag = "11")]
    pub exec_id: String,
}

/// `containerd.task.v2.KillRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct KillRequest {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(string, tag = "2")]
    pub exec_id: String,
    #[prost(uint32, tag = "3")]
    pub signal: u32,
    #[prost(bool, tag = "4")]
    pub all: bool,
}

/// `containerd.task.v2.CloseIORequest`.
#[derive(Clone, PartialEq, Message)]
pub struct CloseIoRequest {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(string, tag = "2")]
    pub exec_id: String,
    #[prost(bool, tag = "3")]
    pub stdin: bool,
}

/// `containerd.task.v2.PidsRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct PidsRequest {
    #[prost(string, tag = "1")]
    pub id: String,
}

/// `containerd.task.v2.PidsResponse`.
#[derive(Clone, PartialEq, Message)]
pub struct PidsResponse {
    #[prost(message, repeated, tag = "1")]
    pub processes: Vec<ProcessInfo>,
}

/// `containerd.task.v2.CheckpointTaskRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct CheckpointTaskRequest {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(string, tag = "2")]
    pub path: String,
    #[prost(message, optional, tag = "3")]
    pub options: Option<Any>,
}

/// `containerd.task.v2.UpdateTaskRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct UpdateTaskRequest {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(message, optional, tag = "2")]
    pub resources: Option<Any>,
    #[prost(map = "string, string", tag = "3")]
    pub annotations: HashMap<String, String>,
}

/// `containerd.task.v2.StartRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct StartRequest {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(string, tag = "2")]
    pub exec_id: String,
}

/// `containerd.task.v2.StartResponse`.
#[derive(Clone, PartialEq, Message)]
pub struct StartResponse {
    #[prost(uint32, tag = "1")]
    pub pid: u32,
}

/// `containerd.task.v2.WaitRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct WaitRequest {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(string, tag = "2")]
    pub exec_id: String,
}

/// `containerd.task.v2.WaitResponse`.
#[derive(Clone, PartialEq, Message)]
pub struct WaitResponse {
    #[prost(uint32, tag = "1")]
    pub exit_status: u32,
    #[prost(message, optional, tag = "2")]
    pub exited_at: Option<Timestamp>,
}

/// `containerd.task.v2.StatsRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct StatsRequest {
    #[prost(string, tag = "1")]
    pub id: String,
}

/// `containerd.task.v2.StatsResponse`.
#[derive(Clone, PartialEq, Message)]
pub struct StatsResponse {
    #[prost(message, optional, tag = "1")]
    pub stats: Option<Any>,
}

/// `containerd.task.v2.ConnectRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct ConnectRequest {
    #[prost(string, tag = "1")]
    pub id: String,
}

/// `containerd.task.v2.ConnectResponse`.
#[derive(Clone, PartialEq, Message)]
pub struct ConnectResponse {
    #[prost(uint32, tag = "1")]
    pub shim_pid: u32,
    #[prost(uint32, tag = "2")]
    pub task_pid: u32,
    #[prost(string, tag = "3")]
    pub version: String,
}

/// `containerd.task.v2.ShutdownRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct ShutdownRequest {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(bool, tag = "2")]
    pub now: bool,
}

/// `containerd.task.v2.PauseRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct PauseRequest {
    #[prost(string, tag = "1")]
    pub id: String,
}

/// `containerd.task.v2.ResumeRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct ResumeRequest {
    #[prost(string, tag = "1")]
    pub id: String,
}
