//! Ingests: resumable writing of a blob, hashed as it comes.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use containerd_api::events::ContentCreate;
use metastore::{Batch, Class, Table, fault};
use oci::{Algorithm, Digest, Hasher};
use serde::{Deserialize, Serialize};
use sys::file::Writeback;

use super::{BLOBS, Info};
use crate::labels::{self, Labels};
use crate::state::make_folder;
use crate::{Context, Error, State};

pub(crate) const INGESTS: Table = Table::new("ingests");
/// How long an ingest that nobody touches is kept.
const EXPIRY: Duration = Duration::from_secs(24 * 3600);

/// An ingest's record; how far it came is the length of its file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Ingest {
    /// Name of its folder.
    pub id: String,
    /// Digest that is expected.
    #[serde(default)]
    pub expected: Option<Digest>,
    /// Bytes that are expected; 0 is unknown.
    #[serde(default)]
    pub total: u64,
    /// Nanoseconds since the epoch.
    pub started: i64,
    /// Nanoseconds since the epoch; afterwards it is collected.
    pub expires: i64,
    /// Fields of newer versions, kept.
    #[serde(flatten)]
    pub other: serde_json::Map<String, serde_json::Value>,
}

/// References that have a writer now.
#[derive(Debug, Default)]
pub(crate) struct OpenRefs(Mutex<HashMap<Vec<u8>, Instant>>);

impl OpenRefs {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Vec<u8>, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether somebody writes to the reference of this key.
    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        self.lock().contains_key(key)
    }
}

/// Blobs whose files are, or soon will be, there without a record: not to be collected.
#[derive(Debug, Default)]
pub(crate) struct PendingBlobs(Mutex<HashMap<Digest, u32>>);

impl PendingBlobs {
    /// Whether somebody is about to record this blob.
    pub(crate) fn contains(&self, digest: &Digest) -> bool {
        self.lock().contains_key(digest)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Digest, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Pending<'a>(&'a State, Digest);

impl<'a> Pending<'a> {
    fn new(state: &'a State, digest: Digest) -> Self {
        *state.pending_blobs.lock().entry(digest).or_default() += 1;
        Self(state, digest)
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        let mut pending = self.0.pending_blobs.lock();
        if let Some(count) = pending.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                pending.remove(&self.1);
            }
        }
    }
}

// Held by the one writer of a reference.
#[derive(Debug)]
struct Claim {
    state: Arc<State>,
    key: Vec<u8>,
}

impl Claim {
    fn take(state: &Arc<State>, key: Vec<u8>, reference: &str) -> Result<Self, Error> {
        let mut open = state.open_refs.lock();
        if let Some(since) = open.get(&key) {
            let age = since.elapsed();
            return Err(Error::Unavailable(format!("ref {reference} locked for {age:?}")));
        }
        open.insert(key.clone(), Instant::now());
        drop(open);
        Ok(Self { state: Arc::clone(state), key })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.state.open_refs.lock().remove(&self.key);
    }
}

/// Where an ingest stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngestStatus {
    /// Its reference.
    pub reference: String,
    /// Bytes written.
    pub offset: u64,
    /// Bytes expected; 0 is unknown.
    pub total: u64,
    /// Digest that is expected.
    pub expected: Option<Digest>,
    /// Nanoseconds since the epoch.
    pub started: i64,
    /// Nanoseconds since the epoch.
    pub updated: i64,
}

/// Writes one blob. Dropping it keeps what was written, to resume later.
#[derive(Debug)]
pub struct Writer {
    state: Arc<State>,
    context: Context,
    reference: String,
    folder: PathBuf,
    ingest: Ingest,
    file: File,
    hasher: Hasher,
    offset: u64,
    writeback: Writeback,
    updated: i64,
    // The bytes are here already, of another namespace.
    shared: bool,
    _claim: Claim,
}

