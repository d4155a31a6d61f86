//! gzip and zstd by their first bytes, never by a label: labels lie. Whole-buffer decoding and
//! any knowledge of media types must not live here.

use crate::ArchiveError;
use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;
use std::io::{self, BufReader, Cursor, Read, Write};
use std::sync::{Condvar, Mutex, PoisonError};

/// Size of the buffer between a source and its decoder.
pub(crate) const BUFFER: usize = 128 * 1024;
/// Bytes that suffice to tell compressions and the zstd window apart.
const HEAD: u64 = 18;
/// zstd windows above this are decoded one at a time.
const WIDE_WINDOW: u64 = 8 << 20;
/// zstd windows beyond 2^27 bytes (128 MiB) are refused.
const MAX_WINDOW_LOG: u32 = 27;

/// A compression of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Plain bytes.
    None,
    /// RFC 1952, any number of members.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl Compression {
    /// What the first bytes of a stream (six suffice) say. bzip2 and xz are recognised and refused.
    pub fn sniff(head: &[u8]) -> Result<Self, ArchiveError> {
        let is = |magic: &[u8]| head.starts_with(magic);
        if is(&[0x1f, 0x8b, 0x08]) {
            return Ok(Self::Gzip);
        }
        let skippable =
            head.len() >= 4 && head[0] & 0xf0 == 0x50 && head[1..4] == [0x2a, 0x4d, 0x18];
        if is(&[0x28, 0xb5, 0x2f, 0xfd]) || skippable {
            return Ok(Self::Zstd);
        }
        if is(b"BZh") {
            return Err(ArchiveError::Unsupported("bzip2 compression".into()));
        }
        if is(&[0xfd, b'7', b'z', b'X', b'Z', 0]) {
            return Err(ArchiveError::Unsupported("xz compression".into()));
        }
        Ok(Self::None)
    }
}

/// Bounds the number of decoders with a wide window to one.
static WIDE: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());

struct WideSlot;

impl WideSlot {
    fn take() -> Self {
        let mut taken = WIDE.0.lock().unwrap_or_else(PoisonError::into_inner);
        while *taken {
            taken = WIDE.1.wait(taken).unwrap_or_else(PoisonError::into_inner);
        }
        *taken = true;
        Self
    }
}

impl Drop for WideSlot {
    fn drop(&mut self) {
        *WIDE.0.lock().unwrap_or_else(PoisonError::into_inner) = false;
        WIDE.1.notify_one();
    }
}

/// The peeked head of a source, then the rest, behind a buffer.
type Source<R> = BufReader<io::Chain<Cursor<Vec<u8>>, R>>;

enum Inner<R: Read> {
    Plain(Source<R>),
    Gzip(Box<MultiGzDecoder<Source<R>>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, Source<R>>>, Option<WideSlot>),
}

/// Inflates whatever it is given, by the stream's first bytes.
pub struct Decompressor<R: Read> {
    inner: Inner<R>,
    compression: Compression,
}

impl<R: Read> Decompressor<R> {
    /// Sniffs `source` and decodes it. Refuses bzip2, xz, and zstd windows beyond 128 MiB by name.
    pub fn new(mut source: R) -> Result<Self, ArchiveError> {
        let mut head = Vec::with_capacity(HEAD as usize);
        let peeked = (&mut source).take(HEAD).read_to_end(&mut head);
        peeked.map_err(|e| ArchiveError::stream("reading the archive", e))?;
        let compression = Compression::sniff(&head)?;
        let window = if compression == Compression::Zstd { zstd_window(&head) } else { None };
        let source = BufReader::with_capacity(BUFFER, Cursor::new(head).chain(source));
        let inner = match compression {
            Compression::None => Inner::Plain(source),
            Compression::Gzip => Inner::Gzip(Box::new(MultiGzDecoder::new(source))),
            Compression::Zstd => {
                if window.is_some_and(|w| w > 1 << MAX_WINDOW_LOG) {
                    return Err(ArchiveError::Unsupported("a zstd window beyond 128 MiB".into()));
                }
                let slot = window.is_some_and(|w| w > WIDE_WINDOW).then(WideSlot::take);
                let failed = |e| ArchiveError::stream("preparing the zstd decoder", e);
                let mut decoder =
                    zstd::stream::read::Decoder::with_buffer(source).map_err(failed)?;
                decoder.window_log_max(MAX_WINDOW_LOG).map_err(failed)?;
                Inner::Zstd(Box::new(decoder), slot)
            }
        };
        Ok(Self { inner, compression })
    }

    /// What the stream turned out to be.
    pub fn compression(&self) -> Compression {
        self.compression
    }
}

impl<R: Read> Read for Decompressor<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match &mut self.inner {
            Inner::Plain(source) => source.read(buf),
            Inner::Gzip(decoder) => decoder.read(buf),
            Inner::Zstd(decoder, _slot) => decoder.read(buf),
        }
    }
}

