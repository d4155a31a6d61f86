//! The URI by which a client describes a sink:
//! `binary:///abs/shim?v=1&id=…[&exec=…]&driver=…[&log=…][&max-size=…][&max-file=…][&attrs=…]
//! [&mode=…][&max-buffer-size=…]&exit=…&sock=…&stdin=…&tty=…`, values percent-encoded.
//! Parsed strictly: an unknown key is an error, so that no wish is lost silently.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Bytes at which a log file rotates when the URI names no size: 20m.
pub const DEFAULT_MAX_SIZE: u64 = 20_000_000;
/// Log files kept when the URI names no number.
pub const DEFAULT_MAX_FILE: u32 = 5;
/// Bytes queued under `mode=non-blocking` when the URI names no number, as Docker has it.
pub const DEFAULT_MAX_BUFFER: u64 = 1_000_000;

/// What feeds the process's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stdin {
    /// `/dev/null`.
    #[default]
    None,
    /// Open until STDIN_CLOSE.
    Open,
    /// As `Open`, and the orderly leave of the attacher that sends input closes it.
    Once,
}

/// What happens to output when the log can't keep up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// The container waits; nothing is lost.
    #[default]
    Blocking,
    /// Beyond this many queued bytes, new output is dropped and counted.
    NonBlocking {
        /// Queue size in bytes.
        max_buffer: u64,
    },
}

/// The json-file driver's parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonFile {
    /// The log's path; rotated ones get `.1`, `.2`, ….
    pub path: PathBuf,
    /// Bytes at which it rotates; `None` (`-1` in the URI): never.
    pub max_size: Option<u64>,
    /// Files kept, at least 1.
    pub max_file: u32,
    /// A JSON object that every line carries as `attrs`; empty: none.
    pub attrs: String,
}

/// Where output goes, besides attachers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Driver {
    /// Nowhere.
    #[default]
    None,
    /// Docker's json-file.
    JsonFile(JsonFile),
}

/// A sink's description.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SinkUri {
    /// Absolute path of the shim.
    pub program: PathBuf,
    /// Container.
    pub id: String,
    /// Exec's id; empty: the container's own process.
    pub exec: String,
    /// Where output goes.
    pub driver: Driver,
    /// What happens when the log can't keep up.
    pub mode: Mode,
    /// Exit record's path.
    pub exit: PathBuf,
    /// Path of the socket for attachers.
    pub sock: PathBuf,
    /// What feeds input.
    pub stdin: Stdin,
    /// Input and output are a terminal.
    pub tty: bool,
}

/// A URI that describes no sink.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid sink URI: {0}")]
pub struct InvalidUri(pub String);

/// Percent-encodes everything but unreserved characters and `/`.
pub fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            out.push(byte as char);
        } else {
            const HEX: &[u8; 16] = b"0123456789ABCDEF";
            out.push('%');
            out.push(HEX[(byte >> 4) as usize] as char);
            out.push(HEX[(byte & 15) as usize] as char);
        }
    }
    out
}

/// Undoes percent-encoding; with `plus`, `+` means a space, as in queries. `None`: malformed.
pub fn percent_decode(text: &str, plus: bool) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let mut digit = || (bytes.next()? as char).to_digit(16);
                (digit()? * 16 + digit()?) as u8
            }
            b'+' if plus => b' ',
            other => other,
        });
    }
    String::from_utf8(out).ok()
}

/// A pair of decoded query keys and values, in the URI's order; shared with plain `binary://`.
pub(crate) fn query_pairs(query: &str) -> Option<Vec<(String, String)>> {
    let pairs = query.split('&').filter(|p| !p.is_empty());
    pairs
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((percent_decode(key, true)?, percent_decode(value, true)?))
        })
        .collect()
}

impl FromStr for SinkUri {
    type Err = InvalidUri;

