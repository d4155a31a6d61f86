//! The registry of names: who holds which name, and what a reference (full id,
//! name, unique prefix of an id) means. Nothing here knows a container's state.

mod words;

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many random names are tried before a digit is appended.
const TRIES: u32 = 6;
/// What the API allows in a name; also part of its error text.
const NAME_PATTERN: &str = "[a-zA-Z0-9][a-zA-Z0-9_.-]";

/// Why a name can't be had or a reference means nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Another container holds it.
    #[error(
        "Conflict. The container name \"/{name}\" is already in use by container \"{holder}\". You have to remove (or rename) that container to be able to reuse that name."
    )]
    InUse {
        /// The name without its slash.
        name: String,
        /// The full id of the holder.
        holder: String,
    },
    /// Characters outside the allowed set.
    #[error("Invalid container name ({0}), only {NAME_PATTERN} are allowed")]
    Invalid(String),
    /// No such name, id or prefix.
    #[error("No such container: {0}")]
    NotFound(String),
    /// A prefix that several ids share.
    #[error("multiple IDs found with provided prefix: {0}")]
    Ambiguous(String),
}

#[derive(Default)]
struct Inner {
    names: HashMap<String, String>,
    ids: BTreeMap<String, String>,
}

/// All names and ids, behind one short lock.
#[derive(Clone, Default)]
pub struct Registry(Arc<Mutex<Inner>>);

/// A name held for a container that is being made; dropped without
/// [`Reservation::keep`] it is free again.
pub struct Reservation {
    registry: Registry,
    id: String,
    name: String,
    kept: bool,
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // The maps are consistent after every statement below, so a panic elsewhere spoils nothing.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reserves `name` for the new container `id`.
    pub fn reserve(&self, name: &str, id: &str) -> Result<Reservation, NameError> {
        let name = name.strip_prefix('/').unwrap_or(name);
        if !is_valid(name) {
            return Err(NameError::Invalid(name.to_owned()));
        }
        self.lock().claim(name, id)?;
        Ok(self.reservation(name, id))
    }

    /// Reserves a generated name for the new container `id`.
    pub fn reserve_generated(&self, id: &str) -> Reservation {
        let mut inner = self.lock();
        let mut attempt = 0_u32;
        let name = loop {
            let name = generate(attempt);
            if inner.claim(&name, id).is_ok() {
                break name;
            }
            attempt += 1;
        };
        drop(inner);
        self.reservation(&name, id)
    }

    fn reservation(&self, name: &str, id: &str) -> Reservation {
        Reservation {
            registry: self.clone(),
            id: id.to_owned(),
            name: name.to_owned(),
            kept: false,
        }
    }

    /// Records a container that a restart found.
    pub fn restore(&self, name: &str, id: &str) {
        let mut inner = self.lock();
        inner.names.insert(name.to_owned(), id.to_owned());
        inner.ids.insert(id.to_owned(), name.to_owned());
    }

    /// Gives container `id` another name; the old one becomes free.
    pub fn rename(&self, id: &str, new: &str) -> Result<(), NameError> {
        let new = new.strip_prefix('/').unwrap_or(new);
        if !is_valid(new) {
            return Err(NameError::Invalid(new.to_owned()));
        }
        let mut inner = self.lock();
        let old = inner.ids.get(id).cloned();
        inner.claim(new, id)?;
        if let Some(old) = old {
            inner.names.remove(&old);
        }
        Ok(())
    }

    /// Forgets container `id` and its name.
    pub fn release(&self, id: &str) {
        let mut inner = self.lock();
        if let Some(name) = inner.ids.remove(id) {
            inner.names.remove(&name);
        }
    }

    /// The full id that `reference` means: a full id, else a name, else a unique prefix.
    pub fn resolve(&self, reference: &str) -> Result<String, NameError> {
        let inner = self.lock();
        if inner.ids.contains_key(reference) {
            return Ok(reference.to_owned());
        }
        let name = reference.strip_prefix('/').unwrap_or(reference);
        if let Some(id) = inner.names.get(name) {
            return Ok(id.clone());
        }
        let from = (Bound::Included(reference), Bound::Unbounded);
        let mut matching =
            inner.ids.range::<str, _>(from).take_while(|(id, _)| id.starts_with(reference));
        let missing = || NameError::NotFound(reference.to_owned());
        let (first, _) = matching.next().filter(|_| !reference.is_empty()).ok_or_else(missing)?;
        match matching.next() {
            Some(_) => Err(NameError::Ambiguous(reference.to_owned())),
            None => Ok(first.clone()),
        }
    }

