//! What the server runs with: every option in its own type, defaults filled in.

use std::path::PathBuf;
use std::time::Duration;

use options::Values;
use registry_client::Url;
use serde_json::Value;

use super::{DEFAULT_ROOT, duration};
use crate::auth::{Options as AuthOptions, TokenOptions};

/// Files of TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The certificate chain.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Whose client certificates are demanded.
    pub client_ca: Option<PathBuf>,
}

/// The registry behind a pull-through cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Where it is.
    pub url: Url,
    /// Who we are there.
    pub username: Option<String>,
    /// The file with the password.
    pub password_file: Option<PathBuf>,
    /// How long what nobody uses is kept; nothing means for ever.
    pub ttl: Option<Duration>,
}

/// Everything that flags and file can say.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each field is the option of the same name")]
pub struct Settings {
    pub root: PathBuf,
    pub listen: Vec<String>,
    pub tls: Option<Tls>,
    pub auth: AuthOptions,
    pub upstream: Option<Upstream>,
    pub read_only: bool,
    pub allow_delete: bool,
    pub max_connections: usize,
    pub max_uploads: usize,
    pub upload_expiry: Duration,
    pub shutdown_timeout: Duration,
    /// `-` is standard output; nothing is no log.
    pub access_log: Option<String>,
    pub metrics_addr: Option<String>,
    pub pidfile: Option<PathBuf>,
    pub debug: bool,
    pub log_level: String,
    pub log_json: bool,
}

impl Settings {
    /// Types and checks what flags and file said together.
    pub(super) fn from_values(values: &Values) -> Result<Self, String> {
        let from = From(values);
        let listen = from.list("listen");
        let listen = if listen.is_empty() { vec!["127.0.0.1:5000".into()] } else { listen };
        for address in listen.iter().chain(from.text("metrics-addr").as_ref()) {
            check_address(address)?;
        }
        Ok(Self {
            root: from.text("root").unwrap_or_else(|| DEFAULT_ROOT.into()).into(),
            listen,
            tls: from.tls()?,
            auth: from.auth()?,
            upstream: from.upstream()?,
            read_only: from.flag("read-only", false),
            allow_delete: from.flag("allow-delete", true),
            max_connections: from.count("max-connections", 1024)?,
            max_uploads: from.count("max-uploads", 1024)?,
            upload_expiry: from.duration("upload-expiry", Duration::from_secs(24 * 3600))?,
            shutdown_timeout: Duration::from_secs(from.count("shutdown-timeout", 15)? as u64),
            access_log: match values.get("access-log").and_then(Value::as_str) {
                None => Some("-".into()),
                Some("") => None,
                Some(path) => Some(path.into()),
            },
            metrics_addr: from.text("metrics-addr"),
            pidfile: from.text("pidfile").map(PathBuf::from),
            debug: from.flag("debug", false),
            log_level: from.one_of("log-level", &["info", "debug", "warn", "error", "fatal"])?,
            log_json: from.one_of("log-format", &["text", "json"])? == "json",
        })
    }
}

/// `HOST:PORT`, where the host may be empty for all addresses.
fn check_address(address: &str) -> Result<(), String> {
    let port = address.rsplit_once(':').map(|(_, port)| port);
    if port.is_some_and(|port| port.parse::<u16>().is_ok()) {
        return Ok(());
    }
    Err(format!("invalid address {address:?}: it must be HOST:PORT"))
}

struct From<'a>(&'a Values);

