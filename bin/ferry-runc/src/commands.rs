//! Each command: flags → a request to the runtime library → what is printed.

use crate::args::Parsed;
use crate::{Global, checkpoint, print, processes, template};
use oci::runtime::{BlockIo, Cpu, Memory, Pids, Process, Resources};
use runtime::{Create, Error, Exec, Flags, Update};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What is logged, and the exit code.
pub(crate) struct Failure {
    pub(crate) message: String,
    pub(crate) code: i32,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { message: error.to_string(), code: 1 }
    }
}

pub(crate) fn failure(message: impl Into<String>) -> Failure {
    Failure { message: message.into(), code: 1 }
}

/// The names that runc puts before an error.
fn prefixed(prefix: &'static str, code: i32) -> impl Fn(Error) -> Failure {
    move |error| Failure { message: format!("{prefix} failed: {error}"), code }
}

/// Runs a command.
pub(crate) fn run(global: &Global, name: &str, parsed: &Parsed) -> Result<i32, Failure> {
    let root = &global.root;
    let id = parsed.rest.first().map(String::as_str).unwrap_or_default();
    match name {
        "create" => return create(global, parsed),
        "run" => return run_container(global, parsed),
        "exec" => return exec(global, parsed),
        "checkpoint" => checkpoint::save(global, parsed)?,
        "restore" => return checkpoint::bring_back(global, parsed),
        "start" => runtime::start(root, id)?,
        "kill" => {
            let signal = parsed.rest.get(1).map_or("SIGTERM", String::as_str);
            runtime::kill(root, id, runtime::parse_signal(signal)?, parsed.is_on("all"))?;
        }
        "delete" => runtime::delete(root, id, parsed.is_on("force"))?,
        "pause" => runtime::pause(root, id)?,
        "resume" => runtime::resume(root, id)?,
        "state" => print(&runtime::state_document(root, id)?),
        "list" => list(global, parsed)?,
        "ps" => ps(root, id, parsed)?,
        "events" => events(root, id, parsed)?,
        "update" => update(root, id, parsed)?,
        "features" => print(&format!("{}\n", pretty(&runtime::features())?)),
        _ => template::write(parsed.value("bundle"), parsed.is_on("rootless"))?,
    }
    Ok(0)
}

fn pretty(value: &oci::runtime::Features) -> Result<String, Failure> {
    oci::runtime::to_json_indented(value, "    ").map_err(|e| failure(e.to_string()))
}

/// Descriptors that the service manager passes to this very process (sd_listen_fds(3)).
fn listen_fds() -> u32 {
    let number = |name| std::env::var(name).ok().and_then(|n| n.parse::<u32>().ok());
    match (number("LISTEN_PID"), number("LISTEN_FDS")) {
        (Some(pid), Some(count)) if pid == std::process::id() => count.min(4096),
        _ => 0,
    }
}

/// Descriptors that the starter passes on: `--preserve-fds` and systemd's.
fn preserved(parsed: &Parsed) -> Result<u32, Failure> {
    let own = match parsed.value("preserve-fds") {
        Some(text) => {
            let invalid =
                || failure(format!("invalid value {text:?} for flag -preserve-fds: parse error"));
            text.parse::<i32>().map_err(|_| invalid())?
        }
        None => 0,
    };
    // Fewer than none is none, as with runc.
    Ok(own.max(0).unsigned_abs().saturating_add(listen_fds()).min(4096))
}

/// Whether they are all there: one of our own would take the place of one that is missing.
fn are_there(preserved: u32) -> Result<(), Error> {
    (3..3 + preserved).try_for_each(|number| {
        rustix::fs::lstat(format!("/proc/self/fd/{number}")).map(drop).map_err(|e| {
            let why = runtime::Lower(&e.into());
            let text = format!("unable to stat preserved-fd {number} (of {preserved}): {why}");
            Error::Refused(text)
        })
    })
}

fn flags(global: &Global, parsed: &Parsed) -> Result<Flags, Failure> {
    Ok(Flags {
        no_pivot: parsed.is_on("no-pivot"),
        no_new_keyring: parsed.is_on("no-new-keyring"),
        preserve_fds: preserved(parsed)?,
        listen_fds: listen_fds(),
        rootless: global.is_rootless(),
    })
}

