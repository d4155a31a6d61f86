//! Collection: what is needed stays, what is not goes, whoever pushes meanwhile.

#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::{Fixture, image, index, repo, tag};
use oci::Digest;
use registry_server::name::TagOrDigest;
use registry_server::store::gc::{Report, Wish};
use registry_server::store::{Condition, StoreError};

const NOW: Wish =
    Wish { dry_run: false, delete_untagged: false, min_age: Duration::ZERO, is_cache: false };

fn collect(f: &Fixture, wish: &Wish) -> Report {
    f.store.collect(wish, &mut |_| {}).unwrap()
}

fn has_bytes(f: &Fixture, digest: &Digest) -> bool {
    let hex = digest.hex();
    f.dir.path().join("docker/registry/v2/blobs/sha256").join(&hex[..2]).join(hex).exists()
}

#[test]
fn what_manifests_need_stays_and_the_rest_goes() {
    let f = Fixture::new();
    f.image("a", "1", &["t"]);
    let shared = f.blob("a", b"shared");
    assert!(f.store.mount_blob(&shared, &repo("a"), &repo("b")).unwrap());
    f.manifest("b", &image(&shared, &[], None), &["t"]);
    let loose = f.blob("a", b"loose");
    let wish = Wish { dry_run: true, ..NOW };
    let would = collect(&f, &wish);
    assert!(has_bytes(&f, &loose));
    let did = collect(&f, &NOW);
    assert_eq!(would, did);
    // The shared blob leaves the repository that does not need it, its bytes stay.
    assert_eq!((did.links, did.blobs, did.bytes), (2, 1, 5));
    assert!(!has_bytes(&f, &loose) && has_bytes(&f, &shared));
    assert!(f.store.blob(&repo("b"), &shared).is_ok());
    assert!(f.store.blob(&repo("a"), &shared).is_err());
    assert_eq!(collect(&f, &NOW), Report::default());
}

#[test]
fn what_was_just_pushed_or_asked_for_is_spared() {
    let f = Fixture::new();
    let loose = f.blob("a", b"loose");
    let wish = Wish { min_age: Duration::from_secs(3600), ..NOW };
    assert_eq!(collect(&f, &wish), Report::default());
    let hex = loose.hex();
    let link = f.dir.path().join("docker/registry/v2/repositories/a/_layers/sha256");
    let link = link.join(&hex).join("link");
    let age = |link: &std::path::Path| {
        let file = std::fs::File::options().write(true).open(link).unwrap();
        file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    };
    age(&link);
    // A client asks before it pushes, and relies on the answer.
    f.store.blob_size(&repo("a"), &loose).unwrap();
    assert_eq!(collect(&f, &wish), Report::default());
    age(&link);
    assert_eq!(collect(&f, &wish).blobs, 1);
}

#[test]
fn the_blobs_of_a_deleted_manifest_go_at_once() {
    let f = Fixture::new();
    let digest = f.image("a/b", "1", &["t"]);
    f.store.delete_manifest(&repo("a/b"), &digest).unwrap();
    let report = collect(&f, &Wish::default());
    assert_eq!((report.links, report.blobs, report.repositories), (2, 3, 1));
    assert_eq!(f.store.repositories(None, 10).unwrap().0, []);
    let repositories = f.dir.path().join("docker/registry/v2/repositories");
    assert_eq!(std::fs::read_dir(repositories).unwrap().count(), 0);
}

