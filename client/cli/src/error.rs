//! How a command ends badly: what is told, and with which exit code.

/// An end other than success.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// Told on standard error as it is.
    #[error("{message}")]
    Failed {
        /// What is told; nothing when empty.
        message: String,
        /// The exit code.
        code: u8,
    },
}

impl CliError {
    /// A failure of the usual kind: exit code 1.
    pub fn new(message: impl Into<String>) -> Self {
        Self::coded(1, message)
    }

    /// A failure with an exit code of its own.
    pub fn coded(code: u8, message: impl Into<String>) -> Self {
        Self::Failed { message: message.into(), code }
    }

    /// An end with a code and without a word.
    pub fn silent(code: u8) -> Self {
        Self::coded(code, "")
    }

    /// The exit code.
    pub fn code(&self) -> u8 {
        let Self::Failed { code, .. } = self;
        *code
    }
}

impl From<engine_client::ClientError> for CliError {
    fn from(error: engine_client::ClientError) -> Self {
        Self::new(error.to_string())
    }
}

impl From<std::io::Error> for CliError {
    fn from(error: std::io::Error) -> Self {
        Self::new(go_io_error(&error))
    }
}

/// An error of the system in Go's words: lower case, without the number.
pub fn go_io_error(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_lowercase().chain(letters).collect(),
        None => String::new(),
    }
}

/// An error of the system on a path, as Go words it: `open /x: no such file or directory`.
pub fn path_error(verb: &str, path: &str, error: &std::io::Error) -> CliError {
    CliError::new(format!("{verb} {path}: {}", go_io_error(error)))
}

/// A file's bytes, or why there are none in Go's words, which tell opening from reading: a folder
/// can be opened.
pub fn read_file(path: &str) -> std::result::Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|e| {
        let verb = if e.kind() == std::io::ErrorKind::IsADirectory { "read" } else { "open" };
        format!("{verb} {path}: {}", go_io_error(&e))
    })
}

/// What commands return.
pub type Result<T> = std::result::Result<T, CliError>;
