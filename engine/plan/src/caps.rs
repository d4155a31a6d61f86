//! Capability sets: names as the API takes them, the default set, and what adding
//! and dropping makes of it. What the machine itself lacks is told by the caller.

/// All capabilities, in the kernel's order.
pub const ALL: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// What a container holds unless told otherwise.
const DEFAULT: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// A set of capabilities, a bit for each position in [`ALL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CapSet(pub u64);

/// A wish that names no capability, or one that the machine lacks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCapability {
    /// No such name.
    #[error("invalid {list}: unknown capability: \"{name}\"")]
    Unknown {
        /// `CapAdd` or `CapDrop`.
        list: &'static str,
        /// The name, with its prefix.
        name: String,
    },
    /// The daemon itself lacks it.
    #[error(
        "invalid {list}: capability not supported by your kernel or not available in the current environment: \"{name}\""
    )]
    Unavailable {
        /// `CapAdd` or `CapDrop`.
        list: &'static str,
        /// The name, with its prefix.
        name: String,
    },
}

impl CapSet {
    /// Every known capability.
    pub const fn all() -> Self {
        Self((1 << ALL.len()) - 1)
    }

    /// What a container holds unless told otherwise.
    pub fn default_set() -> Self {
        Self::of(&DEFAULT)
    }

    /// The set of these full names; unknown ones are left out.
    pub fn of(names: &[&str]) -> Self {
        names.iter().filter_map(|n| bit(n)).fold(Self(0), |set, bit| Self(set.0 | bit))
    }

    /// Whether it holds the capability of this full name.
    pub fn contains(self, name: &str) -> bool {
        bit(name).is_some_and(|bit| self.0 & bit != 0)
    }

    /// What both hold.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The names, in the kernel's order.
    pub fn names(self) -> Vec<String> {
        let held = ALL.iter().enumerate().filter(|(at, _)| self.0 & (1 << at) != 0);
        held.map(|(_, name)| (*name).to_owned()).collect()
    }
}

fn bit(name: &str) -> Option<u64> {
    ALL.iter().position(|n| *n == name).map(|at| 1 << at)
}

fn full_name(text: &str) -> String {
    let upper = text.to_ascii_uppercase();
    if upper == "ALL" || upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") }
}

/// A list's names in the form that records keep: upper case, with prefix, checked.
pub fn normalize(
    list: &'static str,
    names: &[String],
    available: CapSet,
) -> Result<Vec<String>, InvalidCapability> {
    let one = |text: &String| {
        let name = full_name(text);
        match bit(&name) {
            _ if name == "ALL" => Ok(name),
            None => Err(InvalidCapability::Unknown { list, name }),
            Some(bit) if list == "CapAdd" && available.0 & bit == 0 => {
                Err(InvalidCapability::Unavailable { list, name })
            }
            Some(_) => Ok(name),
        }
    };
    let mut out = names.iter().map(one).collect::<Result<Vec<_>, _>>()?;
    out.sort();
    out.dedup();
    Ok(out)
}

/// The set that a container holds: the default, or all when privileged, with the
/// adds and without the drops; nothing that the machine lacks.
pub fn effective(add: &[String], drop: &[String], privileged: bool, available: CapSet) -> CapSet {
    let listed = |list: &[String], name: &str| list.iter().any(|n| full_name(n) == name);
    let set = |list: &[String]| {
        list.iter().filter_map(|n| bit(&full_name(n))).fold(0, |all, bit| all | bit)
    };
    if privileged {
        return available;
    }
    let base = match (listed(add, "ALL"), listed(drop, "ALL")) {
        (true, _) => CapSet::all().0 & !set(drop),
        (false, true) => set(add),
        (false, false) => (CapSet::default_set().0 & !set(drop)) | set(add),
    };
    CapSet(base).and(available)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|n| (*n).to_owned()).collect()
    }

    #[test]
    fn adds_and_drops_apply_to_the_default_set() {
        let all = CapSet::all();
        assert_eq!(effective(&[], &[], false, all), CapSet::default_set());
        assert_eq!(effective(&[], &names(&["ALL"]), false, all), CapSet(0));
        let one = effective(&names(&["chown"]), &names(&["all"]), false, all);
        assert_eq!(one.names(), ["CAP_CHOWN"]);
        assert_eq!(
            effective(&names(&["ALL"]), &names(&["CAP_CHOWN"]), false, all).names().len(),
            40
        );
        assert!(!effective(&[], &names(&["KILL"]), false, all).contains("CAP_KILL"));
    }

    #[test]
    fn what_the_machine_lacks_is_left_out_of_all_and_refused_by_name() {
        let lacking = CapSet(CapSet::all().0 & !CapSet::of(&["CAP_SYS_RESOURCE"]).0);
        assert!(!effective(&[], &[], true, lacking).contains("CAP_SYS_RESOURCE"));
        let refused = normalize("CapAdd", &names(&["sys_resource"]), lacking).unwrap_err();
        assert!(refused.to_string().ends_with("in the current environment: \"CAP_SYS_RESOURCE\""));
        let unknown = normalize("CapDrop", &names(&["nope"]), lacking).unwrap_err();
        assert_eq!(unknown.to_string(), "invalid CapDrop: unknown capability: \"CAP_NOPE\"");
    }
}
