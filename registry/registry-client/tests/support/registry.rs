//! Debian's docker-registry, started for a test and ended with it.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lab::Scratch;

/// A running registry with storage of its own.
pub struct Registry {
    pub address: SocketAddr,
    pub scratch: Scratch,
    child: Child,
}

/// The program, or why there is none.
fn program() -> Option<PathBuf> {
    ["/usr/bin/docker-registry", "/usr/local/bin/docker-registry"]
        .into_iter()
        .map(PathBuf::from)
        .find(|path| path.is_file())
}

impl Registry {
    /// Starts one with `more` lines of configuration; `None`, said aloud, without the program.
    #[allow(clippy::disallowed_methods)]
    pub async fn start(test: &str, more: impl FnOnce(&Path) -> String) -> Option<Self> {
        let Some(program) = program() else {
            eprintln!("SKIPPED: {test}: needs docker-registry (cargo xtask setup)");
            return None;
        };
        let scratch = Scratch::new("registry").unwrap();
        let config = scratch.join("config.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {}}}, \
             delete: {{enabled: true}}}}\n{}",
            scratch.join("data").display(),
            more(scratch.path())
        );
        let text = if text.contains("http: {") {
            text
        } else {
            format!("{text}http: {{addr: '127.0.0.1:0'}}\n")
        };
        fs::write(&config, text).unwrap();
        let log = scratch.join("log");
        let out = fs::File::create(&log).unwrap();
        let child = Command::new(program)
            .args(["serve".as_ref(), config.as_os_str()])
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn()
            .unwrap();
        let mut registry = Self { address: SocketAddr::from(([127, 0, 0, 1], 0)), scratch, child };
        registry.address = registry.listening(&log).await;
        Some(registry)
    }

    /// It says on which port it listens.
    async fn listening(&mut self, log: &Path) -> SocketAddr {
        let wait = async {
            loop {
                let text = fs::read_to_string(log).unwrap_or_default();
                if let Some(rest) = text.split("listening on ").nth(1)
                    && let Some(address) = rest.split([',', '"', ' ', '\n']).next()
                    && let Ok(address) = address.parse()
                {
                    return address;
                }
                if let Ok(Some(status)) = self.child.try_wait() {
                    panic!("docker-registry ended with {status}:\n{text}");
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), wait)
            .await
            .expect("docker-registry never listened")
    }

    pub fn host(&self) -> String {
        self.address.to_string()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
