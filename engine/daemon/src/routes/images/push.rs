//! `POST /images/{name}/push`.

use std::sync::Arc;

use engine_api::{OciPlatform, decode};
use images::PushRequest;
use oci::{Platform, Reference};

use super::{Reply, tell};
use crate::engine::Engine;
use crate::http::{ApiError, Request, Router};
use crate::routes::transfers::{auth_config, meta_headers, streamed};

/// Registers the route.
pub(super) fn register(router: &mut Router, engine: &Arc<Engine>) {
    let own = Arc::clone(engine);
    router.on_while_there("ImagePush", move |request| push(Arc::clone(&own), request));
}

/// A platform as newer clients send it: JSON.
pub(super) fn platform_json(text: &str) -> Result<Option<Platform>, ApiError> {
    if text.is_empty() {
        return Ok(None);
    }
    let given: OciPlatform = decode(text.as_bytes()).map_err(|e| {
        // Unlike a body's, this text has no word of its own before Go's.
        let why = e.to_string();
        let why = why.strip_prefix("invalid JSON: ").unwrap_or(&why);
        ApiError::bad_request(format!("failed to parse platform: {why}"))
    })?;
    if given.os.is_empty() || given.architecture.is_empty() {
        return Err(ApiError::bad_request("both OS and Architecture must be provided"));
    }
    Ok(Some(Platform::new(&given.os, &given.architecture, &given.variant)))
}

async fn push(engine: Arc<Engine>, request: Request) -> Reply {
    let bad = |e: oci::InvalidReference| ApiError::bad_request(e.to_string());
    let mut reference = Reference::parse(request.name()).map_err(bad)?;
    let tag = request.query.get("tag");
    if !tag.is_empty() {
        let tagged = reference.without_tag().with_tag(tag);
        reference = tagged.map_err(|_| ApiError::bad_request("invalid tag format"))?;
    }
    let push = PushRequest {
        reference,
        platform: platform_json(request.query.get("platform"))?,
        auth: auth_config(&request.headers).ok().flatten().unwrap_or_default(),
        headers: meta_headers(&request.headers),
    };
    streamed(move |progress| async move {
        let remote = engine.remote.load_full();
        for pushed in engine.images.push(&remote, &push, &progress).await? {
            tell(&engine, "push", &pushed.familiar(), &pushed.familiar_name());
        }
        Ok(())
    })
    .await
}
