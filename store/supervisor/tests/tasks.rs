//! Tasks on a stock shim and a stock runc: life, exec, death, restart. Needs root and the peers.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::print_stdout)]

use shim_api::events::{Event as _, TaskExit};
use shim_api::prost::Message as _;
use shim_api::task::{CreateTaskRequest, Mount};
use shim_api::{Any, Timestamp};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use supervisor::children::Children;
use supervisor::tasks::{
    ContainerFacts, Created, Host, Settings, TaskError, TaskService, Tasks, serve_shim_events,
};
use tonic::Request;

#[derive(Default)]
struct Fake {
    spec: Mutex<Vec<u8>>,
    /// The runtime by path: the shim's own `$PATH` need not hold it.
    runc: PathBuf,
    events: Mutex<Vec<(String, Any)>>,
}

#[tonic::async_trait]
impl Host for Fake {
    async fn container(&self, _: &str, _: &str) -> Result<ContainerFacts, TaskError> {
        let spec = self.spec.lock().unwrap().clone();
        let binary_name = self.runc.to_string_lossy().into_owned();
        let options = shim_api::runc::Options { binary_name, ..shim_api::runc::Options::default() };
        let options = Some(shim_api::pack(shim_api::runc::OPTIONS, &options));
        Ok(ContainerFacts { runtime: "io.containerd.runc.v2".into(), options, spec })
    }
    fn publish(&self, _: &str, topic: &str, _: Option<Timestamp>, event: Any) {
        self.events.lock().unwrap().push((topic.into(), event));
    }
}

