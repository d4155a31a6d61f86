//! Single members of an archive by name: `manifest.json` of a docker archive, one file of an export.

use crate::read::{Entry, Limits, Reader};
use crate::root::clean;
use crate::{ArchiveError, Decompressor};
use std::io::{BufReader, Read};

/// The members of a possibly compressed archive, one after the other.
pub type Members<R> = Reader<BufReader<Decompressor<R>>>;

impl<R: Read> Members<R> {
    /// Opens an archive of whatever compression.
    pub fn open(source: R, limits: Limits) -> Result<Self, ArchiveError> {
        Ok(Self::new(BufReader::with_capacity(256 * 1024, Decompressor::new(source)?), limits))
    }
}

/// The content of the first file member called `name` (names are cleaned first), at most `limit` bytes.
pub fn find_member<R: Read>(
    source: R,
    name: &str,
    limit: u64,
) -> Result<Option<(Entry, Vec<u8>)>, ArchiveError> {
    let wanted = clean(name.as_bytes());
    let mut members = Members::open(source, Limits::default())?;
    while let Some(entry) = members.next_entry()? {
        if entry.is_file() && clean(&entry.path) == wanted {
            let data = members.read_all(limit)?;
            return Ok(Some((entry, data)));
        }
    }
    Ok(None)
}
