//! TLS: whom to trust, what to show, and what went wrong in the words that Go uses for it.
//!
//! ring is the only crypto provider. One rule of Go's verifier is added to rustls's: a
//! server certificate that is itself among the trusted ones is accepted, which is how
//! many private registries are set up (`openssl req -x509`, copied to `ca.crt`).

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use oci::Digest;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use super::der;
use crate::error::ConfigError;
use crate::hosts::TlsFiles;

/// Larger files are no certificates.
const MAX_FILE: u64 = 4 << 20;

fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(rustls::crypto::ring::default_provider())).clone()
}

/// The system's authorities, read when first needed. `SSL_CERT_FILE` and `SSL_CERT_DIR`
/// move them.
#[derive(Default)]
pub(crate) struct SystemRoots(OnceLock<Roots>);

/// Trusted certificates.
#[derive(Clone, Debug)]
struct Roots {
    store: Arc<RootCertStore>,
    /// The hash of each, to know a server's own certificate among them.
    known: Arc<HashSet<Digest>>,
}

impl Roots {
    fn of(certificates: Vec<CertificateDer<'static>>) -> Self {
        let known = certificates.iter().map(|certificate| Digest::sha256(certificate)).collect();
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(certificates);
        Self { store: Arc::new(store), known: Arc::new(known) }
    }

    fn with(&self, more: Vec<CertificateDer<'static>>) -> Self {
        let mut joined = self.clone();
        let hashes = more.iter().map(|certificate| Digest::sha256(certificate));
        Arc::make_mut(&mut joined.known).extend(hashes);
        Arc::make_mut(&mut joined.store).add_parsable_certificates(more);
        joined
    }
}

impl SystemRoots {
    fn get(&self) -> &Roots {
        self.0.get_or_init(|| {
            let found = rustls_native_certs::load_native_certs();
            for error in found.errors {
                tracing::warn!("system certificates: {error}");
            }
            Roots::of(found.certs)
        })
    }
}

