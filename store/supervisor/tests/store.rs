//! The store's rules, on a state in a temporary folder: resuming, sharing, joining, collecting.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::sync::Arc;

use oci::{Descriptor, Digest};
use supervisor::content::Writer;
use supervisor::images::Image;
use supervisor::labels::Labels;
use supervisor::leases::{Guard, Resource};
use supervisor::snapshots::{Kind, Place, Snapshotter};
use supervisor::{Config, Context, Error, State, gc};

struct Store {
    dir: tempfile::TempDir,
    state: Arc<State>,
}

fn open(dir: &std::path::Path) -> Arc<State> {
    let config = Config {
        root: dir.join("root"),
        state: dir.join("state"),
        address: dir.join("c.sock"),
        ..Config::default()
    };
    Arc::new(State::open(&config).unwrap())
}

fn store() -> Store {
    let dir = tempfile::tempdir().unwrap();
    let state = open(dir.path());
    Store { dir, state }
}

impl Store {
    fn reopen(self) -> Self {
        let Self { dir, state } = self;
        drop(state);
        let state = open(dir.path());
        Self { dir, state }
    }
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn place(context: &Context) -> Place<'_> {
    Place::new(context, Snapshotter::Overlayfs)
}

#[test]
fn a_download_resumes_where_it_stood_also_after_a_restart() {
    let store = store();
    let context = Context::new("n");
    let data = vec![7u8; 300_000];
    let digest = Digest::sha256(&data);
    let mut writer = Writer::open(&store.state, &context, "r", 300_000, Some(digest)).unwrap();
    writer.write(&data[..100_000]).unwrap();
    // One writer at a time.
    let second = Writer::open(&store.state, &context, "r", 0, None);
    assert!(matches!(second, Err(Error::Unavailable(_))));
    drop(writer);
    let store = store.reopen();
    assert_eq!(store.state.ingest(&context, "r").unwrap().offset, 100_000);
    let mut writer = Writer::open(&store.state, &context, "r", 300_000, Some(digest)).unwrap();
    assert_eq!(writer.status().offset, 100_000);
    writer.write(&data[100_000..]).unwrap();
    assert_eq!(writer.commit(300_000, None, Labels::new()).unwrap(), digest);
    assert!(matches!(store.state.ingest(&context, "r"), Err(Error::NotFound(_))));
    assert_eq!(store.state.content_bytes(&context, &digest, 1 << 20).unwrap(), data);
    let again = Writer::open(&store.state, &context, "r2", 0, Some(digest));
    assert!(matches!(again, Err(Error::AlreadyExists(_))));
}

#[test]
fn a_wrong_digest_or_size_makes_no_blob_and_keeps_the_ingest() {
    let store = store();
    let context = Context::new("n");
    let mut writer = Writer::open(&store.state, &context, "r", 0, None).unwrap();
    writer.write(b"hello").unwrap();
    let wrong = writer.commit(5, Some(Digest::sha256(b"other")), Labels::new());
    assert!(matches!(wrong, Err(Error::FailedPrecondition(_))));
    let writer = Writer::open(&store.state, &context, "r", 0, None).unwrap();
    assert!(matches!(writer.commit(4, None, Labels::new()), Err(Error::FailedPrecondition(_))));
    assert!(store.state.contents(&context).unwrap().is_empty());
    assert_eq!(store.state.ingest(&context, "r").unwrap().offset, 5);
    store.state.ingest_abort(&context, "r").unwrap();
    assert!(store.state.ingests(&context).unwrap().is_empty());
}

#[tokio::test]
async fn a_blob_is_on_disk_once_and_goes_with_its_last_namespace() {
    let store = store();
    let (a, b) = (Context::new("a"), Context::new("b"));
    let digest = store.state.content_put(&a, b"shared", Labels::new()).unwrap();
    assert!(matches!(store.state.content_info(&b, &digest), Err(Error::NotFound(_))));
    // The bytes are there: an ingest that names the digest is complete at once.
    let writer = Writer::open(&store.state, &b, "r", 6, Some(digest)).unwrap();
    assert_eq!(writer.status().offset, 6);
    writer.commit(6, None, labels(&[("containerd.io/gc.root", "x")])).unwrap();
    store.state.content_delete(&a, &digest).unwrap();
    gc::collect(&store.state).await.unwrap();
    assert_eq!(store.state.content_bytes(&b, &digest, 10).unwrap(), b"shared");
    store.state.content_delete(&b, &digest).unwrap();
    gc::collect(&store.state).await.unwrap();
    assert!(!store.state.blob_path(&digest).exists());
}

