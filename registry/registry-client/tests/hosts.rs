//! Which server is asked, how it is reached, and whom it is trusted to be.

#![allow(clippy::unwrap_used, reason = "helpers of tests may")]

mod support;

use std::net::SocketAddr;
use std::path::Path;

use registry_client::{
    Asked, Client, Config, ConnectKind, Credentials, Error, Hosts, Proxies, Repository, Which,
};
use support::images::Image;
use support::proxy::Proxy;
use support::tls::{self, Authority, Pair, certs_folder};
use support::{Answer, Ending, Fake, client, config, nobody};

fn latest() -> Which {
    Which::Tag("latest".into())
}

/// A registry by TLS.
async fn secured(pair: &Pair, clients: Option<&str>) -> Fake {
    let image = Image::new();
    Fake::start_tls(tls::acceptor(pair, clients), move |seen| image.answer(seen)).await
}

/// `registry.test` by way of a proxy to `target`, with certificates below `root`.
async fn named(target: SocketAddr, root: &Path) -> (Proxy, Repository) {
    let proxy = Proxy::start(target, None).await;
    let proxies = Proxies::new("", &format!("http://{}", proxy.address), "").unwrap();
    let hosts = Hosts { folders: vec![root.into()], ..Hosts::default() };
    let client = Client::new(Config { hosts, proxies, ..config() });
    let reference = "registry.test/app".parse().unwrap();
    let repository = client.repository(&reference, Credentials::Anonymous);
    (proxy, repository)
}

async fn refusal(pair: &Pair, prepare: impl FnOnce(&Path)) -> String {
    let fake = secured(pair, None).await;
    let root = tempfile::tempdir().unwrap();
    prepare(root.path());
    let (_proxy, repository) = named(fake.address, root.path()).await;
    let error = repository.manifest(&latest()).await.unwrap_err();
    let Error::Connect { text, .. } = &error else { panic!("{error}") };
    text.clone()
}

#[tokio::test]
async fn a_registry_is_verified_against_its_own_authority() {
    let authority = Authority::new("ours");
    let pair = authority.issue("registry.test");
    let fake = secured(&pair, None).await;
    let root = tempfile::tempdir().unwrap();
    let (_proxy, unknown) = named(fake.address, root.path()).await;
    let error = unknown.manifest(&latest()).await.unwrap_err();
    assert!(matches!(error, Error::Connect { kind: ConnectKind::Certificate, .. }), "{error}");
    let reference = "registry.test/app".parse().unwrap();
    assert_eq!(
        error.told(Asked::Pull(&reference)).message,
        "Get \"https://registry.test/v2/\": tls: failed to verify certificate: x509: certificate \
         signed by unknown authority"
    );
    let folder = certs_folder(root.path(), "registry.test");
    std::fs::write(folder.join("ca.crt"), &authority.cert).unwrap();
    let (proxy, known) = named(fake.address, root.path()).await;
    known.manifest(&latest()).await.unwrap();
    assert!(proxy.heads()[0].starts_with("CONNECT registry.test:443 HTTP/1.1\r\n"));
}

#[tokio::test]
async fn a_server_certificate_may_itself_be_the_trusted_one() {
    let pair = tls::self_signed("registry.test");
    let fake = secured(&pair, None).await;
    let root = tempfile::tempdir().unwrap();
    let folder = certs_folder(root.path(), "registry.test");
    std::fs::write(folder.join("ca.crt"), &pair.cert).unwrap();
    let (_proxy, repository) = named(fake.address, root.path()).await;
    repository.manifest(&latest()).await.unwrap();
    // Another one is still not trusted, nor this one for another name or after its time.
    for (shown, text) in [
        (tls::self_signed("registry.test"), "x509: certificate signed by unknown authority"),
        (
            tls::self_signed("other.test"),
            "x509: certificate is valid for other.test, not registry.test",
        ),
        (
            tls::self_signed("10.0.0.1"),
            "x509: certificate is not valid for any names, but wanted to match registry.test",
        ),
        (tls::expired("registry.test"), "x509: certificate has expired or is not yet valid"),
    ] {
        let expired = shown.clone();
        let trusted = if text.contains("expired") { expired.cert } else { pair.cert.clone() };
        let told = refusal(&shown, |root| {
            std::fs::write(certs_folder(root, "registry.test").join("ca.crt"), trusted).unwrap();
        })
        .await;
        assert!(told.starts_with(&format!("tls: failed to verify certificate: {text}")), "{told}");
    }
}

