//! Image archives in and out, over ferry-containerd's raw stream and over the gRPC streams of a
//! stock containerd. Needs root and the peers.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::print_stdout)]

use containerd_api::services::images::v1::GetImageRequest;
use containerd_api::types::transfer::{ImageExportStream, ImageReference, ImageStore};
use containerd_rpc::{Client, Kind, RpcError, archive_stream};
use lab::{Containerd, Scratch, busybox_archive};

const NAME: &str = "docker.io/library/busybox:latest";

/// Imports, exports and imports again; returns the image's digest.
async fn round_trip(client: &Client, archive: &[u8]) -> String {
    let any = ImageReference {
        name: "loaded".into(),
        is_prefix: true,
        allow_overwrite: true,
        ..ImageReference::default()
    };
    let store = ImageStore { extra_references: vec![any], ..ImageStore::default() };
    archive_stream::import(client, &mut &*archive, &store, None).await.unwrap();
    let get = || async {
        let asked = GetImageRequest { name: NAME.into() };
        let image = client.images().get(asked).await.unwrap().into_inner().image;
        image.unwrap().target.unwrap().digest
    };
    let first = get().await;
    let mut out = Vec::new();
    let wanted = ImageStore { name: NAME.into(), ..ImageStore::default() };
    let how = ImageExportStream { all_platforms: true, ..ImageExportStream::default() };
    let size = archive_stream::export(client, &wanted, how, &mut out).await.unwrap();
    assert_eq!((size as usize, out.len() % 512), (out.len(), 0));
    archive_stream::import(client, &mut &*out, &store, None).await.unwrap();
    assert_eq!(get().await, first);
    first
}

#[tokio::test]
async fn an_archive_makes_the_same_image_over_the_raw_stream_and_over_grpc() {
    let test = "an_archive_makes_the_same_image_over_the_raw_stream_and_over_grpc";
    let unbuilt = lab::ours("ferry-containerd").is_none();
    let unbuilt = unbuilt.then(|| "needs ferry-containerd built".to_owned());
    if let Some(why) = lab::lacking(&["containerd"]).or(unbuilt) {
        println!("SKIPPED: {test}: {why}");
        return;
    }
    let (a, b) = (Scratch::new("stock").unwrap(), Scratch::new("ours").unwrap());
    let (stock, ours) = (Containerd::stock(&a).unwrap(), Containerd::ours(&b).unwrap());
    let archive = std::fs::read(busybox_archive(a.path()).unwrap()).unwrap();
    let (stock, ours) =
        (Client::new(stock.socket(), "t").unwrap(), Client::new(ours.socket(), "t").unwrap());
    assert!(archive_stream::raw_address(&ours).await.unwrap().is_some());
    assert!(archive_stream::raw_address(&stock).await.unwrap().is_none());
    assert_eq!(round_trip(&ours, &archive).await, round_trip(&stock, &archive).await);
    // What ends in the middle is refused, and no image gets a name from it.
    let half = &archive[..archive.len() / 2];
    let store = ImageStore { name: "half".into(), ..ImageStore::default() };
    for client in [&ours, &stock] {
        assert!(archive_stream::import(client, &mut &*half, &store, None).await.is_err());
        let got = client.images().get(GetImageRequest { name: "half".into() }).await;
        assert_eq!(RpcError::from(got.unwrap_err()).kind, Kind::NotFound);
    }
}
