//! Keys, certificates and tokens, made by openssl.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use lab::{Scratch, run};

/// Whether openssl and curl are there; says so if not.
pub(crate) fn has_tools(test: &str) -> bool {
    for (tool, ask) in [("openssl", "version"), ("curl", "--version"), ("htpasswd", "-nbB")] {
        let more: &[&str] = if tool == "htpasswd" { &["a", "b"] } else { &[] };
        if !run(tool, [&[ask], more].concat()).is_ok_and(|done| done.code == 0) {
            eprintln!("SKIPPED: {test}: needs {tool} (cargo xtask setup)");
            return false;
        }
    }
    true
}

fn openssl(words: &[&str]) {
    run("openssl", words).unwrap().success().unwrap();
}

/// A key and its certificate.
pub(crate) struct Pair {
    pub(crate) key: PathBuf,
    pub(crate) cert: PathBuf,
}

impl Pair {
    fn at(scratch: &Scratch, name: &str) -> Self {
        Self {
            key: scratch.join(&format!("{name}.key")),
            cert: scratch.join(&format!("{name}.crt")),
        }
    }

    /// The words that have openssl make a key of this kind.
    fn kind(rsa: bool) -> &'static [&'static str] {
        if rsa {
            &["-newkey", "rsa:2048"]
        } else {
            &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
        }
    }

    /// One that vouches for itself.
    pub(crate) fn own(scratch: &Scratch, name: &str, rsa: bool) -> Self {
        let pair = Self::at(scratch, name);
        let (key, cert) = (text(&pair.key), text(&pair.cert));
        let subject = format!("/CN={name}");
        let words = ["req", "-x509", "-nodes", "-days", "2", "-subj", &subject, "-keyout", &key];
        openssl(&[&words[..], Self::kind(rsa), &["-out", &cert]].concat());
        pair
    }

    /// One that another vouches for, for 127.0.0.1.
    pub(crate) fn by(&self, scratch: &Scratch, name: &str, rsa: bool) -> Self {
        let pair = Self::at(scratch, name);
        let (key, cert) = (text(&pair.key), text(&pair.cert));
        let request = text(&scratch.join(&format!("{name}.csr")));
        let subject = format!("/CN={name}");
        let words = ["req", "-nodes", "-subj", &subject, "-keyout", &key];
        openssl(&[&words[..], Self::kind(rsa), &["-out", &request]].concat());
        let extensions = scratch.join("extensions");
        std::fs::write(&extensions, "subjectAltName=IP:127.0.0.1\n").unwrap();
        let (ca, ca_key, extensions) = (text(&self.cert), text(&self.key), text(&extensions));
        openssl(&[
            "x509",
            "-req",
            "-days",
            "2",
            "-in",
            &request,
            "-CA",
            &ca,
            "-CAkey",
            &ca_key,
            "-CAcreateserial",
            "-extfile",
            &extensions,
            "-out",
            &cert,
        ]);
        pair
    }

    /// The certificate in DER, as tokens carry it.
    pub(crate) fn x5c(&self) -> String {
        let pem = std::fs::read_to_string(&self.cert).unwrap();
        pem.lines().filter(|line| !line.starts_with('-')).collect()
    }

    /// The id of the key as libtrust has it.
    pub(crate) fn id(&self) -> String {
        let der = self.public_der();
        let hash = oci::Digest::sha256(&der);
        let mut bits =
            hash.as_bytes()[..30].iter().flat_map(|b| (0..8).rev().map(move |n| b >> n & 1));
        let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
        let mut id = String::new();
        for n in 0..48 {
            let five = (0..5).fold(0, |five, _| five << 1 | usize::from(bits.next().unwrap()));
            if n > 0 && n % 4 == 0 {
                id.push(':');
            }
            id.push(char::from(alphabet[five]));
        }
        id
    }

    fn public_der(&self) -> Vec<u8> {
        let out = self.key.with_extension("der");
        openssl(&[
            "pkey",
            "-in",
            &text(&self.key),
            "-pubout",
            "-outform",
            "DER",
            "-out",
            &text(&out),
        ]);
        std::fs::read(out).unwrap()
    }

    /// The public key as JWK.
    pub(crate) fn jwk(&self, id: &str) -> serde_json::Value {
        let der = self.public_der();
        // Of an uncompressed point on P-256 the last 64 bytes are x and y.
        let (x, y) = der[der.len() - 64..].split_at(32);
        serde_json::json!({
            "kty": "EC", "crv": "P-256", "kid": id, "alg": "ES256", "use": "sig",
            "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
        })
    }

    /// A token of these claims, signed by RS256 or ES256; `header` gets the algorithm.
    pub(crate) fn token(
        &self,
        mut header: serde_json::Value,
        claims: &serde_json::Value,
    ) -> String {
        let rsa = run("openssl", ["pkey", "-in", &text(&self.key), "-noout", "-text"])
            .unwrap()
            .stdout
            .contains("modulus");
        header["alg"] = if rsa { "RS256" } else { "ES256" }.into();
        header["typ"] = "JWT".into();
        let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(&header), part(claims));
        let (input, output) =
            (self.key.with_extension("message"), self.key.with_extension("signature"));
        std::fs::write(&input, &message).unwrap();
        openssl(&[
            "dgst",
            "-sha256",
            "-sign",
            &text(&self.key),
            "-out",
            &text(&output),
            &text(&input),
        ]);
        let signature = std::fs::read(output).unwrap();
        let signature = if rsa { signature } else { fixed(&signature) };
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// The two numbers of an ECDSA signature in DER, one after the other in 32 bytes each.
fn fixed(der: &[u8]) -> Vec<u8> {
    let mut rest = &der[2..];
    let mut out = Vec::new();
    for _ in 0..2 {
        let length = usize::from(rest[1]);
        let number = &rest[2..2 + length];
        let number = &number[number.len().saturating_sub(32)..];
        out.extend(std::iter::repeat_n(0, 32 - number.len()));
        out.extend_from_slice(number);
        rest = &rest[2 + length..];
    }
    out
}

pub(crate) fn text(path: &Path) -> String {
    path.display().to_string()
}

/// A header with a user's name and password.
pub(crate) fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}