pub(crate) fn request(global: &Global, parsed: &Parsed) -> Result<Create, Failure> {
    let path = |name: &str| parsed.value(name).map(PathBuf::from);
    Ok(Create {
        root: global.root.clone(),
        id: parsed.rest[0].clone(),
        bundle: path("bundle").unwrap_or_else(|| PathBuf::from(".")),
        pid_file: path("pid-file"),
        console_socket: path("console-socket"),
        pidfd_socket: path("pidfd-socket"),
        detach: parsed.is_on("detach"),
        keep: parsed.is_on("keep"),
        no_subreaper: parsed.is_on("no-subreaper"),
        systemd_cgroup: global.systemd_cgroup,
        flags: flags(global, parsed)?,
    })
}

fn create(global: &Global, parsed: &Parsed) -> Result<i32, Failure> {
    let fail = prefixed("runc create", 1);
    // First, since it may begin the program anew.
    runtime::protect().map_err(&fail)?;
    let request = request(global, parsed)?;
    are_there(request.flags.preserve_fds).map_err(&fail)?;
    runtime::create(&request, &mut |w| global.log.write("warning", w)).map_err(&fail)?;
    Ok(0)
}

fn run_container(global: &Global, parsed: &Parsed) -> Result<i32, Failure> {
    let fail = prefixed("runc run", 1);
    runtime::protect().map_err(&fail)?;
    let request = request(global, parsed)?;
    are_there(request.flags.preserve_fds).map_err(&fail)?;
    runtime::run(&request, &mut |w| global.log.write("warning", w)).map_err(&fail)
}

fn exec(global: &Global, parsed: &Parsed) -> Result<i32, Failure> {
    let fail = prefixed("exec", 255);
    runtime::protect().map_err(&fail)?;
    let own =
        |why: Failure| Failure { message: format!("exec failed: {}", why.message), code: 255 };
    let process = match parsed.value("process") {
        Some(path) => Some(read_json::<Process>(Path::new(path)).map_err(own)?),
        None => None,
    };
    if process.is_none() && parsed.rest.len() < 2 {
        return Err(own(failure("exec args cannot be empty")));
    }
    let path = |name: &str| parsed.value(name).map(PathBuf::from);
    let text = |name: &str| parsed.value(name).map(str::to_owned);
    let request = Exec {
        root: global.root.clone(),
        id: parsed.rest[0].clone(),
        process,
        args: parsed.rest[1..].to_vec(),
        cwd: text("cwd"),
        env: parsed.all("env"),
        tty: parsed.is_on("tty"),
        user: parsed.value("user").map(user).transpose().map_err(own)?,
        additional_gids: numbers(&parsed.all("additional-gids"))?,
        caps: parsed.all("cap"),
        no_new_privs: parsed.value("no-new-privs").map(|v| v == "true"),
        apparmor: text("apparmor"),
        process_label: text("process-label"),
        detach: parsed.is_on("detach"),
        pid_file: path("pid-file"),
        console_socket: path("console-socket"),
        pidfd_socket: path("pidfd-socket"),
        ignore_paused: parsed.is_on("ignore-paused"),
        cgroups: cgroups(&parsed.all("cgroup")),
        flags: flags(global, parsed)?,
    };
    are_there(request.flags.preserve_fds).map_err(&fail)?;
    runtime::exec(&request, &mut |w| global.log.write("warning", w)).map_err(&fail)
}

fn user(text: &str) -> Result<(u32, Option<u32>), Failure> {
    let number = |kind: &str, s: &str| {
        let why = format!("bad {kind}: strconv.Atoi: parsing {s:?}: invalid syntax");
        s.parse::<u32>().map_err(|_| failure(why))
    };
    match text.split_once(':') {
        Some((uid, gid)) => Ok((number("uid", uid)?, Some(number("gid", gid)?))),
        None => Ok((number("uid", text)?, None)),
    }
}

fn numbers(all: &[String]) -> Result<Vec<u32>, Failure> {
    all.iter()
        .flat_map(|text| text.split(','))
        .map(|n| n.parse().map_err(|_| failure(format!("invalid group id {n:?}"))))
        .collect()
}

