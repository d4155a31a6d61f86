//! `containerd.services.snapshots.v1.Snapshots`.

use std::pin::Pin;
use std::sync::Arc;

use containerd_api::filter::Filters;
use containerd_api::services::snapshots::v1 as api;
use containerd_api::time;
use futures_util::Stream;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use super::{Kind, Place, Snapshot, Snapshotter};
use crate::{Context, Error, State, labels};

/// Snapshots of one message of a list.
const PAGE: usize = 100;

/// The gRPC service of snapshots.
#[derive(Debug, Clone)]
pub struct Service(pub Arc<State>);

// Context and snapshotter of a call.
struct Call(Context, Snapshotter);

impl Call {
    fn new(metadata: &MetadataMap, snapshotter: &str) -> Result<Self, Error> {
        if snapshotter.is_empty() {
            return Err(Error::InvalidArgument("snapshotter argument missing".into()));
        }
        Ok(Self(Context::from_metadata(metadata)?, Snapshotter::named(snapshotter)?))
    }

    fn place(&self) -> Place<'_> {
        Place::new(&self.0, self.1)
    }
}

fn to_api(name: String, snapshot: Snapshot) -> api::Info {
    let kind = match snapshot.kind {
        Kind::View => api::Kind::View,
        Kind::Active => api::Kind::Active,
        Kind::Committed => api::Kind::Committed,
    };
    api::Info {
        name,
        parent: snapshot.parent,
        kind: kind.into(),
        created_at: Some(time::from_nanos(snapshot.created)),
        updated_at: Some(time::from_nanos(snapshot.updated)),
        labels: snapshot.labels.into_iter().collect(),
    }
}

fn matches(filters: &Filters, name: &str, snapshot: &Snapshot) -> bool {
    filters.matches(&|path: &[&str]| match path {
        ["name"] => Some(name.to_owned()),
        ["parent"] => Some(snapshot.parent.clone()),
        ["kind"] => Some(
            match snapshot.kind {
                Kind::View => "view",
                Kind::Active => "active",
                Kind::Committed => "committed",
            }
            .into(),
        ),
        ["labels", rest @ ..] => labels::field(&snapshot.labels, rest),
        _ => None,
    })
}

// Runs work that touches many files away from the async threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Status> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => Ok(result?),
        Err(error) => Err(Error::Other(format!("a worker failed: {error}")).into()),
    }
}

impl Service {
    async fn make(
        &self,
        call: Call,
        kind: Kind,
        key: String,
        parent: String,
        wanted: std::collections::HashMap<String, String>,
    ) -> Result<Vec<containerd_api::types::Mount>, Status> {
        let wanted = labels::checked(wanted)?;
        if call.1 == Snapshotter::Native {
            let state = Arc::clone(&self.0);
            return blocking(move || state.prepare(&call.place(), kind, &key, &parent, wanted))
                .await;
        }
        // Two mkdir and a journal record: cheaper here than a change of threads.
        Ok(self.0.prepare(&call.place(), kind, &key, &parent, wanted)?)
    }
}

#[tonic::async_trait]
impl api::snapshots_server::Snapshots for Service {
    async fn prepare(
        &self,
        request: Request<api::PrepareSnapshotRequest>,
    ) -> Result<Response<api::PrepareSnapshotResponse>, Status> {
        let call = Call::new(request.metadata(), &request.get_ref().snapshotter)?;
        let r = request.into_inner();
        let mounts = self.make(call, Kind::Active, r.key, r.parent, r.labels).await?;
        Ok(Response::new(api::PrepareSnapshotResponse { mounts }))
    }

    async fn view(
        &self,
        request: Request<api::ViewSnapshotRequest>,
    ) -> Result<Response<api::ViewSnapshotResponse>, Status> {
        let call = Call::new(request.metadata(), &request.get_ref().snapshotter)?;
        let r = request.into_inner();
        let mounts = self.make(call, Kind::View, r.key, r.parent, r.labels).await?;
        Ok(Response::new(api::ViewSnapshotResponse { mounts }))
    }

