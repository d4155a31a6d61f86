//! From method and path to a handler. Patterns come from the API's table of
//! endpoints; who serves an endpoint registers under its name.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use engine_api::routes::{Endpoint, endpoint, matches};

use super::{ApiError, Request, Response};

/// What a handler comes to.
pub type Outcome = Pin<Box<dyn Future<Output = Result<Response, ApiError>> + Send>>;

type Handler = Arc<dyn Fn(Request) -> Outcome + Send + Sync>;

/// A handler under its endpoint.
#[derive(Clone)]
pub(super) struct Route {
    pub endpoint: &'static Endpoint,
    pub handler: Handler,
    /// Whether the handler is dropped when the client goes.
    pub cancels: bool,
}

/// All handlers.
#[derive(Default)]
pub struct Router {
    routes: Vec<Route>,
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.routes.iter().map(|r| r.endpoint.name)).finish()
    }
}

impl Router {
    /// A router without routes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Serves the endpoint called `operation` (`engine_api::routes`). The
    /// handler runs to its end even when the client goes: what was begun is
    /// finished. An operation that the table lacks is a mistake in the
    /// program, and the first test that builds the router finds it.
    pub fn on<F, R>(&mut self, operation: &str, handler: F) -> &mut Self
    where
        F: Fn(Request) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Response, ApiError>> + Send + 'static,
    {
        self.add(operation, false, handler)
    }

    /// The same, for handlers that end with their client: wait, logs, pull.
    pub fn on_while_there<F, R>(&mut self, operation: &str, handler: F) -> &mut Self
    where
        F: Fn(Request) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Response, ApiError>> + Send + 'static,
    {
        self.add(operation, true, handler)
    }

    fn add<F, R>(&mut self, operation: &str, cancels: bool, handler: F) -> &mut Self
    where
        F: Fn(Request) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Response, ApiError>> + Send + 'static,
    {
        let Some(endpoint) = endpoint(operation) else {
            panic!("no endpoint is called {operation}");
        };
        let handler: Handler = Arc::new(move |request| Box::pin(handler(request)));
        self.routes.push(Route { endpoint, handler, cancels });
        self
    }

    /// The operations that nobody serves.
    pub fn missing(&self) -> Vec<&'static str> {
        let served = |name| self.routes.iter().any(|r| r.endpoint.name == name);
        let all = engine_api::routes::ENDPOINTS.iter();
        all.filter(|e| !served(e.name)).map(|e| e.name).collect()
    }

    /// The route for a request, with its placeholders' values. A pattern
    /// without placeholders wins over one with them.
    pub(super) fn find(&self, method: &str, path: &str) -> Option<(&Route, Vec<String>)> {
        let mut found: Option<(&Route, Vec<String>)> = None;
        for route in self.routes.iter().filter(|r| r.endpoint.method == method) {
            if let Some(values) = matches(route.endpoint.pattern, path) {
                if values.is_empty() {
                    return Some((route, values));
                }
                if found.is_none() {
                    found = Some((route, values));
                }
            }
        }
        found
    }
}
