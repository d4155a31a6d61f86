//! A seccomp profile as clients send it, in Docker's dialect, brought down to what it
//! means for one container: conditions are decided by the machine, its kernel and the
//! capabilities that the container holds. Pure; the texts are those that clients know.

use engine_api::{
    DecodeError, SeccompArgument, SeccompCalls, SeccompFilter, SeccompProfile, Value, decode,
};
use oci::runtime::{Seccomp, SeccompAction, SeccompArg, SeccompOperator, SeccompRule};

use crate::PlanError;
use crate::caps::CapSet;

/// What conditions are decided by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    /// As `uname -m` has it.
    pub(crate) machine: &'a str,
    /// The kernel's first two numbers.
    pub(crate) kernel: (u64, u64),
    /// What the container may hold.
    pub(crate) caps: CapSet,
}

const ARCHITECTURES: [&str; 20] = [
    "SCMP_ARCH_X86",
    "SCMP_ARCH_X86_64",
    "SCMP_ARCH_X32",
    "SCMP_ARCH_ARM",
    "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_PARISC",
    "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_RISCV64",
    "SCMP_ARCH_LOONGARCH64",
];
const FLAGS: [&str; 4] = [
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
];

/// The filter of a profile; `None` for one that says nothing.
pub(crate) fn read(text: &str, place: Place<'_>) -> Result<Option<Seccomp>, PlanError> {
    let failed = |e: DecodeError| PlanError::Seccomp(e.go_text());
    let profile: SeccompProfile = decode(text.as_bytes()).map_err(failed)?;
    let calls = profile.syscalls.unwrap_or_default();
    // A wrong version is a wrong profile, wherever it stands.
    let kernels: Vec<_> = calls
        .iter()
        .map(|rule| Ok((min_kernel(rule.includes.as_ref())?, min_kernel(rule.excludes.as_ref())?)))
        .collect::<Result<_, PlanError>>()?;
    if profile.default_action.is_empty() && calls.is_empty() {
        return Ok(None);
    }
    let mut architectures = profile.architectures.unwrap_or_default();
    let map = profile.arch_map.unwrap_or_default();
    if !architectures.is_empty() && !map.is_empty() {
        return Err(PlanError::Profile(
            "both 'architectures' and 'archMap' are specified in the seccomp profile, use either 'architectures' or 'archMap'",
        ));
    }
    let (arch, own) = native(place.machine);
    if let Some(found) = map.into_iter().find(|a| a.arch == own) {
        architectures.push(found.arch);
        architectures.extend(found.sub_arches.unwrap_or_default());
    }
    let mut rules = Vec::new();
    for (rule, (includes, excludes)) in calls.into_iter().zip(kernels) {
        if !rule.name.is_empty() && rule.names.as_ref().is_some_and(|names| !names.is_empty()) {
            return Err(PlanError::Profile(
                "both 'name' and 'names' are specified in the seccomp profile, use either 'name' or 'names'",
            ));
        }
        if holds(&rule, place, arch, includes, excludes) {
            rules.push(rule);
        }
    }
    known(&ARCHITECTURES, &architectures, |name| {
        format!("string {name} is not a valid arch for seccomp")
    })?;
    let flags = profile.flags.unwrap_or_default();
    known(&FLAGS, &flags, |name| format!("seccomp flag {name} is not known to runc"))?;
    Ok(Some(Seccomp {
        default_action: action(&profile.default_action)?,
        default_errno_ret: profile.default_errno_ret.map(|n| n as u32),
        architectures,
        flags,
        listener_path: profile.listener_path,
        listener_metadata: profile.listener_metadata,
        syscalls: rules.into_iter().map(compiled).collect::<Result<_, _>>()?,
    }))
}

fn known(all: &[&str], names: &[String], text: impl Fn(&str) -> String) -> Result<(), PlanError> {
    match names.iter().find(|name| !all.contains(&name.as_str())) {
        Some(name) => Err(PlanError::SeccompWord(text(name))),
        None => Ok(()),
    }
}

/// The names of a machine: in conditions, and in the map of architectures.
fn native(machine: &str) -> (&'static str, &'static str) {
    match machine {
        "x86_64" => ("amd64", "SCMP_ARCH_X86_64"),
        "aarch64" => ("arm64", "SCMP_ARCH_AARCH64"),
        "riscv64" => ("riscv64", "SCMP_ARCH_RISCV64"),
        "s390x" => ("s390x", "SCMP_ARCH_S390X"),
        "ppc64le" => ("ppc64le", "SCMP_ARCH_PPC64LE"),
        _ => ("", ""),
    }
}

