//! The images' endpoints: from a request to the image library, and its answer to a
//! reply. Which containers use an image is told from here.

use std::sync::Arc;

use bytes::Bytes;
use engine_api::filters::{IMAGES, IMAGES_PRUNE};
use engine_api::{ImagesPruneReport, JsonMessage, StringMap};
use futures_util::{StreamExt, stream};
use images::{Archive, ImageUse, ListOptions, RemoveOptions, Removed, ResolvedImage};
use oci::{Digest, Platform};
use tokio_stream::wrappers::ReceiverStream;

mod commit;
mod create;
mod push;

use crate::engine::Engine;
use crate::http::{ApiError, Incoming, Request, Response, Router};
use crate::records::Phase;

type Reply = Result<Response, ApiError>;

/// Registers the routes.
pub fn register(router: &mut Router, engine: &Arc<Engine>) {
    routes!(router.on(engine) {
        "ImageList" list;
        "ImageInspect" inspect;
        "ImageHistory" history;
        "ImageTag" tag;
        "ImageDelete" delete;
        "ImagePrune" prune;
        "ImageLoad" load;
        "ImageGet" save_one;
        "ImageGetAll" save;
    });
    commit::register(router, engine);
    create::register(router, engine);
    push::register(router, engine);
}

/// Who uses which image.
pub(super) fn uses(engine: &Engine) -> Vec<ImageUse> {
    let of = |container: Arc<crate::lifecycle::Container>| {
        let row = container.row();
        let running = matches!(row.state.phase, Phase::Running | Phase::Paused | Phase::Restarting);
        let image: Digest = row.fixed.image_id.parse().ok()?;
        Some(ImageUse { image, container: container.id.clone(), running })
    };
    engine.all().into_iter().filter_map(of).collect()
}

fn tell(engine: &Engine, action: &str, id: &str, name: &str) {
    let attributes: StringMap = [("name".to_owned(), name.to_owned())].into();
    engine.events.publish("image", action, id, attributes);
}

async fn list(engine: Arc<Engine>, request: Request) -> Reply {
    let mut filters = request.filters(IMAGES)?;
    let (query, version) = (&request.query, request.version);
    if version.before(41) && !query.get("filter").is_empty() {
        filters = filters.with("reference", query.get("filter"));
    }
    let shared_size = query.bool("shared-size") && version.at_least(42);
    let all = query.bool("all");
    let options = ListOptions { filters, shared_size, all };
    let uses = uses(&engine);
    let mut list = engine.images.list(&options, &uses)?;
    if query.bool("manifests") && version.at_least(47) {
        for summary in &mut list {
            let Ok(image) = engine.images.resolve(&summary.id) else { continue };
            summary.descriptor = Some(images::api_descriptor(&image.target));
            summary.manifests = Some(engine.images.manifests(&image, &uses).await?);
        }
    }
    Ok(Response::versioned(list, request.version))
}

/// The platform that was asked for, as JSON, from the version on that knows it.
fn wanted_platform(request: &Request, since: u16) -> Result<Option<Platform>, ApiError> {
    if request.version.before(since) {
        return Ok(None);
    }
    push::platform_json(request.query.get("platform"))
}

/// The image of a request, for the platform that it asks for.
async fn resolve(
    engine: &Engine,
    name: &str,
    platform: Option<&Platform>,
) -> Result<Arc<ResolvedImage>, ApiError> {
    let image = engine.images.resolve(name)?;
    match platform {
        Some(platform) => Ok(engine.images.for_platform(&image, name, platform).await?),
        None => Ok(image),
    }
}

async fn inspect(engine: Arc<Engine>, request: Request) -> Reply {
    let manifests = request.query.bool("manifests") && request.version.at_least(48);
    let platform = wanted_platform(&request, 49)?;
    if manifests && platform.is_some() {
        let text = "conflicting options: manifests and platform options cannot both be set";
        return Err(ApiError::bad_request(text));
    }
    let image = resolve(&engine, request.name(), platform.as_ref()).await?;
    let mut answer = engine.images.inspect(&image);
    if manifests {
        answer.descriptor = Some(images::api_descriptor(&image.target));
        answer.manifests = Some(engine.images.manifests(&image, &uses(&engine)).await?);
    }
    Ok(Response::versioned(answer, request.version))
}

async fn history(engine: Arc<Engine>, request: Request) -> Reply {
    let platform = wanted_platform(&request, 48)?;
    let image = resolve(&engine, request.name(), platform.as_ref()).await?;
    Ok(Response::json(&engine.images.history(&image), request.version))
}

async fn tag(engine: Arc<Engine>, request: Request) -> Reply {
    let name = create::new_name(request.query.get("repo"), request.query.get("tag"))?;
    // dockerd has nothing to say about a name that is none.
    let Some(name) = name else { return Ok(Response::status(http::StatusCode::OK)) };
    let image = engine.images.tag(request.name(), &name).await?;
    tell(&engine, "tag", &image.id.to_string(), &name.familiar());
    Ok(Response::status(http::StatusCode::CREATED))
}

