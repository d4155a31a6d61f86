//! What versions change of replies beyond single fields: the newest ones are lowered to
//! what old clients read. Handlers see none of it; requests are raised in `upgrade`.

use crate::json::{Value, parse};
use crate::types::{ContainerInspect, ImageInspect, ImageSummary};
use crate::wire::{Wire, encode};
use crate::{ApiVersion, ContainerConfig, Time};

/// A reply whose form depends on the version.
pub trait DowngradeResponse: Wire {
    /// Changes it to what `version` shows.
    fn downgrade_response(&mut self, version: ApiVersion);
    /// The bytes for `version`, after `downgrade_response`. Overridden where
    /// even the order of members changes.
    fn body(&self, version: ApiVersion) -> String {
        encode(self, version)
    }
}

impl DowngradeResponse for ContainerInspect {
    fn downgrade_response(&mut self, version: ApiVersion) {
        if version.before(45) {
            let short: String = self.id.chars().take(12).collect();
            for (name, endpoint) in &mut self.network_settings.networks {
                // Only networks that users made ever had the short id.
                let predefined = matches!(name.as_str(), "bridge" | "host" | "none" | "default");
                if predefined || self.host_config.network_mode.starts_with("container:") {
                    continue;
                }
                let aliases = endpoint.aliases.get_or_insert_default();
                aliases.push(short.clone());
                let mut seen = std::collections::BTreeSet::new();
                aliases.retain(|alias| seen.insert(alias.clone()));
            }
        }
    }
}

impl DowngradeResponse for Vec<ImageSummary> {
    fn downgrade_response(&mut self, version: ApiVersion) {
        for image in self {
            image.virtual_size = image.size;
            if version.before(51) {
                image.containers = -1;
            }
            if version.before(43) {
                // Old clients got null, and `<none>` in place of no name.
                if image.repo_digests.as_ref().is_some_and(Vec::is_empty) {
                    image.repo_digests = None;
                }
                if image.repo_tags.as_ref().is_some_and(Vec::is_empty) {
                    image.repo_tags = Some(vec!["<none>:<none>".into()]);
                    image.repo_digests.get_or_insert_with(|| vec!["<none>@<none>".into()]);
                }
            }
        }
    }
}

impl DowngradeResponse for ImageInspect {
    fn downgrade_response(&mut self, version: ApiVersion) {
        if version.before(44) {
            self.virtual_size = self.size;
            if self.created.is_empty() {
                self.created = Time::default().rfc3339();
            }
        }
        if version.before(45) && self.container_config.is_none() {
            self.container_config = Some(ContainerConfig::default());
        }
    }

    fn body(&self, version: ApiVersion) -> String {
        let text = encode(self, version);
        let Ok(Value::Object(mut members)) = parse(text.as_bytes()) else { return text };
        for (key, value) in &mut members {
            if key == "Config" {
                let config = std::mem::take(value);
                *value = config_members(config, version);
            }
        }
        // dockerd writes the configuration after all else.
        if let Some(at) = members.iter().position(|(key, _)| key == "Config") {
            let config = members.remove(at);
            members.push(config);
        }
        Value::Object(members).to_string() + "\n"
    }
}

/// dockerd passes an image's configuration through a sorted map with defaults
/// in it; before 1.50 with those of a container's configuration too.
fn config_members(config: Value, version: ApiVersion) -> Value {
    let Value::Object(mut members) = config else { return config };
    let mut defaults = vec![
        ("Cmd", Value::Null),
        ("Entrypoint", Value::Null),
        ("Env", Value::Null),
        ("Labels", Value::Null),
        ("OnBuild", Value::Null),
        ("User", Value::from("")),
        ("Volumes", Value::Null),
        ("WorkingDir", Value::from("")),
    ];
    if version.before(50) {
        let no = || Value::Bool(false);
        defaults.extend([
            ("AttachStderr", no()),
            ("AttachStdin", no()),
            ("AttachStdout", no()),
            ("Domainname", Value::from("")),
            ("Hostname", Value::from("")),
            ("Image", Value::from("")),
            ("OpenStdin", no()),
            ("StdinOnce", no()),
            ("Tty", no()),
        ]);
    }
    for (key, value) in defaults {
        if !members.iter().any(|(k, _)| k == key) {
            members.push((key.to_owned(), value));
        }
    }
    members.sort_by(|a, b| a.0.cmp(&b.0));
    Value::Object(members)
}

impl DowngradeResponse for crate::SystemInfo {
    fn downgrade_response(&mut self, version: ApiVersion) {
        if version.before(49) {
            for commit in
                [&mut self.runc_commit, &mut self.containerd_commit, &mut self.init_commit]
            {
                commit.expected = commit.id.clone();
            }
        }
    }

    fn body(&self, version: ApiVersion) -> String {
        let text = encode(self, version);
        if !version.before(50) {
            return text;
        }
        let Ok(Value::Object(mut members)) = parse(text.as_bytes()) else { return text };
        members.push(("BridgeNfIptables".into(), Value::Bool(false)));
        members.push(("BridgeNfIp6tables".into(), Value::Bool(false)));
        Value::Object(members).sorted().to_string() + "\n"
    }
}