    fn from_str(text: &str) -> Result<Self, InvalidUri> {
        let invalid = |why: &str| InvalidUri(why.to_owned());
        let rest = text.strip_prefix("binary://").ok_or_else(|| invalid("not binary://"))?;
        let (program, query) = rest.split_once('?').unwrap_or((rest, ""));
        let program = percent_decode(program, false).ok_or_else(|| invalid("malformed path"))?;
        let mut keys = BTreeMap::new();
        for (key, value) in query_pairs(query).ok_or_else(|| invalid("malformed query"))? {
            if keys.insert(key.clone(), value).is_some() {
                return Err(InvalidUri(format!("{key} is given twice")));
            }
        }
        let uri = Self::from_keys(program, &mut keys)?;
        match keys.keys().next() {
            Some(key) => Err(InvalidUri(format!("unknown key {key}"))),
            None => Ok(uri),
        }
    }
}

impl SinkUri {
    /// Whether a stdio URI is one of a sink (`v=1` and a socket), without parsing it whole.
    pub fn looks_like(text: &str) -> bool {
        let query = text.strip_prefix("binary://").and_then(|t| t.split_once('?'));
        let Some((_, query)) = query else { return false };
        let has = |wanted: &str| query.split('&').any(|p| p.starts_with(wanted));
        has("v=") && has("sock=")
    }

    fn from_keys(program: String, keys: &mut BTreeMap<String, String>) -> Result<Self, InvalidUri> {
        let mut take = |key: &str| keys.remove(key);
        let required = |key: &str, value: Option<String>| {
            value.filter(|v| !v.is_empty()).ok_or_else(|| InvalidUri(format!("{key} is missing")))
        };
        let bad = |key: &str, value: &str| InvalidUri(format!("{key}={value:?} is not valid"));
        match take("v").as_deref() {
            Some("1") => {}
            other => return Err(bad("v", other.unwrap_or(""))),
        }
        let driver = match required("driver", take("driver"))?.as_str() {
            "none" => Driver::None,
            "json-file" => Driver::JsonFile(JsonFile {
                path: absolute("log", required("log", take("log"))?)?,
                max_size: max_size(take("max-size"))?,
                max_file: match take("max-file") {
                    None => DEFAULT_MAX_FILE,
                    Some(n) => {
                        n.parse().ok().filter(|n| *n > 0).ok_or_else(|| bad("max-file", &n))?
                    }
                },
                attrs: match take("attrs") {
                    Some(json) => attrs(&json).ok_or_else(|| bad("attrs", &json))?,
                    None => String::new(),
                },
            }),
            other => return Err(bad("driver", other)),
        };
        let buffer = match take("max-buffer-size") {
            None => DEFAULT_MAX_BUFFER,
            Some(n) => {
                n.parse().ok().filter(|n| *n > 0).ok_or_else(|| bad("max-buffer-size", &n))?
            }
        };
        Ok(Self {
            program: absolute("path", program)?,
            id: required("id", take("id"))?,
            exec: take("exec").unwrap_or_default(),
            driver,
            mode: match take("mode").as_deref() {
                None | Some("" | "blocking") => Mode::Blocking,
                Some("non-blocking") => Mode::NonBlocking { max_buffer: buffer },
                Some(other) => return Err(bad("mode", other)),
            },
            exit: absolute("exit", required("exit", take("exit"))?)?,
            sock: absolute("sock", required("sock", take("sock"))?)?,
            stdin: match required("stdin", take("stdin"))?.as_str() {
                "none" => Stdin::None,
                "open" => Stdin::Open,
                "once" => Stdin::Once,
                other => return Err(bad("stdin", other)),
            },
            tty: match required("tty", take("tty"))?.as_str() {
                "0" => false,
                "1" => true,
                other => return Err(bad("tty", other)),
            },
        })
    }
}

fn absolute(key: &str, value: String) -> Result<PathBuf, InvalidUri> {
    if Path::new(&value).is_absolute() && !value.contains('\0') {
        Ok(PathBuf::from(value))
    } else {
        Err(InvalidUri(format!("{key}={value:?} is not an absolute path")))
    }
}

