//! Platforms: parsing, normal form, and which one a host prefers.
//!
//! Names are Go's (`amd64`, `arm64`); matching is containerd's default.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Operating system and CPU that an image is for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// CPU architecture.
    #[serde(default)]
    pub architecture: String,
    /// Operating system.
    #[serde(default)]
    pub os: String,
    /// Version of the operating system.
    #[serde(rename = "os.version", default, skip_serializing_if = "String::is_empty")]
    pub os_version: String,
    /// Features of the operating system that are needed.
    #[serde(
        rename = "os.features",
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "crate::image::null_is_default"
    )]
    pub os_features: Vec<String>,
    /// Variant of the CPU, as `v7`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

/// A platform text that can't be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPlatform {
    /// A wrong character, or too many parts.
    #[error("\"{0}\": cannot parse platform specifier: invalid argument")]
    Format(String),
    /// A single word that is neither a system nor an architecture.
    #[error("\"{0}\": unknown operating system or architecture: invalid argument")]
    Unknown(String),
}

impl Platform {
    /// A platform from its three usual parts, as given.
    pub fn new(os: &str, architecture: &str, variant: &str) -> Self {
        Self {
            architecture: architecture.into(),
            os: os.into(),
            variant: variant.into(),
            ..Self::default()
        }
    }

    /// What this program was built for, in normal form.
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "powerpc64" => "ppc64le",
            "loongarch64" => "loong64",
            other => other,
        };
        Self::new("linux", architecture, "").normalized()
    }

    /// The normal form: aliases resolved, default variants made explicit or dropped.
    pub fn normalized(&self) -> Self {
        let os = match self.os.to_lowercase().as_str() {
            "macos" => "darwin".into(),
            other => other.to_owned(),
        };
        let (architecture, variant) = normalize_cpu(&self.architecture, &self.variant);
        Self { architecture, os, variant, ..self.clone() }
    }

    /// What a host of this platform can run, best first: itself, then older
    /// variants of its CPU, then the 32 bit form.
    pub fn accepted(&self) -> Vec<Self> {
        let own = self.normalized();
        let with = |architecture: &str, variant: &str| Self {
            architecture: architecture.into(),
            variant: variant.into(),
            ..own.clone()
        };
        let mut list = vec![own.clone()];
        match own.architecture.as_str() {
            "amd64" => {
                if let Some(level) = level(&own.variant) {
                    list.extend((2..level).rev().map(|v| with("amd64", &format!("v{v}"))));
                    list.push(with("amd64", ""));
                }
                list.push(with("386", ""));
            }
            "arm" => {
                let level = level(&own.variant).unwrap_or(7);
                list.extend((5..level).rev().map(|v| with("arm", &format!("v{v}"))));
            }
            "arm64" => {
                if !own.variant.is_empty() {
                    list.push(with("arm64", ""));
                }
                list.extend((5..=8).rev().map(|v| with("arm", &format!("v{v}"))));
            }
            _ => {}
        }
        list
    }

    /// How well an image for `image` runs on a host of this platform: 0 is best, `None` not at all.
    pub fn rank(&self, image: &Self) -> Option<usize> {
        let image = image.normalized();
        self.accepted().iter().position(|p| {
            p.os == image.os
                && p.architecture == image.architecture
                && p.variant == image.variant
                && (p.os_version.is_empty() || p.os_version == image.os_version)
        })
    }

    /// Whether `other` is this very platform, once both are in normal form.
    pub fn same(&self, other: &Self) -> bool {
        let (a, b) = (self.normalized(), other.normalized());
        a.os == b.os && a.architecture == b.architecture && a.variant == b.variant
    }
}

fn level(variant: &str) -> Option<u8> {
    variant.strip_prefix('v')?.parse().ok()
}

fn normalize_cpu(architecture: &str, variant: &str) -> (String, String) {
    let (architecture, variant) = (architecture.to_lowercase(), variant.to_lowercase());
    let (architecture, variant) = match architecture.as_str() {
        "i386" => ("386", String::new()),
        "x86_64" | "x86-64" | "amd64" => {
            ("amd64", if variant == "v1" { String::new() } else { variant })
        }
        "aarch64" | "arm64" => {
            ("arm64", if matches!(variant.as_str(), "8" | "v8") { String::new() } else { variant })
        }
        "armhf" => ("arm", "v7".into()),
        "armel" => ("arm", "v6".into()),
        "arm" => {
            let variant = match variant.as_str() {
                "" | "7" => "v7".into(),
                "5" | "6" | "8" => format!("v{variant}"),
                _ => variant,
            };
            ("arm", variant)
        }
        other => (other, variant),
    };
    (architecture.to_owned(), variant)
}