    /// The name of container `id`, without slash.
    pub fn name_of(&self, id: &str) -> Option<String> {
        self.lock().ids.get(id).cloned()
    }
}

impl Inner {
    fn claim(&mut self, name: &str, id: &str) -> Result<(), NameError> {
        if let Some(holder) = self.names.get(name) {
            return Err(NameError::InUse { name: name.to_owned(), holder: holder.clone() });
        }
        self.names.insert(name.to_owned(), id.to_owned());
        self.ids.insert(id.to_owned(), name.to_owned());
        Ok(())
    }
}

impl Reservation {
    /// The reserved name, without slash.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The container exists now: the name stays its own.
    pub fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if !self.kept {
            self.registry.release(&self.id);
        }
    }
}

/// Whether `name` is one to two hundred odd allowed characters, the first of them no sign.
fn is_valid(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
        && name.len() > 1
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

fn generate(attempt: u32) -> String {
    let pick = |list: &[&'static str]| list[random() as usize % list.len()];
    let name = format!("{}_{}", pick(&words::ADJECTIVES), pick(&words::SURNAMES));
    if attempt < TRIES { name } else { format!("{name}{}", random() % u32::from(u16::MAX)) }
}

/// A random number; the clock's nanoseconds where the kernel has none to give.
fn random() -> u32 {
    getrandom::u32().unwrap_or_else(|_| {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| since.subsec_nanos())
    })
}

/// A fresh 64-digit hexadecimal id that is not all decimal in its short form, so
/// that it can't be mistaken for a number.
pub fn new_id() -> String {
    loop {
        let id: String = (0..8).map(|_| format!("{:08x}", random())).collect();
        if id[..12].bytes().any(|b| b.is_ascii_alphabetic()) {
            return id;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_racing_claims_of_one_name_only_one_wins_and_the_rest_learn_the_holder() {
        let registry = Registry::default();
        let claims: Vec<_> = std::thread::scope(|scope| {
            let handles: Vec<_> = (0..20)
                .map(|_| scope.spawn(|| (new_id(), registry.clone())))
                .map(|h| h.join().unwrap())
                .collect();
            handles
                .into_iter()
                .map(|(id, r)| r.reserve("one", &id).map(|held| (id, held)))
                .collect()
        });
        let winners: Vec<_> = claims.iter().filter_map(|c| c.as_ref().ok()).collect();
        assert_eq!(winners.len(), 1);
        let holder = winners[0].0.clone();
        for lost in claims.iter().filter_map(|c| c.as_ref().err()) {
            assert_eq!(*lost, NameError::InUse { name: "one".into(), holder: holder.clone() });
        }
    }

    #[test]
    fn a_dropped_reservation_frees_the_name_and_a_kept_one_does_not() {
        let registry = Registry::default();
        drop(registry.reserve("a1", "11").unwrap());
        registry.reserve("a1", "22").unwrap().keep();
        assert!(registry.reserve("a1", "33").is_err());
        assert_eq!(registry.resolve("a1").unwrap(), "22");
        assert!(registry.resolve("11").is_err());
    }

    #[test]
    fn a_reference_is_an_id_before_a_name_before_a_prefix() {
        let registry = Registry::default();
        registry.reserve("abc", "abc1").unwrap().keep();
        registry.reserve("other", "abd2").unwrap().keep();
        assert_eq!(registry.resolve("abc1").unwrap(), "abc1");
        assert_eq!(registry.resolve("/abc").unwrap(), "abc1");
        assert_eq!(registry.resolve("abd").unwrap(), "abd2");
        assert_eq!(registry.resolve("ab"), Err(NameError::Ambiguous("ab".into())));
        assert_eq!(registry.resolve("x"), Err(NameError::NotFound("x".into())));
        assert_eq!(registry.resolve(""), Err(NameError::NotFound(String::new())));
    }

    #[test]
    fn renaming_to_a_taken_name_leaves_both_as_they_were() {
        let registry = Registry::default();
        registry.reserve("aa", "11").unwrap().keep();
        registry.reserve("bb", "22").unwrap().keep();
        assert!(registry.rename("11", "bb").is_err());
        registry.rename("11", "cc").unwrap();
        assert_eq!(registry.name_of("11").as_deref(), Some("cc"));
        assert!(registry.resolve("aa").is_err());
    }

    #[test]
    fn names_are_checked_as_the_api_documents_them() {
        for bad in ["", "a", "-a", "a b", "a/b", "ä1"] {
            assert!(Registry::default().reserve(bad, "1").is_err(), "{bad}");
        }
        assert!(Registry::default().reserve("a.b-c_1", "1").is_ok());
    }
}
