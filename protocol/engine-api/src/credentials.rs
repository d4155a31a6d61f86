//! How credentials travel and rest: the header `X-Registry-Auth`, and the entries below `auths` of
//! a client's configuration file.

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::general_purpose::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::{ApiVersion, AuthConfig, Value, decode, encode};

/// Written with padding; other clients differ in whether they pad.
const HEADER: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

impl AuthConfig {
    /// The name of the header that carries credentials.
    pub const HEADER: &'static str = "X-Registry-Auth";

    /// What the header holds; `None` when it is empty.
    ///
    /// # Errors
    /// Why it can't be read.
    pub fn from_header(value: &[u8]) -> Result<Option<Self>, String> {
        let json = HEADER.decode(value).map_err(|e| e.to_string())?;
        if json.is_empty() {
            return Ok(None);
        }
        decode(&json).map(Some).map_err(|e| e.to_string())
    }

    /// The header's value.
    pub fn to_header(&self) -> String {
        HEADER.encode(encode(self, ApiVersion::MAX))
    }

    /// What the configuration file's entry for `address` says. A pair that can't be decoded counts
    /// as none.
    pub fn from_entry(address: &str, entry: &Value) -> Self {
        let members = entry.as_object().unwrap_or_default();
        let text = |key: &str| {
            let found = members.iter().find(|(name, _)| name == key);
            found.and_then(|(_, value)| value.as_str()).unwrap_or_default().to_owned()
        };
        let pair = STANDARD.decode(text("auth")).unwrap_or_default();
        let pair = String::from_utf8(pair).unwrap_or_default();
        let (username, password) = match pair.split_once(':') {
            Some((name, password)) => (name.to_owned(), password.trim_matches('\0').to_owned()),
            None => (text("username"), text("password")),
        };
        Self {
            username,
            password,
            identitytoken: text("identitytoken"),
            registrytoken: text("registrytoken"),
            serveraddress: address.into(),
            ..Self::default()
        }
    }

    /// The configuration file's entry.
    pub fn to_entry(&self) -> Value {
        let mut members = Vec::new();
        let pair = STANDARD.encode(format!("{}:{}", self.username, self.password));
        if !self.username.is_empty() || !self.password.is_empty() {
            members.push(("auth".to_owned(), Value::String(pair)));
        }
        for (name, value) in
            [("identitytoken", &self.identitytoken), ("registrytoken", &self.registrytoken)]
        {
            if !value.is_empty() {
                members.push((name.to_owned(), Value::String(value.clone())));
            }
        }
        Value::Object(members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;

    fn auth() -> AuthConfig {
        AuthConfig {
            username: "u".into(),
            password: "p:w\u{e9}".into(),
            identitytoken: "t".into(),
            serveraddress: "r:5000".into(),
            ..AuthConfig::default()
        }
    }

    #[test]
    fn the_header_is_read_with_and_without_padding() {
        let header = auth().to_header();
        assert_eq!(AuthConfig::from_header(header.as_bytes()), Ok(Some(auth())));
        let bare = header.trim_end_matches('=');
        assert_eq!(AuthConfig::from_header(bare.as_bytes()), Ok(Some(auth())));
        assert_eq!(AuthConfig::from_header(b""), Ok(None));
        assert!(AuthConfig::from_header(b"{}").is_err());
    }

    #[test]
    fn an_entry_says_what_was_kept_in_it() {
        assert_eq!(AuthConfig::from_entry("r:5000", &auth().to_entry()), auth());
        let plain = json::parse(br#"{"auth": "junk", "username": "u", "password": "p"}"#).unwrap();
        let read = AuthConfig::from_entry("h", &plain);
        assert_eq!((read.username.as_str(), read.password.as_str()), ("u", "p"));
        assert_eq!(AuthConfig::default().to_entry(), Value::Object(Vec::new()));
    }
}
