//! Compression in blocks of a fixed size, side by side: fast, and the same bytes whatever the
//! number of threads. Each block is a zstd frame or gzip members of its own, which readers of either
//! format take as one stream. Data that does not shrink is stored.

use crate::noise::Detector;
use crate::{ArchiveError, Compression};
use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::Scope;

/// Uncompressed bytes of a block.
const BLOCK: usize = 1 << 20;
/// Blocks a thread that are read and not yet written: bounds the memory.
const AHEAD: usize = 4;

/// Compresses `source` into `sink` on `threads` threads, while this one reads and writes. `go_on`
/// is asked between blocks: an error of it ends the work.
pub fn compress_blocks<R: Read, W: Write, E: From<ArchiveError>>(
    mut source: R,
    mut sink: W,
    form: Compression,
    threads: usize,
    mut go_on: impl FnMut() -> Result<(), E>,
) -> Result<W, E> {
    let threads = threads.max(1);
    std::thread::scope(|scope| {
        let lanes = (0..threads).map(|_| Lane::open(scope, form));
        let lanes = lanes.collect::<Result<Vec<_>, _>>()?;
        let mut spare = Vec::new();
        // Blocks go to the lanes in turn, and so come back in order.
        let (mut given, mut taken) = (0, 0);
        loop {
            go_on()?;
            let mut block = spare.pop().unwrap_or_else(Block::new);
            let ended = block.fill(&mut source)?;
            // Nothing at all is one empty block.
            if block.len > 0 || given == 0 {
                lanes[given % threads].give(block)?;
                given += 1;
            }
            while taken < given && (ended || given - taken == threads * AHEAD) {
                let block = lanes[taken % threads].take()?;
                let written = sink.write_all(&block.packed[..block.packed_len]);
                written.map_err(|e| ArchiveError::stream("writing a compressed stream", e))?;
                spare.push(block);
                taken += 1;
            }
            if ended {
                return Ok(sink);
            }
        }
    })
}

/// One block on its way; its memory is used again for a later one.
struct Block {
    data: Vec<u8>,
    len: usize,
    packed: Vec<u8>,
    packed_len: usize,
}

impl Block {
    fn new() -> Self {
        Self { data: vec![0; BLOCK], len: 0, packed: Vec::new(), packed_len: 0 }
    }

    /// Reads the next bytes; whether they are the last.
    fn fill(&mut self, source: &mut impl Read) -> Result<bool, ArchiveError> {
        self.len = 0;
        while self.len < BLOCK {
            match source.read(&mut self.data[self.len..]) {
                Ok(0) => return Ok(true),
                Ok(n) => self.len += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(ArchiveError::stream("reading what is to be compressed", e)),
            }
        }
        Ok(false)
    }
}

type Done = Result<Block, ArchiveError>;

/// A thread that compresses one block after the other, and ends with this.
struct Lane {
    to: Sender<Block>,
    from: Receiver<Done>,
}

impl Lane {
    fn open<'scope>(
        scope: &'scope Scope<'scope, '_>,
        form: Compression,
    ) -> Result<Self, ArchiveError> {
        let (to, blocks) = channel::<Block>();
        let (done, from) = channel();
        let mut packer = Packer::new(form)?;
        scope.spawn(move || {
            for mut block in blocks {
                let packed = packer.pack(&mut block).map(|()| block);
                if done.send(packed).is_err() {
                    return;
                }
            }
        });
        Ok(Self { to, from })
    }

    fn give(&self, block: Block) -> Result<(), ArchiveError> {
        self.to.send(block).map_err(|_| gone())
    }

    fn take(&self) -> Done {
        self.from.recv().map_err(|_| gone())?
    }
}

fn gone() -> ArchiveError {
    ArchiveError::stream("compressing a block", io::Error::other("a thread ended"))
}

enum Packer {
    Plain,
    Gzip(Deflate),
    Zstd(zstd::bulk::Compressor<'static>),
}

impl Packer {
    fn new(form: Compression) -> Result<Self, ArchiveError> {
        Ok(match form {
            Compression::None => Self::Plain,
            Compression::Gzip => Self::Gzip(Deflate::new()),
            Compression::Zstd => Self::Zstd(zstd::bulk::Compressor::new(1).map_err(failed)?),
        })
    }

