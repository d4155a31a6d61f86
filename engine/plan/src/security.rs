//! `--security-opt`: what was asked for, parsed.

use crate::PlanError;
use oci::runtime::Seccomp;

/// The security options of a container.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Security {
    /// `no-new-privileges`; absent: the daemon's default.
    pub no_new_privileges: Option<bool>,
    /// `seccomp=unconfined`.
    pub seccomp_unconfined: bool,
    /// `seccomp=<profile>`: the profile's text as the client sent it.
    pub seccomp_profile: Option<String>,
    /// `systempaths=unconfined`: nothing is masked.
    pub system_paths_unconfined: bool,
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
        if option == "no-new-privileges" {
            out.no_new_privileges = Some(true);
            continue;
        }
        let invalid = |kind| PlanError::SecurityOpt(kind, option.clone());
        // Older clients separate with a colon.
        let (key, value) =
            option.split_once('=').or_else(|| option.split_once(':')).ok_or_else(|| invalid(1))?;
        let flag = || value.parse::<bool>().map_err(|_| invalid(2));
        match key {
            "no-new-privileges" => out.no_new_privileges = Some(flag()?),
            "writable-cgroups" => out.writable_cgroups = flag()?,
            "seccomp" if value == "unconfined" => out.seccomp_unconfined = true,
            "seccomp" if value == "builtin" => {}
            "seccomp" => out.seccomp_profile = Some(value.to_owned()),
            "systempaths" if value == "unconfined" => out.system_paths_unconfined = true,
            "apparmor" => value.clone_into(&mut out.apparmor),
            "label" => out.labels.push(value.to_owned()),
            _ => return Err(invalid(2)),
        }
    }
    Ok(out)
}

/// A seccomp profile as a client sends it. Profiles in Docker's own dialect (with
/// `includes`, `excludes`, `archMap`) are read for what they grant unconditionally.
pub(crate) fn profile(text: &str) -> Result<Seccomp, PlanError> {
    let value: serde_json::Value =
        serde_json::from_str(text).map_err(|e| PlanError::Seccomp(e.to_string()))?;
    for key in ["archMap"] {
        if value.get(key).is_some_and(|v| !v.is_null()) {
            return Err(PlanError::Unsupported(format!("{key} in a seccomp profile")));
        }
    }
    let rules = value.get("syscalls").and_then(|v| v.as_array()).into_iter().flatten();
    for rule in rules {
        let filled =
            |key: &str| rule.get(key).and_then(|v| v.as_object()).is_some_and(|o| !o.is_empty());
        if filled("includes") || filled("excludes") {
            return Err(PlanError::Unsupported(
                "includes and excludes in a seccomp profile".into(),
            ));
        }
    }
    serde_json::from_value(value).map_err(|e| PlanError::Seccomp(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_parse_and_wrong_ones_are_quoted() {
        let list = |l: &[&str]| l.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        let got =
            parse(&list(&["no-new-privileges", "seccomp=unconfined", "systempaths=unconfined"]))
                .unwrap();
        assert!(got.seccomp_unconfined && got.system_paths_unconfined);
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
