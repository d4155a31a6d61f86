//! `google.protobuf.Any` as containerd writes it: a type URL without leading slash.

use prost::Name;
use prost_types::Any;

/// Packs `message` under its plain full name, as Go's typeurl does.
pub fn pack<M: Name>(message: &M) -> Any {
    Any { type_url: M::full_name(), value: message.encode_to_vec() }
}

/// The full name in a type URL, whatever stands before its last slash.
pub fn type_name(any: &Any) -> &str {
    any.type_url.rsplit('/').next().unwrap_or_default()
}

/// Whether `any` holds an `M`.
pub fn is<M: Name>(any: &Any) -> bool {
    type_name(any) == M::full_name()
}

/// Unpacks an `M`; `None` when `any` holds another type.
pub fn unpack<M: Name + Default>(any: &Any) -> Option<Result<M, prost::DecodeError>> {
    is::<M>(any).then(|| M::decode(any.value.as_slice()))
}

/// Packs a JSON document under a type URL, as OCI specifications travel.
pub fn json(type_url: &str, value: Vec<u8>) -> Any {
    Any { type_url: type_url.into(), value }
}

/// Type URL of an OCI runtime specification.
pub const OCI_SPEC: &str = "types.containerd.io/opencontainers/runtime-spec/1/Spec";
/// Type URL of an OCI process, for exec.
pub const OCI_PROCESS: &str = "types.containerd.io/opencontainers/runtime-spec/1/Process";
/// Type URL of OCI resources, for update.
pub const OCI_RESOURCES: &str = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::TaskExit;

    #[test]
    fn type_urls_have_no_leading_slash_and_any_prefix_is_understood() {
        let exit = TaskExit { container_id: "c".into(), exit_status: 3, ..TaskExit::default() };
        let mut any = pack(&exit);
        assert_eq!(any.type_url, "containerd.events.TaskExit");
        assert_eq!(unpack::<TaskExit>(&any).unwrap().unwrap(), exit);
        any.type_url = "type.googleapis.com/containerd.events.TaskExit".into();
        assert!(is::<TaskExit>(&any));
        assert!(unpack::<crate::events::TaskStart>(&any).is_none());
    }
}
