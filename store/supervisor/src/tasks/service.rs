//! `containerd.services.tasks.v1.Tasks`: requests in, shim calls out. The messages of both sides
//! carry the same facts; here they only change their names.

use super::TaskError;
use super::manager::{Created, Tasks, lost};
use super::shim::{QUICK, Shim};
use containerd_api::filter::Filters;
use containerd_api::services::tasks::v1 as api;
use containerd_api::services::tasks::v1::tasks_server::Tasks as Service;
use containerd_api::task_types::{Process, ProcessInfo};
use containerd_api::types::Metric;
use containerd_api::{NAMESPACE_KEY, time};
use futures_util::future::join_all;
use shim_api::task as shim;
use shim_api::task::Method;
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// The gRPC service over [`Tasks`].
pub struct TaskService(pub Tasks);

type Answer<T> = Result<Response<T>, Status>;

impl TaskService {
    fn shim<T>(&self, request: &Request<T>, id: &str) -> Result<Arc<Shim>, Status> {
        Ok(self.0.get(namespace(request)?, id)?)
    }

    async fn process(&self, shim: &Shim, exec_id: &str) -> Result<Process, TaskError> {
        let request = shim::StateRequest { id: shim.bundle.id.clone(), exec_id: exec_id.into() };
        let state: shim::StateResponse = shim.call(Method::State, &request, Some(QUICK)).await?;
        Ok(Process {
            container_id: shim.bundle.id.clone(),
            id: if state.exec_id.is_empty() { state.id } else { state.exec_id },
            pid: state.pid,
            status: state.status,
            stdin: state.stdin,
            stdout: state.stdout,
            stderr: state.stderr,
            terminal: state.terminal,
            exit_status: state.exit_status,
            exited_at: state.exited_at,
        })
    }
}

/// The namespace of a call. Errors: `FailedPrecondition` in containerd's words.
fn namespace<T>(request: &Request<T>) -> Result<&str, Status> {
    let value = request.metadata().get(NAMESPACE_KEY).and_then(|value| value.to_str().ok());
    value
        .filter(|value| !value.is_empty())
        .ok_or_else(|| Status::failed_precondition("namespace is required: failed precondition"))
}

#[tonic::async_trait]
impl Service for TaskService {
    async fn create(
        &self,
        request: Request<api::CreateTaskRequest>,
    ) -> Answer<api::CreateTaskResponse> {
        let namespace = namespace(&request)?.to_owned();
        let wish = request.into_inner();
        if wish.checkpoint.is_some_and(|c| !c.digest.is_empty()) {
            return Err(TaskError::Unsupported(
                "restoring a task from a checkpoint is not supported".into(),
            )
            .into());
        }
        let mount = |m: containerd_api::types::Mount| shim::Mount {
            r#type: m.r#type,
            source: m.source,
            target: m.target,
            options: m.options,
        };
        let created = Created {
            runtime: wish.runtime_path,
            request: shim::CreateTaskRequest {
                rootfs: wish.rootfs.into_iter().map(mount).collect(),
                terminal: wish.terminal,
                stdin: wish.stdin,
                stdout: wish.stdout,
                stderr: wish.stderr,
                options: wish.options,
                ..shim::CreateTaskRequest::default()
            },
        };
        let pid = self.0.create(&namespace, &wish.container_id, created).await?;
        Ok(Response::new(api::CreateTaskResponse { container_id: wish.container_id, pid }))
    }

    async fn start(&self, request: Request<api::StartRequest>) -> Answer<api::StartResponse> {
        let task = self.shim(&request, &request.get_ref().container_id)?;
        let wish = request.into_inner();
        let call = shim::StartRequest { id: wish.container_id, exec_id: wish.exec_id };
        let started: shim::StartResponse = task.call(Method::Start, &call, None).await?;
        Ok(Response::new(api::StartResponse { pid: started.pid }))
    }

