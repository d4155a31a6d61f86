//! Why a filter can't be compiled.

use oci::runtime::SeccompAction;

/// Why a filter can't be compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// A flag is not known.
    #[error("seccomp flag {0} is not known")]
    Flag(String),
    /// An architecture is not known.
    #[error("string {0} is not a valid arch for seccomp")]
    Architecture(String),
    /// An argument index is beyond 5.
    #[error("invalid seccomp argument index {0}: a system call has six arguments")]
    Index(u32),
    /// An errno is out of range.
    #[error("invalid errno {0} for a seccomp rule")]
    Errno(u32),
    /// Notification can't be the default.
    #[error("SCMP_ACT_NOTIFY cannot be used as default action")]
    NotifyDefault,
    /// Notification of write would deadlock the runtime itself.
    #[error("SCMP_ACT_NOTIFY cannot be used for the write syscall")]
    NotifyWrite,
    /// A default action has an errno that it can't have.
    #[error("default errno cannot be used with action {0:?}")]
    DefaultErrno(SeccompAction),
    /// An action has an errno that it can't have.
    #[error("errno cannot be used with action {0:?}")]
    RuleErrno(SeccompAction),
    /// A rule is for nothing.
    #[error("a seccomp rule names no system call")]
    NoNames,
    /// What would be said to a listener that there isn't.
    #[error("seccomp listenerMetadata cannot be used without listenerPath")]
    Metadata,
    /// The kernel takes 4,096 instructions.
    #[error("the seccomp filter has {0} instructions, more than the kernel's 4096")]
    TooLong(usize),
}
