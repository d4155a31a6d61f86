//! A tiny client of the shim, and a bundle for it to run. No tests.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::disallowed_methods)]
#![allow(clippy::must_use_candidate, reason = "helpers of tests")]

use prost::Message;
use shim_api::bootstrap::Bootstrap;
use shim_api::runc::{OPTIONS, Options};
use shim_api::sink::{
    Driver, ExitRecord, Frame, Hello, JsonFile, SinkUri, Stdin as StdinMode, encode,
};
use shim_api::task::{
    ConnectRequest, ConnectResponse, CreateTaskRequest, CreateTaskResponse, SERVICE_V2, SERVICE_V3,
    StartRequest,
};
use shim_api::ttrpc::{Client, Status};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

pub fn find(name: &str) -> Option<PathBuf> {
    let peers = std::env::var("FERRY_PEERS").unwrap_or_else(|_| "/opt/ferry-peers/bin".into());
    let path = std::env::var("PATH").unwrap_or_default();
    let mut folders = peers.split(':').chain(path.split(':'));
    folders.find_map(|f| Some(Path::new(f).join(name)).filter(|p| p.is_file()))
}

/// The shim's binary, beside this test's folder; built by the workspace.
fn shim() -> Option<PathBuf> {
    let test = std::env::current_exe().unwrap();
    let folder = test.parent().and_then(Path::parent).unwrap();
    Some(folder.join("containerd-shim-ferry-v2")).filter(|p| p.is_file())
}

pub struct Rig {
    pub folder: tempfile::TempDir,
    pub shim: PathBuf,
    pub id: String,
    /// The shim's.
    pub pid: u32,
    pub stdin: StdinMode,
    pub stream: UnixStream,
    client: Client,
}

