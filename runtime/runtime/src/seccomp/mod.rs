//! System call filters: `linux.seccomp` compiled to classic BPF.
//!
//! The calls of an architecture are cut into ranges of one decision each, and the ranges searched
//! as a binary tree, so that a call costs about ten instructions and the kernel's own check of the
//! program stays cheap. Nothing here calls the kernel.

mod invalid;
mod kept;
mod tables;
mod tree;

pub use invalid::Invalid;
use oci::runtime::{Seccomp, SeccompAction, SeccompArg, SeccompOperator, SeccompRule};
use sys::privilege::BpfInsn;

/// A compiled filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// The program.
    pub program: Vec<BpfInsn>,
    /// Flags of seccomp(2), with `NEW_LISTENER` when some action is `Notify`.
    pub flags: u64,
}

impl Filter {
    /// Whether loading it gives a listener.
    pub fn has_listener(&self) -> bool {
        self.flags & NEW_LISTENER != 0
    }
}

/// Flags of seccomp(2) by their OCI names.
pub const FLAGS: [(&str, u64); 4] = [
    ("SECCOMP_FILTER_FLAG_TSYNC", 1),
    ("SECCOMP_FILTER_FLAG_LOG", 2),
    ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", 4),
    ("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", 32),
];
/// `SECCOMP_FILTER_FLAG_NEW_LISTENER`.
pub const NEW_LISTENER: u64 = 8;

/// Architectures known by name; those that this machine can't run need no code.
pub const ARCHITECTURES: [&str; 20] = [
    "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_ARM",
    "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_M68K",
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PARISC",
    "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_RISCV64",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_X32",
    "SCMP_ARCH_X86",
];

/// Instructions of Docker's profile, and some more.
const USUAL: usize = 320;
const X32_BIT: u32 = 0x4000_0000;
/// Return value: the call does not exist.
const ENOSYS: u32 = 0x0005_0026;
const KILL_THREAD: u32 = 0;

/// A column of the table and the audit number.
struct Abi {
    column: usize,
    audit: u32,
}

#[cfg(target_arch = "x86_64")]
fn abis(names: &[String]) -> Vec<Abi> {
    let has = |name: &str| names.iter().any(|n| n == name);
    let mut abis = vec![Abi { column: 0, audit: 0xc000_003e }];
    if has("SCMP_ARCH_X32") {
        abis.push(Abi { column: 2, audit: 0xc000_003e });
    }
    if has("SCMP_ARCH_X86") {
        abis.push(Abi { column: 1, audit: 0x4000_0003 });
    }
    abis
}

#[cfg(target_arch = "aarch64")]
fn abis(names: &[String]) -> Vec<Abi> {
    let mut abis = vec![Abi { column: 3, audit: 0xc000_00b7 }];
    if names.iter().any(|n| n == "SCMP_ARCH_ARM") {
        abis.push(Abi { column: 4, audit: 0x4000_0028 });
    }
    abis
}

