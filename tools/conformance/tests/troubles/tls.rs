//! Registries behind TLS with an authority of their own, known by `certs.d` or not: beside dockerd.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lab::{Engine, Kind, Registry, Scratch, wait_until};

use crate::post;

/// Where the registry is: not on loopback, since registries there need no certificate.
const ADDRESS: &str = "192.0.2.1";

/// An authority, and what it signed for a server and for a client.
struct Certificates(Scratch);

impl Certificates {
    fn make() -> Certificates {
        let made = Certificates(Scratch::new("certs").unwrap());
        // Nothing of the machine's own configuration.
        fs::write(made.file("config"), "[req]\ndistinguished_name = dn\n[dn]\n").unwrap();
        made.sign("ca", "-addext basicConstraints=critical,CA:TRUE");
        let by_ca = format!("-CA {} -CAkey {}", made.file("ca.crt"), made.file("ca.key"));
        made.sign("server", &format!("{by_ca} -addext subjectAltName=IP:{ADDRESS}"));
        made.sign("client", &format!("{by_ca} -addext extendedKeyUsage=clientAuth"));
        made
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    fn sign(&self, name: &str, more: &str) {
        let [key, cert] = ["key", "crt"].map(|end| self.file(&format!("{name}.{end}")));
        let config = self.file("config");
        let words = format!(
            "req -x509 -config {config} -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN={name} \
             {more} -keyout {key} -out {cert}"
        );
        lab::run("openssl", words.split_whitespace()).unwrap().success().unwrap();
    }
}

/// What the daemons know of a registry: a folder that goes with this value.
struct Known(PathBuf);

impl Known {
    fn new(registry: &str) -> Known {
        let known = Known(Path::new("/etc/docker/certs.d").join(registry));
        fs::create_dir_all(&known.0).unwrap();
        known
    }

    fn add(&self, certificates: &Certificates, from: &str, to: &str) {
        fs::copy(certificates.file(from), self.0.join(to)).unwrap();
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.0.join(name)).unwrap();
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
        // Those above, where nobody else needs them.
        self.0.ancestors().skip(1).take(2).all(|folder| fs::remove_dir(folder).is_ok());
    }
}

/// What an engine says of a registry that wants to see a client's certificate, by how much of it
/// is known.
fn said(kind: Kind, certificates: &Certificates) -> Vec<String> {
    let flags = ["--bridge=none", "--iptables=false", "--max-download-attempts=1"];
    let engine = Engine::start_empty(kind, &flags).unwrap();
    let netns = engine.netns().unwrap();
    netns.run("ip", &["addr", "add", &format!("{ADDRESS}/32"), "dev", "lo"]).unwrap();
    let enter = netns.enter();
    let enter: Vec<&str> = enter.iter().map(String::as_str).collect();
    let flag = |name: &str, file: &str| format!("--{name}={}", certificates.file(file));
    let flags = [
        format!("--listen={ADDRESS}:0"),
        flag("tlscert", "server.crt"),
        flag("tlskey", "server.key"),
        flag("tlscacert", "ca.crt"),
        "--tlsverify".to_owned(),
    ];
    let flags = flags.each_ref().map(String::as_str);
    let registry =
        Registry::start_below(&enter, &flags, Scratch::new("registry").unwrap()).unwrap();
    // It listens on loopback too, and may have said only that.
    let mut at = None;
    wait_until("the address in its log", Duration::from_secs(20), || {
        let log = registry.log();
        let mut words = log.split([' ', '"', '=']);
        at = words.find(|w| w.starts_with(&format!("{ADDRESS}:"))).map(|w| w.trim().to_owned());
        at.is_some()
    })
    .unwrap();
    let at = at.unwrap();
    let docker = |words: &[&str]| engine.stock_cli(words).unwrap().success().unwrap();
    let archive = lab::layered_archive(engine.scratch().path(), 2, 50_000).unwrap();
    docker(&["load", "-qi", archive.to_str().unwrap()]);
    docker(&["tag", "layered:1", &format!("{at}/x:1")]);
    let mut said = Vec::new();
    let mut ask = |what: &str| {
        for target in ["/images/REG/x/push?tag=1", "/images/create?fromImage=REG/x:1"] {
            let told = post(&engine, &at, target, "e30=");
            let told = told.split("sha256:").next().unwrap_or_default();
            // Which part of Go's client hears of an alert first is chance.
            let told = told.replace("readLoopPeekFailLocked: ", "");
            said.push(format!("{what}: {told}"));
        }
    };
    ask("nothing known");
    let known = Known::new(&at);
    known.add(certificates, "ca.crt", "ca.crt");
    ask("its authority");
    known.add(certificates, "client.crt", "client.cert");
    ask("a certificate without key");
    known.add(certificates, "client.key", "client.key");
    ask("all");
    known.remove("ca.crt");
    ask("all but its authority");
    said
}

#[test]
fn an_authority_of_its_own_and_client_certificates_are_met_as_dockerd_meets_them() {
    lab::require!("dockerd", "docker", "containerd", "runc");
    let certificates = Certificates::make();
    let [expected, said] = [Kind::Dockerd, Kind::Ferryd].map(|kind| said(kind, &certificates));
    assert_eq!(said, expected);
}