impl From<'_> {
    fn text(&self, key: &str) -> Option<String> {
        self.0.get(key).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
    }

    fn flag(&self, key: &str, default: bool) -> bool {
        self.0.get(key).and_then(Value::as_bool).unwrap_or(default)
    }

    fn list(&self, key: &str) -> Vec<String> {
        let items = self.0.get(key).and_then(Value::as_array).into_iter().flatten();
        items.filter_map(Value::as_str).map(str::to_owned).collect()
    }

    fn count(&self, key: &str, default: usize) -> Result<usize, String> {
        let Some(value) = self.0.get(key).filter(|value| !value.is_null()) else {
            return Ok(default);
        };
        let count = value.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0);
        count.ok_or_else(|| format!("{key} must be a number above 0, not {value}"))
    }

    fn duration(&self, key: &str, default: Duration) -> Result<Duration, String> {
        let Some(text) = self.text(key) else { return Ok(default) };
        duration::parse(&text).ok_or_else(|| format!("{key}: time: invalid duration \"{text}\""))
    }

    fn one_of(&self, key: &str, allowed: &[&str]) -> Result<String, String> {
        let text = self.text(key).unwrap_or_else(|| allowed[0].into());
        if allowed.contains(&text.as_str()) {
            return Ok(text);
        }
        Err(format!("invalid {key}: {text} (one of {})", allowed.join(", ")))
    }

    fn tls(&self) -> Result<Option<Tls>, String> {
        let client_ca = self.text("tlscacert").map(PathBuf::from);
        let verify = self.flag("tlsverify", false);
        match (self.text("tlscert"), self.text("tlskey")) {
            (Some(cert), Some(key)) => {
                if verify != client_ca.is_some() {
                    return Err("tlsverify and tlscacert go together".into());
                }
                Ok(Some(Tls { cert: cert.into(), key: key.into(), client_ca }))
            }
            (None, None) if !verify && client_ca.is_none() => Ok(None),
            _ => Err("TLS needs both tlscert and tlskey".into()),
        }
    }

    fn upstream(&self) -> Result<Option<Upstream>, String> {
        let (username, file) = (self.text("proxy-username"), self.text("proxy-password-file"));
        let ttl = self.duration("proxy-ttl", Duration::from_secs(7 * 24 * 3600))?;
        let Some(url) = self.text("proxy-remote-url") else {
            if username.is_some() || file.is_some() || self.text("proxy-ttl").is_some() {
                return Err("proxy-* needs proxy-remote-url".into());
            }
            return Ok(None);
        };
        let parsed =
            Url::parse(&url).map_err(|e| format!("invalid proxy-remote-url {url}: {e}"))?;
        if parsed.path() != "/" || parsed.query().is_some() {
            return Err(format!("invalid proxy-remote-url {url}: it must end after host and port"));
        }
        if username.is_some() != file.is_some() {
            return Err("proxy-username and proxy-password-file go together".into());
        }
        if self.flag("read-only", false) {
            return Err("a pull-through cache cannot be read-only".into());
        }
        Ok(Some(Upstream {
            url: parsed,
            username,
            password_file: file.map(PathBuf::from),
            ttl: (!ttl.is_zero()).then_some(ttl),
        }))
    }

    fn auth(&self) -> Result<AuthOptions, String> {
        let [realm, service, issuer, bundle, jwks] =
            ["realm", "service", "issuer", "rootcertbundle", "jwks"]
                .map(|name| self.text(&format!("auth-token-{name}")));
        let any_token =
            [&realm, &service, &issuer, &bundle, &jwks].into_iter().any(Option::is_some);
        let htpasswd = self.text("auth-htpasswd");
        if !any_token {
            let Some(path) = htpasswd else {
                return match self.text("auth-realm") {
                    Some(_) => Err("auth-realm needs auth-htpasswd".into()),
                    None => Ok(AuthOptions::None),
                };
            };
            let realm = self.text("auth-realm").unwrap_or_else(|| "ferry-registry".into());
            return Ok(AuthOptions::Htpasswd { path: path.into(), realm });
        }
        if htpasswd.is_some() {
            return Err("auth-htpasswd and auth-token-* exclude each other".into());
        }
        let (Some(realm), Some(service), Some(issuer)) = (realm, service, issuer) else {
            return Err(
                "token authentication needs auth-token-realm, auth-token-service and auth-token-issuer"
                    .into(),
            );
        };
        if bundle.is_none() && jwks.is_none() {
            return Err(
                "token authentication needs auth-token-rootcertbundle or auth-token-jwks".into()
            );
        }
        let (root_cert_bundle, jwks) = (bundle.map(PathBuf::from), jwks.map(PathBuf::from));
        Ok(AuthOptions::Token(TokenOptions { realm, service, issuer, root_cert_bundle, jwks }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Request, read};
    use super::*;

    fn settings(args: &[&str], file: &str) -> Result<Settings, String> {
        let path = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(path.path(), file).unwrap();
        let name = path.path().display().to_string();
        let args = ["serve", "--config-file", &name].into_iter().chain(args.iter().copied());
        let args: Vec<String> = args.map(str::to_owned).collect();
        match read(&args).map_err(|e| e.to_string())? {
            Request::Serve(settings) => Ok(*settings),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn flags_and_file_together_make_the_settings() {
        let got = settings(
            &["--listen", ":5000", "--listen=[::1]:5001", "--read-only", "--access-log="],
            r#"{"root": "/r", "upload-expiry": "1h", "tlscert": "/c", "tlskey": "/k"}"#,
        )
        .unwrap();
        assert_eq!(got.listen, [":5000", "[::1]:5001"]);
        assert_eq!((got.root, got.upload_expiry), ("/r".into(), Duration::from_secs(3600)));
        assert!(got.read_only && got.allow_delete && got.access_log.is_none());
        let tls = Tls { cert: "/c".into(), key: "/k".into(), client_ca: None };
        assert_eq!((got.tls, got.auth), (Some(tls), AuthOptions::None));
        let plain = settings(&[], "{}").unwrap();
        assert_eq!(
            (plain.listen, plain.access_log),
            (vec!["127.0.0.1:5000".into()], Some("-".into()))
        );
    }

    #[test]
    fn what_is_wrong_or_half_said_is_named() {
        let error = |args: &[&str]| settings(args, "{}").unwrap_err();
        assert!(error(&["--nope"]).starts_with("unknown flag: --nope\nSee 'ferry-registry serve"));
        assert!(error(&["--listen", "x"]).contains("\"x\": it must be HOST:PORT"));
        assert!(error(&["--tlscert", "/c"]).contains("both tlscert and tlskey"));
        assert!(error(&["--tlscert=c", "--tlskey=k", "--tlsverify"]).contains("go together"));
        assert!(error(&["--max-uploads", "0"]).contains("max-uploads must be a number above 0"));
        assert!(error(&["--upload-expiry", "1d"]).contains("invalid duration"));
        assert!(error(&["--log-level", "x"]).contains("invalid log-level: x"));
        assert!(error(&["--proxy-ttl", "1h"]).contains("needs proxy-remote-url"));
        assert!(error(&["--proxy-remote-url", "x"]).contains("invalid proxy-remote-url x"));
        assert!(error(&["--proxy-remote-url=https://x/y"]).contains("must end after host"));
        let half = ["--proxy-remote-url=https://x", "--proxy-username=u"];
        assert!(error(&half).contains("go together"));
        assert!(error(&["--auth-realm", "x"]).contains("needs auth-htpasswd"));
        assert!(error(&["--auth-token-realm", "x"]).contains("auth-token-service"));
        let half = ["--auth-token-realm=r", "--auth-token-service=s", "--auth-token-issuer=i"];
        assert!(error(&half).contains("auth-token-jwks"));
        assert!(error(&[&half[..], &["--auth-htpasswd=h"]].concat()).contains("exclude"));
        assert!(read(&["nope".into()]).unwrap_err().to_string().contains("unknown command: nope"));
    }
}