/// What a call number leads to: always the same, or as its arguments are.
#[derive(Debug, Clone, PartialEq)]
enum Decision<'a> {
    Always(u32),
    When(Vec<(&'a [SeccompArg], u32)>),
}

fn verdict(action: SeccompAction, errno: Option<u32>) -> Result<u32, Invalid> {
    let data = errno.unwrap_or(1);
    Ok(match action {
        SeccompAction::Kill | SeccompAction::KillThread => KILL_THREAD,
        SeccompAction::KillProcess => 0x8000_0000,
        SeccompAction::Trap => 0x0003_0000,
        SeccompAction::Errno if data > 4095 => return Err(Invalid::Errno(data)),
        SeccompAction::Errno => 0x0005_0000 | data,
        SeccompAction::Trace if data > 0xffff => return Err(Invalid::Errno(data)),
        SeccompAction::Trace => 0x7ff0_0000 | data,
        SeccompAction::Allow => 0x7fff_0000,
        SeccompAction::Log => 0x7ffc_0000,
        SeccompAction::Notify => 0x7fc0_0000,
    })
}

fn check(seccomp: &Seccomp) -> Result<u64, Invalid> {
    let mut flags = 0;
    for name in &seccomp.flags {
        let known = FLAGS.iter().find(|(known, _)| known == name);
        flags |= known.ok_or_else(|| Invalid::Flag(name.clone()))?.1;
    }
    for name in &seccomp.architectures {
        if name != "SCMP_ARCH_X86_64" && !ARCHITECTURES.contains(&name.as_str()) {
            return Err(Invalid::Architecture(name.clone()));
        }
    }
    if seccomp.default_action == SeccompAction::Notify {
        return Err(Invalid::NotifyDefault);
    }
    let takes_errno = matches!(seccomp.default_action, SeccompAction::Errno | SeccompAction::Trace);
    if seccomp.default_errno_ret.is_some() && !takes_errno {
        return Err(Invalid::DefaultErrno(seccomp.default_action));
    }
    if !seccomp.listener_metadata.is_empty() && seccomp.listener_path.is_empty() {
        return Err(Invalid::Metadata);
    }
    for rule in &seccomp.syscalls {
        if rule.names.is_empty() {
            return Err(Invalid::NoNames);
        }
        let takes_errno = matches!(rule.action, SeccompAction::Errno | SeccompAction::Trace);
        if rule.errno_ret.is_some() && !takes_errno {
            return Err(Invalid::RuleErrno(rule.action));
        }
        if rule.action == SeccompAction::Notify {
            if rule.names.iter().any(|n| n == "write") {
                return Err(Invalid::NotifyWrite);
            }
            // One thread alone installs the filter, and TSYNC excludes a listener.
            flags = flags & !1 | NEW_LISTENER;
        }
        if let Some(arg) = rule.args.iter().find(|a| a.index > 5) {
            return Err(Invalid::Index(arg.index));
        }
    }
    Ok(flags)
}

/// Compiles a filter for this machine.
///
/// # Errors
/// When the specification is contradictory or the program too long.
pub fn compile(seccomp: &Seccomp) -> Result<Filter, Invalid> {
    let flags = check(seccomp)?;
    let default = verdict(seccomp.default_action, seccomp.default_errno_ret)?;
    let abis = abis(&seccomp.architectures);
    let rules = look_up(&seccomp.syscalls)?;
    let mut program = Vec::with_capacity(USUAL);
    program.push(load(4));
    let mut at = 0;
    while at < abis.len() {
        let audit = abis[at].audit;
        let same = abis[at..].iter().take_while(|abi| abi.audit == audit).count();
        program.push(jump(JEQ, audit, 1, 0));
        let other = program.len();
        program.push(jump_always(0));
        program.push(load(0));
        if same > 1 {
            // One tree serves x86_64 and x32: below 512 a number means the same call in both.
            program.push(BpfInsn { code: AND, jt: 0, jf: 0, k: !X32_BIT });
        }
        arch_tree(seccomp, &rules, &abis[at..at + same], default, &mut program);
        program[other] = jump_always(program.len() - other - 1);
        at += same;
    }
    program.push(ret(KILL_THREAD));
    if program.len() > 4096 {
        return Err(Invalid::TooLong(program.len()));
    }
    Ok(Filter { program, flags })
}

/// A rule with its calls looked up, once for all architectures.
struct Known<'a> {
    action: u32,
    calls: Vec<&'static [i16; 5]>,
    args: &'a [SeccompArg],
}

fn look_up(rules: &[SeccompRule]) -> Result<Vec<Known<'_>>, Invalid> {
    let known = |rule: &SeccompRule| verdict(rule.action, rule.errno_ret);
    rules
        .iter()
        .map(|rule| {
            let mut calls = Vec::with_capacity(rule.names.len());
            calls.extend(rule.names.iter().filter_map(|name| tables::numbers(name)));
            Ok(Known { action: known(rule)?, calls, args: &rule.args })
        })
        .collect()
}

/// What the rules say of each number of an architecture.
struct Decisions<'a> {
    /// By number: a place in `all`, or [`NONE`].
    table: [u16; tables::END],
    all: Vec<Decision<'a>>,
}

const NONE: u16 = u16::MAX;

