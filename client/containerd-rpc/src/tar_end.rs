//! Where a tar ends. A stock containerd does not close the stream that it
//! exports an archive to, so the archive itself must say that it is whole.

/// Bytes of a tar's blocks.
const BLOCK: usize = 512;

/// Follows a tar, however it is cut, up to its two blocks of zeros.
#[derive(Debug)]
pub(crate) struct TarEnd {
    header: Vec<u8>,
    skip: u64,
    zeros: u8,
}

impl TarEnd {
    pub(crate) fn new() -> Self {
        Self { header: Vec::with_capacity(BLOCK), skip: 0, zeros: 0 }
    }

    /// Takes the next bytes; whether the end was among them.
    pub(crate) fn feed(&mut self, mut data: &[u8]) -> bool {
        while !data.is_empty() && self.zeros < 2 {
            if self.skip > 0 {
                let step = self.skip.min(data.len() as u64);
                self.skip -= step;
                data = &data[step as usize..];
                continue;
            }
            let take = (BLOCK - self.header.len()).min(data.len());
            self.header.extend_from_slice(&data[..take]);
            data = &data[take..];
            if self.header.len() == BLOCK {
                if self.header.iter().all(|b| *b == 0) {
                    self.zeros += 1;
                } else {
                    self.zeros = 0;
                    self.skip = size(&self.header[124..136]).next_multiple_of(BLOCK as u64);
                }
                self.header.clear();
            }
        }
        self.zeros >= 2
    }
}

/// A header's size field: octal digits, or a binary number for large files.
fn size(field: &[u8]) -> u64 {
    if field[0] & 0x80 != 0 {
        return field[4..].iter().fold(0, |n, b| (n << 8) | u64::from(*b));
    }
    let digits = field.iter().filter(|b| (b'0'..=b'7').contains(*b));
    digits.fold(0, |n, b| (n << 3) | u64::from(b - b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_found_however_the_archive_is_cut() {
        let mut tar = vec![0; BLOCK];
        tar[0] = b'f';
        tar[124..135].copy_from_slice(b"00000001001");
        // The content is zeros too: those are not the end.
        tar.extend_from_slice(&[0; 1024]);
        let content_ends = tar.len();
        tar.extend_from_slice(&[0; 1024]);
        for cut in [1, 7, 512, 5000] {
            let mut end = TarEnd::new();
            let mut seen = 0;
            let found = tar.chunks(cut).any(|part| {
                seen += part.len();
                end.feed(part)
            });
            assert!(found && seen > content_ends, "{cut}");
            assert_eq!(seen, tar.len(), "{cut}");
        }
    }
}
