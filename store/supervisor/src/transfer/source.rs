//! Where blobs came from: containerd's label on each of them, which lets a push mount a blob from
//! another repository of the same registry instead of sending it.

use crate::labels::Labels;
use oci::Reference;

const PREFIX: &str = "containerd.io/distribution.source.";
/// Longest label, key and value together, in bytes.
const MAX_LABEL: usize = 4096;

/// The label's key for a reference's registry.
pub(super) fn key(reference: &Reference) -> String {
    format!("{PREFIX}{}", host(reference.domain()))
}

/// How the label calls a registry: containerd leaves the port out.
pub(super) fn host(domain: &str) -> &str {
    match domain.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => domain,
    }
}

/// The label that says that a blob is in the repository of `reference`, added to what `known` says;
/// `None` when that is said already, or can't be said within a label's bounds.
pub(super) fn label(reference: &Reference, known: Option<&Labels>) -> Option<(String, String)> {
    let key = key(reference);
    let mut repositories = known.map(|labels| repositories(host(reference.domain()), labels));
    let repositories = repositories.get_or_insert_default();
    if repositories.iter().any(|known| known == reference.path()) {
        return None;
    }
    repositories.push(reference.path().to_owned());
    repositories.sort();
    let value = repositories.join(",");
    (key.len() + value.len() <= MAX_LABEL).then_some((key, value))
}

/// Every registry's host and repository that is known to hold a blob.
pub(super) fn all(labels: &Labels) -> Vec<(String, String)> {
    let domains = labels.keys().filter_map(|key| key.strip_prefix(PREFIX));
    let of = |domain: &str| {
        let named = repositories(domain, labels).into_iter();
        named.map(|path| (domain.to_owned(), path)).collect::<Vec<_>>()
    };
    domains.flat_map(of).collect()
}

/// The repositories of a host that are known to hold a blob.
fn repositories(domain: &str, labels: &Labels) -> Vec<String> {
    let value = labels.get(&format!("{PREFIX}{domain}"));
    let names = value.into_iter().flat_map(|value| value.split(','));
    names.filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_added_once_and_sorted() {
        let reference = |text: &str| Reference::parse(text).unwrap();
        let (key, value) = label(&reference("r:5000/b:1"), None).unwrap();
        assert_eq!((key.as_str(), value.as_str()), ("containerd.io/distribution.source.r", "b"));
        let known = Labels::from([(key, value)]);
        assert_eq!(label(&reference("r:5000/b:2"), Some(&known)), None);
        assert_eq!(label(&reference("r:5000/a"), Some(&known)).unwrap().1, "a,b");
        assert_eq!(repositories("r", &known), ["b"]);
        assert!(repositories("other", &known).is_empty());
    }
}
