//! Programs that keep credentials: `docker-credential-NAME get|store|erase`, who read what is asked
//! on standard input and answer on standard output.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;

use engine_api::Value;

use super::texts;
use crate::error::CliError;

/// What helpers say of credentials that they do not have.
const NOT_FOUND: &str = "credentials not found in native keychain";
/// Most that a helper may answer.
const MAX_ANSWER: u64 = 1 << 20;

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.is_absolute() && file.is_file())
}

/// The keeper that this machine has, for who has named none.
pub(super) fn usual() -> Option<String> {
    let name = if find("pass").is_some() { "pass" } else { "secretservice" };
    find(&format!("docker-credential-{name}")).map(|_| name.to_owned())
}

/// Runs a helper; its trimmed output when it succeeds.
fn run(helper: &str, action: &str, input: &str) -> Result<String, (String, String)> {
    let program = format!("docker-credential-{helper}");
    let missing = || {
        let why = format!("exec: {program:?}: executable file not found in $PATH");
        (why, String::new())
    };
    let path = find(&program).ok_or_else(missing)?;
    let failed = |e: &dyn std::fmt::Display| (e.to_string(), String::new());
    let (stdin, mut ask) = std::io::pipe().map_err(|e| failed(&e))?;
    let (mut answers, stdout) = std::io::pipe().map_err(|e| failed(&e))?;
    let stderr = std::io::stderr();
    let child = sys::spawn::Command::new(path)
        .arg(action)
        .inherit_env()
        .fd(stdin.as_fd(), 0)
        .fd(stdout.as_fd(), 1)
        .fd(stderr.as_fd(), 2)
        .spawn()
        .map_err(|e| failed(&e))?;
    drop((stdin, stdout));
    // One that does not read what it is asked says so by its end.
    let _ = ask.write_all(input.as_bytes());
    drop(ask);
    let mut out = Vec::new();
    let read = (&mut answers).take(MAX_ANSWER).read_to_end(&mut out);
    drop(answers);
    let exit = child.wait().map_err(|e| failed(&e))?;
    read.map_err(|e| failed(&e))?;
    let out = String::from_utf8_lossy(&out).trim().to_owned();
    if exit.code() == 0 { Ok(out) } else { Err((format!("exit status {}", exit.code()), out)) }
}

/// User and secret of a registry; empty ones when it has none.
pub(super) fn get(helper: &str, key: &str) -> Result<(String, String), CliError> {
    match run(helper, "get", key) {
        Ok(out) => {
            let found = texts(out.as_bytes());
            let of = |name: &str| {
                let found = found.iter().find(|(key, _)| key == name);
                found.map(|(_, value)| value.clone()).unwrap_or_default()
            };
            Ok((of("Username"), of("Secret")))
        }
        Err((_, out)) if out == NOT_FOUND => Ok((String::new(), String::new())),
        Err((why, out)) => {
            Err(CliError::new(format!("error getting credentials - err: {why}, out: `{out}`")))
        }
    }
}

pub(super) fn store(helper: &str, key: &str, username: &str, secret: &str) -> Result<(), CliError> {
    let text = |t: &str| Value::String(t.to_owned());
    let members = [("ServerURL", key), ("Username", username), ("Secret", secret)];
    let members = members.map(|(name, value)| (name.to_owned(), text(value)));
    let input = Value::Object(members.to_vec()).to_string();
    run(helper, "store", &input).map(drop).map_err(|(why, out)| {
        CliError::new(format!("error storing credentials - err: {why}, out: `{out}`"))
    })
}

pub(super) fn erase(helper: &str, key: &str) -> Result<(), CliError> {
    match run(helper, "erase", key) {
        Ok(_) => Ok(()),
        Err((_, out)) if out == NOT_FOUND => Ok(()),
        Err((why, out)) => {
            Err(CliError::new(format!("error erasing credentials - err: {why}, out: `{out}`")))
        }
    }
}
