//! One 512-byte header block (POSIX ustar, V7, GNU, star) as plain fields. Extensions are not
//! interpreted here.

use super::Kind;
use crate::ArchiveError;

/// The unit of a tar stream.
pub(super) const BLOCK: usize = 512;

/// A header block's fields, checked but not yet combined with extension headers.
pub(super) struct Raw {
    pub(super) kind: u8,
    pub(super) path: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) size: u64,
    pub(super) mtime: i64,
    device: (u32, u32),
    /// The block itself, for the old sparse map.
    pub(super) block: Box<[u8; BLOCK]>,
}

impl Raw {
    /// Parses and verifies the checksum. `offset` is the position after the block, for messages.
    pub(super) fn parse(block: &[u8; BLOCK], offset: u64) -> Result<Self, ArchiveError> {
        let bad = |what: &str| ArchiveError::malformed(offset, what);
        let stored =
            number(&block[148..156]).ok_or_else(|| bad("a header's checksum is no number"))?;
        let sum = |signed: bool| -> i64 {
            let add = |acc: i64, (i, byte): (usize, &u8)| {
                let byte = if (148..156).contains(&i) { b' ' } else { *byte };
                acc + if signed { i64::from(byte as i8) } else { i64::from(byte) }
            };
            block.iter().enumerate().fold(0, add)
        };
        if stored != sum(false) && stored != sum(true) {
            return Err(bad(
                "a header's checksum is wrong: this is no tar archive, or it is damaged",
            ));
        }
        let field = |range: std::ops::Range<usize>, name: &str| {
            number(&block[range]).ok_or_else(|| bad(&format!("a header's {name} is no number")))
        };
        let id = |value: i64| u32::try_from(value).map_err(|_| bad("an owner id is out of range"));
        let kind = block[156];
        let ustar = &block[257..263] == b"ustar\0";
        let gnu = &block[257..265] == b"ustar  \0";
        let (major, minor) = if ustar || gnu {
            (field(329..337, "major")?, field(337..345, "minor")?)
        } else {
            (0, 0)
        };
        let device =
            |value: i64| u32::try_from(value).map_err(|_| bad("a device number is out of range"));
        let mut path = text(&block[..100]);
        if ustar {
            let star = &block[508..512] == b"tar\0";
            let prefix = text(&block[345..if star { 476 } else { 500 }]);
            if !prefix.is_empty() {
                path = [prefix, path].join(&b'/');
            }
        }
        Ok(Self {
            kind,
            path,
            link: text(&block[157..257]),
            mode: u32::try_from(field(100..108, "mode")? & 0o7777).unwrap_or(0),
            uid: id(field(108..116, "uid")?)?,
            gid: id(field(116..124, "gid")?)?,
            size: u64::try_from(field(124..136, "size")?)
                .map_err(|_| bad("an entry's size is negative"))?,
            mtime: field(136..148, "mtime")?,
            device: (device(major)?, device(minor)?),
            block: Box::new(*block),
        })
    }

    /// Whether the type is one that this reader understands.
    pub(super) fn known(&self) -> bool {
        matches!(self.kind, 0 | b'0'..=b'7' | b'S')
    }

    pub(super) fn entry_kind(&self) -> Kind {
        match self.kind {
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' => Kind::Char(self.device.0, self.device.1),
            b'4' => Kind::Block(self.device.0, self.device.1),
            b'5' => Kind::Dir,
            b'6' => Kind::Fifo,
            _ => Kind::File,
        }
    }
}

fn text(field: &[u8]) -> Vec<u8> {
    field.split(|byte| *byte == 0).next().unwrap_or_default().to_vec()
}

/// Octal text, or GNU's base 256 when the first bit is set.
pub(super) fn number(field: &[u8]) -> Option<i64> {
    let first = *field.first()?;
    if first & 0x80 != 0 {
        let negative = first & 0x40 != 0;
        let start: i128 = if negative { -1 } else { 0 };
        let mut value = (start << 6) | i128::from(first & 0x3f);
        for byte in &field[1..] {
            value = (value << 8) | i128::from(*byte);
            if i64::try_from(value).is_err() {
                return None;
            }
        }
        return i64::try_from(value).ok();
    }
    let trimmed: Vec<u8> =
        field.iter().copied().take_while(|byte| *byte != 0).filter(|byte| *byte != b' ').collect();
    if trimmed.is_empty() {
        // Some writers fill unused fields with NULs after spaces; an empty field is zero.
        return Some(0);
    }
    i64::from_str_radix(std::str::from_utf8(&trimmed).ok()?, 8).ok().filter(|value| *value >= 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_base_256() {
        assert_eq!(number(b"0000644\0"), Some(0o644));
        assert_eq!(number(b" 644 \0\0\0"), Some(0o644));
        assert_eq!(number(b"\0\0\0\0\0\0\0\0"), Some(0));
        assert_eq!(number(&[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]), Some(256));
        assert_eq!(number(&[0xff; 12]), Some(-1));
        assert_eq!(number(b"12x4567\0"), None);
        assert_eq!(
            number(&[0x80, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
            None
        );
    }
}