#[tokio::test]
async fn collection_keeps_what_images_leases_and_containers_reach_and_nothing_else() {
    let store = store();
    let state = &store.state;
    let context = Context::new("n");
    let layer = state.content_put(&context, b"layer", Labels::new()).unwrap();
    let by_label = labels(&[("containerd.io/gc.ref.content.l.0", &layer.to_string())]);
    let manifest = state.content_put(&context, b"manifest", by_label).unwrap();
    let target = Descriptor::new(oci::media_type::OCI_MANIFEST, manifest, 8);
    state.create_image(&context, "img", Image::new(target)).unwrap();
    let stray = state.content_put(&context, b"stray", Labels::new()).unwrap();
    let guard = Guard::new(state, &context).unwrap();
    let leased = state.content_put(guard.context(), b"leased", Labels::new()).unwrap();
    state.prepare(&place(&context), Kind::Active, "loose", "", Labels::new()).unwrap();
    state.prepare(&place(guard.context()), Kind::Active, "l", "", Labels::new()).unwrap();
    state.commit_snapshot(&place(guard.context()), "base", "l", "", Labels::new()).unwrap();
    state.prepare(&place(guard.context()), Kind::Active, "top", "base", Labels::new()).unwrap();

    gc::collect(state).await.unwrap();
    let has = |digest| state.content_info(&context, digest).is_ok();
    assert!(has(&layer) && has(&manifest) && has(&leased) && !has(&stray));
    assert!(!state.blob_path(&stray).exists());
    assert!(state.snapshot(&place(&context), "loose").is_err());
    assert!(state.snapshot(&place(&context), "top").is_ok());

    drop(guard);
    state.delete_image(&context, "img", None).unwrap();
    gc::collect(state).await.unwrap();
    assert!(state.contents(&context).unwrap().is_empty());
    assert!(state.snapshots(&place(&context)).unwrap().is_empty());
    assert!(state.leases(&context).unwrap().is_empty());
}

#[tokio::test]
async fn an_expired_lease_keeps_nothing_and_a_flat_one_only_what_it_names() {
    let store = store();
    let state = &store.state;
    let context = Context::new("n");
    let child = state.content_put(&context, b"child", Labels::new()).unwrap();
    let refers = labels(&[("containerd.io/gc.ref.content", &child.to_string())]);
    let parent = state.content_put(&context, b"parent", refers).unwrap();
    let other = state.content_put(&context, b"other", Labels::new()).unwrap();
    state.create_lease(&context, "flat", labels(&[("containerd.io/gc.flat", "x")])).unwrap();
    let resource = |digest: &Digest| Resource::new("content", digest.to_string());
    state.lease_add(&context, "flat", resource(&parent)).unwrap();
    let past = labels(&[("containerd.io/gc.expire", "2020-01-01T00:00:00Z")]);
    state.create_lease(&context, "past", past).unwrap();
    state.lease_add(&context, "past", resource(&other)).unwrap();
    gc::collect(state).await.unwrap();
    let has = |digest| state.content_info(&context, digest).is_ok();
    assert!(has(&parent) && !has(&child) && !has(&other));
    assert!(matches!(state.lease(&context, "past"), Err(Error::NotFound(_))));
}

#[test]
fn layers_unpacked_side_by_side_are_joined_at_commit() {
    let store = store();
    let state = &store.state;
    let context = Context::new("n");
    let place = place(&context);
    for (key, name, parent) in [("a1", "base", ""), ("a2", "top", "base")] {
        state.prepare(&place, Kind::Active, key, "", Labels::new()).unwrap();
        state.commit_snapshot(&place, name, key, parent, Labels::new()).unwrap();
    }
    assert_eq!(state.snapshot(&place, "top").unwrap().parent, "base");
    let mounts = state.prepare(&place, Kind::Active, "c", "top", Labels::new()).unwrap();
    let lower = mounts[0].options.iter().find(|o| o.starts_with("lowerdir=")).unwrap();
    assert_eq!(lower.matches(':').count(), 1, "{lower}");
    let removed = state.remove_snapshot(&place, "base");
    assert!(matches!(removed, Err(Error::FailedPrecondition(_))));
}

#[test]
fn an_orphan_folder_is_cleared_and_records_outlive_a_restart() {
    let store = store();
    let context = Context::new("n");
    store.state.prepare(&place(&context), Kind::Active, "a", "", Labels::new()).unwrap();
    let orphan = store.dir.path().join("root/snapshots/77/fs");
    std::fs::create_dir_all(&orphan).unwrap();
    let store = store.reopen();
    assert!(!orphan.exists());
    let uuid = store.state.uuid.clone();
    assert_eq!(store.state.snapshot(&place(&context), "a").unwrap().kind, Kind::Active);
    // No number is given twice, not even an orphan's.
    store.state.prepare(&place(&context), Kind::Active, "b", "", Labels::new()).unwrap();
    assert!(store.state.snapshot(&place(&context), "b").unwrap().seq > 77);
    assert_eq!(store.reopen().state.uuid, uuid);
}

