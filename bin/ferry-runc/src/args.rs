//! The command line as runc's is read: Go's flag syntax (`-flag`, `--flag`, `--flag=value`,
//! `--flag value`), one table of commands and flags. Nothing is done here.

/// What a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    /// Nothing, or `=true`, `=false`.
    Nothing,
    /// One value; the last one counts.
    Value,
    /// One value each time it is given.
    Many,
}

/// A flag: names (long one first), what it takes, what it does.
pub(crate) struct Flag {
    pub(crate) names: &'static [&'static str],
    pub(crate) takes: Takes,
    pub(crate) usage: &'static str,
}

/// A command.
pub(crate) struct Command {
    pub(crate) name: &'static str,
    pub(crate) usage: &'static str,
    pub(crate) arguments: &'static str,
    pub(crate) flags: &'static [Flag],
    /// Least and most arguments beside flags.
    pub(crate) arity: (usize, usize),
    /// Whether flags may follow arguments.
    pub(crate) mixed: bool,
}

const fn flag(names: &'static [&'static str], takes: Takes, usage: &'static str) -> Flag {
    Flag { names, takes, usage }
}

use Takes::{Many, Nothing, Value};

const BUNDLE: Flag = flag(
    &["bundle", "b"],
    Value,
    "path to the root of the bundle directory, defaults to the current directory",
);
const CONSOLE: Flag = flag(
    &["console-socket"],
    Value,
    "path to an AF_UNIX socket which will receive a file descriptor referencing the master end of the console's pseudoterminal",
);
const PIDFD: Flag = flag(
    &["pidfd-socket"],
    Value,
    "path to an AF_UNIX socket which will receive a file descriptor referencing the process",
);
const PID_FILE: Flag = flag(&["pid-file"], Value, "specify the file to write the process id to");
const NO_PIVOT: Flag = flag(
    &["no-pivot"],
    Nothing,
    "do not use pivot root to jail process inside rootfs.  This should be used whenever the rootfs is on top of a ramdisk",
);
const NO_KEYRING: Flag = flag(
    &["no-new-keyring"],
    Nothing,
    "do not create a new session keyring for the container.  This will cause the container to inherit the calling processes session key",
);
const PRESERVE: Flag = flag(
    &["preserve-fds"],
    Value,
    "Pass N additional file descriptors to the container (stdio + $LISTEN_FDS + N in total) (default: 0)",
);
const DETACH: Flag = flag(&["detach", "d"], Nothing, "detach from the container's process");
const FORMAT_TABLE: Flag =
    flag(&["format", "f"], Value, "select one of: table or json (default: \"table\")");

/// Flags before the command.
pub(crate) const GLOBAL: &[Flag] = &[
    flag(&["debug"], Nothing, "enable debug logging"),
    flag(&["log"], Value, "set the log file to write runc logs to (default is '/dev/stderr')"),
    flag(
        &["log-format"],
        Value,
        "set the log format ('text' (default), or 'json') (default: \"text\")",
    ),
    flag(
        &["root"],
        Value,
        "root directory for storage of container state (this should be located in tmpfs) (default: \"/run/ferry-runc\")",
    ),
    flag(
        &["systemd-cgroup"],
        Nothing,
        "enable systemd cgroup support, expects cgroupsPath to be of form \"slice:prefix:name\" for e.g. \"system.slice:runc:434234\"",
    ),
    flag(
        &["rootless"],
        Value,
        "ignore cgroup permission errors ('true', 'false', or 'auto') (default: \"auto\")",
    ),
    flag(&["help", "h"], Nothing, "show help"),
    flag(&["version", "v"], Nothing, "print the version"),
];

