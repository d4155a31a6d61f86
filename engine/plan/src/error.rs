//! Why no plan could be made, in the words that users of the API know.

/// A configuration that can't become a spec.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A field that Ferry does not have yet.
    #[error("{0} is not supported by Ferry yet")]
    Unsupported(String),
    /// A security option of the wrong form: 1 without a value, 2 with an unknown one.
    #[error("invalid --security-opt {0}: {1:?}")]
    SecurityOpt(u8, String),
    /// A seccomp profile that is no profile.
    #[error("decoding seccomp profile failed: {0}")]
    Seccomp(String),
    /// A device rule that has no meaning.
    #[error("invalid device cgroup rule format: '{0}'")]
    DeviceRule(String),
    /// A tmpfs option that the kernel does not have.
    #[error("invalid tmpfs option {0:?}")]
    Tmpfs(String),
    /// Nothing to run.
    #[error("no command specified")]
    NoCommand,
}