    fn pack(&mut self, block: &mut Block) -> Result<(), ArchiveError> {
        let data = &block.data[..block.len];
        let packed = &mut block.packed;
        block.packed_len = match self {
            Self::Plain => {
                room(packed, data.len());
                packed[..data.len()].copy_from_slice(data);
                data.len()
            }
            Self::Gzip(deflate) => deflate.pack(data, packed)?,
            Self::Zstd(compressor) => {
                room(packed, zstd::zstd_safe::compress_bound(BLOCK));
                compressor.compress_to_buffer(data, packed.as_mut_slice()).map_err(failed)?
            }
        };
        Ok(())
    }
}

/// Makes room for so many bytes.
fn room(packed: &mut Vec<u8>, bound: usize) {
    if packed.len() < bound {
        packed.resize(bound, 0);
    }
}

/// Gzip, in which noise is stored.
struct Deflate {
    fast: libdeflater::Compressor,
    stored: libdeflater::Compressor,
    noise: Detector,
}

impl Deflate {
    fn new() -> Self {
        let of = |level| {
            let level = libdeflater::CompressionLvl::new(level).unwrap_or_default();
            libdeflater::Compressor::new(level)
        };
        // 1 is the fastest that compresses.
        Self { fast: of(1), stored: of(0), noise: Detector::new() }
    }

    /// Packs a block as one member for each of its parts; how long they are together.
    fn pack(&mut self, data: &[u8], packed: &mut Vec<u8>) -> Result<usize, ArchiveError> {
        let mut at = 0;
        for part in self.noise.parts(data) {
            let by = if part.is_noise { &mut self.stored } else { &mut self.fast };
            room(packed, at + by.gzip_compress_bound(part.range.len()));
            at += by.gzip_compress(&data[part.range], &mut packed[at..]).map_err(failed)?;
        }
        Ok(at)
    }
}

fn failed(e: impl std::fmt::Display) -> ArchiveError {
    ArchiveError::stream("compressing a block", io::Error::other(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Decompressor;
    use crate::noise::tests::noise;

    fn pack(data: &[u8], form: Compression, threads: usize) -> Vec<u8> {
        let go_on = || Ok::<(), ArchiveError>(());
        compress_blocks(data, Vec::new(), form, threads, go_on).unwrap()
    }

    #[test]
    fn the_bytes_do_not_depend_on_the_threads_and_give_back_what_went_in() {
        let text: Vec<u8> = (0..1_500_000_u32).flat_map(|i| (i / 5).to_le_bytes()).collect();
        for size in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, text.len()] {
            let data = &text[..size];
            for form in [Compression::Gzip, Compression::Zstd] {
                let packed = pack(data, form, 1);
                for threads in [2, 3] {
                    assert!(pack(data, form, threads) == packed, "{form:?} {size} {threads}");
                }
                assert!(packed.len() < size / 2 + 64, "{form:?} {size} {}", packed.len());
                let mut reader = Decompressor::new(&packed[..]).unwrap();
                assert_eq!(reader.compression(), form);
                let mut back = Vec::new();
                reader.read_to_end(&mut back).unwrap();
                assert!(back == data, "{form:?} {size}");
            }
        }
    }

    #[test]
    fn noise_grows_by_little() {
        let noise = noise(3 * BLOCK);
        for form in [Compression::Gzip, Compression::Zstd] {
            assert!(pack(&noise, form, 2).len() < noise.len() + 3 * 256);
        }
    }

    #[test]
    fn noise_among_other_things_is_stored_and_all_of_it_comes_back() {
        let noise = noise(BLOCK);
        let text = b"all work and no play ".repeat(3000);
        let data = [&noise[..200_000], &text, &noise[..100_000], &text, &noise[..500_000]].concat();
        for form in [Compression::Gzip, Compression::Zstd] {
            let packed = pack(&data, form, 2);
            assert!(packed.len() < 200_000 + 100_000 + 500_000 + 8000, "{form:?} {}", packed.len());
            let mut back = Vec::new();
            Decompressor::new(&packed[..]).unwrap().read_to_end(&mut back).unwrap();
            assert!(back == data, "{form:?}");
        }
    }

    #[test]
    fn the_work_can_be_given_up() {
        let mut left = 2;
        let given_up = compress_blocks(io::repeat(7), io::sink(), Compression::Gzip, 1, || {
            left -= 1;
            if left > 0 { Ok(()) } else { Err(ArchiveError::Unsupported("more".into())) }
        });
        assert!(given_up.is_err());
    }
}
