//! "Listing Referrers", and "Enabling the Referrers API".

use lab::{Registry, RegistryKind};
use oci::{Digest, media_type};
use serde_json::Value;

use crate::support::*;

fn referrers(r: &Registry, subject: &Digest, query: &str) -> lab::Reply {
    let reply = get(r, &format!("/v2/a/referrers/{subject}{query}"));
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(reply.header("Content-Type"), Some(media_type::OCI_INDEX));
    let json = reply.json();
    assert_eq!(
        (&json["schemaVersion"], &json["mediaType"]),
        (&2.into(), &media_type::OCI_INDEX.into())
    );
    reply
}

fn entries(reply: &lab::Reply) -> Vec<Value> {
    reply.json()["manifests"].as_array().unwrap().clone()
}

fn subject_of(digest: &Digest) -> Value {
    serde_json::json!({"mediaType": media_type::OCI_MANIFEST, "digest": digest, "size": 1})
}

/// Pushes a manifest about `subject`; its digest.
fn refer(r: &Registry, subject: &Digest, seed: &str, change: impl FnOnce(&mut Value)) -> Digest {
    let manifest = image(r, "a", seed, |m| {
        m["subject"] = subject_of(subject);
        change(m);
    });
    let digest = Digest::sha256(&manifest);
    assert_eq!(put(r, "a", &digest.to_string(), &manifest).status, 201);
    digest
}

#[test]
fn a_manifest_to_which_nobody_refers_has_an_empty_index_and_never_404() {
    ours(|r| {
        let subject = push_image(r, "a", "t");
        assert!(entries(&referrers(r, &subject, "")).is_empty());
        assert!(entries(&referrers(r, &nothing(), "")).is_empty());
        let elsewhere = get(r, &format!("/v2/nobody/referrers/{subject}"));
        assert_eq!(elsewhere.status, 200);
        assert!(entries(&elsewhere).is_empty());
    });
}

#[test]
fn an_invalid_digest_is_400() {
    ours(|r| {
        for bad in ["x", "sha256:x", "sha256:", "md5:d41d8cd98f00b204e9800998ecf8427e"] {
            assert_error(&get(r, &format!("/v2/a/referrers/{bad}")), 400, "DIGEST_INVALID");
        }
    });
}

#[test]
fn each_descriptor_has_type_digest_size_artifact_type_and_annotations() {
    ours(|r| {
        let subject = push_image(r, "a", "t");
        let own = refer(r, &subject, "own", |m| {
            m["artifactType"] = "application/x.own".into();
            m["annotations"] = serde_json::json!({"k": "v"});
        });
        let by_config = refer(r, &subject, "by config", |m| {
            m["config"]["mediaType"] = "application/x.config".into();
            m["artifactType"] = "".into();
        });
        let index = serde_json::json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [],
            "subject": subject_of(&subject), "annotations": {"i": "1"},
        });
        let index = serde_json::to_vec(&index).unwrap();
        assert_eq!(put(r, "a", "i", &index).status, 201);
        let all = entries(&referrers(r, &subject, ""));
        assert_eq!(all.len(), 3);
        let of = |digest: &Digest| {
            let text = digest.to_string();
            all.iter().find(|entry| entry["digest"] == text).unwrap()
        };
        assert_eq!(of(&own)["artifactType"], "application/x.own");
        assert_eq!(of(&own)["annotations"]["k"], "v");
        assert_eq!(of(&own)["mediaType"], media_type::OCI_MANIFEST);
        let pulled = get_manifest(r, "a", &own.to_string());
        assert_eq!(of(&own)["size"], pulled.body.len());
        assert_eq!(of(&by_config)["artifactType"], "application/x.config");
        let shown = of(&Digest::sha256(&index));
        assert_eq!(shown["mediaType"], media_type::OCI_INDEX);
        assert_eq!(shown["annotations"]["i"], "1");
        assert!(shown.get("artifactType").is_none(), "{shown}");
    });
}

#[test]
fn a_filter_by_artifact_type_is_applied_and_said() {
    ours(|r| {
        let subject = push_image(r, "a", "t");
        let one = refer(r, &subject, "1", |m| m["artifactType"] = "application/a+b".into());
        refer(r, &subject, "2", |m| m["artifactType"] = "application/other".into());
        let all = referrers(r, &subject, "");
        assert_eq!((entries(&all).len(), all.header("OCI-Filters-Applied")), (2, None));
        let some = referrers(r, &subject, "?artifactType=application/a%2Bb");
        assert_eq!(some.header("OCI-Filters-Applied"), Some("artifactType"));
        let found = entries(&some);
        assert_eq!((found.len(), &found[0]["digest"]), (1, &one.to_string().into()));
        let none = referrers(r, &subject, "?artifactType=application/none");
        assert_eq!(none.header("OCI-Filters-Applied"), Some("artifactType"));
        assert!(entries(&none).is_empty());
    });
}

