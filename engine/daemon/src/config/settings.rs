//! What the daemon runs with: every option in its own type, defaults filled in.

mod registries;
mod reload;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use serde_json::Value;

/// Where what lasts is, unless told otherwise.
pub const DATA_ROOT: &str = "/var/lib/ferry";

/// Where the API is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// A unix socket at this path.
    Unix(PathBuf),
    /// TCP at `address:port`, unencrypted: whoever reaches it owns the host.
    Tcp(String),
}

/// A runtime that containers may name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Runtime {
    /// An OCI runtime's program, run by our shim; empty when `runtime_type` names a shim.
    pub path: String,
    /// A containerd shim: `io.containerd.runc.v2` or an absolute path.
    pub runtime_type: Option<String>,
    /// Options that are passed to that shim.
    pub options: Option<Value>,
}

/// A default resource limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ulimit {
    /// Soft limit, -1 for none.
    pub soft: i64,
    /// Hard limit, -1 for none.
    pub hard: i64,
}

/// Log driver of containers that name none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogDefaults {
    /// The driver's name.
    pub driver: String,
    /// Its options.
    pub options: BTreeMap<String, String>,
}

/// Everything that flags and file can say. Sizes in bytes, times in seconds.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "each field is the option of the same name")]
pub struct Settings {
    pub hosts: Vec<Listen>,
    pub group: String,
    /// Whether the group was asked for, so that it must exist.
    pub group_is_explicit: bool,
    pub data_root: PathBuf,
    pub exec_root: PathBuf,
    pub pidfile: PathBuf,
    pub containerd: Option<PathBuf>,
    pub containerd_namespace: String,
    pub debug: bool,
    pub log_level: String,
    pub log_json: bool,
    pub experimental: bool,
    pub labels: Vec<String>,
    pub features: BTreeMap<String, bool>,
    pub live_restore: bool,
    pub shutdown_timeout: i64,
    pub storage_driver: String,
    pub default_runtime: String,
    pub runtimes: BTreeMap<String, Runtime>,
    pub systemd_cgroup: bool,
    pub cgroup_parent: String,
    pub default_cgroupns_mode: Option<String>,
    pub default_ipc_mode: String,
    pub default_shm_size: i64,
    pub default_ulimits: BTreeMap<String, Ulimit>,
    pub init: bool,
    pub init_path: Option<PathBuf>,
    pub no_new_privileges: bool,
    pub seccomp_profile: String,
    pub log: LogDefaults,
    pub bridge: Option<String>,
    pub bip: Option<String>,
    pub fixed_cidr: Option<String>,
    pub default_address_pools: Vec<(String, u8)>,
    pub mtu: Option<u32>,
    pub icc: bool,
    pub ip_forward: bool,
    pub ip_forward_no_drop: bool,
    pub ip_masq: bool,
    pub iptables: bool,
    pub dns: Vec<IpAddr>,
    pub dns_options: Vec<String>,
    pub dns_search: Vec<String>,
    pub insecure_registries: Vec<String>,
    pub registry_mirrors: Vec<String>,
    pub max_concurrent_downloads: usize,
    pub max_concurrent_uploads: usize,
    pub max_download_attempts: u32,
    pub http_proxy: String,
    pub https_proxy: String,
    pub no_proxy: String,
    pub push_compression: images::Compression,
}

/// The names under which our own runtime is known.
pub(super) const OWN_RUNTIMES: [&str; 2] = ["ferry-runc", "runc"];

