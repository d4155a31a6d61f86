//! containerd's `hosts.toml`: hosts in the order of the file, then `server`.
//!
//! Unlike containerd, a file that can't be read is an error and not passed over: it may be
//! what keeps pulls from going to a server that nobody wanted asked.

use std::path::Path;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use toml::{Table, Value};

use super::{Capabilities, Host, Reach, TlsFiles};
use crate::error::ConfigError;
use crate::url::{Scheme, Url};

/// Larger files are no configuration.
const MAX_FILE: u64 = 1 << 20;

/// The hosts that `file` names for `domain`. The last one has an empty authority when
/// the file names no `server`: it then stands for the registry itself.
pub(super) fn read(folder: &Path, file: &Path, domain: &str) -> Result<Vec<Host>, ConfigError> {
    let text = super::certs::read_text(file, MAX_FILE)?;
    parse(&text, folder, domain).map_err(|why| ConfigError::Content { path: file.into(), why })
}

/// The registry itself takes over what the file says at its top, where it says something.
pub(super) fn keep_root_settings(upstream: &mut Host, read: Host) {
    upstream.capabilities = read.capabilities;
    upstream.headers = read.headers;
    upstream.dial_timeout = read.dial_timeout;
    if !read.tls.is_empty() {
        upstream.tls = read.tls;
    }
}

fn parse(text: &str, folder: &Path, domain: &str) -> Result<Vec<Host>, String> {
    let root: Table = text.parse().map_err(|e: toml::de::Error| e.message().to_owned())?;
    let mut hosts = Vec::new();
    if let Some(tables) = root.get("host") {
        let tables = tables.as_table().ok_or("`host` is not a table")?;
        for (server, table) in tables {
            let table =
                table.as_table().ok_or_else(|| format!("host {server:?} is not a table"))?;
            let mut host = host(server, table, folder)?;
            host.upstream = false;
            hosts.push(host);
        }
    }
    let server = match root.get("server") {
        None => "",
        Some(server) => server.as_str().ok_or("`server` is not a string")?,
    };
    hosts.push(host(server, &root, folder)?);
    for host in &mut hosts {
        if host.authority != domain && !host.authority.is_empty() && !is_hub(host, domain) {
            host.namespace = Some(domain.into());
        }
    }
    Ok(hosts)
}

fn is_hub(host: &Host, domain: &str) -> bool {
    domain == super::DOCKER_IO && host.authority == super::DOCKER_IO_SERVER
}

fn host(server: &str, table: &Table, folder: &Path) -> Result<Host, String> {
    let mut host = Host::upstream("");
    if !server.is_empty() {
        address(&mut host, server, flag(table, "override_path")?.unwrap_or(false))?;
    }
    host.capabilities = capabilities(table)?;
    host.headers = headers(table)?;
    host.dial_timeout = match table.get("dial_timeout") {
        None => None,
        Some(value) => {
            let text = value.as_str().unwrap_or_default();
            let limit = go_duration(text);
            Some(limit.ok_or_else(|| format!("invalid duration {text:?} for \"dial_timeout\""))?)
        }
    };
    let skip_verify = flag(table, "skip_verify")?;
    host.tls = TlsFiles {
        ca: paths(table, "ca", folder)?,
        client: pairs(table, folder)?,
        skip_verify: skip_verify.unwrap_or(false),
    };
    // http with certificates: https is tried first, unless the port says what it is.
    let explicit = !host.tls.is_empty() || skip_verify.is_some();
    let plain = host.reach == Reach::Only(Scheme::Http);
    if plain && explicit && !host.authority.ends_with(":80") {
        host.reach = Reach::HttpsThenHttp;
    }
    Ok(host)
}

fn address(host: &mut Host, server: &str, override_path: bool) -> Result<(), String> {
    let full =
        if server.starts_with("http") { server.to_owned() } else { format!("https://{server}") };
    let url = Url::parse(&full).map_err(|why| format!("unable to parse server {full}: {why}"))?;
    host.authority = url.authority().into();
    host.reach = Reach::Only(url.scheme());
    let path = url.path().trim_end_matches('/');
    host.path = match path {
        path if override_path || path.ends_with("/v2") => path.into(),
        path => format!("{path}/v2"),
    };
    Ok(())
}

