//! Rows of the commands on images.

use super::{CHANGE, FILTER, FORMAT, FORMAT_ONE, NO_TRUNC};
use crate::commands::Op;
use crate::spec::{Arity, Command, Completes, Flag, Kind};

const fn switch(long: &'static str, short: char, help: &'static str) -> Flag {
    Flag::new(long, short, Kind::Bool, "", help)
}
const fn text(long: &'static str, short: char, help: &'static str) -> Flag {
    Flag::new(long, short, Kind::Text, "", help)
}
const CONTENT_TRUST: Flag = Flag::new(
    "disable-content-trust",
    '\0',
    Kind::Bool,
    "true",
    "Take images without checking signatures",
);
const PLATFORM: Flag =
    text("platform", '\0', "Platform, where the daemon has several").since("1.32");

pub(super) const HISTORY: Command = Command::new(
    "history",
    "[OPTIONS] IMAGE",
    Arity::Exactly(1),
    Op::History,
    "Tell how an image came about",
)
.known_as(&[], &["image history", "history"])
.completing(Completes::OneImage)
.flags(&[
    FORMAT,
    Flag::new("human", 'H', Kind::Bool, "true", "Print sizes and times for people"),
    NO_TRUNC,
    text("platform", '\0', "History of this platform (\"os[/arch[/variant]]\")").since("1.48"),
    switch("quiet", 'q', "Print IDs only"),
]);

pub(super) const IMPORT: Command = Command::new(
    "import",
    "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
    Arity::AtLeast(1),
    Op::Import,
    "Make an image of a tar archive of files",
)
.known_as(&[], &["image import", "import"])
.completing(Completes::Files)
.flags(&[CHANGE, text("message", 'm', "Message of the commit"), PLATFORM]);

const INSPECT: Command = Command::new(
    "inspect",
    "[OPTIONS] IMAGE [IMAGE...]",
    Arity::AtLeast(1),
    Op::ImageInspect,
    "Tell everything known about images",
)
.completing(Completes::Images)
.flags(&[
    FORMAT_ONE,
    text("platform", '\0', "Look at this platform (\"os[/arch[/variant]]\")").since("1.49"),
]);

pub(super) const LOAD: Command =
    Command::new("load", "[OPTIONS]", Arity::None, Op::Load, "Load images from an archive")
        .known_as(&[], &["image load", "load"])
        .flags(&[
            text("input", 'i', "Archive to read, in place of standard input"),
            text("platform", '\0', "Load this platform only (\"os[/arch[/variant]]\")")
                .since("1.48"),
            switch("quiet", 'q', "Tell nothing of the progress"),
        ]);

pub(super) const LS: Command = Command::new(
    "ls",
    "[OPTIONS] [REPOSITORY[:TAG]]",
    Arity::AtMost(1),
    Op::ImageList,
    "List images",
)
.known_as(&["list"], &["image ls", "image list", "images"])
.completing(Completes::OneImage)
.flags(&[
    switch("all", 'a', "List images between the layers too"),
    switch("digests", '\0', "Print digests"),
    FILTER,
    FORMAT,
    NO_TRUNC,
    switch("quiet", 'q', "Print IDs only"),
    switch("tree", '\0', "List platforms below their images (EXPERIMENTAL)").since("1.47"),
]);

const PRUNE: Command = Command::new(
    "prune",
    "[OPTIONS]",
    Arity::None,
    Op::ImagePrune,
    "Remove unused images",
)
.flags(&[
    switch("all", 'a', "Remove all images without a container, not only those without a name"),
    Flag::new(
        "filter",
        '\0',
        Kind::Filter,
        "",
        "Remove only what meets a condition (e.g. \"until=<timestamp>\")",
    ),
    switch("force", 'f', "Do not ask"),
]);

pub(super) const PULL: Command = Command::new(
    "pull",
    "[OPTIONS] NAME[:TAG|@DIGEST]",
    Arity::Exactly(1),
    Op::Pull,
    "Fetch an image from a registry",
)
.known_as(&[], &["image pull", "pull"])
.completing(Completes::OneImage)
.flags(&[
    switch("all-tags", 'a', "Fetch all tags of the repository"),
    CONTENT_TRUST,
    PLATFORM,
    switch("quiet", 'q', "Tell the name only"),
]);

pub(super) const PUSH: Command = Command::new(
    "push",
    "[OPTIONS] NAME[:TAG]",
    Arity::Exactly(1),
    Op::Push,
    "Send an image to a registry",
)
.known_as(&[], &["image push", "push"])
.completing(Completes::OneImage)
.flags(&[
    switch("all-tags", 'a', "Send all tags of the repository"),
    Flag { help: "Send images without signing them", ..CONTENT_TRUST },
    text("platform", '\0', "Send this platform only (\"os[/arch[/variant]]\")").since("1.46"),
    switch("quiet", 'q', "Tell the name only"),
]);

pub(super) const RM: Command = Command::new(
    "rm",
    "[OPTIONS] IMAGE [IMAGE...]",
    Arity::AtLeast(1),
    Op::ImageRemove,
    "Remove images",
)
.known_as(&["remove"], &["image rm", "image remove", "rmi"])
.completing(Completes::Images)
.flags(&[
    switch("force", 'f', "Remove even if it is in use"),
    switch("no-prune", '\0', "Keep parents without a name"),
    Flag::new(
        "platform",
        '\0',
        Kind::Strings,
        "",
        "Remove this platform only (\"os[/arch[/variant]]\")",
    )
    .since("1.50"),
]);

pub(super) const SAVE: Command = Command::new(
    "save",
    "[OPTIONS] IMAGE [IMAGE...]",
    Arity::AtLeast(1),
    Op::Save,
    "Write images as an archive",
)
.known_as(&[], &["image save", "save"])
.completing(Completes::Images)
.flags(&[
    text("output", 'o', "File to write, in place of standard output"),
    text("platform", '\0', "Save this platform only (\"os[/arch[/variant]]\")").since("1.48"),
]);

pub(super) const SEARCH: Command = Command::new(
    "search",
    "[OPTIONS] TERM",
    Arity::Exactly(1),
    Op::Search,
    "Look for images in a registry",
)
.flags(&[
    FILTER,
    Flag { help: "Shape the output by a Go template", ..FORMAT },
    Flag::new("limit", '\0', Kind::Int, "", "Most results to show"),
    NO_TRUNC,
]);

pub(super) const TAG: Command = Command::new(
    "tag",
    "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
    Arity::Exactly(2),
    Op::Tag,
    "Give an image another name",
)
.known_as(&[], &["image tag", "tag"])
.completing(Completes::Images);

pub(super) static COMMANDS: &[Command] =
    &[HISTORY, IMPORT, INSPECT, LOAD, LS, PRUNE, PULL, PUSH, RM, SAVE, TAG];
