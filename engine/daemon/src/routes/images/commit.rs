//! `POST /commit`.

use std::sync::Arc;

use engine_api::{ApiVersion, ContainerConfig, IdResponse, decode, encode};
use http::StatusCode;
use images::CommitRequest;
use oci::image::RunConfig;

use super::create::new_name;
use super::{Reply, tell};
use crate::engine::Engine;
use crate::http::{ApiError, Request, Response, Router};
use crate::lifecycle::Container;
use crate::lifecycle::machine::Message;
use crate::records::Phase;

/// Registers the route.
pub(super) fn register(router: &mut Router, engine: &Arc<Engine>) {
    let own = Arc::clone(engine);
    router.on("ImageCommit", move |request| commit(Arc::clone(&own), request));
}

/// A container's configuration as an image keeps it.
fn of_image(config: &ContainerConfig) -> Result<RunConfig, ApiError> {
    let json = encode(config, ApiVersion::MAX);
    serde_json::from_str(&json).map_err(|e| ApiError::internal(e.to_string()))
}

async fn commit(engine: Arc<Engine>, request: Request) -> Reply {
    let version = request.version;
    let pauses = request.query.bool_or("pause", true);
    let (info, body) = request.take_body();
    let body = body.bytes().await?;
    let given: Option<ContainerConfig> = match body.as_ref() {
        b"" | b"null" => None,
        body => Some(decode(body)?),
    };
    let query = &info.query;
    let name = new_name(query.get("repo"), query.get("tag"))?;
    let wanted = query.get("container");
    if wanted.is_empty() {
        return Err(ApiError::bad_request("invalid name or ID supplied: \"\""));
    }
    let container = engine.find(wanted)?;
    let changes: Vec<String> = query.all("changes").map(str::to_owned).collect();
    let spec = container.spec().map_err(ApiError::internal)?;
    let mut config = of_image(given.as_ref().unwrap_or(&spec.config))?;
    images::apply_changes(&mut config, &changes)?;
    let commit = CommitRequest {
        key: container.id.clone(),
        image: spec.image.parse().map_err(|_| ApiError::internal("no image"))?,
        reference: name.clone(),
        author: query.get("author").to_owned(),
        comment: query.get("comment").to_owned(),
        command: spec.config.cmd.iter().flatten().cloned().collect::<Vec<_>>().join(" "),
        config,
    };
    let comment = commit.comment.clone();
    let id = whole(&container, pauses, engine.images.commit_container(commit)).await??.to_string();
    tell(&engine, "create", &id, &id);
    let name = name.map(|name| name.familiar()).unwrap_or_default();
    if !name.is_empty() {
        tell(&engine, "tag", &id, &name);
    }
    let more = [("comment", comment), ("imageID", id.clone()), ("imageRef", name)];
    container.tell("commit", &more);
    Ok(Response::json_with(StatusCode::CREATED, &IdResponse { id }, version))
}

/// Does something while a container that runs stands still.
async fn whole<T>(
    container: &Arc<Container>,
    pauses: bool,
    work: impl Future<Output = T>,
) -> Result<T, ApiError> {
    let runs = container.row().state.phase == Phase::Running;
    // One that ends meanwhile needs no pause.
    let paused = pauses && runs && container.ask(Message::Pause).await.is_ok();
    let done = work.await;
    if paused && container.ask(Message::Unpause).await.is_err() {
        tracing::warn!("container {} could not be resumed after its commit", container.id);
    }
    Ok(done)
}
