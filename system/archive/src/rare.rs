//! bzip2 and xz: compressions that people give archives of images, and that no store has layers in.
//! Both decoders are Rust. Compressing in these forms must not live here.

use std::fmt;
use std::io::{BufReader, Read};

use bzip2::bufread::MultiBzDecoder;
use lzma_rust2::XzReader;

use crate::compress::BUFFER;

/// Memory that decoding xz may take, in KiB: a dictionary of 128 MiB, twice what `xz -9` uses, and
/// what the decoder itself needs.
const XZ_MEMORY: u32 = (128 << 10) + 1024;

/// A compression that archives of images may come in besides [`crate::Compression`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rare {
    /// Any number of streams, one after the other.
    Bzip2,
    /// The same; `.lzma` is not among them.
    Xz,
}

impl Rare {
    /// Bytes that suffice to tell.
    pub const HEAD: usize = 6;

    /// What the first bytes of a stream say.
    pub fn sniff(head: &[u8]) -> Option<Self> {
        if head.starts_with(b"BZh") {
            Some(Self::Bzip2)
        } else if head.starts_with(&[0xfd, b'7', b'z', b'X', b'Z', 0]) {
            Some(Self::Xz)
        } else {
            None
        }
    }

    /// Inflates a stream of this form. Refuses xz dictionaries beyond 128 MiB.
    pub fn decoder(self, source: impl Read + Send + 'static) -> Box<dyn Read + Send> {
        let source = BufReader::with_capacity(BUFFER, source);
        match self {
            Self::Bzip2 => Box::new(MultiBzDecoder::new(source)),
            Self::Xz => Box::new(XzReader::new_mem_limit(source, true, XZ_MEMORY)),
        }
    }
}

impl fmt::Display for Rare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bzip2 => "bzip2",
            Self::Xz => "xz",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `printf one | bzip2`, `printf two | xz`.
    const BZIP2: &[u8] = &[
        0x42, 0x5a, 0x68, 0x39, 0x31, 0x41, 0x59, 0x26, 0x53, 0x59, 0xbb, 0x70, 0x1b, 0x10, 0x00,
        0x00, 0x01, 0x01, 0x00, 0x02, 0x01, 0xa0, 0x00, 0x21, 0x98, 0x19, 0x81, 0x61, 0x77, 0x24,
        0x53, 0x85, 0x09, 0x0b, 0xb7, 0x01, 0xb1, 0x00,
    ];
    const XZ: &[u8] = &[
        0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00, 0x00, 0x04, 0xe6, 0xd6, 0xb4, 0x46, 0x02, 0x00, 0x21,
        0x01, 0x16, 0x00, 0x00, 0x00, 0x74, 0x2f, 0xe5, 0xa3, 0x01, 0x00, 0x02, 0x74, 0x77, 0x6f,
        0x00, 0x00, 0x5d, 0xd3, 0x79, 0x29, 0x75, 0x28, 0x52, 0x03, 0x00, 0x01, 0x1b, 0x03, 0x0b,
        0x2f, 0xb9, 0x10, 0x1f, 0xb6, 0xf3, 0x7d, 0x01, 0x00, 0x00, 0x00, 0x00, 0x04, 0x59, 0x5a,
    ];

    fn read(rare: Rare, bytes: Vec<u8>) -> std::io::Result<Vec<u8>> {
        let mut out = Vec::new();
        rare.decoder(std::io::Cursor::new(bytes)).read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn several_streams_are_one() {
        for (rare, stream, text) in [(Rare::Bzip2, BZIP2, "oneone"), (Rare::Xz, XZ, "twotwo")] {
            assert_eq!(Rare::sniff(stream), Some(rare));
            assert_eq!(read(rare, stream.repeat(2)).unwrap(), text.as_bytes());
        }
        assert_eq!(Rare::sniff(b"BZ"), None);
    }

    #[test]
    fn what_is_cut_or_damaged_is_refused() {
        for (rare, stream) in [(Rare::Bzip2, BZIP2), (Rare::Xz, XZ)] {
            for end in Rare::HEAD..stream.len() {
                assert!(read(rare, stream[..end].to_vec()).is_err(), "{rare:?} {end}");
            }
            let mut wrong = stream.to_vec();
            wrong[stream.len() / 2] ^= 1;
            assert!(read(rare, wrong).is_err(), "{rare:?}");
        }
    }

    #[test]
    fn a_dictionary_of_a_gigabyte_is_refused() {
        let mut wide = XZ.to_vec();
        // The block's header: size, flags, filter, length of its property, the dictionary's size.
        assert_eq!(wide[14..16], [0x21, 0x01]);
        wide[16] = 36;
        let crc = crc32(&wide[12..20]);
        wide[20..24].copy_from_slice(&crc.to_le_bytes());
        let error = read(Rare::Xz, wide).unwrap_err();
        assert!(error.to_string().contains("mem_limit"), "{error}");
    }

    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 * (crc & 1)))
        })
    }
}