fn max_size(value: Option<String>) -> Result<Option<u64>, InvalidUri> {
    match value.as_deref() {
        None => Ok(Some(DEFAULT_MAX_SIZE)),
        Some("-1") => Ok(None),
        Some(n) => match n.parse() {
            Ok(bytes) if bytes > 0 => Ok(Some(bytes)),
            _ => Err(InvalidUri(format!("max-size={n:?} is not valid"))),
        },
    }
}

/// The object's compact text as it stands in log lines; an empty object is no attributes.
fn attrs(json: &str) -> Option<String> {
    if json.is_empty() {
        return Some(String::new());
    }
    let object: BTreeMap<String, String> = serde_json::from_str(json).ok()?;
    if object.is_empty() { Some(String::new()) } else { serde_json::to_string(&object).ok() }
}

impl fmt::Display for SinkUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = |p: &Path| percent_encode(&p.to_string_lossy());
        write!(f, "binary://{}?v=1&id={}", path(&self.program), percent_encode(&self.id))?;
        if !self.exec.is_empty() {
            write!(f, "&exec={}", percent_encode(&self.exec))?;
        }
        match &self.driver {
            Driver::None => f.write_str("&driver=none")?,
            Driver::JsonFile(file) => {
                write!(f, "&driver=json-file&log={}", path(&file.path))?;
                match file.max_size {
                    Some(bytes) => write!(f, "&max-size={bytes}")?,
                    None => f.write_str("&max-size=-1")?,
                }
                write!(f, "&max-file={}", file.max_file)?;
                if !file.attrs.is_empty() {
                    write!(f, "&attrs={}", percent_encode(&file.attrs))?;
                }
            }
        }
        if let Mode::NonBlocking { max_buffer } = self.mode {
            write!(f, "&mode=non-blocking&max-buffer-size={max_buffer}")?;
        }
        let stdin = match self.stdin {
            Stdin::None => "none",
            Stdin::Open => "open",
            Stdin::Once => "once",
        };
        write!(
            f,
            "&exit={}&sock={}&stdin={stdin}&tty={}",
            path(&self.exit),
            path(&self.sock),
            u8::from(self.tty)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn uris() -> impl Strategy<Value = SinkUri> {
        let path = || "/[ -~äß]{1,40}".prop_map(PathBuf::from);
        let file = (path(), any::<Option<u32>>(), 1u32..9, "[a-z\"&=%+]{0,9}").prop_map(
            |(path, size, max_file, value)| {
                let attrs = match value.as_str() {
                    "" => String::new(),
                    v => serde_json::to_string(&BTreeMap::from([("k", v)])).unwrap(),
                };
                let max_size = size.map(|n| u64::from(n) + 1);
                Driver::JsonFile(JsonFile { path, max_size, max_file, attrs })
            },
        );
        let driver = prop_oneof![Just(Driver::None), file];
        let mode = prop_oneof![
            Just(Mode::Blocking),
            (1u64..9999).prop_map(|max_buffer| Mode::NonBlocking { max_buffer }),
        ];
        let stdin = prop_oneof![Just(Stdin::None), Just(Stdin::Open), Just(Stdin::Once)];
        (path(), "[!-~]{1,20}", ".{0,8}", driver, mode, path(), path(), stdin, any::<bool>())
            .prop_map(|(program, id, exec, driver, mode, exit, sock, stdin, tty)| SinkUri {
                program,
                id,
                exec,
                driver,
                mode,
                exit,
                sock,
                stdin,
                tty,
            })
    }

    proptest! {
        #[test]
        fn a_written_uri_reads_back(uri in uris()) {
            let text = uri.to_string();
            prop_assert!(SinkUri::looks_like(&text));
            prop_assert_eq!(text.parse::<SinkUri>(), Ok(uri));
        }

        #[test]
        fn foreign_text_never_panics(text in "(binary://)?.{0,80}") {
            let _ = text.parse::<SinkUri>();
        }
    }

    #[test]
    fn an_unknown_key_is_named() {
        let text = "binary:///s?v=1&id=a&driver=none&exit=/e&sock=/s&stdin=none&tty=0&colour=red";
        let error = text.parse::<SinkUri>().unwrap_err();
        assert_eq!(error.to_string(), "invalid sink URI: unknown key colour");
    }
}
