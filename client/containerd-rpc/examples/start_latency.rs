//! Measures each call of a container's life against a running containerd, back to back and after
//! 300 ms of quiet: `start_latency SOCKET PARENT RUNTIME [ROUNDS]`. PARENT is the chain id of an
//! unpacked image that holds `/bin/true`. Medians in microseconds. Users never run this.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use containerd_api::services::containers::v1::container::Runtime;
use containerd_api::services::containers::v1::{
    Container, CreateContainerRequest, DeleteContainerRequest,
};
use containerd_api::services::events::v1::SubscribeRequest;
use containerd_api::services::snapshots::v1::{PrepareSnapshotRequest, RemoveSnapshotRequest};
use containerd_api::services::tasks::v1::{
    CreateTaskRequest, DeleteTaskRequest, StartRequest, WaitRequest,
};
use containerd_rpc::Client;

const STEPS: [&str; 9] =
    ["prepare", "container", "create", "start", "wait", "exit event", "delete", "remove", "total"];

fn spec(id: &str) -> Vec<u8> {
    let namespaces = ["pid", "mount", "ipc", "uts", "network"]
        .map(|n| format!("{{\"type\":\"{n}\"}}"))
        .join(",");
    format!(
        r#"{{"ociVersion":"1.0.2","hostname":"{id}","root":{{"path":"rootfs"}},
        "process":{{"args":["/bin/true"],"cwd":"/","env":["PATH=/bin"],"user":{{"uid":0,"gid":0}}}},
        "mounts":[{{"destination":"/proc","type":"proc","source":"proc"}}],
        "linux":{{"cgroupsPath":"/ferry-latency/{id}","namespaces":[{namespaces}]}}}}"#
    )
    .into_bytes()
}

async fn round(
    client: &Client,
    id: &str,
    parent: &str,
    runtime: &str,
) -> Result<[f64; 9], Box<dyn Error>> {
    let filters = vec![format!("topic==/tasks/exit,event.container_id=={id}")];
    let mut events = client.events().subscribe(SubscribeRequest { filters }).await?.into_inner();
    let mut times = [0.0; 9];
    let begin = Instant::now();
    let mut last = begin;
    let mut lap = |at: usize| {
        let now = Instant::now();
        times[at] = (now - last).as_secs_f64() * 1e6;
        last = now;
    };
    let prepare = PrepareSnapshotRequest {
        snapshotter: "overlayfs".into(),
        key: id.into(),
        parent: parent.into(),
        ..Default::default()
    };
    let rootfs = client.snapshots().prepare(prepare).await?.into_inner().mounts;
    lap(0);
    let container = Container {
        id: id.into(),
        runtime: Some(Runtime { name: runtime.into(), options: None }),
        spec: Some(containerd_api::any::json(containerd_api::any::OCI_SPEC, spec(id))),
        snapshotter: "overlayfs".into(),
        snapshot_key: id.into(),
        ..Default::default()
    };
    client.containers().create(CreateContainerRequest { container: Some(container) }).await?;
    lap(1);
    let create = CreateTaskRequest { container_id: id.into(), rootfs, ..Default::default() };
    client.tasks().create(create).await?;
    lap(2);
    client.tasks().start(StartRequest { container_id: id.into(), ..Default::default() }).await?;
    lap(3);
    client.tasks().wait(WaitRequest { container_id: id.into(), ..Default::default() }).await?;
    lap(4);
    events.message().await?.ok_or("no exit event")?;
    lap(5);
    client.tasks().delete(DeleteTaskRequest { container_id: id.into() }).await?;
    lap(6);
    client.containers().delete(DeleteContainerRequest { id: id.into() }).await?;
    let snapshotter = "overlayfs".into();
    client.snapshots().remove(RemoveSnapshotRequest { snapshotter, key: id.into() }).await?;
    lap(7);
    times[8] = begin.elapsed().as_secs_f64() * 1e6;
    Ok(times)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().collect();
    let [_, socket, parent, runtime, rest @ ..] = words.as_slice() else {
        return Err("usage: start_latency SOCKET PARENT RUNTIME [ROUNDS]".into());
    };
    let rounds: usize = rest.first().map_or(Ok(30), |n| n.parse())?;
    let client = Client::new(Path::new(socket), "latency")?;
    for (name, quiet) in [("back to back", 0), ("after 300 ms", 300)] {
        let mut all = Vec::new();
        for n in 0..rounds {
            tokio::time::sleep(Duration::from_millis(quiet)).await;
            all.push(round(&client, &format!("l{quiet}-{n}"), parent, runtime).await?);
        }
        let median = |at: usize| {
            let mut column: Vec<f64> = all.iter().map(|row| row[at]).collect();
            column.sort_by(f64::total_cmp);
            column[column.len() / 2]
        };
        let columns =
            STEPS.iter().enumerate().map(|(at, step)| format!("{step} {:.0}", median(at)));
        println!("{name}: {}", columns.collect::<Vec<_>>().join(", "));
    }
    Ok(())
}
