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
    #[error("Decoding seccomp profile failed: {0}")]
    Seccomp(String),
    /// A seccomp profile that contradicts itself.
    #[error("{0}")]
    Profile(&'static str),
    /// A word in a seccomp profile that the runtime does not know, told as a runtime would.
    #[error(
        "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: {0}"
    )]
    SeccompWord(String),
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
