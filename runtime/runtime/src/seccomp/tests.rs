//! The compiler against a simulated kernel: what a program answers must be what the rules say.

use super::*;
use proptest::prelude::*;

const X86_64: u32 = 0xc000_003e;
const I386: u32 = 0x4000_0003;
const ALLOW: u32 = 0x7fff_0000;

/// Runs a filter as the kernel does.
fn run(program: &[BpfInsn], arch: u32, number: u32, args: [u64; 6]) -> u32 {
    let word = |offset: u32| match offset {
        0 => number,
        4 => arch,
        16.. => {
            let arg = args[(offset as usize - 16) / 8];
            if offset.is_multiple_of(8) { arg as u32 } else { (arg >> 32) as u32 }
        }
        other => panic!("load of {other}"),
    };
    let (mut a, mut at) = (0u32, 0usize);
    loop {
        let insn = program[at];
        at += 1;
        let jump = |yes: bool| usize::from(if yes { insn.jt } else { insn.jf });
        match insn.code {
            LOAD => a = word(insn.k),
            AND => a &= insn.k,
            JA => at += insn.k as usize,
            JEQ => at += jump(a == insn.k),
            JGT => at += jump(a > insn.k),
            JGE => at += jump(a >= insn.k),
            RET => return insn.k,
            other => panic!("operation {other:#x}"),
        }
    }
}

fn holds(arg: &SeccompArg, args: [u64; 6]) -> bool {
    let have = args[arg.index as usize];
    match arg.op {
        SeccompOperator::NotEqual => have != arg.value,
        SeccompOperator::Less => have < arg.value,
        SeccompOperator::LessOrEqual => have <= arg.value,
        SeccompOperator::Equal => have == arg.value,
        SeccompOperator::GreaterOrEqual => have >= arg.value,
        SeccompOperator::Greater => have > arg.value,
        SeccompOperator::MaskedEqual => have & arg.value == arg.value_two,
    }
}

fn rule(names: &[&str], action: SeccompAction, args: Vec<SeccompArg>) -> SeccompRule {
    let names = names.iter().map(|n| (*n).to_owned()).collect();
    SeccompRule { names, action, errno_ret: None, args }
}

fn profile(syscalls: Vec<SeccompRule>) -> Seccomp {
    Seccomp { default_action: SeccompAction::Errno, syscalls, ..Seccomp::default() }
}

#[test]
fn calls_newer_than_the_profile_do_not_exist() {
    let filter = compile(&profile(vec![rule(&["read", "close"], SeccompAction::Allow, vec![])]));
    let program = filter.unwrap().program;
    assert_eq!(run(&program, X86_64, 0, [0; 6]), ALLOW);
    assert_eq!(run(&program, X86_64, 1, [0; 6]), 0x0005_0001);
    assert_eq!(run(&program, X86_64, 400, [0; 6]), ENOSYS);
    assert_eq!(run(&program, X86_64, X32_BIT, [0; 6]), KILL_THREAD);
    assert_eq!(run(&program, I386, 3, [0; 6]), KILL_THREAD);
}

#[test]
fn sub_architectures_have_their_own_numbers() {
    let mut seccomp = profile(vec![rule(&["execve"], SeccompAction::Allow, vec![])]);
    seccomp.architectures = vec!["SCMP_ARCH_X86".into(), "SCMP_ARCH_X32".into()];
    let program = compile(&seccomp).unwrap().program;
    assert_eq!(run(&program, X86_64, 59, [0; 6]), ALLOW);
    assert_eq!(run(&program, X86_64, X32_BIT + 520, [0; 6]), ALLOW);
    assert_eq!(run(&program, I386, 11, [0; 6]), ALLOW);
    assert_ne!(run(&program, I386, 59, [0; 6]), ALLOW);
}

#[test]
fn notify_of_write_is_refused() {
    let seccomp = profile(vec![rule(&["write"], SeccompAction::Notify, vec![])]);
    assert_eq!(compile(&seccomp), Err(Invalid::NotifyWrite));
}

