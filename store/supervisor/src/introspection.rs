//! Introspection: the plugins that clients look for, and the server's identity.

use std::sync::Arc;

use containerd_api::filter::Filters;
use containerd_api::services::introspection::v1 as api;
use containerd_api::types::Platform;
use tonic::{Request, Response, Status};

use crate::{Error, State};

type Row = (&'static str, &'static str, bool, &'static [&'static str], &'static [&'static str]);

/// Plugins as a stock containerd lists them, so far as Ferry offers what they name:
/// type, id, whether it is bound to a platform, capabilities, required types.
const PLUGINS: [Row; 35] = [
    ("io.containerd.content.v1", "content", false, &[], &[]),
    ("io.containerd.event.v1", "exchange", false, &[], &[]),
    ("io.containerd.snapshotter.v1", "native", true, &[], &[]),
    ("io.containerd.snapshotter.v1", "overlayfs", true, &[], &[]),
    ("io.containerd.metadata.v1", "bolt", false, &[], &["io.containerd.content.v1"]),
    ("io.containerd.gc.v1", "scheduler", false, &[], &["io.containerd.metadata.v1"]),
    ("io.containerd.differ.v1", "walking", true, &[], &["io.containerd.metadata.v1"]),
    ("io.containerd.lease.v1", "manager", false, &[], &["io.containerd.metadata.v1"]),
    ("io.containerd.service.v1", "containers-service", false, &[], &[]),
    ("io.containerd.service.v1", "content-service", false, &[], &[]),
    ("io.containerd.service.v1", "diff-service", false, &[], &[]),
    ("io.containerd.service.v1", "images-service", false, &[], &[]),
    ("io.containerd.service.v1", "introspection-service", false, &[], &[]),
    ("io.containerd.service.v1", "namespaces-service", false, &[], &[]),
    ("io.containerd.service.v1", "snapshots-service", false, &[], &[]),
    ("io.containerd.service.v1", "tasks-service", false, &[], &[]),
    ("io.containerd.shim.v1", "manager", false, &[], &[]),
    ("io.containerd.runtime.v2", "task", true, &[], &["io.containerd.shim.v1"]),
    ("io.containerd.grpc.v1", "containers", false, &[], &["io.containerd.service.v1"]),
    ("io.containerd.grpc.v1", "content", false, &[], &["io.containerd.service.v1"]),
    ("io.containerd.grpc.v1", "diff", false, &[], &["io.containerd.service.v1"]),
    ("io.containerd.grpc.v1", "events", false, &[], &[]),
    ("io.containerd.grpc.v1", "images", false, &[], &["io.containerd.service.v1"]),
    ("io.containerd.grpc.v1", "introspection", false, &[], &["io.containerd.service.v1"]),
    ("io.containerd.grpc.v1", "leases", false, &[], &["io.containerd.service.v1"]),
    ("io.containerd.grpc.v1", "namespaces", false, &[], &["io.containerd.service.v1"]),
    ("io.containerd.grpc.v1", "snapshots", false, &[], &["io.containerd.service.v1"]),
    ("io.containerd.streaming.v1", "manager", false, &[], &["io.containerd.metadata.v1"]),
    ("io.containerd.grpc.v1", "streaming", false, &[], &["io.containerd.streaming.v1"]),
    ("io.containerd.grpc.v1", "tasks", false, &[], &["io.containerd.service.v1"]),
    ("io.containerd.transfer.v1", "local", false, &[], &["io.containerd.snapshotter.v1"]),
    ("io.containerd.grpc.v1", "transfer", false, &[], &["io.containerd.transfer.v1"]),
    ("io.ferry.stream.v1", "archive", false, &[], &["io.containerd.streaming.v1"]),
    ("io.containerd.grpc.v1", "version", false, &[], &[]),
    ("io.containerd.grpc.v1", "healthcheck", false, &[], &[]),
];

/// The gRPC service of introspection.
#[derive(Debug, Clone)]
pub struct Service(pub Arc<State>);

impl Service {
    fn plugins(&self) -> Vec<api::Plugin> {
        PLUGINS.iter().map(|plugin| self.plugin(plugin)).collect()
    }

    fn plugin(&self, &(r#type, id, bound, capabilities, requires): &Row) -> api::Plugin {
        let root = match r#type {
            "io.containerd.snapshotter.v1" => Some(self.0.root.join("snapshots")),
            "io.containerd.content.v1" => Some(self.0.root.join("content")),
            _ => None,
        };
        let stream = (r#type == "io.ferry.stream.v1")
            .then(|| crate::streaming::raw_address(&self.0.address));
        api::Plugin {
            r#type: r#type.into(),
            id: id.into(),
            requires: requires.iter().map(|&s| s.into()).collect(),
            platforms: if bound { vec![host()] } else { Vec::new() },
            exports: root
                .map(|root| ("root".to_owned(), root.display().to_string()))
                .into_iter()
                .chain(stream.map(|path| ("address".to_owned(), path.display().to_string())))
                .collect(),
            capabilities: capabilities.iter().map(|&s| s.into()).collect(),
            init_err: None,
        }
    }
}

fn host() -> Platform {
    let host = oci::Platform::host();
    Platform {
        os: host.os,
        architecture: host.architecture,
        variant: host.variant,
        ..Platform::default()
    }
}

#[tonic::async_trait]
impl api::introspection_server::Introspection for Service {
    async fn plugins(
        &self,
        request: Request<api::PluginsRequest>,
    ) -> Result<Response<api::PluginsResponse>, Status> {
        let filters = Filters::parse(&request.into_inner().filters).map_err(Error::from)?;
        let mut plugins = self.plugins();
        plugins.retain(|plugin| {
            filters.matches(&|path: &[&str]| match path {
                ["type"] => Some(plugin.r#type.clone()),
                ["id"] => Some(plugin.id.clone()),
                ["platforms"] => Some(plugin.platforms.len().to_string()),
                ["capabilities"] => Some(plugin.capabilities.join(",")),
                _ => None,
            })
        });
        Ok(Response::new(api::PluginsResponse { plugins }))
    }

    async fn server(&self, _: Request<()>) -> Result<Response<api::ServerResponse>, Status> {
        let pid = std::process::id();
        let pidns = std::fs::metadata("/proc/self/ns/pid")
            .map(|meta| std::os::unix::fs::MetadataExt::ino(&meta))
            .map_err(Error::io("reading the pid namespace"))?;
        Ok(Response::new(api::ServerResponse {
            uuid: self.0.uuid.clone(),
            pid: u64::from(pid),
            pidns,
            deprecations: Vec::new(),
        }))
    }

    async fn plugin_info(
        &self,
        request: Request<api::PluginInfoRequest>,
    ) -> Result<Response<api::PluginInfoResponse>, Status> {
        let request = request.into_inner();
        let found = self
            .plugins()
            .into_iter()
            .find(|plugin| plugin.r#type == request.r#type && plugin.id == request.id);
        let Some(plugin) = found else {
            let what = format!("plugin {}.{}", request.r#type, request.id);
            return Err(Error::NotFound(what).into());
        };
        if request.options.is_some() {
            let what = format!("options of plugin {}.{}", request.r#type, request.id);
            return Err(Error::Unimplemented(what).into());
        }
        Ok(Response::new(api::PluginInfoResponse { plugin: Some(plugin), extra: None }))
    }
}
