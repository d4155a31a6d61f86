//! What a shim's `start` says to its supervisor: a plain address (containerd 1.6), a JSON
//! document (1.7 and later), or protobuf (2.3). No sockets, no processes.

use prost::Message;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// A shim's answer: where it serves, and what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bootstrap {
    /// Version of the task service: 2 or 3.
    pub version: u32,
    /// `unix:///path`.
    pub address: String,
    /// `ttrpc` or `grpc`.
    pub protocol: String,
}

/// A shim's answer that nobody can use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the shim's answer {0:?} is neither an address nor bootstrap parameters")]
pub struct InvalidBootstrap(pub String);

impl Bootstrap {
    /// The JSON document, as shims of containerd 2.1 print it.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads what a shim printed: JSON, or a plain address, which means version 2 over ttrpc.
    pub fn parse(output: &str) -> Result<Self, InvalidBootstrap> {
        let output = output.trim();
        let invalid = || InvalidBootstrap(output.chars().take(256).collect());
        if output.starts_with('{') {
            return serde_json::from_str(output).map_err(|_| invalid());
        }
        if output.is_empty() || output.contains(char::is_whitespace) {
            return Err(invalid());
        }
        Ok(Self { version: 2, address: output.to_owned(), protocol: "ttrpc".to_owned() })
    }

    /// The path of a unix address, with or without its scheme.
    pub fn socket_path(&self) -> &str {
        self.address.strip_prefix("unix://").unwrap_or(&self.address)
    }
}

/// `containerd.runtime.bootstrap.v1.BootstrapParams`: what containerd 2.3 writes to a shim's stdin.
#[derive(Clone, PartialEq, Message)]
#[allow(missing_docs, reason = "fields are the protocol's own")]
pub struct BootstrapParams {
    #[prost(string, tag = "1")]
    pub instance_id: String,
    #[prost(string, tag = "2")]
    pub namespace: String,
    #[prost(int32, tag = "3")]
    pub log_level: i32,
    #[prost(string, tag = "4")]
    pub containerd_version: String,
    #[prost(string, tag = "5")]
    pub containerd_ttrpc_address: String,
    #[prost(string, tag = "6")]
    pub containerd_grpc_address: String,
    #[prost(string, tag = "7")]
    pub containerd_binary: String,
    #[prost(message, repeated, tag = "8")]
    pub extensions: Vec<Extension>,
    #[prost(string, optional, tag = "9")]
    pub socket_dir: Option<String>,
}

/// `containerd.runtime.bootstrap.v1.Extension`.
#[derive(Clone, PartialEq, Message)]
#[allow(missing_docs, reason = "fields are the protocol's own")]
pub struct Extension {
    #[prost(message, optional, tag = "1")]
    pub value: Option<prost_types::Any>,
}

/// `containerd.runtime.bootstrap.v1.BootstrapResult`.
#[derive(Clone, PartialEq, Message)]
#[allow(missing_docs, reason = "fields are the protocol's own")]
pub struct BootstrapResult {
    #[prost(int32, tag = "1")]
    pub version: i32,
    #[prost(string, tag = "2")]
    pub address: String,
    #[prost(string, tag = "3")]
    pub protocol: String,
    #[prost(int32, repeated, tag = "4")]
    pub capabilities: Vec<i32>,
    #[prost(map = "string, string", tag = "5")]
    pub metadata: HashMap<String, String>,
}