fn capabilities(table: &Table) -> Result<Capabilities, String> {
    let Some(value) = table.get("capabilities") else { return Ok(Capabilities::ALL) };
    let list = value.as_array().ok_or("invalid type for \"capabilities\"")?;
    if list.is_empty() {
        return Ok(Capabilities::ALL);
    }
    let mut found = Capabilities { pull: false, resolve: false, push: false, referrers: false };
    for name in list {
        let name = name.as_str().unwrap_or_default();
        match name.to_ascii_lowercase().as_str() {
            "pull" => found.pull = true,
            "resolve" => found.resolve = true,
            "push" => found.push = true,
            "referrers" => found.referrers = true,
            _ => return Err(format!("unknown capability {name}")),
        }
    }
    Ok(found)
}

fn headers(table: &Table) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    let Some(value) = table.get("header") else { return Ok(headers) };
    let given = value.as_table().ok_or("invalid type for \"header\"")?;
    for (name, value) in given {
        let key: HeaderName = name.parse().map_err(|_| format!("invalid header name {name:?}"))?;
        let values = match value {
            Value::String(_) => std::slice::from_ref(value),
            Value::Array(values) => values,
            _ => return Err(format!("invalid type for header {name:?}")),
        };
        for value in values {
            let value =
                value.as_str().ok_or_else(|| format!("invalid type for header {name:?}"))?;
            let mut value: HeaderValue =
                value.parse().map_err(|_| format!("invalid value of header {name:?}"))?;
            // It may well be a credential.
            value.set_sensitive(true);
            headers.append(key.clone(), value);
        }
    }
    Ok(headers)
}

fn flag(table: &Table, name: &str) -> Result<Option<bool>, String> {
    match table.get(name) {
        None => Ok(None),
        Some(Value::Boolean(value)) => Ok(Some(*value)),
        Some(_) => Err(format!("invalid type for {name:?}")),
    }
}

/// One path or several, relative to the folder.
fn paths(table: &Table, name: &str, folder: &Path) -> Result<Vec<std::path::PathBuf>, String> {
    let one = |value: &Value| {
        let text = value.as_str().ok_or_else(|| format!("invalid type for {name:?}"))?;
        Ok(folder.join(text))
    };
    match table.get(name) {
        None => Ok(Vec::new()),
        Some(Value::Array(values)) => values.iter().map(one).collect(),
        Some(value) => Ok(vec![one(value)?]),
    }
}

/// `client`: a file with certificate and key, several such, or pairs of files.
fn pairs(
    table: &Table,
    folder: &Path,
) -> Result<Vec<(std::path::PathBuf, std::path::PathBuf)>, String> {
    const WRONG: &str = "invalid type for \"client\"";
    let both = |text: &str| (folder.join(text), folder.join(text));
    let values = match table.get("client") {
        None => return Ok(Vec::new()),
        Some(Value::String(path)) => return Ok(vec![both(path)]),
        Some(Value::Array(values)) => values,
        Some(_) => return Err(WRONG.into()),
    };
    let pair = |value: &Value| match value {
        Value::String(path) => Ok(both(path)),
        Value::Array(pair) => match pair.as_slice() {
            [Value::String(cert), Value::String(key)] if key.is_empty() => Ok(both(cert)),
            [Value::String(cert), Value::String(key)] => Ok((folder.join(cert), folder.join(key))),
            _ => Err("invalid pair for \"client\"".to_owned()),
        },
        _ => Err(WRONG.to_owned()),
    };
    values.iter().map(pair).collect()
}

