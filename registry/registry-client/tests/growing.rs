//! Pushes of what is still being made: sent as it grows, and on from the file where that broke.

#![allow(clippy::unwrap_used, reason = "helpers of tests may")]

mod support;

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use registry_client::{Error, Grower, GrowingFile, PushOptions, Pushed};
use support::images::noise;
use support::store::{Shared, Store, holds, layer, methods, serve};
use support::{Answer, Fake, Seen, repository};

/// A file that is pushed while it is written.
struct Growing {
    source: Arc<GrowingFile>,
    file: std::fs::File,
    grower: Grower,
    written: u64,
}

impl Growing {
    fn new() -> Self {
        let file = tempfile::tempfile().unwrap();
        let (source, grower) = GrowingFile::new(file.try_clone().unwrap());
        Self { source: Arc::new(source), file, grower, written: 0 }
    }

    fn write(&mut self, part: &[u8]) {
        self.file.write_all(part).unwrap();
        self.written += part.len() as u64;
        self.grower.grew(self.written);
    }
}

/// Sees that a condition holds within a while.
async fn comes_true(mut holds: impl FnMut() -> bool) {
    for _ in 0..500 {
        if holds() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("it did not come true");
}

fn writes(fake: &Fake) -> Vec<String> {
    methods(fake).into_iter().filter(|method| method != "HEAD").collect()
}

#[tokio::test]
async fn a_blob_goes_up_while_it_grows() {
    let store = Store::shared();
    let fake = serve(&store).await;
    let content = noise((5 << 20) + 3);
    let mut growing = Growing::new();
    let (tell, made) = tokio::sync::oneshot::channel();
    let source = growing.source.clone();
    let repository = repository(&fake);
    let pushing = tokio::spawn(async move {
        repository.begin_upload().await?.push_growing(source, async { made.await.ok() }).await
    });
    for part in content.chunks(700_001) {
        growing.write(part);
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    comes_true(|| methods(&fake).contains(&"POST".to_owned())).await;
    tell.send(layer(&content).0).unwrap();
    growing.grower.end();
    assert_eq!(pushing.await.unwrap().unwrap(), Some(Pushed::Uploaded));
    assert!(holds(&store, &content));
    assert_eq!(writes(&fake), ["POST", "PATCH", "PUT"]);
    let seen = fake.seen();
    let patch = seen.iter().find(|seen| seen.method == "PATCH").unwrap();
    assert_eq!(patch.header("transfer-encoding"), Some("chunked"));
    assert_eq!(patch.header("content-range"), None);
}

#[tokio::test]
async fn a_blob_that_turns_out_to_be_there_is_not_sent_to_its_end() {
    let store = Store::shared();
    let fake = serve(&store).await;
    let content = noise(100_000);
    let repository = repository(&fake);
    let (descriptor, source) = layer(&content);
    repository.push_blob(&descriptor, source, &PushOptions::default()).await.unwrap();
    let mut growing = Growing::new();
    growing.write(&content[..5000]);
    // It is known what it is, and the rest does not come.
    let made = async move { Some(descriptor) };
    let upload = repository.begin_upload().await.unwrap();
    let pushed = upload.push_growing(growing.source.clone(), made).await.unwrap();
    assert_eq!(pushed, Some(Pushed::Existed));
    assert_eq!(methods(&fake).last().unwrap(), "DELETE");
    assert!(store.lock().unwrap().uploads.is_empty());
}

#[tokio::test]
async fn a_blob_that_is_given_up_leaves_no_upload() {
    let store = Store::shared();
    let fake = serve(&store).await;
    let mut growing = Growing::new();
    growing.write(&noise(100_000));
    let (source, writer) = (growing.source.clone(), growing);
    let made = async move {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        drop(writer);
        None
    };
    let upload = repository(&fake).begin_upload().await.unwrap();
    assert_eq!(upload.push_growing(source, made).await.unwrap(), None);
    assert_eq!(writes(&fake).last().unwrap(), "DELETE");
    let store = store.lock().unwrap();
    assert!(store.uploads.is_empty() && store.blobs.is_empty());
}

/// A store whose first `PATCH` is met by `meet`.
async fn meeting(
    store: &Shared,
    meet: impl Fn(&Seen, &Shared) -> Answer + Send + Sync + 'static,
) -> Fake {
    let (store, met) = (store.clone(), AtomicUsize::new(0));
    Fake::start(move |seen| match seen.method.as_str() {
        "PATCH" if met.fetch_add(1, Ordering::SeqCst) == 0 => meet(seen, &store),
        _ => store.lock().unwrap().answer(seen),
    })
    .await
}

/// Pushes a whole file as one that grew.
async fn push_grown(fake: &Fake, content: &Bytes) -> Result<Option<Pushed>, Error> {
    let mut growing = Growing::new();
    growing.write(content);
    growing.grower.end();
    let descriptor = layer(content).0;
    let upload = repository(fake).begin_upload().await?;
    upload.push_growing(growing.source, async move { Some(descriptor) }).await
}

#[tokio::test]
async fn a_growing_blob_goes_on_from_where_its_upload_broke() {
    for (status, then) in [
        // Nothing of it arrived.
        (500, &["POST", "PATCH", "GET", "PUT"][..]),
        // Too much for one request.
        (413, &["POST", "PATCH", "POST", "PUT"][..]),
    ] {
        let store = Store::shared();
        let fake = meeting(&store, move |_, _| Answer::new(status)).await;
        let content = noise(300_000);
        assert_eq!(push_grown(&fake, &content).await.unwrap(), Some(Pushed::Uploaded), "{status}");
        assert!(holds(&store, &content), "{status}");
        assert_eq!(writes(&fake), then, "{status}");
    }
    // A part of it arrived, and the answer says so.
    let store = Store::shared();
    let fake = meeting(&store, |seen, store| {
        let part = Seen { body: seen.body[..100_000].to_vec(), ..seen.clone() };
        store.lock().unwrap().answer(&part)
    })
    .await;
    let content = noise(300_000);
    assert_eq!(push_grown(&fake, &content).await.unwrap(), Some(Pushed::Uploaded));
    assert!(holds(&store, &content));
    let sent: Vec<usize> = fake.seen().iter().map(|seen| seen.body.len()).collect();
    assert!(sent.contains(&200_000), "{sent:?}");
}

#[tokio::test]
async fn a_refusal_does_not_wait_for_the_blob_to_be_made() {
    let store = Store::shared();
    let fake = meeting(&store, |_, _| Answer::error(403, "DENIED", "not yours")).await;
    let mut growing = Growing::new();
    growing.write(&noise(1000));
    let never = std::future::pending();
    growing.grower.end();
    let upload = repository(&fake).begin_upload().await.unwrap();
    let error = upload.push_growing(growing.source, never).await.unwrap_err();
    assert!(matches!(error, Error::Denied { .. }), "{error}");
}