#[tokio::test]
async fn a_client_certificate_is_shown_to_the_registry_and_to_nobody_else() {
    let authority = Authority::new("ours");
    let pair = authority.issue("registry.test");
    let fake = secured(&pair, Some(&authority.cert)).await;
    let root = tempfile::tempdir().unwrap();
    let folder = certs_folder(root.path(), "registry.test");
    std::fs::write(folder.join("ca.crt"), &authority.cert).unwrap();
    let (_proxy, without) = named(fake.address, root.path()).await;
    let error = without.manifest(&latest()).await.unwrap_err();
    assert!(error.to_string().contains("remote error: tls: certificate required"), "{error}");
    // Two to choose from: the one whose issuer the server names is taken.
    Authority::new("others").issue("u").write(&folder.join("a.cert"), &folder.join("a.key"));
    authority.issue("user").write(&folder.join("b.cert"), &folder.join("b.key"));
    let (_proxy, with) = named(fake.address, root.path()).await;
    with.manifest(&latest()).await.unwrap();
    // Where it redirects to, the certificate is not shown.
    let away =
        Fake::start_tls(tls::acceptor(&pair, Some(&authority.cert)), |_| Answer::new(200)).await;
    let home = Fake::start_tls(tls::acceptor(&pair, Some(&authority.cert)), |seen| {
        match seen.path.as_str() {
            "/v2/" => Answer::new(200).json("{}"),
            _ => Answer::new(307).with("location", "https://cdn.test/x"),
        }
    })
    .await;
    // One proxy leads all names to one place, so the redirect comes home, but unknown.
    let (_proxy, redirected) = named(home.address, root.path()).await;
    let error = redirected.manifest(&latest()).await.unwrap_err();
    let shown = error.to_string();
    assert!(shown.contains("certificate required") || shown.contains("not cdn.test"), "{shown}");
    assert!(away.seen().is_empty());
}

#[tokio::test]
async fn certificates_that_can_not_be_used_are_named() {
    let root = tempfile::tempdir().unwrap();
    let folder = certs_folder(root.path(), "registry.test");
    std::fs::write(folder.join("ca.crt"), "no certificate").unwrap();
    let (_proxy, repository) = named(nobody(), root.path()).await;
    // It matters only once something listens.
    let fake = secured(&tls::self_signed("registry.test"), None).await;
    let (_other, reachable) = named(fake.address, root.path()).await;
    assert!(repository.manifest(&latest()).await.is_err());
    let error = reachable.manifest(&latest()).await.unwrap_err();
    assert!(matches!(error, Error::Connect { kind: ConnectKind::Configuration, .. }), "{error}");
    assert!(error.to_string().ends_with("ca.crt: holds no PEM certificate"), "{error}");
    std::fs::remove_file(folder.join("ca.crt")).unwrap();
    std::fs::write(folder.join("c.cert"), "x").unwrap();
    let (_proxy, lacking) = named(fake.address, root.path()).await;
    let error = lacking.manifest(&latest()).await.unwrap_err();
    assert!(matches!(error, Error::Config(_)), "{error}");
    assert!(error.to_string().starts_with("missing key c.key for client certificate c.cert"));
}

#[tokio::test]
async fn plain_http_where_tls_is_expected_is_told_as_such() {
    let image = Image::new();
    let fake = Fake::start(move |seen| image.answer(seen)).await;
    // The scripted registry closes on a handshake; a real one answers in plain HTTP.
    let root = tempfile::tempdir().unwrap();
    let (_proxy, repository) = named(fake.address, root.path()).await;
    let error = repository.manifest(&latest()).await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error}");
    for (said, text) in [
        ("HTTP/1.0 400 Bad Request\r\n\r\n", "http: server gave HTTP response to HTTPS client"),
        ("SSH-2.0-OpenSSH", "tls: first record does not look like a TLS handshake"),
    ] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let (mut stream, _) = listener.accept().await.unwrap();
            assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
            stream.write_all(said.as_bytes()).await.unwrap();
            // Until the client hangs up.
            while stream.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {}
        });
        let (_proxy, repository) = named(address, root.path()).await;
        let error = repository.manifest(&latest()).await.unwrap_err();
        assert!(error.to_string().ends_with(text), "{error}");
        assert!(matches!(error, Error::Connect { kind: ConnectKind::PlainHttp, .. }));
    }
}