/// `[controllers:]path`.
fn cgroups(all: &[String]) -> Vec<(Vec<String>, String)> {
    all.iter()
        .map(|text| match text.split_once(':') {
            Some((names, path)) => (names.split(',').map(str::to_owned).collect(), path.to_owned()),
            None => (Vec::new(), text.clone()),
        })
        .collect()
}

fn read_json<T: oci::runtime::Document>(path: &Path) -> Result<T, Failure> {
    let bytes = if path == Path::new("-") {
        let mut all = Vec::new();
        std::io::Read::read_to_end(&mut std::io::stdin(), &mut all)
            .map_err(|e| failure(format!("read stdin: {e}")))?;
        all
    } else {
        std::fs::read(path)
            .map_err(|e| failure(format!("open {}: {}", path.display(), runtime::Lower(&e))))?
    };
    oci::runtime::from_json(&bytes).map_err(|e| failure(format!("{}: {e}", path.display())))
}

fn list(global: &Global, parsed: &Parsed) -> Result<(), Failure> {
    let root = &global.root;
    let all = match rustix::fs::access(root, rustix::fs::Access::EXISTS) {
        Err(error) if global.root_is_given => {
            let why = runtime::Lower(&error.into()).to_string();
            return Err(failure(format!("open {}: {why}", root.display())));
        }
        Err(_) => Vec::new(),
        Ok(()) => runtime::list(root)?,
    };
    if parsed.is_on("quiet") {
        for one in &all {
            print(&format!("{}\n", one.id));
        }
        return Ok(());
    }
    match parsed.value("format").unwrap_or("table") {
        "json" => {
            let text = if all.is_empty() {
                "null".to_owned()
            } else {
                serde_json::to_string(&all).map_err(|e| failure(e.to_string()))?
            };
            print(&format!("{text}\n"));
        }
        "table" => {
            let head = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned);
            let rows = all.iter().map(|c| {
                let created = c.created.clone();
                let fields = [c.id.clone(), c.pid.to_string(), c.status.to_string()];
                let [id, pid, status] = fields;
                [id, pid, status, c.bundle.clone(), created, c.owner.clone()]
            });
            print(&table(&std::iter::once(head).chain(rows).collect::<Vec<_>>()));
        }
        _ => return Err(failure("invalid format option")),
    }
    Ok(())
}

/// Columns as Go's tabwriter makes them: at least twelve wide, one space between, none after the
/// last.
fn table(rows: &[[String; 6]]) -> String {
    let width = |column: usize| {
        rows.iter().map(|r| r[column].chars().count() + 3).max().unwrap_or(0).max(12)
    };
    let mut text = String::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            text.push_str(cell);
            if column < 5 {
                let fill = width(column).saturating_sub(cell.chars().count());
                text.push_str(&" ".repeat(fill));
            }
        }
        text.push('\n');
    }
    text
}

fn ps(root: &Path, id: &str, parsed: &Parsed) -> Result<(), Failure> {
    let pids = runtime::pids(root, id)?;
    match parsed.value("format").unwrap_or("table") {
        "json" => {
            let text = serde_json::to_string(&pids).map_err(|e| failure(e.to_string()))?;
            print(&if pids.is_empty() { "null\n".to_owned() } else { format!("{text}\n") });
            Ok(())
        }
        "table" => {
            let options = parsed.rest.get(1..).unwrap_or_default();
            print(&processes::table(&pids, options)?);
            Ok(())
        }
        _ => Err(failure("invalid format option")),
    }
}

fn events(root: &Path, id: &str, parsed: &Parsed) -> Result<(), Failure> {
    let text = parsed.value("interval").unwrap_or("5s");
    let invalid = || failure(format!("invalid value {text:?} for flag -interval: parse error"));
    let interval = duration(text).ok_or_else(invalid)?;
    if interval.is_zero() {
        return Err(failure("duration interval must be greater than 0"));
    }
    if parsed.is_on("stats") {
        print(&format!("{}\n", runtime::event_stats(root, id)?));
        return Ok(());
    }
    Ok(runtime::follow_events(root, id, interval, &mut |line| print(&format!("{line}\n")))?)
}

