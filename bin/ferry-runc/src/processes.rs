//! What `ps` prints: the host's own ps, cut down to the container's processes; where there is none,
//! a table like that of `ps -ef`, read from procfs.

use crate::commands::Failure;
use std::fmt::Write as _;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// Most that is read of what ps says.
const LIMIT: usize = 64 << 20;

fn fail(message: String) -> Failure {
    Failure { message, code: 1 }
}

/// The table for these processes and options of ps (`-ef` without any).
pub(crate) fn table(pids: &[i32], options: &[String]) -> Result<String, Failure> {
    let usual = ["-ef".to_owned()];
    let wanted = if options.is_empty() { &usual[..] } else { options };
    match find_ps() {
        Some(program) => filter(&run(&program, wanted)?, pids),
        None if wanted == usual => Ok(from_procfs(pids)),
        None => Err(fail("exec: \"ps\": executable file not found in $PATH".into())),
    }
}

fn find_ps() -> Option<PathBuf> {
    let search = std::env::var("PATH").unwrap_or_default();
    search
        .split(':')
        .filter(|folder| folder.starts_with('/'))
        .map(|folder| Path::new(folder).join("ps"))
        .find(|path| rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok())
}

fn run(program: &Path, options: &[String]) -> Result<String, Failure> {
    let pipe = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC);
    let (output, input) = pipe.map_err(|e| fail(format!("pipe: {e}")))?;
    let command = sys::spawn::Command::new(program).args(options).inherit_env();
    let command = command.fd(input.as_fd(), 1).fd(input.as_fd(), 2);
    let child = command.spawn().map_err(|e| fail(e.to_string()))?;
    drop(input);
    let (mut said, mut part) = (Vec::new(), [0u8; 16 * 1024]);
    while said.len() < LIMIT {
        match rustix::io::read(&output, &mut part[..]) {
            Ok(0) => break,
            Ok(got) => said.extend_from_slice(&part[..got]),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(fail(format!("read from ps: {e}"))),
        }
    }
    let text = String::from_utf8_lossy(&said).into_owned();
    match child.wait().map_err(|e| fail(format!("wait for ps: {e}")))?.code() {
        0 => Ok(text),
        code => Err(fail(format!("exit status {code}: {text}"))),
    }
}

/// The heading, and the lines whose PID column names one of the processes.
fn filter(text: &str, pids: &[i32]) -> Result<String, Failure> {
    let mut lines = text.lines();
    let head = lines.next().unwrap_or_default();
    let column = head.split_whitespace().position(|name| name == "PID");
    let column = column.ok_or_else(|| fail("couldn't find PID field in ps output".into()))?;
    let mut kept = format!("{head}\n");
    for line in lines.filter(|line| !line.is_empty()) {
        let field = line.split_whitespace().nth(column).unwrap_or_default();
        let pid: i32 =
            field.parse().map_err(|_| fail(format!("unable to parse pid: {field:?}")))?;
        if pids.contains(&pid) {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    Ok(kept)
}

fn from_procfs(pids: &[i32]) -> String {
    let mut text = String::from("UID          PID    PPID CMD\n");
    for pid in pids {
        let read = |name: &str| std::fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let status = String::from_utf8_lossy(&read("status")).into_owned();
        let field = |name: &str| {
            let line = status.lines().find(|l| l.starts_with(name)).unwrap_or_default();
            line.split_whitespace().nth(1).unwrap_or("-").to_owned()
        };
        let command = read("cmdline")
            .split(|b| *b == 0)
            .map(String::from_utf8_lossy)
            .collect::<Vec<_>>()
            .join(" ");
        let command = command.trim_end();
        let command =
            if command.is_empty() { format!("[{}]", field("Name:")) } else { command.to_owned() };
        let _ = writeln!(text, "{:8} {pid:>7} {:>7} {command}", field("Uid:"), field("PPid:"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_other_processes_are_left_out() {
        let text = "USER PID CMD\nroot 1 init\nroot 12 sh\n";
        assert_eq!(filter(text, &[12]).ok().unwrap(), "USER PID CMD\nroot 12 sh\n");
        assert!(filter("USER CMD\n", &[12]).is_err());
    }
}