impl Fake {
    async fn exit_of(&self, id: &str) -> TaskExit {
        let start = Instant::now();
        loop {
            let events = self.events.lock().unwrap().clone();
            let exits = events.iter().filter(|(topic, _)| topic == TaskExit::TOPIC);
            let decoded = exits.map(|(_, any)| TaskExit::decode(any.value.as_slice()).unwrap());
            if let Some(exit) = decoded.into_iter().find(|exit| exit.id == id) {
                return exit;
            }
            assert!(start.elapsed() < Duration::from_secs(20), "no exit of {id}: {events:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

struct Lab {
    _folder: tempfile::TempDir,
    host: Arc<Fake>,
    settings: Settings,
}

/// `None` when something is missing, after saying so.
fn lab(test: &str) -> Option<Lab> {
    let peers = std::env::var("FERRY_PEERS").unwrap_or_else(|_| "/opt/ferry-peers/bin".into());
    let path = format!("{peers}:{}", std::env::var("PATH").unwrap_or_default());
    let find = |name: &str| std::env::split_paths(&path).map(|p| p.join(name)).find(|p| p.exists());
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: {test}: needs root");
        return None;
    }
    for program in ["containerd-shim-runc-v2", "runc", "busybox"] {
        if find(program).is_none() {
            println!("SKIPPED: {test}: {program} is not installed");
            return None;
        }
    }
    let folder = tempfile::Builder::new().prefix("ferry-tasks-").tempdir().unwrap();
    let rootfs = folder.path().join("image");
    for dir in ["bin", "proc", "dev", "sys"] {
        std::fs::create_dir_all(rootfs.join(dir)).unwrap();
    }
    std::fs::copy(find("busybox").unwrap(), rootfs.join("bin/busybox")).unwrap();
    for name in ["sh", "sleep", "true", "cat"] {
        std::os::unix::fs::symlink("busybox", rootfs.join("bin").join(name)).unwrap();
    }
    let host = Arc::new(Fake { runc: find("runc").unwrap(), ..Fake::default() });
    let shims = find("containerd-shim-runc-v2").unwrap();
    let settings = Settings {
        state: folder.path().join("state"),
        grpc_address: folder.path().join("c.sock"),
        ttrpc_address: folder.path().join("c.sock.ttrpc"),
        program: "/bin/true".into(),
        own_shim: shims.with_file_name("containerd-shim-ferry-v2"),
        children: Children::default(),
        host: host.clone(),
    };
    Some(Lab { _folder: folder, host, settings })
}

impl Drop for Lab {
    fn drop(&mut self) {
        // The runtime removes each container's cgroup, but not the parent that it made.
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let name = format!("ferry-tasks-{}", std::process::id());
            let _ = std::fs::remove_dir(hierarchy.path().join(name));
        }
    }
}

impl Lab {
    fn root(&self) -> &Path {
        self.settings.state.parent().unwrap()
    }

    fn wish(&self, id: &str, args: &[&str]) -> Created {
        let spec = serde_json::json!({
            "ociVersion": "1.0.2", "hostname": id, "root": {"path": "rootfs"},
            "process": {"args": args, "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}},
            "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}, {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"}],
            "linux": {"cgroupsPath": format!("/ferry-tasks-{}/{id}", std::process::id()),
                "namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}, {"type": "network"}]},
        });
        *self.host.spec.lock().unwrap() = spec.to_string().into_bytes();
        let source = self.root().join("image").to_string_lossy().into_owned();
        let options = vec!["rbind".into(), "ro".into()];
        let rootfs = vec![Mount { r#type: "bind".into(), source, target: String::new(), options }];
        let stdout = format!("file://{}", self.log(id).display());
        let stderr = stdout.clone();
        let request = CreateTaskRequest { rootfs, stdout, stderr, ..CreateTaskRequest::default() };
        Created { request, runtime: String::new() }
    }

    fn log(&self, id: &str) -> PathBuf {
        self.root().join(format!("{id}.log"))
    }
}

fn ask<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("containerd-namespace", "ferry-test".parse().unwrap());
    request
}

use containerd_api::services::tasks::v1 as api;
use containerd_api::services::tasks::v1::tasks_server::Tasks as _;

async fn start(service: &TaskService, id: &str, exec_id: &str) -> u32 {
    let request = api::StartRequest { container_id: id.into(), exec_id: exec_id.into() };
    service.start(ask(request)).await.unwrap().into_inner().pid
}

async fn wait(service: &TaskService, id: &str, exec_id: &str) -> u32 {
    let request = api::WaitRequest { container_id: id.into(), exec_id: exec_id.into() };
    service.wait(ask(request)).await.unwrap().into_inner().exit_status
}

async fn kill(service: &TaskService, id: &str) {
    let container_id = id.into();
    let request = api::KillRequest { container_id, signal: 9, ..api::KillRequest::default() };
    service.kill(ask(request)).await.unwrap();
}

async fn delete(service: &TaskService, id: &str) -> api::DeleteResponse {
    let request = api::DeleteTaskRequest { container_id: id.into() };
    service.delete(ask(request)).await.unwrap().into_inner()
}

#[tokio::test]
async fn a_task_lives_execs_pauses_and_dies_on_a_stock_shim() {
    let Some(lab) = lab("a_task_lives_execs_pauses_and_dies_on_a_stock_shim") else { return };
    serve_shim_events(&lab.settings.ttrpc_address, lab.host.clone()).unwrap();
    let tasks = Tasks::new(lab.settings.clone());
    let service = TaskService(tasks.clone());
    let id = "life";
    let pid = tasks
        .create("ferry-test", id, lab.wish(id, &["/bin/sh", "-c", "echo hello; sleep 100"]))
        .await
        .unwrap();
    assert!(matches!(
        tasks.create("ferry-test", id, lab.wish(id, &[])).await,
        Err(TaskError::Exists(_))
    ));
    assert_eq!(start(&service, id, "").await, pid);
    let process = serde_json::json!({"args": ["/bin/sh", "-c", "exit 7"], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}});
    let spec = containerd_api::any::json(
        containerd_api::any::OCI_PROCESS,
        process.to_string().into_bytes(),
    );
    let exec = api::ExecProcessRequest {
        container_id: id.into(),
        exec_id: "e".into(),
        spec: Some(spec),
        ..Default::default()
    };
    service.exec(ask(exec)).await.unwrap();
    start(&service, id, "e").await;
    assert_eq!(wait(&service, id, "e").await, 7);
    let request = api::DeleteProcessRequest { container_id: id.into(), exec_id: "e".into() };
    assert_eq!(service.delete_process(ask(request)).await.unwrap().into_inner().exit_status, 7);
    service.pause(ask(api::PauseTaskRequest { container_id: id.into() })).await.unwrap();
    let list = service.list(ask(api::ListTasksRequest::default())).await.unwrap().into_inner();
    assert_eq!(
        (list.tasks.len(), list.tasks[0].status),
        (1, containerd_api::task_types::Status::Paused as i32)
    );
    service.resume(ask(api::ResumeTaskRequest { container_id: id.into() })).await.unwrap();
    let metrics = service
        .metrics(ask(api::MetricsRequest { filters: vec![format!("id=={id}")] }))
        .await
        .unwrap();
    assert!(metrics.into_inner().metrics[0].data.is_some());
    let pids =
        service.list_pids(ask(api::ListPidsRequest { container_id: id.into() })).await.unwrap();
    assert!(pids.into_inner().processes.iter().any(|p| p.pid == pid));
    kill(&service, id).await;
    assert_eq!(wait(&service, id, "").await, 137);
    assert_eq!(lab.host.exit_of(id).await.exit_status, 137);
    assert_eq!(delete(&service, id).await.exit_status, 137);
    assert_eq!(std::fs::read_to_string(lab.log(id)).unwrap(), "hello\n");
    assert!(!lab.settings.state.join("ferry-test").join(id).exists());
    let gone =
        service.get(ask(api::GetRequest { container_id: id.into(), exec_id: String::new() })).await;
    assert_eq!(gone.unwrap_err().code(), tonic::Code::NotFound);
}

#[tokio::test]
async fn a_killed_shim_ends_its_container_and_tells_137() {
    let Some(lab) = lab("a_killed_shim_ends_its_container_and_tells_137") else { return };
    serve_shim_events(&lab.settings.ttrpc_address, lab.host.clone()).unwrap();
    let tasks = Tasks::new(lab.settings.clone());
    let service = TaskService(tasks.clone());
    let id = "killed-shim";
    let pid = tasks.create("ferry-test", id, lab.wish(id, &["/bin/sleep", "100"])).await.unwrap();
    start(&service, id, "").await;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let shim = status.lines().find_map(|l| l.strip_prefix("PPid:\t")).unwrap().parse().unwrap();
    let waiting = wait(&service, id, "");
    let killed = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let shim = rustix::process::Pid::from_raw(shim).unwrap();
        rustix::process::kill_process(shim, rustix::process::Signal::KILL).unwrap();
    };
    let (code, ()) = tokio::join!(waiting, killed);
    assert_eq!(code, 137);
    let exit = lab.host.exit_of(id).await;
    assert_eq!((exit.pid, exit.exit_status), (pid, 137));
    assert!(!tasks.has("ferry-test", id));
    assert!(!Path::new(&format!("/proc/{pid}/root")).exists());
}

#[tokio::test]
async fn of_many_deletes_at_once_one_succeeds_and_none_hangs() {
    let Some(lab) = lab("of_many_deletes_at_once_one_succeeds_and_none_hangs") else { return };
    let tasks = Tasks::new(lab.settings.clone());
    let service = TaskService(tasks.clone());
    for round in 0..5 {
        let id = &format!("race{round}");
        tasks.create("ferry-test", id, lab.wish(id, &["/bin/true"])).await.unwrap();
        start(&service, id, "").await;
        wait(&service, id, "").await;
        let delete = || tasks.delete("ferry-test", id);
        let all = async { tokio::join!(delete(), delete(), delete(), delete()) };
        let all = tokio::time::timeout(Duration::from_secs(10), all).await;
        let (a, b, c, d) = all.expect("every delete is answered");
        let done = [a, b, c, d].into_iter().flatten().count();
        assert_eq!(done, 1);
    }
}

#[tokio::test]
async fn a_restart_finds_running_and_exited_tasks_again() {
    let Some(lab) = lab("a_restart_finds_running_and_exited_tasks_again") else { return };
    serve_shim_events(&lab.settings.ttrpc_address, lab.host.clone()).unwrap();
    let tasks = Tasks::new(lab.settings.clone());
    for (id, args) in
        [("runs", vec!["/bin/sleep", "100"]), ("exits", vec!["/bin/sh", "-c", "sleep 1; exit 3"])]
    {
        tasks.create("ferry-test", id, lab.wish(id, &args)).await.unwrap();
        start(&TaskService(tasks.clone()), id, "").await;
    }
    // Another supervisor over the same bundles, while the first one hears nothing any more.
    std::fs::remove_file(&lab.settings.ttrpc_address).unwrap();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    lab.host.events.lock().unwrap().clear();
    let again = Tasks::new(lab.settings.clone());
    again.restore().await;
    assert_eq!(lab.host.exit_of("exits").await.exit_status, 3);
    let service = TaskService(again);
    assert_eq!(wait(&service, "exits", "").await, 3);
    kill(&service, "runs").await;
    assert_eq!(wait(&service, "runs", "").await, 137);
    for id in ["runs", "exits"] {
        delete(&service, id).await;
    }
}

#[tokio::test]
async fn a_failed_create_reports_the_runtimes_reason_and_leaves_nothing() {
    let Some(lab) = lab("a_failed_create_reports_the_runtimes_reason_and_leaves_nothing") else {
        return;
    };
    let tasks = Tasks::new(lab.settings.clone());
    let error = tasks
        .create("ferry-test", "bad", lab.wish("bad", &["/no/such/program"]))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("no such file or directory"), "{error}");
    assert!(!lab.settings.state.join("ferry-test/bad").exists());
    let mut wish = lab.wish("bad", &["/bin/true"]);
    wish.runtime = "io.containerd.nonsense.v9".into();
    let error = tasks.create("ferry-test", "bad", wish).await.unwrap_err();
    assert!(matches!(error, TaskError::NotFound(_)), "{error}");
}