    async fn mounts(
        &self,
        request: Request<api::MountsRequest>,
    ) -> Result<Response<api::MountsResponse>, Status> {
        let call = Call::new(request.metadata(), &request.get_ref().snapshotter)?;
        let mounts = self.0.mounts(&call.place(), &request.into_inner().key)?;
        Ok(Response::new(api::MountsResponse { mounts }))
    }

    async fn commit(
        &self,
        request: Request<api::CommitSnapshotRequest>,
    ) -> Result<Response<()>, Status> {
        let call = Call::new(request.metadata(), &request.get_ref().snapshotter)?;
        let r = request.into_inner();
        let labels = labels::checked(r.labels)?;
        self.0.commit_snapshot(&call.place(), &r.name, &r.key, &r.parent, labels)?;
        Ok(Response::new(()))
    }

    async fn remove(
        &self,
        request: Request<api::RemoveSnapshotRequest>,
    ) -> Result<Response<()>, Status> {
        let call = Call::new(request.metadata(), &request.get_ref().snapshotter)?;
        self.0.remove_snapshot(&call.place(), &request.into_inner().key)?;
        Ok(Response::new(()))
    }

    async fn stat(
        &self,
        request: Request<api::StatSnapshotRequest>,
    ) -> Result<Response<api::StatSnapshotResponse>, Status> {
        let call = Call::new(request.metadata(), &request.get_ref().snapshotter)?;
        let key = request.into_inner().key;
        let snapshot = self.0.snapshot(&call.place(), &key)?;
        Ok(Response::new(api::StatSnapshotResponse { info: Some(to_api(key, snapshot)) }))
    }

    async fn update(
        &self,
        request: Request<api::UpdateSnapshotRequest>,
    ) -> Result<Response<api::UpdateSnapshotResponse>, Status> {
        let call = Call::new(request.metadata(), &request.get_ref().snapshotter)?;
        let r = request.into_inner();
        let info = r.info.unwrap_or_default();
        let wanted = labels::checked(info.labels)?;
        let paths = labels::paths(r.update_mask);
        let snapshot = self.0.update_snapshot(&call.place(), &info.name, &wanted, &paths)?;
        Ok(Response::new(api::UpdateSnapshotResponse { info: Some(to_api(info.name, snapshot)) }))
    }

    type ListStream =
        Pin<Box<dyn Stream<Item = Result<api::ListSnapshotsResponse, Status>> + Send>>;

    async fn list(
        &self,
        request: Request<api::ListSnapshotsRequest>,
    ) -> Result<Response<Self::ListStream>, Status> {
        let call = Call::new(request.metadata(), &request.get_ref().snapshotter)?;
        let filters = Filters::parse(&request.into_inner().filters).map_err(Error::from)?;
        let mut all = self.0.snapshots(&call.place())?;
        all.retain(|(name, snapshot)| matches(&filters, name, snapshot));
        let all: Vec<_> = all.into_iter().map(|(name, s)| to_api(name, s)).collect();
        let pages: Vec<_> = all
            .chunks(PAGE)
            .map(|page| Ok(api::ListSnapshotsResponse { info: page.to_vec() }))
            .collect();
        Ok(Response::new(Box::pin(futures_util::stream::iter(pages))))
    }

    async fn usage(
        &self,
        request: Request<api::UsageRequest>,
    ) -> Result<Response<api::UsageResponse>, Status> {
        let call = Call::new(request.metadata(), &request.get_ref().snapshotter)?;
        let key = request.into_inner().key;
        let state = Arc::clone(&self.0);
        let usage = blocking(move || state.snapshot_usage(&call.place(), &key)).await?;
        let (size, inodes) = (usage.size as i64, usage.inodes as i64);
        Ok(Response::new(api::UsageResponse { size, inodes }))
    }

    async fn cleanup(&self, request: Request<api::CleanupRequest>) -> Result<Response<()>, Status> {
        let _call = Call::new(request.metadata(), &request.get_ref().snapshotter)?;
        let state = Arc::clone(&self.0);
        blocking(move || {
            state.folders.empty_removing();
            Ok(())
        })
        .await?;
        Ok(Response::new(()))
    }
}
