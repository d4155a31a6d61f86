//! Any bytes as a layer: unpacked or refused, with nothing outside the root. The first byte chooses
//! how; most often the headers' checksums are put right, since chance alone never hits them.

#![no_main]

mod yard;

use archive::{Decompressor, Limits, Reader, find_member};
use libfuzzer_sys::fuzz_target;
use std::io::Read as _;

/// Longest expansion of a compressed stream that is looked at.
const LONGEST: u64 = 4 << 20;

fuzz_target!(|bytes: &[u8]| {
    let Some((how, rest)) = bytes.split_first() else { return };
    let Some((mend, rest)) = rest.split_first() else { return };
    let mut plain = Vec::new();
    if mend & 1 == 1 {
        let Ok(stream) = Decompressor::new(rest) else { return };
        if stream.take(LONGEST).read_to_end(&mut plain).is_err() {
            return;
        }
    } else {
        plain.extend_from_slice(rest);
    }
    if mend & 2 == 0 {
        put_right(&mut plain);
    }
    look(&plain);
    let how = *how;
    yard::inside(move || yard::unpack(how, &[], &plain));
});

/// Writes the checksum of whatever stands where a header is to be expected.
fn put_right(tar: &mut [u8]) {
    let mut at = 0;
    while let Some(block) = tar.get_mut(at..at + 512) {
        at += 512;
        if block.iter().all(|byte| *byte == 0) {
            continue;
        }
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        let digits = block[124..136].iter().take_while(|byte| matches!(byte, b'0'..=b'7'));
        let size = digits.fold(0_usize, |size, digit| size << 3 | usize::from(digit - b'0'));
        at = at.saturating_add(size.next_multiple_of(512));
    }
}

/// The reader alone: it ends, and gives no more than the archive holds.
fn look(tar: &[u8]) {
    let limits = Limits { entries: 1000, bytes: LONGEST };
    let mut reader = Reader::new(tar, limits);
    let mut total = 0;
    while let Ok(Some(entry)) = reader.next_entry() {
        assert!(entry.mode <= 0o7777);
        let mut data = Vec::new();
        let read = (&mut reader).take(LONGEST).read_to_end(&mut data);
        assert!(read.is_err() || data.len() as u64 == entry.size.min(LONGEST));
        total += data.len();
    }
    assert!(total <= tar.len());
    let _ = find_member(tar, "manifest.json", 1 << 20);
}