impl<'a> Decisions<'a> {
    fn of(rules: &[Known<'a>], abi: &Abi, default: u32) -> Self {
        let mut decisions = Self { table: [NONE; tables::END], all: Vec::new() };
        for rule in rules {
            let numbers = rule.calls.iter().filter_map(|n| usize::try_from(n[abi.column]).ok());
            for number in numbers {
                decisions.add(number, rule, default);
            }
        }
        decisions
    }

    fn add(&mut self, number: usize, rule: &Known<'a>, default: u32) {
        let slot = self.table[number];
        let have = self.all.get_mut(usize::from(slot));
        if rule.args.is_empty() {
            // A rule without conditions outweighs those with; the first of them stands.
            if !matches!(have, Some(Decision::Always(_))) {
                self.table[number] = self.place_of(Decision::Always(rule.action));
            }
        } else if rule.action != default {
            match have {
                Some(Decision::Always(_)) => {}
                Some(Decision::When(list)) => list.push((rule.args, rule.action)),
                None => {
                    self.all.push(Decision::When(vec![(rule.args, rule.action)]));
                    self.table[number] = (self.all.len() - 1) as u16;
                }
            }
        }
    }

    /// The place of a decision that does not depend on arguments; there are few of those.
    fn place_of(&mut self, decision: Decision<'a>) -> u16 {
        let known = self.all.iter().position(|have| *have == decision);
        known.unwrap_or_else(|| {
            self.all.push(decision);
            self.all.len() - 1
        }) as u16
    }

    /// The numbers that some rule names, in order.
    fn named(&self, first: u32) -> impl Iterator<Item = (u32, &Decision<'a>)> {
        let table = self.table.iter().zip(0u32..).skip(first as usize);
        table.filter_map(|(place, number)| Some((number, self.all.get(usize::from(*place))?)))
    }
}

/// First number of the calls that are x32's alone.
const X32_ONLY: u32 = 512;

/// Appends the tree of one audit architecture: its calls, and on x86_64 those of x32, without their
/// bit.
fn arch_tree(
    seccomp: &Seccomp,
    rules: &[Known<'_>],
    abis: &[Abi],
    default: u32,
    program: &mut Vec<BpfInsn>,
) {
    let permissive = matches!(
        seccomp.default_action,
        SeccompAction::Allow | SeccompAction::Log | SeccompAction::Trace
    );
    let (usual, beyond) = (Decision::Always(default), Decision::Always(ENOSYS));
    let foreign = Decision::Always(KILL_THREAD);
    let tables: Vec<_> = abis.iter().map(|abi| Decisions::of(rules, abi, default)).collect();
    let mut ranges: Vec<(u32, &Decision<'_>)> = Vec::with_capacity(256);
    let mut push = |from: u32, decision| {
        if ranges.last().is_none_or(|(_, last)| *last != decision) {
            ranges.push((from, decision));
        }
    };
    for (table, abi) in tables.iter().zip(abis) {
        let second = abi.audit == abis[0].audit && abi.column != abis[0].column;
        let first = if second { X32_ONLY } else { 0 };
        let mut next = first;
        push(next, &usual);
        for (number, decision) in table.named(first) {
            if number > next {
                push(next, &usual);
            }
            push(number, decision);
            next = number + 1;
        }
        if next == first {
            continue;
        }
        // Calls newer than any that the profile names do not exist for its container, so that a
        // C library falls back instead of giving up.
        push(next, if permissive { &usual } else { &beyond });
    }
    if abis[0].audit == 0xc000_003e && abis.len() == 1 {
        // x32 was not asked for: its calls are those of a foreign architecture.
        push(X32_BIT, &foreign);
    }
    tree::append(program, &ranges, default);
}

const LOAD: u16 = 0x20;
const JEQ: u16 = 0x15;
const JGT: u16 = 0x25;
const JGE: u16 = 0x35;
const JA: u16 = 0x05;
const AND: u16 = 0x54;
const RET: u16 = 0x06;
/// A jump out of the rule, still to be filled in. Rules are shorter: six conditions of six
/// instructions each.
const FAIL: u8 = u8::MAX;

fn load(offset: u32) -> BpfInsn {
    BpfInsn { code: LOAD, jt: 0, jf: 0, k: offset }
}

fn jump(code: u16, k: u32, jt: u8, jf: u8) -> BpfInsn {
    BpfInsn { code, jt, jf, k }
}

fn jump_always(distance: usize) -> BpfInsn {
    BpfInsn { code: JA, jt: 0, jf: 0, k: distance as u32 }
}

fn ret(k: u32) -> BpfInsn {
    BpfInsn { code: RET, jt: 0, jf: 0, k }
}

/// One comparison of a 64-bit argument, in two halves: falls through when it holds.
fn condition(arg: &SeccompArg) -> Vec<BpfInsn> {
    let (low, high) = (16 + 8 * arg.index, 20 + 8 * arg.index);
    let (vl, vh) = (arg.value as u32, (arg.value >> 32) as u32);
    let and = |k| BpfInsn { code: AND, jt: 0, jf: 0, k };
    match arg.op {
        SeccompOperator::Equal => {
            vec![load(high), jump(JEQ, vh, 0, FAIL), load(low), jump(JEQ, vl, 0, FAIL)]
        }
        SeccompOperator::NotEqual => {
            vec![load(high), jump(JEQ, vh, 0, 2), load(low), jump(JEQ, vl, FAIL, 0)]
        }
        SeccompOperator::MaskedEqual => {
            let (dl, dh) = (arg.value_two as u32, (arg.value_two >> 32) as u32);
            vec![
                load(high),
                and(vh),
                jump(JEQ, dh, 0, FAIL),
                load(low),
                and(vl),
                jump(JEQ, dl, 0, FAIL),
            ]
        }
        SeccompOperator::Greater | SeccompOperator::GreaterOrEqual => {
            let last = if arg.op == SeccompOperator::Greater { JGT } else { JGE };
            vec![
                load(high),
                jump(JGT, vh, 3, 0),
                jump(JEQ, vh, 0, FAIL),
                load(low),
                jump(last, vl, 0, FAIL),
            ]
        }
        SeccompOperator::Less | SeccompOperator::LessOrEqual => {
            let last = if arg.op == SeccompOperator::Less { JGE } else { JGT };
            vec![
                load(high),
                jump(JGT, vh, FAIL, 0),
                jump(JEQ, vh, 0, 2),
                load(low),
                jump(last, vl, FAIL, 0),
            ]
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