#[tokio::test]
async fn an_insecure_registry_is_reached_by_unverified_tls_or_else_by_http() {
    let pair = tls::self_signed("somebody.else");
    let tls = secured(&pair, None).await;
    let image = Image::new();
    let plain = Fake::start(move |seen| image.answer(seen)).await;
    for fake in [&tls, &plain] {
        let reference = format!("{}/app", fake.host()).parse().unwrap();
        let repository = client().repository(&reference, Credentials::Anonymous);
        repository.manifest(&latest()).await.unwrap();
    }
}

/// A client whose docker.io is mirrored by `mirrors`.
fn mirrored(mirrors: &[String]) -> Repository {
    let hosts = Hosts {
        mirrors: mirrors.iter().map(|mirror| mirror.parse().unwrap()).collect(),
        ..Hosts::default()
    };
    let client = Client::new(Config { hosts, ..config() });
    client.repository(&"ubuntu:latest".parse().unwrap(), Credentials::Anonymous)
}

#[tokio::test]
async fn a_mirror_is_asked_first_and_passed_over_when_it_fails() {
    let image = Image::new();
    let good = Fake::start(move |seen| image.answer(seen)).await;
    let lacks = Fake::start(|seen| match seen.path.as_str() {
        "/v2/" => Answer::new(200).json("{}"),
        _ => Answer::error(404, "MANIFEST_UNKNOWN", "manifest unknown"),
    })
    .await;
    let dead = format!("http://{}", nobody());
    let repository = mirrored(&[dead, lacks.url(""), good.url("/hub")]);
    repository.manifest(&latest()).await.unwrap();
    assert_eq!(lacks.lines(), ["GET /v2/library/ubuntu/manifests/latest"]);
    let asked: Vec<String> = good.seen().iter().map(support::Seen::line).collect();
    assert_eq!(asked, ["GET /hub/v2/", "GET /hub/v2/library/ubuntu/manifests/latest"]);
    // What could not be reached is not tried again before the others.
    repository.blob_bytes(&Image::new().layer_descriptor(), 1000).await.unwrap();
    assert_eq!(good.seen().len(), 3);
}

#[tokio::test]
async fn hosts_of_a_file_are_used_for_what_they_can_do() {
    let image = Image::new();
    let mirror = Fake::start(move |seen| image.answer(seen)).await;
    let store = support::store::Store::shared();
    let inner = store.clone();
    let server = Fake::start(move |seen| {
        let path = seen.path.replace("/root/", "/v2/");
        inner.lock().unwrap().answer(&support::Seen { path, ..seen.clone() })
    })
    .await;
    let root = tempfile::tempdir().unwrap();
    let folder = certs_folder(root.path(), "registry.test_5000_");
    let text = format!(
        "server = \"{}\"\noverride_path = true\n[host.\"{}\"]\ncapabilities = [\"pull\", \
         \"resolve\"]\n[host.\"{}\".header]\nx-key = \"k\"\n",
        server.url("/root"),
        mirror.url(""),
        mirror.url("")
    );
    std::fs::write(folder.join("hosts.toml"), text).unwrap();
    let hosts = Hosts { folders: vec![root.path().into()], ..Hosts::default() };
    let client = Client::new(Config { hosts, ..config() });
    let reference = "registry.test:5000/app".parse().unwrap();
    let repository = client.repository(&reference, Credentials::Anonymous);
    repository.manifest(&latest()).await.unwrap();
    let asked = mirror.seen().pop().unwrap();
    assert_eq!(asked.path, "/v2/app/manifests/latest?ns=registry.test%3A5000");
    assert_eq!(asked.header("x-key"), Some("k"));
    let bytes = Image::new().manifest;
    let kind = oci::media_type::DOCKER_MANIFEST;
    repository.push_manifest(&latest(), kind, bytes).await.unwrap();
    assert_eq!(
        server.seen().pop().unwrap().line(),
        "PUT /root/app/manifests/latest?ns=registry.test%3A5000"
    );
}

