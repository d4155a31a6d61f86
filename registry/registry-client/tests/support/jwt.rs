//! Tokens as a token server signs them: JWTs by ES256, the certificate inside.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::{CertificateParams, KeyPair, SigningKey};

/// A key that signs, and the certificate that a registry trusts.
pub struct Signer {
    key: KeyPair,
    pub cert: String,
    der: Vec<u8>,
}

impl Signer {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new(vec!["tokens.test".to_owned()]).unwrap();
        let cert = cert.self_signed(&key).unwrap();
        Self { key, der: cert.der().to_vec(), cert: cert.pem() }
    }

    /// A token with these claims.
    pub fn sign(&self, claims: &str) -> String {
        let header =
            format!(r#"{{"typ":"JWT","alg":"ES256","x5c":["{}"]}}"#, STANDARD.encode(&self.der));
        let text = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = raw(&self.key.sign(text.as_bytes()).unwrap());
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// The two numbers of an ASN.1 signature, each of 32 bytes.
fn raw(der: &[u8]) -> Vec<u8> {
    let mut rest = &der[2..];
    let mut whole = Vec::new();
    for _ in 0..2 {
        let length = usize::from(rest[1]);
        let number = &rest[2..2 + length];
        let number = if number.len() > 32 { &number[number.len() - 32..] } else { number };
        whole.extend(std::iter::repeat_n(0, 32 - number.len()));
        whole.extend_from_slice(number);
        rest = &rest[2 + length..];
    }
    whole
}
