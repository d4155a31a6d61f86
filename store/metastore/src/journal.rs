//! The journal: framed records with checksum and sequence number, in two files.
//!
//! The files take turns: while one is folded into redb, the other takes appends;
//! a folded file is cut to its header. A record that is cut or damaged ends its
//! file, and replay ends at the first gap in the sequence.
//!
//! ```text
//! file   := "FERRYJ01" record*
//! record := length:u32 check:u64 seq:u64 payload      little endian; length is the payload's
//! write  := table-length:u8 table kind:u8 key-length:u32 key [value-length:u32 value]
//! ```

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::batch::Write;
use crate::{Batch, StoreError, fault};

const MAGIC: &[u8; 8] = b"FERRYJ01";
const HEAD: usize = 20;
/// Longest record, in bytes: what is longer in a file is damage.
const MAX_RECORD: usize = 256 << 20;

/// A record as read back: its table names are owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Replayed {
    pub seq: u64,
    pub writes: Vec<(String, Vec<u8>, Option<Vec<u8>>)>,
}

/// The two journal files.
#[derive(Debug)]
pub(crate) struct Journal {
    files: [Half; 2],
    current: usize,
}

/// The journal's files, for a sync beside further appends.
pub(crate) struct Files([(PathBuf, Arc<File>); 2]);

impl Files {
    /// Makes what was appended so far durable. Both files: replay ends at the first gap, so what
    /// is still being folded must not be missing before what came after it.
    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        self.0
            .iter()
            .try_for_each(|(path, file)| file.sync_data().map_err(StoreError::io("syncing", path)))
    }
}

#[derive(Debug)]
struct Half {
    path: PathBuf,
    file: Arc<File>,
    length: u64,
}

impl Journal {
    /// Opens or creates the two files beside `database`, and reads what they hold.
    pub(crate) fn open(database: &Path) -> Result<(Self, Vec<Replayed>), StoreError> {
        let mut records = Vec::new();
        let files = [
            Half::open(database.with_extension("journal0"), &mut records)?,
            Half::open(database.with_extension("journal1"), &mut records)?,
        ];
        records.sort_by_key(|r: &Replayed| r.seq);
        Ok((Self { files, current: 0 }, records))
    }

    /// Appends a record with one write; on failure the file is as before.
    pub(crate) fn append(&mut self, seq: u64, batch: &Batch) -> Result<(), StoreError> {
        let half = &mut self.files[self.current];
        let bytes = encode(seq, batch);
        fault::point("journal-before");
        if fault::due("journal-torn") {
            let _ = (&*half.file).write_all(&bytes[..bytes.len() / 2]);
            fault::die();
        }
        if let Err(error) = (&*half.file).write_all(&bytes) {
            half.cut_to(half.length)?;
            return Err(StoreError::io("appending to", &half.path)(error));
        }
        half.length += bytes.len() as u64;
        fault::point("journal-after");
        Ok(())
    }

    /// Both files, for a sync.
    pub(crate) fn files(&self) -> Files {
        Files(self.files.each_ref().map(|half| (half.path.clone(), Arc::clone(&half.file))))
    }

    /// Lets the other file take the next appends; it must have been [`cut`](Self::cut).
    pub(crate) fn turn(&mut self) {
        self.current = 1 - self.current;
    }

    /// Empties the file that takes no appends, after all of it was folded.
    pub(crate) fn cut(&mut self) -> Result<(), StoreError> {
        self.files[1 - self.current].cut_to(MAGIC.len() as u64)
    }

    /// Empties both files.
    pub(crate) fn clear(&mut self) -> Result<(), StoreError> {
        self.files.iter_mut().try_for_each(|half| half.cut_to(MAGIC.len() as u64))
    }
}

impl Half {
    fn open(path: PathBuf, records: &mut Vec<Replayed>) -> Result<Self, StoreError> {
        let io = |what| StoreError::io(what, &path);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(io("opening"))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(io("reading"))?;
        let good = if bytes.len() >= MAGIC.len() {
            if &bytes[..MAGIC.len()] != MAGIC {
                return Err(StoreError::NotAStore { path, what: "a foreign journal".into() });
            }
            let (good, found) = decode_all(&bytes[MAGIC.len()..]);
            records.extend(found);
            MAGIC.len() + good
        } else {
            // New, or cut while the header was written: nothing was promised yet.
            file.set_len(0).map_err(io("cutting"))?;
            file.seek(SeekFrom::Start(0)).map_err(io("seeking in"))?;
            file.write_all(MAGIC).map_err(io("writing"))?;
            MAGIC.len()
        };
        let mut half = Self { path, file: Arc::new(file), length: good as u64 };
        half.cut_to(good as u64)?;
        Ok(half)
    }

    fn cut_to(&mut self, length: u64) -> Result<(), StoreError> {
        let io = |what| StoreError::io(what, &self.path);
        self.file.set_len(length).map_err(io("cutting"))?;
        (&*self.file).seek(SeekFrom::Start(length)).map_err(io("seeking in"))?;
        self.length = length;
        Ok(())
    }
}

