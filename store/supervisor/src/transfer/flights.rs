//! Who is at work on what: a blob is fetched, and a layer unpacked, by one transfer at a time, and
//! others that want it wait for that one. No store here: keys in, claims out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

type Keys = Arc<Mutex<HashMap<String, Arc<AsyncMutex<()>>>>>;

/// The keys that are claimed. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flights(Keys);

/// A claim; whoever waits for it goes on when it is dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    keys: Keys,
    key: String,
    held: Option<OwnedMutexGuard<()>>,
}

impl Flights {
    fn entry(&self, key: &str) -> Arc<AsyncMutex<()>> {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(keys.entry(key.to_owned()).or_default())
    }

    fn claimed(&self, key: String, held: OwnedMutexGuard<()>) -> Claim {
        Claim { keys: Arc::clone(&self.0), key, held: Some(held) }
    }

    /// Claims `key` unless somebody has it.
    pub(crate) fn try_claim(&self, key: String) -> Option<Claim> {
        let held = self.entry(&key).try_lock_owned().ok()?;
        Some(self.claimed(key, held))
    }

    /// Waits for `key`.
    pub(crate) async fn claim(&self, key: String) -> Claim {
        let held = self.entry(&key).lock_owned().await;
        self.claimed(key, held)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.held.take());
        // Only the map has it: nobody waits, and nobody can begin to without the map's lock.
        if keys.get(&self.key).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            keys.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_has_it_and_the_next_waits_and_nothing_is_left() {
        let flights = Flights::default();
        let first = flights.try_claim("a".into()).unwrap();
        assert!(flights.try_claim("a".into()).is_none());
        assert!(flights.try_claim("b".into()).is_some());
        let waiting = tokio::spawn({
            let flights = flights.clone();
            async move { flights.claim("a".into()).await }
        });
        drop(first);
        drop(waiting.await.unwrap());
        assert!(flights.0.lock().unwrap().is_empty());
    }
}