impl Rig {
    pub fn new(script: &str) -> Option<Self> {
        let missing = |what: &str| eprintln!("SKIPPED: {what} is missing");
        let root = std::fs::metadata("/proc/self").map(|m| std::os::unix::fs::MetadataExt::uid(&m));
        if root.unwrap_or(1) != 0 {
            eprintln!("SKIPPED: making containers needs root");
            return None;
        }
        let (Some(shim), Some(runc)) = (shim(), find("runc")) else {
            missing("the shim's binary, or runc,");
            return None;
        };
        let Some(busybox) = find("busybox") else {
            missing("busybox");
            return None;
        };
        let folder = tempfile::Builder::new().prefix("ferry-shim-").tempdir().unwrap();
        let id = folder.path().file_name().unwrap().to_str().unwrap().to_owned();
        let bundle = folder.path().join("bundle");
        std::fs::create_dir_all(bundle.join("rootfs/bin")).unwrap();
        std::fs::copy(busybox, bundle.join("rootfs/bin/sh")).unwrap();
        let config = spec(&runc, &bundle, script);
        std::fs::write(bundle.join("config.json"), config).unwrap();
        let out = Command::new(&shim)
            .args(["-namespace", "test", "-id", &id, "-publish-binary", "", "-address"])
            .arg(folder.path().join("c.sock"))
            .arg("start")
            .env_remove("TTRPC_ADDRESS")
            .env("MAX_SHIM_VERSION", "2")
            .current_dir(&bundle)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let bootstrap = Bootstrap::parse(std::str::from_utf8(&out.stdout).unwrap()).unwrap();
        assert_eq!(bootstrap.version, 2);
        let stream = UnixStream::connect(bootstrap.socket_path()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut made = Self {
            folder,
            shim,
            id,
            pid: 0,
            stdin: StdinMode::None,
            stream,
            client: Client::default(),
        };
        let connect = ConnectRequest { id: made.id.clone() };
        let answer: ConnectResponse = made.call(SERVICE_V3, "Connect", &connect).unwrap();
        made.pid = answer.shim_pid;
        Some(made)
    }

    pub fn call<A: Message + Default>(
        &mut self,
        service: &str,
        method: &str,
        message: &impl Message,
    ) -> Result<A, Status> {
        let stream = self.client.call(service, method, message, 0).unwrap();
        self.stream.write_all(self.client.pending()).unwrap();
        self.client.advance(usize::MAX);
        let mut buffer = [0; 4096];
        loop {
            if let Some(reply) = self.client.next_reply() {
                assert_eq!(reply.stream, stream);
                return reply.result.map(|bytes| A::decode(&bytes[..]).unwrap());
            }
            let n = self.stream.read(&mut buffer).unwrap();
            assert!(n > 0, "the shim hung up");
            self.client.feed(&buffer[..n]).unwrap();
        }
    }

    pub fn sink(&self) -> SinkUri {
        let file = |name: &str| self.folder.path().join(name);
        SinkUri {
            program: self.shim.clone(),
            id: self.id.clone(),
            driver: Driver::JsonFile(JsonFile {
                path: file("log"),
                max_size: None,
                max_file: 1,
                attrs: String::new(),
            }),
            exit: file("exit"),
            sock: file("sock"),
            stdin: self.stdin,
            ..SinkUri::default()
        }
    }

    pub fn create(&mut self) -> u32 {
        let uri = self.sink().to_string();
        let options = Options {
            binary_name: find("runc").unwrap().display().to_string(),
            root: self.folder.path().join("runc").display().to_string(),
            ..Options::default()
        };
        let request = CreateTaskRequest {
            id: self.id.clone(),
            bundle: self.folder.path().join("bundle").display().to_string(),
            stdout: uri.clone(),
            stderr: uri,
            options: Some(shim_api::pack(OPTIONS, &options)),
            ..CreateTaskRequest::default()
        };
        self.call::<CreateTaskResponse>(SERVICE_V2, "Create", &request).unwrap().pid
    }

    pub fn start(&mut self) {
        let request = StartRequest { id: self.id.clone(), exec_id: String::new() };
        self.call::<CreateTaskResponse>(SERVICE_V3, "Start", &request).unwrap();
    }

    pub fn attach(&self) -> UnixStream {
        self.attach_with(false)
    }

    pub fn attach_with(&self, stdin: bool) -> UnixStream {
        let mut stream = UnixStream::connect(self.sink().sock).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut hello = Vec::new();
        let wants = Hello { v: 1, stdin, stdout: true, stderr: true };
        encode(&mut hello, &Frame::Hello(wants));
        stream.write_all(&hello).unwrap();
        stream
    }

    pub fn record(&self) -> ExitRecord {
        ExitRecord::parse(&std::fs::read(self.sink().exit).unwrap()).unwrap()
    }
}

impl Drop for Rig {
    /// Leaves neither shim nor container.
    fn drop(&mut self) {
        let comm = std::fs::read_to_string(format!("/proc/{}/comm", self.pid));
        if comm.is_ok_and(|name| name.starts_with("containerd-shim")) {
            sys::process::signal_child(self.pid as i32, 9).ok();
        }
        let mut delete = Command::new(&self.shim);
        delete.args(["-namespace", "test", "-id", &self.id, "-address"]);
        delete.arg(self.folder.path().join("c.sock")).arg("delete");
        delete.current_dir(self.folder.path().join("bundle")).stdin(Stdio::null()).output().ok();
    }
}

/// runc's own default specification, running a script of busybox's shell.
fn spec(runc: &Path, bundle: &Path, script: &str) -> String {
    let done = Command::new(runc).arg("spec").current_dir(bundle).status().unwrap();
    assert!(done.success());
    let text = std::fs::read(bundle.join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_slice(&text).unwrap();
    config["process"]["terminal"] = false.into();
    config["process"]["args"] = serde_json::json!(["/bin/sh", "-c", script]);
    config["root"]["readonly"] = false.into();
    // A machine may not allow to raise limits.
    config["process"]["rlimits"] = serde_json::json!([]);
    config.to_string()
}
