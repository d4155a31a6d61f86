//! Makes connections for the pool: straight or through a proxy, plain or by TLS.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use file_stream::Files;
use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::OnceCell;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::dial::{self, Refusal, dial};
use super::proxy::{Proxies, Proxy};
use super::stream::{Duplex, Sniffed, Wire};
use super::tls::{self, SystemRoots};
use crate::error::ConnectKind;
use crate::hosts::TlsFiles;
use crate::url::{Scheme, Url};

/// Longest answer to CONNECT.
const MAX_CONNECT: usize = 16 << 10;

/// What all connectors of a client share.
pub(crate) struct Shared {
    pub(crate) roots: SystemRoots,
    pub(crate) proxies: Proxies,
    pub(crate) handshake_timeout: Duration,
    pub(crate) user_agent: String,
}

/// Connects to any server by the certificates of one host.
#[derive(Clone)]
pub(crate) struct Connector(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    files: TlsFiles,
    dial_timeout: Duration,
    tls: OnceCell<Arc<ClientConfig>>,
}

impl Connector {
    pub(crate) fn new(shared: Arc<Shared>, files: TlsFiles, dial_timeout: Duration) -> Self {
        Self(Arc::new(Inner { shared, files, dial_timeout, tls: OnceCell::new() }))
    }
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<Wire>;
    type Error = Refusal;
    type Future = Pin<Box<dyn Future<Output = Result<TokioIo<Wire>, Refusal>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let inner = self.0.clone();
        Box::pin(async move { inner.connect(&uri).await.map(TokioIo::new) })
    }
}

impl Inner {
    async fn connect(self: &Arc<Self>, uri: &Uri) -> Result<Wire, Refusal> {
        let url = Url::parse(&uri.to_string())
            .map_err(|why| Refusal { kind: ConnectKind::Other, text: why.to_string() })?;
        let stream: Box<dyn Duplex> = match (self.shared.proxies.of(&url), url.scheme()) {
            (None, scheme) => {
                let stream = dial(url.host(), url.port(), self.dial_timeout).await?;
                if scheme == Scheme::Http {
                    return Ok(Wire::Plain(stream, Files::default()));
                }
                Box::new(stream)
            }
            (Some(proxy), Scheme::Http) => return Ok(Wire::Proxied(self.proxy(proxy).await?)),
            (Some(proxy), Scheme::Https) => {
                let mut stream = self.proxy(proxy).await?;
                self.tunnel(&mut stream, proxy, &url).await?;
                stream
            }
        };
        Ok(Wire::Tls(Box::new(self.handshake(stream, url.host()).await?)))
    }

    async fn proxy(self: &Arc<Self>, proxy: &Proxy) -> Result<Box<dyn Duplex>, Refusal> {
        let failed = |refusal: Refusal| Refusal {
            text: format!("proxyconnect tcp: {}", refusal.text),
            kind: refusal.kind,
        };
        let (host, port) = (proxy.url.host(), proxy.url.port());
        let stream = Box::new(dial(host, port, self.dial_timeout).await.map_err(failed)?);
        match proxy.url.scheme() {
            Scheme::Http => Ok(stream),
            Scheme::Https => Ok(Box::new(self.handshake(stream, host).await.map_err(failed)?)),
        }
    }

    async fn tunnel(
        &self,
        stream: &mut Box<dyn Duplex>,
        proxy: &Proxy,
        url: &Url,
    ) -> Result<(), Refusal> {
        let broken = |text: String| Refusal { kind: ConnectKind::Proxy, text };
        let asked = async {
            let host = if url.host().contains(':') {
                format!("[{}]", url.host())
            } else {
                url.host().into()
            };
            let authority = format!("{host}:{}", url.port());
            let mut head = format!(
                "CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: {}\r\n",
                self.shared.user_agent
            )
            .into_bytes();
            if let Some(value) = &proxy.authorization {
                head.extend_from_slice(b"Proxy-Authorization: ");
                head.extend_from_slice(value.as_bytes());
                head.extend_from_slice(b"\r\n");
            }
            head.extend_from_slice(b"\r\n");
            stream.write_all(&head).await?;
            stream.flush().await?;
            let mut answer = Vec::new();
            while !answer.ends_with(b"\r\n\r\n") && answer.len() < MAX_CONNECT {
                // One byte at a time: what follows the head belongs to the tunnel.
                answer.push(stream.read_u8().await?);
            }
            Ok::<_, std::io::Error>(answer)
        };
        let answer = timeout(self.dial_timeout, asked)
            .await
            .map_err(|_| broken("proxyconnect tcp: i/o timeout".into()))?
            .map_err(|error| broken(format!("proxyconnect tcp: {}", dial::words(&error))))?;
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut parsed = httparse::Response::new(&mut headers);
        match parsed.parse(&answer) {
            Ok(httparse::Status::Complete(_)) => {}
            _ => return Err(broken("malformed HTTP response of the proxy".into())),
        }
        match parsed.code {
            Some(200..300) => Ok(()),
            // As Go: the reason alone.
            Some(code) => {
                let line = crate::answer::status_line(code);
                Err(broken(line.split_once(' ').map_or(line.clone(), |(_, reason)| reason.into())))
            }
            None => Err(broken("malformed HTTP response of the proxy".into())),
        }
    }

    async fn handshake(
        self: &Arc<Self>,
        stream: Box<dyn Duplex>,
        host: &str,
    ) -> Result<impl Duplex + use<>, Refusal> {
        let refused = |kind, text: String| Refusal { kind, text };
        let config = self.tls().await?;
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| refused(ConnectKind::Other, format!("tls: {host:?} is no server name")))?;
        let handshake =
            TlsConnector::from(config).connect(name, Sniffed::new(stream)).into_fallible();
        let result = timeout(self.shared.handshake_timeout, handshake).await;
        let (error, stream) = match result {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(failed)) => failed,
            Err(_) => {
                let text = "net/http: TLS handshake timeout".into();
                return Err(refused(ConnectKind::Timeout, text));
            }
        };
        if stream.is_http() {
            let text = "http: server gave HTTP response to HTTPS client".into();
            return Err(refused(ConnectKind::PlainHttp, text));
        }
        if !stream.is_tls() {
            let text = "tls: first record does not look like a TLS handshake".into();
            return Err(refused(ConnectKind::PlainHttp, text));
        }
        Err(match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(error) => refused(ConnectKind::Certificate, tls::words(error)),
            None if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                refused(ConnectKind::Other, "EOF".into())
            }
            None => refused(ConnectKind::Other, format!("read tcp: {}", dial::words(&error))),
        })
    }

    /// Built at the first handshake: many hosts never need it.
    async fn tls(self: &Arc<Self>) -> Result<Arc<ClientConfig>, Refusal> {
        let build = || async {
            let inner = self.clone();
            let built = tokio::task::spawn_blocking(move || {
                tls::configure(&inner.files, &inner.shared.roots)
            });
            match built.await {
                Ok(Ok(config)) => Ok(config),
                Ok(Err(error)) => {
                    Err(Refusal { kind: ConnectKind::Configuration, text: error.to_string() })
                }
                Err(error) => Err(Refusal { kind: ConnectKind::Other, text: error.to_string() }),
            }
        };
        self.tls.get_or_try_init(build).await.cloned()
    }
}
