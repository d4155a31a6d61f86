//! System call filters: `linux.seccomp` compiled to classic BPF.
//!
//! The calls of an architecture are cut into ranges of one decision each, and the ranges searched
//! as a binary tree, so that a call costs about ten instructions and the kernel's own check of the
//! program stays cheap. Nothing here calls the kernel.

mod invalid;
mod kept;
mod tables;

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
enum Decision {
    Always(u32),
    When(Vec<(Vec<SeccompArg>, u32)>),
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
    let mut program = vec![load(4)];
    let mut at = 0;
    while at < abis.len() {
        let audit = abis[at].audit;
        let same = abis[at..].iter().take_while(|abi| abi.audit == audit).count();
        let mut block = vec![load(0)];
        if same > 1 {
            // One tree serves x86_64 and x32: below 512 a number means the same call in both.
            block.push(BpfInsn { code: AND, jt: 0, jf: 0, k: !X32_BIT });
        }
        block.append(&mut arch_tree(seccomp, &rules, &abis[at..at + same], default));
        program.push(jump(JEQ, audit, 1, 0));
        program.push(jump_always(block.len()));
        program.append(&mut block);
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
            let calls = rule.names.iter().filter_map(|name| tables::numbers(name)).collect();
            Ok(Known { action: known(rule)?, calls, args: &rule.args })
        })
        .collect()
}

