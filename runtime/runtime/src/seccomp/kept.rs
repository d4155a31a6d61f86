//! A compiled filter as bytes, so that `exec` need not compile the container's again.

use super::Filter;
use sys::privilege::BpfInsn;

/// Most instructions that the kernel takes.
const LONGEST: usize = 4096;

impl Filter {
    /// Flags, then the instructions, as this machine has them.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(8 * (self.program.len() + 1));
        bytes.extend_from_slice(&self.flags.to_ne_bytes());
        for insn in &self.program {
            bytes.extend_from_slice(&insn.code.to_ne_bytes());
            bytes.extend_from_slice(&[insn.jt, insn.jf]);
            bytes.extend_from_slice(&insn.k.to_ne_bytes());
        }
        bytes
    }

    /// The same read back; `None` when it is no filter, as after a write that broke off.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (flags, rest) = bytes.split_first_chunk()?;
        let (insns, []) = rest.as_chunks::<8>() else { return None };
        if insns.is_empty() || insns.len() > LONGEST {
            return None;
        }
        let program = insns.iter().map(|[a, b, jt, jf, k @ ..]| BpfInsn {
            code: u16::from_ne_bytes([*a, *b]),
            jt: *jt,
            jf: *jf,
            k: u32::from_ne_bytes(*k),
        });
        Some(Self { flags: u64::from_ne_bytes(*flags), program: program.collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_was_kept_is_the_same() {
        let seccomp = oci::runtime::Seccomp {
            default_action: oci::runtime::SeccompAction::Errno,
            ..oci::runtime::Seccomp::default()
        };
        let filter = super::super::compile(&seccomp).unwrap();
        let bytes = filter.to_bytes();
        assert_eq!(Filter::from_bytes(&bytes), Some(filter));
        assert_eq!(Filter::from_bytes(&bytes[..bytes.len() - 1]), None);
        assert_eq!(Filter::from_bytes(&bytes[..8]), None);
    }
}
