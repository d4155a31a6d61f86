//! The shape of the table of commands: what a command and a flag are, as data.
//! Parsing, help, completion and version checks all read these rows in place;
//! nothing here knows how a command is carried out.

use crate::commands::Op;

/// One command or group of commands.
#[derive(Clone, Copy, Debug)]
pub struct Command {
    /// The word that selects it.
    pub name: &'static str,
    /// Other words that select it in the same group.
    pub aliases: &'static [&'static str],
    /// Every path that leads here, as help lists them; empty when there is one only.
    pub paths: &'static [&'static str],
    /// What follows the command's path in the usage line.
    pub usage: &'static str,
    /// One line for lists of commands.
    pub short: &'static str,
    /// The text of the command's own page, when it is longer than `short`.
    pub long: &'static str,
    /// Flags in the order of the help page.
    pub flags: &'static [Flag],
    /// How many arguments are taken.
    pub arity: Arity,
    /// Whether flags may follow the first argument.
    pub interspersed: bool,
    /// Kept out of help and completion.
    pub hidden: bool,
    /// Where the root's help lists it.
    pub section: Section,
    /// The oldest API version that has it; empty when all do.
    pub api: &'static str,
    /// What its arguments name, for completion.
    pub completes: Completes,
    /// What it does.
    pub action: Action,
}

/// A group, or something to carry out.
#[derive(Clone, Copy, Debug)]
pub enum Action {
    /// Holds further commands.
    Group(&'static [Command]),
    /// Is carried out.
    Run(Op),
}

/// The sections of the root's help page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// What people use all day, with its place in the list.
    Common(u8),
    /// Groups.
    Management,
    /// The rest.
    Plain,
}

/// How many arguments a command takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arity {
    /// None at all.
    None,
    /// Exactly so many.
    Exactly(usize),
    /// So many or more.
    AtLeast(usize),
    /// So many or fewer.
    AtMost(usize),
    /// Between two numbers.
    Between(usize, usize),
    /// Any number.
    Any,
}

/// What a command's arguments name, for completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completes {
    /// Nothing to offer.
    Nothing,
    /// Files.
    Files,
    /// Containers: all.
    Containers,
    /// Containers that run.
    Running,
    /// Containers that do not run.
    Stopped,
    /// Containers that are paused.
    Paused,
    /// Containers that run, one only, then nothing.
    OneRunning,
    /// One container.
    OneContainer,
    /// Images.
    Images,
    /// One image.
    OneImage,
    /// An image to run, then what shells complete.
    ImageThenFiles,
    /// Networks.
    Networks,
    /// A network, then a container.
    NetworkThenContainer,
    /// Contexts.
    Contexts,
    /// Containers, images, networks and volumes.
    Anything,
    /// A shell's name.
    Shells,
}

/// One flag.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// Name without the dashes.
    pub long: &'static str,
    /// The shorthand's letter, or NUL.
    pub short: char,
    /// What values it takes.
    pub kind: Kind,
    /// The default as help shows it, in parentheses; empty when none is shown.
    pub shown: &'static str,
    /// What it is for.
    pub help: &'static str,
    /// The oldest API version that has it; empty when all do.
    pub api: &'static str,
    /// Kept out of help and completion.
    pub hidden: bool,
    /// What to use in its place, told when it is used; empty for most.
    pub deprecated: &'static str,
    /// The flag under whose name its values are kept, when this is an alias.
    pub alias_of: &'static str,
}

/// What values a flag takes, and so how each is checked while parsing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A switch.
    Bool,
    /// Any text.
    Text,
    /// A whole number, in Go's notation.
    Int,
    /// 0 to 65535.
    Uint16,
    /// A duration in Go's notation.
    Duration,
    /// A size such as `64m`.
    Bytes,
    /// A size, or -1.
    BytesOrUnlimited,
    /// A number of processors such as `1.5`.
    Cpus,
    /// A text that may come several times, each checked.
    List(Check),
    /// Comma separated texts, several times.
    Strings,
    /// Texts, several times.
    TextArray,
    /// `key=value`, several times.
    Map(Check),
    /// `name=value` conditions, several times.
    Filter,
    /// `--mount`.
    Mount,
    /// `--network` of run and create.
    Network,
    /// `--ulimit`.
    Ulimit,
    /// `--gpus`.
    Gpus,
    /// Comma separated `key=value` pairs.
    Pairs,
}

/// The checks of list values that happen while the command line is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Anything goes.
    Nothing,
    /// STDIN, STDOUT or STDERR.
    Attach,
    /// A variable with a name.
    Env,
    /// A label with a name.
    Label,
    /// `host:ip`.
    ExtraHost,
    /// An IP address.
    Address,
    /// A search domain.
    DnsSearch,
    /// `container[:alias]`.
    Link,
    /// `path:weight`.
    WeightDevice,
    /// `path:rate`, the rate being a size.
    ThrottleBytes,
    /// `path:rate`, the rate being a number.
    ThrottleCount,
    /// A rule such as `c 1:3 rwm`.
    DeviceRule,
    /// A sysctl of a namespace.
    Sysctl,
}

