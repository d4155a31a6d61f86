//! What a client of Transfer may ask of a push beyond what containerd knows: compressed layers,
//! and foreign ones.

use crate::fake::{Act, Fake};
use crate::origin::{Layer, documents, put_blob, put_image, put_manifest, tar};
use archive::Compression;
use containerd_api::any::pack;
use containerd_api::services::transfer::v1 as api;
use containerd_api::services::transfer::v1::transfer_server::Transfer as _;
use containerd_api::transfer_types::{
    ImageStore, OciRegistry, RegistryResolver, UnpackConfiguration,
};
use lab::{Registry, RegistryKind, noise};
use oci::{Digest, media_type};
use serde_json::Value;
use std::sync::Arc;
use supervisor::streaming::Streams;
use supervisor::transfer::Service;
use supervisor::{Context, State};

/// A store and a registry, and what moves between them.
struct Way {
    registry: Registry,
    state: Arc<State>,
    service: Service,
    _folder: tempfile::TempDir,
}

impl Way {
    fn new() -> Self {
        let registry = Registry::start(RegistryKind::Ferry, &[]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let config = supervisor::Config {
            root: folder.path().join("root"),
            state: folder.path().join("state"),
            ..supervisor::Config::default()
        };
        let state = Arc::new(State::open(&config).unwrap());
        let service = Service { state: Arc::clone(&state), streams: Streams::default() };
        Self { registry, state, service, _folder: folder }
    }

    fn remote(&self, name: &str) -> prost_types::Any {
        remote(&format!("{}/{name}", self.registry.address()))
    }

    async fn pull(&self, name: &str, store: &ImageStore) {
        self.call(self.remote(name), pack(store)).await.unwrap();
    }

    async fn push(&self, store: &ImageStore, name: &str) {
        self.call(pack(store), self.remote(name)).await.unwrap();
    }

    async fn call(
        &self,
        source: prost_types::Any,
        destination: prost_types::Any,
    ) -> Result<(), tonic::Status> {
        let wish = api::TransferRequest {
            source: Some(source),
            destination: Some(destination),
            options: None,
        };
        let mut request = tonic::Request::new(wish);
        request.metadata_mut().insert("containerd-namespace", "n".parse().unwrap());
        self.service.transfer(request).await.map(drop)
    }

    /// The manifest that the registry has.
    fn manifest(&self, name: &str) -> (Digest, Value) {
        let kind = [("Accept", media_type::OCI_MANIFEST)];
        let target = format!("/v2/{name}/manifests/1");
        let reply = self.registry.send("GET", &target, &kind, b"").unwrap();
        assert_eq!(reply.status, 200);
        (Digest::sha256(&reply.body), reply.json())
    }

    fn has(&self, name: &str, blob: &[u8]) -> bool {
        let target = format!("/v2/{name}/blobs/{}", Digest::sha256(blob));
        self.registry.send("HEAD", &target, &[], b"").unwrap().status == 200
    }
}

fn remote(reference: &str) -> prost_types::Any {
    let resolver = RegistryResolver { default_scheme: "http".into(), ..Default::default() };
    pack(&OciRegistry { reference: reference.into(), resolver: Some(resolver) })
}

fn store(name: &str, labels: &[(&str, &str)]) -> ImageStore {
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    ImageStore { name: name.into(), labels: labels.collect(), ..ImageStore::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_layer_is_compressed_at_its_first_push_and_never_again() {
    let way = Way::new();
    let text = "text ".repeat(400_000).into_bytes();
    let plain = Layer::new(&tar(&[("text", &text)]), Compression::None);
    let from = put_image(&way.registry, "a", "1", std::slice::from_ref(&plain), "amd64");
    way.pull("a:1", &store("a:1", &[])).await;
    for (form, media) in [("gzip", "tar+gzip"), ("zstd", "tar+zstd")] {
        let wish = store("a:1", &[(containerd_api::PUSH_COMPRESSION_LABEL, form)]);
        for name in ["first", "second"] {
            way.push(&wish, &format!("{form}-{name}:1")).await;
        }
        let (first, manifest) = way.manifest(&format!("{form}-first"));
        assert_ne!(first, from.digest);
        assert_eq!(way.manifest(&format!("{form}-second")).0, first);
        let layer = &manifest["layers"][0];
        assert!(layer["mediaType"].as_str().unwrap().ends_with(media), "{layer}");
        assert!(layer["size"].as_u64().unwrap() < 200_000, "{layer}");
        // It is the same image for whoever pulls it.
        let mut other = store(&format!("{form}:1"), &[]);
        other.unpacks.push(UnpackConfiguration::default());
        way.pull(&format!("{form}-first:1"), &other).await;
    }
    // Without the label it goes as it is.
    way.push(&store("a:1", &[]), "plain:1").await;
    assert_eq!(way.manifest("plain").0, from.digest);
    assert_eq!(way.state.inconsistencies().unwrap(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_push_leaves_nothing_of_what_was_compressed_for_it() {
    let way = Way::new();
    let text: Vec<u8> = (0..2_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let plain = Layer::new(&tar(&[("text", &text)]), Compression::None);
    put_image(&way.registry, "a", "1", std::slice::from_ref(&plain), "amd64");
    way.pull("a:1", &store("a:1", &[])).await;
    let fake = Fake::start();
    fake.rule(|asked| {
        let refusal = r#"{"errors":[{"code":"DENIED","message":"not here"}]}"#;
        if asked.method == "POST" { Act::Say(403, Vec::new(), refusal.into()) } else { Act::Serve }
    });
    let wish = store("a:1", &[(containerd_api::PUSH_COMPRESSION_LABEL, "gzip")]);
    let to = remote(&format!("{}/a:1", fake.address));
    let refused = way.call(pack(&wish), to).await.unwrap_err();
    assert!(refused.message().contains("not here"), "{refused}");
    let context = Context::new("n");
    assert_eq!(way.state.ingests(&context).unwrap(), Vec::new());
    assert_eq!(way.state.inconsistencies().unwrap(), Vec::<String>::new());
    // And it is in nobody's way.
    way.push(&wish, "b:1").await;
    assert_ne!(way.manifest("b").1["layers"][0]["digest"], Digest::sha256(&plain.blob).to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_layer_is_pushed_only_for_who_asks() {
    let way = Way::new();
    let layer = Layer::gzip(&[("foreign", &noise(7, 9000))]);
    let (config, manifest) = documents(std::slice::from_ref(&layer), "amd64");
    let mut manifest: Value = serde_json::from_slice(&manifest).unwrap();
    manifest["layers"][0]["mediaType"] = media_type::OCI_LAYER_FOREIGN_GZIP.into();
    // The registry that the image comes from has it for once.
    let url = format!(
        "http://{}/v2/a/blobs/{}",
        way.registry.address(),
        manifest["layers"][0]["digest"].as_str().unwrap()
    );
    manifest["layers"][0]["urls"] = serde_json::json!([url]);
    put_blob(&way.registry, "a", &layer.blob);
    put_blob(&way.registry, "a", &config);
    let bytes = manifest.to_string().into_bytes();
    put_manifest(&way.registry, "a", "1", media_type::OCI_MANIFEST, &bytes);
    way.pull("a:1", &store("a:1", &[])).await;
    way.push(&store("a:1", &[]), "without:1").await;
    assert!(!way.has("without", &layer.blob));
    let wish = store("a:1", &[(containerd_api::PUSH_FOREIGN_LABEL, "true")]);
    way.push(&wish, "with:1").await;
    assert!(way.has("with", &layer.blob));
    assert_eq!(way.manifest("with").1, manifest);
}
