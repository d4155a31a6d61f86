//! Rows of the commands on containers.

use super::create::{CREATE_FLAGS, RUN_FLAGS};
use super::{CHANGE, DETACH_KEYS, FILTER, FORMAT, FORMAT_ONE, NO_TRUNC};
use crate::commands::Op;
use crate::spec::{Arity, Check, Command, Completes, Flag, Kind};

const fn switch(long: &'static str, short: char, help: &'static str) -> Flag {
    Flag::new(long, short, Kind::Bool, "", help)
}
const fn text(long: &'static str, short: char, help: &'static str) -> Flag {
    Flag::new(long, short, Kind::Text, "", help)
}
const fn int(long: &'static str, short: char, help: &'static str) -> Flag {
    Flag::new(long, short, Kind::Int, "", help)
}
/// A command on one or more containers.
const fn each(
    name: &'static str,
    usage: &'static str,
    op: Op,
    completes: Completes,
    short: &'static str,
) -> Command {
    Command::new(name, usage, Arity::AtLeast(1), op, short).completing(completes)
}

pub(super) const ATTACH: Command = Command::new(
    "attach",
    "[OPTIONS] CONTAINER",
    Arity::Exactly(1),
    Op::Attach,
    "Connect this terminal to the streams of a running container",
)
.known_as(&[], &["container attach", "attach"])
.completing(Completes::OneRunning)
.flags(&[
    DETACH_KEYS,
    switch("no-stdin", '\0', "Leave standard input alone"),
    Flag::new("sig-proxy", '\0', Kind::Bool, "true", "Pass received signals on to the process"),
]);

pub(super) const COMMIT: Command = Command::new(
    "commit",
    "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
    Arity::Between(1, 2),
    Op::Commit,
    "Make an image of a container's changes",
)
.known_as(&[], &["container commit", "commit"])
.completing(Completes::OneContainer)
.flags(&[
    text("author", 'a', "Author (e.g., \"Ada <ada@example.org>\")"),
    CHANGE,
    text("message", 'm', "Message of the commit"),
    Flag::new("pause", 'p', Kind::Bool, "true", "Pause the container meanwhile"),
]);

pub(super) const CREATE: Command = Command::new(
    "create",
    "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    Arity::AtLeast(1),
    Op::Create,
    "Create a container",
)
.known_as(&[], &["container create", "create"])
.completing(Completes::ImageThenFiles)
.flags_first()
.flags(CREATE_FLAGS);

pub(super) const DIFF: Command = Command::new(
    "diff",
    "CONTAINER",
    Arity::Exactly(1),
    Op::Diff,
    "List what changed in a container's file system",
)
.known_as(&[], &["container diff", "diff"])
.completing(Completes::OneContainer);

pub(super) const EXEC: Command = Command::new(
    "exec",
    "[OPTIONS] CONTAINER COMMAND [ARG...]",
    Arity::AtLeast(2),
    Op::Exec,
    "Start a command in a running container",
)
.known_as(&[], &["container exec", "exec"])
.completing(Completes::OneRunning)
.flags_first()
.flags(&[
    switch("detach", 'd', "Leave the command in the background"),
    DETACH_KEYS,
    Flag::new("env", 'e', Kind::List(Check::Env), "", "Environment variable to set").since("1.25"),
    Flag::new("env-file", '\0', Kind::List(Check::Nothing), "", "File with environment variables")
        .since("1.25"),
    switch("interactive", 'i', "Keep standard input open, attached or not"),
    switch("privileged", '\0', "Give the command nearly all rights of the host"),
    switch("tty", 't', "Give the command a terminal"),
    text("user", 'u', "User name or number (\"<name|uid>[:<group|gid>]\")"),
    text("workdir", 'w', "Working folder inside the container").since("1.35"),
]);

pub(super) const EXPORT: Command = Command::new(
    "export",
    "[OPTIONS] CONTAINER",
    Arity::Exactly(1),
    Op::Export,
    "Write a container's file system as a tar archive",
)
.known_as(&[], &["container export", "export"])
.completing(Completes::OneContainer)
.flags(&[text("output", 'o', "File to write, in place of standard output")]);

const INSPECT: Command = each(
    "inspect",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    Op::ContainerInspect,
    Completes::Containers,
    "Tell everything known about containers",
)
.flags(&[FORMAT_ONE, switch("size", 's', "Also tell sizes of files")]);

pub(super) const KILL: Command = each(
    "kill",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    Op::Kill,
    Completes::Running,
    "Kill running containers",
)
.known_as(&[], &["container kill", "kill"])
.flags(&[text("signal", 's', "Signal to send")]);

pub(super) const LOGS: Command = Command::new(
    "logs",
    "[OPTIONS] CONTAINER",
    Arity::Exactly(1),
    Op::Logs,
    "Print what a container has written",
)
.known_as(&[], &["container logs", "logs"])
.completing(Completes::OneContainer)
.flags(&[
    switch("details", '\0', "Print the attributes of each line too"),
    switch("follow", 'f', "Go on while the container writes"),
    text(
        "since",
        '\0',
        "Start at a time (e.g. \"2013-01-02T13:23:37Z\") or so long ago (e.g. \"42m\")",
    ),
    Flag::new("tail", 'n', Kind::Text, "\"all\"", "Print so many lines from the end"),
    switch("timestamps", 't', "Print the time of each line"),
    text(
        "until",
        '\0',
        "End at a time (e.g. \"2013-01-02T13:23:37Z\") or so long ago (e.g. \"42m\")",
    )
    .since("1.35"),
]);

