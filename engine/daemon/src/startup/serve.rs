//! Sockets and routes: what is listened on, and who serves which endpoint.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;

use super::{StartupError, machine};
use crate::config::{Listen, Settings};
use crate::engine::Engine;
use crate::http::{self, Listener, Router, ServerFacts};
use crate::routes;

/// Opens all sockets.
pub(super) async fn listen(settings: &Settings) -> Result<Vec<Listener>, StartupError> {
    let mut out = Vec::new();
    for host in &settings.hosts {
        out.push(match host {
            Listen::Unix(path) => Listener::Unix(unix(path, settings)?),
            Listen::Tcp(address) => {
                let bound = TcpListener::bind(address.as_str()).await;
                Listener::Tcp(bound.map_err(machine(&format!("listening on tcp://{address}")))?)
            }
        });
    }
    Ok(out)
}

fn unix(path: &std::path::Path, settings: &Settings) -> Result<UnixListener, StartupError> {
    let what = format!("listening on unix://{}", path.display());
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(machine(&what))?;
    }
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(machine(&what)(e)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(machine(&what))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))
        .map_err(machine(&what))?;
    match group(&settings.group) {
        Some(gid) => std::os::unix::fs::chown(path, Some(0), Some(gid)).map_err(machine(&what))?,
        None if settings.group_is_explicit => {
            return Err(StartupError::Machine(format!(
                "{what}: group {} not found",
                settings.group
            )));
        }
        None => {}
    }
    Ok(listener)
}

fn group(name: &str) -> Option<u32> {
    let text = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let found = text.lines().find_map(|line| {
        let mut parts = line.split(':');
        (parts.next() == Some(name)).then(|| parts.nth(1)?.parse().ok())?
    });
    found.or_else(|| name.parse().ok())
}

/// Serves until `stop`.
pub(super) async fn serve(engine: &Arc<Engine>, listeners: Vec<Listener>, stop: CancellationToken) {
    let mut router = Router::new();
    routes::containers::register(&mut router, engine);
    routes::exec::register(&mut router, engine);
    routes::images::register(&mut router, engine);
    routes::registries::register(&mut router, engine);
    routes::system::register(&mut router, engine);
    routes::volumes::register(&mut router, engine);
    let networks = routes::networks::Context {
        reader: engine.networks.clone(),
        thread: engine.network.clone(),
        containers: Arc::new(crate::glue::NetworkSide(Arc::clone(engine))),
    };
    routes::networks::register(&mut router, &networks);
    routes::absent::register(&mut router, engine);
    http::serve(listeners, router, ServerFacts::new(engine.settings.experimental), stop).await;
}
