//! Uploads: blobs that are still coming, hashed as they come. They outlive the process, not the
//! boot: after a power cut their bytes might not be those that were acknowledged.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use oci::{Algorithm, Digest, Hasher};
use serde::{Deserialize, Serialize};
use sys::file::Writeback;
use tokio::sync::OwnedMutexGuard;
use tokio_util::sync::CancellationToken;

use super::error::optional;
use super::layout::DATA;
use super::{Store, StoreError};
use crate::name::{Repository, is_uuid, random_uuid};

/// Buffer for hashing a file again.
const REHASH: usize = 256 << 10;
/// How long a writer may still take to end by itself.
const MOMENT: Duration = Duration::from_secs(2);
/// The boot in which uploads began.
const BOOT: &str = "boot";

/// The uploads of a store.
#[derive(Debug)]
pub(super) struct Uploads {
    sessions: Mutex<HashMap<String, Arc<Session>>>,
    max: usize,
}

impl Uploads {
    pub(super) fn new(max: usize) -> Self {
        Self { sessions: Mutex::default(), max }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Session>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One upload.
#[derive(Debug)]
pub struct Session {
    uuid: String,
    repository: Repository,
    folder: PathBuf,
    // Seconds since the epoch.
    touched: AtomicU64,
    // Bytes so far, as far as can be told while somebody writes.
    written: AtomicU64,
    progress: Arc<tokio::sync::Mutex<Progress>>,
    // Tells whoever writes now that somebody else wants to.
    current: Mutex<CancellationToken>,
}

#[derive(Debug, Default)]
struct Progress {
    size: u64,
    // Of all bytes so far; nothing is known of bytes of an earlier process.
    hasher: Option<Hasher>,
    writeback: Writeback,
    ended: bool,
}

/// What is kept of a session besides its bytes.
#[derive(Serialize, Deserialize)]
struct Record {
    repository: String,
    started: u64,
}

/// The right to write to an upload. One request has it.
#[derive(Debug)]
pub struct Claim {
    session: Arc<Session>,
    progress: OwnedMutexGuard<Progress>,
    file: Option<File>,
    taken: CancellationToken,
}

impl Session {
    fn new(uuid: String, repository: Repository, folder: PathBuf, progress: Progress) -> Self {
        Self {
            uuid,
            repository,
            folder,
            touched: AtomicU64::new(now()),
            written: AtomicU64::new(progress.size),
            progress: Arc::new(tokio::sync::Mutex::new(progress)),
            current: Mutex::default(),
        }
    }

    /// Its name, a UUID.
    pub fn uuid(&self) -> &str {
        &self.uuid
    }

    /// How many bytes are there, for who does not want to write. Whoever writes is given a moment
    /// to end first: a client asks after it lost its connection.
    ///
    /// # Errors
    /// [`StoreError::UploadUnknown`] when the upload ended meanwhile.
    pub async fn size(&self) -> Result<u64, StoreError> {
        match tokio::time::timeout(MOMENT, self.progress.lock()).await {
            Ok(progress) if progress.ended => Err(StoreError::UploadUnknown(self.uuid.clone())),
            Ok(progress) => Ok(progress.size),
            Err(_) => Ok(self.written.load(Ordering::Relaxed)),
        }
    }

    /// Waits for the right to write. Who does not end in a moment is asked to stop: a client that
    /// comes again has lost its earlier connection, whether or not that shows here.
    ///
    /// # Errors
    /// [`StoreError::UploadUnknown`] when the upload ended meanwhile.
    pub async fn claim(self: &Arc<Self>) -> Result<Claim, StoreError> {
        let lock = || Arc::clone(&self.progress).lock_owned();
        let progress = if let Ok(progress) = tokio::time::timeout(MOMENT, lock()).await {
            progress
        } else {
            self.current().cancel();
            lock().await
        };
        let taken = CancellationToken::new();
        *self.current() = taken.clone();
        if progress.ended {
            return Err(StoreError::UploadUnknown(self.uuid.clone()));
        }
        self.touched.store(now(), Ordering::Relaxed);
        Ok(Claim { session: Arc::clone(self), progress, file: None, taken })
    }

    fn current(&self) -> MutexGuard<'_, CancellationToken> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn data(&self) -> PathBuf {
        self.folder.join("blob").join(DATA)
    }
}

impl Claim {
    /// Bytes so far.
    pub fn size(&self) -> u64 {
        self.progress.size
    }

