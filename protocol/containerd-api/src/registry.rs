//! How a transfer is to speak to registries beyond what containerd's messages can say: limits and
//! proxies, in the metadata of the call. ferry-containerd heeds them; containerd does not look at
//! them.

use tonic::metadata::{MetadataMap, MetadataValue};

const AT_ONCE: &str = "ferry-registry-at-once";
const ATTEMPTS: &str = "ferry-registry-attempts";
const PROXIES: [&str; 3] = ["ferry-http-proxy-bin", "ferry-https-proxy-bin", "ferry-no-proxy-bin"];

/// What a call asks for; what it leaves out is the peer's to decide.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistrySettings {
    /// Blobs that are moved at once, by all transfers of the namespace in the same direction.
    pub at_once: Option<u32>,
    /// Attempts at each request.
    pub attempts: Option<u32>,
    /// Proxies for http and https, and the hosts that are reached without, as the variables of
    /// the environment have them; in place of the peer's environment.
    pub proxies: Option<[String; 3]>,
}

impl RegistrySettings {
    /// Adds them to a call.
    pub fn write(&self, metadata: &mut MetadataMap) {
        let numbers = [(AT_ONCE, self.at_once), (ATTEMPTS, self.attempts)];
        for (key, number) in numbers {
            if let Some(number) = number {
                metadata.insert(key, number.into());
            }
        }
        for (key, text) in PROXIES.iter().zip(self.proxies.iter().flatten()) {
            metadata.insert_bin(*key, MetadataValue::from_bytes(text.as_bytes()));
        }
    }

    /// Reads them from a call.
    ///
    /// # Errors
    /// A sentence that names the key whose value is none.
    pub fn read(metadata: &MetadataMap) -> Result<Self, String> {
        let number = |key: &str| {
            let value = metadata.get(key)?.to_str().ok().and_then(|text| text.parse::<u32>().ok());
            Some(value.filter(|n| *n > 0).ok_or_else(|| format!("{key} is not a positive number")))
        };
        let text = |key: &str| {
            let bytes = metadata.get_bin(key)?.to_bytes().ok();
            let text = bytes.and_then(|bytes| String::from_utf8(bytes.to_vec()).ok());
            Some(text.ok_or_else(|| format!("{key} is not text")))
        };
        let mut proxies = None;
        if PROXIES.iter().any(|key| metadata.contains_key(*key)) {
            let [http, https, no] = PROXIES.map(|key| text(key).transpose());
            let given = |proxy: Option<String>| proxy.unwrap_or_default();
            proxies = Some([given(http?), given(https?), given(no?)]);
        }
        let (at_once, attempts) = (number(AT_ONCE).transpose()?, number(ATTEMPTS).transpose()?);
        Ok(Self { at_once, attempts, proxies })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_what_is_not_is_none() {
        let mut metadata = MetadataMap::new();
        assert_eq!(RegistrySettings::read(&metadata).unwrap(), RegistrySettings::default());
        let settings = RegistrySettings {
            at_once: Some(3),
            attempts: Some(1),
            proxies: Some([String::new(), "http://ü:1@proxy".into(), "a,b".into()]),
        };
        settings.write(&mut metadata);
        assert_eq!(RegistrySettings::read(&metadata).unwrap(), settings);
    }

    #[test]
    fn what_is_no_number_is_named() {
        for value in ["0", "-1", "x", "4294967296"] {
            let mut metadata = MetadataMap::new();
            metadata.insert(ATTEMPTS, value.parse().unwrap());
            let error = RegistrySettings::read(&metadata).unwrap_err();
            assert_eq!(error, "ferry-registry-attempts is not a positive number");
        }
    }
}
