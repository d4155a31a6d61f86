//! Imports an image archive, unpacks it and says how long that took: `import_archive SOCKET FILE`.
//! Users never run this.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use containerd_api::types::transfer::{ImageReference, ImageStore, UnpackConfiguration};
use containerd_rpc::{Client, archive_stream};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().collect();
    let [_, socket, file] = words.as_slice() else {
        return Err("usage: import_archive SOCKET FILE".into());
    };
    let client = Client::new(Path::new(socket), "throughput")?;
    let unpack = UnpackConfiguration { platform: None, snapshotter: "overlayfs".into() };
    let any = ImageReference {
        name: "loaded".into(),
        is_prefix: true,
        allow_overwrite: true,
        ..ImageReference::default()
    };
    let store =
        ImageStore { unpacks: vec![unpack], extra_references: vec![any], ..ImageStore::default() };
    let mut source = tokio::fs::File::open(file).await?;
    let bytes = source.metadata().await?.len();
    let begin = Instant::now();
    archive_stream::import(&client, &mut source, &store, None).await?;
    let seconds = begin.elapsed().as_secs_f64();
    println!("{:.2} s, {:.0} MB/s", seconds, bytes as f64 / seconds / 1e6);
    Ok(())
}
