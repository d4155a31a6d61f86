//! Layers in and out: what is unpacked, diffed and unpacked again is the same tree.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::print_stdout)]

mod common;

use archive::{
    Header, Kind, Options, PackOptions, Root, Time, Whiteouts, apply, diff_overlay, diff_trees,
    join, pack,
};
use common::{Tar, is_root};
use proptest::prelude::*;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use tempfile::tempdir;

fn packed(dir: &Path) -> Vec<u8> {
    let options = PackOptions { nanos: true, ..PackOptions::default() };
    pack(&Root::open(dir).unwrap(), b"", &options, Vec::new()).unwrap().0
}

#[test]
fn every_kind_of_entry_survives_a_round_trip() {
    if !is_root("every_kind_of_entry_survives_a_round_trip") {
        return;
    }
    let (first, second) = (tempdir().unwrap(), tempdir().unwrap());
    let long = "long/".repeat(60) + "name";
    let caps = vec![(
        b"security.capability".to_vec(),
        [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0].to_vec(),
    )];
    let time = Time { secs: 1_000_000_000, nanos: 250_000_000 };
    let tar = Tar::new()
        .with(Header { mtime: time, mode: 0o1777, ..Header::dir("d") })
        .file("d/f", "content")
        .with(Header {
            mode: 0o4755,
            uid: 3_000_000,
            gid: 7,
            xattrs: caps,
            mtime: time,
            ..Header::file("d/suid", 0)
        })
        .hard("d/hard", "d/f")
        .symlink("d/sym", "../nowhere")
        .with(Header { kind: Kind::Fifo, ..Header::file("fifo", 0) })
        .with(Header { kind: Kind::Char(1, 3), ..Header::file("null", 0) })
        .with(Header { kind: Kind::Block(7, 200), ..Header::file("loop", 0) })
        .file(&long, "deep");
    let applied = tar.unpack(first.path(), &Options::default()).unwrap();
    assert_eq!(applied.entries, 9);
    let found = fs::metadata(first.path().join("d/suid")).unwrap();
    assert_eq!(
        (found.mode() & 0o7777, found.uid(), found.gid(), found.mtime_nsec()),
        (0o4755, 3_000_000, 7, 250_000_000)
    );
    assert_eq!(fs::metadata(first.path().join("d")).unwrap().mtime(), 1_000_000_000);
    assert_eq!(fs::metadata(first.path().join("d/f")).unwrap().nlink(), 2);
    let stream = packed(first.path());
    apply(&stream[..], Root::open(second.path()).unwrap(), &Options::default()).unwrap();
    assert_eq!(stream, packed(second.path()));
}

#[test]
fn whiteouts_become_overlays_and_come_back_from_a_diff() {
    if !is_root("whiteouts_become_overlays_and_come_back_from_a_diff") {
        return;
    }
    let (layer, lower) = (tempdir().unwrap(), tempdir().unwrap());
    fs::create_dir(lower.path().join("d")).unwrap();
    fs::write(lower.path().join("d/gone"), "").unwrap();
    let tar = Tar::new()
        .dir("d")
        .file("d/.wh.gone", "")
        .dir("o")
        .file("o/.wh..wh..opq", "")
        .file("o/new", "n");
    tar.unpack(layer.path(), &Options::default()).unwrap();
    let gone = fs::symlink_metadata(layer.path().join("d/gone")).unwrap();
    assert_eq!((gone.rdev(), gone.mode() & 0o170_000), (0, 0o020_000));
    let (first, done) = diff_overlay(layer.path(), &[lower.path()], Vec::new()).unwrap();
    assert_eq!(done.entries, 5);
    let again = tempdir().unwrap();
    apply(&first[..], Root::open(again.path()).unwrap(), &Options::default()).unwrap();
    assert_eq!(first, diff_overlay(again.path(), &[lower.path()], Vec::new()).unwrap().0);
}

#[test]
fn a_folder_removed_and_made_anew_in_one_layer_is_opaque() {
    if !is_root("a_folder_removed_and_made_anew_in_one_layer_is_opaque") {
        return;
    }
    for tar in [
        Tar::new().file(".wh.d", "").dir("d").file("d/x", ""),
        Tar::new().dir("d").file("d/x", "").file(".wh.d", ""),
    ] {
        let layer = tempdir().unwrap();
        tar.unpack(layer.path(), &Options::default()).unwrap();
        let mut value = [0_u8; 8];
        let n =
            rustix::fs::getxattr(layer.path().join("d"), "trusted.overlay.opaque", &mut value[..])
                .unwrap();
        assert_eq!(&value[..n], b"y");
        assert!(layer.path().join("d/x").exists());
    }
}

#[test]
fn whiteouts_on_a_plain_tree_remove_only_what_the_layer_did_not_bring() {
    let root = tempdir().unwrap();
    fs::create_dir_all(root.path().join("d/old")).unwrap();
    fs::write(root.path().join("f"), "").unwrap();
    let options = Options { whiteouts: Whiteouts::Remove, owners: false, ..Options::default() };
    Tar::new()
        .file("d/new", "")
        .file("d/.wh..wh..opq", "")
        .file(".wh.f", "")
        .unpack(root.path(), &options)
        .unwrap();
    let names: Vec<_> =
        fs::read_dir(root.path().join("d")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["new"]);
    assert!(!root.path().join("f").exists());
}

