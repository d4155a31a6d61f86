//! Compression in blocks of a fixed size, side by side: fast, and the same bytes whatever the
//! number of threads. Each block is a gzip member or a zstd frame of its own, which readers of
//! either format take as one stream. Data that does not shrink is stored.

use crate::{ArchiveError, Compression};
use std::io::{Read, Write};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Uncompressed bytes of a block.
const BLOCK: usize = 1 << 20;
/// Blocks a thread before anything is written: bounds the memory.
const AHEAD: usize = 4;

/// Compresses `source` into `sink` on `threads` threads. `go_on` is asked between blocks: an error
/// of it ends the work.
pub fn compress_blocks<R: Read, W: Write, E: From<ArchiveError>>(
    mut source: R,
    mut sink: W,
    form: Compression,
    threads: usize,
    mut go_on: impl FnMut() -> Result<(), E>,
) -> Result<W, E> {
    let threads = threads.max(1);
    let writing = |e| ArchiveError::stream("writing a compressed stream", e);
    let mut empty = true;
    loop {
        go_on()?;
        let blocks = read_blocks(&mut source, threads * AHEAD)?;
        let last = blocks.len() < threads * AHEAD;
        if blocks.is_empty() && !empty {
            return Ok(sink);
        }
        // Nothing at all is one empty block.
        let blocks = if blocks.is_empty() { vec![Vec::new()] } else { blocks };
        empty = false;
        for packed in side_by_side(&blocks, form, threads)? {
            sink.write_all(&packed).map_err(writing)?;
        }
        if last {
            return Ok(sink);
        }
    }
}

fn read_blocks(source: &mut impl Read, most: usize) -> Result<Vec<Vec<u8>>, ArchiveError> {
    let mut blocks = Vec::new();
    while blocks.len() < most {
        let mut block = Vec::with_capacity(BLOCK);
        let read = source.by_ref().take(BLOCK as u64).read_to_end(&mut block);
        read.map_err(|e| ArchiveError::stream("reading what is to be compressed", e))?;
        let short = block.len() < BLOCK;
        if !block.is_empty() {
            blocks.push(block);
        }
        if short {
            break;
        }
    }
    Ok(blocks)
}

type Packed = Result<Vec<u8>, ArchiveError>;

fn side_by_side(
    blocks: &[Vec<u8>],
    form: Compression,
    threads: usize,
) -> Result<Vec<Vec<u8>>, ArchiveError> {
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, Packed)>> = Mutex::new(Vec::with_capacity(blocks.len()));
    let work = || {
        let mut packer = Packer::new(form);
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(block) = blocks.get(at) else { return };
            let packed = packer.pack(block);
            done.lock().unwrap_or_else(PoisonError::into_inner).push((at, packed));
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.min(blocks.len()) {
            scope.spawn(work);
        }
        work();
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, packed)| packed).collect()
}

enum Packer {
    Plain,
    Gzip(Box<libdeflater::Compressor>),
    Zstd,
}

impl Packer {
    fn new(form: Compression) -> Self {
        match form {
            Compression::None => Self::Plain,
            Compression::Gzip => {
                // Its "fastest" stores; 1 is the fastest that compresses.
                let level = libdeflater::CompressionLvl::new(1).unwrap_or_default();
                Self::Gzip(Box::new(libdeflater::Compressor::new(level)))
            }
            Compression::Zstd => Self::Zstd,
        }
    }

    fn pack(&mut self, block: &[u8]) -> Packed {
        match self {
            Self::Plain => Ok(block.to_vec()),
            Self::Gzip(compressor) => {
                let mut out = vec![0; compressor.gzip_compress_bound(block.len())];
                let size = compressor.gzip_compress(block, &mut out).map_err(|e| {
                    let text = std::io::Error::other(e.to_string());
                    ArchiveError::stream("compressing a block", text)
                })?;
                out.truncate(size);
                Ok(out)
            }
            Self::Zstd => zstd::bulk::compress(block, 1)
                .map_err(|e| ArchiveError::stream("compressing a block", e)),
        }
    }
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
        let mut state = 1_u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        })
        .flatten()
        .take(3 * BLOCK)
        .collect();
        for form in [Compression::Gzip, Compression::Zstd] {
            assert!(pack(&noise, form, 2).len() < noise.len() + 3 * 256);
        }
    }

    #[test]
    fn the_work_can_be_given_up() {
        let mut left = 2;
        let given_up =
            compress_blocks(std::io::repeat(7), std::io::sink(), Compression::Gzip, 1, || {
                left -= 1;
                if left > 0 { Ok(()) } else { Err(ArchiveError::Unsupported("more".into())) }
            });
        assert!(given_up.is_err());
    }
}
