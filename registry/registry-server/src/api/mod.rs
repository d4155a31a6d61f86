//! The registry's API: routes, who may use them, and the answers.

mod answer;
mod blobs;
mod error;
mod lists;
mod manifests;
mod route;
mod upload;
mod uploads;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use file_stream::Files;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;

use crate::access_log::AccessLog;
use crate::auth::{Action, Auth, Need};
use crate::http::{Body, Query};
use crate::metrics::Metrics;
use crate::proxy::Proxy;
use crate::store::{Store, StoreError};
use answer::Ending;
pub(crate) use error::{ApiError, Code};
use route::Route;

/// What an answer comes to.
type Answer = Result<Response<Body>, ApiError>;

/// A registry: its store, and who may do what with it.
pub(crate) struct Registry {
    pub(crate) store: Arc<Store>,
    pub(crate) auth: Auth,
    /// The registry that this one is a cache of.
    pub(crate) proxy: Option<Proxy>,
    pub(crate) read_only: AtomicBool,
    pub(crate) allow_delete: AtomicBool,
    pub(crate) metrics: Metrics,
    pub(crate) access_log: Option<AccessLog>,
}

/// A request whose route is known.
struct Call {
    method: Method,
    headers: HeaderMap,
    query: Query,
    /// Where the connection can send from files.
    files: Option<Files>,
    body: Incoming,
}

impl Call {
    fn header(&self, name: &header::HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    fn is_head(&self) -> bool {
        self.method == Method::HEAD
    }
}

impl Registry {
    /// Answers a request, and notes that it did.
    pub(crate) async fn handle(
        self: Arc<Self>,
        peer: Option<IpAddr>,
        request: Request<Incoming>,
    ) -> Response<Body> {
        let mut ending = Ending::new(Arc::clone(&self), peer, &request);
        let answer = self.route(request, &mut ending).await;
        let mut response = answer.unwrap_or_else(ApiError::into_response);
        let headers = response.headers_mut();
        let version = HeaderValue::from_static("registry/2.0");
        headers.insert("Docker-Distribution-Api-Version", version);
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        ending.wrap(response)
    }

    async fn route(&self, request: Request<Incoming>, ending: &mut Ending) -> Answer {
        let (head, body) = request.into_parts();
        let Some(route) = Route::parse(head.uri.path())? else {
            return Ok(answer::page_not_found());
        };
        ending.route(route.name());
        match &route {
            Route::Root => return Ok(Response::new(Body::empty())),
            Route::Health => return Ok(self.health().await),
            Route::BaseWithoutSlash => return Ok(answer::moved("/v2/")),
            _ => {}
        }
        let query = Query::parse(head.uri.query().unwrap_or_default());
        let query = query.ok_or_else(|| {
            ApiError::new(Code::Unsupported)
                .status(StatusCode::BAD_REQUEST)
                .message("invalid query")
        })?;
        let needs = needs(&head.method, &route, &query)?;
        ending.user(self.auth.check(&head.headers, &needs).await?);
        self.allows(&head.method, &route)?;
        let files = head.extensions.get::<Files>().cloned();
        let call = Call { method: head.method, headers: head.headers, query, files, body };
        self.dispatch(route, call).await
    }

    /// What is switched off answers so before anything else is looked at.
    fn allows(&self, method: &Method, route: &Route) -> Result<(), ApiError> {
        let reads = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
        if !reads && self.proxy.is_some() {
            let why = "the registry is a pull-through cache";
            return Err(ApiError::new(Code::Unsupported).message(why));
        }
        if !reads && self.read_only.load(Ordering::Relaxed) {
            return Err(ApiError::new(Code::Unsupported).message("the registry is read-only"));
        }
        let deletes = *method == Method::DELETE && !matches!(route, Route::Upload(..));
        if deletes && !self.allow_delete.load(Ordering::Relaxed) {
            return Err(ApiError::new(Code::Unsupported).message("deletion is disabled"));
        }
        Ok(())
    }

