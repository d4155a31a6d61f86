//! PAX extended headers (POSIX.1-2001 pax, "pax Extended Header"): parsing and folding into an entry.

use super::{Entry, Kind, Sparse, Time};
use crate::ArchiveError;

/// Most records that one header may hold.
const MAX_RECORDS: usize = 10_000;

/// The records of one extended header, in order.
#[derive(Default)]
pub(super) struct Records(Vec<(Vec<u8>, Vec<u8>)>);

/// Parses `LEN KEY=VALUE\n` records; anything else is malformed.
pub(super) fn parse(mut data: &[u8], offset: u64) -> Result<Records, ArchiveError> {
    let bad = || ArchiveError::malformed(offset, "a PAX record is malformed");
    let mut records = Vec::new();
    while !data.is_empty() {
        let space = data.iter().take(20).position(|byte| *byte == b' ').ok_or_else(bad)?;
        let length: usize = std::str::from_utf8(&data[..space])
            .ok()
            .and_then(|s| s.parse().ok())
            .ok_or_else(bad)?;
        if length < space + 3 || length > data.len() || data[length - 1] != b'\n' {
            return Err(bad());
        }
        let body = &data[space + 1..length - 1];
        let equals =
            body.iter().position(|byte| *byte == b'=').filter(|at| *at > 0).ok_or_else(bad)?;
        let (key, value) = (&body[..equals], &body[equals + 1..]);
        let no_nul: &[u8] =
            if matches!(key, b"path" | b"linkpath" | b"uname" | b"gname") { value } else { key };
        if no_nul.contains(&0) || records.len() == MAX_RECORDS {
            return Err(bad());
        }
        records.push((key.to_vec(), value.to_vec()));
        data = &data[length..];
    }
    Ok(Records(records))
}

impl Records {
    fn get(&self, key: &str) -> Option<&[u8]> {
        let found = self.0.iter().rev().find(|(k, _)| k == key.as_bytes());
        found.map(|(_, value)| value.as_slice()).filter(|value| !value.is_empty())
    }

    fn number(&self, key: &str) -> Result<Option<u64>, ArchiveError> {
        self.get(key).map(|value| decimal(value, key)).transpose()
    }

    /// Overrides the entry's fields with what the records say.
    pub(super) fn apply(&self, entry: &mut Entry, offset: u64) -> Result<(), ArchiveError> {
        let id = |value: u64| {
            u32::try_from(value)
                .map_err(|_| ArchiveError::malformed(offset, "an owner id is out of range"))
        };
        if let Some(path) = self.get("path") {
            entry.path = path.to_vec();
        }
        if let Some(name) = self.get("GNU.sparse.name") {
            entry.path = name.to_vec();
        }
        if let Some(link) = self.get("linkpath") {
            entry.link = link.to_vec();
        }
        if let Some(size) = self.number("size")? {
            entry.size = size;
        }
        if let Some(uid) = self.number("uid")? {
            entry.uid = id(uid)?;
        }
        if let Some(gid) = self.number("gid")? {
            entry.gid = id(gid)?;
        }
        if let Some(mtime) = self.get("mtime") {
            entry.mtime = time(mtime)
                .ok_or_else(|| ArchiveError::malformed(offset, "a PAX mtime is no time"))?;
        }
        for (key, value) in &self.0 {
            if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                entry.xattrs.retain(|(old, _)| old != name);
                entry.xattrs.push((name.to_vec(), value.clone()));
            }
        }
        Ok(())
    }

    /// Whether the sparse map stands at the start of the data (GNU sparse format 1.0).
    pub(super) fn sparse_in_data(&self) -> bool {
        self.get("GNU.sparse.major") == Some(b"1") && self.get("GNU.sparse.minor") == Some(b"0")
    }

    /// The file's length in sparse format 1.0.
    pub(super) fn sparse_real_size(&self) -> Result<u64, ArchiveError> {
        let size = self.number("GNU.sparse.realsize")?;
        size.ok_or_else(|| ArchiveError::malformed(0, "a sparse entry without GNU.sparse.realsize"))
    }

    /// The sparse map of formats 0.0 (repeated records) and 0.1 (one list).
    pub(super) fn sparse_map(&self) -> Result<Option<Sparse>, ArchiveError> {
        let Some(real_size) = self.number("GNU.sparse.size")? else { return Ok(None) };
        let mut numbers = Vec::new();
        if let Some(list) = self.get("GNU.sparse.map") {
            for item in list.split(|byte| *byte == b',') {
                numbers.push(decimal(item, "GNU.sparse.map")?);
            }
        } else {
            for (key, value) in &self.0 {
                if key == b"GNU.sparse.offset" || key == b"GNU.sparse.numbytes" {
                    numbers.push(decimal(value, "GNU.sparse.offset")?);
                }
            }
        }
        Sparse::from_numbers(&numbers, real_size).map(Some)
    }
}

impl Entry {
    /// Whether the entry is a plain file.
    pub fn is_file(&self) -> bool {
        self.kind == Kind::File
    }
}

fn decimal(value: &[u8], key: &str) -> Result<u64, ArchiveError> {
    let digits =
        std::str::from_utf8(value).ok().filter(|s| s.bytes().all(|byte| byte.is_ascii_digit()));
    let number = digits.and_then(|s| s.parse().ok());
    number.ok_or_else(|| ArchiveError::malformed(0, format!("the PAX record {key} is no number")))
}

fn time(value: &[u8]) -> Option<Time> {
    let text = std::str::from_utf8(value).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let secs: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanos: u32 = digits.parse().ok()?;
    if whole.starts_with('-') && nanos > 0 {
        return Some(Time { secs: secs.checked_sub(1)?, nanos: 1_000_000_000 - nanos });
    }
    Some(Time { secs, nanos })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_strict() {
        assert!(parse(b"11 path=foo\n", 0).is_err());
        assert_eq!(parse(b"12 path=foo\n", 0).unwrap().get("path"), Some(&b"foo"[..]));
        assert!(parse(b"12 path=f\0o\n", 0).is_err());
        assert!(parse(b"99999999999999999999 a=b\n", 0).is_err());
        assert!(parse(b"3 \n", 0).is_err());
        assert!(parse(b"5 =a\n", 0).is_err());
    }

    #[test]
    fn times_before_1970_count_forward() {
        assert_eq!(time(b"-1.25"), Some(Time { secs: -2, nanos: 750_000_000 }));
        assert_eq!(time(b"12.5"), Some(Time { secs: 12, nanos: 500_000_000 }));
        assert_eq!(time(b"1.-5"), None);
    }
}