#[test]
fn an_unconditional_rule_outweighs_conditions() {
    let arg = SeccompArg { index: 0, value: 1, op: SeccompOperator::Equal, value_two: 0 };
    let seccomp = profile(vec![
        rule(&["read"], SeccompAction::Trap, vec![arg]),
        rule(&["read"], SeccompAction::Allow, vec![]),
    ]);
    assert_eq!(run(&compile(&seccomp).unwrap().program, X86_64, 0, [1; 6]), ALLOW);
}

#[test]
fn a_long_profile_of_many_answers_stays_right() {
    let names: Vec<&str> = tables::all().collect();
    let rules = names.iter().enumerate().map(|(at, name)| SeccompRule {
        errno_ret: Some(at as u32 % 300),
        ..rule(&[name], SeccompAction::Errno, vec![])
    });
    let rules: Vec<SeccompRule> = rules.collect();
    let mut seccomp = profile(rules.clone());
    seccomp.architectures = vec!["SCMP_ARCH_X86".into(), "SCMP_ARCH_X32".into()];
    let program = compile(&seccomp).unwrap().program;
    for rule in &rules {
        let numbers = tables::numbers(&rule.names[0]).unwrap();
        let expected = verdict(rule.action, rule.errno_ret).unwrap();
        for (column, arch, bit) in [(0, X86_64, 0), (2, X86_64, X32_BIT), (1, I386, 0)] {
            if let Ok(number) = u32::try_from(numbers[column]) {
                assert_eq!(run(&program, arch, number | bit, [0; 6]), expected, "{:?}", rule.names);
            }
        }
    }
}

fn any_arg() -> impl Strategy<Value = SeccompArg> {
    let ops = [
        SeccompOperator::NotEqual,
        SeccompOperator::Less,
        SeccompOperator::LessOrEqual,
        SeccompOperator::Equal,
        SeccompOperator::GreaterOrEqual,
        SeccompOperator::Greater,
        SeccompOperator::MaskedEqual,
    ];
    let value = || prop_oneof![0u64..4, Just(u64::MAX), Just(1 << 32), Just((1 << 32) | 2)];
    (0u32..3, value(), prop::sample::select(ops.to_vec()), value())
        .prop_map(|(index, value, op, value_two)| SeccompArg { index, value, op, value_two })
}

proptest! {
    #[test]
    fn a_program_answers_what_the_rules_say(
        rules in prop::collection::vec(
            (prop::collection::vec(0usize..40, 1..8), 0usize..4, prop::collection::vec(any_arg(), 0..4)),
            0..12,
        ),
        number in 0u32..40,
        args in prop::array::uniform6(prop_oneof![0u64..4, Just(u64::MAX), Just(1u64 << 32), Just((1u64 << 32) | 2)]),
    ) {
        let names = ["read", "write", "open", "close", "stat", "fstat", "lstat", "poll", "lseek",
            "mmap", "mprotect", "munmap", "brk", "ioctl", "pread64", "pwrite64", "readv", "writev",
            "access", "pipe", "select", "sched_yield", "mremap", "msync", "mincore", "madvise",
            "shmget", "shmat", "shmctl", "dup", "dup2", "pause", "nanosleep", "getitimer", "alarm",
            "setitimer", "getpid", "sendfile", "socket", "connect"];
        let actions =
            [SeccompAction::Allow, SeccompAction::Trap, SeccompAction::Log, SeccompAction::KillProcess];
        let rules: Vec<SeccompRule> = rules.iter().map(|(calls, action, args)| {
            let calls: Vec<&str> = calls.iter().map(|c| names[*c]).collect();
            rule(&calls, actions[*action], args.clone())
        }).collect();
        let number_of = |name: &str| tables::numbers(name).unwrap()[0] as u32;
        let matching: Vec<&SeccompRule> = rules.iter()
            .filter(|r| r.names.iter().any(|n| number_of(n) == number)).collect();
        let newest = rules.iter().flat_map(|r| &r.names).map(|n| number_of(n)).max();
        let expected = matching.iter().find(|r| r.args.is_empty())
            .or_else(|| matching.iter().find(|r| r.args.iter().all(|a| holds(a, args))))
            .map_or_else(
                || if newest.is_some_and(|n| number > n) { ENOSYS } else { 0x0005_0001 },
                |r| verdict(r.action, None).unwrap(),
            );
        let program = compile(&profile(rules.clone())).unwrap().program;
        prop_assert_eq!(run(&program, X86_64, number, args), expected);
    }
}
