//! `process`: what is executed, as whom and with which rights. No interpretation of the values.

use super::objects;

objects! {
    /// The process of a container, or the one that `exec --process` adds.
    Process {
        always {
            /// User, groups and umask.
            user: User,
            /// Program and its arguments.
            args: Vec<String>,
            /// Working directory inside the container, absolute.
            cwd: String,
        }
        omit {
            /// Whether the process gets a pseudo-terminal.
            terminal: bool,
            /// Size of that terminal at its start.
            console_size: Option<ConsoleSize>,
            /// One string instead of `args`, on Windows.
            command_line: String,
            /// Environment, `NAME=value`.
            env: Vec<String>,
            /// Capability sets.
            capabilities: Option<Capabilities>,
            /// Resource limits.
            rlimits: Vec<Rlimit>,
            /// Whether a set-user-id program gains nothing.
            no_new_privileges: bool,
            /// AppArmor profile.
            apparmor_profile: String,
            /// `oom_score_adj` of the process.
            oom_score_adj: Option<i32>,
            /// Scheduling policy.
            scheduler: Option<Scheduler>,
            /// SELinux label.
            selinux_label: String,
            /// I/O priority.
            #[serde(rename = "ioPriority")]
            io_priority: Option<IoPriority>,
            /// Processors that an exec runs on.
            #[serde(rename = "execCPUAffinity")]
            exec_cpu_affinity: Option<CpuAffinity>,
        }
    }

    /// Size of a terminal in characters.
    ConsoleSize {
        always {
            /// Rows.
            height: u64,
            /// Columns.
            width: u64,
        }
    }

    /// User, groups and umask of a process.
    User {
        always {
            /// User id inside the container.
            uid: u32,
            /// Group id inside the container.
            gid: u32,
        }
        omit {
            /// File mode creation mask; absent leaves the runtime's.
            umask: Option<u32>,
            /// Supplementary groups.
            additional_gids: Vec<u32>,
            /// User name, on Windows.
            username: String,
        }
    }

    /// Capability sets, as names such as `CAP_CHOWN`.
    Capabilities {
        omit {
            /// What can ever be gained.
            bounding: Vec<String>,
            /// What is in force.
            effective: Vec<String>,
            /// What is kept over execve of a file with inheritable bits.
            inheritable: Vec<String>,
            /// What may be put in force.
            permitted: Vec<String>,
            /// What an unprivileged program keeps over execve.
            ambient: Vec<String>,
        }
    }

    /// One resource limit.
    Rlimit {
        always {
            /// Name, such as `RLIMIT_NOFILE`.
            #[serde(rename = "type")]
            kind: String,
            /// Ceiling for the soft limit; 2^64-1 is unlimited.
            hard: u64,
            /// The limit in force.
            soft: u64,
        }
    }

    /// Scheduling policy, as sched_setattr(2) takes it.
    Scheduler {
        always {
            /// Policy, such as `SCHED_BATCH`.
            policy: String,
        }
        omit {
            /// Nice value of SCHED_OTHER and SCHED_BATCH.
            nice: i32,
            /// Static priority of SCHED_FIFO and SCHED_RR.
            priority: i32,
            /// Flags, such as `SCHED_FLAG_RESET_ON_FORK`.
            flags: Vec<String>,
            /// Nanoseconds of SCHED_DEADLINE.
            runtime: u64,
            /// Nanoseconds of SCHED_DEADLINE.
            deadline: u64,
            /// Nanoseconds of SCHED_DEADLINE.
            period: u64,
        }
    }

    /// I/O priority, as ioprio_set(2) takes it.
    IoPriority {
        always {
            /// Class, such as `IOPRIO_CLASS_BE`.
            class: String,
            /// Level inside the class, 0 (highest) to 7.
            priority: i32,
        }
    }

    /// Processors of an exec, before and after it joined the container's cgroup.
    CpuAffinity {
        omit {
            /// List such as `0-3,7` while the runtime sets the process up.
            initial: String,
            /// List in force for the program.
            #[serde(rename = "final")]
            last: String,
        }
    }
}