pub(super) const LS: Command =
    Command::new("ls", "[OPTIONS]", Arity::None, Op::ContainerList, "List containers")
        .known_as(&["list", "ps"], &["container ls", "container list", "container ps", "ps"])
        .flags(&[
            switch("all", 'a', "List all containers, not only those that run"),
            FILTER,
            FORMAT,
            Flag::new("last", 'n', Kind::Int, "-1", "List the n newest containers, in any state"),
            switch("latest", 'l', "List the newest container, in any state"),
            NO_TRUNC,
            switch("quiet", 'q', "Print IDs only"),
            switch("size", 's', "Print sizes of files"),
        ]);

pub(super) const PAUSE: Command = each(
    "pause",
    "CONTAINER [CONTAINER...]",
    Op::Pause,
    Completes::Running,
    "Freeze all processes of containers",
)
.known_as(&[], &["container pause", "pause"]);

pub(super) const PORT: Command = Command::new(
    "port",
    "CONTAINER [PRIVATE_PORT[/PROTO]]",
    Arity::Between(1, 2),
    Op::Port,
    "List the ports of a container that are published",
)
.known_as(&[], &["container port", "port"])
.completing(Completes::OneRunning);

const PRUNE: Command = Command::new(
    "prune",
    "[OPTIONS]",
    Arity::None,
    Op::ContainerPrune,
    "Remove all containers that do not run",
)
.flags(&[
    Flag::new(
        "filter",
        '\0',
        Kind::Filter,
        "",
        "Remove only what meets a condition (e.g. \"until=<timestamp>\")",
    ),
    switch("force", 'f', "Do not ask"),
]);

pub(super) const RENAME: Command = Command::new(
    "rename",
    "CONTAINER NEW_NAME",
    Arity::Exactly(2),
    Op::Rename,
    "Give a container another name",
)
.known_as(&[], &["container rename", "rename"])
.completing(Completes::OneContainer);

const STOP_FLAGS: &[Flag] = &[
    text("signal", 's', "Signal that asks to stop").since("1.42"),
    int("time", '\0', "").alias("timeout").instead("use --timeout instead"),
    int("timeout", 't', "Seconds to wait before killing"),
];

pub(super) const RESTART: Command = each(
    "restart",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    Op::Restart,
    Completes::Containers,
    "Stop and start containers",
)
.known_as(&[], &["container restart", "restart"])
.flags(STOP_FLAGS);

pub(super) const RM: Command = each(
    "rm",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    Op::Remove,
    Completes::Containers,
    "Remove containers",
)
.known_as(&["remove"], &["container rm", "container remove", "rm"])
.flags(&[
    switch("force", 'f', "Kill the container first if it runs"),
    switch("link", 'l', "Remove this link only"),
    switch("volumes", 'v', "Remove the container's anonymous volumes too"),
]);

pub(super) const RUN: Command = Command::new(
    "run",
    "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    Arity::AtLeast(1),
    Op::Run,
    "Create a container and start it",
)
.known_as(&[], &["container run", "run"])
.completing(Completes::ImageThenFiles)
.flags_first()
.flags(RUN_FLAGS);

pub(super) const START: Command = each(
    "start",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    Op::Start,
    Completes::Stopped,
    "Start containers that do not run",
)
.known_as(&[], &["container start", "start"])
.flags(&[
    switch("attach", 'a', "Connect to output and errors, pass signals on"),
    DETACH_KEYS,
    switch("interactive", 'i', "Connect the container's standard input"),
]);

pub(super) const STOP: Command = each(
    "stop",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    Op::Stop,
    Completes::Running,
    "Stop running containers",
)
.known_as(&[], &["container stop", "stop"])
.flags(STOP_FLAGS);

pub(super) const TOP: Command = each(
    "top",
    "CONTAINER [ps OPTIONS]",
    Op::Top,
    Completes::OneRunning,
    "List the processes of a container",
)
.known_as(&[], &["container top", "top"])
.flags_first();

pub(super) const UNPAUSE: Command = each(
    "unpause",
    "CONTAINER [CONTAINER...]",
    Op::Unpause,
    Completes::Paused,
    "Thaw all processes of containers",
)
.known_as(&[], &["container unpause", "unpause"]);

pub(super) const UPDATE: Command = each(
    "update",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    Op::Update,
    Completes::Containers,
    "Change the limits of containers",
)
.known_as(&[], &["container update", "update"])
.flags(super::create::UPDATE_FLAGS);

pub(super) const WAIT: Command = each(
    "wait",
    "CONTAINER [CONTAINER...]",
    Op::Wait,
    Completes::Running,
    "Wait until containers end and print their exit codes",
)
.known_as(&[], &["container wait", "wait"]);

pub(super) static COMMANDS: &[Command] = &[
    ATTACH, COMMIT, CREATE, DIFF, EXEC, EXPORT, INSPECT, KILL, LOGS, LS, PAUSE, PORT, PRUNE,
    RENAME, RESTART, RM, RUN, START, STOP, TOP, UNPAUSE, UPDATE, WAIT,
];