#[test]
fn implied_folders_and_links_are_settled_against_the_layers_below() {
    if !is_root("implied_folders_and_links_are_settled_against_the_layers_below") {
        return;
    }
    let (lower, layer) = (tempdir().unwrap(), tempdir().unwrap());
    fs::create_dir(lower.path().join("var")).unwrap();
    fs::set_permissions(lower.path().join("var"), fs::Permissions::from_mode(0o1750)).unwrap();
    fs::write(lower.path().join("bin"), "program").unwrap();
    let applied = Tar::new()
        .file("var/x/y", "")
        .hard("alias", "bin")
        .unpack(layer.path(), &Options::default())
        .unwrap();
    assert_eq!(applied.deferred.implied, [b"var".to_vec(), b"var/x".to_vec()]);
    join(layer.path(), &[lower.path()], &applied.deferred).unwrap();
    assert_eq!(fs::metadata(layer.path().join("var")).unwrap().mode() & 0o7777, 0o1750);
    assert_eq!(fs::read(layer.path().join("alias")).unwrap(), b"program");
    let (a, b) = (
        fs::metadata(layer.path().join("alias")).unwrap(),
        fs::metadata(layer.path().join("bin")).unwrap(),
    );
    assert_eq!(a.ino(), b.ino());
    let missing =
        Tar::new().hard("alias", "nowhere").unpack(layer.path(), &Options::default()).unwrap();
    assert!(join(layer.path(), &[lower.path()], &missing.deferred).is_err());
}

#[test]
fn a_tree_diff_applied_to_the_old_tree_gives_the_new_one() {
    let (old, new) = (tempdir().unwrap(), tempdir().unwrap());
    for root in [&old, &new] {
        fs::create_dir_all(root.path().join("same/deep")).unwrap();
        fs::write(root.path().join("same/deep/f"), "unchanged").unwrap();
        let time = std::time::SystemTime::UNIX_EPOCH;
        fs::File::open(root.path().join("same/deep/f")).unwrap().set_modified(time).unwrap();
    }
    fs::write(old.path().join("gone"), "").unwrap();
    fs::write(new.path().join("same/deep/added"), "new").unwrap();
    let (layer, done) = diff_trees(Some(old.path()), new.path(), Vec::new()).unwrap();
    // same/, same/deep/, same/deep/added, .wh.gone
    assert_eq!(done.entries, 4);
    let options = Options { whiteouts: Whiteouts::Remove, ..Options::default() };
    apply(&layer[..], Root::open(old.path()).unwrap(), &options).unwrap();
    let (_, done) = diff_trees(Some(old.path()), new.path(), Vec::new()).unwrap();
    assert!(!old.path().join("gone").exists());
    assert!(done.entries <= 2, "only folder times may differ: {done:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn written_headers_are_read_back(
        path in "[a-z/é]{1,300}", link in "[a-z]{0,150}", mode in 0_u32..0o10000, uid: u32, gid: u32,
        secs in -5_000_000_000_i64..50_000_000_000, nanos in 0_u32..1_000_000_000, data in proptest::collection::vec(any::<u8>(), 0..2000),
        value in proptest::collection::vec(any::<u8>(), 1..50),
    ) {
        let path = format!("p{path}e");
        let header = Header {
            mode, uid, gid, mtime: Time { secs, nanos }, link: link.clone().into_bytes(),
            xattrs: vec![(b"user.k".to_vec(), value.clone())], ..Header::file(path.clone(), 0)
        };
        let mut writer = archive::Writer::new(Vec::new());
        writer.entry(header, &data).unwrap();
        let bytes = writer.finish().unwrap();
        let mut reader = archive::Reader::new(&bytes[..], archive::Limits::default());
        let entry = reader.next_entry().unwrap().unwrap();
        prop_assert_eq!(entry.path, path.into_bytes());
        prop_assert_eq!((entry.mode, entry.uid, entry.gid), (mode, uid, gid));
        prop_assert_eq!(entry.mtime, Time { secs, nanos });
        prop_assert_eq!(entry.link, link.into_bytes());
        prop_assert_eq!(entry.xattrs, vec![(b"user.k".to_vec(), value)]);
        prop_assert_eq!(reader.read_all(4096).unwrap(), data);
        prop_assert!(reader.next_entry().unwrap().is_none());
    }

    #[test]
    fn any_bytes_end_in_a_result(bytes in proptest::collection::vec(any::<u8>(), 0..4096)) {
        let mut reader = archive::Reader::new(&bytes[..], archive::Limits::default());
        while let Ok(Some(_)) = reader.next_entry() {}
    }

    #[test]
    fn a_damaged_archive_never_escapes(at in 0_usize..3072, bit in 0_u8..8) {
        let mut bytes = Tar::new().dir("d").file("d/f", "x").symlink("s", "/").file("s/t", "y").bytes();
        let at = at.min(bytes.len() - 1);
        bytes[at] ^= 1 << bit;
        let outer = tempdir().unwrap();
        let root = outer.path().join("root");
        fs::create_dir(&root).unwrap();
        let _ = apply(&bytes[..], Root::open(&root).unwrap(), &Options::default());
        prop_assert_eq!(fs::read_dir(outer.path()).unwrap().count(), 1);
    }
}
