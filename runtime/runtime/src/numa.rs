//! Lists of processors and memory nodes, and the memory policy.

use crate::error::{At, Error, Result};
use oci::runtime::MemoryPolicy;

/// Highest processor or node number that is taken.
const LIMIT: usize = 8192;

/// `0-3,7` as a bit mask.
///
/// # Errors
/// When it is no such list.
pub(crate) fn mask(text: &str) -> Result<Vec<u64>> {
    let wrong = || Error::Spec(format!("invalid list {text:?}"));
    let mut words = Vec::new();
    for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |s: &str| s.trim().parse::<usize>().map_err(|_| wrong());
        let (first, last) = (number(first)?, number(last)?);
        if first > last || last >= LIMIT {
            return Err(wrong());
        }
        for bit in first..=last {
            if words.len() <= bit / 64 {
                words.resize(bit / 64 + 1, 0);
            }
            words[bit / 64] |= 1u64 << (bit % 64);
        }
    }
    Ok(words)
}

/// Modes by number.
pub(crate) const MODES: [&str; 7] = [
    "MPOL_DEFAULT",
    "MPOL_PREFERRED",
    "MPOL_BIND",
    "MPOL_INTERLEAVE",
    "MPOL_LOCAL",
    "MPOL_PREFERRED_MANY",
    "MPOL_WEIGHTED_INTERLEAVE",
];
/// Flags with their bits.
pub(crate) const FLAGS: [(&str, i32); 3] = [
    ("MPOL_F_NUMA_BALANCING", 1 << 13),
    ("MPOL_F_RELATIVE_NODES", 1 << 14),
    ("MPOL_F_STATIC_NODES", 1 << 15),
];

/// Sets the memory policy of the calling process.
///
/// # Errors
/// When the policy makes no sense or the kernel refuses it.
pub(crate) fn apply(policy: Option<&MemoryPolicy>) -> Result<()> {
    let Some(policy) = policy else { return Ok(()) };
    let mode = MODES.iter().position(|m| *m == policy.mode);
    let mode =
        mode.ok_or_else(|| Error::Spec(format!("invalid memory policy mode {:?}", policy.mode)))?;
    let mut bits = mode as i32;
    for flag in &policy.flags {
        let found = FLAGS.iter().find(|(name, _)| name == flag);
        bits |= found.ok_or_else(|| Error::Spec(format!("invalid memory policy flag {flag:?}")))?.1;
    }
    sys::privilege::set_memory_policy(bits, &mask(&policy.nodes)?).at(|| "set_mempolicy".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_become_masks() {
        assert_eq!(mask("0-1,5").unwrap(), [0b10_0011]);
        assert_eq!(mask("64").unwrap(), [0, 1]);
        assert!(mask("3-1").is_err() && mask("x").is_err() && mask("99999999").is_err());
    }
}