impl Writer {
    /// Opens the ingest `reference`, resuming where it stood (its bytes are hashed again).
    ///
    /// # Errors
    /// [`Error::Unavailable`] while another writer has it; [`Error::AlreadyExists`] when the
    /// namespace has the expected blob already.
    pub fn open(
        state: &Arc<State>,
        context: &Context,
        reference: &str,
        total: u64,
        expected: Option<Digest>,
    ) -> Result<Self, Error> {
        if reference.is_empty() {
            return Err(Error::InvalidArgument("ref must not be empty".into()));
        }
        if let Some(digest) = &expected
            && state.content_info(context, digest).is_ok()
        {
            return Err(Error::AlreadyExists(format!("content {digest}")));
        }
        let key = context.key(reference);
        let claim = Claim::take(state, key.clone(), reference)?;
        let (ingest, fresh) = record(state, context, reference, total, expected)?;
        let folder = state.root.join("content/ingest").join(&ingest.id);
        let shared = expected
            .filter(|_| fresh)
            .and_then(|digest| std::fs::metadata(state.blob_path(&digest)).ok())
            .map(|meta| meta.len())
            .filter(|&size| total == 0 || total == size);
        let (file, hasher, length) = open_data(&folder, expected)?;
        let updated = labels::now();
        Ok(Self {
            state: Arc::clone(state),
            context: context.clone(),
            reference: reference.into(),
            folder,
            ingest,
            file,
            hasher,
            offset: shared.unwrap_or(length),
            writeback: Writeback::from(length),
            updated,
            shared: shared.is_some(),
            _claim: claim,
        })
    }

    /// The data file, opened anew for reading from its beginning; it stays readable after commit.
    pub fn data(&self) -> std::io::Result<File> {
        match self.ingest.expected {
            Some(expected) if self.shared => File::open(self.state.blob_path(&expected)),
            _ => File::open(self.folder.join("data")),
        }
    }

    /// Where it stands.
    pub fn status(&self) -> IngestStatus {
        IngestStatus {
            reference: self.reference.clone(),
            offset: self.offset,
            total: self.ingest.total,
            expected: self.ingest.expected,
            started: self.ingest.started,
            updated: self.updated,
        }
    }

    /// The digest of all bytes written so far.
    pub fn digest(&self) -> Digest {
        match self.ingest.expected {
            Some(expected) if self.shared => expected,
            _ => self.hasher.clone().finish(),
        }
    }

    /// Starts over, if need be, with a digest by `algorithm`, for a blob whose digest is not known
    /// but whose algorithm is.
    pub fn hash_by(&mut self, algorithm: Algorithm) -> Result<(), Error> {
        if self.hasher.algorithm() == algorithm {
            return Ok(());
        }
        self.truncate()?;
        self.hasher = Hasher::new(algorithm);
        Ok(())
    }

    // The algorithm may show only at the commit: then the bytes are read once more.
    fn digest_by(&self, algorithm: Algorithm) -> Result<Digest, Error> {
        let digest = self.digest();
        if digest.algorithm() == algorithm {
            return Ok(digest);
        }
        let what = || format!("hashing ingest {:?}", self.reference);
        let mut file = self.data().map_err(Error::io(what()))?;
        let mut hasher = Hasher::new(algorithm);
        hash_file(&mut file, &mut hasher).map_err(Error::io(what()))?;
        Ok(hasher.finish())
    }

    /// Writes what came so far through to the disk: a commit then has little left to wait for.
    pub fn sync(&self) -> Result<(), Error> {
        self.file.sync_data().map_err(Error::io(format!("syncing ingest {:?}", self.reference)))
    }

    /// Appends `data`.
    pub fn write(&mut self, data: &[u8]) -> Result<(), Error> {
        if self.shared {
            self.truncate()?;
        }
        self.file
            .write_all(data)
            .map_err(Error::io(format!("writing ingest {:?}", self.reference)))?;
        self.hasher.update(data);
        self.offset += data.len() as u64;
        self.writeback.at(self.file.as_fd(), self.offset);
        self.updated = labels::now();
        Ok(())
    }

