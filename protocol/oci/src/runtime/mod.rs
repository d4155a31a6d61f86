//! `config.json` of an OCI bundle (runtime-spec 1.3), the state document and the features document.
//!
//! Data only: every field the specification has, all of them optional in Rust as far as the
//! specification or Go's encoder lets a writer leave them out. Unknown fields are ignored, `null`
//! reads as absent, what is empty is not written. What a combination of fields *means*, and whether
//! it is allowed, is decided by the runtime and must not be decided here.

mod features;
mod linux;
mod process;
mod resources;
mod seccomp;
mod state;

pub use features::*;
pub use linux::*;
pub use process::*;
pub use resources::*;
pub use seccomp::*;
pub use state::*;

use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::collections::BTreeMap;

/// The version of the runtime specification that these types describe.
pub const SPEC_VERSION: &str = "1.3.0";

/// A document of the specification that is read from JSON.
pub trait Document: serde::de::DeserializeOwned {}
impl<T: serde::de::DeserializeOwned> Document for T {}

/// Reads a document.
///
/// # Errors
/// When it is not JSON, or a field has another type.
pub fn from_json<T: Document>(bytes: &[u8]) -> serde_json::Result<T> {
    serde_json::from_slice(bytes)
}

/// Writes a document over several lines.
///
/// # Errors
/// Never for the types of this module.
pub fn to_json_indented<T: serde::Serialize>(
    value: &T,
    indent: &str,
) -> serde_json::Result<String> {
    let mut text = Vec::new();
    let format = serde_json::ser::PrettyFormatter::with_indent(indent.as_bytes());
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut text, format))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Reads a value for which `null` means "not set", as Go's decoder does.
pub(crate) fn nullable<'de, D, T>(de: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Option::<T>::deserialize(de).map(Option::unwrap_or_default)
}

