//! `inspect` of one type, and of whatever has the name.

use crate::error::{CliError, Result};
use crate::session::Session;
use crate::show::inspect::{Found, print};
use engine_api::{ContainerInspect, ImageInspect, NetworkInspect, Value, Wire};
use engine_client::{Payload, Query};
use futures_util::{StreamExt, stream};

/// So many are asked for at once: what one waits for, another computes.
const AT_ONCE: usize = 4;

async fn one<T: Wire + Default + 'static>(
    s: &Session,
    path: &str,
    query: &Query,
) -> std::result::Result<Found, engine_client::ClientError> {
    let client = s.client().await.map_err(|e| engine_client::ClientError::Decode(e.to_string()))?;
    Ok(Found::of::<T>(client.bytes("GET", path, query, Payload::Empty).await?))
}

async fn container(
    s: &Session,
    name: &str,
) -> std::result::Result<Found, engine_client::ClientError> {
    let query = Query::new().flag("size", s.matches.on("size"));
    one::<ContainerInspect>(s, &format!("/containers/{name}/json"), &query).await
}

async fn image(s: &Session, name: &str) -> std::result::Result<Found, engine_client::ClientError> {
    one_image(s, name, &Query::new()).await
}

async fn one_image(
    s: &Session,
    name: &str,
    query: &Query,
) -> std::result::Result<Found, engine_client::ClientError> {
    one::<ImageInspect>(s, &format!("/images/{name}/json"), query).await
}

async fn network(
    s: &Session,
    name: &str,
) -> std::result::Result<Found, engine_client::ClientError> {
    let query = Query::new().flag("verbose", s.matches.on("verbose"));
    one::<NetworkInspect>(s, &format!("/networks/{name}"), &query).await
}

/// Looks each name up and prints the answers in the order of the names.
async fn all<F, E>(s: &Session, look: F) -> Result<()>
where
    F: AsyncFn(&Session, &str) -> std::result::Result<Found, E>,
    CliError: From<E>,
{
    s.client().await?;
    let mut names = s.matches.args.iter();
    let mut results = Vec::new();
    // The first one settles the API's version.
    if let Some(name) = names.next() {
        results.push(look(s, name).await);
    }
    let mut rest = stream::iter(names).map(|name| look(s, name)).buffered(AT_ONCE);
    while let Some(result) = rest.next().await {
        results.push(result);
    }
    let results = results.into_iter().map(|result| result.map_err(CliError::from)).collect();
    print(s.matches.text("format"), results)
}

pub(super) async fn containers(s: &Session) -> Result<()> {
    all(s, container).await
}

pub(super) async fn images(s: &Session) -> Result<()> {
    let query = match s.matches.text("platform") {
        "" => Query::new(),
        text => {
            let platform = super::images::platform_json(text).map_err(CliError::new)?;
            Query::new().with("platform", &platform)
        }
    };
    all(s, async |s, name| one_image(s, name, &query).await).await
}

pub(super) async fn networks(s: &Session) -> Result<()> {
    all(s, network).await
}

/// Looks for a container, then an image, a network, a volume.
pub(super) async fn anything(s: &Session) -> Result<()> {
    const TYPES: [&str; 10] = [
        "config",
        "container",
        "image",
        "network",
        "node",
        "plugin",
        "secret",
        "service",
        "task",
        "volume",
    ];
    let kind = s.matches.text("type");
    if s.matches.given("type") && !TYPES.contains(&kind) {
        let known: Vec<String> = TYPES.iter().map(|t| format!("\"{t}\"")).collect();
        return Err(CliError::new(format!(
            "unknown type: \"{kind}\": must be one of {}",
            known.join(", ")
        )));
    }
    all(s, async |s: &Session, name: &str| find(s, name, kind).await).await
}

async fn find(s: &Session, name: &str, kind: &str) -> Result<Found> {
    let wants = |k: &str| kind.is_empty() || kind == k;
    let tries = [wants("container"), wants("image"), wants("network"), wants("volume")];
    for (index, _) in tries.iter().enumerate().filter(|(_, wanted)| **wanted) {
        let found = match index {
            0 => container(s, name).await,
            1 => image(s, name).await,
            2 => network(s, name).await,
            _ => one::<Value>(s, &format!("/volumes/{name}"), &Query::new()).await,
        };
        match found {
            Ok(found) => {
                if index > 0 && s.matches.on("size") {
                    let kind = ["container", "image", "network", "volume"][index];
                    s.tell(&format!("WARNING: --size ignored for {kind}"));
                }
                return Ok(found);
            }
            Err(error) if error.is_not_found() && kind.is_empty() => {}
            Err(error) => return Err(error.into()),
        }
    }
    if kind.is_empty() || tries.iter().any(|t| *t) {
        return Err(CliError::new(format!("Error: No such object: {name}")));
    }
    Err(CliError::new(format!("\"{kind}\" is not supported by this version of ferry")))
}