    /// Begins again at 0.
    pub fn truncate(&mut self) -> Result<(), Error> {
        let what = || format!("truncating ingest {:?}", self.reference);
        self.file.set_len(0).map_err(Error::io(what()))?;
        self.file.seek(SeekFrom::Start(0)).map_err(Error::io(what()))?;
        self.hasher = Hasher::new(self.hasher.algorithm());
        (self.offset, self.writeback) = (0, Writeback::default());
        self.shared = false;
        Ok(())
    }

    /// Makes the blob: durable on disk, then recorded. `size` 0 is unknown.
    ///
    /// # Errors
    /// [`Error::FailedPrecondition`] when size or digest differ from what is expected; the ingest
    /// stays. [`Error::AlreadyExists`] when the namespace has the blob; the ingest goes.
    pub fn commit(
        mut self,
        size: u64,
        expected: Option<Digest>,
        labels: Labels,
    ) -> Result<Digest, Error> {
        if size > 0 && size != self.offset {
            return Err(Error::FailedPrecondition(format!(
                "{:?} failed size validation: {} != {size}",
                self.reference, self.offset
            )));
        }
        let expected = expected.or(self.ingest.expected);
        let digest = match expected {
            Some(expected) => self.digest_by(expected.algorithm())?,
            None => self.digest(),
        };
        if let Some(expected) = expected
            && expected != digest
        {
            return Err(Error::FailedPrecondition(format!(
                "unexpected commit digest {digest}, expected {expected}"
            )));
        }
        let state = Arc::clone(&self.state);
        let _pending = Pending::new(&state, digest);
        if !self.shared {
            self.store_file(&digest)?;
        }
        let result = self.record(&digest, labels);
        fault::point("blob-recorded");
        let _ = std::fs::remove_dir_all(&self.folder);
        result?;
        let event = ContentCreate {
            digest: digest.to_string(),
            size: self.offset as i64,
            ..ContentCreate::default()
        };
        self.state.events.publish(&self.context.namespace, "/content/create", &event);
        Ok(digest)
    }

    fn store_file(&mut self, digest: &Digest) -> Result<(), Error> {
        let what = || format!("storing blob {digest}");
        self.file
            .set_permissions(std::fs::Permissions::from_mode(0o444))
            .map_err(Error::io(what()))?;
        self.file.sync_data().map_err(Error::io(what()))?;
        let target = self.state.blob_path(digest);
        let folder = target.parent().map_or_else(PathBuf::new, Path::to_owned);
        make_folder(&folder, 0o755)?;
        fault::point("blob-synced");
        std::fs::rename(self.folder.join("data"), &target).map_err(Error::io(what()))?;
        fault::point("blob-stored");
        File::open(&folder).and_then(|f| f.sync_all()).map_err(Error::io(what()))
    }

    fn record(&self, digest: &Digest, labels: Labels) -> Result<(), Error> {
        let state = &self.state;
        let name = digest.to_string();
        let key = self.context.key(&name);
        let _writing = state.write();
        let now = labels::now();
        let batch = Batch::default().delete(INGESTS, self.context.key(&self.reference));
        let batch = state.without_lease(&self.context, batch, "ingests", &self.reference);
        let batch = state.with_lease(&self.context, batch, "content", &name)?;
        if state.store.get(BLOBS, &key)?.is_some() {
            state.store.commit(Class::Crash, batch)?;
            return Err(Error::AlreadyExists(format!("content {digest}")));
        }
        if self.shared && !state.blob_path(digest).exists() {
            return Err(Error::NotFound(format!("content digest {digest}")));
        }
        let info =
            Info { size: self.offset, created: now, updated: now, labels, ..Info::default() };
        let batch = state.with_namespace(&self.context, batch)?.put_json(BLOBS, key, &info)?;
        state.store.commit(Class::Crash, batch)?;
        Ok(())
    }
}