type Kernel = Option<(u64, u64)>;

/// Whether a rule holds at this place: nothing excludes it, and all that it needs is there.
fn holds(
    rule: &SeccompCalls,
    place: Place<'_>,
    arch: &str,
    includes: Kernel,
    excludes: Kernel,
) -> bool {
    let none = SeccompFilter::default();
    let list = |names: &Option<Vec<String>>| names.clone().unwrap_or_default();
    let held = |name: &String| place.caps.contains(name);
    let out = rule.excludes.as_ref().unwrap_or(&none);
    if list(&out.arches).iter().any(|a| a == arch)
        || list(&out.caps).iter().any(held)
        || excludes.is_some_and(|least| place.kernel >= least)
    {
        return false;
    }
    let needs = rule.includes.as_ref().unwrap_or(&none);
    let arches = list(&needs.arches);
    (arches.is_empty() || arches.iter().any(|a| a == arch))
        && list(&needs.caps).iter().all(held)
        && includes.is_none_or(|least| place.kernel >= least)
}

/// `4.8` of a condition.
fn min_kernel(filter: Option<&SeccompFilter>) -> Result<Kernel, PlanError> {
    let Some(value) = filter.map(|f| &f.min_kernel).filter(|v| **v != Value::Null) else {
        return Ok(None);
    };
    let wrong = |why: &str| {
        let text = format!("invalid kernel version: {value}, expected \"<kernel>.<major>\"{why}");
        Err(PlanError::Seccomp(text))
    };
    let Some(text) = value.as_str() else {
        let kind = value.kind();
        return wrong(&format!(": json: cannot unmarshal {kind} into Go value of type string"));
    };
    if text.is_empty() {
        return Ok(None);
    }
    let Some((first, second)) = text.split_once('.').filter(|(_, rest)| !rest.contains('.')) else {
        return wrong("");
    };
    let mut numbers = [0; 2];
    for (number, part) in numbers.iter_mut().zip([first, second]) {
        let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        match part.parse::<u8>() {
            Ok(parsed) if digits => *number = u64::from(parsed),
            _ => {
                let why = if digits { "value out of range" } else { "invalid syntax" };
                return wrong(&format!(": strconv.ParseUint: parsing {part:?}: {why}"));
            }
        }
    }
    match numbers {
        [0, 0] => wrong(": version cannot be 0.0"),
        [first, second] => Ok(Some((first, second))),
    }
}

fn compiled(rule: SeccompCalls) -> Result<SeccompRule, PlanError> {
    let names = match rule.names {
        Some(names) if !names.is_empty() => names,
        _ => vec![rule.name],
    };
    Ok(SeccompRule {
        names,
        action: action(&rule.action)?,
        errno_ret: rule.errno_ret.map(|n| n as u32),
        args: rule.args.unwrap_or_default().iter().map(argument).collect::<Result<_, _>>()?,
    })
}

fn argument(arg: &SeccompArgument) -> Result<SeccompArg, PlanError> {
    let word = serde_json::Value::String(arg.op.clone());
    let op: SeccompOperator = serde_json::from_value(word).map_err(|_| {
        PlanError::SeccompWord(format!("string {} is not a valid operator for seccomp", arg.op))
    })?;
    Ok(SeccompArg {
        index: u32::try_from(arg.index).unwrap_or(u32::MAX),
        value: arg.value,
        value_two: arg.value_two,
        op,
    })
}

