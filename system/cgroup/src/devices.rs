//! Device rules: for v1 the ordered list of config.json reduced to "all but these" or "none but
//! these", for v2 as an eBPF program that takes the rules in order.

use oci::runtime::DeviceRule;
use std::collections::BTreeMap;

/// A rule that can't be applied: of an unknown type, or on v1, where only exceptions can be listed,
/// one that takes back part of an earlier one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot apply device rule {0}")]
pub struct UnsupportedRule(pub String);

const MKNOD: u8 = 1;
const READ: u8 = 2;
const WRITE: u8 = 4;
const ANY: i64 = -1;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    block: bool,
    major: i64,
    minor: i64,
}

impl Key {
    /// Whether every device of `other` is one of this key's.
    fn covers(self, other: Self) -> bool {
        self.block == other.block
            && (self.major == ANY || self.major == other.major)
            && (self.minor == ANY || self.minor == other.minor)
    }

    fn overlaps(self, other: Self) -> bool {
        let meet = |a: i64, b: i64| a == ANY || b == ANY || a == b;
        self.block == other.block && meet(self.major, other.major) && meet(self.minor, other.minor)
    }
}

/// Devices that may be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Allowed {
    /// Block, not character devices.
    pub(crate) block: bool,
    /// `None` is any.
    pub(crate) major: Option<i64>,
    /// `None` is any.
    pub(crate) minor: Option<i64>,
    /// Letters of `rwm`.
    pub(crate) access: String,
}

/// What a container may do with devices: a default and its exceptions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceList {
    allow: bool,
    exceptions: BTreeMap<Key, u8>,
}

fn access_bits(text: &str) -> u8 {
    text.bytes().fold(0, |bits, letter| {
        bits | match letter {
            b'r' => READ,
            b'w' => WRITE,
            b'm' => MKNOD,
            _ => 0,
        }
    })
}

