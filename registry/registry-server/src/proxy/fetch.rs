//! One blob on its way here: written, hashed and told about as it comes. Whoever wants it reads
//! behind; the last byte is held back until the whole is what its digest says.

use std::fs::File;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use oci::{Descriptor, Digest};
use registry_client::Blob;
use tokio::sync::watch;

use super::{BATCH, Batch, Failure};
use crate::name::Repository;
use crate::store::{Claim, Session, Store};

/// How long a fetch goes on that nobody waits for any more: a client may come again.
const ALONE: Duration = Duration::from_secs(30);

/// How far a fetch is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    /// Set once bytes come.
    pub(crate) opened: Option<Opened>,
    /// Bytes that may be read.
    pub(crate) readable: u64,
    /// Set at the end: the size, or why there is none.
    pub(crate) ended: Option<Result<u64, Failure>>,
}

/// What is known from the beginning.
#[derive(Clone, Debug)]
pub(crate) struct Opened {
    /// Where the bytes are.
    pub(crate) file: Arc<File>,
    /// How many there will be, if the other registry says so.
    pub(crate) size: Option<u64>,
}

/// A running fetch.
#[derive(Debug)]
pub(crate) struct Fetch {
    progress: watch::Receiver<Progress>,
    readers: AtomicUsize,
}

/// Somebody who wants what is fetched.
pub(crate) struct Reader {
    fetch: Arc<Fetch>,
    /// How far it is.
    pub(crate) progress: watch::Receiver<Progress>,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.fetch.readers.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Fetch {
    /// Begins one; `over` is called when it is no longer to be joined.
    pub(super) fn begin(
        store: Arc<Store>,
        upstream: registry_client::Repository,
        name: Repository,
        digest: Digest,
        over: impl FnOnce() + Send + 'static,
    ) -> Arc<Self> {
        let (told, progress) = watch::channel(Progress::default());
        let fetch = Arc::new(Self { progress, readers: AtomicUsize::new(0) });
        let watched = Arc::downgrade(&fetch);
        tokio::spawn(async move {
            let job = Job { store, told, digest, session: Mutex::new(None) };
            let alone = async {
                // Whoever began it is not yet counted.
                loop {
                    tokio::time::sleep(ALONE).await;
                    let Some(fetch) = watched.upgrade() else { continue };
                    if fetch.readers.load(Ordering::Acquire) == 0 {
                        return;
                    }
                }
            };
            let ended = tokio::select! {
                ended = job.run(&upstream, &name) => ended,
                () = alone => Err(job.give_up().await),
            };
            over();
            job.told.send_modify(|progress| {
                if let Ok(size) = ended {
                    progress.readable = size;
                }
                progress.ended = Some(ended);
            });
        });
        fetch
    }

    /// Reads along.
    pub(crate) fn read(self: &Arc<Self>) -> Reader {
        self.readers.fetch_add(1, Ordering::AcqRel);
        Reader { fetch: Arc::clone(self), progress: self.progress.clone() }
    }
}

impl Reader {
    /// Waits until bytes come.
    pub(crate) async fn opened(&mut self) -> Result<Opened, Failure> {
        let ready = |progress: &Progress| progress.opened.is_some() || progress.ended.is_some();
        let progress = self.progress.wait_for(ready).await;
        match progress.as_deref() {
            Ok(Progress { opened: Some(opened), .. }) => Ok(opened.clone()),
            Ok(Progress { ended: Some(Err(failure)), .. }) => Err(failure.clone()),
            _ => Err(Failure::internal("a fetch ended without a word")),
        }
    }
}

struct Job {
    store: Arc<Store>,
    told: watch::Sender<Progress>,
    digest: Digest,
    session: Mutex<Option<Arc<Session>>>,
}

impl Job {
    fn session(&self) -> MutexGuard<'_, Option<Arc<Session>>> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops what came.
    async fn give_up(&self) -> Failure {
        let session = self.session().take();
        if let Some(session) = session
            && let Ok(claim) = session.claim().await
        {
            self.store.end_upload(claim);
        }
        Failure::abandoned(&self.digest)
    }

    async fn run(
        &self,
        upstream: &registry_client::Repository,
        name: &Repository,
    ) -> Result<u64, Failure> {
        let descriptor = Descriptor::new("application/octet-stream", self.digest, 0);
        let mut blob = upstream.blob(&descriptor, 0).await.map_err(|e| Failure::from(&e))?;
        let (store, name, digest) = (Arc::clone(&self.store), name.clone(), self.digest);
        let begun = blocking(move || store.begin_upload(&name, digest.algorithm())).await?;
        *self.session() = Some(Arc::clone(&begun));
        let mut claim = begun.claim().await?;
        let file = Arc::new(claim.reader()?);
        let size = blob.size();
        self.told.send_modify(|progress| progress.opened = Some(Opened { file, size }));
        let received = self.receive(&mut blob, claim).await;
        claim = match received {
            Ok(claim) => claim,
            Err((claim, failure)) => {
                if let Some(claim) = claim {
                    self.store.end_upload(claim);
                }
                return Err(failure);
            }
        };
        let store = Arc::clone(&self.store);
        blocking(move || store.finish_upload(claim, &digest)).await
    }

    async fn receive(
        &self,
        blob: &mut Blob,
        mut claim: Claim,
    ) -> Result<Claim, (Option<Claim>, Failure)> {
        loop {
            let batch = match next(blob).await {
                Ok(batch) if batch.is_empty() => return Ok(claim),
                Ok(batch) => batch,
                Err(failure) => return Err((Some(claim), failure)),
            };
            let written = tokio::task::spawn_blocking(move || {
                let written = claim.append(&batch);
                (claim, written)
            });
            let written = written.await.map_err(|e| (None, Failure::internal(&e.to_string())))?;
            claim = written.0;
            if let Err(error) = written.1 {
                return Err((Some(claim), error.into()));
            }
            let readable = claim.size().saturating_sub(1);
            self.told.send_modify(|progress| progress.readable = readable);
        }
    }
}

/// What has come of a blob: at least something, unless it ended.
async fn next(blob: &mut Blob) -> Result<Batch, Failure> {
    let (mut batch, mut size) = (Batch::new(), 0);
    while size < BATCH {
        let chunk = if batch.is_empty() {
            blob.chunk().await
        } else {
            match blob.chunk().now_or_never() {
                Some(chunk) => chunk,
                None => break,
            }
        };
        match chunk {
            None => break,
            Some(Ok(chunk)) => {
                size += chunk.len();
                batch.push(chunk);
            }
            Some(Err(error)) => return Err(Failure::from(&error)),
        }
    }
    Ok(batch)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, crate::store::StoreError> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(Failure::from),
        Err(error) => Err(Failure::internal(&error.to_string())),
    }
}
