//! The store's promises, on a folder: uploads, links, manifests, tags, referrers, lists.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::io::Read;
use std::time::Duration;

use bytes::Bytes;
use common::{Fixture, block_on, image, index, push, repo, tag};
use oci::{Algorithm, Digest};
use proptest::prelude::*;
use registry_server::name::TagOrDigest;
use registry_server::store::{Condition, Options, Store, StoreError};

fn read(store: &Store, name: &str, digest: &Digest) -> Vec<u8> {
    let mut bytes = Vec::new();
    store.blob(&repo(name), digest).unwrap().file.read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn an_upload_goes_on_after_a_restart_and_becomes_a_blob() {
    let f = Fixture::new();
    let session = f.store.begin_upload(&repo("a/b"), Algorithm::Sha256).unwrap();
    let uuid = session.uuid().to_owned();
    let mut claim = block_on(session.claim()).unwrap();
    claim.append(&[Bytes::from_static(b"hello "), Bytes::from_static(b"wor")]).unwrap();
    drop((claim, session));
    let f = f.reopen();
    assert!(matches!(f.store.upload(&repo("a/c"), &uuid), Err(StoreError::UploadUnknown(_))));
    let session = f.store.upload(&repo("a/b"), &uuid).unwrap();
    let mut claim = block_on(session.claim()).unwrap();
    assert_eq!(claim.size(), 9);
    claim.append(&[Bytes::from_static(b"ld")]).unwrap();
    let digest = Digest::sha256(b"hello world");
    assert_eq!(f.store.finish_upload(claim, &digest).unwrap(), 11);
    assert_eq!(read(&f.store, "a/b", &digest), b"hello world");
    assert_eq!(f.store.open_uploads(), 0);
    assert!(matches!(block_on(session.claim()), Err(StoreError::UploadUnknown(_))));
    assert_eq!(std::fs::read_dir(f.dir.path().join("ferry/uploads")).unwrap().count(), 0);
}

#[test]
fn uploads_of_another_boot_are_gone() {
    let f = Fixture::new();
    let uuid = f.store.begin_upload(&repo("a"), Algorithm::Sha256).unwrap().uuid().to_owned();
    std::fs::write(f.dir.path().join("ferry/boot"), "another boot").unwrap();
    let f = f.reopen();
    assert!(matches!(f.store.upload(&repo("a"), &uuid), Err(StoreError::UploadUnknown(_))));
    assert_eq!(std::fs::read_dir(f.dir.path().join("ferry/uploads")).unwrap().count(), 0);
}

#[test]
fn a_wrong_digest_ends_the_upload_and_leaves_nothing() {
    let f = Fixture::new();
    let wrong = Digest::sha256(b"other");
    let error = push(&f.store, "a", b"bytes", &wrong).unwrap_err();
    assert!(matches!(error, StoreError::WrongDigest { wanted, .. } if *wanted == wrong));
    assert!(matches!(f.store.blob(&repo("a"), &wrong), Err(StoreError::BlobUnknown(_))));
    assert!(!f.store.has_repository(&repo("a")));
    assert_eq!(f.store.open_uploads(), 0);
}

#[test]
fn a_sha512_blob_is_hashed_as_such_announced_or_not() {
    let f = Fixture::new();
    let digest = Digest::of(Algorithm::Sha512, b"bytes");
    push(&f.store, "late", b"bytes", &digest).unwrap();
    let session = f.store.begin_upload(&repo("early"), Algorithm::Sha512).unwrap();
    let mut claim = block_on(session.claim()).unwrap();
    claim.append(&[Bytes::from_static(b"bytes")]).unwrap();
    f.store.finish_upload(claim, &digest).unwrap();
    assert_eq!(read(&f.store, "late", &digest), read(&f.store, "early", &digest));
}

#[test]
fn a_second_request_takes_an_upload_over() {
    let f = Fixture::new();
    let session = f.store.begin_upload(&repo("a"), Algorithm::Sha256).unwrap();
    block_on(async {
        let first = session.claim().await.unwrap();
        let told = first.taken();
        let writer = async {
            told.cancelled().await;
            drop(first);
        };
        let (second, ()) = tokio::join!(session.claim(), writer);
        assert_eq!(second.unwrap().size(), 0);
    });
}

#[test]
fn uploads_are_bounded_and_expire_when_nobody_writes() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Options { max_uploads: 2, ..Options::default() }).unwrap();
    let begin = || store.begin_upload(&repo("a"), Algorithm::Sha256);
    let first = begin().unwrap();
    begin().unwrap();
    assert!(matches!(begin(), Err(StoreError::TooManyUploads(2))));
    assert_eq!(store.expire_uploads(Duration::from_secs(3600)), 0);
    let claim = block_on(first.claim()).unwrap();
    // Nothing was touched in the future; but one is being written to.
    let path = dir.path().join("ferry/uploads");
    assert_eq!(std::fs::read_dir(&path).unwrap().count(), 2);
    store.end_upload(claim);
    assert_eq!((store.open_uploads(), std::fs::read_dir(&path).unwrap().count()), (1, 1));
    begin().unwrap();
}