fn access_text(bits: u8) -> String {
    [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')]
        .iter()
        .filter(|(bit, _)| bits & bit != 0)
        .map(|(_, letter)| letter)
        .collect()
}

fn show(key: Key, bits: u8) -> String {
    let number = |n: i64| if n == ANY { "*".to_owned() } else { n.to_string() };
    let kind = if key.block { 'b' } else { 'c' };
    format!("{kind} {}:{} {}", number(key.major), number(key.minor), access_text(bits))
}

impl DeviceList {
    /// Reduces an ordered list of rules; the starting point is that all is denied.
    ///
    /// # Errors
    /// When a rule takes back part of a wider one.
    pub fn from_rules(rules: &[DeviceRule]) -> Result<Self, UnsupportedRule> {
        let mut list = Self::default();
        for rule in rules {
            list.add(rule)?;
        }
        Ok(list)
    }

    fn add(&mut self, rule: &DeviceRule) -> Result<(), UnsupportedRule> {
        if let Some((key, bits)) = device_of(rule)? {
            return self.merge(rule.allow, key, bits);
        }
        *self = Self { allow: rule.allow, exceptions: BTreeMap::new() };
        Ok(())
    }

    fn merge(&mut self, allow: bool, key: Key, bits: u8) -> Result<(), UnsupportedRule> {
        if allow != self.allow {
            *self.exceptions.entry(key).or_default() |= bits;
            return Ok(());
        }
        for (&other, held) in &mut self.exceptions {
            if key.covers(other) {
                *held &= !bits;
            } else if key.overlaps(other) && *held & bits != 0 {
                let rule = show(key, bits);
                return Err(UnsupportedRule(format!(
                    "{rule}: it takes back only part of an earlier rule, which needs cgroup v2"
                )));
            }
        }
        self.exceptions.retain(|_, held| *held != 0);
        Ok(())
    }

    /// The list that allows everything.
    pub fn everything() -> Self {
        Self { allow: true, exceptions: BTreeMap::new() }
    }

    /// Whether everything is allowed.
    pub fn allows_all(&self) -> bool {
        self.allow && self.exceptions.is_empty()
    }

    /// What is allowed; `None` when the list says what is denied.
    pub(crate) fn allowed(&self) -> Option<Vec<Allowed>> {
        let number = |n: i64| Some(n).filter(|n| *n != ANY);
        let entry = |(key, bits): (&Key, &u8)| Allowed {
            block: key.block,
            major: number(key.major),
            minor: number(key.minor),
            access: access_text(*bits),
        };
        (!self.allow).then(|| self.exceptions.iter().map(entry).collect())
    }

    /// What goes into `devices.deny` and `devices.allow`, in order: (file, line).
    pub fn v1_lines(&self) -> Vec<(&'static str, String)> {
        let (first, rest) = if self.allow {
            ("devices.allow", "devices.deny")
        } else {
            ("devices.deny", "devices.allow")
        };
        std::iter::once((first, "a".to_owned()))
            .chain(self.exceptions.iter().map(|(key, bits)| (rest, show(*key, *bits))))
            .collect()
    }
}

/// The rules as eBPF instructions for a device program of cgroup v2. Every bit of an access is
/// decided by the last rule that names it for the device; what no rule names is denied.
///
/// # Errors
/// When a rule is of a type that no device has.
pub(crate) fn device_program(rules: &[DeviceRule]) -> Result<Vec<u64>, UnsupportedRule> {
    // r2 = type, r3 = bits of the access still undecided, r4 = major, r5 = minor; context in r1.
    let mut code = vec![
        insn(0x61, 2, 1, 0, 0),
        insn(0x54, 2, 0, 0, 0xffff),
        insn(0x61, 3, 1, 0, 0),
        insn(0x74, 3, 0, 0, 16),
        insn(0x61, 4, 1, 4, 0),
        insn(0x61, 5, 1, 8, 0),
    ];
    let answer = |allow: bool| [insn(0xb7, 0, 0, 0, i32::from(allow)), insn(0x95, 0, 0, 0, 0)];
    for rule in rules.iter().rev() {
        let Some((key, bits)) = device_of(rule)? else {
            // A rule for all devices: nothing before it counts.
            code.extend(answer(rule.allow));
            return Ok(code);
        };
        let mut tests = vec![jump_unless_equal(2, if key.block { 1 } else { 2 })];
        if key.major != ANY {
            tests.push(jump_unless_equal(4, key.major as i32));
        }
        if key.minor != ANY {
            tests.push(jump_unless_equal(5, key.minor as i32));
        }
        if rule.allow {
            // Its bits are decided; done when none is left.
            tests.push(insn(0x54, 3, 0, 0, i32::from(!bits & 7)));
            tests.push(jump_unless_equal(3, 0));
        } else {
            tests.push(insn(0xbc, 1, 3, 0, 0));
            tests.push(insn(0x54, 1, 0, 0, i32::from(bits)));
            tests.push(insn(0x15, 1, 0, OPEN, 0));
        }
        let end = tests.len() + 2;
        for (at, test) in tests.iter_mut().enumerate() {
            if is_open_jump(*test) {
                *test = set_offset(*test, (end - at - 1) as i16);
            }
        }
        code.append(&mut tests);
        code.extend(answer(rule.allow));
    }
    code.extend(answer(false));
    Ok(code)
}

/// Devices and bits of a rule; `None` for one that means all devices.
fn device_of(rule: &DeviceRule) -> Result<Option<(Key, u8)>, UnsupportedRule> {
    let number = |n: Option<i64>| n.filter(|n| *n >= 0).unwrap_or(ANY);
    let (major, minor) = (number(rule.major), number(rule.minor));
    let bits =
        if rule.access.is_empty() { READ | WRITE | MKNOD } else { access_bits(&rule.access) };
    match rule.kind.as_str() {
        // The kernel, too, takes a rule for all types as one for all devices.
        "" | "a" => Ok(None),
        "c" | "u" => Ok(Some((Key { block: false, major, minor }, bits))),
        "b" => Ok(Some((Key { block: true, major, minor }, bits))),
        other => Err(UnsupportedRule(format!("of type {other:?}"))),
    }
}

/// Whether a list of rules allows everything, so that no program is needed.
pub(crate) fn allows_all(rules: &[DeviceRule]) -> bool {
    let last = rules.iter().rposition(|rule| matches!(rule.kind.as_str(), "" | "a"));
    last.is_some_and(|at| rules[at..].iter().all(|rule| rule.allow))
}

fn insn(op: u8, dst: u8, src: u8, offset: i16, value: i32) -> u64 {
    u64::from(op)
        | u64::from(dst | src << 4) << 8
        | u64::from(offset as u16) << 16
        | u64::from(value as u32) << 32
}

/// The distance of a jump out of the rule, until the rule's length is known.
const OPEN: i16 = -1;

fn jump_unless_equal(register: u8, value: i32) -> u64 {
    insn(0x55, register, 0, OPEN, value)
}

fn is_open_jump(code: u64) -> bool {
    matches!(code as u8, 0x55 | 0x15) && (code >> 16) as u16 == u16::MAX
}

fn set_offset(code: u64, offset: i16) -> u64 {
    code & !0xffff_0000 | u64::from(offset as u16) << 16
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rule(allow: bool, kind: &str, major: i64, minor: i64, access: &str) -> DeviceRule {
        DeviceRule {
            allow,
            kind: kind.into(),
            major: Some(major),
            minor: Some(minor),
            access: access.into(),
        }
    }

    /// Runs the program as the kernel would, for one request.
    fn run(code: &[u64], block: bool, access: u8, major: u32, minor: u32) -> bool {
        let context = [u32::from(access) << 16 | if block { 1 } else { 2 }, major, minor];
        let mut reg = [0u32; 6];
        let mut at = 0usize;
        loop {
            let word = code[at];
            let (op, dst, src) =
                (word as u8, (word >> 8 & 15) as usize, (word >> 12 & 15) as usize);
            let (off, imm) = ((word >> 16) as i16, (word >> 32) as u32);
            at += 1;
            let jump = match op {
                0x61 => {
                    reg[dst] = context[off as usize / 4];
                    false
                }
                0x54 => {
                    reg[dst] &= imm;
                    false
                }
                0x74 => {
                    reg[dst] >>= imm;
                    false
                }
                0xb7 => {
                    reg[dst] = imm;
                    false
                }
                0xbc => {
                    reg[dst] = reg[src];
                    false
                }
                0x55 => reg[dst] != imm,
                0x15 => reg[dst] == imm,
                0x95 => return reg[0] != 0,
                other => panic!("operation {other:#x}"),
            };
            if jump {
                at = (at as i64 + i64::from(off)) as usize;
            }
        }
    }

    #[test]
    fn dockers_list_denies_all_but_the_usual_devices() {
        let rules = [
            DeviceRule { access: "rwm".into(), ..DeviceRule::default() },
            rule(true, "c", 1, 5, "rwm"),
            rule(true, "c", 1, 3, "rwm"),
            rule(false, "c", 10, 229, "rwm"),
            rule(true, "c", -1, -1, "m"),
        ];
        let list = DeviceList::from_rules(&rules).unwrap();
        let lines = list.v1_lines();
        assert_eq!(lines[0], ("devices.deny", "a".into()));
        assert_eq!(lines[1], ("devices.allow", "c *:* m".into()));
        let code = device_program(&rules).unwrap();
        assert!(run(&code, false, READ | WRITE, 1, 3));
        assert!(!run(&code, false, READ, 10, 229));
        assert!(run(&code, false, MKNOD, 10, 229));
        assert!(!run(&code, true, MKNOD, 8, 0));
    }

    #[test]
    fn a_rule_that_takes_back_part_of_a_wider_one_is_refused_on_v1_and_holds_on_v2() {
        let rules = [rule(true, "c", -1, -1, "rwm"), rule(false, "c", 1, 3, "r")];
        let error = DeviceList::from_rules(&rules).unwrap_err();
        assert!(error.to_string().contains("c 1:3 r"), "{error}");
        let code = device_program(&rules).unwrap();
        assert!(!run(&code, false, READ, 1, 3));
        assert!(!run(&code, false, READ | WRITE, 1, 3));
        assert!(run(&code, false, WRITE, 1, 3));
        assert!(run(&code, false, READ, 1, 5));
    }

    #[test]
    fn a_rule_for_everything_needs_a_program_only_with_exceptions() {
        let all = DeviceRule { allow: true, access: "rwm".into(), ..DeviceRule::default() };
        assert!(allows_all(&[
            rule(false, "c", 1, 3, "r"),
            all.clone(),
            rule(true, "b", 1, 1, "m")
        ]));
        assert!(!allows_all(&[all, rule(false, "c", 1, 3, "r")]));
        assert!(!allows_all(&[]));
    }

    /// What the rules mean, bit by bit.
    fn meaning(rules: &[DeviceRule], asked: Key, access: u8) -> bool {
        [READ, WRITE, MKNOD].iter().filter(|bit| access & **bit != 0).all(|bit| {
            let named = rules.iter().rfind(|rule| match device_of(rule).unwrap() {
                Some((key, bits)) => key.covers(asked) && bits & bit != 0,
                None => true,
            });
            named.is_some_and(|rule| rule.allow)
        })
    }

    prop_compose! {
        fn any_rule()(allow: bool, kind in 0usize..7, major in -1i64..3, minor in -1i64..3, bits in 1u8..8)
            -> DeviceRule
        {
            rule(allow, ["b", "c", "b", "c", "b", "c", "a"][kind], major, minor, &access_text(bits))
        }
    }

    proptest! {
        #[test]
        fn the_program_says_what_the_last_rule_of_each_bit_says(
            rules in prop::collection::vec(any_rule(), 0..8),
            block: bool, access in 1u8..8, major in 0u32..3, minor in 0u32..3,
        ) {
            let asked = Key { block, major: i64::from(major), minor: i64::from(minor) };
            let code = device_program(&rules).unwrap();
            prop_assert_eq!(
                run(&code, block, access, major, minor),
                meaning(&rules, asked, access)
            );
        }

        #[test]
        fn the_list_of_v1_never_allows_what_the_rules_deny(
            rules in prop::collection::vec(any_rule(), 0..8),
            block: bool, access in 0usize..3, major in 0i64..3, minor in 0i64..3,
        ) {
            let access = [READ, WRITE, MKNOD][access];
            let asked = Key { block, major, minor };
            if let Ok(list) = DeviceList::from_rules(&rules) {
                let hit = list.exceptions.iter().any(|(k, b)| k.covers(asked) && b & access != 0);
                prop_assert_eq!(hit != list.allow, meaning(&rules, asked, access));
            }
        }
    }
}
