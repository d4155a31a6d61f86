//! What can go wrong with a store, with the name of the file or table in every message.

use std::path::{Path, PathBuf};

/// An error of a [`Store`](crate::Store).
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file operation failed.
    #[error("{what} {path}: {source}", path = path.display())]
    Io {
        /// What was attempted.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// The database refused.
    #[error("{what} in {path}: {source}", path = path.display())]
    Database {
        /// What was attempted.
        what: &'static str,
        /// The database file.
        path: PathBuf,
        /// Its answer.
        source: Box<redb::Error>,
    },
    /// The store was written by a newer program.
    #[error(
        "store {path} has format {format}, which needs a program that reads format {min_reader}; this one reads up to {version}",
        path = path.display()
    )]
    TooNew {
        /// The database file.
        path: PathBuf,
        /// Format of what is stored.
        format: u32,
        /// The least version of a reader.
        min_reader: u32,
        /// What this program is.
        version: u32,
    },
    /// The file is no store of ours.
    #[error("{path} is no store: {what}", path = path.display())]
    NotAStore {
        /// The file.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// An earlier write to the journal failed half-way, or a fold failed.
    #[error("store {path} takes no more writes: {reason}", path = path.display())]
    Broken {
        /// The database file.
        path: PathBuf,
        /// The first error.
        reason: String,
    },
    /// A record could not be encoded.
    #[error("encoding a record of table {table}: {source}")]
    Encode {
        /// The table.
        table: String,
        /// Why.
        source: serde_json::Error,
    },
    /// A record could not be decoded.
    #[error("decoding record {key:?} of table {table}: {source}")]
    Decode {
        /// The table.
        table: String,
        /// The record's key, as far as it is text.
        key: String,
        /// Why.
        source: serde_json::Error,
    },
}

impl StoreError {
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { what, path: path.to_owned(), source }
    }

    pub(crate) fn db<E: Into<redb::Error>>(
        what: &'static str,
        path: &Path,
    ) -> impl FnOnce(E) -> Self {
        move |source| Self::Database {
            what,
            path: path.to_owned(),
            source: Box::new(source.into()),
        }
    }
}