    /// The session.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// What is there, open for reading from its beginning; it stays so when the blob is made.
    pub fn reader(&self) -> Result<File, StoreError> {
        let path = self.session.data();
        File::open(&path).map_err(StoreError::at("opening", &path))
    }

    /// Is cancelled when another request wants to write.
    pub fn taken(&self) -> CancellationToken {
        self.taken.clone()
    }

    /// Hashes by `algorithm` from now on. What is there already is hashed again only at the end,
    /// if that algorithm is asked for then.
    pub fn hash_by(&mut self, algorithm: Algorithm) {
        let progress = &mut *self.progress;
        if progress.size == 0 {
            progress.hasher = Some(Hasher::new(algorithm));
        }
    }

    /// Appends. Blocks. After an error the upload stands where [`Claim::size`] says.
    pub fn append(&mut self, batch: &[Bytes]) -> Result<(), StoreError> {
        let what = || format!("writing upload {}", self.session.uuid);
        let mut file = match self.file.take() {
            Some(file) => file,
            None => {
                open_at(&self.session.data(), self.progress.size).map_err(StoreError::io(what()))?
            }
        };
        for bytes in batch {
            let progress = &mut *self.progress;
            if let Err(error) = file.write_all(bytes) {
                file.set_len(progress.size).map_err(StoreError::io(what()))?;
                return Err(StoreError::io(what())(error));
            }
            if let Some(hasher) = &mut progress.hasher {
                hasher.update(bytes);
            }
            progress.size += bytes.len() as u64;
            progress.writeback.at(file.as_fd(), progress.size);
        }
        self.session.written.store(self.progress.size, Ordering::Relaxed);
        self.session.touched.store(now(), Ordering::Relaxed);
        self.file = Some(file);
        Ok(())
    }

    // The digest of all bytes, read once more if they were not hashed this way.
    fn digest(&mut self, algorithm: Algorithm) -> Result<Digest, StoreError> {
        if let Some(hasher) = &self.progress.hasher
            && hasher.algorithm() == algorithm
        {
            return Ok(hasher.clone().finish());
        }
        let hashed = (|| {
            let mut file = File::open(self.session.data())?;
            let (mut hasher, mut buffer) = (Hasher::new(algorithm), vec![0; REHASH]);
            loop {
                match file.read(&mut buffer)? {
                    0 => return Ok(hasher.finish()),
                    count => hasher.update(&buffer[..count]),
                }
            }
        })();
        hashed.map_err(StoreError::io(format!("hashing upload {}", self.session.uuid)))
    }
}

fn open_at(path: &std::path::Path, offset: u64) -> std::io::Result<File> {
    let mut file = File::options().write(true).open(path)?;
    // Nothing is there beyond what counts, unless a process ended in the middle.
    file.set_len(offset)?;
    file.seek(SeekFrom::Start(offset))?;
    Ok(file)
}

impl Store {
    /// Begins an upload.
    ///
    /// # Errors
    /// [`StoreError::TooManyUploads`].
    pub fn begin_upload(
        &self,
        repository: &Repository,
        algorithm: Algorithm,
    ) -> Result<Arc<Session>, StoreError> {
        let made = (|| {
            let uuid = random_uuid()?;
            let folder = self.layout.upload(&uuid);
            fs::create_dir(&folder)?;
            fs::create_dir(folder.join("blob"))?;
            File::create_new(folder.join("blob").join(DATA))?;
            let record = Record { repository: repository.to_string(), started: now() };
            fs::write(folder.join("session.json"), serde_json::to_vec(&record)?)?;
            Ok((uuid, folder))
        })();
        let (uuid, folder) = made.map_err(StoreError::io("beginning an upload"))?;
        let progress = Progress { hasher: Some(Hasher::new(algorithm)), ..Progress::default() };
        let session = Session::new(uuid.clone(), repository.clone(), folder, progress);
        let session = Arc::new(session);
        let mut sessions = self.uploads.lock();
        if sessions.len() >= self.uploads.max {
            let count = sessions.len();
            drop(sessions);
            fs::remove_dir_all(&session.folder).ok();
            return Err(StoreError::TooManyUploads(count));
        }
        sessions.insert(uuid, Arc::clone(&session));
        Ok(session)
    }

