//! Rows of the commands on the engine itself and on contexts.

use super::{FILTER, FORMAT, FORMAT_ONE};
use crate::commands::Op;
use crate::spec::{Arity, Command, Completes, Flag, Kind};

const fn switch(long: &'static str, short: char, help: &'static str) -> Flag {
    Flag::new(long, short, Kind::Bool, "", help)
}
const fn text(long: &'static str, help: &'static str) -> Flag {
    Flag::new(long, '\0', Kind::Text, "", help)
}

pub(super) const EVENTS: Command = Command::new(
    "events",
    "[OPTIONS]",
    Arity::None,
    Op::Events,
    "Print what happens, as it happens",
)
.known_as(&[], &["system events", "events"])
.flags(&[
    FILTER,
    Flag { short: '\0', ..FORMAT_ONE },
    text("since", "Start with what happened at this time"),
    text("until", "End at this time"),
]);

pub(super) const INFO: Command =
    Command::new("info", "[OPTIONS]", Arity::None, Op::Info, "Tell about the engine and its host")
        .known_as(&[], &["system info", "info"])
        .flags(&[FORMAT_ONE]);

pub(super) const LOGIN: Command = Command::new(
    "login",
    "[OPTIONS] [SERVER]",
    Arity::AtMost(1),
    Op::Login,
    "Log in to a registry",
)
.long("Log in to a registry.\nWithout a server, the registry is the daemon's own default.")
.flags(&[
    Flag::new("password", 'p', Kind::Text, "", "Password or access token"),
    switch("password-stdin", '\0', "Read the password from standard input"),
    Flag::new("username", 'u', Kind::Text, "", "User name"),
]);

pub(super) const LOGOUT: Command =
    Command::new("logout", "[SERVER]", Arity::AtMost(1), Op::Logout, "Log out from a registry")
        .long(
            "Log out from a registry.\nWithout a server, the registry is the daemon's own default.",
        );

const DIAL_STDIO: Command = Command::new(
    "dial-stdio",
    "",
    Arity::None,
    Op::DialStdio,
    "Connect standard input and output to the daemon",
)
.hide();

const DF: Command = Command::new(
    "df",
    "[OPTIONS]",
    Arity::None,
    Op::SystemUsage,
    "Tell what images, containers and volumes take",
)
.flags(&[FORMAT, switch("verbose", 'v', "Tell of each thing by itself")]);

const PRUNE: Command =
    Command::new("prune", "[OPTIONS]", Arity::None, Op::SystemPrune, "Remove what is not in use")
        .flags(&[
            switch(
                "all",
                'a',
                "Remove all images without a container, not only those without a name",
            ),
            Flag::new(
                "filter",
                '\0',
                Kind::Filter,
                "",
                "Remove only what meets a condition (e.g. \"label=<key>=<value>\")",
            )
            .since("1.28"),
            switch("force", 'f', "Do not ask"),
            switch("volumes", '\0', "Remove anonymous volumes too"),
        ]);

pub(super) static COMMANDS: &[Command] = &[DF, DIAL_STDIO, EVENTS, INFO, PRUNE];

const DOCKER: Flag =
    Flag::new("docker", '\0', Kind::Pairs, "[]", "How the daemon is reached (key=value)");
const DESCRIPTION: Flag = text("description", "What the context is for");

/// The group on contexts.
pub(super) static CONTEXT: &[Command] = &[
    Command::new(
        "create",
        "[OPTIONS] CONTEXT",
        Arity::Exactly(1),
        Op::ContextCreate,
        "Create a context",
    )
    .long(
        "Create a context\n\nKeys of the endpoint:\n\
         NAME                DESCRIPTION\n\
         from                Take the endpoint of this context\n\
         host                Address of the daemon\n\
         ca                  File with the authority's certificate\n\
         cert                File with the client's certificate\n\
         key                 File with the client's key\n\
         skip-tls-verify     Do not check the daemon's certificate\n\n\
         Example:\n\n\
         $ docker context create my-context --description \"some description\" \
         --docker \"host=tcp://myserver:2376,ca=~/ca-file,cert=~/cert-file,key=~/key-file\"",
    )
    .flags(&[DESCRIPTION, DOCKER, text("from", "Copy this context")]),
    Command::new(
        "inspect",
        "[OPTIONS] [CONTEXT] [CONTEXT...]",
        Arity::Any,
        Op::ContextInspect,
        "Tell everything known about contexts",
    )
    .completing(Completes::Contexts)
    .flags(&[FORMAT_ONE]),
    Command::new("ls", "[OPTIONS]", Arity::None, Op::ContextList, "List contexts")
        .known_as(&["list"], &["context ls", "context list"])
        .flags(&[FORMAT, switch("quiet", 'q', "Print names only")]),
    Command::new(
        "rm",
        "CONTEXT [CONTEXT...]",
        Arity::AtLeast(1),
        Op::ContextRemove,
        "Remove contexts",
    )
    .known_as(&["remove"], &["context rm", "context remove"])
    .completing(Completes::Contexts)
    .flags(&[switch("force", 'f', "Remove it even if it is in use")]),
    Command::new("show", "", Arity::None, Op::ContextShow, "Print the name of the context in use"),
    Command::new("use", "CONTEXT", Arity::Exactly(1), Op::ContextUse, "Choose the context to use")
        .completing(Completes::Contexts),
];
