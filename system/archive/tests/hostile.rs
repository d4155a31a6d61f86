//! Archives that want out, named after the weakness they try.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::print_stdout)]

mod common;

use archive::{Header, Kind, Limits, Options, Reader, Root, Whiteouts, apply, diff_trees};
use common::{Tar, is_root};
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use tempfile::{TempDir, tempdir};

/// An outer folder with a secret, and the root of the unpacking beside it.
fn yard() -> (TempDir, std::path::PathBuf) {
    let outer = tempdir().unwrap();
    fs::write(outer.path().join("secret"), "secret").unwrap();
    let root = outer.path().join("root");
    fs::create_dir(&root).unwrap();
    (outer, root)
}

fn untouched(outer: &Path) {
    let names: Vec<_> = fs::read_dir(outer).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "something was made outside: {names:?}");
    assert_eq!(fs::read(outer.join("secret")).unwrap(), b"secret");
}

#[test]
fn names_with_dot_dot_stay_inside() {
    let (outer, root) = yard();
    let tar = Tar::new().file("../secret", "x").file("a/../../../secret2", "y").file("/abs", "z");
    tar.unpack(&root, &Options::default()).unwrap();
    untouched(outer.path());
    assert_eq!(fs::read(root.join("secret")).unwrap(), b"x");
    assert_eq!(fs::read(root.join("secret2")).unwrap(), b"y");
    assert_eq!(fs::read(root.join("abs")).unwrap(), b"z");
}

#[test]
fn cve_2018_15664_a_planted_symlink_to_the_host_resolves_inside() {
    let (outer, root) = yard();
    let up = Tar::new()
        .symlink("up", "..")
        .file("up/secret", "x")
        .symlink("abs", "/")
        .file("abs/tmp/y", "y");
    up.unpack(&root, &Options::default()).unwrap();
    untouched(outer.path());
    assert_eq!(fs::read(root.join("secret")).unwrap(), b"x");
    assert_eq!(fs::read(root.join("tmp/y")).unwrap(), b"y");
}

#[test]
fn a_file_entry_over_a_symlink_replaces_the_link_and_not_its_target() {
    let (outer, root) = yard();
    let secret = outer.path().join("secret");
    Tar::new()
        .symlink("f", secret.to_str().unwrap())
        .file("f", "x")
        .unpack(&root, &Options::default())
        .unwrap();
    untouched(outer.path());
    assert!(fs::symlink_metadata(root.join("f")).unwrap().is_file());
}

#[test]
fn cve_2014_9357_a_hardlink_to_a_host_file_is_not_made() {
    let (outer, root) = yard();
    let plain = Options { whiteouts: Whiteouts::Keep, ..Options::default() };
    assert!(Tar::new().hard("h", "../secret").unpack(&root, &plain).is_err());
    let secret = outer.path().join("secret");
    assert!(Tar::new().hard("h", secret.to_str().unwrap()).unpack(&root, &plain).is_err());
    // Through a link: the link itself may be linked, its target never.
    Tar::new().symlink("s", "../secret").hard("h", "s").unpack(&root, &plain).unwrap();
    assert!(fs::symlink_metadata(root.join("h")).unwrap().is_symlink());
    Tar::new().file("h", "overwritten").unpack(&root, &plain).unwrap();
    untouched(outer.path());
}

#[test]
fn cve_2019_14271_whiteouts_through_a_link_remove_nothing_outside() {
    let (outer, root) = yard();
    let remove = Options { whiteouts: Whiteouts::Remove, ..Options::default() };
    let tar = Tar::new().symlink("up", "..").file("up/.wh.secret", "").file("up/.wh..wh..opq", "");
    tar.unpack(&root, &remove).unwrap();
    untouched(outer.path());
}

#[test]
fn whiteouts_of_dot_and_dot_dot_are_refused() {
    let (outer, root) = yard();
    for name in [".wh.", ".wh..", ".wh..."] {
        assert!(Tar::new().file(name, "").unpack(&root, &Options::default()).is_err(), "{name}");
    }
    untouched(outer.path());
}

#[test]
fn device_zero_zero_and_overlay_attributes_do_not_pass() {
    if !is_root("device_zero_zero_and_overlay_attributes_do_not_pass") {
        return;
    }
    let (_outer, root) = yard();
    let fake = Header { kind: Kind::Char(0, 0), ..Header::file("etc", 0) };
    let error = Tar::new().with(fake).unpack(&root, &Options::default()).unwrap_err();
    assert!(error.to_string().contains("0:0"), "{error}");
    let opaque =
        |key: &[u8]| Header { xattrs: vec![(key.to_vec(), b"y".to_vec())], ..Header::dir("d") };
    let tar = Tar::new()
        .with(opaque(b"trusted.overlay.opaque"))
        .with(opaque(b"trusted.overlay.redirect"));
    tar.unpack(&root, &Options::default()).unwrap();
    let mut list = [0_u8; 256];
    assert_eq!(rustix::fs::listxattr(root.join("d"), &mut list[..]).unwrap(), 0);
}

#[test]
fn a_hardlink_never_reaches_a_whiteout_device() {
    if !is_root("a_hardlink_never_reaches_a_whiteout_device") {
        return;
    }
    let (_outer, root) = yard();
    let tar = Tar::new().file(".wh.gone", "").hard("also-gone", "gone");
    assert!(tar.unpack(&root, &Options::default()).is_err());
}

