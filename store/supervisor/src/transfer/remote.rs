//! A registry as one transfer sees it: what containerd's `OCIRegistry` message says, credentials
//! asked from the client over a stream, and waiting for the network from threads that may block.

use super::places::{Place, Places};
use crate::Error;
use crate::streaming::{Endpoint, Stream, Streams};
use containerd_api::RegistrySettings;
use containerd_api::any;
use containerd_api::transfer_types::{AuthRequest, AuthResponse, AuthType, OciRegistry};
use http::{HeaderMap, HeaderName, HeaderValue};
use oci::{Descriptor, Reference};
use registry_client::{
    Asked, Client, Config, CredentialFuture, CredentialRequest, CredentialSource, Credentials,
    Hosts, Insecure, Proxies, Repository, Retry, Scheme, Which,
};
use std::path::PathBuf;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Waits for the network on a thread that may block, until the transfer is given up.
#[derive(Clone, Debug)]
pub(super) struct Waiter {
    runtime: tokio::runtime::Handle,
    cancelled: CancellationToken,
}

impl Waiter {
    /// A waiter that gives up once `cancelled` is.
    pub(super) fn new(cancelled: CancellationToken) -> Self {
        Self { runtime: tokio::runtime::Handle::current(), cancelled }
    }

    /// One that is given up with this one, or by itself.
    pub(super) fn child(&self) -> Self {
        Self { runtime: self.runtime.clone(), cancelled: self.cancelled.child_token() }
    }

    /// Gives up whatever is waited for.
    pub(super) fn cancel(&self) {
        self.cancelled.cancel();
    }

    /// The result of `future`. Errors: it was given up.
    pub(super) fn wait<T>(&self, future: impl Future<Output = T>) -> Result<T, Error> {
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                () = self.cancelled.cancelled() => Err(Error::Cancelled("transfer".into())),
                done = future => Ok(done),
            }
        })
    }
}

/// Which way a transfer goes, for the words of errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Pull,
    Push,
}

/// A repository of a registry, and how to wait for it.
#[derive(Clone)]
pub(super) struct Remote {
    /// As the client wrote it.
    pub(super) text: String,
    pub(super) reference: Reference,
    pub(super) repository: Repository,
    pub(super) waiter: Waiter,
    client: Client,
    credentials: Arc<dyn CredentialSource>,
    headers: HeaderMap,
    way: Way,
    places: Places,
    /// How many blobs may move at once, with whose they are.
    at_once: Option<(u32, String)>,
}

/// What a transfer's call says about its registry besides the message.
pub(super) struct Manner<'a> {
    pub(super) namespace: &'a str,
    pub(super) streams: &'a Streams,
    pub(super) places: &'a Places,
    pub(super) settings: RegistrySettings,
    pub(super) way: Way,
    pub(super) waiter: Waiter,
}

impl Remote {
    /// The registry of a request; streams that it names are taken.
    pub(super) fn new(wire: &OciRegistry, manner: Manner<'_>) -> Result<Self, Error> {
        let Manner { namespace, streams, places, settings, way, waiter } = manner;
        let invalid = |e: String| Error::InvalidArgument(format!("{:?}: {e}", wire.reference));
        let reference = Reference::parse(&wire.reference).map_err(|e| invalid(e.to_string()))?;
        if reference.is_name_only() {
            // containerd's words for a name without tag and digest.
            let doing = if way == Way::Pull { "failed to resolve image: " } else { "" };
            return Err(Error::Other(format!("{doing}object required")));
        }
        let resolver = wire.resolver.clone().unwrap_or_default();
        if resolver.http_debug != 0 || !resolver.logs_stream.is_empty() {
            return Err(Error::Unimplemented("logging a registry's HTTP traffic".into()));
        }
        let proxies = match &settings.proxies {
            Some([http, https, no]) => Proxies::new(http, https, no),
            None => Proxies::from_environment(),
        };
        let usual = Retry::default();
        let retry = Retry { attempts: settings.attempts.unwrap_or(usual.attempts), ..usual };
        let config = Config {
            hosts: hosts(&resolver.host_dir, &resolver.default_scheme)?,
            proxies: proxies.map_err(|e| Error::InvalidArgument(e.to_string()))?,
            retry,
            ..Config::default()
        };
        let credentials: Arc<dyn CredentialSource> = match resolver.auth_stream.as_str() {
            "" => Arc::new(Credentials::Anonymous),
            id => Arc::new(Asking::new(streams.take(namespace, id)?, &wire.reference)?),
        };
        let headers = headers(resolver.headers)?;
        let client = Client::new(config);
        let repository = client.repository_as(&reference, Arc::clone(&credentials));
        let repository = repository.with_headers(headers.clone());
        let text = wire.reference.clone();
        let at_once = settings.at_once.map(|most| (most, format!("{namespace} {way:?}")));
        let places = places.clone();
        Ok(Self {
            text,
            reference,
            repository,
            waiter,
            client,
            credentials,
            headers,
            way,
            places,
            at_once,
        })
    }

    /// How many blobs are moved at once, where the client says it.
    pub(super) fn at_once(&self) -> Option<usize> {
        self.at_once.as_ref().and_then(|(most, _)| usize::try_from(*most).ok())
    }