/// A duration as Go writes it: `1m30s`, `1.5h`, `500ms`.
fn go_duration(text: &str) -> Option<Duration> {
    const UNITS: &[(&str, f64)] = &[
        ("ns", 1e-9),
        ("us", 1e-6),
        ("µs", 1e-6),
        ("ms", 1e-3),
        ("s", 1.0),
        ("m", 60.0),
        ("h", 3600.0),
    ];
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut seconds = 0.0;
    if text.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit)?;
        seconds += number.parse::<f64>().ok()? * scale;
        rest = after;
    }
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Result<Vec<Host>, String> {
        parse(text, Path::new("/c"), "r.io:5000")
    }

    #[test]
    fn hosts_keep_the_order_of_the_file_and_the_server_comes_last() {
        let text = r#"
            server = "https://r.io:5000"
            [host."https://z.io"]
              capabilities = ["pull", "resolve"]
              ca = "z.crt"
            [host."http://a.io:8080/mirror"]
              capabilities = ["Pull"]
              [host."http://a.io:8080/mirror".header]
                x-one = "1"
                x-many = ["2", "3"]
            [host."m.io/custom/root"]
              override_path = true
              skip_verify = true
              dial_timeout = "1m30s"
              client = [["c.cert", "c.key"], ["/abs/both.pem", ""]]
        "#;
        let found = all(text).unwrap();
        let shown: Vec<String> =
            found.iter().map(|e| format!("{:?} {}{}", e.reach, e.authority, e.path)).collect();
        assert_eq!(
            shown,
            [
                "Only(Https) z.io/v2",
                "Only(Http) a.io:8080/mirror/v2",
                "Only(Https) m.io/custom/root",
                "Only(Https) r.io:5000/v2"
            ]
        );
        assert_eq!(
            found[0].capabilities,
            Capabilities { push: false, referrers: false, ..Capabilities::ALL }
        );
        assert_eq!(found[0].tls.ca, [Path::new("/c/z.crt")]);
        assert_eq!(found[0].namespace.as_deref(), Some("r.io:5000"));
        assert_eq!(found[1].headers.len(), 3);
        assert!(found[2].tls.skip_verify && !found[2].upstream);
        assert_eq!(found[2].dial_timeout, Some(Duration::from_secs(90)));
        assert_eq!(found[2].tls.client[0], ("/c/c.cert".into(), "/c/c.key".into()));
        assert_eq!(found[2].tls.client[1], ("/abs/both.pem".into(), "/abs/both.pem".into()));
        assert!(found[3].upstream && found[3].namespace.is_none());
        assert_eq!(found[3].capabilities, Capabilities::ALL);
    }

    #[test]
    fn http_with_certificates_is_tried_by_https_first() {
        let reach = |text: &str| all(text).unwrap()[0].reach;
        assert_eq!(reach("server = \"http://a:5000\""), Reach::Only(Scheme::Http));
        assert_eq!(reach("server = \"http://a:5000\"\nskip_verify = true"), Reach::HttpsThenHttp);
        assert_eq!(reach("server = \"http://a:80\"\nca = \"x\""), Reach::Only(Scheme::Http));
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        for (text, error) in [
            ("capabilities = [\"fly\"]", "unknown capability fly"),
            ("ca = 1", "invalid type for \"ca\""),
            ("client = [[\"a\"]]", "invalid pair for \"client\""),
            ("dial_timeout = \"soon\"", "invalid duration \"soon\" for \"dial_timeout\""),
            ("dial_timeout = \"\"", "invalid duration \"\" for \"dial_timeout\""),
            (
                "server = \"ftp://x\"",
                "unable to parse server https://ftp://x: no Host in request URL",
            ),
            ("skip_verify = \"yes\"", "invalid type for \"skip_verify\""),
            ("[header]\n\"a b\" = \"x\"", "invalid header name \"a b\""),
        ] {
            assert_eq!(all(text).unwrap_err(), error, "{text}");
        }
        assert!(all("not toml").is_err());
    }

    #[test]
    fn durations_are_gos() {
        for (text, millis) in
            [("300ms", Some(300)), ("1.5h", Some(5_400_000)), ("1m2s", Some(62_000)), ("5", None)]
        {
            assert_eq!(go_duration(text), millis.map(Duration::from_millis), "{text}");
        }
    }
}
