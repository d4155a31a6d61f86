//! `--security-opt`: what was asked for, parsed.

use crate::PlanError;

/// The security options of a container.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Security {
    /// `no-new-privileges`; absent: the daemon's default.
    pub no_new_privileges: Option<bool>,
    /// `seccomp=unconfined`.
    pub seccomp_unconfined: bool,
    /// `seccomp=<profile>`: the profile's text as the client sent it.
    pub seccomp_profile: Option<String>,
    /// `writable-cgroups=true`.
    pub writable_cgroups: bool,
    /// `apparmor=<profile>`; honoured where the kernel has it.
    pub apparmor: String,
    /// `label=…`: without SELinux only recorded.
    pub labels: Vec<String>,
}

/// Parses `HostConfig.SecurityOpt`.
pub fn parse(options: &[String]) -> Result<Security, PlanError> {
    let mut out = Security::default();
    for option in options {
        match option.as_str() {
            "no-new-privileges" => out.no_new_privileges = Some(true),
            "writable-cgroups" => out.writable_cgroups = true,
            "disable" => out.labels.push("disable".into()),
            _ => {}
        }
        if matches!(option.as_str(), "no-new-privileges" | "writable-cgroups" | "disable") {
            continue;
        }
        let invalid = |kind| PlanError::SecurityOpt(kind, option.clone());
        // Older clients separate with a colon.
        let (key, value) =
            option.split_once('=').or_else(|| option.split_once(':')).ok_or_else(|| invalid(1))?;
        let flag = || match value {
            "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
            "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
            _ => Err(invalid(2)),
        };
        match key {
            "no-new-privileges" => out.no_new_privileges = Some(flag()?),
            "writable-cgroups" => out.writable_cgroups = flag()?,
            "seccomp" if value == "unconfined" => out.seccomp_unconfined = true,
            "seccomp" if value == "builtin" => {}
            "seccomp" => out.seccomp_profile = Some(value.to_owned()),
            "apparmor" => value.clone_into(&mut out.apparmor),
            "label" => out.labels.push(value.to_owned()),
            _ => return Err(invalid(2)),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_parse_and_wrong_ones_are_quoted() {
        let list = |l: &[&str]| l.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        let got = parse(&list(&["no-new-privileges", "seccomp=unconfined"])).unwrap();
        assert!(got.seccomp_unconfined);
        assert_eq!(got.no_new_privileges, Some(true));
        let text = |o: &str| parse(&list(&[o])).unwrap_err().to_string();
        assert_eq!(text("foo"), "invalid --security-opt 1: \"foo\"");
        assert_eq!(text("foo=bar"), "invalid --security-opt 2: \"foo=bar\"");
        assert_eq!(
            text("no-new-privileges=x"),
            "invalid --security-opt 2: \"no-new-privileges=x\""
        );
    }
}