async fn delete(engine: Arc<Engine>, request: Request) -> Reply {
    let (name, force, uses) = (request.name(), request.query.bool("force"), uses(&engine));
    let options = RemoveOptions { force, keep_parents: request.query.bool("noprune") };
    let platforms = if request.version.at_least(50) { platforms(&request)? } else { Vec::new() };
    let removed = match &platforms[..] {
        [] => engine.images.remove(name, options, &uses).await?,
        [platform] => {
            let image = resolve(&engine, name, Some(platform)).await?;
            if engine.images.platforms_here(&image).await?.len() > 1 {
                engine.images.remove_platform(name, platform, force, &uses).await?
            } else {
                engine.images.remove(name, options, &uses).await?
            }
        }
        _ => return Err(ApiError::bad_request("multiple platforms are not supported")),
    };
    tell_removed(&engine, &removed);
    Ok(Response::json(&removed.items, request.version))
}

/// The platforms that are to go.
fn platforms(request: &Request) -> Result<Vec<Platform>, ApiError> {
    let given = request.query.all("platforms").map(push::platform_json);
    given.filter_map(Result::transpose).collect()
}

async fn prune(engine: Arc<Engine>, request: Request) -> Reply {
    let filters = request.filters(IMAGES_PRUNE)?;
    let removed = engine.images.prune(&filters, &uses(&engine)).await?;
    tell_removed(&engine, &removed);
    let attributes: StringMap = [("reclaimed".to_owned(), removed.freed.to_string())].into();
    engine.events.publish("image", "prune", "", attributes);
    let report = ImagesPruneReport {
        images_deleted: (!removed.items.is_empty()).then_some(removed.items),
        space_reclaimed: removed.freed,
    };
    Ok(Response::json(&report, request.version))
}

fn tell_removed(engine: &Engine, removed: &Removed) {
    for id in &removed.untagged {
        tell(engine, "untag", &id.to_string(), &id.to_string());
    }
    for id in &removed.deleted {
        tell(engine, "delete", &id.to_string(), &id.to_string());
    }
}

async fn load(engine: Arc<Engine>, request: Request) -> Reply {
    let platform = one_platform(&request)?;
    let (_, body) = request.take_body();
    // Progress is drawn from the stream's own bytes; `quiet` has nothing more to hide.
    let loaded = engine.images.load(body.into_stream(), platform.as_ref()).await?;
    let mut lines = Vec::new();
    for one in loaded {
        let id = one.image.id.to_string();
        let text = match &one.name {
            Some(name) => format!("Loaded image: {name}\n"),
            None => format!("Loaded image ID: {id}\n"),
        };
        let name = one.name.as_deref().unwrap_or(&id);
        tell(&engine, "load", &id, name);
        let message = match &platform {
            Some(wanted) if engine.images.for_platform(&one.image, name, wanted).await.is_err() => {
                let why = format!("doesn't provide the requested platform ({wanted})");
                JsonMessage::failure(format!("image {name} was loaded, but {why}"))
            }
            _ => JsonMessage::stream(text),
        };
        lines.push(Ok(Bytes::from(message.line())));
    }
    Ok(Response::json_stream(Box::pin(stream::iter(lines))))
}

async fn save_one(engine: Arc<Engine>, request: Request) -> Reply {
    let names = [request.name().to_owned()];
    archive(&engine, &names, one_platform(&request)?).await
}

async fn save(engine: Arc<Engine>, request: Request) -> Reply {
    let names: Vec<String> = request.query.all("names").map(str::to_owned).collect();
    if names.is_empty() {
        return Err(ApiError::internal("no images given to save"));
    }
    archive(&engine, &names, one_platform(&request)?).await
}

/// The platform of an archive: one at most, from 1.48 on.
fn one_platform(request: &Request) -> Result<Option<Platform>, ApiError> {
    if request.version.at_least(48) && request.query.all("platform").count() > 1 {
        return Err(ApiError::bad_request("multiple platform parameters not supported"));
    }
    wanted_platform(request, 48)
}

async fn archive(engine: &Engine, names: &[String], platform: Option<Platform>) -> Reply {
    let archive = engine.images.save(names, platform.as_ref()).await?;
    for name in names {
        if let Ok(image) = engine.images.resolve(name) {
            tell(engine, "save", &image.id.to_string(), name);
        }
    }
    let kind = http::HeaderValue::from_static("application/x-tar");
    let receiver = match archive {
        Archive::Socket(socket, done) => {
            return Ok(Response::socket(kind, Incoming { socket, done }));
        }
        Archive::Pieces(receiver) => receiver,
    };
    let bytes = ReceiverStream::new(receiver);
    let bytes = bytes.map(|item| item.map_err(|error| ApiError::internal(error.to_string())));
    Ok(Response::stream(kind, Box::pin(bytes)))
}
