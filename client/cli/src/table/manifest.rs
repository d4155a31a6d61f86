//! Rows of the commands on lists of manifests.

use crate::commands::Op;
use crate::spec::{Arity, Command, Flag, Kind};

const fn switch(long: &'static str, short: char, help: &'static str) -> Flag {
    Flag::new(long, short, Kind::Bool, "", help)
}
const fn text(long: &'static str, help: &'static str) -> Flag {
    Flag::new(long, '\0', Kind::Text, "", help)
}
const INSECURE: Flag = switch("insecure", '\0', "Talk to a registry that can't be verified");

pub(super) const LONG: &str = "Make lists of manifests: one name for an image's builds for \
    several platforms.\nA list is made here, told what its manifests run on, and pushed.";

pub(super) static COMMANDS: &[Command] = &[
    Command::new(
        "annotate",
        "[OPTIONS] MANIFEST_LIST MANIFEST",
        Arity::Exactly(2),
        Op::ManifestAnnotate,
        "Say what a manifest of a list runs on",
    )
    .flags(&[
        text("arch", "Architecture"),
        text("os", "Operating system"),
        Flag::new("os-features", '\0', Kind::Strings, "", "Features of the operating system"),
        text("os-version", "Version of the operating system"),
        text("variant", "Variant of the architecture"),
    ]),
    Command::new(
        "create",
        "MANIFEST_LIST MANIFEST [MANIFEST...]",
        Arity::AtLeast(2),
        Op::ManifestCreate,
        "Make a list of manifests, to be pushed later",
    )
    .flags(&[switch("amend", 'a', "Add to a list that is there"), INSECURE]),
    Command::new(
        "inspect",
        "[OPTIONS] [MANIFEST_LIST] MANIFEST",
        Arity::Between(1, 2),
        Op::ManifestInspect,
        "Print a manifest, or a list of them",
    )
    .flags(&[INSECURE, switch("verbose", 'v', "Tell of each manifest by itself")]),
    Command::new(
        "push",
        "[OPTIONS] MANIFEST_LIST",
        Arity::Exactly(1),
        Op::ManifestPush,
        "Send a list of manifests to its registry",
    )
    .flags(&[INSECURE, switch("purge", 'p', "Remove the list here once it is there")]),
    Command::new(
        "rm",
        "MANIFEST_LIST [MANIFEST_LIST...]",
        Arity::AtLeast(1),
        Op::ManifestRemove,
        "Remove lists that are kept here",
    ),
];