/// What the rules say of each number of an architecture.
fn decisions(rules: &[Known<'_>], abi: &Abi, default: u32) -> Vec<Option<Decision>> {
    let mut table: Vec<Option<Decision>> = Vec::with_capacity(tables::END);
    table.resize(tables::END, None);
    for rule in rules {
        let numbers = rule.calls.iter().filter_map(|n| usize::try_from(n[abi.column]).ok());
        for number in numbers {
            let slot = &mut table[number];
            if rule.args.is_empty() {
                // A rule without conditions outweighs those with; the first of them stands.
                if !matches!(slot, Some(Decision::Always(_))) {
                    *slot = Some(Decision::Always(rule.action));
                }
            } else if rule.action != default {
                let new = (rule.args.to_vec(), rule.action);
                match slot {
                    Some(Decision::Always(_)) => {}
                    Some(Decision::When(list)) => list.push(new),
                    None => *slot = Some(Decision::When(vec![new])),
                }
            }
        }
    }
    table
}

/// First number of the calls that are x32's alone.
const X32_ONLY: u32 = 512;

/// The tree of one audit architecture: its calls, and on x86_64 those of x32, without their bit.
fn arch_tree(seccomp: &Seccomp, rules: &[Known<'_>], abis: &[Abi], default: u32) -> Vec<BpfInsn> {
    let permissive = matches!(
        seccomp.default_action,
        SeccompAction::Allow | SeccompAction::Log | SeccompAction::Trace
    );
    let mut ranges: Vec<(u32, Decision)> = Vec::new();
    let mut push = |from: u32, decision: Decision| {
        if ranges.last().is_none_or(|(_, last)| *last != decision) {
            ranges.push((from, decision));
        }
    };
    for abi in abis {
        let second = abi.audit == abis[0].audit && abi.column != abis[0].column;
        let first = if second { X32_ONLY } else { 0 };
        let mut next = first;
        push(next, Decision::Always(default));
        let table = decisions(rules, abi, default).into_iter().zip(0u32..);
        for (decision, number) in table.skip(first as usize) {
            let Some(decision) = decision else { continue };
            if number > next {
                push(next, Decision::Always(default));
            }
            push(number, decision);
            next = number + 1;
        }
        if next == first {
            continue;
        }
        // Calls newer than any that the profile names do not exist for its container, so that a
        // C library falls back instead of giving up.
        push(next, Decision::Always(if permissive { default } else { ENOSYS }));
    }
    if abis[0].audit == 0xc000_003e && abis.len() == 1 {
        // x32 was not asked for: its calls are those of a foreign architecture.
        push(X32_BIT, Decision::Always(KILL_THREAD));
    }
    let mut part = tree(&ranges, default);
    part.close();
    part.code
}

/// Code whose jumps to an answer are still open: place, whether it is the jump of "true", answer.
/// Answers are appended once for all of them, which halves a tree.
#[derive(Default)]
struct Part {
    code: Vec<BpfInsn>,
    open: Vec<(usize, bool, u32)>,
}

/// A jump reaches 255 instructions; what would grow beyond this gets its answers before.
const REACH: usize = 230;

impl Part {
    /// Most instructions that it has once closed.
    fn size(&self) -> usize {
        self.code.len() + self.open.len()
    }

    fn close(&mut self) {
        let mut answers: Vec<(u32, usize)> = Vec::new();
        for (at, when, verdict) in std::mem::take(&mut self.open) {
            let known = answers.iter().find(|(v, _)| *v == verdict).map(|(_, place)| *place);
            let place = known.unwrap_or_else(|| {
                self.code.push(ret(verdict));
                answers.push((verdict, self.code.len() - 1));
                self.code.len() - 1
            });
            let distance = (place - at - 1) as u8;
            if when {
                self.code[at].jt = distance;
            } else {
                self.code[at].jf = distance;
            }
        }
    }

    /// Answers the first instruction's jump right behind it: the others are far or closed.
    fn close_far(&mut self) {
        let (near, far): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.open).into_iter().partition(|(at, _, _)| *at == 0);
        self.open = far;
        if !self.open.is_empty() {
            self.close();
        }
        for (_, when, verdict) in near {
            self.code.insert(1, ret(verdict));
            let first = &mut self.code[0];
            (first.jt, first.jf) = if when { (0, first.jf + 1) } else { (first.jt + 1, 0) };
        }
    }

    fn append(&mut self, mut other: Self) {
        let shift = self.code.len();
        self.code.append(&mut other.code);
        self.open.extend(other.open.iter().map(|(at, when, v)| (at + shift, *when, *v)));
    }
}

fn tree(ranges: &[(u32, Decision)], default: u32) -> Part {
    if let [(_, decision)] = ranges {
        return Part { code: leaf(decision, default), open: Vec::new() };
    }
    let middle = ranges.len() / 2;
    let (below, above) = ranges.split_at(middle);
    let answer = |side: &[(u32, Decision)]| match side {
        [(_, Decision::Always(verdict))] => Some(*verdict),
        _ => None,
    };
    let mut part = Part { code: vec![jump(JGE, above[0].0, 0, 0)], open: Vec::new() };
    match (answer(below), answer(above)) {
        (Some(left), Some(right)) => part.open = vec![(0, true, right), (0, false, left)],
        (Some(left), None) => {
            part.open.push((0, false, left));
            part.append(tree(above, default));
        }
        (None, Some(right)) => {
            part.open.push((0, true, right));
            part.append(tree(below, default));
        }
        (None, None) => {
            let (mut left, mut right) = (tree(below, default), tree(above, default));
            if left.size() + right.size() > REACH {
                left.close();
                right.close();
            }
            if let Ok(length) = u8::try_from(left.code.len()) {
                part.code[0].jt = length;
            } else {
                part.code[0].jf = 1;
                part.code.push(jump_always(left.code.len()));
            }
            part.append(left);
            part.append(right);
        }
    }
    if part.size() > REACH {
        part.close_far();
    }
    part
}

fn leaf(decision: &Decision, default: u32) -> Vec<BpfInsn> {
    match decision {
        Decision::Always(verdict) => vec![ret(*verdict)],
        Decision::When(rules) => {
            let mut code = Vec::new();
            for (args, verdict) in rules {
                let mut rule: Vec<BpfInsn> = args.iter().flat_map(condition).collect();
                rule.push(ret(*verdict));
                let end = rule.len();
                for (at, insn) in rule.iter_mut().enumerate() {
                    let out = (end - at - 1) as u8;
                    if insn.code != RET {
                        insn.jt = if insn.jt == FAIL { out } else { insn.jt };
                        insn.jf = if insn.jf == FAIL { out } else { insn.jf };
                    }
                }
                code.append(&mut rule);
            }
            code.push(ret(default));
            code
        }
    }
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