    /// Finds an upload of the repository.
    ///
    /// # Errors
    /// [`StoreError::UploadUnknown`].
    pub fn upload(&self, name: &Repository, uuid: &str) -> Result<Arc<Session>, StoreError> {
        let found = self.uploads.lock().get(uuid).filter(|s| s.repository == *name).cloned();
        found.ok_or_else(|| StoreError::UploadUnknown(uuid.into()))
    }

    /// Makes the blob, if it is `digest`, and gives it to the repository. The upload is over in
    /// either case, except after an error of the file system. Blocks.
    ///
    /// # Errors
    /// [`StoreError::WrongDigest`].
    pub fn finish_upload(&self, mut claim: Claim, digest: &Digest) -> Result<u64, StoreError> {
        let size = claim.progress.size;
        let found = claim.digest(digest.algorithm())?;
        if found != *digest {
            self.end_upload(claim);
            return Err(StoreError::WrongDigest {
                wanted: Box::new(*digest),
                found: Box::new(found),
            });
        }
        if self.size_of(digest)? != Some(size) {
            let file = claim.file.take().map_or_else(|| File::open(claim.session.data()), Ok);
            let synced = file.and_then(|file| file.sync_all());
            synced.map_err(StoreError::io(format!("storing blob {digest}")))?;
        }
        {
            let _pin = self.pin([digest]);
            self.keep_blob(&claim.session.folder.join("blob"), digest, size)?;
            self.link_blob(&claim.session.repository, digest)?;
        }
        self.end_upload(claim);
        Ok(size)
    }

    /// Gives an upload up.
    pub fn end_upload(&self, mut claim: Claim) {
        claim.progress.ended = true;
        self.uploads.lock().remove(&claim.session.uuid);
        if let Err(error) = self.durable.remove(&claim.session.folder) {
            tracing::warn!(%error, "an upload's folder stays until the next start");
        }
    }

    /// Gives up uploads that nobody wrote to for `age`. Returns their number.
    pub fn expire_uploads(&self, age: Duration) -> usize {
        let limit = now().saturating_sub(age.as_secs());
        let old = |session: &Session| session.touched.load(Ordering::Relaxed) < limit;
        let all: Vec<_> = self.uploads.lock().values().filter(|s| old(s)).cloned().collect();
        let mut count = 0;
        for session in all {
            // Somebody who writes now keeps it.
            let Ok(progress) = Arc::clone(&session.progress).try_lock_owned() else { continue };
            if !progress.ended && old(&session) {
                let taken = CancellationToken::new();
                self.end_upload(Claim { session, progress, file: None, taken });
                count += 1;
            }
        }
        count
    }

    /// How many uploads are open.
    pub fn open_uploads(&self) -> usize {
        self.uploads.lock().len()
    }

    /// Finds the uploads of an earlier process; those of an earlier boot go.
    pub(super) fn load_uploads(&self) -> Result<(), StoreError> {
        let boot = sys::boot::id().unwrap_or_default();
        let mark = self.layout.own(BOOT);
        let same = fs::read_to_string(&mark).is_ok_and(|known| known.trim() == boot);
        let folder = self.layout.uploads();
        let entries = fs::read_dir(&folder).map_err(StoreError::at("reading", &folder))?;
        for entry in entries.flatten() {
            match load_upload(&entry.path()).filter(|_| same) {
                Some(session) => {
                    self.uploads.lock().insert(session.uuid.clone(), Arc::new(session));
                }
                None => drop(self.durable.remove(&entry.path())?),
            }
        }
        if same { Ok(()) } else { self.durable.write(&mark, boot.as_bytes()) }
    }
}

fn load_upload(folder: &std::path::Path) -> Option<Session> {
    let uuid = folder.file_name()?.to_str().filter(|name| is_uuid(name))?.to_owned();
    let record = optional(fs::read(folder.join("session.json"))).ok()??;
    let record: Record = serde_json::from_slice(&record).ok()?;
    let meta = fs::metadata(folder.join("blob").join(DATA)).ok()?;
    let progress = Progress { size: meta.len(), ..Progress::default() };
    let repository = record.repository.parse().ok()?;
    let session = Session::new(uuid, repository, folder.to_owned(), progress);
    let touched = meta.modified().ok()?.duration_since(UNIX_EPOCH).ok()?.as_secs();
    session.touched.store(touched.max(record.started), Ordering::Relaxed);
    Some(session)
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
