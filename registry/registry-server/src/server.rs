//! The server: sockets, connections, what happens by the clock, and what can be read again.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access_log::AccessLog;
use crate::api::Registry;
use crate::auth::{Auth, InvalidAuth};
use crate::config::Settings;
use crate::control;
use crate::http::{Limits, Stream, serve_connection};
use crate::metrics::{self, Metrics};
use crate::proxy::{InvalidProxy, Proxy};
use crate::store::gc::Wish;
use crate::store::{Options, REFRESH, Refresh, Store, StoreError, control_socket};
use crate::tls::{InvalidTls, Reloadable};

/// How long a client may take to agree on TLS.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How often at most uploads that rest are looked for.
const EXPIRY_CHECK: Duration = Duration::from_secs(600);
/// How often at most a cache is looked through.
const CACHE_CHECK: Duration = Duration::from_secs(3600);
/// How long nothing must have been asked before free memory is given back.
const QUIET: Duration = Duration::from_secs(2);

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Users or keys.
    #[error(transparent)]
    Auth(#[from] InvalidAuth),
    /// Certificates.
    #[error(transparent)]
    Tls(#[from] InvalidTls),
    /// The registry behind a cache.
    #[error(transparent)]
    Proxy(#[from] InvalidProxy),
    /// A socket or a file.
    #[error("{what}: {source}")]
    Io {
        /// What was attempted.
        what: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

fn io_error(what: String) -> impl FnOnce(io::Error) -> StartError {
    move |source| StartError::Io { what, source }
}

/// A server that listens.
pub struct Server {
    registry: Arc<Registry>,
    listeners: Vec<TcpListener>,
    metrics: Option<TcpListener>,
    control: (UnixListener, PathBuf),
    tls: Option<Arc<Reloadable>>,
    settings: Settings,
    pidfile: Option<PidFile>,
    requested: Arc<Notify>,
}

impl Server {
    /// Opens the store and the sockets.
    ///
    /// # Errors
    /// A [`StartError`] that names what is in the way.
    pub async fn start(settings: Settings) -> Result<Self, StartError> {
        let mut listeners = Vec::new();
        for address in &settings.listen {
            listeners.push(listen(address).await?);
        }
        let metrics = match &settings.metrics_addr {
            Some(address) => Some(listen(address).await?),
            None => None,
        };
        let tls = match &settings.tls {
            Some(files) => Some(Arc::new(Reloadable::open(files)?)),
            None => None,
        };
        let auth = Auth::new(&settings.auth)?;
        let access_log = match &settings.access_log {
            Some(path) => Some(AccessLog::open(path).map_err(io_error(format!("opening {path}")))?),
            None => None,
        };
        let refresh = match &settings.upstream {
            Some(_) => Refresh::WhenUsed,
            None if settings.read_only => Refresh::Never,
            None => Refresh::WhenAsked,
        };
        let ttl = settings.upstream.as_ref().and_then(|upstream| upstream.ttl);
        let refresh_after = ttl.map_or(REFRESH, |ttl| REFRESH.min(ttl / 4));
        let options = Options { max_uploads: settings.max_uploads, refresh, refresh_after };
        let root = settings.root.clone();
        let store = tokio::task::spawn_blocking(move || Store::open(&root, options)).await;
        let store =
            store.map_err(|e| io_error("opening the store".into())(io::Error::other(e)))??;
        let control = control::listen(&control_socket(store.root()))
            .map_err(io_error("listening on the control socket".into()))?;
        let pidfile = match &settings.pidfile {
            Some(path) => Some(PidFile::write(path)?),
            None => None,
        };
        let store = Arc::new(store);
        let proxy = match &settings.upstream {
            Some(upstream) => Some(Proxy::new(Arc::clone(&store), upstream)?),
            None => None,
        };
        let registry = Registry {
            store,
            proxy,
            auth,
            read_only: AtomicBool::new(settings.read_only),
            allow_delete: AtomicBool::new(settings.allow_delete),
            metrics: Metrics::new(),
            access_log,
        };
        let registry = Arc::new(registry);
        let requested = Arc::default();
        Ok(Self { registry, listeners, metrics, control, tls, settings, pidfile, requested })
    }

    /// Where it listens.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }

    /// Where its metrics are.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// Serves until `stop`, then lets requests end for a while. `settings` says what to change
    /// each time that something is to be read again.
    pub async fn run(
        self,
        stop: CancellationToken,
        mut settings: tokio::sync::mpsc::Receiver<Settings>,
    ) {
        let Self { registry, listeners, metrics, control, tls, settings: begun, .. } = self;
        let tasks = TaskTracker::new();
        let serving = Arc::new(Serving {
            registry: Arc::clone(&registry),
            tls: tls.clone(),
            places: Arc::new(Semaphore::new(begun.max_connections)),
            tasks: tasks.clone(),
            stop: stop.clone(),
            requested: Arc::clone(&self.requested),
        });
        for listener in listeners {
            tasks.spawn(Arc::clone(&serving).accept(listener));
        }
        if let Some(listener) = metrics {
            tasks.spawn(serve_metrics(Arc::clone(&registry), listener, stop.clone()));
        }
        let (control, path) = control;
        tasks.spawn(control::serve(Arc::clone(&registry), control, stop.clone()));
        let upkeep = tokio::spawn(upkeep(Arc::clone(&registry), begun.upload_expiry));
        let ttl = begun.upstream.as_ref().and_then(|upstream| upstream.ttl);
        let forget = ttl.map(|ttl| tokio::spawn(forget(Arc::clone(&registry), ttl)));
        let memory = tokio::spawn(give_back(Arc::clone(&self.requested)));
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Some(settings) = settings.recv() => reload(&registry, tls.as_deref(), &settings),
            }
        }
        tasks.close();
        if tokio::time::timeout(begun.shutdown_timeout, tasks.wait()).await.is_err() {
            tracing::warn!("requests were still running at the end");
        }
        upkeep.abort();
        memory.abort();
        forget.inspect(tokio::task::JoinHandle::abort);
        std::fs::remove_file(path).ok();
        drop(self.pidfile);
    }
}

async fn listen(address: &str) -> Result<TcpListener, StartError> {
    // An empty host means every address, as Go has it.
    let spelled =
        address.strip_prefix(':').map_or_else(|| address.to_owned(), |port| format!("[::]:{port}"));
    TcpListener::bind(&spelled).await.map_err(io_error(format!("listening on {address}")))
}

/// What connections share.
struct Serving {
    registry: Arc<Registry>,
    tls: Option<Arc<Reloadable>>,
    places: Arc<Semaphore>,
    tasks: TaskTracker,
    stop: CancellationToken,
    requested: Arc<Notify>,
}

impl Serving {
    async fn accept(self: Arc<Self>, listener: TcpListener) {
        loop {
            let next = async {
                let place = Arc::clone(&self.places).acquire_owned().await;
                (place, listener.accept().await)
            };
            let (place, accepted) = tokio::select! {
                () = self.stop.cancelled() => return,
                next = next => next,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let this = Arc::clone(&self);
                    self.tasks.spawn(async move {
                        let _place = place;
                        this.connection(stream, peer).await;
                    });
                }
                Err(error) => {
                    // Descriptors ran out: those that close make room.
                    tracing::error!("accepting a connection: {error}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    async fn connection(self: Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        let _counted = self.registry.metrics.connection();
        stream.set_nodelay(true).ok();
        let stream = match &self.tls {
            None => Stream::from(stream),
            Some(tls) => {
                let handshake = tls.acceptor().accept(stream);
                match tokio::time::timeout(HANDSHAKE, handshake).await {
                    Ok(Ok(stream)) => Stream::from(stream),
                    Ok(Err(error)) => return tracing::debug!(%peer, "TLS: {error}"),
                    Err(_) => return tracing::debug!(%peer, "TLS: no handshake in time"),
                }
            }
        };
        let (registry, requested) = (Arc::clone(&self.registry), Arc::clone(&self.requested));
        serve_connection(stream, Limits::default(), self.stop.clone(), move |request| {
            requested.notify_one();
            Arc::clone(&registry).handle(Some(peer.ip().to_canonical()), request)
        })
        .await;
    }
}

async fn serve_metrics(registry: Arc<Registry>, listener: TcpListener, stop: CancellationToken) {
    use http::{HeaderValue, Response, StatusCode, header};
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else { continue };
        let registry = Arc::clone(&registry);
        let answer = move |request: http::Request<hyper::body::Incoming>| {
            let registry = Arc::clone(&registry);
            async move {
                let mut response = Response::new(crate::http::Body::empty());
                if request.uri().path() == "/metrics" {
                    let text = registry.metrics.text(registry.store.open_uploads());
                    *response.body_mut() = text.into();
                    let kind = HeaderValue::from_static(metrics::CONTENT_TYPE);
                    response.headers_mut().insert(header::CONTENT_TYPE, kind);
                } else {
                    *response.status_mut() = StatusCode::NOT_FOUND;
                }
                response
            }
        };
        tokio::spawn(serve_connection(stream.into(), Limits::default(), stop.clone(), answer));
    }
}

/// Reads again what can change while connections are served; what cannot be read stays.
fn reload(registry: &Registry, tls: Option<&Reloadable>, settings: &Settings) {
    registry.read_only.store(settings.read_only, Ordering::Relaxed);
    registry.allow_delete.store(settings.allow_delete, Ordering::Relaxed);
    if let Err(error) = registry.auth.reload() {
        tracing::error!("{error}; it stays as it was");
    }
    if let Some(Err(error)) = tls.map(Reloadable::reload) {
        tracing::error!("{error}; it stays as it was");
    }
    if let Some(log) = &registry.access_log {
        log.reopen();
    }
    tracing::info!(read_only = settings.read_only, "configuration read again");
}

/// Gives up uploads that nobody goes on with; looks once for what others stored.
async fn upkeep(registry: Arc<Registry>, expiry: Duration) {
    let every = (expiry / 4).clamp(Duration::from_secs(1), EXPIRY_CHECK);
    let store = Arc::clone(&registry.store);
    match tokio::task::spawn_blocking(move || store.adopt()).await {
        Ok(Ok(0)) => {}
        Ok(Ok(count)) => tracing::info!(count, "manifests of another program were taken in"),
        Ok(Err(error)) => tracing::error!("looking for manifests of other programs: {error}"),
        Err(error) => tracing::error!("a worker failed: {error}"),
    }
    let mut clock = tokio::time::interval(every);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        clock.tick().await;
        // Without uploads there is nothing to look for, and no thread to wake.
        if registry.store.open_uploads() == 0 {
            continue;
        }
        let store = Arc::clone(&registry.store);
        let expired = tokio::task::spawn_blocking(move || store.expire_uploads(expiry)).await;
        if let Ok(count @ 1..) = expired {
            tracing::info!(count, "uploads were given up: nobody went on with them");
        }
    }
}

/// Takes from a cache what nobody used for a time.
async fn forget(registry: Arc<Registry>, ttl: Duration) {
    let wish = Wish { min_age: ttl, is_cache: true, ..Wish::default() };
    let mut clock = tokio::time::interval((ttl / 4).clamp(Duration::from_secs(1), CACHE_CHECK));
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        clock.tick().await;
        let store = Arc::clone(&registry.store);
        let collect = move || store.collect(&wish, &mut |_| {});
        match tokio::task::spawn_blocking(collect).await {
            Ok(Ok(report)) if report.blobs == 0 => {}
            Ok(Ok(report)) => {
                registry.metrics.collected(report.bytes);
                tracing::info!(?report, "what nobody used was forgotten");
            }
            Ok(Err(StoreError::Collecting)) => {}
            Ok(Err(error)) => tracing::error!("forgetting what nobody used: {error}"),
            Err(error) => tracing::error!("a worker failed: {error}"),
        }
    }
}

/// Gives free memory back after each burst of requests.
async fn give_back(requested: Arc<Notify>) {
    loop {
        requested.notified().await;
        while tokio::time::timeout(QUIET, requested.notified()).await.is_ok() {
            tokio::time::sleep(QUIET).await;
        }
        sys::memory::trim();
    }
}

/// A file with the process id, which goes with the server.
struct PidFile(PathBuf);

impl PidFile {
    fn write(path: &std::path::Path) -> Result<Self, StartError> {
        let text = std::process::id().to_string();
        std::fs::write(path, text).map_err(io_error(format!("writing {}", path.display())))?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).ok();
    }
}
