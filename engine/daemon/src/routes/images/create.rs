//! `POST /images/create`: a pull, or an import of a stream of files.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use engine_api::{ApiVersion, JsonMessage};
use futures_util::{StreamExt, stream};
use images::{ImageError, ImportRequest, Progress, PullRequest, hello};
use oci::{Digest, Platform, Reference};

use super::{Reply, tell};
use crate::engine::Engine;
use crate::http::{ApiError, Request, Response, Router};
use crate::routes::transfers::{auth_config, meta_headers, streamed};

/// Registers the route.
pub(super) fn register(router: &mut Router, engine: &Arc<Engine>) {
    let own = Arc::clone(engine);
    router.on_while_there("ImageCreate", move |request| create(Arc::clone(&own), request));
}

async fn create(engine: Arc<Engine>, request: Request) -> Reply {
    let platform = platform(&request)?;
    if request.query.get("fromImage").is_empty() {
        return import(engine, request).await;
    }
    pull(engine, &request, platform).await
}

/// The platform that was asked for; old versions know none.
fn platform(request: &Request) -> Result<Option<Platform>, ApiError> {
    let text = request.query.get("platform");
    let knows = request.version >= ApiVersion { major: 1, minor: 32 };
    if text.is_empty() || !knows {
        return Ok(None);
    }
    let platform = text.parse::<Platform>();
    platform.map(Some).map_err(|error| ApiError::bad_request(error.to_string()))
}

async fn import(engine: Arc<Engine>, request: Request) -> Reply {
    let from = request.query.get("fromSrc").to_owned();
    if from != "-" {
        return Err(ApiError::not_implemented(format!(
            "import from {from} is not supported by Ferry yet: send the archive itself"
        )));
    }
    let query = &request.query;
    let mut config = oci::image::RunConfig::default();
    let changes: Vec<String> = query.all("changes").map(str::to_owned).collect();
    images::apply_changes(&mut config, &changes)?;
    let reference = new_name(query.get("repo"), query.get("tag"))?;
    let message = query.get("message").to_owned();
    let name = reference.as_ref().map(Reference::familiar);
    let (_, body) = request.take_body();
    let import = ImportRequest { reference, message, config };
    let id = engine.images.import(body.into_stream(), import).await?.to_string();
    tell(&engine, "import", &id, name.as_deref().unwrap_or(&id));
    let line = Bytes::from(JsonMessage::status(id).line());
    Ok(Response::json_stream(Box::pin(stream::iter([Ok(line)]))))
}

/// The name that an import or a commit gives.
pub(super) fn new_name(repository: &str, tag: &str) -> Result<Option<Reference>, ApiError> {
    let name = reference(repository, tag)?;
    if name.as_ref().is_some_and(|name| name.digest().is_some()) {
        return Err(ApiError::bad_request("cannot import digest reference"));
    }
    Ok(name.map(Reference::tagged))
}

/// A repository with a tag or a digest, which may both stand in `tag`.
fn reference(repository: &str, tag: &str) -> Result<Option<Reference>, ApiError> {
    if repository.is_empty() {
        return Ok(None);
    }
    let bad = |error: oci::InvalidReference| ApiError::bad_request(error.to_string());
    let reference = Reference::parse(repository).map_err(bad)?;
    if tag.is_empty() {
        return Ok(Some(reference));
    }
    let bare = reference.without_tag();
    Ok(Some(match tag.parse::<Digest>() {
        Ok(digest) => bare.with_digest(digest),
        Err(_) => bare.with_tag(tag).map_err(|_| ApiError::bad_request("invalid tag format"))?,
    }))
}

async fn pull(engine: Arc<Engine>, request: &Request, platform: Option<Platform>) -> Reply {
    // `pull -a` of old clients sends a name that ends in a colon.
    let name = request.query.get("fromImage").trim_end_matches(':');
    let Some(reference) = reference(name, request.query.get("tag"))? else {
        return Err(ApiError::bad_request("invalid reference format"));
    };
    let pull = PullRequest {
        reference,
        platform,
        auth: auth_config(&request.headers).ok().flatten().unwrap_or_default(),
        headers: meta_headers(&request.headers),
    };
    streamed(move |progress| async move { run(&engine, &pull, &progress).await }).await
}

async fn run(engine: &Engine, pull: &PullRequest, progress: &Progress) -> Result<(), ApiError> {
    let remote = engine.remote.load_full();
    let pulled = match engine.images.pull(&remote, pull, progress).await {
        Ok(pulled) => pulled,
        Err(e) => {
            if !progress.has_told() && built_in(engine, pull, progress, &e).await? {
                return Ok(());
            }
            return Err(e.into());
        }
    };
    for reference in pulled {
        tell(engine, "pull", &reference.familiar(), &reference.familiar_name());
    }
    Ok(())
}

/// Where no registry can be reached, `hello-world` is what Ferry brings itself.
async fn built_in(
    engine: &Engine,
    pull: &PullRequest,
    progress: &Progress,
    error: &ImageError,
) -> Result<bool, ApiError> {
    let unreachable = matches!(error, ImageError::Registry(told) if told.status == 500);
    if pull.reference.to_string() != hello::NAME || !unreachable {
        return Ok(false);
    }
    let archive = hello::archive().map_err(|error| ApiError::internal(error.to_string()))?;
    let once = stream::iter([Ok::<_, io::Error>(Bytes::from(archive))]).boxed();
    let loaded = engine.images.load(once).await?;
    progress.tell(JsonMessage::status("Using the image that is built into Ferry"));
    for one in loaded {
        tell(engine, "pull", "hello-world:latest", "hello-world");
        progress.tell(JsonMessage::status(format!("Digest: {}", one.image.target.digest)));
    }
    let text = "Status: Downloaded newer image for hello-world:latest";
    progress.tell(JsonMessage::status(text));
    Ok(true)
}