#[test]
fn a_native_snapshot_is_a_full_copy() {
    let store = store();
    let state = &store.state;
    let context = Context::new("n");
    let native = Place::new(&context, Snapshotter::Native);
    let mounts = state.prepare(&native, Kind::Active, "a", "", Labels::new()).unwrap();
    let root = std::path::Path::new(&mounts[0].source);
    std::fs::create_dir(root.join("d")).unwrap();
    std::fs::write(root.join("d/f"), "text").unwrap();
    std::fs::hard_link(root.join("d/f"), root.join("g")).unwrap();
    std::os::unix::fs::symlink("d/f", root.join("s")).unwrap();
    state.commit_snapshot(&native, "base", "a", "", Labels::new()).unwrap();
    let mounts = state.prepare(&native, Kind::Active, "b", "base", Labels::new()).unwrap();
    let copy = std::path::Path::new(&mounts[0].source);
    assert_eq!(std::fs::read_to_string(copy.join("s")).unwrap(), "text");
    let meta = std::fs::metadata(copy.join("g")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::nlink(&meta), 2);
    std::fs::write(copy.join("d/f"), "other").unwrap();
    assert_eq!(std::fs::read_to_string(root.join("d/f")).unwrap(), "text");
}

#[test]
fn layers_of_an_earlier_boot_that_were_not_synced_are_unpacked_again() {
    use containerd_api::types::transfer::{ImageReference, ImageStore, UnpackConfiguration};
    use supervisor::transfer::{Progress, import};
    if let Some(why) = lab::lacking(&[]) {
        println!(
            "SKIPPED: layers_of_an_earlier_boot_that_were_not_synced_are_unpacked_again: {why}"
        );
        return;
    }
    let mut store = store();
    let Ok(archive) = lab::busybox_archive(store.dir.path()) else {
        println!(
            "SKIPPED: layers_of_an_earlier_boot_that_were_not_synced_are_unpacked_again: needs busybox"
        );
        return;
    };
    let context = Context::new("n");
    let unpack = UnpackConfiguration { platform: None, snapshotter: "overlayfs".into() };
    let any =
        ImageReference { is_prefix: true, allow_overwrite: true, ..ImageReference::default() };
    let wish =
        ImageStore { unpacks: vec![unpack], extra_references: vec![any], ..Default::default() };
    let load = |state: &Arc<State>| {
        let file = std::fs::File::open(&archive).unwrap();
        import(state, &context, file, &wish, &Progress::default()).unwrap();
        let all = state.snapshots(&place(&context)).unwrap();
        let (name, layer) = all.into_iter().find(|(_, s)| s.kind == Kind::Committed).unwrap();
        (name, state.layer_path(&layer))
    };
    Arc::get_mut(&mut store.state).unwrap().boot_id = "an earlier boot".into();
    let (name, layer) = load(&store.state);
    assert!(layer.join("bin/busybox").is_file());
    let state = &store.state;
    state.prepare(&place(&context), Kind::Active, "c", &name, Labels::new()).unwrap();
    // What a power cut leaves of files that were never written back.
    std::fs::remove_dir_all(layer.join("bin")).unwrap();
    // A container's snapshot stays: what was synced of it is not to be lost with its image.
    let written = state.layer_path(&state.snapshot(&place(&context), "c").unwrap()).join("data");
    std::fs::write(&written, "kept").unwrap();
    // What never had a blob can't come back, nor what stands on it.
    state.prepare(&place(&context), Kind::Active, "x", "", Labels::new()).unwrap();
    state.commit_snapshot(&place(&context), "no-blob", "x", "", Labels::new()).unwrap();
    state.prepare(&place(&context), Kind::Active, "y", "no-blob", Labels::new()).unwrap();
    let store = store.reopen();
    assert!(matches!(store.state.snapshot(&place(&context), &name), Err(Error::NotFound(_))));
    assert!(!layer.exists());
    supervisor::transfer::restore(&store.state).unwrap();
    let again = store.state.snapshot(&place(&context), &name).unwrap();
    assert!(store.state.layer_path(&again).join("bin/busybox").is_file());
    let mounts = store.state.mounts(&place(&context), "c").unwrap();
    let lower = store.state.layer_path(&again).display().to_string();
    assert!(mounts[0].options.iter().any(|o| o.contains(&lower)));
    assert_eq!(std::fs::read_to_string(&written).unwrap(), "kept");
    assert!(store.state.snapshot(&place(&context), "y").is_err());
    assert_eq!(store.state.inconsistencies().unwrap(), Vec::<String>::new());
    // In the same boot the page cache stands: nothing is dropped.
    let store = store.reopen();
    assert!(store.state.snapshot(&place(&context), &name).is_ok());
}
