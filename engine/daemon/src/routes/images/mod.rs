//! The images' endpoints: from a request to the image library, and its answer to a
//! reply. Which containers use an image is told from here.

use std::sync::Arc;

use bytes::Bytes;
use engine_api::filters::{IMAGES, IMAGES_PRUNE};
use engine_api::{ImagesPruneReport, JsonMessage, StringMap};
use futures_util::stream;
use images::{Archive, ImageUse, ListOptions, RemoveOptions, Removed};
use oci::Digest;

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
    let options = ListOptions { filters, shared_size };
    let list = engine.images.list(&options, &uses(&engine))?;
    Ok(Response::versioned(list, request.version))
}

async fn inspect(engine: Arc<Engine>, request: Request) -> Reply {
    let image = engine.images.resolve(request.name())?;
    Ok(Response::versioned(engine.images.inspect(&image), request.version))
}

async fn history(engine: Arc<Engine>, request: Request) -> Reply {
    let image = engine.images.resolve(request.name())?;
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
    let options = RemoveOptions { force: request.query.bool("force") };
    let removed = engine.images.remove(request.name(), options, &uses(&engine)).await?;
    tell_removed(&engine, &removed);
    Ok(Response::json(&removed.items, request.version))
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
    let version = request.version;
    let quiet = request.query.bool("quiet");
    let (_, body) = request.take_body();
    let loaded = engine.images.load(body.into_stream()).await?;
    let mut lines = Vec::new();
    for one in loaded {
        let id = one.image.id.to_string();
        let text = match &one.name {
            Some(name) => format!("Loaded image: {name}\n"),
            None => format!("Loaded image ID: {id}\n"),
        };
        tell(&engine, "load", &id, one.name.as_deref().unwrap_or(&id));
        lines.push(Ok(Bytes::from(JsonMessage::stream(text).line())));
    }
    // Progress is drawn from the stream's own bytes; `quiet` has nothing more to hide.
    let _ = (version, quiet);
    Ok(Response::json_stream(Box::pin(stream::iter(lines))))
}

async fn save_one(engine: Arc<Engine>, request: Request) -> Reply {
    let names = [request.name().to_owned()];
    archive(&engine, &names).await
}

async fn save(engine: Arc<Engine>, request: Request) -> Reply {
    let names: Vec<String> = request.query.all("names").map(str::to_owned).collect();
    if names.is_empty() {
        return Err(ApiError::internal("no images given to save"));
    }
    archive(&engine, &names).await
}

async fn archive(engine: &Engine, names: &[String]) -> Reply {
    let archive = engine.images.save(names).await?;
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
    let bytes = stream::unfold(receiver, |mut receiver| async move {
        let item = receiver.recv().await?;
        Some((item.map_err(|error| ApiError::internal(error.to_string())), receiver))
    });
    Ok(Response::stream(kind, Box::pin(bytes)))
}