    /// Waits for a place among those who move blobs.
    pub(super) fn place(&self) -> Result<Option<Place>, Error> {
        let Some((most, key)) = &self.at_once else { return Ok(None) };
        self.waiter.wait(self.places.take(key, *most)).map(Some)
    }

    /// Another repository, of this registry or another one; the client is asked for credentials
    /// by the same stream. `None` for a name that can't be one.
    pub(super) fn elsewhere(&self, host: &str, path: &str) -> Option<Repository> {
        let here = self.is_here(host);
        let domain = if here { self.reference.domain() } else { host };
        let reference = Reference::parse(&format!("{domain}/{path}")).ok()?;
        let repository = self.client.repository_as(&reference, Arc::clone(&self.credentials));
        Some(if here { repository.with_headers(self.headers.clone()) } else { repository })
    }

    /// Whether `host`, as labels call it, is this registry's.
    pub(super) fn is_here(&self, host: &str) -> bool {
        super::source::host(self.reference.domain()) == host
    }

    /// The same, waited for by another waiter.
    pub(super) fn with_waiter(&self, waiter: Waiter) -> Self {
        Self { waiter, ..self.clone() }
    }

    /// How events and errors call it.
    pub(super) fn title(&self) -> String {
        format!("OCI Registry ({})", self.text)
    }

    /// Waits for a call to the registry.
    pub(super) fn wait<T>(
        &self,
        call: impl Future<Output = Result<T, registry_client::Error>>,
    ) -> Result<T, Error> {
        self.waiter.wait(call)?.map_err(|e| self.failed(e))
    }

    /// The registry's error, with docker's words for it.
    pub(super) fn failed(&self, error: registry_client::Error) -> Error {
        let asked = match self.way {
            Way::Pull => Asked::Pull(&self.reference),
            Way::Push => Asked::Push,
        };
        let (told, code) = (error.told(asked), crate::error::registry_code(&error));
        Error::Registry { text: error.to_string(), code, told }
    }

    /// What the reference points at now; errors are containerd's where it has words for them.
    pub(super) fn resolve(&self) -> Result<Descriptor, Error> {
        let found = self.wait(self.repository.resolve(&Which::of(&self.reference)));
        found.map_err(|error| match error {
            Error::Registry { text, code, told } => {
                let why = match code {
                    tonic::Code::NotFound => format!("{}: not found", self.text),
                    _ => text,
                };
                Error::Registry { text: format!("failed to resolve image: {why}"), code, told }
            }
            other => other,
        })
    }
}

fn hosts(folder: &str, scheme: &str) -> Result<Hosts, Error> {
    let default_scheme = match scheme {
        "" => None,
        "http" => Some(Scheme::Http),
        "https" => Some(Scheme::Https),
        other => return Err(Error::InvalidArgument(format!("registry scheme {other:?}"))),
    };
    Ok(Hosts {
        mirrors: Vec::new(),
        insecure: if default_scheme.is_some() { Insecure::none() } else { Insecure::default() },
        folders: Some(folder).filter(|f| !f.is_empty()).map(PathBuf::from).into_iter().collect(),
        default_scheme,
    })
}

fn headers<S>(wire: std::collections::HashMap<String, String, S>) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::new();
    for (name, value) in wire {
        let invalid = || Error::InvalidArgument(format!("registry header {name:?}"));
        let value = HeaderValue::from_str(&value).map_err(|_| invalid())?;
        headers.insert(HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid())?, value);
    }
    Ok(headers)
}

/// Credentials that the client is asked for.
struct Asking {
    stream: tokio::sync::Mutex<Endpoint>,
    reference: String,
}

impl Asking {
    fn new(stream: Stream, reference: &str) -> Result<Self, Error> {
        match stream {
            Stream::Grpc(endpoint) => {
                Ok(Self { stream: endpoint.into(), reference: reference.into() })
            }
            Stream::Raw(_) => {
                Err(Error::InvalidArgument("credentials over a stream without messages".into()))
            }
        }
    }

    async fn ask(&self, host: &str) -> Result<Credentials, String> {
        let mut stream = self.stream.lock().await;
        let request = AuthRequest {
            host: host.into(),
            reference: self.reference.clone(),
            wwwauthenticate: Vec::new(),
        };
        let gone = || format!("the client gave no credentials for {host}");
        stream.outgoing.send(Ok(any::pack(&request))).await.map_err(|_| gone())?;
        let answer = stream.incoming.recv().await.ok_or_else(gone)?;
        let answer = any::unpack::<AuthResponse>(&answer)
            .ok_or_else(|| format!("unexpected {} for credentials", answer.type_url))?
            .map_err(|e| format!("credentials: {e}"))?;
        let secret = answer.secret.as_str();
        Ok(match answer.auth_type() {
            AuthType::None => Credentials::Anonymous,
            AuthType::Credentials => Credentials::of(&answer.username, secret, "", ""),
            AuthType::Refresh => Credentials::of("", "", secret, ""),
            AuthType::Header => {
                let token = secret.strip_prefix("Bearer ").unwrap_or(secret);
                Credentials::of("", "", "", token)
            }
        })
    }
}

impl CredentialSource for Asking {
    fn credentials<'a>(&'a self, request: CredentialRequest<'a>) -> CredentialFuture<'a> {
        Box::pin(self.ask(request.host))
    }
}
