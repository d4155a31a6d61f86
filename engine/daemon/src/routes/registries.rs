//! What is asked of registries alone: logins, searches, what a name means there.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine_api::filters::Filters;
use engine_api::{
    AuthConfig, AuthResponse, DistributionInspect, OciDescriptor, OciPlatform, SearchResult, decode,
};
use http::StatusCode;
use oci::image::ImageConfig;
use oci::{Platform, Reference};
use registry_client::{
    Asked, MAX_CONFIG, Parsed, RawManifest, Repository, SearchFilter, Told, Which,
};

use super::transfers::{auth_config, credentials, of_config};
use crate::engine::Engine;
use crate::http::{ApiError, Request, Response, Router};

type Reply = Result<Response, ApiError>;

/// Registers the routes.
pub fn register(router: &mut Router, engine: &Arc<Engine>) {
    routes!(router.on_while_there(engine) {
        "SystemAuth" login;
        "ImageSearch" search;
        "DistributionInspect" distribution;
    });
}

impl From<Told> for ApiError {
    fn from(told: Told) -> Self {
        images::ImageError::Registry(told).into()
    }
}

async fn login(engine: Arc<Engine>, request: Request) -> Reply {
    let version = request.version;
    let body = request.body.bytes().await?;
    if body.is_empty() {
        return Err(ApiError::internal("EOF"));
    }
    // Unlike other bodies, this one's errors are the engine's own for dockerd.
    let auth: AuthConfig = decode(&body).map_err(|e| {
        let text = e.to_string();
        ApiError::internal(text.strip_prefix("invalid JSON: ").unwrap_or(&text))
    })?;
    let client = engine.remote.load().client.clone();
    let done = client.login(&auth.serveraddress, &of_config(&auth)).await;
    let done = done.map_err(|e| e.told(Asked::Login))?;
    let answer = AuthResponse {
        identity_token: done.identity_token.unwrap_or_default(),
        status: "Login Succeeded".into(),
    };
    Ok(Response::json(&answer, version))
}

async fn search(engine: Arc<Engine>, request: Request) -> Reply {
    let query = &request.query;
    let limit = query
        .integer("limit")
        .map_err(|e| ApiError::bad_request(format!("invalid limit specified: {}", e.message)))?;
    // dockerd means to refuse it, and answers nothing.
    if limit.is_some_and(|limit| limit < 0) {
        return Ok(Response::status(StatusCode::OK));
    }
    let filters = Filters::parse(query.get("filters"))?;
    let filters: BTreeMap<String, Vec<String>> = filters
        .iter()
        .map(|(key, values)| (key.to_owned(), values.iter().cloned().collect()))
        .collect();
    let filter = SearchFilter::parse(&filters).map_err(|e| e.told(Asked::Search))?;
    let auth = auth_config(&request.headers).ok().flatten().unwrap_or_default();
    let client = engine.remote.load().client.clone();
    let term = query.get("term");
    let limit = limit.unwrap_or(0);
    let hits = client.search(term, limit, &filter, &of_config(&auth), &auth.username).await;
    let hits = hits.map_err(|e| e.told(Asked::Search))?;
    let results: Vec<SearchResult> = hits
        .into_iter()
        .map(|hit| SearchResult {
            star_count: hit.star_count,
            is_official: hit.is_official,
            name: hit.name,
            is_automated: false,
            description: hit.description,
        })
        .collect();
    Ok(Response::json(&results, request.version))
}

async fn distribution(engine: Arc<Engine>, request: Request) -> Reply {
    let reference = Reference::parse(request.name());
    let reference = reference.map_err(|e| ApiError::bad_request(e.to_string()))?.tagged();
    let who = credentials(&request.headers).unwrap_or_default();
    let client = engine.remote.load().client.clone();
    let repository = client.repository(&reference, who);
    let told = |e: registry_client::Error| e.told(Asked::Inspect(&reference));
    // A tag is looked up first, as dockerd does: its errors name that request.
    let mut which = Which::of(&reference);
    if let Which::Tag(_) = which {
        which = Which::Digest(repository.resolve(&which).await.map_err(told)?.digest);
    }
    let raw = repository.manifest(&which).await.map_err(told)?;
    let platforms = platforms(&repository, &raw).await?;
    let platforms = platforms.iter().map(OciPlatform::from);
    let answer = DistributionInspect {
        descriptor: OciDescriptor {
            media_type: raw.descriptor.media_type.clone(),
            digest: raw.descriptor.digest.to_string(),
            size: raw.descriptor.size as i64,
            ..OciDescriptor::default()
        },
        platforms: Some(platforms.collect()),
    };
    Ok(Response::json(&answer, request.version))
}

/// The platforms of an index, or the one that an image's configuration names.
async fn platforms(repository: &Repository, raw: &RawManifest) -> Result<Vec<Platform>, ApiError> {
    match raw.parse().map_err(ApiError::internal)? {
        Parsed::Index(index) => {
            Ok(index.manifests.into_iter().filter_map(|entry| entry.platform).collect())
        }
        Parsed::Manifest(manifest) => {
            let bytes = repository.blob_bytes(&manifest.config, MAX_CONFIG).await;
            let bytes = bytes.map_err(|e| e.told(Asked::Push))?;
            let config: Option<ImageConfig> = serde_json::from_slice(&bytes).ok();
            Ok(config.map(|config| config.platform()).into_iter().collect())
        }
        Parsed::Other(kind) => {
            Err(ApiError::bad_request(format!("unsupported manifest type {kind:?}")))
        }
    }
}
