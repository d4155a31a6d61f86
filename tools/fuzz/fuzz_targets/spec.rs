//! Any bytes as `config.json`: read or refused, never a crash; and nothing is lost on the way.

#![no_main]

use libfuzzer_sys::fuzz_target;
use oci::runtime::Spec;
use std::path::Path;

fuzz_target!(|bytes: &[u8]| {
    let Ok(spec) = oci::runtime::from_json::<Spec>(bytes) else { return };
    let text = oci::runtime::to_json_indented(&spec, " ").expect("it can be written");
    let again = oci::runtime::from_json::<Spec>(text.as_bytes()).expect("it can be read again");
    assert_eq!(spec, again);
    // Its root is looked at, nothing else of the machine, and nothing is changed.
    let _ = runtime::check(bytes.to_vec(), Path::new("/"));
});
