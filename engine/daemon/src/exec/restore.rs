//! After a restart, of this daemon or of containerd: which execs there were, and what
//! became of them meanwhile. A running one goes on; an exit that nobody saw is learned
//! from the sink's record or from the shim.

use std::sync::Arc;

use containerd_api::services::tasks::v1::GetRequest;
use containerd_api::task_types::Status;
use containerd_rpc::RpcError;
use shim_api::sink::ExitRecord;
use tracing::warn;

use super::{Exec, ExecRecord, NOT_STARTED, run, sweep_later};
use crate::engine::Engine;
use crate::lifecycle::Container;
use crate::records::EXECS;
use crate::sink;
use crate::startup::StartupError;

/// Reads the records. Containers must be there; what became of those that ran is asked later.
pub(crate) fn load(engine: &Arc<Engine>) -> Result<(), StartupError> {
    for (id, record) in engine.store.scan_json::<ExecRecord>(EXECS, b"")? {
        let id = String::from_utf8_lossy(&id).into_owned();
        let ExecRecord { container, request, state } = record;
        let owner = engine.by_id(&container);
        let exec = Arc::new(Exec::known(engine.store.clone(), id, container, request, state));
        let Some(owner) = owner else {
            exec.drop_record();
            continue;
        };
        engine.execs.insert(Arc::clone(&exec));
        if exec.is_over() {
            if sink::socket(&engine.settings.exec_root, &exec.container, &exec.id).exists() {
                tokio::spawn(run::clean(Arc::clone(engine), exec, run::Output::Some));
            }
            sweep_later(engine);
        } else {
            owner.execs.add(exec);
        }
        if !owner.row().state.phase.has_task() {
            run::run_over(engine, &owner);
        }
    }
    Ok(())
}

/// Compares what is known of a running container's execs with what its shim knows.
pub(crate) async fn reconcile(engine: &Arc<Engine>, container: &Arc<Container>) {
    for exec in container.execs.all() {
        let state = exec.state();
        if !state.started || state.starting || state.exit_code.is_some() {
            continue;
        }
        let path = sink::exit_record(&engine.settings.exec_root, &container.id, &exec.id);
        let written = std::fs::read(path).ok().and_then(|bytes| ExitRecord::parse(&bytes).ok());
        if let Some(record) = written {
            run::exited(engine, container, &exec.id, i64::from(record.exit_code));
            continue;
        }
        let request = GetRequest { container_id: container.id.clone(), exec_id: exec.id.clone() };
        let answer = engine.client.tasks().get(request).await.map_err(RpcError::from);
        let process = match answer {
            Ok(answer) => answer.into_inner().process.unwrap_or_default(),
            Err(e) if e.is_not_found() => {
                // Its start was cut before the shim heard of it.
                run::exited(engine, container, &exec.id, NOT_STARTED);
                continue;
            }
            Err(e) => {
                warn!("asking for exec {}: {e}", exec.id);
                continue;
            }
        };
        match process.status() {
            Status::Stopped => {
                let code = i64::from(process.exit_status);
                run::exited(engine, container, &exec.id, code);
            }
            Status::Created => run::exited(engine, container, &exec.id, NOT_STARTED),
            _ => run::goes_on(engine, container, &exec, process.pid),
        }
    }
}