    async fn delete(
        &self,
        request: Request<api::DeleteTaskRequest>,
    ) -> Answer<api::DeleteResponse> {
        let namespace = namespace(&request)?.to_owned();
        let id = request.into_inner().container_id;
        let gone = self.0.delete(&namespace, &id).await?;
        let (pid, exit_status, exited_at) = (gone.pid, gone.exit_status, gone.exited_at);
        Ok(Response::new(api::DeleteResponse { id, pid, exit_status, exited_at }))
    }

    async fn delete_process(
        &self,
        request: Request<api::DeleteProcessRequest>,
    ) -> Answer<api::DeleteResponse> {
        let task = self.shim(&request, &request.get_ref().container_id)?;
        let wish = request.into_inner();
        if wish.exec_id.is_empty() {
            return Err(Status::invalid_argument("exec_id is required: invalid argument"));
        }
        let call = shim::DeleteRequest { id: wish.container_id, exec_id: wish.exec_id.clone() };
        let gone: shim::DeleteResponse = task.call(Method::Delete, &call, None).await?;
        let (pid, exit_status, exited_at) = (gone.pid, gone.exit_status, gone.exited_at);
        Ok(Response::new(api::DeleteResponse { id: wish.exec_id, pid, exit_status, exited_at }))
    }

    async fn get(&self, request: Request<api::GetRequest>) -> Answer<api::GetResponse> {
        let task = self.shim(&request, &request.get_ref().container_id)?;
        let process = self.process(&task, &request.get_ref().exec_id).await?;
        Ok(Response::new(api::GetResponse { process: Some(process) }))
    }

    async fn list(
        &self,
        request: Request<api::ListTasksRequest>,
    ) -> Answer<api::ListTasksResponse> {
        let shims = self.0.all(namespace(&request)?);
        let states = join_all(shims.iter().map(|shim| self.process(shim, ""))).await;
        // A shim that goes meanwhile is simply no longer there.
        let tasks = states.into_iter().filter_map(Result::ok).collect();
        Ok(Response::new(api::ListTasksResponse { tasks }))
    }

    async fn kill(&self, request: Request<api::KillRequest>) -> Answer<()> {
        let task = self.shim(&request, &request.get_ref().container_id)?;
        let wish = request.into_inner();
        let call = shim::KillRequest {
            id: wish.container_id,
            exec_id: wish.exec_id,
            signal: wish.signal,
            all: wish.all,
        };
        Ok(Response::new(task.call(Method::Kill, &call, None).await?))
    }

    async fn exec(&self, request: Request<api::ExecProcessRequest>) -> Answer<()> {
        let task = self.shim(&request, &request.get_ref().container_id)?;
        let wish = request.into_inner();
        if wish.exec_id.is_empty() {
            return Err(Status::invalid_argument("exec_id cannot be empty: invalid argument"));
        }
        let call = shim::ExecProcessRequest {
            id: wish.container_id,
            exec_id: wish.exec_id,
            terminal: wish.terminal,
            stdin: wish.stdin,
            stdout: wish.stdout,
            stderr: wish.stderr,
            spec: wish.spec,
        };
        Ok(Response::new(task.call(Method::Exec, &call, None).await?))
    }

    async fn resize_pty(&self, request: Request<api::ResizePtyRequest>) -> Answer<()> {
        let task = self.shim(&request, &request.get_ref().container_id)?;
        let wish = request.into_inner();
        let (id, exec_id) = (wish.container_id, wish.exec_id);
        let call = shim::ResizePtyRequest { id, exec_id, width: wish.width, height: wish.height };
        Ok(Response::new(task.call(Method::ResizePty, &call, Some(QUICK)).await?))
    }

    async fn close_io(&self, request: Request<api::CloseIoRequest>) -> Answer<()> {
        let task = self.shim(&request, &request.get_ref().container_id)?;
        let wish = request.into_inner();
        let (id, exec_id) = (wish.container_id, wish.exec_id);
        let call = shim::CloseIoRequest { id, exec_id, stdin: wish.stdin };
        Ok(Response::new(task.call(Method::CloseIo, &call, Some(QUICK)).await?))
    }

