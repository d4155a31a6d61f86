//! Against a real registry: Debian's docker-registry, plain, by TLS, with passwords, with
//! tokens, and with a line between that breaks.

#![allow(clippy::unwrap_used, reason = "helpers of tests may")]

mod support;

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::StreamExt;
use oci::media_type::{DOCKER_CONFIG, DOCKER_MANIFEST, OCI_LAYER, OCI_MANIFEST};
use oci::{Descriptor, Digest};
use registry_client::{
    Blob, Client, Code, Config, Credentials, Error, FileBlob, GrowingFile, Hosts, PushOptions,
    Pushed, Repository, Which,
};
use support::cutter::Cutter;
use support::images::{Image, artifact, noise};
use support::jwt::Signer;
use support::registry::Registry;
use support::tls::{self, Authority, certs_folder};
use support::{Answer, Fake, Seen, client, config};

fn tag(name: &str) -> Which {
    Which::Tag(name.into())
}

fn repository(host: &str, name: &str) -> Repository {
    client().repository(&format!("{host}/{name}").parse().unwrap(), Credentials::Anonymous)
}

fn temporary(content: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    file
}

fn file(content: &[u8]) -> Arc<FileBlob> {
    Arc::new(FileBlob::new(temporary(content)))
}

async fn push(repository: &Repository, image: &Image, name: &str) -> Result<Digest, Error> {
    let options = PushOptions::default();
    let config = Descriptor::of(DOCKER_CONFIG, &image.config);
    repository.push_blob(&config, Arc::new(image.config.clone()), &options).await?;
    let layer = Descriptor::of(OCI_LAYER, &image.layer);
    repository.push_blob(&layer, file(&image.layer), &options).await?;
    repository.push_manifest(&tag(name), DOCKER_MANIFEST, image.manifest.clone()).await
}

async fn pull(repository: &Repository, image: &Image, name: &str) -> Result<(), Error> {
    let resolved = repository.resolve(&tag(name)).await?;
    assert_eq!(resolved.digest, image.digest());
    assert_eq!(resolved.size, image.manifest.len() as u64);
    let raw = repository.manifest(&Which::Digest(resolved.digest)).await?;
    assert_eq!(raw.bytes, image.manifest);
    assert_eq!(raw.descriptor.media_type, DOCKER_MANIFEST);
    let layer = repository.blob_bytes(&image.layer_descriptor(), 1 << 20).await?;
    assert_eq!(layer, image.layer);
    Ok(())
}

async fn whole(mut blob: Blob) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(chunk) = blob.next().await {
        all.extend_from_slice(&chunk.unwrap());
    }
    all
}

#[tokio::test]
async fn a_plain_registry_takes_and_gives_back_what_was_pushed() {
    let Some(registry) = Registry::start("docker_registry plain", |_| String::new()).await else {
        return;
    };
    let image = Image::new();
    let repository = repository(&registry.host(), "team/app");
    let error = repository.manifest(&tag("v1")).await.unwrap_err();
    assert!(error.answer().unwrap().has(Code::ManifestUnknown), "{error}");
    assert_eq!(push(&repository, &image, "v1").await.unwrap(), image.digest());
    push(&repository, &image, "v2").await.unwrap();
    pull(&repository, &image, "v1").await.unwrap();
    assert_eq!(repository.tags(None, 100).await.unwrap(), ["v1", "v2"]);
    assert_eq!(repository.tags(None, 1).await.unwrap(), ["v1"]);
    let catalog = client().catalog(&registry.host(), Credentials::Anonymous, 100).await.unwrap();
    assert_eq!(catalog, ["team/app"]);
    let layer = image.layer_descriptor();
    assert_eq!(repository.blob_size(&layer.digest).await.unwrap(), Some(layer.size));
    let missing = Descriptor::of(OCI_LAYER, b"missing");
    assert_eq!(repository.blob_size(&missing.digest).await.unwrap(), None);
    assert!(repository.blob(&missing, 0).await.err().unwrap().is_not_found());
    let tail = repository.blob(&layer, 20).await.unwrap();
    assert_eq!(tail.start(), 20);
    assert_eq!(whole(tail).await, &image.layer[20..]);
    repository.delete_manifest(&Which::Digest(image.digest())).await.unwrap();
    assert!(repository.manifest(&tag("v1")).await.unwrap_err().is_not_found());
    repository.delete_blob(&layer.digest).await.unwrap();
    assert_eq!(repository.blob_size(&layer.digest).await.unwrap(), None);
}