/// `1m30s`, `500ms`, as Go writes a length of time; zero for one below it.
fn duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, u64); 7] = [
        ("ns", 1),
        ("us", 1000),
        ("µs", 1000),
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
        ("m", 60_000_000_000),
        ("h", 3_600_000_000_000),
    ];
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    let mut all = Duration::ZERO;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() && rest != "0" {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let (_, nanos) = UNITS.iter().find(|(name, _)| *name == &rest[..unit])?;
        let part = Duration::try_from_secs_f64(number * *nanos as f64 / 1e9).ok()?;
        all = all.checked_add(part)?;
        rest = &rest[unit..];
    }
    Some(if text.starts_with('-') { Duration::ZERO } else { all })
}

/// `64M` as bytes.
fn bytes(text: &str) -> Option<i64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift =
        match text[digits.len()..].to_lowercase().trim_end_matches('b').trim_end_matches('i') {
            "" => 0,
            "k" => 10,
            "m" => 20,
            "g" => 30,
            "t" => 40,
            _ => return None,
        };
    digits.parse::<i64>().ok()?.checked_mul(1 << shift)
}

fn update(root: &Path, id: &str, parsed: &Parsed) -> Result<(), Failure> {
    let resources = match parsed.value("resources") {
        Some(path) => read_json(Path::new(path))?,
        None => from_flags(parsed)?,
    };
    let schema = |name: &str| parsed.value(name).filter(|v| !v.is_empty()).map(str::to_owned);
    let (l3_cache_schema, mem_bw_schema) = (schema("l3-cache-schema"), schema("mem-bw-schema"));
    runtime::update(root, id, &Update { resources, l3_cache_schema, mem_bw_schema })?;
    Ok(())
}

fn from_flags(parsed: &Parsed) -> Result<Resources, Failure> {
    /// How runc words a number that is none depends on how it reads the flag.
    fn number<T: std::str::FromStr>(
        parsed: &Parsed,
        name: &str,
        read: &str,
    ) -> Result<Option<T>, Failure> {
        let invalid = |text: &str| {
            failure(match read {
                "" => format!("invalid value {text:?} for flag -{name}: parse error"),
                read => format!(
                    "invalid value for {name}: strconv.{read}: parsing {text:?}: invalid syntax"
                ),
            })
        };
        let given = parsed.value(name).filter(|text| !text.is_empty());
        given.map(|text| text.parse().map_err(|_| invalid(text))).transpose()
    }
    let size = |name: &str| {
        let invalid =
            |text: &str| failure(format!("invalid value for {name}: invalid size: '{text}'"));
        let given = parsed.value(name).filter(|text| !text.is_empty());
        given.map(|text| bytes(text).ok_or_else(|| invalid(text))).transpose()
    };
    let text = |name: &str| parsed.value(name).unwrap_or_default().to_owned();
    let memory = Memory {
        limit: size("memory")?,
        reservation: size("memory-reservation")?,
        swap: size("memory-swap")?,
        ..Memory::default()
    };
    let cpu = Cpu {
        shares: number(parsed, "cpu-share", "ParseUint")?,
        quota: number(parsed, "cpu-quota", "ParseInt")?,
        burst: number(parsed, "cpu-burst", "ParseUint")?,
        period: number(parsed, "cpu-period", "ParseUint")?,
        realtime_runtime: number(parsed, "cpu-rt-runtime", "ParseInt")?,
        realtime_period: number(parsed, "cpu-rt-period", "ParseUint")?,
        cpus: text("cpuset-cpus"),
        mems: text("cpuset-mems"),
        idle: number(parsed, "cpu-idle", "ParseInt")?,
    };
    let block = BlockIo { weight: number(parsed, "blkio-weight", "")?, ..BlockIo::default() };
    let pids = Pids { limit: number(parsed, "pids-limit", "")? };
    Ok(Resources {
        memory: Some(memory),
        cpu: Some(cpu),
        pids: Some(pids),
        block_io: Some(block),
        ..Resources::default()
    })
}
