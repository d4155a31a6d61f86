//! The table of commands and flags, with the words that help shows.

use crate::args::Takes::{Many, Nothing, Value};
use crate::args::{Command, Flag, Takes};

const fn flag(names: &'static [&'static str], takes: Takes, usage: &'static str) -> Flag {
    Flag { names, takes, usage }
}

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

const IMAGES: &str = "path to criu image files for restoring";
const TCP: Flag = flag(&["tcp-established"], Nothing, "allow open tcp connections");
const UNIX: Flag = flag(&["ext-unix-sk"], Nothing, "allow external unix sockets");
const SHELL_JOB: Flag = flag(&["shell-job"], Nothing, "allow shell jobs");
const LAZY: Flag = flag(&["lazy-pages"], Nothing, "use userfaultfd to lazily restore memory pages");
const LOCKS: Flag = flag(&["file-locks"], Nothing, "handle file locks, for safety");
const CGROUPS_MODE: Flag =
    flag(&["manage-cgroups-mode"], Value, "cgroups mode: soft|full|strict|ignore (default: soft)");
const EMPTY_NS: Flag =
    flag(&["empty-ns"], Many, "create a namespace, but don't restore its properties");
const DEDUP: Flag = flag(&["auto-dedup"], Nothing, "enable auto deduplication of memory images");
const WORK_PATH: Flag = flag(&["work-path"], Value, "path for saving work files and logs");
const NO_SUBREAPER: Flag = flag(
    &["no-subreaper"],
    Nothing,
    "disable the use of the subreaper used to reap reparented processes",
);

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
        name: "checkpoint",
        usage: "checkpoint a running container",
        arguments: "[command options] <container-id>",
        flags: &[
            flag(&["image-path"], Value, "path for saving criu image files"),
            WORK_PATH,
            flag(&["parent-path"], Value, "path for previous criu image files in pre-dump"),
            flag(&["leave-running"], Nothing, "leave the process running after checkpointing"),
            TCP,
            flag(&["tcp-skip-in-flight"], Nothing, "skip in-flight tcp connections"),
            flag(&["link-remap"], Nothing, "allow one to link unlinked files back when possible"),
            UNIX,
            SHELL_JOB,
            LAZY,
            flag(
                &["status-fd"],
                Value,
                "criu writes \\0 to this FD once lazy-pages is ready (default: -1)",
            ),
            flag(&["page-server"], Value, "ADDRESS:PORT of the page server"),
            LOCKS,
            flag(
                &["pre-dump"],
                Nothing,
                "dump container's memory information only, leave the container running after this",
            ),
            CGROUPS_MODE,
            EMPTY_NS,
            DEDUP,
        ],
        arity: (1, 1),
        mixed: true,
    },
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
        name: "restore",
        usage: "restore a container from a previous checkpoint",
        arguments: "[command options] <container-id>",
        flags: &[
            CONSOLE,
            flag(&["image-path"], Value, IMAGES),
            WORK_PATH,
            TCP,
            UNIX,
            SHELL_JOB,
            LOCKS,
            CGROUPS_MODE,
            BUNDLE,
            DETACH,
            PID_FILE,
            NO_SUBREAPER,
            NO_PIVOT,
            EMPTY_NS,
            DEDUP,
            LAZY,
            flag(
                &["lsm-profile"],
                Value,
                "Specify an LSM profile to be used during restore in the form of TYPE:NAME.",
            ),
            flag(
                &["lsm-mount-context"],
                Value,
                "Specify an LSM mount context to be used during restore.",
            ),
        ],
        arity: (1, 1),
        mixed: true,
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
            NO_SUBREAPER,
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