#[tokio::test]
async fn blobs_are_mounted_chunked_and_streamed() {
    let Some(registry) = Registry::start("docker_registry uploads", |_| String::new()).await else {
        return;
    };
    let content = noise(3 << 20);
    let descriptor = Descriptor::of(OCI_LAYER, &content);
    let source = file(&content);
    let base = repository(&registry.host(), "base");
    let options = PushOptions { chunk: Some(1 << 20), ..PushOptions::default() };
    let pushed = base.push_blob(&descriptor, source.clone(), &options).await.unwrap();
    assert_eq!(pushed, Pushed::Uploaded);
    let app = repository(&registry.host(), "app");
    let mount_from = vec!["nobody".to_owned(), "base".to_owned()];
    let options = PushOptions { mount_from, ..PushOptions::default() };
    let pushed = app.push_blob(&descriptor, source.clone(), &options).await.unwrap();
    // What the first candidate's 202 began is used; the second is not asked any more.
    assert_eq!(pushed, Pushed::Uploaded);
    let other = repository(&registry.host(), "other");
    let options = PushOptions { mount_from: vec!["base".into()], ..PushOptions::default() };
    let pushed = other.push_blob(&descriptor, source.clone(), &options).await.unwrap();
    assert_eq!(pushed, Pushed::Mounted("base".into()));
    assert!(whole(other.blob(&descriptor, 0).await.unwrap()).await == content);
    let streamed = noise(100_000);
    let (growing, grower) = GrowingFile::new(temporary(&streamed));
    let (tell, made) = tokio::sync::oneshot::channel();
    let of = Descriptor::of(OCI_LAYER, &streamed);
    let writing = async {
        grower.grew(50_000);
        tokio::time::sleep(Duration::from_millis(200)).await;
        grower.grew(100_000);
        grower.end();
        tell.send(of.clone()).unwrap();
    };
    let upload = other.begin_upload().await.unwrap();
    let pushing = upload.push_growing(Arc::new(growing), async { made.await.ok() });
    other.begin_upload().await.unwrap().cancel().await;
    let ((), pushed) = tokio::join!(writing, pushing);
    assert_eq!(pushed.unwrap(), Some(Pushed::Uploaded));
    assert!(whole(other.blob(&of, 0).await.unwrap()).await == streamed);
    let wrong = Descriptor::new(OCI_LAYER, Digest::sha256(b"wrong"), 5);
    let error = other.push_blob(&wrong, Arc::new(Bytes::from_static(b"right")), &options).await;
    assert!(error.unwrap_err().answer().unwrap().has(Code::DigestInvalid));
}

#[tokio::test]
async fn referrers_are_kept_under_a_tag_where_the_registry_knows_none() {
    let Some(registry) = Registry::start("docker_registry referrers", |_| String::new()).await
    else {
        return;
    };
    let image = Image::new();
    let repository = repository(&registry.host(), "app");
    push(&repository, &image, "v1").await.unwrap();
    let subject = Descriptor::of(DOCKER_MANIFEST, &image.manifest);
    let empty = Bytes::from_static(b"{}");
    let config = Descriptor::of("application/vnd.oci.empty.v1+json", &empty);
    repository.push_blob(&config, Arc::new(empty), &PushOptions::default()).await.unwrap();
    let bytes = artifact("application/sbom", &subject);
    let digest = Digest::sha256(&bytes);
    repository.push_manifest(&Which::Digest(digest), OCI_MANIFEST, bytes).await.unwrap();
    let found = repository.referrers(&image.digest(), Some("application/sbom")).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].digest, digest);
    let mut tags = repository.tags(None, 100).await.unwrap();
    tags.sort();
    assert_eq!(tags, [format!("sha256-{}", image.digest().hex()), "v1".to_owned()]);
    repository.delete_manifest(&Which::Digest(digest)).await.unwrap();
    assert!(repository.referrers(&image.digest(), None).await.unwrap().is_empty());
}

/// A client for `registry` by TLS with what `hosts.toml` says besides.
fn secured(registry: &Registry, root: &Path, more: &str) -> Client {
    let folder = certs_folder(root, &registry.host());
    let text = format!("server = \"https://{}\"\n{more}", registry.host());
    std::fs::write(folder.join("hosts.toml"), text).unwrap();
    let hosts = Hosts { folders: vec![root.into()], ..Hosts::default() };
    Client::new(Config { hosts, ..config() })
}

