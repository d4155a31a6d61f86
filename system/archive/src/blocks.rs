//! Compression in blocks of a fixed size, side by side: fast, and the same bytes whatever the
//! number of threads. Each block is a gzip member or a zstd frame of its own, which readers of
//! either format take as one stream. Data that does not shrink is stored.

use crate::{ArchiveError, Compression};
use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::Scope;

/// Uncompressed bytes of a block.
const BLOCK: usize = 1 << 20;
/// Blocks a thread that are read and not yet written: bounds the memory.
const AHEAD: usize = 4;
/// How much of a block, evenly spread over it, is looked at before all of it is compressed.
const SAMPLES: usize = 8;
const SAMPLE: usize = 16 << 10;

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
    Gzip { fast: libdeflater::Compressor, stored: libdeflater::Compressor },
    Zstd(zstd::bulk::Compressor<'static>),
}

impl Packer {
    fn new(form: Compression) -> Result<Self, ArchiveError> {
        let gzip = |level| {
            let level = libdeflater::CompressionLvl::new(level).unwrap_or_default();
            libdeflater::Compressor::new(level)
        };
        Ok(match form {
            Compression::None => Self::Plain,
            // 1 is the fastest that compresses.
            Compression::Gzip => Self::Gzip { fast: gzip(1), stored: gzip(0) },
            Compression::Zstd => Self::Zstd(zstd::bulk::Compressor::new(1).map_err(failed)?),
        })
    }

    fn pack(&mut self, block: &mut Block) -> Result<(), ArchiveError> {
        let data = &block.data[..block.len];
        let packed = &mut block.packed;
        let room = |packed: &mut Vec<u8>, bound: usize| {
            if packed.len() < bound {
                packed.resize(bound, 0);
            }
        };
        block.packed_len = match self {
            Self::Plain => {
                room(packed, data.len());
                packed[..data.len()].copy_from_slice(data);
                data.len()
            }
            Self::Gzip { fast, stored } => {
                room(
                    packed,
                    fast.gzip_compress_bound(BLOCK).max(stored.gzip_compress_bound(BLOCK)),
                );
                let by = if is_noise(data, fast, packed) { stored } else { fast };
                by.gzip_compress(data, packed).map_err(failed)?
            }
            Self::Zstd(compressor) => {
                room(packed, zstd::zstd_safe::compress_bound(BLOCK));
                compressor.compress_to_buffer(data, packed.as_mut_slice()).map_err(failed)?
            }
        };
        Ok(())
    }
}

/// Whether a block is not worth compressing: libdeflate looks at every byte of it all the same, and
/// is ten times as fast when it stores. Where bytes are not equally frequent there is no doubt;
/// where they are, samples are tried.
fn is_noise(block: &[u8], by: &mut libdeflater::Compressor, room: &mut [u8]) -> bool {
    if block.len() < SAMPLES * SAMPLE {
        return false;
    }
    let apart = (block.len() - SAMPLE) / (SAMPLES - 1);
    let samples = (0..SAMPLES).map(|n| &block[n * apart..][..SAMPLE]);
    let mut counts = [0_u32; 256];
    for byte in samples.clone().flatten() {
        counts[usize::from(*byte)] += 1;
    }
    // 512 each in the mean; of noise hardly any is 25 % off.
    let mean = (SAMPLES * SAMPLE / counts.len()) as u32;
    if counts.iter().any(|count| count.abs_diff(mean) > mean / 4) {
        return false;
    }
    let mut packed = 0;
    for sample in samples {
        match by.gzip_compress(sample, room) {
            Ok(size) => packed += size,
            Err(_) => return false,
        }
    }
    packed >= SAMPLES * SAMPLE
}

fn failed(e: impl std::fmt::Display) -> ArchiveError {
    ArchiveError::stream("compressing a block", io::Error::other(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Decompressor;

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
    fn what_only_looks_like_noise_is_compressed() {
        let noise = noise(BLOCK);
        // Every byte is as frequent as any other in each of them.
        let counted: Vec<u8> = (0..BLOCK).map(|n| (n % 256) as u8).collect();
        let repeated = noise[..8000].repeat(BLOCK / 8000);
        let half = [&noise[..BLOCK / 2], &vec![0; BLOCK / 2]].concat();
        for (data, most) in [(&counted, 0.1), (&repeated, 0.1), (&half, 0.6)] {
            let packed = pack(data, Compression::Gzip, 1).len() as f64;
            assert!(packed < data.len() as f64 * most, "{packed} of {}", data.len());
        }
    }

    fn noise(size: usize) -> Vec<u8> {
        let mut state = 1_u64;
        let words = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        });
        words.flatten().take(size).collect()
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
