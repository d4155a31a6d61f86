//! The OCI runtime: argv → request → the runtime library → text and exit code.

mod args;
mod checkpoint;
mod commands;
mod help;
mod log;
mod processes;
mod table;
mod template;

use args::{Command, Parsed};
use std::io::Write as _;
use std::path::PathBuf;
use table::{COMMANDS, GLOBAL};

/// Parsing and setting up a container makes thousands of small pieces and ends a moment later.
/// Not in tests, which have threads: the arena has no lock.
#[cfg(not(test))]
#[global_allocator]
static ARENA: sys::arena::Arena = sys::arena::Arena::new();

/// What holds for every command.
#[derive(Debug)]
pub(crate) struct Global {
    /// Folder of all containers' state.
    pub(crate) root: PathBuf,
    /// Whether it was named.
    pub(crate) root_is_given: bool,
    /// Whether a lack of rights on cgroups is no error; unsaid, it depends on who we are.
    pub(crate) rootless: Option<bool>,
    /// The cgroup is a unit of systemd.
    pub(crate) systemd_cgroup: bool,
    /// The log.
    pub(crate) log: log::Log,
}

/// Prints to stdout; a closed pipe is nobody's concern.
pub(crate) fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn main() {
    let words: Vec<String> =
        std::env::args_os().skip(1).map(|w| w.to_string_lossy().into_owned()).collect();
    std::process::exit(dispatch(&words));
}

fn dispatch(words: &[String]) -> i32 {
    let parsed = match args::parse(GLOBAL, words, false) {
        Ok(parsed) => parsed,
        Err(why) => {
            print(&format!("Incorrect Usage. {why}\n\n{}", help::program()));
            log::Log::default().write("error", &why);
            return 1;
        }
    };
    if parsed.is_on("version") {
        print(&help::version());
        return 0;
    }
    let global = match global(&parsed) {
        Ok(global) => global,
        Err(why) => {
            log::Log::default().write("error", &why);
            return 1;
        }
    };
    let Some(name) = parsed.rest.first().filter(|_| !parsed.is_on("help")) else {
        print(&help::program());
        return 0;
    };
    let find = |name: &str| COMMANDS.iter().find(|c| c.name == name);
    if name == "help" || name == "h" {
        match parsed.rest.get(1).map(|n| find(n)) {
            Some(Some(command)) => print(&help::command(command)),
            Some(None) => return unknown(&global, &parsed.rest[1]),
            None => print(&help::program()),
        }
        return 0;
    }
    let Some(command) = find(name) else { return unknown(&global, name) };
    run(&global, command, &parsed.rest[1..])
}

fn unknown(global: &Global, name: &str) -> i32 {
    global.log.write("error", &format!("No help topic for '{name}'\n"));
    3
}

fn run(global: &Global, command: &Command, words: &[String]) -> i32 {
    let parsed = match args::parse(command.flags, words, command.mixed) {
        Ok(parsed) => parsed,
        Err(why) if why == "help requested" => {
            print(&help::command(command));
            return 0;
        }
        Err(why) => {
            print(&format!("Incorrect Usage: {why}\n\n{}\n", help::command(command)));
            global.log.write("error", &why);
            return 1;
        }
    };
    let (least, most) = command.arity;
    if !(least..=most).contains(&parsed.rest.len()) {
        print(&format!("Incorrect Usage.\n\n{}\n", help::command(command)));
        let program = std::env::args().next().unwrap_or_default();
        let need = match (least, most) {
            (a, b) if a == b => format!("exactly {a}"),
            (a, _) if parsed.rest.len() < a => format!("a minimum of {a}"),
            (_, b) => format!("a maximum of {b}"),
        };
        let name = command.name;
        global.log.write("error", &format!("{program}: {name:?} requires {need} argument(s)"));
        return 1;
    }
    match commands::run(global, command.name, &parsed) {
        Ok(code) => code,
        Err(commands::Failure { message, code }) => {
            global.log.write("error", &message);
            code
        }
    }
}

impl Global {
    /// Whether to go ahead with few rights: said, or else for everybody but the host's root.
    pub(crate) fn is_rootless(&self) -> bool {
        let whole = |map: String| map.split_whitespace().eq(["0", "0", "4294967295"]);
        self.rootless.unwrap_or_else(|| {
            !rustix::process::geteuid().is_root()
                || std::fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| !whole(map))
        })
    }
}

fn global(parsed: &Parsed) -> Result<Global, String> {
    let own = || match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(dir) if !rustix::process::geteuid().is_root() => PathBuf::from(dir).join("ferry-runc"),
        _ => PathBuf::from("/run/ferry-runc"),
    };
    let rootless = match parsed.value("rootless").unwrap_or("auto") {
        "" | "auto" => None,
        text => match args::truth(text) {
            Some(word) => Some(word == "true"),
            None => return Err(format!("strconv.ParseBool: parsing {text:?}: invalid syntax")),
        },
    };
    let json = match parsed.value("log-format").unwrap_or("text") {
        "text" => false,
        "json" => true,
        other => return Err(format!("invalid log-format: {other}")),
    };
    Ok(Global {
        root: parsed.value("root").map_or_else(own, PathBuf::from),
        root_is_given: parsed.value("root").is_some(),
        rootless,
        systemd_cgroup: parsed.is_on("systemd-cgroup"),
        log: log::Log { path: parsed.value("log").map(str::to_owned), json },
    })
}
