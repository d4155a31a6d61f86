//! Images over a real containerd: load, name, save, import, remove, and the
//! index that follows what others do to the store.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests may")]

use std::io;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use containerd_rpc::Client;
use engine_api::filters::Filters;
use images::{Archive, ImageUse, Images, ImagesConfig, ImportRequest, ListOptions, RemoveOptions};
use lab::{Containerd, Scratch};

fn stock() -> Option<(Scratch, Containerd)> {
    if let Some(reason) = lab::lacking(&["containerd"]) {
        eprintln!("SKIPPED: {reason}");
        return None;
    }
    let scratch = Scratch::new("images").unwrap();
    let containerd = Containerd::stock(&scratch).unwrap();
    Some((scratch, containerd))
}

fn body(bytes: Vec<u8>) -> impl futures_util::Stream<Item = io::Result<Bytes>> + Send + 'static {
    futures_util::stream::iter([Ok(Bytes::from(bytes))])
}

async fn images(containerd: &Containerd) -> Images {
    let client = Client::new(containerd.socket(), "moby").unwrap();
    let images = Images::new(client, ImagesConfig::default());
    images.refresh().await.unwrap();
    images
}

fn file(path: &Path) -> Vec<u8> {
    let mut out = Vec::new();
    io::Read::read_to_end(&mut std::fs::File::open(path).unwrap(), &mut out).unwrap();
    out
}

#[tokio::test]
async fn a_loaded_image_is_named_listed_saved_and_removed() {
    let Some((scratch, containerd)) = stock() else { return };
    let images = images(&containerd).await;
    let archive = lab::busybox_archive(scratch.path()).unwrap();
    let loaded = images.load(body(file(&archive)), None).await.unwrap();
    let names: Vec<_> = loaded.iter().filter_map(|l| l.name.clone()).collect();
    assert_eq!(names, ["busybox:latest"]);
    let image = images.resolve("busybox").unwrap();
    assert!(image.size() > 100_000);

    images.tag("busybox", &oci::Reference::parse("x/y:z").unwrap()).await.unwrap();
    let listed = images.list(&ListOptions::default(), &[]).unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].repo_tags.as_ref().unwrap(), &["busybox:latest", "x/y:z"]);
    let filters = Filters::default().with("reference", "x/*");
    let options = ListOptions { filters, shared_size: true, ..ListOptions::default() };
    assert_eq!(images.list(&options, &[]).unwrap()[0].repo_tags.as_ref().unwrap(), &["x/y:z"]);

    let archive = images.save(&["busybox".into(), "x/y:z".into()], None).await.unwrap();
    let Archive::Pieces(mut parts) = archive else { panic!("containerd has no raw stream") };
    let mut saved = Vec::new();
    while let Some(part) = parts.recv().await {
        saved.extend_from_slice(&part.unwrap());
    }
    let using = ImageUse { image: image.id, container: "0123456789abcdef".into(), running: true };
    let hex = image.id.hex();
    let many = images.remove(&hex, RemoveOptions::default(), &[]).await.unwrap_err();
    assert!(many.to_string().ends_with("image is referenced in multiple repositories"), "{many}");
    let first = images.remove("x/y:z", RemoveOptions::default(), &[]).await.unwrap();
    assert_eq!(first.items[0].untagged, "x/y:z");
    assert!(first.deleted.is_empty());
    let used = images.remove("busybox", RemoveOptions::default(), &[using]).await.unwrap_err();
    let start = "conflict: unable to remove repository reference \"busybox\" (must force) - \
                 container 0123456789ab is using its referenced image ";
    assert!(used.to_string().starts_with(start), "{used}");
    let gone = images.remove("busybox", RemoveOptions::default(), &[]).await.unwrap();
    assert_eq!(gone.items.len(), 3, "{:?}", gone.items);
    assert_eq!(images.count(), 0);

    images.load(body(saved), None).await.unwrap();
    let again = images.resolve("x/y:z").unwrap();
    assert_eq!(again.id, image.id);
    assert_eq!(again.manifest.digest, image.manifest.digest);
}

#[tokio::test]
async fn the_built_in_image_loads_and_gives_a_snapshot() {
    let Some((_scratch, containerd)) = stock() else { return };
    let images = images(&containerd).await;
    let loaded = images.load(body(images::hello::archive().unwrap()), None).await.unwrap();
    assert_eq!(loaded[0].name.as_deref(), Some("hello-world:latest"));
    let image = images.resolve("hello-world").unwrap();
    let client = Client::new(containerd.socket(), "moby").unwrap();
    let request = containerd_api::services::leases::v1::CreateRequest {
        id: "c1".into(),
        ..Default::default()
    };
    client.leases().create(request).await.unwrap();
    let mounts = images.prepare("c1", &image, "c1").await.unwrap();
    assert_eq!(mounts[0].kind, "overlay");
}

#[tokio::test]
async fn a_tar_becomes_an_image_and_an_overwritten_name_leaves_it_dangling() {
    let Some((scratch, containerd)) = stock() else { return };
    let images = images(&containerd).await;
    let tar = |text: &str| {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, "f", text.as_bytes()).unwrap();
        builder.into_inner().unwrap()
    };
    let _ = &scratch;
    let request = || ImportRequest {
        reference: Some(oci::Reference::parse("imp:1").unwrap()),
        message: "hello".into(),
        config: oci::image::RunConfig { cmd: Some(vec!["sh".into()]), ..Default::default() },
        platform: None,
    };
    let one = images.import(body(tar("one")), request()).await.unwrap();
    let image = images.resolve("imp:1").unwrap();
    assert_eq!(image.id, one);
    assert_eq!(images.history(&image)[0].comment, "hello");
    let shown = images.inspect(&image);
    assert_eq!(shown.repo_tags, ["imp:1"]);
    assert_eq!(shown.root_fs.layers.unwrap().len(), 1);

    let two = images.import(body(tar("two")), request()).await.unwrap();
    assert_eq!(images.resolve("imp:1").unwrap().id, two);
    assert!(images.resolve(&one.to_string()).unwrap().is_dangling());
    let pruned = images.prune(&Filters::default(), &[]).await.unwrap();
    assert_eq!(pruned.deleted, [one]);
    let wrong = images.import(body(b"no tar at all".to_vec()), request()).await;
    assert!(wrong.is_err());
    assert_eq!(images.count(), 1);
}

#[tokio::test]
async fn what_others_do_to_the_store_shows_without_being_asked() {
    let Some((scratch, containerd)) = stock() else { return };
    let images = images(&containerd).await;
    let follower = tokio::spawn(images.clone().follow());
    let archive = lab::busybox_archive(scratch.path()).unwrap();
    let socket = containerd.socket().to_owned();
    let other = Images::new(Client::new(&socket, "moby").unwrap(), ImagesConfig::default());
    tokio::time::sleep(Duration::from_millis(200)).await;
    other.load(body(file(&archive)), None).await.unwrap();
    for _ in 0..100 {
        if images.resolve("busybox").is_ok() {
            follower.abort();
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the index did not follow");
}
