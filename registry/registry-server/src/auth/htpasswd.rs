//! Users and bcrypt hashes from an htpasswd file, which is read again when it changes.
//!
//! bcrypt is slow on purpose, and clients send their password with every request: what was right
//! is remembered for a while, by a keyed hash that says nothing without this process's key.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use ring::hmac;
use tokio::sync::Semaphore;

use super::{InvalidAuth, Need, challenge, credentials, quoted};
use crate::api::{ApiError, Code};

/// Largest file, in bytes.
const MAX_FILE: u64 = 16 << 20;
/// How long a right password is remembered.
const REMEMBER: Duration = Duration::from_secs(300);
/// How many are remembered.
const MAX_REMEMBERED: usize = 4096;
/// Checks at once, and those that may wait for one.
const CHECKS: usize = 2;
const WAITING: usize = 64;
/// What an unknown user's password is compared with, so that it takes as long.
const NOBODY: &str = "$2y$10$abcdefghijklmnopqrstuuJ7GCPJnYVyAfhv3b0Lj3Vh3Yl3mXr6a";

type Users = Arc<HashMap<String, String>>;

/// The users of a file.
pub(crate) struct Passwords {
    path: PathBuf,
    realm: String,
    state: Mutex<State>,
    key: hmac::Key,
    checks: Semaphore,
    waiting: Semaphore,
}

struct State {
    users: Users,
    changed: Option<SystemTime>,
    right: HashMap<Vec<u8>, Instant>,
}

impl Passwords {
    pub(super) fn open(path: &Path, realm: &str) -> Result<Self, InvalidAuth> {
        let (users, changed) = read(path)?;
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &ring::rand::SystemRandom::new());
        Ok(Self {
            path: path.to_owned(),
            realm: realm.to_owned(),
            state: Mutex::new(State { users, changed, right: HashMap::new() }),
            key: key.map_err(|_| InvalidAuth("no random bytes".into()))?,
            checks: Semaphore::new(CHECKS),
            waiting: Semaphore::new(WAITING),
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn reload(&self) -> Result<(), InvalidAuth> {
        let (users, changed) = read(&self.path)?;
        *self.lock() = State { users, changed, right: HashMap::new() };
        Ok(())
    }

    fn reload_if_changed(&self) {
        let changed = std::fs::metadata(&self.path).and_then(|meta| meta.modified()).ok();
        if changed.is_some() && changed != self.lock().changed {
            match self.reload() {
                Ok(()) => tracing::info!(path = %self.path.display(), "users read again"),
                Err(error) => {
                    // It is not tried again before the file changes again.
                    self.lock().changed = changed;
                    tracing::error!("{error}; the users stay as they were");
                }
            }
        }
    }

    pub(super) async fn check(
        &self,
        headers: &HeaderMap,
        needs: &[Need],
    ) -> Result<String, ApiError> {
        let refuse = || challenge(needs, &format!("Basic realm={}", quoted(&self.realm)));
        let given = credentials(headers, "Basic").and_then(decode).ok_or_else(refuse)?;
        self.reload_if_changed();
        let seal = hmac::sign(&self.key, format!("{}\0{}", given.0, given.1).as_bytes());
        let seal = seal.as_ref().to_vec();
        let users = {
            let state = self.lock();
            if state.right.get(&seal).is_some_and(|since| since.elapsed() < REMEMBER) {
                return Ok(given.0);
            }
            Arc::clone(&state.users)
        };
        let (user, password) = given;
        let known = users.get(&user);
        let hash = known.map_or(NOBODY, String::as_str).to_owned();
        if !self.verify(password, hash).await? || known.is_none() {
            return Err(refuse());
        }
        let mut state = self.lock();
        // A file that was read meanwhile may say otherwise.
        if Arc::ptr_eq(&state.users, &users) {
            if state.right.len() >= MAX_REMEMBERED {
                state.right.clear();
            }
            state.right.insert(seal, Instant::now());
        }
        Ok(user)
    }

    async fn verify(&self, password: String, hash: String) -> Result<bool, ApiError> {
        let busy = || ApiError::new(Code::TooManyRequests).retry_after(1);
        let _place = self.waiting.try_acquire().map_err(|_| busy())?;
        let _turn = self.checks.acquire().await.map_err(|_| busy())?;
        let checked = tokio::task::spawn_blocking(move || bcrypt::verify(password, &hash));
        Ok(matches!(checked.await, Ok(Ok(true))))
    }
}

/// User and password of Basic credentials.
fn decode(credentials: &str) -> Option<(String, String)> {
    let text = String::from_utf8(STANDARD.decode(credentials).ok()?).ok()?;
    text.split_once(':').map(|(user, password)| (user.to_owned(), password.to_owned()))
}

fn read(path: &Path) -> Result<(Users, Option<SystemTime>), InvalidAuth> {
    let failed =
        |e: &dyn std::fmt::Display| InvalidAuth(format!("reading {}: {e}", path.display()));
    let meta = std::fs::metadata(path).map_err(|e| failed(&e))?;
    if meta.len() > MAX_FILE {
        return Err(failed(&"it is too large for a file of users"));
    }
    let text = std::fs::read_to_string(path).map_err(|e| failed(&e))?;
    let users = parse(&text).map_err(|e| failed(&e))?;
    Ok((Arc::new(users), meta.modified().ok()))
}

fn parse(text: &str) -> Result<HashMap<String, String>, String> {
    let mut users = HashMap::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let entry = line.split_once(':').filter(|(user, _)| !user.is_empty());
        let (user, hash) = entry.ok_or_else(|| format!("line {}: not user:hash", number + 1))?;
        if hash.parse::<bcrypt::HashParts>().is_err() {
            let line = number + 1;
            return Err(format!("line {line}: the hash of {user:?} is not bcrypt (htpasswd -B)"));
        }
        users.insert(user.to_owned(), hash.to_owned());
    }
    Ok(users)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic(user: &str, password: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let value = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
        headers.insert(http::header::AUTHORIZATION, value.parse().unwrap());
        headers
    }

    #[tokio::test]
    async fn users_are_those_of_the_file_as_it_is_now() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let line =
            |user: &str, password: &str| format!("{user}:{}\n", bcrypt::hash(password, 4).unwrap());
        std::fs::write(file.path(), format!("# users\n{}", line("ann", "a:b"))).unwrap();
        let passwords = Passwords::open(file.path(), "my \"realm\"").unwrap();
        let is_in = async |user: &str, password: &str| {
            passwords.check(&basic(user, password), &[]).await.is_ok()
        };
        for _ in 0..2 {
            assert!(is_in("ann", "a:b").await);
        }
        assert!(!is_in("ann", "wrong").await && !is_in("bob", "a:b").await);
        assert!(passwords.check(&HeaderMap::new(), &[]).await.is_err());
        std::fs::write(file.path(), line("bob", "pw")).unwrap();
        let later = SystemTime::now() + Duration::from_secs(5);
        file.as_file().set_modified(later).unwrap();
        assert!(is_in("bob", "pw").await && !is_in("ann", "a:b").await);
        // What cannot be read changes nothing.
        std::fs::write(file.path(), "bob:plain").unwrap();
        file.as_file().set_modified(later + Duration::from_secs(5)).unwrap();
        assert!(is_in("bob", "pw").await);
        assert!(passwords.reload().unwrap_err().to_string().contains("is not bcrypt"));
    }

    #[test]
    fn the_hash_of_nobody_is_one() {
        assert!(NOBODY.parse::<bcrypt::HashParts>().is_ok());
        assert!(matches!(bcrypt::verify("x", NOBODY), Ok(false)));
    }
}