impl Settings {
    /// Types and checks what flags and file said together.
    ///
    /// # Errors
    /// A sentence that names the option.
    pub(super) fn from_values(values: &BTreeMap<&'static str, Value>) -> Result<Settings, String> {
        let from = Values(values);
        let exec_root = from.path("exec-root", "/run/ferry");
        let runtimes = from.runtimes()?;
        let default_runtime = from.text("default-runtime", OWN_RUNTIMES[0]);
        let is_known = OWN_RUNTIMES.contains(&default_runtime.as_str())
            || runtimes.contains_key(&default_runtime)
            || default_runtime.starts_with("io.containerd.");
        if !is_known {
            return Err(format!("specified default runtime '{default_runtime}' does not exist"));
        }
        Ok(Settings {
            hosts: from.hosts(&exec_root)?,
            group: from.text("group", "docker"),
            group_is_explicit: values.contains_key("group"),
            data_root: from.path("data-root", DATA_ROOT),
            pidfile: from.path("pidfile", "/run/ferry/ferryd.pid"),
            containerd: values.contains_key("containerd").then(|| from.path("containerd", "")),
            containerd_namespace: from.text("containerd-namespace", "moby"),
            debug: from.flag("debug", false),
            log_level: from.one_of("log-level", &["info", "debug", "warn", "error", "fatal"])?,
            log_json: from.one_of("log-format", &["text", "json"])? == "json",
            experimental: from.flag("experimental", false),
            labels: from.labels()?,
            features: from.features(),
            live_restore: from.flag("live-restore", true),
            shutdown_timeout: from.int("shutdown-timeout", 15),
            storage_driver: from.snapshotter()?,
            default_runtime,
            runtimes,
            systemd_cgroup: from.systemd_cgroup()?,
            cgroup_parent: from.text("cgroup-parent", ""),
            default_cgroupns_mode: from.cgroupns()?,
            default_ipc_mode: from.one_of("default-ipc-mode", &["private", "shareable"])?,
            default_shm_size: from.shm_size()?,
            default_ulimits: from.ulimits()?,
            init: from.flag("init", false),
            init_path: values.contains_key("init-path").then(|| from.path("init-path", "")),
            no_new_privileges: from.flag("no-new-privileges", false),
            seccomp_profile: from.text("seccomp-profile", "builtin"),
            log: from.log_defaults(),
            bridge: from.optional("bridge"),
            bip: from.optional("bip"),
            fixed_cidr: from.optional("fixed-cidr"),
            default_address_pools: from.pools()?,
            mtu: from.mtu()?,
            icc: from.flag("icc", true),
            ip_forward: from.flag("ip-forward", true),
            ip_forward_no_drop: from.flag("ip-forward-no-drop", false),
            ip_masq: from.flag("ip-masq", true),
            iptables: from.flag("iptables", true),
            dns: from.dns()?,
            dns_options: from.list("dns-opts"),
            dns_search: from.list("dns-search"),
            insecure_registries: from.list("insecure-registries"),
            registry_mirrors: from.list("registry-mirrors"),
            max_concurrent_downloads: from.count("max-concurrent-downloads", 3)?,
            max_concurrent_uploads: from.count("max-concurrent-uploads", 5)?,
            max_download_attempts: from.attempts()?,
            http_proxy: from.proxy("http-proxy", "HTTP_PROXY"),
            https_proxy: from.proxy("https-proxy", "HTTPS_PROXY"),
            no_proxy: from.proxy("no-proxy", "NO_PROXY"),
            push_compression: from.push_compression()?,
            exec_root,
        })
    }
}

/// Plain look-ups, then one method for each option that is more than a scalar.
struct Values<'a>(&'a BTreeMap<&'static str, Value>);

