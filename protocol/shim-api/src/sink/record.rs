//! The exit record: a file that a sink leaves when its process has ended. Its text, not its I/O.

use crate::time::{parse_rfc3339_nano, rfc3339_nano};
use serde::{Deserialize, Serialize};
use std::time::SystemTime;

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExitRecord {
    /// Container.
    pub id: String,
    /// Exec's id; empty: the container's own process.
    pub exec: String,
    /// Its pid, to match against restarts; 0: unknown.
    pub pid: u32,
    /// 0 to 255; 128 + signal for a killed one.
    pub exit_code: u32,
    /// When it ended.
    pub exited_at: SystemTime,
    /// The kernel killed something in the container for lack of memory.
    pub oom_killed: bool,
}

/// A file that is no exit record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid exit record: {0}")]
pub struct InvalidRecord(pub String);

#[derive(Serialize, Deserialize)]
struct Wire {
    v: u32,
    id: String,
    #[serde(default)]
    exec: String,
    pid: u32,
    exit_code: u32,
    exited_at: String,
    #[serde(default)]
    oom_killed: bool,
}

impl ExitRecord {
    /// The file's text.
    pub fn to_json(&self) -> String {
        let wire = Wire {
            v: 1,
            id: self.id.clone(),
            exec: self.exec.clone(),
            pid: self.pid,
            exit_code: self.exit_code,
            exited_at: rfc3339_nano(self.exited_at),
            oom_killed: self.oom_killed,
        };
        serde_json::to_string(&wire).unwrap_or_default()
    }

    /// Reads the file's text.
    pub fn parse(text: &[u8]) -> Result<Self, InvalidRecord> {
        let wire: Wire = serde_json::from_slice(text).map_err(|e| InvalidRecord(e.to_string()))?;
        if wire.v != 1 {
            return Err(InvalidRecord(format!("unknown version {}", wire.v)));
        }
        let exited_at = parse_rfc3339_nano(&wire.exited_at)
            .ok_or_else(|| InvalidRecord(format!("{:?} is no time", wire.exited_at)))?;
        let Wire { id, exec, pid, exit_code, oom_killed, .. } = wire;
        Ok(Self { id, exec, pid, exit_code, exited_at, oom_killed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn a_record_reads_back() {
        let record = ExitRecord {
            id: "c\"1".into(),
            exec: String::new(),
            pid: 42,
            exit_code: 137,
            exited_at: UNIX_EPOCH + Duration::new(1, 5),
            oom_killed: true,
        };
        assert_eq!(ExitRecord::parse(record.to_json().as_bytes()), Ok(record));
        assert!(ExitRecord::parse(b"{}").is_err());
    }
}
