//! How many blobs move at once: all transfers of a namespace in one direction share the places,
//! and each says how many there are. No store here: keys in, places out.

use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::watch;

/// How many places are taken, by key. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places(Arc<watch::Sender<HashMap<String, u32>>>);

/// A place, free again when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Places,
    key: String,
}

impl Places {
    /// Waits until fewer than `most` places of `key` are taken, and takes one.
    pub(crate) async fn take(&self, key: &str, most: u32) -> Place {
        let mut changes = self.0.subscribe();
        loop {
            let is_taken = self.0.send_if_modified(|taken| {
                let count = taken.entry(key.to_owned()).or_default();
                let is_free = *count < most;
                *count += u32::from(is_free);
                is_free
            });
            if is_taken {
                return Place { places: self.clone(), key: key.to_owned() };
            }
            // It ends with its sender only, which is ours.
            let _ = changes.changed().await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.0.send_modify(|taken| {
            if let Some(count) = taken.get_mut(&self.key) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    taken.remove(&self.key);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_finds_no_place_waits_for_one() {
        let places = Places::default();
        let first = places.take("a", 2).await;
        let second = places.take("a", 2).await;
        let _other = places.take("b", 1).await;
        let waiting = tokio::spawn({
            let places = places.clone();
            async move { places.take("a", 2).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        // Somebody whose bound is higher still finds one.
        let third = places.take("a", 3).await;
        drop((first, third));
        drop(waiting.await.unwrap());
        drop(second);
        assert_eq!(places.0.borrow().len(), 1);
    }
}