/// Every command.
pub(crate) const COMMANDS: &[Command] = &[
    Command {
        name: "create",
        usage: "create a container",
        arguments: "[command options] <container-id>",
        flags: &[BUNDLE, CONSOLE, PIDFD, PID_FILE, NO_PIVOT, NO_KEYRING, PRESERVE],
        arity: (1, 1),
        mixed: true,
    },
    Command {
        name: "delete",
        usage: "delete any resources held by the container often used with detached container",
        arguments: "[command options] <container-id>",
        flags: &[flag(
            &["force", "f"],
            Nothing,
            "Forcibly deletes the container if it is still running (uses SIGKILL)",
        )],
        arity: (1, 1),
        mixed: true,
    },
    Command {
        name: "events",
        usage: "display container events such as OOM notifications, cpu, memory, and IO usage statistics",
        arguments: "[command options] <container-id>",
        flags: &[
            flag(&["interval"], Value, "set the stats collection interval (default: 5s)"),
            flag(&["stats"], Nothing, "display the container's stats then exit"),
        ],
        arity: (1, 1),
        mixed: true,
    },
    Command {
        name: "exec",
        usage: "execute new process inside the container",
        arguments: "[command options] <container-id> <command> [command options]  || -p process.json <container-id>",
        flags: &[
            CONSOLE,
            PIDFD,
            flag(&["cwd"], Value, "current working directory in the container"),
            flag(&["env", "e"], Many, "set environment variables"),
            flag(&["tty", "t"], Nothing, "allocate a pseudo-TTY"),
            flag(&["user", "u"], Value, "UID (format: <uid>[:<gid>])"),
            flag(&["additional-gids", "g"], Many, "additional gids"),
            flag(&["process", "p"], Value, "path to the process.json"),
            DETACH,
            PID_FILE,
            flag(
                &["process-label"],
                Value,
                "set the asm process label for the process commonly used with selinux",
            ),
            flag(&["apparmor"], Value, "set the apparmor profile for the process"),
            flag(&["no-new-privs"], Nothing, "set the no new privileges value for the process"),
            flag(&["cap", "c"], Many, "add a capability to the bounding set for the process"),
            PRESERVE,
            flag(
                &["cgroup"],
                Many,
                "run the process in an (existing) sub-cgroup(s). Format is [<controller>:]<cgroup>.",
            ),
            flag(&["ignore-paused"], Nothing, "allow exec in a paused container"),
        ],
        arity: (1, usize::MAX),
        mixed: false,
    },
    Command {
        name: "features",
        usage: "show the enabled features",
        arguments: "[command options]",
        flags: &[],
        arity: (0, 0),
        mixed: true,
    },
    Command {
        name: "kill",
        usage: "kill sends the specified signal (default: SIGTERM) to the container's init process",
        arguments: "[command options] <container-id> [signal]",
        flags: &[flag(&["all", "a"], Nothing, "send the signal to every process of the container")],
        arity: (1, 2),
        mixed: true,
    },
    Command {
        name: "list",
        usage: "lists containers started by runc with the given root",
        arguments: "[command options]",
        flags: &[FORMAT_TABLE, flag(&["quiet", "q"], Nothing, "display only container IDs")],
        arity: (0, 0),
        mixed: true,
    },
    Command {
        name: "pause",
        usage: "pause suspends all processes inside the container",
        arguments: "<container-id>",
        flags: &[],
        arity: (1, 1),
        mixed: true,
    },
    Command {
        name: "ps",
        usage: "ps displays the processes running inside a container",
        arguments: "[command options] <container-id> [ps options]",
        flags: &[FORMAT_TABLE],
        arity: (1, usize::MAX),
        mixed: false,
    },
    Command {
        name: "resume",
        usage: "resumes all processes that have been previously paused",
        arguments: "<container-id>",
        flags: &[],
        arity: (1, 1),
        mixed: true,
    },
    Command {
        name: "run",
        usage: "create and run a container",
        arguments: "[command options] <container-id>",
        flags: &[
            BUNDLE,
            CONSOLE,
            PIDFD,
            DETACH,
            flag(&["keep"], Nothing, "do not delete the container after it exits"),
            PID_FILE,
            flag(
                &["no-subreaper"],
                Nothing,
                "disable the use of the subreaper used to reap reparented processes",
            ),
            NO_PIVOT,
            NO_KEYRING,
            PRESERVE,
        ],
        arity: (1, 1),
        mixed: true,
    },
    Command {
        name: "spec",
        usage: "create a new specification file",
        arguments: "[command options]",
        flags: &[
            flag(&["bundle", "b"], Value, "path to the root of the bundle directory"),
            flag(&["rootless"], Nothing, "generate a configuration for a rootless container"),
        ],
        arity: (0, 0),
        mixed: true,
    },
    Command {
        name: "start",
        usage: "executes the user defined process in a created container",
        arguments: "<container-id>",
        flags: &[],
        arity: (1, 1),
        mixed: true,
    },
    Command {
        name: "state",
        usage: "output the state of a container",
        arguments: "<container-id>",
        flags: &[],
        arity: (1, 1),
        mixed: true,
    },
    Command {
        name: "update",
        usage: "update container resource constraints",
        arguments: "[command options] <container-id>",
        flags: &[
            flag(
                &["resources", "r"],
                Value,
                "path to the file containing the resources to update or '-' to read from the standard input",
            ),
            flag(
                &["blkio-weight"],
                Value,
                "Specifies per cgroup weight, range is from 10 to 1000 (default: 0)",
            ),
            flag(
                &["cpu-period"],
                Value,
                "CPU CFS period to be used for hardcapping (in usecs). 0 to use system default",
            ),
            flag(
                &["cpu-quota"],
                Value,
                "CPU CFS hardcap limit (in usecs). Allowed cpu time in a given period",
            ),
            flag(
                &["cpu-burst"],
                Value,
                "CPU CFS hardcap burst limit (in usecs). Allowed accumulated cpu time additionally for burst a given period",
            ),
            flag(&["cpu-share"], Value, "CPU shares (relative weight vs. other containers)"),
            flag(
                &["cpu-rt-period"],
                Value,
                "CPU realtime period to be used for hardcapping (in usecs). 0 to use system default",
            ),
            flag(
                &["cpu-rt-runtime"],
                Value,
                "CPU realtime hardcap limit (in usecs). Allowed cpu time in a given period",
            ),
            flag(&["cpuset-cpus"], Value, "CPU(s) to use"),
            flag(&["cpuset-mems"], Value, "Memory node(s) to use"),
            flag(&["memory"], Value, "Memory limit (in bytes)"),
            flag(
                &["cpu-idle"],
                Value,
                "set cgroup SCHED_IDLE or not, 0: default behavior, 1: SCHED_IDLE",
            ),
            flag(&["memory-reservation"], Value, "Memory reservation or soft_limit (in bytes)"),
            flag(
                &["memory-swap"],
                Value,
                "Total memory usage (memory + swap); set '-1' to enable unlimited swap",
            ),
            flag(
                &["pids-limit"],
                Value,
                "Maximum number of pids allowed in the container (default: 0)",
            ),
            flag(&["l3-cache-schema"], Value, "The string of Intel RDT/CAT L3 cache schema"),
            flag(&["mem-bw-schema"], Value, "The string of Intel RDT/MBA memory bandwidth schema"),
        ],
        arity: (1, 1),
        mixed: true,
    },
];