fn action(text: &str) -> Result<SeccompAction, PlanError> {
    let word = serde_json::Value::String(text.to_owned());
    serde_json::from_value(word).map_err(|_| {
        PlanError::SeccompWord(format!("string {text} is not a valid action for seccomp"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Place<'_> = Place { machine: "x86_64", kernel: (6, 1), caps: CapSet(0) };

    fn rule(condition: &str) -> String {
        format!(
            r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{{"names":["mkdir"],"action":"SCMP_ACT_ERRNO",{condition}}}]}}"#
        )
    }

    fn rules(text: &str, place: Place<'_>) -> usize {
        read(text, place).unwrap().unwrap().syscalls.len()
    }

    fn refused(text: &str) -> String {
        read(text, HERE).unwrap_err().to_string()
    }

    #[test]
    fn conditions_are_decided_by_machine_kernel_and_capabilities() {
        let admin = Place { caps: CapSet::of(&["CAP_SYS_ADMIN"]), ..HERE };
        for (condition, plain, with_admin) in [
            (r#""includes":{"arches":["amd64"]}"#, 1, 1),
            (r#""includes":{"arches":["arm64"]}"#, 0, 0),
            (r#""excludes":{"arches":["amd64"]}"#, 0, 0),
            (r#""includes":{"caps":["CAP_SYS_ADMIN"]}"#, 0, 1),
            (r#""excludes":{"caps":["CAP_SYS_ADMIN","CAP_BPF"]}"#, 1, 0),
            (r#""includes":{"minKernel":"6.1"}"#, 1, 1),
            (r#""includes":{"minKernel":"6.2"}"#, 0, 0),
            (r#""excludes":{"minKernel":"4.8"}"#, 0, 0),
            (r#""includes":{"minKernel":""},"excludes":null"#, 1, 1),
        ] {
            let text = rule(condition);
            assert_eq!((rules(&text, HERE), rules(&text, admin)), (plain, with_admin), "{text}");
        }
    }

    #[test]
    fn the_map_of_architectures_gives_the_machines_own_with_what_its_kernel_runs() {
        let text = r#"{"defaultAction":"SCMP_ACT_ALLOW","archMap":[
            {"architecture":"SCMP_ARCH_AARCH64","subArchitectures":["SCMP_ARCH_ARM"]},
            {"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86"]}]}"#;
        let got = read(text, HERE).unwrap().unwrap();
        assert_eq!(got.architectures, ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]);
    }

    #[test]
    fn old_forms_are_understood_and_empty_ones_are_no_filter() {
        let old = r#"{"DEFAULTACTION":"SCMP_ACT_ALLOW","syscalls":[{"name":"mkdir","action":"SCMP_ACT_ERRNO"}]}"#;
        let got = read(old, HERE).unwrap().unwrap();
        assert_eq!(got.syscalls[0].names, ["mkdir"]);
        for empty in ["{}", "null"] {
            assert!(read(empty, HERE).unwrap().is_none());
        }
    }

    #[test]
    fn what_is_wrong_is_told_as_clients_know_it() {
        let kernel =
            |version: &str| refused(&rule(&format!(r#""includes":{{"minKernel":{version}}}"#)));
        let expected = "expected \"<kernel>.<major>\"";
        let head = "Decoding seccomp profile failed";
        for (version, why) in [
            (r#""x""#, ""),
            (r#""4.8.1""#, ""),
            (r#""4.a""#, ": strconv.ParseUint: parsing \"a\": invalid syntax"),
            (r#""4.999""#, ": strconv.ParseUint: parsing \"999\": value out of range"),
            (r#""0.0""#, ": version cannot be 0.0"),
            ("5", ": json: cannot unmarshal number into Go value of type string"),
        ] {
            let text = format!("{head}: invalid kernel version: {version}, {expected}{why}");
            assert_eq!(kernel(version), text);
        }
        for (text, why) in [
            ("[]", "json: cannot unmarshal array into Go value of type seccomp.Seccomp"),
            (
                r#"{"defaultAction":5}"#,
                "json: cannot unmarshal number into Go struct field Seccomp.defaultAction of type specs.LinuxSeccompAction",
            ),
            (
                r#"{"syscalls":{}}"#,
                "json: cannot unmarshal object into Go struct field Seccomp.syscalls of type []*seccomp.Syscall",
            ),
            (
                r#"{"syscalls":[{"names":"x"}]}"#,
                "json: cannot unmarshal string into Go struct field Seccomp.syscalls.0.names of type []string",
            ),
            (
                r#"{"syscalls":[{"args":[{"index":"x"}]}]}"#,
                "json: cannot unmarshal string into Go struct field Seccomp.syscalls.0.args.0.index of type uint",
            ),
        ] {
            assert_eq!(refused(text), format!("{head}: {why}"));
        }
        let runtime = "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: string";
        assert_eq!(
            refused(r#"{"defaultAction":"X"}"#),
            format!("{runtime} X is not a valid action for seccomp")
        );
        let arg = r#""args":[{"index":1,"value":1,"op":"X"}]"#;
        assert_eq!(refused(&rule(arg)), format!("{runtime} X is not a valid operator for seccomp"));
        assert!(refused(&rule(r#""name":"mkdir""#)).starts_with("both 'name' and 'names'"));
    }
}
