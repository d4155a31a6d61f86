//! Whose signatures count: the keys of a certificate bundle and of a JWKS file, and the keys of
//! certificates that the bundle vouches for.

use std::collections::HashMap;
use std::path::Path;

use jsonwebtoken::{AlgorithmFamily, DecodingKey, Header, jwk};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{InvalidAuth, TokenOptions};

/// Largest file, in bytes.
const MAX_FILE: u64 = 4 << 20;
/// Longest chain that a token may bring.
const MAX_CHAIN: usize = 8;
/// Keys that are tried for a token that names none.
const MAX_TRIED: usize = 16;

/// The keys that count.
pub(super) struct Keys {
    by_id: HashMap<String, DecodingKey>,
    all: Vec<DecodingKey>,
    certificates: Vec<CertificateDer<'static>>,
    anchors: Vec<TrustAnchor<'static>>,
}

impl Keys {
    /// Reads the files that the options name.
    pub(super) fn read(options: &TokenOptions) -> Result<Self, InvalidAuth> {
        let mut keys = Self {
            by_id: HashMap::new(),
            all: Vec::new(),
            certificates: Vec::new(),
            anchors: Vec::new(),
        };
        if let Some(path) = &options.root_cert_bundle {
            keys.add_bundle(path)?;
        }
        if let Some(path) = &options.jwks {
            keys.add_jwks(path)?;
        }
        if keys.all.is_empty() {
            return Err(InvalidAuth(
                "token authentication has no key: \
                give --auth-token-rootcertbundle or --auth-token-jwks"
                    .into(),
            ));
        }
        Ok(keys)
    }

    fn add_bundle(&mut self, path: &Path) -> Result<(), InvalidAuth> {
        let text = read(path)?;
        for certificate in CertificateDer::pem_slice_iter(&text) {
            let certificate = certificate.map_err(|e| failed(path, &e))?;
            let (id, key) = key_of(&certificate).map_err(|why| failed(path, &why))?;
            self.by_id.insert(id, key.clone());
            self.all.push(key);
            // A certificate that can sign no other is still trusted itself.
            if let Ok(anchor) = webpki::anchor_from_trusted_cert(&certificate) {
                self.anchors.push(anchor.to_owned());
            }
            self.certificates.push(certificate);
        }
        Ok(())
    }

    fn add_jwks(&mut self, path: &Path) -> Result<(), InvalidAuth> {
        let set: jwk::JwkSet =
            serde_json::from_slice(&read(path)?).map_err(|e| failed(path, &e))?;
        for jwk in &set.keys {
            let key = DecodingKey::from_jwk(jwk).map_err(|e| failed(path, &e))?;
            if !matches!(key.family(), AlgorithmFamily::Rsa | AlgorithmFamily::Ec) {
                return Err(failed(path, &"only RSA and EC keys are supported"));
            }
            if let Some(id) = &jwk.common.key_id {
                self.by_id.insert(id.clone(), key.clone());
            }
            self.all.push(key);
        }
        Ok(())
    }

    /// The keys that may have signed a token with this header.
    pub(super) fn candidates(&self, header: &Header) -> Result<Vec<DecodingKey>, String> {
        if let Ok(Some(chain)) = header.x5c_der() {
            return self.of_chain(chain).map(|key| vec![key]);
        }
        if let Some(id) = &header.kid {
            let key = self.by_id.get(id).ok_or("signed by an unknown key")?;
            return Ok(vec![key.clone()]);
        }
        let family = header.alg.family();
        Ok(self.all.iter().filter(|k| k.family() == family).take(MAX_TRIED).cloned().collect())
    }

    fn of_chain(&self, chain: Vec<Vec<u8>>) -> Result<DecodingKey, String> {
        let mut chain = chain.into_iter().take(MAX_CHAIN).map(CertificateDer::from);
        let leaf = chain.next().ok_or("an empty certificate chain")?;
        if !self.certificates.contains(&leaf) {
            let intermediates: Vec<_> = chain.collect();
            let certificate = EndEntityCert::try_from(&leaf).map_err(|e| e.to_string())?;
            certificate
                .verify_for_usage(
                    webpki::ALL_VERIFICATION_ALGS,
                    &self.anchors,
                    &intermediates,
                    UnixTime::now(),
                    AnyUsage,
                    None,
                    None,
                )
                .map_err(|e| e.to_string())?;
        }
        key_of(&leaf).map(|(_, key)| key)
    }
}

/// What a certificate is for does not matter to who trusts its issuer with tokens.
struct AnyUsage;

impl ExtendedKeyUsageValidator for AnyUsage {
    fn validate(&self, _: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        Ok(())
    }
}

/// The key of a certificate, and the name that token servers give it.
fn key_of(certificate: &CertificateDer<'_>) -> Result<(String, DecodingKey), String> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|e| e.to_string())?;
    let info = parsed.public_key();
    let key = match info.algorithm.algorithm.to_id_string().as_str() {
        "1.2.840.113549.1.1.1" => DecodingKey::from_rsa_der(&info.subject_public_key.data),
        "1.2.840.10045.2.1" => DecodingKey::from_ec_der(&info.subject_public_key.data),
        other => return Err(format!("a certificate's key is neither RSA nor EC: {other}")),
    };
    Ok((libtrust_id(info.raw), key))
}

/// The id of a public key as libtrust has it, which signers of Docker's tokens use: a SHA-256 cut
/// to 240 bits, in base32, in groups of four.
fn libtrust_id(spki: &[u8]) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let hash = ring::digest::digest(&ring::digest::SHA256, spki);
    let mut letters = Vec::with_capacity(48);
    for five in hash.as_ref()[..30].chunks_exact(5) {
        let bits = five.iter().fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
        letters.extend((0..8).rev().map(|n| ALPHABET[(bits >> (n * 5)) as usize & 31]));
    }
    let text = String::from_utf8_lossy(&letters).into_owned();
    let groups: Vec<&str> = (0..text.len()).step_by(4).map(|at| &text[at..at + 4]).collect();
    groups.join(":")
}

fn failed(path: &Path, why: &dyn std::fmt::Display) -> InvalidAuth {
    InvalidAuth(format!("reading {}: {why}", path.display()))
}

fn read(path: &Path) -> Result<Vec<u8>, InvalidAuth> {
    let meta = std::fs::metadata(path).map_err(|e| failed(path, &e))?;
    if meta.len() > MAX_FILE {
        return Err(failed(path, &"it is too large for a file of keys"));
    }
    std::fs::read(path).map_err(|e| failed(path, &e))
}
