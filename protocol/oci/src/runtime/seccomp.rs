//! `linux.seccomp`: the system call filter as written. Compiling it is the runtime's business.

use super::objects;
use serde::{Deserialize, Serialize};

/// What happens to a system call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SeccompAction {
    /// Ends the thread (the old name of `KillThread`).
    #[serde(rename = "SCMP_ACT_KILL")]
    #[default]
    Kill,
    /// Ends the process.
    #[serde(rename = "SCMP_ACT_KILL_PROCESS")]
    KillProcess,
    /// Ends the thread.
    #[serde(rename = "SCMP_ACT_KILL_THREAD")]
    KillThread,
    /// Sends SIGSYS.
    #[serde(rename = "SCMP_ACT_TRAP")]
    Trap,
    /// Fails with an error number.
    #[serde(rename = "SCMP_ACT_ERRNO")]
    Errno,
    /// Asks a tracer.
    #[serde(rename = "SCMP_ACT_TRACE")]
    Trace,
    /// Goes ahead.
    #[serde(rename = "SCMP_ACT_ALLOW")]
    Allow,
    /// Goes ahead and is logged.
    #[serde(rename = "SCMP_ACT_LOG")]
    Log,
    /// Asks the listener.
    #[serde(rename = "SCMP_ACT_NOTIFY")]
    Notify,
}

/// How an argument is compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SeccompOperator {
    /// Not equal.
    #[serde(rename = "SCMP_CMP_NE")]
    NotEqual,
    /// Less.
    #[serde(rename = "SCMP_CMP_LT")]
    Less,
    /// Less or equal.
    #[serde(rename = "SCMP_CMP_LE")]
    LessOrEqual,
    /// Equal.
    #[serde(rename = "SCMP_CMP_EQ")]
    #[default]
    Equal,
    /// Greater or equal.
    #[serde(rename = "SCMP_CMP_GE")]
    GreaterOrEqual,
    /// Greater.
    #[serde(rename = "SCMP_CMP_GT")]
    Greater,
    /// `argument & value == value_two`.
    #[serde(rename = "SCMP_CMP_MASKED_EQ")]
    MaskedEqual,
}

objects! {
    /// System call filter.
    Seccomp {
        always {
            /// For calls that no rule names.
            default_action: SeccompAction,
        }
        omit {
            /// Error number of a default action `Errno`; EPERM when absent.
            default_errno_ret: Option<u32>,
            /// Architectures, such as `SCMP_ARCH_X86_64`; the native one is always filtered.
            architectures: Vec<String>,
            /// Flags of seccomp(2), such as `SECCOMP_FILTER_FLAG_LOG`.
            flags: Vec<String>,
            /// Unix socket that gets the listener's descriptor.
            listener_path: String,
            /// Text that travels with it.
            listener_metadata: String,
            /// The rules.
            syscalls: Vec<SeccompRule>,
        }
    }

    /// Rule for some system calls.
    SeccompRule {
        always {
            /// Names of the calls; those that an architecture lacks are skipped.
            names: Vec<String>,
            /// What happens.
            action: SeccompAction,
        }
        omit {
            /// Error number (`Errno`) or message (`Trace`).
            errno_ret: Option<u32>,
            /// Conditions, which must hold together.
            args: Vec<SeccompArg>,
        }
    }

    /// Condition on one argument.
    SeccompArg {
        always {
            /// Which argument, 0 to 5.
            index: u32,
            /// Value, or mask of `MaskedEqual`.
            value: u64,
            /// How it is compared.
            op: SeccompOperator,
        }
        omit {
            /// Value of `MaskedEqual`.
            value_two: u64,
        }
    }
}