#[tokio::test]
async fn nobody_who_may_do_it_is_an_error_that_says_so() {
    let root = tempfile::tempdir().unwrap();
    let folder = certs_folder(root.path(), "registry.test");
    std::fs::write(folder.join("hosts.toml"), "capabilities = [\"pull\"]\n").unwrap();
    let hosts = Hosts { folders: vec![root.path().into()], ..Hosts::default() };
    let client = Client::new(Config { hosts, ..config() });
    let reference = "registry.test/app".parse().unwrap();
    let repository = client.repository(&reference, Credentials::Anonymous);
    let error = repository.manifest(&latest()).await.unwrap_err();
    assert_eq!(error.to_string(), "no registry host of registry.test is configured to resolve");
}

#[tokio::test]
async fn proxies_are_asked_with_their_password() {
    let image = Image::new();
    let fake = Fake::start(move |seen| image.answer(seen)).await;
    let secured = secured(&tls::self_signed("registry.test"), None).await;
    for (target, scheme) in [(fake.address, "http"), (secured.address, "https")] {
        let proxy = Proxy::start(target, Some("proxy-authorization: Basic dTpw")).await;
        let root = tempfile::tempdir().unwrap();
        let folder = certs_folder(root.path(), "registry.test");
        let text = format!("server = \"{scheme}://registry.test\"\nskip_verify = true\n");
        // http with a word on TLS would be tried by https first.
        let text = if scheme == "http" { text.replace("skip_verify = true\n", "") } else { text };
        std::fs::write(folder.join("hosts.toml"), text).unwrap();
        for (user, works) in [("u:p@", true), ("u:x@", false)] {
            let address = format!("http://{user}{}", proxy.address);
            let proxies = Proxies::new(&address, &address, "").unwrap();
            let hosts = Hosts { folders: vec![root.path().into()], ..Hosts::default() };
            let client = Client::new(Config { hosts, proxies, ..config() });
            let reference = "registry.test/app".parse().unwrap();
            let repository = client.repository(&reference, Credentials::Anonymous);
            let result = repository.manifest(&latest()).await;
            assert_eq!(result.is_ok(), works, "{scheme} {user} {result:?}");
            if let (Err(error), "https") = (result, scheme) {
                assert!(error.to_string().ends_with("Proxy Authentication Required"), "{error}");
            }
        }
    }
}

#[tokio::test]
async fn a_proxy_that_is_not_there_is_told_as_such() {
    let address = nobody();
    let proxies = Proxies::new("", &format!("http://{address}"), "").unwrap();
    let client = Client::new(Config { proxies, ..config() });
    let reference = "registry.test/app".parse().unwrap();
    let error = client.repository(&reference, Credentials::Anonymous).manifest(&latest()).await;
    let error = error.unwrap_err().to_string();
    let expected = format!("proxyconnect tcp: dial tcp {address}: connect: connection refused");
    assert!(error.ends_with(&expected), "{error}");
    // A registry that can't be searched has a long text, recorded from docker.
    let all = registry_client::SearchFilter::default();
    let found = client.search("registry.test/x", 0, &all, &Credentials::Anonymous, "").await;
    assert_eq!(
        found.unwrap_err().told(Asked::Search).message,
        format!(
            "invalid registry endpoint https://registry.test/v1/: Get \"https://registry.test/v1/_ping\": \
             {expected}. If this private registry supports only HTTP or HTTPS with an unknown CA \
             certificate, please add `--insecure-registry registry.test` to the daemon's arguments. \
             In the case of HTTPS, if you have access to the registry's CA certificate, no need for \
             the flag; simply place the CA certificate at /etc/docker/certs.d/registry.test/ca.crt"
        )
    );
}