    async fn pause(&self, request: Request<api::PauseTaskRequest>) -> Answer<()> {
        let task = self.shim(&request, &request.get_ref().container_id)?;
        let call = shim::PauseRequest { id: request.into_inner().container_id };
        Ok(Response::new(task.call(Method::Pause, &call, None).await?))
    }

    async fn resume(&self, request: Request<api::ResumeTaskRequest>) -> Answer<()> {
        let task = self.shim(&request, &request.get_ref().container_id)?;
        let call = shim::ResumeRequest { id: request.into_inner().container_id };
        Ok(Response::new(task.call(Method::Resume, &call, None).await?))
    }

    async fn list_pids(
        &self,
        request: Request<api::ListPidsRequest>,
    ) -> Answer<api::ListPidsResponse> {
        let task = self.shim(&request, &request.get_ref().container_id)?;
        let call = shim::PidsRequest { id: request.into_inner().container_id };
        let pids: shim::PidsResponse = task.call(Method::Pids, &call, Some(QUICK)).await?;
        let process = |p: shim::ProcessInfo| ProcessInfo { pid: p.pid, info: p.info };
        let processes = pids.processes.into_iter().map(process).collect();
        Ok(Response::new(api::ListPidsResponse { processes }))
    }

    async fn checkpoint(
        &self,
        request: Request<api::CheckpointTaskRequest>,
    ) -> Answer<api::CheckpointTaskResponse> {
        let id = &request.get_ref().container_id;
        self.shim(&request, id)?;
        Err(TaskError::Unsupported(format!("checkpoint of task {id}: not supported")).into())
    }

    async fn update(&self, request: Request<api::UpdateTaskRequest>) -> Answer<()> {
        let task = self.shim(&request, &request.get_ref().container_id)?;
        let wish = request.into_inner();
        let call = shim::UpdateTaskRequest {
            id: wish.container_id,
            resources: wish.resources,
            annotations: wish.annotations,
        };
        Ok(Response::new(task.call(Method::Update, &call, None).await?))
    }

    async fn metrics(&self, request: Request<api::MetricsRequest>) -> Answer<api::MetricsResponse> {
        let filters = Filters::parse(&request.get_ref().filters)
            .map_err(|e| Status::invalid_argument(e.to_string()))?;
        let namespace = namespace(&request)?;
        let mut shims = self.0.all(namespace);
        shims.retain(|shim| {
            filters.is_empty()
                || filters.matches(&|path: &[&str]| match path {
                    ["id"] => Some(shim.bundle.id.clone()),
                    ["namespace"] => Some(namespace.to_owned()),
                    _ => None,
                })
        });
        let each = shims.iter().map(|shim| async move {
            let call = shim::StatsRequest { id: shim.bundle.id.clone() };
            let stats = shim.call::<shim::StatsResponse>(Method::Stats, &call, Some(QUICK)).await;
            let (id, timestamp) = (shim.bundle.id.clone(), Some(time::now()));
            // A task without statistics (it exited) is left out, as containerd does.
            stats.ok().map(|stats| Metric { timestamp, id, data: stats.stats })
        });
        let metrics = join_all(each).await.into_iter().flatten().collect();
        Ok(Response::new(api::MetricsResponse { metrics }))
    }

    async fn wait(&self, request: Request<api::WaitRequest>) -> Answer<api::WaitResponse> {
        let task = self.shim(&request, &request.get_ref().container_id)?;
        let wish = request.into_inner();
        let call = shim::WaitRequest { id: wish.container_id, exec_id: wish.exec_id };
        match task.call::<shim::WaitResponse>(Method::Wait, &call, None).await {
            Ok(ended) => {
                let (exit_status, exited_at) = (ended.exit_status, ended.exited_at);
                Ok(Response::new(api::WaitResponse { exit_status, exited_at }))
            }
            Err(e) if lost(&e) && !task.is_ending() => {
                let status = task.death().await;
                let (exit_status, exited_at) = (status.code, status.at);
                Ok(Response::new(api::WaitResponse { exit_status, exited_at }))
            }
            Err(e) => Err(e.into()),
        }
    }
}
