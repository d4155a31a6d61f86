//! The table of commands. Rows only: what each is called, takes and says.
//! A row's meaning is in `spec`, its doing in `commands`.

mod container;
mod create;
mod image;
mod manifest;
mod network;
mod system;

use crate::commands::Op;
use crate::spec::{Arity, Command, Completes, Flag, Kind, Section};

/// `--format` of lists.
const FORMAT: Flag = Flag::new(
    "format",
    '\0',
    Kind::Text,
    "",
    "Shape the output by a template:\n'table':            A table with headings\n(default)\n\
     'table TEMPLATE':   A table whose columns the\ntemplate names\n\
     'json':             One JSON object a line\n\
     'TEMPLATE':         Whatever the Go template\nprints, a line each",
);
/// `--format` of single things.
const FORMAT_ONE: Flag = Flag::new(
    "format",
    'f',
    Kind::Text,
    "",
    "Shape the output by a template:\n'json':             A JSON object\n\
     'TEMPLATE':         Whatever the Go template\nprints",
);
const FILTER: Flag =
    Flag::new("filter", 'f', Kind::Filter, "", "Show only what meets a condition (name=value)");
const NO_TRUNC: Flag = Flag::new("no-trunc", '\0', Kind::Bool, "", "Show values in full length");
const DETACH_KEYS: Flag =
    Flag::new("detach-keys", '\0', Kind::Text, "", "Keys that detach from the container");
const CHANGE: Flag = Flag::new(
    "change",
    'c',
    Kind::List(crate::spec::Check::Nothing),
    "",
    "Dockerfile instruction to apply to the new image",
);

/// The flags before the command.
pub static GLOBAL: &[Flag] = &[
    Flag::new("config", '\0', Kind::Text, "", "Folder of the client's configuration"),
    Flag::new(
        "context",
        'c',
        Kind::Text,
        "",
        "Context that names the daemon to use (before DOCKER_HOST and the context chosen by \
         \"context use\")",
    ),
    Flag::new("debug", 'D', Kind::Bool, "", "Tell more about what happens"),
    Flag::new("host", 'H', Kind::Text, "", "Socket of the daemon to use"),
    Flag::new(
        "log-level",
        'l',
        Kind::Text,
        "\"info\"",
        "Least level of messages (\"debug\", \"info\", \"warn\", \"error\", \"fatal\")",
    ),
    Flag::new("version", 'v', Kind::Bool, "", "Print the version and end"),
    Flag::new("help", '\0', Kind::Bool, "", "Print usage").hide(),
];

/// The root of the table.
pub static ROOT: Command = Command {
    name: "",
    usage: "[OPTIONS] COMMAND",
    flags: GLOBAL,
    ..Command::group("", "Containers, from one program to the next", COMMANDS)
};

const VERSION: Command = Command::new(
    "version",
    "[OPTIONS]",
    Arity::None,
    Op::Version,
    "Tell the versions of client and daemon",
)
.flags(&[FORMAT_ONE]);

const INSPECT: Command = Command::new(
    "inspect",
    "[OPTIONS] NAME|ID [NAME|ID...]",
    Arity::AtLeast(1),
    Op::Inspect,
    "Tell everything known about things of any type",
)
.flags(&[
    FORMAT_ONE,
    Flag::new("size", 's', Kind::Bool, "", "With a container, also tell its size"),
    Flag::new("type", '\0', Kind::Text, "", "Look at things of this type only"),
])
.completing(Completes::Anything);

const COMPLETION: Command = Command::new(
    "completion",
    "[bash|zsh|fish]",
    Arity::Exactly(1),
    Op::Completion,
    "Print the script that completes commands in a shell",
)
.completing(Completes::Shells)
.hide();

static COMMANDS: &[Command] = &[
    container::RUN.at_root("run", Section::Common(1)),
    container::EXEC.at_root("exec", Section::Common(2)),
    container::LS.at_root("ps", Section::Common(3)),
    image::PULL.at_root("pull", Section::Common(5)),
    image::PUSH.at_root("push", Section::Common(6)),
    image::LS.at_root("images", Section::Common(7)),
    system::LOGIN.at_root("login", Section::Common(8)),
    system::LOGOUT.at_root("logout", Section::Common(9)),
    image::SEARCH.at_root("search", Section::Common(10)),
    VERSION.at_root("version", Section::Common(11)),
    system::INFO.at_root("info", Section::Common(12)),
    Command::group("container", "Work with containers", container::COMMANDS),
    Command::group("context", "Work with contexts", system::CONTEXT),
    Command::group("image", "Work with images", image::COMMANDS),
    Command::group("manifest", "Work with lists of manifests", manifest::COMMANDS)
        .long(manifest::LONG),
    Command::group("network", "Work with networks", network::COMMANDS),
    Command::group("system", "Work with the engine", system::COMMANDS),
    container::ATTACH,
    container::COMMIT,
    container::CREATE,
    container::DIFF,
    system::EVENTS,
    container::EXPORT,
    image::HISTORY,
    image::IMPORT,
    INSPECT,
    container::KILL,
    image::LOAD,
    container::LOGS,
    container::PAUSE,
    container::PORT,
    container::RENAME,
    container::RESTART,
    container::RM.at_root("rm", Section::Plain),
    image::RM.at_root("rmi", Section::Plain),
    image::SAVE,
    container::START,
    container::STOP,
    image::TAG,
    container::TOP,
    container::UNPAUSE,
    container::UPDATE,
    container::WAIT,
    COMPLETION,
];