/// The window of the first zstd frame (RFC 8878, 3.1.1.1), if the head shows one.
fn zstd_window(head: &[u8]) -> Option<u64> {
    let frame = head.strip_prefix(&[0x28, 0xb5, 0x2f, 0xfd])?;
    let descriptor = *frame.first()?;
    if descriptor & 0x20 == 0 {
        let window = *frame.get(1)?;
        let base = 1_u64 << (10 + (window >> 3));
        return Some(base + (base / 8) * u64::from(window & 7));
    }
    let skip = 1 + [0, 1, 2, 4][usize::from(descriptor & 3)];
    let size = [1, 2, 4, 8][usize::from(descriptor >> 6)];
    let field = frame.get(skip..skip + size)?;
    let value = field.iter().rev().fold(0_u64, |acc, byte| (acc << 8) | u64::from(*byte));
    Some(if size == 2 { value + 256 } else { value })
}

enum Sink<W: Write> {
    Plain(W),
    Gzip(GzEncoder<W>),
    Zstd(zstd::stream::write::Encoder<'static, W>),
}

/// Compresses deterministically: equal input gives equal output, no time or name in the header.
pub struct Compressor<W: Write>(Sink<W>);

impl<W: Write> Compressor<W> {
    /// A compressor onto `sink`. Levels favour speed: a layer is compressed once and read often,
    /// but nothing may wait ten seconds for the last percent.
    pub fn new(sink: W, compression: Compression) -> Result<Self, ArchiveError> {
        Ok(Self(match compression {
            Compression::None => Sink::Plain(sink),
            Compression::Gzip => Sink::Gzip(GzEncoder::new(sink, flate2::Compression::new(3))),
            Compression::Zstd => {
                let encoder = zstd::stream::write::Encoder::new(sink, 1);
                Sink::Zstd(
                    encoder.map_err(|e| ArchiveError::stream("preparing the zstd encoder", e))?,
                )
            }
        }))
    }

    /// Ends the stream and gives the sink back.
    pub fn finish(self) -> Result<W, ArchiveError> {
        let failed = |e| ArchiveError::stream("finishing the compressed stream", e);
        match self.0 {
            Sink::Plain(sink) => Ok(sink),
            Sink::Gzip(encoder) => encoder.finish().map_err(failed),
            Sink::Zstd(encoder) => encoder.finish().map_err(failed),
        }
    }
}

impl<W: Write> Write for Compressor<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Sink::Plain(sink) => sink.write(buf),
            Sink::Gzip(encoder) => encoder.write(buf),
            Sink::Zstd(encoder) => encoder.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.0 {
            Sink::Plain(sink) => sink.flush(),
            Sink::Gzip(encoder) => encoder.flush(),
            Sink::Zstd(encoder) => encoder.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(compression: Compression, data: &[u8]) -> Vec<u8> {
        let mut writer = Compressor::new(Vec::new(), compression).unwrap();
        writer.write_all(data).unwrap();
        let packed = writer.finish().unwrap();
        let mut reader = Decompressor::new(&packed[..]).unwrap();
        let mut out = Vec::new();
        reader.read_to_end(&mut out).unwrap();
        if !data.is_empty() {
            assert_eq!(reader.compression(), compression);
        }
        out
    }

    #[test]
    fn every_compression_gives_back_what_went_in() {
        let data: Vec<u8> = (0..300_000_u32).flat_map(|i| (i / 7).to_le_bytes()).collect();
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            assert_eq!(round(compression, &data), data);
            assert_eq!(round(compression, b""), b"");
        }
    }

    #[test]
    fn several_gzip_members_are_one_stream() {
        let member = |data: &[u8]| {
            let mut writer = Compressor::new(Vec::new(), Compression::Gzip).unwrap();
            writer.write_all(data).unwrap();
            writer.finish().unwrap()
        };
        let both = [member(b"one "), member(b"two")].concat();
        let mut out = String::new();
        Decompressor::new(&both[..]).unwrap().read_to_string(&mut out).unwrap();
        assert_eq!(out, "one two");
    }

    #[test]
    fn xz_and_bzip2_are_refused_by_name() {
        let text = |bytes: &[u8]| Decompressor::new(bytes).err().unwrap().to_string();
        assert_eq!(text(b"\xfd7zXZ\0rest"), "xz compression is not supported");
        assert_eq!(text(b"BZh91AY"), "bzip2 compression is not supported");
    }

    #[test]
    fn a_zstd_window_of_a_gigabyte_is_refused() {
        let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 20 << 3, 1, 0, 0];
        let error = Decompressor::new(&frame[..]).err().unwrap();
        assert!(error.to_string().contains("128 MiB"), "{error}");
    }
}