/// A parsed command line, of the program or of a command.
#[derive(Debug, Default)]
pub(crate) struct Parsed {
    values: Vec<(&'static str, String)>,
    /// What is no flag.
    pub(crate) rest: Vec<String>,
}

impl Parsed {
    /// The last value of a flag.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.values.iter().rfind(|(n, _)| *n == name).map(|(_, v)| v.as_str())
    }

    /// Every value of a flag.
    pub(crate) fn all(&self, name: &str) -> Vec<String> {
        self.values.iter().filter(|(n, _)| *n == name).map(|(_, v)| v.clone()).collect()
    }

    /// Whether a flag without value is on.
    pub(crate) fn is_on(&self, name: &str) -> bool {
        self.value(name).is_some_and(|v| v == "true")
    }
}

/// Go's spellings of a truth value.
pub(crate) fn truth(text: &str) -> Option<&'static str> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some("true"),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some("false"),
        _ => None,
    }
}

/// Reads flags; `mixed` allows them after arguments.
///
/// # Errors
/// Go's texts.
pub(crate) fn parse(flags: &[Flag], words: &[String], mixed: bool) -> Result<Parsed, String> {
    let mut parsed = Parsed::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == "--" {
            parsed.rest.extend(words.cloned());
            break;
        }
        let Some(name) = word.strip_prefix('-').filter(|n| !n.is_empty()) else {
            parsed.rest.push(word.clone());
            if mixed {
                continue;
            }
            parsed.rest.extend(words.cloned());
            break;
        };
        let name = name.strip_prefix('-').unwrap_or(name);
        if name.is_empty() || name.starts_with(['-', '=']) {
            return Err(format!("bad flag syntax: {word}"));
        }
        let (name, given) = match name.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (name, None),
        };
        let Some(flag) = flags.iter().find(|f| f.names.contains(&name)) else {
            return Err(match name {
                "help" | "h" => "help requested".into(),
                _ => format!("flag provided but not defined: -{name}"),
            });
        };
        let value = match (flag.takes, given) {
            (Nothing, None) => "true".into(),
            (Nothing, Some(value)) => truth(&value)
                .ok_or_else(|| format!("invalid boolean value {value:?} for -{name}: parse error"))?
                .into(),
            (_, Some(value)) => value,
            (_, None) => {
                words.next().cloned().ok_or_else(|| format!("flag needs an argument: -{name}"))?
            }
        };
        parsed.values.push((flag.names[0], value));
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    fn command(name: &str) -> &'static Command {
        COMMANDS.iter().find(|c| c.name == name).unwrap()
    }

    #[test]
    fn one_dash_and_two_mean_the_same() {
        for text in ["-bundle /b id", "--bundle=/b id", "-b /b id", "id --b=/b"] {
            let parsed = parse(command("create").flags, &words(text), true).unwrap();
            assert_eq!(parsed.value("bundle"), Some("/b"));
            assert_eq!(parsed.rest, ["id"]);
        }
    }

    #[test]
    fn flags_after_the_command_of_an_exec_are_its_own() {
        let parsed = parse(command("exec").flags, &words("-t id ls -l"), false).unwrap();
        assert!(parsed.is_on("tty"));
        assert_eq!(parsed.rest, ["id", "ls", "-l"]);
    }

    #[test]
    fn errors_are_worded_as_go_words_them() {
        let error = |text: &str| parse(command("create").flags, &words(text), true).unwrap_err();
        assert_eq!(error("--bogus x"), "flag provided but not defined: -bogus");
        assert_eq!(error("--bundle"), "flag needs an argument: -bundle");
    }
}
