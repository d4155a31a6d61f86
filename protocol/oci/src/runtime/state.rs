//! The state document that `state` prints and hooks read, and the one of a seccomp listener.

use super::objects;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// `create` is at work.
    #[default]
    Creating,
    /// Set up; the program waits for `start`.
    Created,
    /// The program runs.
    Running,
    /// The program runs but is frozen (runc's addition to the specification).
    Paused,
    /// The program has ended.
    Stopped,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        })
    }
}

objects! {
    /// State of a container.
    State {
        always {
            /// Version of the specification, semver.
            oci_version: String,
            /// The container's id.
            id: String,
            /// Where it is in its life.
            status: Status,
            /// Absolute path of the bundle.
            bundle: String,
        }
        omit {
            /// Process id on the host; absent when there is none.
            pid: i32,
            /// The annotations of config.json.
            annotations: BTreeMap<String, String>,
        }
    }

    /// What travels with a seccomp listener's descriptor.
    ContainerProcessState {
        always {
            /// Version of the specification, semver.
            oci_version: String,
            /// Names of the descriptors sent, in order; `seccompFd` is the listener.
            fds: Vec<String>,
            /// The process as the runtime sees it.
            pid: i32,
            /// The container's state.
            state: State,
        }
        omit {
            /// `listenerMetadata` of the filter.
            metadata: String,
        }
    }
}
