//! Which hosts a registry has, from folders as administrators lay them out.

use std::fs;

use super::*;

fn shown(hosts: &Hosts, domain: &str) -> Vec<String> {
    let show = |e: &Host| {
        let verify = if e.tls.skip_verify { " unverified" } else { "" };
        let whose = if e.upstream { "" } else { " mirror" };
        format!("{:?} {}{}{verify}{whose}", e.reach, e.authority, e.path)
    };
    hosts.of(domain).unwrap().iter().map(show).collect()
}

#[test]
fn docker_io_is_reached_through_its_mirrors_and_its_server() {
    let hosts = Hosts {
        mirrors: vec![
            "https://m.io/hub/".parse().unwrap(),
            "http://127.0.0.1:5000".parse().unwrap(),
        ],
        ..Hosts::default()
    };
    assert_eq!(
        shown(&hosts, "docker.io"),
        [
            "Only(Https) m.io/hub/v2 mirror",
            "Only(Http) 127.0.0.1:5000/v2 unverified mirror",
            "Only(Https) registry-1.docker.io/v2"
        ]
    );
    // Mirrors are docker.io's alone, and nobody pushes to them.
    assert_eq!(shown(&hosts, "192.0.2.1"), ["Only(Https) 192.0.2.1/v2"]);
    assert_eq!(hosts.upstream("docker.io").unwrap().authority, "registry-1.docker.io");
}

#[test]
fn insecure_registries_are_tried_by_https_then_http() {
    let insecure = Insecure::new(&["plain.test:5000", "10.0.0.0/8"]).unwrap();
    let hosts = Hosts { insecure, ..Hosts::default() };
    for (domain, expected) in [
        ("127.0.0.1:5000", "HttpsThenHttp 127.0.0.1:5000/v2 unverified"),
        ("[::1]:5000", "HttpsThenHttp [::1]:5000/v2 unverified"),
        ("10.1.2.3", "HttpsThenHttp 10.1.2.3/v2 unverified"),
        ("plain.test:5000", "HttpsThenHttp plain.test:5000/v2 unverified"),
        ("[2001:db8::1]:5000", "Only(Https) [2001:db8::1]:5000/v2"),
        ("192.0.2.1:5000", "Only(Https) 192.0.2.1:5000/v2"),
    ] {
        assert_eq!(shown(&hosts, domain), [expected]);
    }
    let plain = Hosts { default_scheme: Some(Scheme::Http), ..Hosts::default() };
    assert_eq!(shown(&plain, "192.0.2.1:5000"), ["Only(Http) 192.0.2.1:5000/v2"]);
}

#[test]
fn a_hosts_file_decides_by_any_name_of_its_folder() {
    let root = tempfile::tempdir().unwrap();
    let hosts = Hosts { folders: vec![root.path().into()], ..Hosts::default() };
    let write = |folder: &str, text: &str| {
        fs::create_dir_all(root.path().join(folder)).unwrap();
        fs::write(root.path().join(folder).join("hosts.toml"), text).unwrap();
    };
    write("_default", "[host.\"https://all.io\"]\ncapabilities = [\"pull\"]\n");
    assert_eq!(
        shown(&hosts, "192.0.2.1:5000"),
        ["Only(Https) all.io/v2 mirror", "Only(Https) 192.0.2.1:5000/v2"]
    );
    // Without `server` the registry itself comes last, with what stands at the top.
    write("127.0.0.1:5000", "capabilities = [\"pull\", \"resolve\"]\n");
    let found = hosts.of("127.0.0.1:5000").unwrap();
    assert_eq!(found.len(), 1);
    assert!(found[0].upstream && !found[0].capabilities.push);
    write("127.0.0.1_5000_", "server = \"http://other:1\"\n");
    assert_eq!(shown(&hosts, "127.0.0.1:5000"), ["Only(Http) other:1/v2"]);
    write("broken.io", "server = 1\n");
    let error = hosts.of("broken.io").unwrap_err().to_string();
    assert!(error.ends_with("broken.io/hosts.toml: `server` is not a string"), "{error}");
}

#[test]
fn docker_certificates_are_found_by_host_and_port() {
    let root = tempfile::tempdir().unwrap();
    let hosts = Hosts { folders: vec![root.path().into()], ..Hosts::default() };
    let folder = root.path().join("192.0.2.1:5000");
    fs::create_dir(&folder).unwrap();
    for name in ["ca.crt", "client.cert", "client.key", "notes.txt"] {
        fs::write(folder.join(name), "").unwrap();
    }
    let tls = hosts.upstream("192.0.2.1:5000").unwrap().tls;
    assert_eq!(tls.ca, [folder.join("ca.crt")]);
    assert_eq!(tls.client, [(folder.join("client.cert"), folder.join("client.key"))]);
    assert!(hosts.upstream("192.0.2.1").unwrap().tls.is_empty());
    fs::remove_file(folder.join("client.key")).unwrap();
    assert_eq!(
        hosts.upstream("192.0.2.1:5000").unwrap_err().to_string(),
        "missing key client.key for client certificate client.cert. CA certificates must use the \
         extension .crt"
    );
    fs::rename(folder.join("client.cert"), folder.join("client.key")).unwrap();
    assert_eq!(
        hosts.upstream("192.0.2.1:5000").unwrap_err().to_string(),
        "missing client certificate client.cert for key client.key"
    );
}

#[test]
fn what_is_written_means_the_same_hosts() {
    let (certificates, written) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let folder = certificates.path().join("docker.io");
    fs::create_dir(&folder).unwrap();
    for name in ["ca.crt", "client.cert", "client.key"] {
        fs::write(folder.join(name), "").unwrap();
    }
    let hosts = Hosts {
        mirrors: vec!["https://mirror.example/a\u{e9}".parse().unwrap()],
        insecure: Insecure::new(&["plain.example:5000"]).unwrap(),
        folders: vec![certificates.path().into()],
        default_scheme: None,
    };
    let read = Hosts {
        insecure: Insecure::none(),
        folders: vec![written.path().into()],
        ..Hosts::default()
    };
    for domain in ["docker.io", "plain.example:5000", "other.example", "127.0.0.1:5000"] {
        let meant = hosts.of(domain).unwrap();
        let folder = written.path().join(domain);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("hosts.toml"), hosts_file(&meant)).unwrap();
        let mut found = read.of(domain).unwrap();
        for host in &mut found {
            host.namespace = None;
        }
        assert_eq!(found, meant, "{domain}");
    }
}
