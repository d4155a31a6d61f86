//! TLS: certificate, key and client authorities from files that can be read again while
//! connections are served.

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use crate::config::Tls;

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum InvalidTls {
    /// A file is not what it should be.
    #[error("reading {path}: {why}")]
    File {
        /// The file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// The files do not fit together.
    #[error("TLS: {0}")]
    Config(String),
}

/// TLS as the files have it.
#[derive(Debug)]
pub(crate) struct Reloadable {
    files: Tls,
    current: ArcSwap<ServerConfig>,
}

impl Reloadable {
    pub(crate) fn open(files: &Tls) -> Result<Self, InvalidTls> {
        Ok(Self { files: files.clone(), current: ArcSwap::new(read(files)?) })
    }

    /// Reads the files again; after an error everything stays as it was.
    pub(crate) fn reload(&self) -> Result<(), InvalidTls> {
        self.current.store(read(&self.files)?);
        Ok(())
    }

    /// For the next connection.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.current.load_full())
    }
}

fn read(files: &Tls) -> Result<Arc<ServerConfig>, InvalidTls> {
    let config = |e: &dyn std::fmt::Display| InvalidTls::Config(e.to_string());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| config(&e))?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|e| failed(path, &e))?;
            }
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|e| failed(path, &e))?)
        }
    };
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|e| failed(&files.key, &e))?;
    let mut made =
        builder.with_single_cert(certificates(&files.cert)?, key).map_err(|e| config(&e))?;
    made.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(made))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, InvalidTls> {
    let read = CertificateDer::pem_file_iter(path).map_err(|e| failed(path, &e))?;
    let all: Vec<_> = read.collect::<Result<_, _>>().map_err(|e| failed(path, &e))?;
    if all.is_empty() {
        return Err(failed(path, &"no certificate is in it"));
    }
    Ok(all)
}

fn failed(path: &Path, why: &dyn std::fmt::Display) -> InvalidTls {
    InvalidTls::File { path: path.display().to_string(), why: why.to_string() }
}
