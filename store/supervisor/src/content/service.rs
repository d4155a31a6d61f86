//! `containerd.services.content.v1.Content`.

use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use containerd_api::filter::Filters;
use containerd_api::services::content::v1 as api;
use containerd_api::time;
use futures_util::{Stream, StreamExt as _};
use oci::Digest;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{Info, IngestStatus, Writer};
use crate::{Context, Error, State, labels};

/// Bytes of one message of a read.
const CHUNK: usize = 1 << 20;
/// Blobs of one message of a list.
const PAGE: usize = 100;

type Out<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The gRPC service of content.
#[derive(Debug, Clone)]
pub struct Service(pub Arc<State>);

fn digest(text: &str) -> Result<Digest, Error> {
    text.parse().map_err(|e| Error::InvalidArgument(format!("{text:?}: {e}")))
}

fn optional_digest(text: &str) -> Result<Option<Digest>, Error> {
    if text.is_empty() { Ok(None) } else { digest(text).map(Some) }
}

fn info_to_api(digest: &Digest, info: Info) -> api::Info {
    api::Info {
        digest: digest.to_string(),
        size: info.size as i64,
        created_at: Some(time::from_nanos(info.created)),
        updated_at: Some(time::from_nanos(info.updated)),
        labels: info.labels.into_iter().collect(),
    }
}

fn status_to_api(status: IngestStatus) -> api::Status {
    api::Status {
        started_at: Some(time::from_nanos(status.started)),
        updated_at: Some(time::from_nanos(status.updated)),
        r#ref: status.reference,
        offset: status.offset as i64,
        total: status.total as i64,
        expected: status.expected.map(|d| d.to_string()).unwrap_or_default(),
    }
}

#[tonic::async_trait]
impl api::content_server::Content for Service {
    async fn info(
        &self,
        request: Request<api::InfoRequest>,
    ) -> Result<Response<api::InfoResponse>, Status> {
        let context = Context::from_metadata(request.metadata())?;
        let digest = digest(&request.into_inner().digest)?;
        let info = self.0.content_info(&context, &digest)?;
        Ok(Response::new(api::InfoResponse { info: Some(info_to_api(&digest, info)) }))
    }

    async fn update(
        &self,
        request: Request<api::UpdateRequest>,
    ) -> Result<Response<api::UpdateResponse>, Status> {
        let context = Context::from_metadata(request.metadata())?;
        let request = request.into_inner();
        let wanted = request.info.unwrap_or_default();
        let digest = digest(&wanted.digest)?;
        let labels = labels::checked(wanted.labels)?;
        let paths = labels::paths(request.update_mask);
        let info = self.0.content_update(&context, &digest, &labels, &paths)?;
        Ok(Response::new(api::UpdateResponse { info: Some(info_to_api(&digest, info)) }))
    }

    type ListStream = Out<api::ListContentResponse>;

    async fn list(
        &self,
        request: Request<api::ListContentRequest>,
    ) -> Result<Response<Self::ListStream>, Status> {
        let context = Context::from_metadata(request.metadata())?;
        let filters = Filters::parse(&request.into_inner().filters).map_err(Error::from)?;
        let mut all = Vec::new();
        for (digest, info) in self.0.contents(&context)? {
            let matches = filters.matches(&|path: &[&str]| match path {
                ["digest"] => Some(digest.to_string()),
                ["size"] => Some(info.size.to_string()),
                ["labels", rest @ ..] => labels::field(&info.labels, rest),
                _ => None,
            });
            if matches {
                all.push(info_to_api(&digest, info));
            }
        }
        let pages: Vec<_> = all
            .chunks(PAGE)
            .map(|page| Ok(api::ListContentResponse { info: page.to_vec() }))
            .collect();
        Ok(Response::new(Box::pin(futures_util::stream::iter(pages))))
    }

    async fn delete(
        &self,
        request: Request<api::DeleteContentRequest>,
    ) -> Result<Response<()>, Status> {
        let context = Context::from_metadata(request.metadata())?;
        self.0.content_delete(&context, &digest(&request.into_inner().digest)?)?;
        Ok(Response::new(()))
    }

    type ReadStream = Out<api::ReadContentResponse>;

    async fn read(
        &self,
        request: Request<api::ReadContentRequest>,
    ) -> Result<Response<Self::ReadStream>, Status> {
        let context = Context::from_metadata(request.metadata())?;
        let request = request.into_inner();
        let digest = digest(&request.digest)?;
        let (file, info) = self.0.content_open(&context, &digest)?;
        let total = info.size;
        let offset = u64::try_from(request.offset).unwrap_or_default();
        let size = u64::try_from(request.size).unwrap_or_default();
        if offset > total {
            let what = format!("read past object length {total} bytes");
            return Err(Error::OutOfRange(what).into());
        }
        let end = if size == 0 { total } else { offset + size };
        if end > total {
            let what = format!("read past object length {total} bytes");
            return Err(Error::OutOfRange(what).into());
        }
        let file = Arc::new(file);
        let parts = futures_util::stream::unfold(offset, move |at| {
            let file = Arc::clone(&file);
            async move {
                if at >= end {
                    return None;
                }
                let count = CHUNK.min((end - at) as usize);
                let mut data = vec![0; count];
                let read = file.read_exact_at(&mut data, at);
                let part = read
                    .map(|()| api::ReadContentResponse {
                        offset: at as i64,
                        data: Bytes::from(data),
                    })
                    .map_err(|e| Error::io(format!("reading blob {digest}"))(e).into());
                let next = if part.is_ok() { at + count as u64 } else { end };
                Some((part, next))
            }
        });
        Ok(Response::new(Box::pin(parts)))
    }