#[tokio::test]
async fn a_registry_by_tls_is_trusted_by_its_authority_and_wants_our_certificate() {
    let authority = Authority::new("ours");
    let root = tempfile::tempdir().unwrap();
    let files = root.path().join("files");
    std::fs::create_dir(&files).unwrap();
    let at = |name: &str| files.join(name);
    authority.issue("127.0.0.1").write(&at("s.crt"), &at("s.key"));
    authority.issue("user").write(&at("c.cert"), &at("c.key"));
    std::fs::write(at("ca.crt"), &authority.cert).unwrap();
    let more = |_: &Path| {
        format!(
            "http: {{addr: '127.0.0.1:0', tls: {{certificate: {0}/s.crt, key: {0}/s.key, clientcas: \
             [{0}/ca.crt]}}}}\n",
            files.display()
        )
    };
    let Some(registry) = Registry::start("docker_registry tls", more).await else { return };
    let ca = format!("ca = \"{}\"\n", at("ca.crt").display());
    let reference = format!("{}/app", registry.host()).parse().unwrap();
    let anonymous = Credentials::Anonymous;
    let stranger = secured(&registry, root.path(), &ca).repository(&reference, anonymous.clone());
    let error = stranger.manifest(&tag("v1")).await.unwrap_err().to_string();
    assert!(error.contains("remote error: tls: "), "{error}");
    let unknown = secured(&registry, root.path(), "").repository(&reference, anonymous.clone());
    let error = unknown.manifest(&tag("v1")).await.unwrap_err().to_string();
    assert!(error.ends_with("x509: certificate signed by unknown authority"), "{error}");
    let pair =
        format!("{ca}client = [[\"{}\", \"{}\"]]\n", at("c.cert").display(), at("c.key").display());
    let known = secured(&registry, root.path(), &pair).repository(&reference, anonymous);
    let image = Image::new();
    push(&known, &image, "v1").await.unwrap();
    pull(&known, &image, "v1").await.unwrap();
}

#[tokio::test]
#[allow(clippy::disallowed_methods)]
async fn a_registry_with_passwords_lets_in_who_knows_one() {
    let Ok(made) = std::process::Command::new("htpasswd").args(["-Bbn", "user", "secret"]).output()
    else {
        eprintln!("SKIPPED: docker_registry passwords: needs htpasswd (cargo xtask setup)");
        return;
    };
    let more = |folder: &Path| {
        let file = folder.join("htpasswd");
        std::fs::write(&file, made.stdout).unwrap();
        format!("auth: {{htpasswd: {{realm: r, path: {}}}}}\n", file.display())
    };
    let Some(registry) = Registry::start("docker_registry passwords", more).await else { return };
    let image = Image::new();
    let client = client();
    let reference = format!("{}/app", registry.host()).parse().unwrap();
    let user = Credentials::of("user", "secret", "", "");
    let wrong = Credentials::of("user", "wrong", "", "");
    assert!(client.login(&registry.host(), &user).await.unwrap().identity_token.is_none());
    let error = client.login(&registry.host(), &wrong).await.unwrap_err();
    assert!(matches!(error, Error::Login { status: 401, .. }), "{error}");
    let known = client.repository(&reference, user);
    push(&known, &image, "v1").await.unwrap();
    pull(&known, &image, "v1").await.unwrap();
    let error = pull(&client.repository(&reference, wrong), &image, "v1").await.unwrap_err();
    assert!(matches!(error, Error::Unauthorized { .. }), "{error}");
    let anonymous = client.repository(&reference, Credentials::Anonymous);
    let error = pull(&anonymous, &image, "v1").await.unwrap_err();
    assert!(matches!(error, Error::NoCredentials { .. }), "{error}");
}