#[tokio::test]
async fn secrets_are_not_sent_to_an_unprotected_token_server() {
    let realm = Fake::start(|_| Answer::new(200).json(r#"{"token":"T"}"#)).await;
    let url = realm.url("/token");
    let pair = tls::self_signed("registry.test");
    let fake = Fake::start_tls(tls::acceptor(&pair, None), move |_| {
        Answer::new(401).with("www-authenticate", format!("Bearer realm=\"{url}\"")).json("{}")
    })
    .await;
    let root = tempfile::tempdir().unwrap();
    let folder = certs_folder(root.path(), "registry.test");
    std::fs::write(folder.join("ca.crt"), &pair.cert).unwrap();
    let proxy = Proxy::start(fake.address, None).await;
    let proxies = Proxies::new("", &format!("http://{}", proxy.address), "").unwrap();
    let hosts = Hosts { folders: vec![root.path().into()], ..Hosts::default() };
    let client = Client::new(Config { hosts, proxies, ..config() });
    let reference = "registry.test/app".parse().unwrap();
    let repository = client.repository(&reference, Credentials::of("user", "secret", "", ""));
    let error = repository.manifest(&latest()).await.unwrap_err().to_string();
    assert!(error.contains("it is not protected by TLS"), "{error}");
    assert!(realm.seen().is_empty());
}

#[tokio::test]
async fn a_broken_hosts_file_stops_the_pull() {
    let root = tempfile::tempdir().unwrap();
    let folder = certs_folder(root.path(), "registry.test");
    std::fs::write(folder.join("hosts.toml"), "server = [").unwrap();
    let hosts = Hosts { folders: vec![root.path().into()], ..Hosts::default() };
    let client = Client::new(Config { hosts, ..config() });
    let reference = "registry.test/app".parse().unwrap();
    let error = client.repository(&reference, Credentials::Anonymous).manifest(&latest()).await;
    assert!(matches!(error.unwrap_err(), Error::Config(_)));
}

#[tokio::test]
async fn lists_are_paged_and_stay_on_their_server() {
    let fake = Fake::start(|seen| match seen.path.as_str() {
        "/v2/app/tags/list?n=1000" => Answer::new(200)
            .with("link", "</v2/app/tags/list?last=b&n=2>; rel=\"next\"")
            .json(r#"{"tags":["a","b"]}"#),
        "/v2/app/tags/list?last=b&n=2" => Answer::new(200)
            .with("link", "<list?last=d>; rel=\"next\"")
            .json(r#"{"tags":["c","d"]}"#),
        "/v2/app/tags/list?last=d" => Answer::new(200).json(r#"{"tags":null}"#),
        "/v2/_catalog?n=1000" => Answer::new(200).json(r#"{"repositories":["app"]}"#),
        "/v2/" => Answer::new(200).json("{}"),
        _ => Answer::new(200)
            .with("link", "<http://elsewhere.test/v2/x>; rel=\"next\"")
            .json(r#"{"tags":["a"]}"#),
    })
    .await;
    let repository = support::repository(&fake);
    assert_eq!(repository.tags(None, 1000).await.unwrap(), ["a", "b", "c", "d"]);
    let catalog = client().catalog(&fake.host(), Credentials::Anonymous, 1000).await.unwrap();
    assert_eq!(catalog, ["app"]);
    let error = repository.tags(Some("x"), 5).await.unwrap_err().to_string();
    assert!(error.ends_with("the next page is elsewhere: http://elsewhere.test/v2/x"), "{error}");
}

#[tokio::test]
async fn a_list_without_end_is_cut_off() {
    let fake = Fake::start(|seen| match seen.path.as_str() {
        "/v2/" => Answer::new(200).json("{}"),
        path => {
            Answer::new(200).with("link", format!("<{path}>; rel=next")).json(r#"{"tags":["a"]}"#)
        }
    })
    .await;
    assert_eq!(support::repository(&fake).tags(None, 50).await.unwrap().len(), 50);
}

#[tokio::test]
async fn a_registry_that_stops_in_the_first_answer_is_given_up_in_time() {
    let fake = Fake::start(|_| Answer::new(200).ending(Ending::Silence)).await;
    let timeouts = registry_client::Timeouts {
        contact: std::time::Duration::from_millis(200),
        ..registry_client::Timeouts::default()
    };
    let client = Client::new(Config { timeouts, ..config() });
    let reference = format!("{}/app", fake.host()).parse().unwrap();
    let error = client.repository(&reference, Credentials::Anonymous).manifest(&latest()).await;
    let told = error.unwrap_err().told(Asked::Pull(&reference));
    assert_eq!(
        told.message,
        format!(
            "Get \"http://{}/v2/\": context deadline exceeded (Client.Timeout exceeded while \
             awaiting headers)",
            fake.host()
        )
    );
}
