//! What is not worth compressing: files that are compressed already, keys, pictures. libdeflate
//! looks at every byte of it all the same, and is ten times as fast when it stores.
//!
//! Noise is known by two things: all bytes are equally frequent, and nothing comes twice.

use std::ops::Range;

/// Bytes that are judged together.
const SEGMENT: usize = 8 << 10;
/// What is looked at first: nearly all that is no noise shows it there.
const GLANCE: usize = 1 << 10;
/// Places of a segment, evenly spread over it, where repetitions are looked for.
const PLACES: usize = 8;
/// Between positions that are remembered. As many next to each other are looked up, so that one of
/// them meets a repetition whatever its distance.
const STRIDE: usize = 8;
/// Room for twice the positions of deflate's window, so that few of them push each other out.
const REMEMBERED: usize = 2 * (32 << 10) / STRIDE;

/// A part of a block, all of it noise or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) range: Range<usize>,
    pub(crate) is_noise: bool,
}

/// Tells noise from the rest.
pub(crate) struct Detector {
    /// Words that came, by their hash.
    seen: Vec<u64>,
}

impl Detector {
    pub(crate) fn new() -> Self {
        Self { seen: vec![0; REMEMBERED] }
    }

    /// A block in parts, of which no two that follow each other are alike. A block without bytes is
    /// one part.
    pub(crate) fn parts(&mut self, block: &[u8]) -> Vec<Part> {
        self.seen.fill(0);
        let mut parts: Vec<Part> = Vec::new();
        let mut at = 0;
        for segment in block.chunks(SEGMENT) {
            let range = at..at + segment.len();
            at = range.end;
            let is_noise = self.is_noise(segment);
            match parts.last_mut() {
                Some(part) if part.is_noise == is_noise => part.range.end = range.end,
                _ => parts.push(Part { range, is_noise }),
            }
        }
        if parts.is_empty() {
            parts.push(Part { range: 0..0, is_noise: false });
        }
        parts
    }

    fn is_noise(&mut self, segment: &[u8]) -> bool {
        // Less says too little.
        segment.len() == SEGMENT
            && is_even(&segment[..GLANCE])
            && is_even(segment)
            && !self.repeats(segment)
    }

    /// Whether something in a segment was in those before or further ahead in this one.
    fn repeats(&mut self, segment: &[u8]) -> bool {
        // Positions are multiples of the stride in all of a segment.
        const APART: usize = SEGMENT / PLACES;
        const { assert!(APART.is_multiple_of(STRIDE)) };
        let mut repeats = false;
        for part in segment.chunks_exact(APART) {
            let words = || part.windows(size_of::<u64>()).map(word);
            repeats |= words().take(STRIDE).any(|word| self.seen[slot(word)] == word);
            for word in words().step_by(STRIDE) {
                self.seen[slot(word)] = word;
            }
        }
        repeats
    }
}

fn word(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

fn slot(word: u64) -> usize {
    /// 2^64 by the golden ratio.
    const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
    (word.wrapping_mul(SPREAD) >> (u64::BITS - REMEMBERED.ilog2())) as usize
}

/// Whether all bytes are equally frequent, by Pearson's chi-squared test: noise is at 255 ± 23.
/// What compressors made is a little less even; what is let pass would shrink by 1 % at most.
fn is_even(bytes: &[u8]) -> bool {
    // Four counts each, so that equal bytes in a row need not wait for each other.
    let mut counts = [[0_u32; 256]; 4];
    for four in bytes.chunks_exact(4) {
        for (counts, byte) in counts.iter_mut().zip(four) {
            counts[usize::from(*byte)] += 1;
        }
    }
    let of = |byte: usize| counts.iter().map(|counts| u64::from(counts[byte])).sum::<u64>();
    let squares: u64 = (0..256).map(|byte| of(byte).pow(2)).sum();
    let count = bytes.len() as u64;
    // 256 * squares / count - count is chi-squared.
    256 * squares <= count * (count + 400 + count / 10)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Bytes without a pattern, the same each time.
    pub(crate) fn noise(size: usize) -> Vec<u8> {
        let mut state = 1_u64;
        let words = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        });
        words.flatten().take(size).collect()
    }

    const WORDS: &str = include_str!("noise.rs");

    fn parts(block: &[u8]) -> Vec<(usize, bool)> {
        let parts = Detector::new().parts(block);
        assert!(parts.windows(2).all(|two| two[0].range.end == two[1].range.start));
        assert_eq!(parts.last().map(|part| part.range.end), Some(block.len()));
        parts.into_iter().map(|part| (part.range.start, part.is_noise)).collect()
    }

    #[test]
    fn noise_is_found_between_other_things() {
        let text = b"all work and no play ".repeat(2000);
        let noise_of = noise(7 * SEGMENT);
        let (first, second) = noise_of.split_at(5 * SEGMENT);
        let block = [first, &text[..3 * SEGMENT], second].concat();
        assert_eq!(parts(&block), [(0, true), (5 * SEGMENT, false), (8 * SEGMENT, true)]);
        assert_eq!(parts(&noise(SEGMENT - 1)), [(0, false)]);
        assert_eq!(parts(b""), [(0, false)]);
    }

    #[test]
    fn what_was_compressed_is_noise() {
        // Words of a language in no order.
        let word = |n: &[u8]| format!("{}{} ", &WORDS[usize::from(n[0])..][..5], n[1] / 8);
        let text: Vec<u8> =
            noise(400_000).chunks_exact(2).flat_map(|n| word(n).into_bytes()).collect();
        let level = libdeflater::CompressionLvl::new(6).unwrap();
        let mut compressor = libdeflater::Compressor::new(level);
        let mut packed = vec![0; text.len()];
        let size = compressor.gzip_compress(&text, &mut packed).unwrap();
        let found = Detector::new().parts(&packed[..size]);
        let noise: usize = found.iter().filter(|p| p.is_noise).map(|p| p.range.len()).sum();
        assert!(noise * 10 > size * 9, "{noise} of {size}");
    }

    #[test]
    fn what_only_looks_like_noise_is_none() {
        // Every byte is as frequent as any other in each of them.
        let counted: Vec<u8> = (0..4 * SEGMENT).map(|n| (n % 256) as u8).collect();
        assert_eq!(parts(&counted), [(0, false)]);
        for period in [300, 5000, 8000, 8192, 20_000, 31_000] {
            let repeated = noise(period).repeat(20);
            let fresh = period.next_multiple_of(SEGMENT);
            let found = Detector::new().parts(&repeated);
            let wrong: usize = found
                .iter()
                .filter(|part| part.is_noise)
                .map(|part| part.range.end.saturating_sub(fresh.max(part.range.start)))
                .sum();
            assert_eq!(wrong, 0, "period {period}: {found:?}");
        }
    }
}