#[test]
fn one_process_at_a_time_has_a_root() {
    let f = Fixture::new();
    let second = Store::open(f.dir.path(), Options::default()).unwrap_err().to_string();
    let expected = format!("is in use by process {}", std::process::id());
    assert!(second.ends_with(&expected), "{second}");
}

#[test]
fn repositories_share_bytes_and_have_what_was_given_to_them() {
    let f = Fixture::new();
    let digest = f.blob("one", b"shared");
    assert!(matches!(f.store.blob(&repo("two"), &digest), Err(StoreError::BlobUnknown(_))));
    assert!(!f.store.mount_blob(&digest, &repo("none"), &repo("two")).unwrap());
    assert!(f.store.mount_blob(&digest, &repo("one"), &repo("two")).unwrap());
    f.store.delete_blob(&repo("one"), &digest).unwrap();
    assert!(matches!(f.store.delete_blob(&repo("one"), &digest), Err(StoreError::BlobUnknown(_))));
    assert_eq!(read(&f.store, "two", &digest), b"shared");
}

#[test]
fn many_push_the_same_blob_at_once() {
    let f = Fixture::new();
    let bytes = vec![7; 3 << 20];
    let digest = Digest::sha256(&bytes);
    std::thread::scope(|scope| {
        for n in 0..6 {
            let (store, bytes) = (&f.store, &bytes);
            scope.spawn(move || push(store, &format!("r{}", n % 3), bytes, &digest).unwrap());
        }
    });
    for n in 0..3 {
        assert_eq!(read(&f.store, &format!("r{n}"), &digest), bytes);
    }
}

#[test]
fn a_blob_that_lost_bytes_is_mended_by_the_next_push() {
    let f = Fixture::new();
    let digest = f.blob("a", b"bytes");
    let hex = digest.hex();
    let path = f.dir.path().join("docker/registry/v2/blobs/sha256").join(&hex[..2]).join(&hex);
    std::fs::write(path.join("data"), "by").unwrap();
    f.blob("b", b"bytes");
    assert_eq!(read(&f.store, "a", &digest), b"bytes");
}

#[test]
fn a_manifest_needs_its_blobs_and_an_index_its_entries() {
    let f = Fixture::new();
    let (config, layer) = (Digest::sha256(b"c"), Digest::sha256(b"l"));
    let bytes = image(&config, &[layer], None);
    let put = |name: &str, bytes: &[u8]| f.try_manifest(name, bytes, &["t"], Condition::None);
    match put("a", &bytes) {
        Err(StoreError::ManifestBlobsUnknown(missing)) => assert_eq!(missing, [config, layer]),
        other => panic!("{other:?}"),
    }
    f.blob("a", b"c");
    f.blob("other", b"l");
    assert!(matches!(put("a", &bytes), Err(StoreError::ManifestBlobsUnknown(m)) if m == [layer]));
    f.blob("a", b"l");
    let digest = put("a", &bytes).unwrap();
    let list = index(&[digest, layer]);
    assert!(put("b", &list).is_err());
    put("a", &list).unwrap();
    let which = TagOrDigest::Tag(tag("t"));
    let stored = f.store.manifest(&repo("a"), &which).unwrap();
    assert_eq!(f.store.manifest_bytes(&stored.digest).unwrap(), list);
    assert_eq!(stored.media_type, oci::media_type::OCI_INDEX);
}

#[test]
fn a_deleted_tag_leaves_its_manifest_and_a_deleted_manifest_takes_its_tags() {
    let f = Fixture::new();
    let digest = f.image("a", "1", &["x", "y"]);
    let name = repo("a");
    f.store.delete_tag(&name, &tag("x")).unwrap();
    assert!(matches!(f.store.delete_tag(&name, &tag("x")), Err(StoreError::ManifestUnknown(_))));
    assert_eq!(f.store.tag_target(&name, &tag("y")).unwrap(), Some(digest));
    f.store.delete_manifest(&name, &digest).unwrap();
    let again = f.store.delete_manifest(&name, &digest);
    assert!(matches!(again, Err(StoreError::ManifestUnknown(_))));
    let by_tag = f.store.manifest(&name, &TagOrDigest::Tag(tag("y")));
    assert!(matches!(by_tag, Err(StoreError::ManifestUnknown(_))));
    assert_eq!(f.store.tags(&name, None, 10).unwrap(), (vec![], false));
    let nobody = f.store.delete_manifest(&repo("b"), &digest);
    assert!(matches!(nobody, Err(StoreError::NameUnknown(_))));
}

#[test]
fn conditions_of_a_push_are_about_the_tag() {
    let f = Fixture::new();
    let first = f.image("a", "1", &["t"]);
    f.blob("a", b"c");
    let bytes = image(&Digest::sha256(b"c"), &[], None);
    let put = |condition| f.try_manifest("a", &bytes, &["t"], condition);
    assert!(matches!(put(Condition::Absent), Err(StoreError::Precondition(Some(d))) if d == first));
    let other = Condition::Is(vec![Digest::sha256(b"x")]);
    assert!(matches!(put(other), Err(StoreError::Precondition(_))));
    assert!(matches!(put(Condition::IsNot(vec![first])), Err(StoreError::Precondition(_))));
    assert_eq!(f.store.tag_target(&repo("a"), &tag("t")).unwrap(), Some(first));
    let second = put(Condition::Is(vec![first])).unwrap();
    assert_eq!(f.store.tag_target(&repo("a"), &tag("t")).unwrap(), Some(second));
    put(Condition::Present).unwrap();
}

