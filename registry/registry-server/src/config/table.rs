//! The options of both commands: names are ferryd's own where it has the same thing.

use options::Kind::{Bool, Int, List, Text};
use options::{Opt, Table, row};

/// The options of `serve`.
pub(super) const SERVE: Table = Table {
    program: "ferry-registry serve",
    about: "Serves the repositories below a folder by the OCI distribution protocol.",
    options: SERVE_OPTIONS,
    not_yet: &[],
    keys_not_yet: &[],
};

/// The options of `gc`.
pub(super) const GC: Table = Table {
    program: "ferry-registry gc",
    about: "Removes what no repository needs, also while the registry is being served.",
    options: GC_OPTIONS,
    not_yet: &[],
    keys_not_yet: &[],
};

#[rustfmt::skip]
const SERVE_OPTIONS: &[Opt] = &[
    row("access-log", None, "access-log", Text, "File for a line about every request; `-` for standard output, empty for none (default \"-\")"),
    row("allow-delete", None, "allow-delete", Bool, "Let clients delete blobs, manifests and tags (default true)"),
    row("auth-htpasswd", None, "auth-htpasswd", Text, "File of users and bcrypt hashes (htpasswd -B)"),
    row("auth-realm", None, "auth-realm", Text, "What clients show when they ask for a password (default \"ferry-registry\")"),
    row("auth-token-issuer", None, "auth-token-issuer", Text, "Who must have issued a token"),
    row("auth-token-jwks", None, "auth-token-jwks", Text, "JWKS file with the keys that tokens are signed with"),
    row("auth-token-realm", None, "auth-token-realm", Text, "URL from which clients get tokens"),
    row("auth-token-rootcertbundle", None, "auth-token-rootcertbundle", Text, "PEM file of certificates that tokens are signed with, or their issuers"),
    row("auth-token-service", None, "auth-token-service", Text, "Name of this registry with the issuer of tokens"),
    row("config-file", None, "", Text, "Configuration file (default \"/etc/ferry/registry.json\")"),
    row("debug", Some('D'), "debug", Bool, "Log debug messages"),
    row("help", Some('h'), "", Bool, "Print this"),
    row("listen", None, "listen", List, "Address and port to listen on (default \"127.0.0.1:5000\")"),
    row("log-format", None, "log-format", Text, "Format of the server's own log: text or json"),
    row("log-level", Some('l'), "log-level", Text, "Level of the server's own log: debug, info, warn, error, fatal (default \"info\")"),
    row("max-connections", None, "max-connections", Int, "Most connections at once (default 1024)"),
    row("max-uploads", None, "max-uploads", Int, "Most unfinished uploads at once (default 1024)"),
    row("metrics-addr", None, "metrics-addr", Text, "Address and port for /metrics"),
    row("pidfile", Some('p'), "pidfile", Text, "File for the process id"),
    row("proxy-password-file", None, "proxy-password-file", Text, "File with the password of that user"),
    row("proxy-remote-url", None, "proxy-remote-url", Text, "Registry to be a pull-through cache of"),
    row("proxy-ttl", None, "proxy-ttl", Text, "How long what nobody uses is cached; 0 for ever (default \"168h\")"),
    row("proxy-username", None, "proxy-username", Text, "User of that registry"),
    row("read-only", None, "read-only", Bool, "Refuse everything that changes something"),
    row("root", None, "root", Text, "Folder of what lasts (default \"/var/lib/ferry/registry\")"),
    row("shutdown-timeout", None, "shutdown-timeout", Int, "Seconds that requests get to end with the server (default 15)"),
    row("tlscacert", None, "tlscacert", Text, "PEM file of those whose client certificates are trusted"),
    row("tlscert", None, "tlscert", Text, "PEM file of the server's certificate chain: serve with TLS"),
    row("tlskey", None, "tlskey", Text, "PEM file of its key"),
    row("tlsverify", None, "tlsverify", Bool, "Demand a client certificate"),
    row("upload-expiry", None, "upload-expiry", Text, "How long an upload may rest before it is given up (default \"24h\")"),
    row("validate", None, "", Bool, "Check the configuration and exit"),
    row("version", Some('v'), "", Bool, "Print the version and exit"),
];

#[rustfmt::skip]
const GC_OPTIONS: &[Opt] = &[
    row("delete-untagged", None, "", Bool, "Also remove manifests that no tag leads to"),
    row("dry-run", None, "", Bool, "Only print what would go"),
    row("help", Some('h'), "", Bool, "Print this"),
    row("min-age", None, "", Text, "Spare what was pushed or asked for in this time (default \"24h\")"),
    row("root", None, "", Text, "Folder of what lasts (default \"/var/lib/ferry/registry\")"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_is_documented() {
        let page = include_str!("../../../../docs/registry.md");
        for option in SERVE_OPTIONS.iter().chain(GC_OPTIONS) {
            if !matches!(option.flag, "help" | "version") {
                assert!(page.contains(&format!("--{}", option.flag)), "{}", option.flag);
            }
        }
    }
}
