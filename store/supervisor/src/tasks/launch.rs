//! Finding a shim's program, starting it, asking it to clean up: the command-line half of the
//! shim v2 protocol. The ttrpc half is `shim`'s.

use super::{Bundle, Settings, TaskError};
use crate::children::RunError;
use shim_api::Any;
use shim_api::bootstrap::Bootstrap;
use shim_api::prost::Message;
use shim_api::task::DeleteResponse;
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use sys::spawn::Command;

/// How long `start` may take.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How long `delete` may take: it kills, unmounts and removes cgroups.
const DELETE_LIMIT: Duration = Duration::from_secs(60);
/// The runtime that means "whatever this daemon's own is".
const OWN: &str = "io.containerd.ferry.v2";
/// Where programs are looked for when PATH says nothing.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The program behind a runtime's name: an absolute path as it is; `io.containerd.NAME.VERSION`
/// as `containerd-shim-NAME-VERSION` in PATH or beside this daemon. Ours also stands in for a
/// runc shim that is not installed.
pub(super) fn resolve(name: &str, settings: &Settings) -> Result<PathBuf, TaskError> {
    if name.starts_with('/') {
        let path = PathBuf::from(name);
        return if is_own(&path, settings) && same_file(&path, &settings.own_shim) {
            Ok(settings.own_shim.clone())
        } else if runnable(&path) {
            Ok(path)
        } else {
            Err(TaskError::Invalid(format!("runtime {name:?}: no such program")))
        };
    }
    if name.is_empty() || name == OWN {
        return Ok(settings.own_shim.clone());
    }
    let parts: Vec<&str> = name.split('.').collect();
    let [.., family, version] = parts.as_slice() else {
        return Err(TaskError::Invalid(format!(
            "invalid runtime name {name}, correct runtime name should be either format like `io.containerd.runc.v2` or a full path to the binary"
        )));
    };
    let program = format!("containerd-shim-{family}-{version}");
    let path = std::env::var_os("PATH").unwrap_or_else(|| OsStr::new(PATH).to_owned());
    let beside = settings.own_shim.parent().map(Path::to_path_buf);
    let mut places = std::env::split_paths(&path).chain(beside).map(|dir| dir.join(&program));
    if let Some(found) = places.find(|path| path.is_absolute() && runnable(path)) {
        return Ok(found);
    }
    if *family == "runc" {
        return Ok(settings.own_shim.clone());
    }
    Err(TaskError::NotFound(format!("runtime {name:?} binary not installed {program:?}")))
}

/// The program that a bundle's shim was started from. Ours is wherever it is now: its sealed place
/// may have gone.
pub(super) fn pinned(settings: &Settings, bundle: &Bundle) -> Option<PathBuf> {
    let program = bundle.shim()?;
    let moved = is_own(&program, settings) && !runnable(&program);
    Some(if moved { settings.own_shim.clone() } else { program })
}

fn same_file(a: &Path, b: &Path) -> bool {
    let both = a.metadata().and_then(|a| Ok((a, b.metadata()?)));
    both.is_ok_and(|(a, b)| crate::sealed::same_file(&a, &b))
}

fn runnable(path: &Path) -> bool {
    path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

fn command(settings: &Settings, bundle: &Bundle, shim: &Path) -> Command<'static> {
    Command::new(shim)
        .args(["-namespace", &bundle.namespace, "-address"])
        .arg(&settings.grpc_address)
        .args(["-publish-binary".as_ref(), settings.program.as_os_str()])
        .args(["-id", &bundle.id])
        .inherit_env()
        .without_env(sys::notify::VARIABLE)
        .env("TTRPC_ADDRESS", &settings.ttrpc_address)
        .env("GRPC_ADDRESS", &settings.grpc_address)
        .env("NAMESPACE", &bundle.namespace)
        .env("MAX_SHIM_VERSION", "3")
        .cwd(bundle.path())
}

/// Whether a program is our own shim, wherever it lies.
pub(super) fn is_own(shim: &Path, settings: &Settings) -> bool {
    shim.file_name() == settings.own_shim.file_name()
}

/// Runs `start` in the bundle and reads where the shim serves.
pub(super) async fn start(
    settings: &Settings,
    bundle: &Bundle,
    shim: &Path,
    options: Option<&Any>,
) -> Result<Bootstrap, TaskError> {
    let input = options.map(Message::encode_to_vec).unwrap_or_default();
    let command = command(settings, bundle, shim).arg("start");
    let name = format!("{} start", shim.display());
    let ran = settings.children.run(&name, command, &input, START_LIMIT).await;
    let output = ran.map_err(|e| lost(bundle, &e))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if output.exit.code() != 0 {
        let what = format!("{}{}", text.trim(), output.stderr);
        return Err(TaskError::Lost {
            id: bundle.id.clone(),
            what: format!("start failed: {what}"),
        });
    }
    let bootstrap = Bootstrap::parse(&text);
    let bootstrap =
        bootstrap.map_err(|e| TaskError::Lost { id: bundle.id.clone(), what: e.to_string() })?;
    if bootstrap.protocol != "ttrpc" || !(2..=3).contains(&bootstrap.version) {
        let what = format!("speaks {} {}", bootstrap.protocol, bootstrap.version);
        return Err(TaskError::Unsupported(format!("the shim of {} {what}", bundle.id)));
    }
    bundle.save_bootstrap(&bootstrap)?;
    Ok(bootstrap)
}

/// Runs `delete`: the shim's program, without the shim, ends and removes what it left.
pub(super) async fn delete(
    settings: &Settings,
    bundle: &Bundle,
    shim: &Path,
) -> Result<DeleteResponse, TaskError> {
    let command =
        command(settings, bundle, shim).args(["-bundle".as_ref(), bundle.path().as_os_str()]);
    let name = format!("{} delete", shim.display());
    let ran = settings.children.run(&name, command.arg("delete"), b"", DELETE_LIMIT).await;
    let output = ran.map_err(|e| lost(bundle, &e))?;
    let failed = |what: String| TaskError::Lost { id: bundle.id.clone(), what };
    if output.exit.code() != 0 {
        return Err(failed(format!("delete failed: {}", output.stderr)));
    }
    DeleteResponse::decode(output.stdout.as_slice())
        .map_err(|e| failed(format!("delete: malformed answer: {e}")))
}

fn lost(bundle: &Bundle, error: &RunError) -> TaskError {
    TaskError::Lost { id: bundle.id.clone(), what: error.to_string() }
}