fn encode(seq: u64, batch: &Batch) -> Vec<u8> {
    let size =
        |w: &Write| 10 + w.table.0.len() + w.key.len() + w.value.as_ref().map_or(0, Vec::len);
    let mut out = Vec::with_capacity(HEAD + batch.writes.iter().map(size).sum::<usize>());
    out.resize(HEAD, 0);
    let bytes = |out: &mut Vec<u8>, bytes: &[u8]| {
        out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        out.extend_from_slice(bytes);
    };
    for write in &batch.writes {
        out.push(write.table.0.len() as u8);
        out.extend_from_slice(write.table.0.as_bytes());
        out.push(u8::from(write.value.is_some()));
        bytes(&mut out, &write.key);
        if let Some(value) = &write.value {
            bytes(&mut out, value);
        }
    }
    let length = (out.len() - HEAD) as u32;
    out[..4].copy_from_slice(&length.to_le_bytes());
    out[12..HEAD].copy_from_slice(&seq.to_le_bytes());
    let check = checksum(&out[12..]);
    out[4..12].copy_from_slice(&check.to_le_bytes());
    out
}

// The records up to the first that is cut or damaged, and how many bytes they take.
fn decode_all(bytes: &[u8]) -> (usize, Vec<Replayed>) {
    let mut records = Vec::new();
    let mut at = 0;
    while let Some((size, record)) = decode(&bytes[at..]) {
        at += size;
        records.push(record);
    }
    (at, records)
}

fn decode(bytes: &[u8]) -> Option<(usize, Replayed)> {
    let mut cursor = Cursor(bytes);
    let length = cursor.u32()? as usize;
    let check = cursor.u64()?;
    if length > MAX_RECORD || bytes.len() < HEAD + length {
        return None;
    }
    if checksum(&bytes[12..HEAD + length]) != check {
        return None;
    }
    let seq = cursor.u64()?;
    let mut cursor = Cursor(&bytes[HEAD..HEAD + length]);
    let mut writes = Vec::new();
    while !cursor.0.is_empty() {
        let name = cursor.u8()? as usize;
        let table = std::str::from_utf8(cursor.take(name)?).ok()?.to_owned();
        let put = cursor.u8()? == 1;
        let key = cursor.bytes()?;
        let value = if put { Some(cursor.bytes()?) } else { None };
        writes.push((table, key, value));
    }
    Some((HEAD + length, Replayed { seq, writes }))
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    fn u8(&mut self) -> Option<u8> {
        Some(self.take(1)?[0])
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn bytes(&mut self) -> Option<Vec<u8>> {
        let count = self.u32()? as usize;
        Some(self.take(count)?.to_vec())
    }
}

// Detects torn and damaged records, not malice: eight bytes a step.
fn checksum(bytes: &[u8]) -> u64 {
    const K: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut hash = K ^ bytes.len() as u64;
    let mut mix = |word: u64| {
        hash = (hash ^ word).wrapping_mul(K);
        hash ^= hash >> 29;
    };
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        mix(u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    mix(u64::from_le_bytes(last));
    mix(hash_end(bytes.len()));
    hash
}

const fn hash_end(length: usize) -> u64 {
    (length as u64).rotate_left(32) | 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Table;

    const T: Table = Table::new("t");

    type Writes = Vec<(Vec<u8>, Option<Vec<u8>>)>;

    fn batches() -> impl Strategy<Value = Vec<Writes>> {
        let write = (
            proptest::collection::vec(any::<u8>(), 0..5),
            proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20)),
        );
        proptest::collection::vec(proptest::collection::vec(write, 1..4), 1..6)
    }

    fn batch(writes: &[(Vec<u8>, Option<Vec<u8>>)]) -> Batch {
        writes.iter().fold(Batch::default(), |b, (key, value)| match value {
            Some(value) => b.put(T, key.clone(), value.clone()),
            None => b.delete(T, key.clone()),
        })
    }

    proptest! {
        #[test]
        fn a_cut_or_damaged_tail_loses_only_records_behind_it(
            all in batches(), cut: prop::sample::Index, flip: Option<prop::sample::Index>
        ) {
            let mut bytes = Vec::new();
            let mut ends = vec![];
            for (seq, writes) in all.iter().enumerate() {
                bytes.extend(encode(seq as u64, &batch(writes)));
                ends.push(bytes.len());
            }
            let cut = cut.index(bytes.len() + 1);
            bytes.truncate(cut);
            let mut limit = cut;
            if let Some(flip) = flip && !bytes.is_empty() {
                let at = flip.index(bytes.len());
                bytes[at] ^= 0x40;
                limit = at;
            }
            let whole = ends.iter().take_while(|&&end| end <= limit).count();
            let (good, records) = decode_all(&bytes);
            prop_assert_eq!(records.len(), whole);
            prop_assert_eq!(good, if whole == 0 { 0 } else { ends[whole - 1] });
            for (record, writes) in records.iter().zip(&all) {
                let back: Vec<_> =
                    record.writes.iter().map(|(_, k, v)| (k.clone(), v.clone())).collect();
                prop_assert_eq!(&back, writes);
            }
        }
    }
}