    async fn status(
        &self,
        request: Request<api::StatusRequest>,
    ) -> Result<Response<api::StatusResponse>, Status> {
        let context = Context::from_metadata(request.metadata())?;
        let status = self.0.ingest(&context, &request.into_inner().r#ref)?;
        Ok(Response::new(api::StatusResponse { status: Some(status_to_api(status)) }))
    }

    async fn list_statuses(
        &self,
        request: Request<api::ListStatusesRequest>,
    ) -> Result<Response<api::ListStatusesResponse>, Status> {
        let context = Context::from_metadata(request.metadata())?;
        let filters = Filters::parse(&request.into_inner().filters).map_err(Error::from)?;
        let mut statuses = self.0.ingests(&context)?;
        statuses.retain(|status| {
            filters.matches(&|path: &[&str]| match path {
                ["ref"] => Some(status.reference.clone()),
                _ => None,
            })
        });
        let statuses = statuses.into_iter().map(status_to_api).collect();
        Ok(Response::new(api::ListStatusesResponse { statuses }))
    }

    type WriteStream = Out<api::WriteContentResponse>;

    async fn write(
        &self,
        request: Request<Streaming<api::WriteContentRequest>>,
    ) -> Result<Response<Self::WriteStream>, Status> {
        let context = Context::from_metadata(request.metadata())?;
        let (answers, stream) = mpsc::channel(4);
        let session =
            Session { state: Arc::clone(&self.0), context, messages: request.into_inner() };
        let state = Arc::clone(&self.0);
        tokio::spawn(async move {
            let _end = state.activity.until_end();
            if let Err(status) = session.run(&answers).await {
                let _ = answers.send(Err(status)).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(stream).boxed()))
    }

    async fn abort(&self, request: Request<api::AbortRequest>) -> Result<Response<()>, Status> {
        let context = Context::from_metadata(request.metadata())?;
        self.0.ingest_abort(&context, &request.into_inner().r#ref)?;
        Ok(Response::new(()))
    }
}

// One Write call: messages about one reference, answered one by one.
struct Session {
    state: Arc<State>,
    context: Context,
    messages: Streaming<api::WriteContentRequest>,
}

impl Session {
    async fn run(
        mut self,
        answers: &mpsc::Sender<Result<api::WriteContentResponse, Status>>,
    ) -> Result<(), Status> {
        let Some(first) = self.messages.message().await? else { return Ok(()) };
        if first.r#ref.is_empty() {
            let what = "first message must have a reference".into();
            return Err(Error::InvalidArgument(what).into());
        }
        let mut expected = optional_digest(&first.expected)?;
        let mut total = u64::try_from(first.total).unwrap_or_default();
        let reference = first.r#ref.clone();
        let mut writer = Some(self.open(&reference, total, expected).await?);
        let mut message = first;
        loop {
            if !message.r#ref.is_empty() && message.r#ref != reference {
                let what = "cannot change reference for active session".into();
                return Err(Error::InvalidArgument(what).into());
            }
            if message.total > 0 {
                total = message.total as u64;
            }
            if let Some(new) = optional_digest(&message.expected)? {
                if expected.is_some_and(|old| old != new) {
                    let what = format!("expected content {new} does not match session");
                    return Err(Error::InvalidArgument(what).into());
                }
                expected = Some(new);
            }
            let Some(active) = writer.take() else {
                let what = format!("ref {reference:?} is committed already");
                return Err(Error::FailedPrecondition(what).into());
            };
            let (answer, left) = self.step(active, message, total, expected).await?;
            writer = left;
            if answers.send(Ok(answer)).await.is_err() {
                return Ok(());
            }
            message = match self.messages.message().await? {
                Some(next) => next,
                None => return Ok(()),
            };
        }
    }

    // Resuming reads the file again, so it leaves the async threads.
    async fn open(
        &self,
        reference: &str,
        total: u64,
        expected: Option<Digest>,
    ) -> Result<Writer, Status> {
        let (state, context) = (Arc::clone(&self.state), self.context.clone());
        let reference = reference.to_owned();
        blocking(move || Writer::open(&state, &context, &reference, total, expected)).await
    }

    async fn step(
        &self,
        mut writer: Writer,
        message: api::WriteContentRequest,
        total: u64,
        expected: Option<Digest>,
    ) -> Result<(api::WriteContentResponse, Option<Writer>), Status> {
        let action = message.action();
        let mut status = writer.status();
        if action != api::WriteAction::Stat {
            let offset = u64::try_from(message.offset).unwrap_or_default();
            if offset > 0 && offset != status.offset {
                let what =
                    format!("write @{offset} must occur at current offset {}", status.offset);
                return Err(Error::OutOfRange(what).into());
            }
            if offset == 0 && status.offset > 0 && !message.data.is_empty() {
                writer.truncate()?;
            }
            if !message.data.is_empty() {
                writer.write(&message.data)?;
            }
            status = writer.status();
        }
        let mut answer = api::WriteContentResponse {
            action: action.into(),
            started_at: Some(time::from_nanos(status.started)),
            updated_at: Some(time::from_nanos(status.updated)),
            offset: status.offset as i64,
            total: if total > 0 { total } else { status.total } as i64,
            digest: String::new(),
        };
        if action != api::WriteAction::Commit {
            if action == api::WriteAction::Stat {
                answer.digest = writer.digest().to_string();
            }
            return Ok((answer, Some(writer)));
        }
        let labels = labels::checked(message.labels)?;
        let digest = blocking(move || writer.commit(total, expected, labels)).await?;
        answer.digest = digest.to_string();
        Ok((answer, None))
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Status> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => Ok(result?),
        Err(error) => Err(Error::Other(format!("a worker failed: {error}")).into()),
    }
}