/// Whether a field holds its default and is therefore left out of the document.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Declares objects of the specification: `always` fields are written even when empty, `omit`
/// fields only when set (Go's `omitempty`); all may be missing or `null` when read.
macro_rules! objects {
    ($( $(#[$meta:meta])* $name:ident {
        $( always { $( $(#[$am:meta])* $always:ident : $aty:ty, )* } )?
        $( omit { $( $(#[$om:meta])* $omit:ident : $oty:ty, )* } )?
    } )*) => { $(
        $(#[$meta])*
        #[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        pub struct $name {
            $( $(
                $(#[$am])*
                #[serde(deserialize_with = "crate::runtime::nullable")]
                pub $always: $aty,
            )* )?
            $( $(
                $(#[$om])*
                #[serde(
                    skip_serializing_if = "crate::runtime::is_default",
                    deserialize_with = "crate::runtime::nullable"
                )]
                pub $omit: $oty,
            )* )?
        }
    )* };
}
pub(crate) use objects;

objects! {
    /// The whole of `config.json`.
    Spec {
        always {
            /// Version of the specification the document follows, semver.
            oci_version: String,
        }
        omit {
            /// The container's process; may be missing until `start`.
            process: Option<Process>,
            /// The root file system.
            root: Option<Root>,
            /// Host name inside a UTS namespace.
            hostname: String,
            /// NIS domain name inside a UTS namespace.
            domainname: String,
            /// Mounts, in the order in which they are made.
            mounts: Vec<Mount>,
            /// Programs run at the points of the life cycle.
            hooks: Option<Hooks>,
            /// Free key-value pairs, shown by `state`.
            annotations: BTreeMap<String, String>,
            /// What concerns Linux alone.
            linux: Option<Linux>,
            /// What concerns Solaris alone, kept as read.
            solaris: Option<Value>,
            /// What concerns Windows alone, kept as read.
            windows: Option<Value>,
            /// What concerns virtual machines alone, kept as read.
            vm: Option<Value>,
            /// What concerns z/OS alone, kept as read.
            zos: Option<Value>,
            /// What concerns FreeBSD alone, kept as read.
            freebsd: Option<Value>,
        }
    }

    /// The container's root file system.
    Root {
        always {
            /// Folder of the file system: absolute, or relative to the bundle.
            path: String,
        }
        omit {
            /// Whether the root is mounted read-only.
            readonly: bool,
        }
    }

    /// One mount of the container.
    Mount {
        always {
            /// Where it goes, a path inside the container.
            destination: String,
        }
        omit {
            /// Type of the file system; `bind` mounts may leave it out.
            #[serde(rename = "type")]
            kind: String,
            /// Device, file or folder mounted; relative to the bundle for bind mounts.
            source: String,
            /// Options as in fstab, with the propagation, recursive and idmap ones of the specification.
            options: Vec<String>,
            /// User ids of an idmapped mount.
            #[serde(rename = "uidMappings")]
            uid_mappings: Vec<IdMapping>,
            /// Group ids of an idmapped mount.
            #[serde(rename = "gidMappings")]
            gid_mappings: Vec<IdMapping>,
        }
    }

    /// A range of user or group ids inside the container and the host's ids behind it.
    IdMapping {
        always {
            /// First id inside.
            #[serde(rename = "containerID")]
            container_id: u32,
            /// First id outside.
            #[serde(rename = "hostID")]
            host_id: u32,
            /// How many ids.
            size: u32,
        }
    }

    /// Programs that run at the points of the life cycle, each list in order.
    Hooks {
        omit {
            /// Deprecated: in the runtime's namespaces, after they exist and before pivot_root.
            prestart: Vec<Hook>,
            /// In the runtime's namespaces, after they exist and before pivot_root.
            create_runtime: Vec<Hook>,
            /// In the container's namespaces, before pivot_root.
            create_container: Vec<Hook>,
            /// In the container's namespaces, before the process is executed.
            start_container: Vec<Hook>,
            /// In the runtime's namespaces, after the process was started.
            poststart: Vec<Hook>,
            /// In the runtime's namespaces, after the container was deleted.
            poststop: Vec<Hook>,
        }
    }

    /// One program of a hook; it gets the state document on its standard input.
    Hook {
        always {
            /// Absolute path of the program.
            path: String,
        }
        omit {
            /// Arguments, the first being the program's own name.
            args: Vec<String>,
            /// Environment, `NAME=value`.
            env: Vec<String>,
            /// Seconds after which the hook is aborted.
            timeout: Option<i64>,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_fields_and_nulls_are_tolerated() {
        let text = r#"{"ociVersion":"1.2.1","mounts":null,"future":{"a":1},
            "process":{"cwd":"/","user":{"uid":1,"gid":2},"args":null,"terminal":null},
            "linux":{"resources":null,"namespaces":[{"type":"pid","extra":1}]}}"#;
        let spec: Spec = serde_json::from_str(text).unwrap();
        assert_eq!(spec.linux.unwrap().namespaces[0].kind, NamespaceType::Pid);
        assert_eq!(spec.process.unwrap().user.gid, 2);
    }

    #[test]
    fn empty_values_are_not_written() {
        let spec = Spec { oci_version: "1.0.0".into(), ..Spec::default() };
        assert_eq!(serde_json::to_string(&spec).unwrap(), r#"{"ociVersion":"1.0.0"}"#);
    }

    #[test]
    fn a_zero_that_was_set_is_written() {
        let memory = Memory { swappiness: Some(0), ..Memory::default() };
        assert_eq!(serde_json::to_string(&memory).unwrap(), r#"{"swappiness":0}"#);
    }

    #[test]
    fn an_unknown_seccomp_action_is_an_error_that_names_it() {
        let text = r#"{"defaultAction":"SCMP_ACT_WHATEVER"}"#;
        let error = serde_json::from_str::<Seccomp>(text).unwrap_err().to_string();
        assert!(error.contains("SCMP_ACT_WHATEVER"), "{error}");
    }
}