#[test]
fn referrers_show_what_they_are_and_come_before_or_after_their_subject() {
    let f = Fixture::new();
    let subject = Digest::sha256(b"not yet there");
    let config = f.blob("a", b"c");
    let referrer = f.manifest("a", &image(&config, &[], Some(&subject)), &[]);
    let page = f.store.referrers(&repo("a"), &subject, None, None).unwrap();
    assert_eq!(page.entries.len(), 1);
    assert_eq!(page.entries[0].digest, referrer);
    assert_eq!(page.entries[0].artifact_type.as_deref(), Some(oci::media_type::OCI_CONFIG));
    let none = f.store.referrers(&repo("a"), &subject, Some("x/y"), None).unwrap();
    assert!(none.entries.is_empty());
    assert!(f.store.referrers(&repo("b"), &subject, None, None).unwrap().entries.is_empty());
    f.store.delete_manifest(&repo("a"), &referrer).unwrap();
    let page = f.store.referrers(&repo("a"), &subject, None, None).unwrap();
    assert!(page.entries.is_empty());
}

#[test]
fn a_long_list_of_referrers_comes_in_pages() {
    let f = Fixture::new();
    let subject = Digest::sha256(b"s");
    let config = f.blob("a", b"c");
    let mut all = BTreeSet::new();
    for n in 0..40 {
        let mut value: serde_json::Value =
            serde_json::from_slice(&image(&config, &[], Some(&subject))).unwrap();
        value["annotations"] = serde_json::json!({"n": format!("{n}"), "x": "x".repeat(100_000)});
        all.insert(f.manifest("a", &serde_json::to_vec(&value).unwrap(), &[]));
    }
    let (mut seen, mut last, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = f.store.referrers(&repo("a"), &subject, None, last.as_ref()).unwrap();
        seen.extend(page.entries.iter().map(|entry| entry.digest));
        pages += 1;
        last = page.next;
        if last.is_none() {
            break;
        }
    }
    assert!(pages > 1);
    assert_eq!(seen, all.into_iter().collect::<Vec<_>>());
}

#[test]
fn what_another_program_stored_is_understood() {
    let f = Fixture::new();
    let config = f.blob("a", b"c");
    let subject = Digest::sha256(b"s");
    let referrer = f.manifest("a", &image(&config, &[], Some(&subject)), &["t"]);
    // docker-registry writes neither of these.
    let base = f.dir.path().join("docker/registry/v2/repositories/a");
    std::fs::remove_dir_all(base.join("_referrers")).unwrap();
    let revision = base.join("_manifests/revisions/sha256").join(referrer.hex());
    std::fs::remove_file(revision.join("mediatype")).unwrap();
    std::fs::remove_file(f.dir.path().join("ferry/adopted")).unwrap();
    let f = f.reopen();
    let page = f.store.referrers(&repo("a"), &subject, None, None).unwrap();
    assert_eq!(page.entries.len(), 1);
    assert_eq!(f.store.adopt().unwrap(), 0);
    let stored = f.store.manifest(&repo("a"), &TagOrDigest::Digest(referrer)).unwrap();
    assert_eq!(stored.media_type, oci::media_type::OCI_MANIFEST);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn tags_come_in_ascii_order_whatever_the_page(
        names in proptest::collection::btree_set("[A-Za-z0-9_][A-Za-z0-9._-]{0,3}", 1..12),
        limit in 1..5usize,
    ) {
        let f = Fixture::new();
        let tags: Vec<&str> = names.iter().map(String::as_str).collect();
        f.image("a", "1", &tags);
        let (mut seen, mut last) = (Vec::new(), None::<String>);
        loop {
            let (page, more) = f.store.tags(&repo("a"), last.as_deref(), limit).unwrap();
            prop_assert!(page.len() == limit || !more);
            seen.extend(page.iter().map(ToString::to_string));
            last = seen.last().cloned();
            if !more { break }
        }
        prop_assert_eq!(seen, names.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn repositories_come_in_ascii_order_of_their_whole_names(
        names in proptest::collection::btree_set("[ab]{1,2}([-._][ab0]|/[ab]{1,2}){0,3}", 1..12),
        limit in 1..5usize,
    ) {
        let f = Fixture::new();
        for name in &names {
            f.blob(name, b"x");
        }
        let (mut seen, mut last) = (Vec::new(), None::<String>);
        loop {
            let (page, more) = f.store.repositories(last.as_deref(), limit).unwrap();
            seen.extend(page.iter().map(ToString::to_string));
            last = seen.last().cloned();
            if !more { break }
        }
        prop_assert_eq!(seen, names.into_iter().collect::<Vec<_>>());
    }
}
