//! `POST /images/create`: a pull, or an import of a stream of files.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use engine_api::{ApiVersion, JsonMessage};
use futures_util::{Stream, StreamExt, stream};
use images::{ImageError, ImportRequest, Progress, PullRequest, hello};
use oci::{Digest, Platform, Reference};

use super::{Reply, tell};
use crate::engine::Engine;
use crate::http::{ApiError, Request, Response, Router};
use crate::routes::transfers::{auth_config, meta_headers, streamed};

/// Between two messages about an import.
const EVERY: Duration = Duration::from_millis(100);

/// Registers the route.
pub(super) fn register(router: &mut Router, engine: &Arc<Engine>) {
    let own = Arc::clone(engine);
    router.on_while_there("ImageCreate", move |request| create(Arc::clone(&own), request));
}

async fn create(engine: Arc<Engine>, request: Request) -> Reply {
    let platform = platform(&request)?;
    if request.query.get("fromImage").is_empty() {
        return import(engine, request, platform).await;
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

async fn import(engine: Arc<Engine>, request: Request, platform: Option<Platform>) -> Reply {
    if platform.as_ref().is_some_and(|platform| platform.os != "linux") {
        return Err(ApiError::bad_request("operating system is not supported"));
    }
    let query = &request.query;
    let mut config = oci::image::RunConfig::default();
    let changes: Vec<String> = query.all("changes").map(str::to_owned).collect();
    images::apply_changes(&mut config, &changes)?;
    let reference = new_name(query.get("repo"), query.get("tag"))?;
    let from = query.get("fromSrc").to_owned();
    let message = match query.get("message") {
        "" => format!("Imported from {from}"),
        text => text.to_owned(),
    };
    let import = ImportRequest { reference, message, config, platform };
    if from != "-" {
        return import_from(engine, from, import).await;
    }
    let (_, body) = request.take_body();
    let id = store(&engine, body.into_stream(), import).await?;
    let line = Bytes::from(JsonMessage::status(id).line());
    Ok(Response::json_stream(Box::pin(stream::iter([Ok(line)]))))
}

/// Makes an image of a stream and tells of it. Returns the id.
async fn store<S>(engine: &Engine, body: S, import: ImportRequest) -> Result<String, ApiError>
where
    S: Stream<Item = io::Result<Bytes>> + Send + 'static,
{
    let name = import.reference.as_ref().map(Reference::familiar);
    let id = engine.images.import(body, import).await?.to_string();
    tell(engine, "import", &id, name.as_deref().unwrap_or(&id));
    Ok(id)
}

/// Imports what is at a URL.
async fn import_from(engine: Arc<Engine>, from: String, import: ImportRequest) -> Reply {
    let client = engine.remote.load().client.clone();
    let source = client.download(&from).await?;
    streamed(move |progress| async move {
        progress.tell(JsonMessage::status(format!("Downloading from {}", source.address())));
        let total = source.length().unwrap_or(0);
        let (mut current, mut last, told) = (0, None::<Instant>, progress.clone());
        let source = source.inspect(move |part| {
            let Ok(part) = part else { return };
            current += part.len() as u64;
            if current == total || last.is_none_or(|last| last.elapsed() >= EVERY) {
                last = Some(Instant::now());
                told.tell(JsonMessage::progress("", "Importing", current, total));
            }
        });
        let id = store(&engine, source, import).await?;
        progress.tell(JsonMessage::status(id));
        Ok(())
    })
    .await
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
    let loaded = engine.images.load(once, None).await?;
    progress.tell(JsonMessage::status("Using the image that is built into Ferry"));
    for one in loaded {
        tell(engine, "pull", "hello-world:latest", "hello-world");
        progress.tell(JsonMessage::status(format!("Digest: {}", one.image.target.digest)));
    }
    let text = "Status: Downloaded newer image for hello-world:latest";
    progress.tell(JsonMessage::status(text));
    Ok(true)
}