/// The configuration that a host's files describe. Reads files: may block.
pub(crate) fn configure(
    files: &TlsFiles,
    system: &SystemRoots,
) -> Result<Arc<ClientConfig>, ConfigError> {
    let verifier = if files.skip_verify {
        Verifier { chain: None, known: Arc::default(), skip: true }
    } else {
        let mut more = Vec::new();
        for path in &files.ca {
            more.extend(certificates(path)?);
        }
        let system = system.get();
        Verifier::new(if more.is_empty() { system.clone() } else { system.with(more) })
    };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| ConfigError::Value(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = if files.client.is_empty() {
        builder.with_no_client_auth()
    } else {
        let keys: Result<_, _> =
            files.client.iter().map(|(cert, key)| client_key(cert, key)).collect();
        builder.with_client_cert_resolver(Arc::new(ClientKeys(keys?)))
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let text = crate::hosts::read_text(path, MAX_FILE)?;
    let unusable = |why: String| ConfigError::Content { path: path.into(), why };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    let found = found.map_err(|error| unusable(format!("no PEM certificate: {error}")))?;
    if found.is_empty() {
        return Err(unusable("holds no PEM certificate".into()));
    }
    Ok(found)
}

fn client_key(cert: &Path, key: &Path) -> Result<Arc<CertifiedKey>, ConfigError> {
    let unusable = |why: String| ConfigError::Content { path: key.into(), why };
    let text = crate::hosts::read_text(key, MAX_FILE)?;
    let found = PrivateKeyDer::from_pem_slice(text.as_bytes())
        .map_err(|error| unusable(format!("no PEM private key: {error}")))?;
    let made = CertifiedKey::from_der(certificates(cert)?, found, &provider())
        .map_err(|error| unusable(format!("does not fit {}: {error}", cert.display())))?;
    Ok(Arc::new(made))
}

/// Several client certificates: the one whose issuer the server names, else the first
/// whose key it can use.
#[derive(Debug)]
struct ClientKeys(Vec<Arc<CertifiedKey>>);

impl ResolvesClientCert for ClientKeys {
    fn resolve(
        &self,
        authorities: &[&[u8]],
        schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        let usable = || self.0.iter().filter(|key| key.key.choose_scheme(schemes).is_some());
        let issued = |key: &&Arc<CertifiedKey>| {
            let issuer = key.cert.last().and_then(|last| der::fields(last));
            issuer.is_some_and(|fields| authorities.contains(&fields.issuer))
        };
        usable().find(issued).or_else(|| usable().next()).cloned()
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[derive(Debug)]
struct Verifier {
    chain: Option<Arc<WebPkiServerVerifier>>,
    known: Arc<HashSet<Digest>>,
    skip: bool,
}

impl Verifier {
    fn new(roots: Roots) -> Self {
        // It can't be built without roots; then no chain is good.
        let chain =
            WebPkiServerVerifier::builder_with_provider(roots.store, provider()).build().ok();
        Self { chain, known: roots.known, skip: false }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.skip {
            return Ok(ServerCertVerified::assertion());
        }
        // As Go does, the name comes first: it is the likelier mistake.
        rustls::client::verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
        if self.known.contains(&Digest::sha256(certificate)) {
            verify_time(certificate, now)?;
            return Ok(ServerCertVerified::assertion());
        }
        // A self-signed one that nobody listed; rustls would only say that it is an
        // authority's.
        let own = der::fields(certificate).is_some_and(|fields| fields.issuer == fields.subject);
        match &self.chain {
            Some(chain) if !own => chain.verify_server_cert(certificate, between, name, ocsp, now),
            _ => Err(CertificateError::UnknownIssuer.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

fn verify_time(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let fields = der::fields(certificate).ok_or(CertificateError::BadEncoding)?;
    let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if seconds < fields.not_before {
        return Err(CertificateError::NotValidYet.into());
    }
    if seconds > fields.not_after {
        return Err(CertificateError::Expired.into());
    }
    Ok(())
}

/// What went wrong, in Go's words.
pub(crate) fn words(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(why) => {
            format!("tls: failed to verify certificate: x509: {}", certificate_words(why))
        }
        Error::AlertReceived(alert) => format!("remote error: tls: {}", alert_words(*alert)),
        Error::NoApplicationProtocol => "tls: no application protocol".into(),
        other => format!("tls: {other}"),
    }
}

fn certificate_words(error: &CertificateError) -> String {
    use CertificateError as E;
    const TIME: &str = "certificate has expired or is not yet valid";
    let at = |time: &UnixTime| der::shown(i64::try_from(time.as_secs()).unwrap_or(i64::MAX));
    match error {
        E::UnknownIssuer => "certificate signed by unknown authority".into(),
        E::ExpiredContext { time, not_after } => {
            format!("{TIME}: current time {} is after {}", at(time), at(not_after))
        }
        E::NotValidYetContext { time, not_before } => {
            format!("{TIME}: current time {} is before {}", at(time), at(not_before))
        }
        E::Expired | E::NotValidYet => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            format!("{TIME}: current time {}", der::shown(now.as_secs() as i64))
        }
        E::NotValidForNameContext { expected, presented } => name_words(expected, presented),
        // Go takes it; the library has no name for it.
        other if other.to_string().contains("CaUsedAsEndEntity") => {
            "certificate is an authority's (CA:TRUE) and not trusted itself".into()
        }
        other => other.to_string(),
    }
}

fn name_words(expected: &ServerName<'_>, presented: &[String]) -> String {
    let names = |kind: &str| -> Vec<String> {
        let of_kind = presented.iter().filter_map(|name| name.strip_prefix(kind));
        of_kind.map(|name| name.trim_matches(['(', ')', '"']).to_owned()).collect()
    };
    let wanted = expected.to_str();
    let found = if matches!(expected, ServerName::IpAddress(_)) {
        let addresses = names("IpAddress");
        if addresses.is_empty() && !presented.is_empty() {
            return format!(
                "cannot validate certificate for {wanted} because it doesn't contain any IP SANs"
            );
        }
        addresses
    } else {
        names("DnsName")
    };
    match found.as_slice() {
        [] if presented.is_empty() => {
            "certificate relies on legacy Common Name field, use SANs instead".into()
        }
        [] => format!("certificate is not valid for any names, but wanted to match {wanted}"),
        found => format!("certificate is valid for {}, not {wanted}", found.join(", ")),
    }
}

fn alert_words(alert: rustls::AlertDescription) -> String {
    use rustls::AlertDescription as A;
    match alert {
        A::CertificateRequired => "certificate required".into(),
        A::BadCertificate => "bad certificate".into(),
        A::UnknownCA => "unknown certificate authority".into(),
        A::HandshakeFailure => "handshake failure".into(),
        A::ProtocolVersion => "protocol version not supported".into(),
        A::CertificateExpired => "expired certificate".into(),
        A::CertificateUnknown => "unknown certificate".into(),
        A::AccessDenied => "access denied".into(),
        A::UnrecognisedName => "unrecognized name".into(),
        A::InternalError => "internal error".into(),
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

    use super::*;

    fn own(name: &str) -> CertificateDer<'static> {
        let mut parameters = CertificateParams::new(vec![name.to_owned()]).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        parameters.self_signed(&key).unwrap().der().clone()
    }

    fn verify(verifier: &Verifier, certificate: &CertificateDer<'_>) -> Result<(), String> {
        let name = ServerName::try_from("a.test").unwrap();
        let result = verifier.verify_server_cert(certificate, &[], &name, &[], UnixTime::now());
        result.map(|_| ()).map_err(|error| words(&error))
    }

    #[test]
    fn a_servers_own_certificate_counts_wherever_it_is_trusted() {
        let (known, other) = (own("a.test"), own("a.test"));
        for roots in
            [Roots::of(vec![known.clone()]), Roots::of(Vec::new()).with(vec![known.clone()])]
        {
            let verifier = Verifier::new(roots);
            verify(&verifier, &known).unwrap();
            assert_eq!(
                verify(&verifier, &other).unwrap_err(),
                "tls: failed to verify certificate: x509: certificate signed by unknown authority"
            );
        }
        let elsewhere = own("b.test");
        let verifier = Verifier::new(Roots::of(vec![elsewhere.clone()]));
        assert_eq!(
            verify(&verifier, &elsewhere).unwrap_err(),
            "tls: failed to verify certificate: x509: certificate is valid for b.test, not a.test"
        );
    }

    #[test]
    fn without_any_authority_nothing_is_trusted() {
        let verifier = Verifier::new(Roots::of(Vec::new()));
        assert!(verify(&verifier, &own("a.test")).is_err());
    }
}