#[test]
fn untagged_manifests_go_when_asked_for_but_not_what_tags_lead_to() {
    let f = Fixture::new();
    let child = f.image("a", "child", &[]);
    let parent = f.manifest("a", &index(&[child]), &["t"]);
    let config = f.blob("a", b"c");
    let signature = f.manifest("a", &image(&config, &[], Some(&parent)), &[]);
    let about_nothing = f.manifest("a", &image(&config, &[], Some(&Digest::sha256(b"x"))), &[]);
    let old = f.image("a", "old", &["moved"]);
    f.image("a", "new", &["moved"]);
    assert_eq!(collect(&f, &NOW).manifests, 0);
    let wish = Wish { delete_untagged: true, ..NOW };
    let would = collect(&f, &Wish { dry_run: true, ..wish });
    let report = collect(&f, &wish);
    assert_eq!(would, report);
    assert_eq!((report.manifests, report.links), (2, 2));
    let there = |d: &Digest| f.store.manifest(&repo("a"), &TagOrDigest::Digest(*d)).is_ok();
    assert!(there(&child) && there(&parent) && there(&signature));
    assert!(!there(&about_nothing) && !there(&old));
    assert!(f.store.tag_target(&repo("a"), &tag("moved")).unwrap().is_some());
}

#[test]
fn a_manifest_that_only_another_program_understands_keeps_what_it_mentions() {
    let f = Fixture::new();
    let layer = f.blob("a", b"layer");
    let text = format!(r#"{{"schemaVersion":1,"fsLayers":[{{"blobSum":"{layer}"}}]}}"#);
    let digest = f.blob("a", text.as_bytes());
    let base = f.dir.path().join("docker/registry/v2/repositories/a");
    let revision = base.join("_manifests/revisions/sha256").join(digest.hex());
    std::fs::create_dir_all(&revision).unwrap();
    std::fs::write(revision.join("link"), digest.to_string()).unwrap();
    collect(&f, &NOW);
    assert!(has_bytes(&f, &layer) && has_bytes(&f, &digest));
}

#[test]
fn a_damaged_manifest_stops_the_collection_by_name() {
    let f = Fixture::new();
    let digest = f.image("a", "1", &["t"]);
    let hex = digest.hex();
    let path = f.dir.path().join("docker/registry/v2/blobs/sha256").join(&hex[..2]).join(&hex);
    std::fs::write(path.join("data"), "{}").unwrap();
    let error = f.store.collect(&NOW, &mut |_| {}).unwrap_err();
    assert!(matches!(error, StoreError::Damaged(d) if d == digest));
    f.store.delete_manifest(&repo("a"), &digest).unwrap();
    collect(&f, &NOW);
}

#[test]
fn pushes_beside_a_running_collection_lose_nothing() {
    let f = Fixture::new();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (f, stop) = (&f, &stop);
        scope.spawn(move || {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                collect(f, &Wish { delete_untagged: true, ..NOW });
            }
        });
        let pushers: Vec<_> = (0..3)
            .map(|n| {
                scope.spawn(move || {
                    for round in 0..6 {
                        push_until_it_is_there(f, &format!("r{n}"), &format!("{}", round % 4));
                    }
                })
            })
            .collect();
        let pushed: Vec<_> = pushers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        pushed.into_iter().for_each(Result::unwrap);
    });
    for n in 0..3 {
        assert_whole(&f, &format!("r{n}"));
    }
    assert_eq!(f.store.open_uploads(), 0);
}

// With no minimum age a collection may take a blob between its push and its manifest's: then the
// manifest is refused, and the client pushes again. What was accepted is whole.
fn push_until_it_is_there(f: &Fixture, name: &str, seed: &str) {
    loop {
        let config = f.blob(name, format!("config {seed}").as_bytes());
        let layer = f.blob(name, b"common layer");
        match f.try_manifest(name, &image(&config, &[layer], None), &["t"], Condition::None) {
            Ok(_) => return,
            Err(StoreError::ManifestBlobsUnknown(_)) => {}
            Err(other) => panic!("{other}"),
        }
        assert_whole(f, name);
    }
}

fn assert_whole(f: &Fixture, name: &str) {
    let Ok(stored) = f.store.manifest(&repo(name), &TagOrDigest::Tag(tag("t"))) else { return };
    let bytes = f.store.manifest_bytes(&stored.digest).unwrap();
    let manifest = registry_server::manifest::Manifest::parse(&stored.media_type, &bytes).unwrap();
    for blob in manifest.blobs() {
        f.store.blob(&repo(name), blob).unwrap();
    }
}
