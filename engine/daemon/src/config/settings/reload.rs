//! What may change while the daemon runs, by dockerd's rules: what the configuration does not set
//! stays, but for the limits, which go back to their defaults.

use std::collections::BTreeMap;

use super::Settings;

impl Settings {
    /// These settings with what may change taken from `fresh`, as far as `is_set` by its key.
    pub(in crate::config) fn reloaded(
        &self,
        fresh: Settings,
        is_set: impl Fn(&str) -> bool,
    ) -> Settings {
        let mut out = self.clone();
        macro_rules! take {
            ($($key:literal $field:ident;)*) => {$(
                if is_set($key) {
                    out.$field = fresh.$field;
                }
            )*};
        }
        take! {
            "debug" debug;
            "labels" labels;
            "features" features;
            "live-restore" live_restore;
            "shutdown-timeout" shutdown_timeout;
            "runtimes" runtimes;
            "default-runtime" default_runtime;
            "default-shm-size" default_shm_size;
            "default-ipc-mode" default_ipc_mode;
            "registry-mirrors" registry_mirrors;
            "insecure-registries" insecure_registries;
            "push-compression" push_compression;
        }
        out.max_concurrent_downloads = fresh.max_concurrent_downloads;
        out.max_concurrent_uploads = fresh.max_concurrent_uploads;
        out.max_download_attempts = fresh.max_download_attempts;
        out
    }

    /// What an event tells of a reload.
    pub fn told(&self) -> BTreeMap<String, String> {
        let list = |list: &[String]| serde_json::to_string(list).unwrap_or_default();
        let features = self.features.iter().map(|(name, on)| format!("{name}:{on}"));
        let features = features.collect::<Vec<_>>().join(" ");
        let runtimes: Vec<&str> = self.runtimes.keys().map(String::as_str).collect();
        let cgroupns = self.default_cgroupns_mode.clone().unwrap_or_else(|| "host".to_owned());
        let pairs = [
            ("debug", self.debug.to_string()),
            ("default-cgroupns-mode", cgroupns),
            ("default-ipc-mode", self.default_ipc_mode.clone()),
            ("default-runtime", self.default_runtime.clone()),
            ("default-shm-size", self.default_shm_size.to_string()),
            ("features", format!("map[{features}]")),
            ("insecure-registries", list(&self.insecure_registries)),
            ("labels", list(&self.labels)),
            ("live-restore", self.live_restore.to_string()),
            ("max-concurrent-downloads", self.max_concurrent_downloads.to_string()),
            ("max-concurrent-uploads", self.max_concurrent_uploads.to_string()),
            ("max-download-attempts", self.max_download_attempts.to_string()),
            ("registry-mirrors", list(&self.registry_mirrors)),
            ("runtimes", runtimes.join(" ")),
            ("shutdown-timeout", self.shutdown_timeout.to_string()),
        ];
        pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }
}
