//! How registries are spoken to: limits and proxies.

use images::Compression;

use super::Values;

impl Values<'_> {
    /// A number of things at once; dockerd takes 0 for one that nobody set.
    pub(super) fn count(&self, key: &str, default: usize) -> Result<usize, String> {
        let value = self.int(key, 0);
        match usize::try_from(value) {
            Ok(0) => Ok(default),
            Ok(count) => Ok(count.min(tokio::sync::Semaphore::MAX_PERMITS)),
            Err(_) => Err(format!("invalid {}: {value}", key.replace('-', " "))),
        }
    }

    pub(super) fn attempts(&self) -> Result<u32, String> {
        let value = self.int("max-download-attempts", 0);
        match u32::try_from(value) {
            Ok(0) if self.0.contains_key("max-download-attempts") => {
                Err(format!("invalid max download attempts: {value}"))
            }
            Ok(0) => Ok(5),
            Ok(attempts) => Ok(attempts),
            Err(_) => Err(format!("invalid max download attempts: {value}")),
        }
    }

    pub(super) fn push_compression(&self) -> Result<Compression, String> {
        let word = self.one_of("push-compression", &["gzip", "zstd", "none"])?;
        Ok(match word.as_str() {
            "zstd" => Compression::Zstd,
            "none" => Compression::None,
            _ => Compression::Gzip,
        })
    }

    /// What was set, else the environment's.
    pub(super) fn proxy(&self, key: &str, variable: &str) -> String {
        let names = [variable.to_owned(), variable.to_ascii_lowercase()];
        let found =
            names.iter().find_map(|name| std::env::var(name).ok().filter(|v| !v.is_empty()));
        let set = self.object("proxies").find(|(name, _)| *name == key);
        let set = set.and_then(|(_, value)| value.as_str()).filter(|value| !value.is_empty());
        set.map(str::to_owned).or(found).unwrap_or_default()
    }
}
