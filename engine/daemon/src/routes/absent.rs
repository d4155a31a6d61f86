//! The API's endpoints that nothing serves yet: an answer that names what is missing, after
//! the same look at the container as any other request. Nothing else lives here.

use std::sync::Arc;

use crate::engine::Engine;
use crate::http::{ApiError, Request, Router};

/// Registers an answer for every endpoint without one. To be called last.
pub fn register(router: &mut Router, engine: &Arc<Engine>) {
    for operation in router.missing() {
        let engine = Arc::clone(engine);
        router.on(operation, move |request| {
            let refusal = refusal(&engine, operation, &request);
            async move { Err(refusal) }
        });
    }
}

fn refusal(engine: &Engine, operation: &str, request: &Request) -> ApiError {
    let container = match operation {
        "ImageCommit" => Some(request.query.get("container")),
        _ if operation.contains("Container") => request.params.first().map(String::as_str),
        _ => None,
    };
    match container.map(|name| engine.find(name)) {
        Some(Err(e)) => e.into(),
        // Clients that look for a name among all kinds of objects go on after a 404 only.
        _ if operation.ends_with("Inspect") => {
            ApiError::not_found(format!("{operation} is not supported by Ferry yet"))
        }
        _ => ApiError::not_implemented(format!("{operation} is not supported by Ferry yet")),
    }
}
