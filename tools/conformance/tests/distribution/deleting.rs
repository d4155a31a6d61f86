//! "Content Management": tags, manifests and blobs go, or may not.

use lab::{Registry, RegistryKind};

use crate::support::*;

#[test]
fn deleting_tags_is_202_and_leaves_the_manifest() {
    ours(|r| {
        let digest = push_image(r, "a", "t");
        assert_eq!(ask(r, "DELETE", "/v2/a/manifests/t").status, 202);
        assert_error(&get(r, "/v2/a/manifests/t"), 404, "MANIFEST_UNKNOWN");
        assert_eq!(get(r, &format!("/v2/a/manifests/{digest}")).status, 200);
        assert_error(&ask(r, "DELETE", "/v2/a/manifests/t"), 404, "MANIFEST_UNKNOWN");
        assert_error(&ask(r, "DELETE", "/v2/nobody/manifests/t"), 404, "NAME_UNKNOWN");
        assert!(get(r, "/v2/a/tags/list").text().contains("\"tags\":[]"));
    });
}

#[test]
fn deleting_manifests_is_202_and_takes_every_tag_along() {
    both("deleting_manifests_is_202_and_takes_every_tag_along", |r| {
        let manifest = image(r, "a", "1", |_| {});
        for tag in ["x", "y"] {
            assert_eq!(put(r, "a", tag, &manifest).status, 201);
        }
        push_image(r, "a", "other");
        let digest = oci::Digest::sha256(&manifest);
        assert_eq!(ask(r, "DELETE", &format!("/v2/a/manifests/{digest}")).status, 202);
        for reference in ["x", "y", &digest.to_string()] {
            assert_eq!(get_manifest(r, "a", reference).status, 404, "{reference}");
        }
        assert_eq!(get(r, "/v2/a/tags/list").json()["tags"], serde_json::json!(["other"]));
    });
}

#[test]
fn deleting_manifests_that_are_not_there_is_404() {
    both("deleting_manifests_that_are_not_there_is_404", |r| {
        push_image(r, "a", "t");
        for name in ["a", "nobody"] {
            let target = format!("/v2/{name}/manifests/{}", nothing());
            assert_eq!(ask(r, "DELETE", &target).status, 404);
        }
    });
}

#[test]
fn deleting_blobs_is_202_and_404_for_those_that_are_not_there() {
    both("deleting_blobs_is_202", |r| {
        let digest = push_blob(r, "a", b"x");
        let target = format!("/v2/a/blobs/{digest}");
        assert_eq!(ask(r, "DELETE", &target).status, 202);
        assert_eq!(get(r, &target).status, 404);
        for name in ["a", "nobody"] {
            let gone = ask(r, "DELETE", &format!("/v2/{name}/blobs/{digest}"));
            assert_error(&gone, 404, "BLOB_UNKNOWN");
        }
    });
}

#[test]
fn a_blob_that_was_deleted_in_one_repository_stays_in_another() {
    both("a_blob_that_was_deleted_in_one_repository_stays_in_another", |r| {
        let digest = push_blob(r, "a", b"x");
        push_blob(r, "b", b"x");
        assert_eq!(ask(r, "DELETE", &format!("/v2/a/blobs/{digest}")).status, 202);
        assert_eq!(get(r, &format!("/v2/b/blobs/{digest}")).status, 200);
    });
}

#[test]
fn what_was_deleted_can_be_pushed_again() {
    both("what_was_deleted_can_be_pushed_again", |r| {
        let digest = push_image(r, "a", "t");
        assert_eq!(ask(r, "DELETE", &format!("/v2/a/manifests/{digest}")).status, 202);
        assert_eq!(push_image(r, "a", "t"), digest);
        assert_eq!(get_manifest(r, "a", "t").status, 200);
    });
}

#[test]
fn deleting_when_it_is_disabled_is_405_and_changes_nothing() {
    let r = Registry::start(RegistryKind::Ferry, &["--allow-delete=false"]).unwrap();
    let manifest = push_image(&r, "a", "t");
    let blob = push_blob(&r, "a", b"x");
    for target in [
        "/v2/a/manifests/t".to_owned(),
        format!("/v2/a/manifests/{manifest}"),
        format!("/v2/a/blobs/{blob}"),
    ] {
        assert_error(&ask(&r, "DELETE", &target), 405, "UNSUPPORTED");
        assert_eq!(get(&r, &target).status, 200);
    }
    // Giving an upload up is no deletion.
    assert_eq!(ask(&r, "DELETE", &begin(&r, "a")).status, 204);
}

#[test]
fn a_read_only_registry_refuses_every_change_and_serves_what_it_has() {
    let writable = Registry::start(RegistryKind::Ferry, &[]).unwrap();
    push_image(&writable, "a", "t");
    let scratch = writable.into_scratch();
    let r = Registry::start_in(RegistryKind::Ferry, &["--read-only"], scratch).unwrap();
    assert_eq!(get_manifest(&r, "a", "t").status, 200);
    let manifest = get_manifest(&r, "a", "t").body;
    assert_error(&put(&r, "a", "u", &manifest), 405, "UNSUPPORTED");
    for (method, target) in [
        ("POST", "/v2/a/blobs/uploads/"),
        ("DELETE", "/v2/a/manifests/t"),
        ("PATCH", "/v2/a/blobs/uploads/123e4567-e89b-42d3-a456-426614174000"),
    ] {
        assert_error(&ask(&r, method, target), 405, "UNSUPPORTED");
    }
}
