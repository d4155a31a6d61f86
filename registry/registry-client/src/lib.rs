//! OCI distribution over HTTP: pulls, pushes, lists, logins, searches.
//!
//! Knows nothing of stores, daemons or terminals. Begin reading at [`Client`], which makes
//! a [`Repository`] of a reference; `session.rs` is the path of every request.
//!
//! What is absent: threads (idle, there is nothing but closed-by-timer connections), disk
//! writes, progress output, and any copy of a blob's bytes between socket and reader.

mod answer;
mod authorize;
mod blob;
mod challenge;
mod client;
mod credentials;
mod download;
mod error;
mod growing;
mod header;
mod hosts;
mod list;
mod login;
mod manifest;
mod net;
mod push;
mod referrers;
mod remote;
mod repository;
mod retry;
mod scope;
mod search;
mod session;
mod source;
mod token;
mod told;
mod upload;
mod url;

pub use answer::{Answer, ApiError, Code};
pub use blob::Blob;
pub use challenge::Challenge;
pub use client::{Client, Config, Timeouts};
pub use credentials::{CredentialFuture, CredentialRequest, CredentialSource, Credentials, Secret};
pub use download::Download;
pub use error::{At, ConfigError, ConnectKind, Error, Object, Phase, Place};
pub use file_stream::Files;
pub use growing::{Grower, GrowingFile};
pub use hosts::{
    Capabilities, Capability, DOCKER_IO, Host, Hosts, Insecure, InvalidInsecure, InvalidMirror,
    Mirror, Reach, TlsFiles, hosts_file,
};
pub use login::Login;
pub use manifest::{Parsed, RawManifest};
pub use net::{Chunks, Proxies};
pub use push::{PushOptions, Pushed};
pub use repository::{MAX_CONFIG, MAX_MANIFEST, Repository, Which};
pub use retry::Retry;
pub use scope::{Scope, Scopes};
pub use search::{Hit, SearchFilter};
pub use session::Watch;
pub use source::{BlobSource, FileBlob, Relay};
pub use told::{Asked, Told};
pub use upload::Upload;
pub use url::{InvalidUrl, Scheme, Url};

/// Parsers of foreign text, for fuzzing and for whoever reads the same protocol.
pub mod parse {
    pub use crate::challenge::parse as challenges;
    pub use crate::header::{ContentRange, next_link, parse_retry_after, uploaded};
    pub use crate::manifest::media_type;
    pub use crate::token::{Grant, grant_of as token_answer};
}