#[test]
fn a_list_that_does_not_fit_into_one_manifest_has_links_to_its_rest() {
    ours(|r| {
        let subject = push_image(r, "a", "t");
        let mut pushed: Vec<String> = (0..9)
            .map(|n| {
                refer(r, &subject, &n.to_string(), |m| {
                    m["annotations"] = serde_json::json!({"large": "x".repeat(600_000)});
                    m["artifactType"] = "application/large".into();
                })
                .to_string()
            })
            .collect();
        let (mut seen, mut pages) = (Vec::new(), 0);
        let mut next = Some(format!("/v2/a/referrers/{subject}?artifactType=application/large"));
        while let Some(target) = next {
            let reply = get(r, &target);
            assert!(reply.body.len() < 4 << 20);
            assert_eq!(reply.header("OCI-Filters-Applied"), Some("artifactType"));
            seen.extend(entries(&reply).iter().map(|e| e["digest"].as_str().unwrap().to_owned()));
            pages += 1;
            next = reply.header("Link").map(|link| {
                assert!(link.ends_with("; rel=\"next\""), "{link}");
                link.split(['<', '>']).nth(1).unwrap().to_owned()
            });
        }
        assert!(pages > 1);
        pushed.sort();
        seen.sort();
        assert_eq!(seen, pushed);
    });
}

#[test]
fn a_deleted_manifest_refers_no_more() {
    ours(|r| {
        let subject = push_image(r, "a", "t");
        let referrer = refer(r, &subject, "1", |_| {});
        assert_eq!(entries(&referrers(r, &subject, "")).len(), 1);
        assert_eq!(ask(r, "DELETE", &format!("/v2/a/manifests/{referrer}")).status, 202);
        assert!(entries(&referrers(r, &subject, "")).is_empty());
    });
}

#[test]
fn those_of_a_deleted_subject_are_still_listed() {
    ours(|r| {
        let subject = push_image(r, "a", "t");
        refer(r, &subject, "1", |_| {});
        assert_eq!(ask(r, "DELETE", &format!("/v2/a/manifests/{subject}")).status, 202);
        assert_eq!(entries(&referrers(r, &subject, "")).len(), 1);
    });
}

#[test]
fn subjects_and_referrers_may_be_named_by_sha512() {
    ours(|r| {
        let manifest = image(r, "a", "1", |_| {});
        let subject = sha512(&manifest);
        assert_eq!(put(r, "a", &subject.to_string(), &manifest).status, 201);
        let referrer = image(r, "a", "2", |m| m["subject"] = subject_of(&subject));
        let digest = sha512(&referrer).to_string();
        assert_eq!(put(r, "a", &digest, &referrer).status, 201);
        let found = entries(&referrers(r, &subject, ""));
        assert_eq!((found.len(), &found[0]["digest"]), (1, &digest.into()));
    });
}

#[test]
fn enabling_the_referrers_api_manifests_that_were_there_before_are_listed() {
    let name = "enabling_the_referrers_api_manifests_that_were_there_before_are_listed";
    if lab::docker_registry().is_none() {
        println!("SKIPPED: {name}: docker-registry is not installed");
        return;
    }
    let old = Registry::start(RegistryKind::Docker, &[]).unwrap();
    let subject = push_image(&old, "a", "t");
    let referrer = refer(&old, &subject, "1", |m| m["artifactType"] = "application/x".into());
    let index = serde_json::json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_INDEX,
        "manifests": [subject_of(&referrer)],
    });
    let tag = format!("sha256-{}", subject.hex());
    assert_eq!(put(&old, "a", &tag, &serde_json::to_vec(&index).unwrap()).status, 201);
    // The same root, served by the other program.
    let new = Registry::start_in(RegistryKind::Ferry, &[], old.into_scratch()).unwrap();
    let found = entries(&referrers(&new, &subject, ""));
    assert_eq!((found.len(), &found[0]["artifactType"]), (1, &"application/x".into()));
    assert_eq!(get_manifest(&new, "a", "t").status, 200);
}

#[test]
fn what_was_pushed_here_is_served_by_docker_registry_from_the_same_root() {
    let name = "what_was_pushed_here_is_served_by_docker_registry_from_the_same_root";
    if lab::docker_registry().is_none() {
        println!("SKIPPED: {name}: docker-registry is not installed");
        return;
    }
    let ours = Registry::start(RegistryKind::Ferry, &[]).unwrap();
    let digest = push_image(&ours, "a/b", "t");
    let before = get_manifest(&ours, "a/b", "t").body;
    let theirs = Registry::start_in(RegistryKind::Docker, &[], ours.into_scratch()).unwrap();
    let reply = get_manifest(&theirs, "a/b", "t");
    assert_eq!((reply.status, &reply.body), (200, &before));
    assert_eq!(reply.header("Content-Type"), Some(media_type::OCI_MANIFEST));
    let layer = reply.json()["layers"][0]["digest"].as_str().unwrap().to_owned();
    assert_eq!(get(&theirs, &format!("/v2/a/b/blobs/{layer}")).body, b"layer t");
    assert_eq!(get(&theirs, "/v2/a/b/tags/list").json()["tags"], serde_json::json!(["t"]));
    assert_eq!(get(&theirs, "/v2/_catalog").json()["repositories"], serde_json::json!(["a/b"]));
    // It can go on there, and we can go on with that.
    push_image(&theirs, "a/b", "more");
    assert_eq!(ask(&theirs, "DELETE", &format!("/v2/a/b/manifests/{digest}")).status, 202);
    let ours = Registry::start_in(RegistryKind::Ferry, &[], theirs.into_scratch()).unwrap();
    assert_eq!(get_manifest(&ours, "a/b", "more").status, 200);
    assert_eq!(get_manifest(&ours, "a/b", "t").status, 404);
}