#[test]
fn cve_2025_62518_a_pax_size_does_not_shift_the_next_header() {
    // An entry whose ustar size is 0 and whose PAX size is 512: the nested header is data.
    let inner = Tar::new().file("smuggled", "").bytes();
    let mut pax = Vec::new();
    pax.extend_from_slice(b"12 size=512\n");
    let mut stream = raw(b"PaxHeaders/x", b'x', pax.len());
    stream.extend_from_slice(&pax);
    stream.resize(1024, 0);
    stream.extend(raw(b"outer", b'0', 0));
    stream.extend_from_slice(&inner[..512]);
    stream.extend_from_slice(&[0; 1024]);
    let mut reader = Reader::new(&stream[..], Limits::default());
    let entry = reader.next_entry().unwrap().unwrap();
    assert_eq!((entry.path.as_slice(), entry.size), (&b"outer"[..], 512));
    assert!(reader.next_entry().unwrap().is_none());
}

#[test]
fn a_pax_size_before_a_gnu_long_name_belongs_to_the_entry() {
    let mut stream = raw(b"PaxHeaders/x", b'x', 12);
    stream.extend_from_slice(b"12 size=512\n");
    stream.resize(1024, 0);
    stream.extend(raw(b"././@LongLink", b'L', 5));
    stream.extend_from_slice(b"name\0");
    stream.resize(2048, 0);
    stream.extend(raw(b"n", b'0', 0));
    stream.extend_from_slice(&[b'd'; 512]);
    stream.extend_from_slice(&[0; 1024]);
    let mut reader = Reader::new(&stream[..], Limits::default());
    let entry = reader.next_entry().unwrap().unwrap();
    assert_eq!((entry.path.as_slice(), entry.size), (&b"name"[..], 512));
    let mut data = Vec::new();
    reader.read_to_end(&mut data).unwrap();
    assert_eq!(data, [b'd'; 512]);
    assert!(reader.next_entry().unwrap().is_none());
}

#[test]
fn bounds_hold_for_entries_bytes_and_extensions() {
    let (_outer, root) = yard();
    let limits =
        |entries, bytes| Options { limits: Limits { entries, bytes }, ..Options::default() };
    assert!(Tar::new().file("a", "").file("b", "").unpack(&root, &limits(1, 10)).is_err());
    assert!(Tar::new().file("a", "0123456789x").unpack(&root, &limits(10, 10)).is_err());
    let huge = raw(b"x", b'x', 0o77777777);
    assert!(apply(&huge[..], Root::open(&root).unwrap(), &Options::default()).is_err());
}

#[test]
fn truncated_and_damaged_archives_are_errors() {
    let (_outer, root) = yard();
    let whole = Tar::new().file("a", &"x".repeat(2000)).bytes();
    for cut in [100, 512, 600, 1500] {
        let result = apply(&whole[..cut], Root::open(&root).unwrap(), &Options::default());
        assert!(result.is_err(), "cut at {cut}");
    }
    let mut damaged = whole.clone();
    damaged[3] ^= 1;
    let error = apply(&damaged[..], Root::open(&root).unwrap(), &Options::default()).unwrap_err();
    assert!(error.to_string().contains("checksum"), "{error}");
}

#[test]
fn a_sparse_map_that_overlaps_or_overflows_is_refused() {
    let map = |text: &str| {
        let records = [("GNU.sparse.size", "100"), ("GNU.sparse.map", text)];
        let mut pax = String::new();
        for (key, value) in records {
            let length = key.len() + value.len() + 5;
            pax.push_str(&format!("{length} {key}={value}\n"));
        }
        let mut stream = raw(b"PaxHeaders/x", b'x', pax.len());
        stream.extend_from_slice(pax.as_bytes());
        stream.resize(1024, 0);
        stream.extend(raw(b"sparse", b'0', 10));
        stream.resize(2048, b'd');
        stream.extend_from_slice(&[0; 1024]);
        let (_outer, root) = yard();
        apply(&stream[..], Root::open(&root).unwrap(), &Options::default())
            .map(|_| fs::read(root.join("sparse")).unwrap())
    };
    let good = map("5,4,90,6").unwrap();
    assert_eq!(
        (good.len(), good[4], good[5], good[8], good[9], good[95]),
        (100, 0, b'd', b'd', 0, b'd')
    );
    for bad in ["5,4,6,6", "95,10", "5,4,90", "5,4", "18446744073709551615,10"] {
        assert!(map(bad).is_err(), "{bad}");
    }
}

#[test]
fn an_owner_that_the_kernel_takes_for_none_leaves_the_callers() {
    if !is_root("an_owner_that_the_kernel_takes_for_none_leaves_the_callers") {
        return;
    }
    let (_outer, root) = yard();
    let nobody = Header { uid: u32::MAX, gid: u32::MAX, ..Header::file("f", 0) };
    Tar::new().with(nobody).unpack(&root, &Options::default()).unwrap();
    let found = fs::symlink_metadata(root.join("f")).unwrap();
    assert_eq!((found.uid(), found.gid()), (0, 0));
}

#[test]
fn a_tree_diff_of_a_folder_with_itself_is_empty() {
    let (outer, root) = yard();
    fs::write(root.join("f"), "x").unwrap();
    let (out, done) = diff_trees(Some(outer.path()), outer.path(), Vec::new()).unwrap();
    assert_eq!((done.entries, out.len()), (0, 1024));
}

/// One ustar header block.
fn raw(name: &[u8], kind: u8, size: usize) -> Vec<u8> {
    let mut block = vec![0_u8; 512];
    block[..name.len()].copy_from_slice(name);
    block[100..107].copy_from_slice(b"0000644");
    block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
    block[156] = kind;
    block[257..263].copy_from_slice(b"ustar\0");
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    block
}
