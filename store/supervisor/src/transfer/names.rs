//! Under which names an imported or tagged image is stored, as containerd's transfer service
//! decides it. No store here: strings in, strings out.

use super::resolve::{IMAGE_NAME, REF_NAME};
use containerd_api::transfer_types::{ImageReference, ImageStore};
use oci::Descriptor;

/// Names for an entry of an imported archive: its annotations through each prefix reference.
pub(super) fn imported(store: &ImageStore, image: &Descriptor) -> Vec<String> {
    let mut names = Vec::new();
    for reference in store.extra_references.iter().filter(|r| r.is_prefix) {
        let name = annotated(image, reference);
        let named = name.is_some();
        names.extend(name);
        if reference.add_digest && !(named && reference.skip_named_digest) {
            names.push(format!("{}@{}", reference.name, image.digest));
        }
    }
    names.dedup();
    names
}

/// Names for the destination itself (a tag, an archive's index).
pub(super) fn given(store: &ImageStore, image: &Descriptor) -> Vec<String> {
    let mut names: Vec<String> =
        Some(store.name.clone()).filter(|name| !name.is_empty()).into_iter().collect();
    for reference in store.extra_references.iter().filter(|r| !r.is_prefix) {
        names.push(if reference.add_digest {
            format!("{}@{}", reference.name, image.digest)
        } else {
            reference.name.clone()
        });
    }
    names
}

fn annotated(image: &Descriptor, reference: &ImageReference) -> Option<String> {
    let annotation = |key: &str| image.annotations.get(key).filter(|text| !text.is_empty());
    if let Some(name) = annotation(IMAGE_NAME) {
        return Some(name.clone());
    }
    let name = annotation(REF_NAME)?;
    if reference.name.is_empty() {
        return None;
    }
    if name.contains(['/', ':', '@']) {
        let matches = is_prefix(name, &reference.name);
        return (reference.allow_overwrite || matches).then(|| name.clone());
    }
    Some(format!("{}:{name}", reference.name))
}

/// Whether `name` is `prefix`, or continues it with a tag, a digest or a path.
fn is_prefix(name: &str, prefix: &str) -> bool {
    let rest = name.strip_prefix(prefix);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', ':', '@']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(annotations: &[(&str, &str)]) -> Descriptor {
        let mut image = Descriptor::of("x", b"{}");
        let owned = annotations.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        image.annotations = owned.collect();
        image
    }

    fn store(name: &str, add_digest: bool, skip: bool, overwrite: bool) -> ImageStore {
        let reference = ImageReference {
            name: name.into(),
            is_prefix: true,
            allow_overwrite: overwrite,
            add_digest,
            skip_named_digest: skip,
        };
        ImageStore { extra_references: vec![reference], ..ImageStore::default() }
    }

    #[test]
    fn annotations_name_imported_images() {
        let named = image(&[(IMAGE_NAME, "docker.io/library/a:1"), (REF_NAME, "1")]);
        assert_eq!(imported(&store("p", false, false, true), &named), ["docker.io/library/a:1"]);
        let tagged = image(&[(REF_NAME, "latest")]);
        assert_eq!(imported(&store("p", false, false, true), &tagged), ["p:latest"]);
        let full = image(&[(REF_NAME, "q/a:1")]);
        assert!(imported(&store("p", false, false, false), &full).is_empty());
        assert_eq!(imported(&store("p", false, false, true), &full), ["q/a:1"]);
    }

    #[test]
    fn images_without_a_name_are_found_by_digest_when_that_is_asked_for() {
        let nameless = image(&[]);
        let expected = format!("moby-dangling@{}", nameless.digest);
        assert_eq!(imported(&store("moby-dangling", true, true, false), &nameless), [expected]);
        let named = image(&[(IMAGE_NAME, "a:1")]);
        assert_eq!(imported(&store("moby-dangling", true, true, false), &named), ["a:1"]);
    }
}
