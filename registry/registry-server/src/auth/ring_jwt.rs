//! Signatures of tokens, checked by ring, the one provider of cryptography here.

use std::sync::Once;

use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind, EncodingKey};
use ring::signature::{self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey};
use signature_traits::{Error as WrongSignature, Verifier};

/// The algorithms that count. No symmetric one does: its key would have to be public.
pub(super) const ALGORITHMS: [Algorithm; 8] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
];

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: no_signer,
    verifier_factory: verifier,
    key_utils: KeyUtils::new_unimplemented(),
};

/// Makes ring the provider of this process.
pub(super) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Another one that was there before would do as well.
        PROVIDER.install_default().ok();
    });
}

// Both have the form that the provider wants.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn no_signer(_: &Algorithm, _: &EncodingKey) -> Result<Box<dyn JwtSigner>, Error> {
    Err(ErrorKind::UnsupportedAlgorithm.into())
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>, Error> {
    let with = if let Some(rsa) = rsa(*algorithm) {
        With::Rsa(rsa)
    } else {
        match algorithm {
            Algorithm::ES256 => With::Ec(&signature::ECDSA_P256_SHA256_FIXED),
            Algorithm::ES384 => With::Ec(&signature::ECDSA_P384_SHA384_FIXED),
            _ => return Err(ErrorKind::UnsupportedAlgorithm.into()),
        }
    };
    Ok(Box::new(ByRing { algorithm: *algorithm, with, key: key.kind().clone() }))
}

fn rsa(algorithm: Algorithm) -> Option<&'static RsaParameters> {
    Some(match algorithm {
        Algorithm::RS256 => &signature::RSA_PKCS1_2048_8192_SHA256,
        Algorithm::RS384 => &signature::RSA_PKCS1_2048_8192_SHA384,
        Algorithm::RS512 => &signature::RSA_PKCS1_2048_8192_SHA512,
        Algorithm::PS256 => &signature::RSA_PSS_2048_8192_SHA256,
        Algorithm::PS384 => &signature::RSA_PSS_2048_8192_SHA384,
        Algorithm::PS512 => &signature::RSA_PSS_2048_8192_SHA512,
        _ => return None,
    })
}

enum With {
    Rsa(&'static RsaParameters),
    Ec(&'static signature::EcdsaVerificationAlgorithm),
}

struct ByRing {
    algorithm: Algorithm,
    with: With,
    key: DecodingKeyKind,
}

impl JwtVerifier for ByRing {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl Verifier<Vec<u8>> for ByRing {
    fn verify(&self, message: &[u8], signed: &Vec<u8>) -> Result<(), WrongSignature> {
        let verified = match (&self.with, &self.key) {
            (With::Rsa(with), DecodingKeyKind::RsaModulusExponent { n, e }) => {
                RsaPublicKeyComponents { n, e }.verify(with, message, signed)
            }
            (With::Rsa(with), DecodingKeyKind::SecretOrDer(key)) => {
                UnparsedPublicKey::new(*with, key).verify(message, signed)
            }
            (With::Ec(with), DecodingKeyKind::SecretOrDer(key)) => {
                UnparsedPublicKey::new(*with, key).verify(message, signed)
            }
            (With::Ec(_), DecodingKeyKind::RsaModulusExponent { .. }) => {
                return Err(WrongSignature::new());
            }
        };
        verified.map_err(|_| WrongSignature::new())
    }
}
