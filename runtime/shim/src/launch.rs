//! The program's entry: `start` (bind, fork, print the address), `delete` (clean up after a shim
//! that is gone), `-v`, `-info`, `sink`. Everything before and beside the loop.

use crate::args::{Action, Args};
use crate::core::{Identity, SIGKILL, Shim};
use crate::runtime::Runtime;
use prost::Message;
use rustix::fs::FileType;
use shim_api::bootstrap::{Bootstrap, BootstrapParams, BootstrapResult};
use shim_api::runc::{FEATURES, Options, RuntimeInfo, RuntimeVersion};
use shim_api::sink::{ExitRecord, SinkUri};
use shim_api::task::DeleteResponse;
use std::fmt::Display;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

const NAME: &str = "containerd-shim-ferry-v2";

type Failure = Box<dyn std::error::Error>;

/// Runs the program with its command line.
pub fn main() -> ExitCode {
    let words: Vec<String> =
        std::env::args_os().skip(1).map(|w| w.to_string_lossy().into_owned()).collect();
    let result = if words.first().is_some_and(|w| w == "sink") {
        crate::detached::main(&words[1..])
    } else {
        Args::parse(words).map_err(Failure::from).and_then(run)
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{NAME}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> Result<(), Failure> {
    match args.action {
        Action::Version => {
            let version = env!("CARGO_PKG_VERSION");
            writeln!(io::stdout(), "{NAME}:\n  Version:  {version}\n  Revision: \n")?;
            Ok(())
        }
        Action::Info => info(),
        Action::Start => start(&args),
        Action::Delete => delete(&args),
    }
}

fn context(what: impl Display) -> impl FnOnce(io::Error) -> Failure {
    move |e| format!("{what}: {e}").into()
}

/// What the supervisor wrote to standard input; nothing if that is no pipe or file.
fn input() -> Vec<u8> {
    let stdin = io::stdin();
    let kind = rustix::fs::fstat(stdin.as_fd()).map(|s| FileType::from_raw_mode(s.st_mode));
    let mut bytes = Vec::new();
    if matches!(kind, Ok(FileType::Fifo | FileType::RegularFile | FileType::Socket)) {
        let _ = stdin.lock().take(1 << 20).read_to_end(&mut bytes);
    }
    bytes
}

/// The shim's socket: beside the supervisor's own, under a short name that follows from who
/// serves what, so that `delete` and a second `start` find it.
fn socket(args: &Args) -> PathBuf {
    let mut hash = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128;
    for part in [&args.address, &args.namespace, &args.id] {
        for byte in part.bytes().chain([0]) {
            hash = (hash ^ u128::from(byte)).wrapping_mul(0x0100_0000_0000_0000_0000_013b);
        }
    }
    let folder = Path::new(&args.address).parent().filter(|p| p.is_absolute());
    let name = format!("s/{hash:032x}");
    let beside = folder.map(|f| f.join(&name)).filter(|p| p.as_os_str().len() + 6 <= 107);
    beside.unwrap_or_else(|| Path::new("/run/ferry").join(name))
}

fn bundle(args: &Args) -> Result<PathBuf, Failure> {
    match &args.bundle {
        Some(path) => Ok(path.clone()),
        None => std::env::current_dir().map_err(context("working folder")),
    }
}

/// This program's path, also when its file was replaced meanwhile.
fn own() -> PathBuf {
    let path = std::env::current_exe().unwrap_or_default();
    match path.to_str().and_then(|p| p.strip_suffix(" (deleted)")) {
        Some(path) => PathBuf::from(path),
        None => path,
    }
}

fn start(args: &Args) -> Result<(), Failure> {
    let bundle = bundle(args)?;
    let socket = socket(args);
    let input = input();
    let params = BootstrapParams::decode(&input[..]).ok().filter(|p| p.instance_id == args.id);
    let answer = |protobuf: bool| -> Result<(), Failure> {
        let address = format!("unix://{}", socket.display());
        let newest = std::env::var("MAX_SHIM_VERSION").ok().map(|v| v.parse().unwrap_or(2));
        let mut out = io::stdout().lock();
        match newest {
            _ if protobuf => {
                let protocol = "ttrpc".to_owned();
                let result =
                    BootstrapResult { version: 3, address, protocol, ..Default::default() };
                out.write_all(&result.encode_to_vec())?;
            }
            Some(newest) => {
                let version = 3.min(newest);
                let protocol = "ttrpc".to_owned();
                out.write_all(Bootstrap { version, address, protocol }.to_json().as_bytes())?;
            }
            None => out.write_all(address.as_bytes())?,
        }
        Ok(out.flush()?)
    };
    if let Some(folder) = socket.parent() {
        std::fs::create_dir_all(folder).map_err(context(folder.display()))?;
    }
    // A shim that answers is the one; a file that nobody serves is a dead one's.
    if sys::unix::connect(&socket, false).is_ok() {
        return answer(params.is_some());
    }
    let _ = std::fs::remove_file(&socket);
    let listener = sys::unix::listen(&socket, 0o600).map_err(context(socket.display()))?;
    // Supervisors of 1.6 look here after a restart.
    std::fs::write(bundle.join("address"), format!("unix://{}", socket.display()))
        .map_err(context("write address in the bundle"))?;
    let cgroup = shim_cgroup(&input, params.as_ref());
    let ttrpc = |p: &BootstrapParams| p.containerd_ttrpc_address.clone();
    let ttrpc = params.as_ref().map(ttrpc).filter(|a| !a.is_empty());
    let me = Identity {
        namespace: args.namespace.clone(),
        id: args.id.clone(),
        address: args.address.clone(),
        ttrpc_address: ttrpc.or_else(|| std::env::var("TTRPC_ADDRESS").ok()).unwrap_or_default(),
        publish_binary: args.publish_binary.clone(),
        bundle,
        own: own(),
        socket: socket.clone(),
    };
    match sys::process::fork_alone().map_err(context("fork"))? {
        sys::process::Fork::Parent(_) => answer(params.is_some()),
        sys::process::Fork::Child => {
            sys::process::detach().map_err(context("detach"))?;
            if let Some(path) = cgroup {
                join_cgroup(&path);
            }
            sys::process::become_subreaper().map_err(context("subreaper"))?;
            Ok(Shim::new(me, listener)
                .and_then(|mut shim| shim.serve())
                .map_err(context("serve"))?)
        }
    }
}

/// The cgroup that the client wants the shim in.
fn shim_cgroup(input: &[u8], params: Option<&BootstrapParams>) -> Option<String> {
    let plain = || shim_api::Any::decode(input).ok();
    let any = match params {
        Some(params) => {
            let mut values = params.extensions.iter().filter_map(|e| e.value.clone());
            values.find(|any| shim_api::type_name(any) == shim_api::runc::OPTIONS)
        }
        None => plain(),
    };
    let any = any.filter(|any| shim_api::type_name(any) == shim_api::runc::OPTIONS)?;
    let options = Options::decode(&any.value[..]).ok()?;
    Some(options.shim_cgroup).filter(|path| !path.is_empty())
}

/// Moves this process into a cgroup of that path in every hierarchy; where one refuses, it stays.
fn join_cgroup(path: &str) {
    let mount = Path::new("/sys/fs/cgroup");
    let path = path.trim_start_matches('/');
    let unified = mount.join("cgroup.procs").exists();
    let folders: Vec<PathBuf> = if unified {
        vec![mount.to_owned()]
    } else {
        std::fs::read_dir(mount).into_iter().flatten().flatten().map(|e| e.path()).collect()
    };
    for folder in folders.into_iter().filter(|f| f.join("cgroup.procs").exists()) {
        let folder = folder.join(path);
        if std::fs::create_dir_all(&folder).is_ok() {
            let _ = std::fs::write(folder.join("cgroup.procs"), "0");
        }
    }
}

/// Cleans up after a shim that is gone: its container ends, its root is unmounted, and exits that
/// nobody has seen are recorded as kills.
fn delete(args: &Args) -> Result<(), Failure> {
    let bundle = bundle(args)?;
    let kept = std::fs::read(bundle.join("runtime.json")).ok();
    let runtime: Option<Runtime> = kept.and_then(|text| serde_json::from_slice(&text).ok());
    let runtime = match runtime {
        Some(runtime) => Some(runtime),
        None => Runtime::new(&Options::default(), &args.namespace, &own()).ok(),
    };
    if let Some(runtime) = runtime {
        let words = ["--force", &args.id];
        if let Ok(call) = runtime.call("delete", words, &bundle, None, None) {
            // Nothing depends on how it went: there may be no container any more.
            let _ = call.child.wait();
        }
    }
    crate::mounts::unmount_all(&bundle.join("rootfs")).map_err(context("unmount rootfs"))?;
    let now = SystemTime::now();
    let pid = |file: &str| {
        let text = std::fs::read_to_string(bundle.join(file)).ok();
        text.and_then(|t| t.trim().parse::<u32>().ok()).unwrap_or(0)
    };
    for line in std::fs::read_to_string(bundle.join("sinks")).unwrap_or_default().lines() {
        let Some((file, uri)) = line.split_once(' ') else { continue };
        let Ok(sink) = uri.parse::<SinkUri>() else { continue };
        let _ = std::fs::remove_file(&sink.sock);
        if !sink.exit.exists() {
            let (id, exec, pid) = (sink.id, sink.exec, pid(file));
            let record =
                ExitRecord { id, exec, pid, exit_code: 137, exited_at: now, oom_killed: false };
            let _ = crate::task::write_record(&sink.exit, &record);
        }
    }
    let _ = std::fs::remove_file(socket(args));
    let response = DeleteResponse {
        pid: pid("init.pid"),
        exit_status: 128 + SIGKILL as u32,
        exited_at: Some(shim_api::time::timestamp(now)),
    };
    Ok(io::stdout().write_all(&response.encode_to_vec())?)
}

/// Prints what the runtime can do, as its `features` say.
fn info() -> Result<(), Failure> {
    let options = shim_api::Any::decode(&input()[..]).ok().filter(|any| !any.type_url.is_empty());
    let parsed = crate::task::options(options.as_ref())?;
    let runtime = Runtime::new(&parsed, "", &own())?;
    let none: [&str; 0] = [];
    let call = runtime.call("features", none, Path::new("/"), None, None)?;
    let features = if call.child.wait()?.code() == 0 {
        let text = call.output();
        Some(shim_api::Any { type_url: FEATURES.into(), value: text.trim().as_bytes().to_vec() })
    } else {
        None
    };
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let info = RuntimeInfo {
        name: "io.containerd.ferry.v2".to_owned(),
        version: Some(RuntimeVersion { version, revision: String::new() }),
        options,
        features,
        annotations: std::collections::HashMap::new(),
    };
    Ok(io::stdout().write_all(&info.encode_to_vec())?)
}