impl Flag {
    /// A flag with a shorthand.
    pub const fn new(
        long: &'static str,
        short: char,
        kind: Kind,
        shown: &'static str,
        help: &'static str,
    ) -> Self {
        Self {
            long,
            short,
            kind,
            shown,
            help,
            api: "",
            hidden: false,
            deprecated: "",
            alias_of: "",
        }
    }

    /// The same, known to the daemon since an API version.
    pub const fn since(mut self, api: &'static str) -> Self {
        self.api = api;
        self
    }

    /// The same, kept out of help.
    pub const fn hide(mut self) -> Self {
        self.hidden = true;
        self
    }

    /// The same, with what to use in its place.
    pub const fn instead(mut self, what: &'static str) -> Self {
        self.deprecated = what;
        self
    }

    /// A hidden second name of another flag.
    pub const fn alias(mut self, of: &'static str) -> Self {
        self.hidden = true;
        self.alias_of = of;
        self
    }

    /// The name of the type, as help shows it; empty for a switch.
    pub const fn type_name(&self) -> &'static str {
        match self.kind {
            Kind::Bool => "",
            Kind::Text => "string",
            Kind::Int => "int",
            Kind::Uint16 => "uint16",
            Kind::Duration => "duration",
            Kind::Bytes | Kind::BytesOrUnlimited => "bytes",
            Kind::Cpus => "decimal",
            Kind::List(_) => "list",
            Kind::Strings => "strings",
            Kind::TextArray => "stringArray",
            Kind::Map(_) => "map",
            Kind::Filter => "filter",
            Kind::Mount => "mount",
            Kind::Network => "network",
            Kind::Ulimit => "ulimit",
            Kind::Gpus => "gpu-request",
            Kind::Pairs => "stringToString",
        }
    }

    /// The default value itself: what help shows, without quotes; maps and lists are empty.
    pub fn default_text(&self) -> &'static str {
        match self.kind {
            Kind::Text => self.shown.trim_matches('"'),
            Kind::Int => self.shown,
            _ => "",
        }
    }
}

impl Command {
    /// A command with the usual settings: visible, flags anywhere, nothing to complete.
    pub const fn new(
        name: &'static str,
        usage: &'static str,
        arity: Arity,
        op: Op,
        short: &'static str,
    ) -> Self {
        Self {
            name,
            aliases: &[],
            paths: &[],
            usage,
            short,
            long: "",
            flags: &[],
            arity,
            interspersed: true,
            hidden: false,
            section: Section::Plain,
            api: "",
            completes: Completes::Nothing,
            action: Action::Run(op),
        }
    }

    /// A group of commands.
    pub const fn group(
        name: &'static str,
        short: &'static str,
        commands: &'static [Command],
    ) -> Self {
        Self {
            section: Section::Management,
            action: Action::Group(commands),
            ..Self::new(name, "COMMAND", Arity::Any, Op::Help, short)
        }
    }

    /// The same with flags.
    pub const fn flags(mut self, flags: &'static [Flag]) -> Self {
        self.flags = flags;
        self
    }

    /// The same with other names and all its paths.
    pub const fn known_as(
        mut self,
        aliases: &'static [&'static str],
        paths: &'static [&'static str],
    ) -> Self {
        self.aliases = aliases;
        self.paths = paths;
        self
    }

    /// The same under the root, with another name, where its aliases do not hold.
    pub const fn at_root(mut self, name: &'static str, section: Section) -> Self {
        self.name = name;
        self.aliases = &[];
        self.section = section;
        self
    }

    /// The same, its arguments completed.
    pub const fn completing(mut self, completes: Completes) -> Self {
        self.completes = completes;
        self
    }

    /// The same, flags ending at the first argument.
    pub const fn flags_first(mut self) -> Self {
        self.interspersed = false;
        self
    }

    /// The same, kept out of help.
    pub const fn hide(mut self) -> Self {
        self.hidden = true;
        self
    }

    /// The same with a longer page.
    pub const fn long(mut self, long: &'static str) -> Self {
        self.long = long;
        self
    }

    /// The commands of a group; none for a command.
    pub const fn children(&self) -> &'static [Command] {
        match self.action {
            Action::Group(commands) => commands,
            Action::Run(_) => &[],
        }
    }

    /// The command of a group with this name or alias.
    pub fn child(&self, word: &str) -> Option<&'static Command> {
        self.children().iter().find(|c| c.name == word || c.aliases.contains(&word))
    }

    /// The flag with this long name.
    pub fn flag(&self, long: &str) -> Option<(usize, &'static Flag)> {
        self.flags.iter().enumerate().find(|(_, f)| f.long == long)
    }
}
