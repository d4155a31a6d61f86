//! What an operation holds in the store while it is under way: a lease, and ingests that are named
//! after it. Both go with the operation's end; what outlives a killed daemon, ours or the store's,
//! is swept up as soon as both are there again.

use std::collections::HashSet;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use containerd_api::services::content::v1::{AbortRequest, ListStatusesRequest};
use containerd_api::services::leases::v1 as leases;
use containerd_rpc::{Client, RpcError};

use crate::ImageError;
use crate::snapshot::unique;

/// How the names of our leases begin.
const LEASES: &str = "ferryd-work-";
/// Between an operation's lease and the rest of an ingest's name.
const MARK: char = ':';

/// The leases of operations of this process. Held for a moment only, by whoever begins, ends or
/// sweeps.
static UNDER_WAY: LazyLock<Mutex<HashSet<String>>> = LazyLock::new(Mutex::default);

fn under_way() -> MutexGuard<'static, HashSet<String>> {
    UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A lease around one operation: content that has no name yet is not collected. An operation
/// that is dropped half-way lets go of what it held, too.
pub(crate) struct Lease {
    id: String,
    client: Client,
    is_over: bool,
}

impl Lease {
    pub(crate) async fn new(client: &Client) -> Result<Self, ImageError> {
        let id = format!("{LEASES}{}", unique());
        under_way().insert(id.clone());
        // From here on whatever happens ends it.
        let lease = Self { id, client: client.clone(), is_over: false };
        // Should this process die and never start again, the store drops it after a day.
        let expires = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24);
        let labels = [("containerd.io/gc.expire".to_owned(), expires.to_string())].into();
        let request = leases::CreateRequest { id: lease.id.clone(), labels };
        client.leases().create(request).await.map_err(RpcError::from)?;
        Ok(lease)
    }

    /// The client whose calls are this operation's.
    pub(crate) fn client(&self) -> Result<Client, RpcError> {
        self.client.with_lease(&self.id)
    }

    pub(crate) async fn end(mut self) {
        self.is_over = true;
        under_way().remove(&self.id);
        delete(&self.client, &self.id).await;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        under_way().remove(&self.id);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let client = self.client.clone();
            runtime.spawn(async move {
                if let Err(e) = sweep(&client).await {
                    tracing::debug!("sweeping up after an operation that was given up: {e}");
                }
            });
        }
    }
}

/// What a lease calls blobs.
pub(crate) const BLOB: &str = "content";

/// Has the client's lease, if it has one, hold a thing, also one that is yet to come.
pub(crate) async fn hold(client: &Client, kind: &str, id: &impl ToString) -> Result<(), RpcError> {
    let Some(lease) = client.lease() else { return Ok(()) };
    let resource = leases::Resource { id: id.to_string(), r#type: kind.to_owned() };
    let request = leases::AddResourceRequest { id: lease.into(), resource: Some(resource) };
    client.leases().add_resource(request).await?;
    Ok(())
}

/// A new name for an ingest of the operation whose client this is.
pub(crate) fn ingest(client: &Client) -> String {
    format!("{}{MARK}{}", client.lease().unwrap_or(LEASES), unique())
}

/// Drops an ingest of an operation that failed.
pub(crate) async fn abort(client: &Client, ingest: &str) {
    let request = AbortRequest { r#ref: ingest.to_owned() };
    if let Err(e) = client.content().abort(request).await.map_err(RpcError::from)
        && !e.is_not_found()
    {
        tracing::debug!("dropping ingest {ingest}: {e}");
    }
}

/// Ends what operations left that were cut short: when they were given up, when this daemon's
/// forerunner died, or the store under this one.
///
/// # Errors
/// The store can't be asked.
pub async fn sweep(client: &Client) -> Result<(), RpcError> {
    let is_left = |name: &str| {
        let lease = name.split(MARK).next().unwrap_or_default();
        name.starts_with(LEASES) && !under_way().contains(lease)
    };
    let list = client.leases().list(leases::ListRequest::default()).await?.into_inner();
    for lease in list.leases.iter().filter(|lease| is_left(&lease.id)) {
        delete(client, &lease.id).await;
    }
    let all = client.content().list_statuses(ListStatusesRequest::default()).await?.into_inner();
    for ingest in all.statuses.iter().filter(|status| is_left(&status.r#ref)) {
        abort(client, &ingest.r#ref).await;
    }
    Ok(())
}

async fn delete(client: &Client, id: &str) {
    let request = leases::DeleteRequest { id: id.into(), sync: false };
    if let Err(status) = client.leases().delete(request).await {
        tracing::debug!("ending lease {id}: {}", status.message());
    }
}
