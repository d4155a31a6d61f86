//! The shim as a supervisor sees it: a tiny client over the codec starts it, makes a container of
//! a bundle with a real runtime, attaches to its sink, kills things. Needs root and runc (in PATH
//! or `FERRY_PEERS`).

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may")]

use prost::Message;
use shim_api::bootstrap::Bootstrap;
use shim_api::runc::{OPTIONS, Options};
use shim_api::sink::{Decoder, Driver, ExitRecord, Frame, Hello, JsonFile, SinkUri, encode};
use shim_api::task::{
    CreateTaskRequest, CreateTaskResponse, DeleteRequest, DeleteResponse, SERVICE_V2, SERVICE_V3,
    ShutdownRequest, StartRequest, WaitRequest, WaitResponse,
};
use shim_api::ttrpc::{Client, Status};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

fn find(name: &str) -> Option<PathBuf> {
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

struct Rig {
    folder: tempfile::TempDir,
    shim: PathBuf,
    id: String,
    stream: UnixStream,
    client: Client,
}

impl Rig {
    fn new(script: &str) -> Option<Self> {
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
        Some(Self { folder, shim, id, stream, client: Client::default() })
    }

    fn call<A: Message + Default>(
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

    fn sink(&self) -> SinkUri {
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
            ..SinkUri::default()
        }
    }

    fn create(&mut self) -> u32 {
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

    fn start(&mut self) {
        let request = StartRequest { id: self.id.clone(), exec_id: String::new() };
        self.call::<CreateTaskResponse>(SERVICE_V3, "Start", &request).unwrap();
    }

    fn attach(&self) -> UnixStream {
        let mut stream = UnixStream::connect(self.sink().sock).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut hello = Vec::new();
        let wants = Hello { v: 1, stdin: false, stdout: true, stderr: true };
        encode(&mut hello, &Frame::Hello(wants));
        stream.write_all(&hello).unwrap();
        stream
    }

    fn record(&self) -> ExitRecord {
        ExitRecord::parse(&std::fs::read(self.sink().exit).unwrap()).unwrap()
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

#[test]
fn every_line_reaches_the_log_and_the_attacher() {
    let script = "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done; exit 3";
    let Some(mut rig) = Rig::new(script) else { return };
    let pid = rig.create();
    let mut attached = rig.attach();
    let mut decoder = Decoder::default();
    let mut buffer = [0; 16384];
    let n = attached.read(&mut buffer).unwrap();
    decoder.feed(&buffer[..n]);
    assert!(matches!(decoder.next_frame().unwrap(), Some(Frame::Ready(_))));
    rig.start();
    let mut seen = Vec::new();
    'attached: loop {
        let n = attached.read(&mut buffer).unwrap();
        assert!(n > 0, "closed before DRAINED");
        decoder.feed(&buffer[..n]);
        while let Some(frame) = decoder.next_frame().unwrap() {
            match frame {
                Frame::Stdout(bytes) => seen.extend(bytes),
                Frame::Drained => break 'attached,
                other => panic!("{other:?}"),
            }
        }
    }
    let wanted: String = (0..20000).map(|i| format!("line {i}\n")).collect();
    assert!(wanted.as_bytes() == seen, "attached: {} of {} bytes", seen.len(), wanted.len());
    let log = std::fs::read_to_string(rig.folder.path().join("log")).unwrap();
    assert_eq!(log.lines().count(), 20000);
    assert!(log.lines().last().unwrap().starts_with("{\"log\":\"line 19999\\n\",\"stream\":"));
    let id = rig.id.clone();
    let wait = WaitRequest { id: id.clone(), exec_id: String::new() };
    let exit: WaitResponse = rig.call(SERVICE_V2, "Wait", &wait).unwrap();
    assert_eq!(exit.exit_status, 3);
    let record = rig.record();
    assert_eq!((record.exit_code, record.pid, record.id.as_str()), (3, pid, id.as_str()));
    let delete = DeleteRequest { id: id.clone(), exec_id: String::new() };
    let gone: DeleteResponse = rig.call(SERVICE_V2, "Delete", &delete).unwrap();
    assert_eq!((gone.exit_status, gone.pid), (3, pid));
    let () = rig.call(SERVICE_V2, "Shutdown", &ShutdownRequest { id, now: false }).unwrap();
    assert_eq!(rig.stream.read(&mut buffer).unwrap(), 0);
}

#[test]
fn a_killed_shim_ends_its_own_container() {
    let Some(mut rig) = Rig::new("sleep 1000") else { return };
    let pid = rig.create();
    rig.start();
    let connect = shim_api::task::ConnectRequest { id: rig.id.clone() };
    let answer: shim_api::task::ConnectResponse =
        rig.call(SERVICE_V3, "Connect", &connect).unwrap();
    assert_eq!(answer.task_pid, pid);
    sys::process::signal_child(answer.shim_pid as i32, 9).unwrap();
    let out = Command::new(&rig.shim)
        .args(["-namespace", "test", "-id", &rig.id, "-address"])
        .arg(rig.folder.path().join("c.sock"))
        .arg("delete")
        .current_dir(rig.folder.path().join("bundle"))
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let answer = DeleteResponse::decode(&out.stdout[..]).unwrap();
    assert_eq!((answer.exit_status, answer.pid), (137, pid));
    assert_eq!(rig.record().exit_code, 137);
    assert!(!Path::new(&format!("/proc/{pid}/root/bin/sh")).exists());
}

#[test]
fn a_command_that_is_missing_leaves_nothing_behind() {
    let Some(mut rig) = Rig::new("true") else { return };
    let path = rig.folder.path().join("bundle/config.json");
    let config = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, config.replace("/bin/sh", "/bin/nope")).unwrap();
    let request = CreateTaskRequest {
        id: rig.id.clone(),
        options: Some(shim_api::pack(
            OPTIONS,
            &Options {
                binary_name: find("runc").unwrap().display().to_string(),
                root: rig.folder.path().join("runc").display().to_string(),
                ..Options::default()
            },
        )),
        ..CreateTaskRequest::default()
    };
    let error = rig.call::<CreateTaskResponse>(SERVICE_V2, "Create", &request).unwrap_err();
    assert!(error.message.starts_with("OCI runtime create failed: "), "{error}");
    assert!(error.message.contains("/bin/nope"), "{error}");
    let id = rig.id.clone();
    let () = rig.call(SERVICE_V2, "Shutdown", &ShutdownRequest { id, now: false }).unwrap();
}