/// A token server: who has the password may do anything, anybody else may pull.
fn tokens(signer: &Signer, seen: &Seen) -> Answer {
    let query = seen.path.split_once('?').map_or("", |(_, query)| query);
    let known = match seen.header("authorization") {
        None => false,
        Some("Basic dXNlcjpzZWNyZXQ=") => true,
        Some(_) => return Answer::new(401).json(r#"{"details":"incorrect username or password"}"#),
    };
    let scopes = query.split('&').filter_map(|pair| pair.strip_prefix("scope="));
    let access: Vec<serde_json::Value> = scopes
        .map(|scope| {
            let scope = scope
                .replace("%3A", ":")
                .replace("%2C", ",")
                .replace("%2F", "/")
                .replace("%2A", "*");
            let parts: Vec<&str> = scope.split(':').collect();
            let actions: Vec<&str> =
                parts[2].split(',').filter(|action| known || *action == "pull").collect();
            serde_json::json!({"type": parts[0], "name": parts[1], "actions": actions})
        })
        .collect();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let claims = serde_json::json!({
        "iss": "tokens.test", "sub": "user", "aud": "registry.test", "jti": "1",
        "iat": now - 10, "nbf": now - 10, "exp": now + 300, "access": access,
    });
    let token = signer.sign(&claims.to_string());
    Answer::new(200).json(format!(r#"{{"token":"{token}","expires_in":300}}"#))
}

#[tokio::test]
async fn a_registry_with_tokens_gives_each_what_is_theirs() {
    let signer = Signer::new();
    let cert = signer.cert.clone();
    let server = Fake::start(move |seen| tokens(&signer, seen)).await;
    let more = |folder: &Path| {
        let file = folder.join("tokens.crt");
        std::fs::write(&file, cert).unwrap();
        format!(
            "auth: {{token: {{realm: '{}', service: registry.test, issuer: tokens.test, \
             rootcertbundle: {}}}}}\n",
            server.url("/token"),
            file.display()
        )
    };
    let Some(registry) = Registry::start("docker_registry tokens", more).await else { return };
    let image = Image::new();
    let client = client();
    let at = |name: &str, credentials: Credentials| {
        client.repository(&format!("{}/{name}", registry.host()).parse().unwrap(), credentials)
    };
    let user = || Credentials::of("user", "secret", "", "");
    let owner = at("app", user());
    push(&owner, &image, "v1").await.unwrap();
    pull(&owner, &image, "v1").await.unwrap();
    let anybody = at("app", Credentials::Anonymous);
    pull(&anybody, &image, "v1").await.unwrap();
    let error = push(&anybody, &Image::new(), "v2").await.unwrap_err();
    assert!(matches!(error, Error::Denied { .. } | Error::Unauthorized { .. }), "{error}");
    let stranger = at("app", Credentials::of("user", "wrong", "", ""));
    let error = pull(&stranger, &image, "v1").await.unwrap_err();
    assert!(error.to_string().contains("incorrect username or password"), "{error}");
    // A mount needs the right to read at its source, in the same token.
    let other = at("other", user());
    let layer = image.layer_descriptor();
    let options = PushOptions { mount_from: vec!["app".into()], ..PushOptions::default() };
    let pushed = other.push_blob(&layer, Arc::new(image.layer.clone()), &options).await.unwrap();
    assert_eq!(pushed, Pushed::Mounted("app".into()));
    let catalog = client.catalog(&registry.host(), user(), 10).await.unwrap();
    assert_eq!(catalog, ["app", "other"]);
    owner.delete_manifest(&Which::Digest(image.digest())).await.unwrap();
    let login = client.login(&registry.host(), &user()).await.unwrap();
    assert_eq!(login.identity_token, None);
}

#[tokio::test]
async fn a_broken_line_costs_neither_a_pull_nor_a_push() {
    let Some(registry) = Registry::start("docker_registry breaks", |_| String::new()).await else {
        return;
    };
    let content = noise(12 << 20);
    let descriptor = Descriptor::of(OCI_LAYER, &content);
    let cutter = Cutter::start(registry.address, 3 << 20, 2).await;
    let broken = repository(&cutter.address.to_string(), "app");
    let pushed =
        broken.push_blob(&descriptor, file(&content), &PushOptions::default()).await.unwrap();
    assert_eq!(pushed, Pushed::Uploaded);
    assert_eq!(cutter.cuts(), 2);
    let direct = repository(&registry.host(), "app");
    assert!(whole(direct.blob(&descriptor, 0).await.unwrap()).await == content);
    let cutter = Cutter::start(registry.address, 3 << 20, 3).await;
    let broken = repository(&cutter.address.to_string(), "app");
    let blob = broken.blob(&descriptor, 0).await.unwrap();
    assert!(whole(blob).await == content);
    assert_eq!(cutter.cuts(), 3);
}

#[tokio::test]
async fn an_unprepared_server_name_is_refused_by_tls() {
    let pair = tls::self_signed("other.test");
    let more = |folder: &Path| {
        pair.write(&folder.join("s.crt"), &folder.join("s.key"));
        std::fs::write(folder.join("ca.crt"), &pair.cert).unwrap();
        let folder = folder.display();
        format!(
            "http: {{addr: '127.0.0.1:0', tls: {{certificate: {folder}/s.crt, key: {folder}/s.key}}}}\n"
        )
    };
    let Some(registry) = Registry::start("docker_registry name", more).await else { return };
    let root = tempfile::tempdir().unwrap();
    let ca = format!("ca = \"{}\"\n", registry.scratch.join("ca.crt").display());
    let reference = format!("{}/app", registry.host()).parse().unwrap();
    let client = secured(&registry, root.path(), &ca);
    let error = client.repository(&reference, Credentials::Anonymous).manifest(&tag("v1")).await;
    let error = error.unwrap_err().to_string();
    assert!(
        error.ends_with(
            "x509: cannot validate certificate for 127.0.0.1 because it doesn't contain any IP SANs"
        ),
        "{error}"
    );
}