// The ingest's record, made or renewed; and whether it was made.
fn record(
    state: &State,
    context: &Context,
    reference: &str,
    total: u64,
    expected: Option<Digest>,
) -> Result<(Ingest, bool), Error> {
    let key = context.key(reference);
    let _writing = state.write();
    let now = labels::now();
    let known: Option<Ingest> = state.store.get_json(INGESTS, &key)?;
    let fresh = known.is_none();
    let mut ingest = match known {
        Some(ingest) => ingest,
        None => Ingest { id: crate::state::random_uuid()?, started: now, ..Ingest::default() },
    };
    if let (Some(old), Some(new)) = (ingest.expected, expected)
        && old != new
    {
        return Err(Error::Aborted(format!(
            "ref {reference:?} expects {old}, not {new}; abort it first"
        )));
    }
    if ingest.total > 0 && total > 0 && ingest.total != total {
        return Err(Error::Aborted(format!(
            "ref {reference:?} has total {}, not {total}; abort it first",
            ingest.total
        )));
    }
    ingest.expected = ingest.expected.or(expected);
    ingest.total = ingest.total.max(total);
    ingest.expires = now + EXPIRY.as_nanos() as i64;
    let batch = state.with_namespace(context, Batch::default())?;
    let batch = state.with_lease(context, batch, "ingests", reference)?;
    state.store.commit(Class::Crash, batch.put_json(INGESTS, key, &ingest)?)?;
    Ok((ingest, fresh))
}

fn open_data(folder: &Path, expected: Option<Digest>) -> Result<(File, Hasher, u64), Error> {
    let what = || format!("opening ingest {}", folder.display());
    make_folder(folder, 0o700)?;
    fault::point("ingest-made");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(folder.join("data"))
        .map_err(Error::io(what()))?;
    let mut hasher = Hasher::new(expected.map_or(Algorithm::Sha256, |digest| digest.algorithm()));
    let length = hash_file(&mut file, &mut hasher).map_err(Error::io(what()))?;
    Ok((file, hasher, length))
}

// Reads the file to its end, and says how far that was.
fn hash_file(file: &mut File, hasher: &mut Hasher) -> std::io::Result<u64> {
    let mut length = 0;
    let mut buffer = vec![0; 128 << 10];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(length);
        }
        hasher.update(&buffer[..count]);
        length += count as u64;
    }
}

impl State {
    /// Where the ingest `reference` stands.
    pub fn ingest(&self, context: &Context, reference: &str) -> Result<IngestStatus, Error> {
        let found: Option<Ingest> = self.store.get_json(INGESTS, &context.key(reference))?;
        let found = found.ok_or_else(|| Error::NotFound(format!("ingest ref {reference:?}")))?;
        Ok(self.ingest_status(reference.into(), found))
    }

    /// All ingests of the namespace.
    pub fn ingests(&self, context: &Context) -> Result<Vec<IngestStatus>, Error> {
        let rows = self.store.scan_json(INGESTS, &context.prefix())?.into_iter();
        Ok(rows.map(|(key, i)| self.ingest_status(crate::context::name_of(&key), i)).collect())
    }

    fn ingest_status(&self, reference: String, ingest: Ingest) -> IngestStatus {
        let data = self.root.join("content/ingest").join(&ingest.id).join("data");
        let meta = std::fs::metadata(data).ok();
        let updated = meta.as_ref().and_then(|m| m.modified().ok());
        IngestStatus {
            reference,
            offset: meta.map_or(0, |m| m.len()),
            total: ingest.total,
            expected: ingest.expected,
            started: ingest.started,
            updated: updated.map_or(ingest.started, containerd_api::time::nanos),
        }
    }

    /// Gives an ingest up.
    pub fn ingest_abort(&self, context: &Context, reference: &str) -> Result<(), Error> {
        let key = context.key(reference);
        let ingest = {
            let _writing = self.write();
            let found: Option<Ingest> = self.store.get_json(INGESTS, &key)?;
            let found =
                found.ok_or_else(|| Error::NotFound(format!("ingest ref {reference:?}")))?;
            let batch = Batch::default().delete(INGESTS, key);
            let batch = self.without_lease(context, batch, "ingests", reference);
            self.store.commit(Class::Crash, batch)?;
            found
        };
        fault::point("ingest-aborted");
        let _ = std::fs::remove_dir_all(self.root.join("content/ingest").join(ingest.id));
        Ok(())
    }
}
