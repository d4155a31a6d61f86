//! The engine about itself: ping, version, info, events. Facts are gathered when asked
//! for; nothing is changed here.

mod df;
mod events;
mod info;

use std::sync::Arc;

use engine_api::{
    ApiVersion, BuildCachePruneReport, ComponentVersion, StringMap, SystemVersion, VersionPlatform,
};
use http::{HeaderName, HeaderValue, StatusCode};

use crate::engine::Engine;
use crate::http::{ApiError, Request, Response, Router};

pub(crate) use info::engine_id;

type Reply = Result<Response, ApiError>;

/// The name under which the engine presents itself where clients expect one.
const COMPONENT: &str = "Engine";

/// Registers the routes.
pub fn register(router: &mut Router, engine: &Arc<Engine>) {
    router.on("SystemPing", |_| async { Ok(ping("OK")) });
    router.on("SystemPingHead", |_| async { Ok(ping("")) });
    let own = Arc::clone(engine);
    router.on("SystemVersion", move |request| version(Arc::clone(&own), request));
    let own = Arc::clone(engine);
    router.on("SystemInfo", move |request| info::info(Arc::clone(&own), request));
    // Nothing builds here, so there is no cache that could be pruned.
    router.on("BuildPrune", |request| async move {
        Ok(Response::json(&BuildCachePruneReport::default(), request.version))
    });
    let own = Arc::clone(engine);
    router.on_while_there("SystemDataUsage", move |request| df::usage(Arc::clone(&own), request));
    let own = Arc::clone(engine);
    router.on_while_there("SystemEvents", move |request| events::events(Arc::clone(&own), request));
}

fn ping(body: &'static str) -> Response {
    let header = |response: Response, name: &'static str, value: &'static str| {
        response.header(HeaderName::from_static(name), HeaderValue::from_static(value))
    };
    let response = Response::new(StatusCode::OK, "text/plain; charset=utf-8", body);
    let response = header(response, "builder-version", "1");
    let response = header(response, "swarm", "inactive");
    let response = header(response, "cache-control", "no-cache, no-store, must-revalidate");
    header(response, "pragma", "no-cache")
}

async fn version(engine: Arc<Engine>, request: Request) -> Reply {
    let machine = rustix::system::uname();
    let kernel = machine.release().to_string_lossy().into_owned();
    let containerd = engine.client.peer_version().await.unwrap_or_else(|_| "unknown".to_owned());
    let arch = oci::Platform::host().architecture;
    let own = env!("CARGO_PKG_VERSION");
    let details: StringMap = [
        ("ApiVersion", ApiVersion::MAX.to_string()),
        ("Arch", arch.clone()),
        ("Experimental", engine.settings.experimental.to_string()),
        ("KernelVersion", kernel.clone()),
        ("MinAPIVersion", ApiVersion::MIN.to_string()),
        ("Os", "linux".to_owned()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect();
    let component = |name: &str, version: &str, details| ComponentVersion {
        name: name.to_owned(),
        version: version.to_owned(),
        details,
    };
    let answer = SystemVersion {
        platform: VersionPlatform { name: "Ferry".to_owned() },
        components: vec![
            component(COMPONENT, own, Some(details)),
            component("containerd", &containerd, Some(StringMap::new())),
        ],
        version: own.to_owned(),
        api_version: ApiVersion::MAX.to_string(),
        min_api_version: ApiVersion::MIN.to_string(),
        os: "linux".to_owned(),
        arch,
        kernel_version: kernel,
        experimental: engine.settings.experimental,
        ..SystemVersion::default()
    };
    Ok(Response::json(&answer, request.version))
}