impl Values<'_> {
    fn optional(&self, key: &str) -> Option<String> {
        self.0.get(key).and_then(Value::as_str).map(str::to_owned).filter(|text| !text.is_empty())
    }

    fn text(&self, key: &str, default: &str) -> String {
        self.optional(key).unwrap_or_else(|| default.to_owned())
    }

    fn path(&self, key: &str, default: &str) -> PathBuf {
        let path = PathBuf::from(self.text(key, default));
        // What is started works in another folder.
        std::path::absolute(&path).unwrap_or(path)
    }

    fn flag(&self, key: &str, default: bool) -> bool {
        self.0.get(key).and_then(Value::as_bool).unwrap_or(default)
    }

    fn int(&self, key: &str, default: i64) -> i64 {
        self.0.get(key).and_then(Value::as_i64).unwrap_or(default)
    }

    fn list(&self, key: &str) -> Vec<String> {
        let items = self.0.get(key).and_then(Value::as_array).into_iter().flatten();
        items.filter_map(Value::as_str).map(str::to_owned).collect()
    }

    fn object(&self, key: &str) -> impl Iterator<Item = (&String, &Value)> {
        self.0.get(key).and_then(Value::as_object).into_iter().flatten()
    }

    /// The first allowed word is the default.
    fn one_of(&self, key: &str, allowed: &[&str]) -> Result<String, String> {
        let word = self.text(key, allowed[0]);
        if allowed.contains(&word.as_str()) {
            return Ok(word);
        }
        Err(format!("invalid {key}: {word}: use one of {}", allowed.join(", ")))
    }

    fn hosts(&self, exec_root: &std::path::Path) -> Result<Vec<Listen>, String> {
        let mut hosts = Vec::new();
        for host in self.list("hosts") {
            hosts.push(match host.split_once("://") {
                Some(("unix", path)) if !path.is_empty() => Listen::Unix(path.into()),
                Some(("tcp", address)) if !address.is_empty() => Listen::Tcp(address.to_owned()),
                Some(("fd", _)) => return Err("socket activation (fd://) is not supported by Ferry yet".to_owned()),
                _ => return Err(format!("Invalid bind address format: {host}")),
            });
        }
        if hosts.is_empty() {
            hosts.push(Listen::Unix(exec_root.join("ferry.sock")));
        }
        Ok(hosts)
    }

    fn labels(&self) -> Result<Vec<String>, String> {
        let labels = self.list("labels");
        match labels.iter().find(|label| !label.contains('=')) {
            Some(label) => Err(format!("bad attribute format: {label}")),
            None => Ok(labels),
        }
    }

    fn features(&self) -> BTreeMap<String, bool> {
        self.object("features")
            .filter_map(|(name, on)| Some((name.clone(), on.as_bool()?)))
            .collect()
    }

    fn snapshotter(&self) -> Result<String, String> {
        match self.text("storage-driver", "overlayfs").as_str() {
            "overlay2" | "overlayfs" => Ok("overlayfs".to_owned()),
            "native" | "vfs" => Ok("native".to_owned()),
            other => {
                Err(format!("storage-driver {other} is not supported: use overlayfs or native"))
            }
        }
    }

    fn runtimes(&self) -> Result<BTreeMap<String, Runtime>, String> {
        let mut runtimes = BTreeMap::new();
        for (name, entry) in self.object("runtimes") {
            if name == "runc" || name == "ferry-runc" {
                return Err(format!("runtime name '{name}' is reserved"));
            }
            if entry
                .get("runtimeArgs")
                .and_then(Value::as_array)
                .is_some_and(|args| !args.is_empty())
            {
                return Err(format!(
                    "invalid runtime '{name}': runtimeArgs is not supported by Ferry yet"
                ));
            }
            let text =
                |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
            let (path, kind) = (text("path"), text("runtimeType"));
            if path.is_empty() == kind.is_empty() {
                return Err(format!(
                    "invalid runtime '{name}': either a path or a runtimeType must be set"
                ));
            }
            let options = entry.get("options").cloned();
            runtimes.insert(
                name.clone(),
                Runtime { path, runtime_type: Some(kind).filter(|k| !k.is_empty()), options },
            );
        }
        Ok(runtimes)
    }

    fn systemd_cgroup(&self) -> Result<bool, String> {
        let mut systemd = false;
        for option in self.list("exec-opts") {
            match option.as_str() {
                "native.cgroupdriver=systemd" => systemd = true,
                "native.cgroupdriver=cgroupfs" => systemd = false,
                other => return Err(format!("invalid exec-opt: {other}")),
            }
        }
        Ok(systemd)
    }

    fn cgroupns(&self) -> Result<Option<String>, String> {
        if self.optional("default-cgroupns-mode").is_none() {
            return Ok(None);
        }
        self.one_of("default-cgroupns-mode", &["private", "host"]).map(Some)
    }

    fn shm_size(&self) -> Result<i64, String> {
        const DEFAULT: i64 = 64 << 20;
        match self.0.get("default-shm-size") {
            None | Some(Value::Null) => Ok(DEFAULT),
            Some(Value::String(text)) => {
                bytes(text).ok_or_else(|| format!("invalid size: '{text}' of default-shm-size"))
            }
            Some(number) => number.as_i64().ok_or_else(|| "invalid default-shm-size".to_owned()),
        }
    }

    fn ulimits(&self) -> Result<BTreeMap<String, Ulimit>, String> {
        let mut limits = BTreeMap::new();
        for (name, entry) in self.object("default-ulimits") {
            let number = |key: &str| entry.get(key).and_then(Value::as_i64);
            let (Some(soft), Some(hard)) = (number("Soft"), number("Hard")) else {
                return Err(format!("invalid default ulimit {name}: needs Soft and Hard"));
            };
            if hard >= 0 && soft > hard {
                return Err(format!(
                    "ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"
                ));
            }
            limits.insert(name.clone(), Ulimit { soft, hard });
        }
        Ok(limits)
    }

    fn log_defaults(&self) -> LogDefaults {
        let options = self.object("log-opts");
        LogDefaults {
            driver: self.text("log-driver", "json-file"),
            options: options
                .map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()))
                .collect(),
        }
    }

    fn pools(&self) -> Result<Vec<(String, u8)>, String> {
        let items =
            self.0.get("default-address-pools").and_then(Value::as_array).into_iter().flatten();
        items
            .map(|pool| {
                let base = pool.get("base").and_then(Value::as_str);
                let size = pool
                    .get("size")
                    .and_then(Value::as_u64)
                    .and_then(|size| u8::try_from(size).ok());
                base.map(str::to_owned)
                    .zip(size)
                    .ok_or_else(|| "default-address-pools: an entry needs base and size".to_owned())
            })
            .collect()
    }

    fn mtu(&self) -> Result<Option<u32>, String> {
        let Some(mtu) = self.0.get("mtu").and_then(Value::as_i64) else { return Ok(None) };
        u32::try_from(mtu).map(Some).map_err(|_| format!("invalid default MTU: {mtu}"))
    }

    fn dns(&self) -> Result<Vec<IpAddr>, String> {
        let servers = self.list("dns");
        servers
            .iter()
            .map(|text| text.parse().map_err(|_| format!("{text} is not an ip address")))
            .collect()
    }
}

