//! Any filter: compiled to a program that the kernel takes, or refused.

#![no_main]

use libfuzzer_sys::fuzz_target;
use oci::runtime::{Spec, from_json};

/// Most instructions the kernel takes.
const LONGEST: usize = 4096;
const JUMP: u16 = 0x05;
const RETURN: u16 = 0x06;
const CLASS: u16 = 0x07;

fuzz_target!(|bytes: &[u8]| {
    let text = [b"{\"ociVersion\":\"1.0.0\",\"linux\":{\"seccomp\":", bytes, b"}}"].concat();
    let Ok(spec) = from_json::<Spec>(&text) else { return };
    let Some(seccomp) = spec.linux.and_then(|linux| linux.seccomp) else { return };
    let Ok(filter) = runtime::seccomp::compile(&seccomp) else { return };
    let program = filter.program;
    assert!((1..=LONGEST).contains(&program.len()));
    for (at, insn) in program.iter().enumerate() {
        let targets = match insn.code & CLASS {
            RETURN => vec![],
            JUMP if insn.code == JUMP => vec![at + 1 + insn.k as usize],
            JUMP => vec![at + 1 + insn.jt as usize, at + 1 + insn.jf as usize],
            _ => vec![at + 1],
        };
        assert!(
            targets.iter().all(|to| *to < program.len()),
            "{at} of {} leads out",
            program.len()
        );
    }
});