fn is_os(word: &str) -> bool {
    matches!(
        word,
        "aix"
            | "android"
            | "darwin"
            | "dragonfly"
            | "freebsd"
            | "hurd"
            | "illumos"
            | "ios"
            | "js"
            | "linux"
            | "nacl"
            | "netbsd"
            | "openbsd"
            | "plan9"
            | "solaris"
            | "windows"
            | "zos"
    )
}

fn is_architecture(word: &str) -> bool {
    matches!(
        word,
        "386"
            | "amd64"
            | "amd64p32"
            | "arm"
            | "armbe"
            | "arm64"
            | "arm64be"
            | "ppc64"
            | "ppc64le"
            | "loong64"
            | "mips"
            | "mipsle"
            | "mips64"
            | "mips64le"
            | "mips64p32"
            | "mips64p32le"
            | "ppc"
            | "riscv"
            | "riscv64"
            | "s390"
            | "s390x"
            | "sparc"
            | "sparc64"
            | "wasm"
    )
}

impl FromStr for Platform {
    type Err = InvalidPlatform;

    /// Parses `os`, `architecture`, `os/architecture` or `os/architecture/variant`.
    fn from_str(s: &str) -> Result<Self, InvalidPlatform> {
        let parts: Vec<&str> = s.split('/').collect();
        let fits = |p: &&str| {
            !p.is_empty()
                && p.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
        };
        if parts.len() > 3 || !parts.iter().all(fits) {
            return Err(InvalidPlatform::Format(s.into()));
        }
        Ok(match parts.as_slice() {
            [word] => {
                let os = Self::new(word, "", "").normalized().os;
                let host = Self::host();
                if is_os(&os) {
                    Self::new(&os, &host.architecture, &host.variant)
                } else {
                    let cpu = Self::new("linux", word, "").normalized();
                    if !is_architecture(&cpu.architecture) {
                        return Err(InvalidPlatform::Unknown(s.into()));
                    }
                    cpu
                }
            }
            [os, architecture] => Self::new(os, architecture, "").normalized(),
            [os, architecture, variant] => {
                let mut p = Self::new(os, architecture, variant).normalized();
                if p.architecture == "arm64" && p.variant.is_empty() {
                    p.variant = "v8".into();
                }
                p
            }
            _ => return Err(InvalidPlatform::Format(s.into())),
        })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.os.is_empty() {
            return f.write_str("unknown");
        }
        f.write_str(&self.os)?;
        for part in [&self.architecture, &self.variant] {
            if !part.is_empty() {
                write!(f, "/{part}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn p(s: &str) -> Platform {
        s.parse().unwrap()
    }

    #[test]
    fn aliases_have_one_normal_form() {
        assert_eq!(p("linux/x86_64").to_string(), "linux/amd64");
        assert_eq!(p("linux/aarch64").to_string(), "linux/arm64");
        assert_eq!(p("linux/armhf").to_string(), "linux/arm/v7");
        assert_eq!(p("linux/arm").to_string(), "linux/arm/v7");
        assert_eq!(p("linux/arm64/v8").to_string(), "linux/arm64/v8");
        assert_eq!(p("arm64").to_string(), "linux/arm64");
        assert_eq!(p("macos/amd64").to_string(), "darwin/amd64");
        assert!("linux/".parse::<Platform>().is_err());
        assert!("a/b/c/d".parse::<Platform>().is_err());
        assert!("nonsense".parse::<Platform>().is_err());
    }

    #[test]
    fn a_host_prefers_itself_and_accepts_its_elders() {
        let host = p("linux/amd64");
        assert_eq!(host.rank(&p("linux/amd64")), Some(0));
        assert_eq!(host.rank(&p("linux/386")), Some(1));
        assert_eq!(host.rank(&p("linux/arm64")), None);
        assert_eq!(host.rank(&Platform::new("linux", "amd64", "v2")), None);
        assert_eq!(Platform::new("linux", "amd64", "v3").rank(&host), Some(2));
        assert_eq!(p("linux/arm/v7").rank(&p("linux/arm/v6")), Some(1));
        assert_eq!(p("linux/arm/v6").rank(&p("linux/arm/v7")), None);
        assert_eq!(p("linux/arm64").rank(&Platform::new("linux", "arm64", "v8")), Some(0));
        assert!(p("linux/arm64").rank(&p("linux/arm/v7")).is_some());
    }

    proptest! {
        #[test]
        fn the_normal_form_is_stable(os: String, cpu: String, variant: String) {
            let once = Platform::new(&os, &cpu, &variant).normalized();
            prop_assert_eq!(once.normalized(), once);
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = text.parse::<Platform>();
        }
    }
}
