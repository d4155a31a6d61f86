//! What can go wrong between this program and the daemon, worded as users and
//! their scripts know it.

/// A failed request.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers at the endpoint.
    #[error("Cannot connect to the Docker daemon at {host}. Is the docker daemon running?")]
    Unreachable {
        /// The endpoint, as configured.
        host: String,
    },
    /// The socket may not be opened.
    #[error(
        "permission denied while trying to connect to the Docker daemon socket at {host}: \
         dial unix {path}: connect: permission denied"
    )]
    Denied {
        /// The endpoint, as configured.
        host: String,
        /// The path of its socket.
        path: String,
    },
    /// The connection could not be made for another reason.
    #[error("error during connect: {0}")]
    Connect(String),
    /// The daemon answered with an error.
    #[error("Error response from daemon: {message}")]
    Api {
        /// The HTTP status.
        status: u16,
        /// The daemon's words.
        message: String,
    },
    /// The daemon did not hand its connection over.
    #[error("unable to upgrade to tcp, received {0}")]
    NotUpgraded(u16),
    /// The connection broke, or what came was no HTTP.
    #[error("error during connect: {0}")]
    Broken(String),
    /// The body is not what the type says.
    #[error("{0}")]
    Decode(String),
}

impl ClientError {
    /// The status of the daemon's answer, if it answered.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Api { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether the daemon says that there is no such thing.
    pub fn is_not_found(&self) -> bool {
        self.status() == Some(404)
    }

    /// Whether nobody listens at the endpoint.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

impl From<std::io::Error> for ClientError {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::UnexpectedEof => Self::Broken("unexpected EOF".into()),
            _ => Self::Broken(error.to_string()),
        }
    }
}