/// `64m`, `1g`, `512KiB`: units of 1024, as Docker reads sizes of memory.
fn bytes(text: &str) -> Option<i64> {
    let text = text.trim().to_ascii_lowercase();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == ' ');
    let number: f64 = digits.parse().ok()?;
    let unit = text[digits.len()..].trim().trim_end_matches('b').trim_end_matches('i');
    let scale = match unit {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return None,
    };
    Some((number * (1u64 << scale) as f64) as i64)
}

#[cfg(test)]
mod tests {
    use super::super::{ConfigError, Request, read};
    use super::*;

    fn settings(args: &[&str], file: Option<&str>) -> Result<Settings, ConfigError> {
        let path = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(path.path(), file.unwrap_or("{}")).unwrap();
        let config = ["--config-file".to_owned(), path.path().display().to_string()];
        let args: Vec<String> =
            config.into_iter().chain(args.iter().map(|arg| (*arg).to_owned())).collect();
        read(&args).map(|request| match request {
            Request::Serve(settings) => *settings,
            other => panic!("{other:?}"),
        })
    }

    fn failure(args: &[&str], file: Option<&str>) -> String {
        settings(args, file).unwrap_err().to_string()
    }

    #[test]
    fn flags_and_file_together_make_the_settings() {
        let got = settings(
            &[
                "-H",
                "unix:///a",
                "-Hunix:///b",
                "--icc=false",
                "-D",
                "--add-runtime",
                "c=/bin/crun",
                "--log-opt",
                "max-size=1m",
            ],
            Some(r#"{"data-root": "/d", "mtu": 1400, "default-shm-size": "128m"}"#),
        );
        let got = got.unwrap();
        assert_eq!(got.hosts, [Listen::Unix("/a".into()), Listen::Unix("/b".into())]);
        assert!(got.debug && !got.icc && got.live_restore);
        assert_eq!(got.runtimes["c"].path, "/bin/crun");
        assert_eq!(got.log.options["max-size"], "1m");
        assert_eq!((got.data_root, got.mtu), (PathBuf::from("/d"), Some(1400)));
        assert_eq!(got.default_shm_size, 128 << 20);
    }

    #[test]
    fn what_nobody_knows_is_named() {
        assert!(failure(&["--nope"], None).starts_with("unknown flag: --nope\n"));
        assert!(failure(&["-x"], None).starts_with("unknown shorthand flag: 'x' in -x"));
        assert!(
            failure(&["--tlsverify"], None).contains("not supported by Ferry yet: --tlsverify")
        );
        assert!(
            failure(&[], Some(r#"{"nope":1}"#))
                .ends_with("the following directives don't match any configuration option: nope")
        );
        assert!(failure(&[], Some(r#"{"tls":true}"#)).ends_with("not supported by Ferry yet: tls"));
    }

    #[test]
    fn wrong_values_get_the_texts_of_the_real_daemon() {
        assert!(failure(&[], Some(r#"{"debug":"x"}"#)).ends_with(
            "invalid JSON: json: cannot unmarshal string into Go struct field Config.debug of type bool"
        ));
        assert!(failure(&[], Some(r#"{"log-opts":{"max-size":5}}"#)).ends_with(
            "cannot unmarshal number into Go struct field Config.log-opts.max-size of type string"
        ));
        assert!(failure(&[], Some("{")).ends_with("invalid JSON: unexpected end of JSON input"));
        assert!(failure(&["-D"], Some(r#"{"debug":true}"#)).ends_with(
            "the following directives are specified both as a flag and in the configuration file: debug: (from flag: true, from file: true)"
        ));
        assert!(
            failure(&["-H", "unix:///y"], Some(r#"{"hosts":["unix:///x"]}"#))
                .ends_with("hosts: (from flag: [unix:///y], from file: [unix:///x])")
        );
    }

    #[test]
    fn sizes_are_read_in_units_of_1024() {
        assert_eq!(bytes("64m"), Some(64 << 20));
        assert_eq!(bytes("1.5k"), Some(1536));
        assert_eq!(bytes("2GiB"), Some(2 << 30));
        assert_eq!(bytes("1tb"), Some(1 << 40));
        assert_eq!(bytes("x"), None);
    }
}
