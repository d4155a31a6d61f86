//! Credentials of registries: in the configuration file, or in the keeping of the helper programs
//! that it names (`credsStore`, `credHelpers`).

mod helper;

use engine_api::{AuthConfig, Value, json};
use engine_client::Config;

use crate::error::CliError;

/// The key of Docker's own registry.
pub(crate) const HUB: &str = "https://index.docker.io/v1/";
/// What helpers hold in place of a user name beside an identity token.
const TOKEN_USER: &str = "<token>";

/// The host that an address of a registry means: without scheme and path.
pub(crate) fn hostname(address: &str) -> &str {
    let bare = address.strip_prefix("https://").or_else(|| address.strip_prefix("http://"));
    let bare = bare.unwrap_or(address);
    bare.split('/').next().unwrap_or(bare)
}

/// The key of a registry by the domain of image names.
pub(crate) fn key_of(domain: &str) -> &str {
    if domain == "docker.io" { HUB } else { domain }
}

/// The helper that keeps a registry's credentials; `None` when the file does.
fn helper_of(config: &Config, key: &str) -> Option<String> {
    let helpers = config.get("credHelpers").and_then(Value::as_object).unwrap_or_default();
    let own = helpers.iter().find(|(host, _)| host == key).and_then(|(_, name)| name.as_str());
    let name = own.unwrap_or_else(|| config.text("credsStore"));
    (!name.is_empty()).then(|| name.to_owned())
}

fn entries(config: &Config) -> Vec<(String, Value)> {
    config.get("auths").and_then(Value::as_object).unwrap_or_default().to_vec()
}

/// What the file says of a registry: under its very key, else under another address of its host.
fn in_file(config: &Config, key: &str) -> AuthConfig {
    let entries = entries(config);
    let exact = entries.iter().find(|(name, _)| name == key);
    let found = exact.or_else(|| entries.iter().find(|(name, _)| hostname(name) == hostname(key)));
    found
        .map_or_else(AuthConfig::default, |(address, entry)| AuthConfig::from_entry(address, entry))
}

/// The credentials for a registry; empty ones when there are none.
///
/// # Errors
/// A helper's.
pub(crate) fn get(config: &Config, key: &str) -> Result<AuthConfig, CliError> {
    let Some(helper) = helper_of(config, key) else { return Ok(in_file(config, key)) };
    let (username, secret) = helper::get(&helper, key)?;
    let mut auth = AuthConfig { serveraddress: key.into(), ..AuthConfig::default() };
    if username == TOKEN_USER {
        auth.identitytoken = secret;
    } else {
        (auth.username, auth.password) = (username, secret);
    }
    Ok(auth)
}

/// The credentials for an image's registry. A helper that fails means nobody, as for other clients
/// of these files.
pub(crate) fn of_domain(config: &Config, domain: &str) -> AuthConfig {
    get(config, key_of(domain)).unwrap_or_default()
}

/// The value of `X-Registry-Auth` for an image's registry.
pub(crate) fn header(config: &Config, domain: &str) -> (&'static str, String) {
    (AuthConfig::HEADER, of_domain(config, domain).to_header())
}

/// Whether there are any credentials, or anybody to keep them.
fn has_any(config: &Config) -> bool {
    !config.text("credsStore").is_empty()
        || !config.get("credHelpers").and_then(Value::as_object).unwrap_or_default().is_empty()
        || !entries(config).is_empty()
}

/// Keeps credentials. Returns whether a password was written to the file as it is.
///
/// # Errors
/// A helper's, or the file's.
pub(crate) fn store(config: &mut Config, auth: &AuthConfig) -> Result<bool, CliError> {
    if !has_any(config)
        && let Some(name) = helper::usual()
    {
        config.set("credsStore", Value::String(name));
    }
    let failed =
        |e: &dyn std::fmt::Display| CliError::new(format!("Error saving credentials: {e}"));
    let key = auth.serveraddress.as_str();
    let mut fresh = Value::Object(Vec::new());
    let keeper = helper_of(config, key);
    if let Some(helper) = &keeper {
        let (username, secret) = match auth.identitytoken.as_str() {
            "" => (auth.username.as_str(), auth.password.as_str()),
            token => (TOKEN_USER, token),
        };
        helper::store(helper, key, username, secret).map_err(|e| failed(&e))?;
    } else {
        fresh = auth.to_entry();
    }
    let mut entries = entries(config);
    match entries.iter_mut().find(|(name, _)| name == key) {
        Some((_, old)) if *old == fresh => return Ok(false),
        Some((_, old)) => *old = fresh,
        None => entries.push((key.to_owned(), fresh)),
    }
    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
    config.set("auths", Value::Object(entries));
    config.save().map_err(|e| failed(&crate::error::go_io_error(&e)))?;
    Ok(keeper.is_none() && !auth.password.is_empty())
}

/// Forgets a registry's credentials.
///
/// # Errors
/// A helper's, or the file's.
pub(crate) fn erase(config: &mut Config, key: &str) -> Result<(), CliError> {
    if let Some(helper) = helper_of(config, key) {
        helper::erase(&helper, key)?;
    }
    let mut entries = entries(config);
    let before = entries.len();
    entries.retain(|(name, _)| name != key);
    if entries.len() < before {
        config.set("auths", Value::Object(entries));
        config.save()?;
    }
    Ok(())
}

/// Reads what a helper or a file holds as an object of texts.
fn texts(bytes: &[u8]) -> Vec<(String, String)> {
    let value = json::parse(bytes).unwrap_or_default();
    let members = value.as_object().unwrap_or_default().iter();
    members.filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auth(key: &str, user: &str, password: &str) -> AuthConfig {
        AuthConfig {
            username: user.into(),
            password: password.into(),
            serveraddress: key.into(),
            ..AuthConfig::default()
        }
    }

    #[test]
    fn credentials_are_kept_in_the_file_beside_what_it_held() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.json");
        std::fs::write(&file, r#"{"mine": [1], "credHelpers": {"other": "x"}}"#).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        let (mut config, _) = Config::load(folder.path());
        assert!(store(&mut config, &auth("r:5000", "u", "p:w")).unwrap());
        assert!(!store(&mut config, &auth("r:5000", "u", "p:w")).unwrap());
        let (mut config, _) = Config::load(folder.path());
        assert_eq!(get(&config, "r:5000").unwrap(), auth("r:5000", "u", "p:w"));
        assert_eq!(config.get("mine").unwrap().to_string(), "[1]");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
        erase(&mut config, "r:5000").unwrap();
        assert_eq!(get(&config, "r:5000").unwrap(), AuthConfig::default());
    }

    #[test]
    fn an_address_in_the_file_is_found_by_its_host() {
        let folder = tempfile::tempdir().unwrap();
        let text = r#"{"auths": {"https://r.io/v2/": {"auth": "dTpw"}}}"#;
        std::fs::write(folder.path().join("config.json"), text).unwrap();
        let (config, _) = Config::load(folder.path());
        assert_eq!(get(&config, "r.io").unwrap().username, "u");
        assert_eq!(get(&config, "r.io:1").unwrap().username, "");
    }
}
