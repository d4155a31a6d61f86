//! The shim as a supervisor sees it: a tiny client over the codec starts it, makes a container of
//! a bundle with a real runtime, attaches to its sink, kills things. Needs root and runc (in PATH
//! or `FERRY_PEERS`).

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may")]

mod common;

use common::{Rig, find};
use prost::Message;
use shim_api::runc::{OPTIONS, Options};
use shim_api::sink::{Decoder, Frame};
use shim_api::task::{
    CreateTaskRequest, CreateTaskResponse, DeleteRequest, DeleteResponse, SERVICE_V2, SERVICE_V3,
    ShutdownRequest, WaitRequest, WaitResponse,
};
use std::io::Read;
use std::path::Path;
use std::process::Command;

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