    async fn dispatch(&self, route: Route, call: Call) -> Answer {
        match (call.method.as_str(), route) {
            ("GET" | "HEAD", Route::Base) => Ok(answer::json(&serde_json::json!({}))),
            ("GET" | "HEAD", Route::Catalog) => self.catalog(&call).await,
            ("GET" | "HEAD", Route::Tags(name)) => self.tags(&call, name).await,
            ("GET" | "HEAD", Route::Referrers(name, subject)) => {
                self.referrers(&call, name, subject).await
            }
            ("GET" | "HEAD", Route::Manifest(name, which)) => {
                self.get_manifest(&call, name, which).await
            }
            ("PUT", Route::Manifest(name, which)) => self.put_manifest(call, name, which).await,
            ("DELETE", Route::Manifest(name, which)) => self.delete_manifest(name, which).await,
            ("GET" | "HEAD", Route::Blob(name, digest)) => self.get_blob(&call, name, digest).await,
            ("DELETE", Route::Blob(name, digest)) => self.delete_blob(name, digest).await,
            ("POST", Route::Uploads(name)) => self.begin_upload(call, name).await,
            ("GET" | "HEAD", Route::Upload(name, uuid)) => self.upload_status(name, uuid).await,
            ("PATCH", Route::Upload(name, uuid)) => self.append_upload(call, name, uuid).await,
            ("PUT", Route::Upload(name, uuid)) => self.finish_upload(call, name, uuid).await,
            ("DELETE", Route::Upload(name, uuid)) => self.cancel_upload(name, uuid).await,
            (_, route) => Err(ApiError::new(Code::Unsupported)
                .header(header::ALLOW, HeaderValue::from_static(allowed(&route)))),
        }
    }

    async fn health(&self) -> Response<Body> {
        let there = self.blocking(|store| Ok(store.is_there())).await;
        let (status, text) = match there {
            Ok(true) => (StatusCode::OK, "ok\n"),
            _ => (StatusCode::SERVICE_UNAVAILABLE, "the root is not there\n"),
        };
        let mut response = answer::text(text);
        *response.status_mut() = status;
        response
    }

    /// Runs what waits for the disk where it holds nobody up.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let store = Arc::clone(&self.store);
        match tokio::task::spawn_blocking(move || work(&store)).await {
            Ok(done) => done.map_err(ApiError::from),
            Err(error) => {
                tracing::error!("a worker failed: {error}");
                Err(Code::Unknown.into())
            }
        }
    }
}

/// What a request needs to be allowed.
fn needs(method: &Method, route: &Route, query: &Query) -> Result<Vec<Need>, ApiError> {
    const PULL: &[Action] = &[Action::Pull];
    const PUSH: &[Action] = &[Action::Pull, Action::Push];
    const DELETE: &[Action] = &[Action::Delete];
    let name = match route {
        Route::Catalog => return Ok(vec![Need::Catalog]),
        Route::Tags(name)
        | Route::Manifest(name, _)
        | Route::Blob(name, _)
        | Route::Uploads(name)
        | Route::Upload(name, _)
        | Route::Referrers(name, _) => name,
        _ => return Ok(Vec::new()),
    };
    let actions = match *method {
        Method::GET | Method::HEAD => PULL,
        Method::DELETE if !matches!(route, Route::Upload(..)) => DELETE,
        _ => PUSH,
    };
    let mut needs = vec![Need::Repository(name.clone(), actions)];
    if matches!(route, Route::Uploads(_))
        && query.get("mount").is_some()
        && let Some(from) = query.get("from")
    {
        needs.push(Need::Repository(route::repository(from)?, PULL));
    }
    Ok(needs)
}

const fn allowed(route: &Route) -> &'static str {
    match route {
        Route::Manifest(..) => "GET, HEAD, PUT, DELETE",
        Route::Blob(..) => "GET, HEAD, DELETE",
        Route::Uploads(_) => "POST",
        Route::Upload(..) => "GET, HEAD, PATCH, PUT, DELETE",
        _ => "GET, HEAD",
    }
}
