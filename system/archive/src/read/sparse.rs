//! Sparse maps of the four GNU forms, checked before anyone writes by them.

use super::header::{BLOCK, Raw, number};
use super::pax::Records;
use crate::ArchiveError;

/// Most fragments of one sparse file.
const MAX_FRAGMENTS: usize = 100_000;

/// Where an entry's data lies in the file that it makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sparse {
    /// Offset and length of each fragment, ascending, not overlapping.
    pub map: Vec<(u64, u64)>,
    /// The file's length.
    pub real_size: u64,
}

impl Sparse {
    pub(super) fn from_numbers(numbers: &[u64], real_size: u64) -> Result<Self, ArchiveError> {
        if !numbers.len().is_multiple_of(2) || numbers.len() / 2 > MAX_FRAGMENTS {
            return Err(ArchiveError::malformed(
                0,
                "a sparse map has too many or unpaired numbers",
            ));
        }
        Ok(Self { map: numbers.chunks(2).map(|pair| (pair[0], pair[1])).collect(), real_size })
    }

    /// Fragments must ascend, lie inside the file and add up to the entry's data.
    pub(super) fn check(&self, data: u64) -> Result<(), String> {
        let (mut end, mut sum) = (0_u64, 0_u64);
        for (offset, length) in &self.map {
            let next = offset.checked_add(*length).ok_or("a sparse fragment is out of range")?;
            if *offset < end || next > self.real_size {
                return Err("sparse fragments overlap or exceed the file".into());
            }
            end = next;
            sum += length;
        }
        if sum != data || self.real_size > i64::MAX as u64 {
            return Err("a sparse map does not match its data".into());
        }
        Ok(())
    }
}

/// The old GNU form: four fragments in the header, more in following blocks.
pub(super) fn old_gnu(
    raw: &Raw,
    mut next: impl FnMut() -> Result<[u8; BLOCK], ArchiveError>,
) -> Result<Sparse, ArchiveError> {
    let bad = || ArchiveError::malformed(0, "an old sparse map is malformed");
    let field = |bytes: &[u8]| number(bytes).and_then(|n| u64::try_from(n).ok()).ok_or_else(bad);
    let real_size = field(&raw.block[483..495])?;
    let mut numbers = Vec::new();
    let mut take = |table: &[u8]| -> Result<(), ArchiveError> {
        for pair in table.as_chunks::<24>().0 {
            if pair[0] == 0 {
                break;
            }
            numbers.extend([field(&pair[..12])?, field(&pair[12..])?]);
        }
        if numbers.len() / 2 > MAX_FRAGMENTS { Err(bad()) } else { Ok(()) }
    };
    take(&raw.block[386..482])?;
    let mut more = raw.block[482] != 0;
    while more {
        let block = next()?;
        take(&block[..504])?;
        more = block[504] != 0;
        if more && block[0] == 0 {
            return Err(bad());
        }
    }
    Sparse::from_numbers(&numbers, real_size)
}

/// Format 1.0: decimal lines at the start of the data, padded to a block.
pub(super) fn from_data(
    pax: &Records,
    mut read: impl FnMut(&mut [u8]) -> Result<(), ArchiveError>,
) -> Result<Sparse, ArchiveError> {
    let bad = || ArchiveError::malformed(0, "a sparse map in data is malformed");
    let real_size = pax.sparse_real_size()?;
    let mut numbers: Vec<u64> = Vec::new();
    let (mut digits, mut expected) = (String::new(), None);
    loop {
        let mut block = [0; BLOCK];
        read(&mut block)?;
        for byte in block {
            match byte {
                b'0'..=b'9' if digits.len() < 20 => digits.push(byte as char),
                b'\n' => {
                    let value: u64 = std::mem::take(&mut digits).parse().map_err(|_| bad())?;
                    match expected {
                        None if value <= MAX_FRAGMENTS as u64 => {
                            expected = Some(value as usize * 2);
                        }
                        None => return Err(bad()),
                        Some(_) => numbers.push(value),
                    }
                }
                _ => return Err(bad()),
            }
            if expected == Some(numbers.len()) {
                return Sparse::from_numbers(&numbers, real_size);
            }
        }
    }
}
