//! Capabilities: names to numbers, and the sets of a process cut down to what this machine has.

use crate::error::{At, Result};
use oci::runtime::Capabilities;
use sys::privilege::{self, CapSets};

/// The names in the order of their numbers.
pub(crate) const NAMES: [&str; 41] = [
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

const SYS_ADMIN: u64 = 1 << 21;

/// The five sets of a process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sets {
    bounding: u64,
    ambient: u64,
    sets: CapSets,
}

fn bits(names: &[String], warn: &mut Vec<String>) -> u64 {
    names.iter().fold(0, |bits, name| {
        if let Some(number) = NAMES.iter().position(|known| known == name) {
            bits | 1 << number
        } else {
            if !warn.contains(name) {
                warn.push(name.clone());
            }
            bits
        }
    })
}

/// What is said of capabilities that can't be had.
pub(crate) fn warning(missing: &[String]) -> String {
    format!("ignoring unknown or unavailable capabilities: [{}]", missing.join(" "))
}

impl Sets {
    /// Translates the names. What is unknown, or what this process itself lacks, is left out and
    /// named in `warn`: a container can't have more than its maker. In a user namespace its first
    /// process has everything there is.
    ///
    /// # Errors
    /// When our own capabilities can't be read.
    pub(crate) fn resolve(
        wanted: &Capabilities,
        in_user_namespace: bool,
        warn: &mut Vec<String>,
    ) -> Result<Self> {
        let own = if in_user_namespace {
            (1 << NAMES.len()) - 1
        } else {
            privilege::capabilities().at(|| "get capabilities".into())?.permitted
        };
        Ok(Self::within(wanted, own, warn))
    }

    fn within(wanted: &Capabilities, own: u64, warn: &mut Vec<String>) -> Self {
        let mut set = |names: &[String]| {
            let all = bits(names, warn);
            for (number, name) in NAMES.iter().enumerate() {
                if (all & !own) >> number & 1 == 1 && !warn.iter().any(|w| w == name) {
                    warn.push((*name).to_owned());
                }
            }
            all & own
        };
        let bounding = set(&wanted.bounding);
        let permitted = set(&wanted.permitted);
        let effective = set(&wanted.effective) & permitted;
        let inheritable = set(&wanted.inheritable);
        let ambient = set(&wanted.ambient) & permitted & inheritable;
        Self { bounding, ambient, sets: CapSets { effective, permitted, inheritable } }
    }

    /// Drops what the bounding set must not have. Needs CAP_SETPCAP, so it comes first.
    ///
    /// # Errors
    /// As prctl(2).
    pub(crate) fn apply_bounding(&self) -> Result<()> {
        for number in 0..64 {
            if self.bounding >> number & 1 == 1 {
                continue;
            }
            match privilege::drop_from_bounding_set(number) {
                Ok(()) => {}
                // Beyond the last capability that this kernel knows.
                Err(e) if e.raw_os_error() == Some(22) => break,
                Err(_) if privilege::in_bounding_set(number) == Some(false) => {}
                Err(e) => {
                    return Err(e).at(|| format!("drop capability {number} from the bounding set"));
                }
            }
        }
        Ok(())
    }

    /// The sets in force while the last steps run: the final ones with CAP_SYS_ADMIN, which loading
    /// a filter without no_new_privs needs.
    ///
    /// # Errors
    /// As capset(2).
    pub(crate) fn apply_for_seccomp(&self) -> Result<()> {
        let mut sets = self.sets;
        sets.permitted |= SYS_ADMIN;
        sets.effective = sets.permitted;
        privilege::set_capabilities(sets).at(|| "set capabilities".into())
    }

    /// The final sets.
    ///
    /// # Errors
    /// As capset(2) and prctl(2).
    pub(crate) fn apply(&self) -> Result<()> {
        privilege::set_capabilities(self.sets).at(|| "unable to apply caps".into())?;
        if self.ambient == 0 {
            return Ok(());
        }
        for number in 0..64 {
            if self.ambient >> number & 1 == 1 {
                privilege::raise_ambient(number).at(|| "unable to set ambient caps".into())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_machine_lacks_is_dropped_with_a_warning() {
        let names = vec!["CAP_CHOWN".to_owned(), "CAP_SYS_RESOURCE".to_owned()];
        let wanted = Capabilities {
            bounding: names.clone(),
            permitted: names.clone(),
            effective: names,
            ..Capabilities::default()
        };
        let mut warn = Vec::new();
        let sets = Sets::within(&wanted, 1, &mut warn);
        assert_eq!(sets.sets.permitted, 1);
        assert_eq!(warn, ["CAP_SYS_RESOURCE"]);
    }
}
