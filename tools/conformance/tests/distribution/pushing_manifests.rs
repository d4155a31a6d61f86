//! "Pushing Manifests", also with a subject and with tags.

use oci::{Digest, media_type};

use crate::support::*;

#[test]
fn a_pushed_manifest_is_201_with_a_pullable_location_and_its_digest() {
    both("a_pushed_manifest_is_201", |r| {
        let manifest = image(r, "a", "1", |_| {});
        let digest = Digest::sha256(&manifest).to_string();
        for reference in ["t", &digest] {
            let reply = put(r, "a", reference, &manifest);
            assert_eq!(reply.status, 201);
            assert_eq!(reply.header("Docker-Content-Digest"), Some(digest.as_str()));
            let target = location(&reply);
            let pulled = r.send("GET", &target, &[ACCEPT], b"").unwrap();
            assert_eq!((pulled.status, &pulled.body), (200, &manifest));
        }
    });
}

#[test]
fn a_manifest_is_stored_in_the_exact_bytes_that_came() {
    both("a_manifest_is_stored_in_the_exact_bytes_that_came", |r| {
        let compact = image(r, "a", "1", |_| {});
        let value: serde_json::Value = serde_json::from_slice(&compact).unwrap();
        let mut odd = b" \n".to_vec();
        odd.extend(serde_json::to_vec_pretty(&value).unwrap());
        odd.extend(b"\n\n\t");
        assert_eq!(put(r, "a", "t", &odd).status, 201);
        assert_eq!(get_manifest(r, "a", "t").body, odd);
    });
}

#[test]
fn parameters_of_the_content_type_are_ignored() {
    both("parameters_of_the_content_type_are_ignored", |r| {
        let manifest = image(r, "a", "1", |_| {});
        let media = format!("{}; charset=utf-8", media_type::OCI_MANIFEST);
        let reply = r.send("PUT", "/v2/a/manifests/t", &[("Content-Type", &media)], &manifest);
        assert_eq!(reply.unwrap().status, 201);
        let shown = get_manifest(r, "a", "t");
        assert_eq!(shown.header("Content-Type"), Some(media_type::OCI_MANIFEST));
    });
}

#[test]
fn the_list_of_blobs_may_be_empty() {
    both("the_list_of_blobs_may_be_empty", |r| {
        let manifest = image(r, "a", "1", |m| m["layers"] = serde_json::json!([]));
        assert_eq!(put(r, "a", "t", &manifest).status, 201);
        let index = serde_json::json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [],
        });
        let index = serde_json::to_vec(&index).unwrap();
        assert_eq!(put(r, "a", "i", &index).status, 201);
        assert_eq!(get_manifest(r, "a", "i").body, index);
    });
}

#[test]
fn a_manifest_whose_blobs_are_missing_is_refused_with_manifest_blob_unknown_for_each() {
    both("a_manifest_whose_blobs_are_missing_is_refused", |r| {
        let manifest = image(r, "a", "1", |m| {
            let missing = |bytes: &[u8]| descriptor(media_type::OCI_LAYER, bytes);
            m["layers"] = serde_json::json!([missing(b"one"), missing(b"two")]);
        });
        let reply = put(r, "a", "t", &manifest);
        assert_error(&reply, 400, "MANIFEST_BLOB_UNKNOWN");
        let errors = reply.json()["errors"].as_array().unwrap().clone();
        assert_eq!(errors.len(), 2);
        assert!(errors.iter().all(|error| error["code"] == "MANIFEST_BLOB_UNKNOWN"));
        assert_eq!(errors[0]["detail"], Digest::sha256(b"one").to_string());
        assert_eq!(get_manifest(r, "a", "t").status, 404);
    });
}

#[test]
fn an_index_whose_manifests_are_missing_is_refused_with_manifest_blob_unknown() {
    both("an_index_whose_manifests_are_missing_is_refused", |r| {
        let index = serde_json::json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_INDEX,
            "manifests": [descriptor(media_type::OCI_MANIFEST, b"missing")],
        });
        let reply = put(r, "a", "t", &serde_json::to_vec(&index).unwrap());
        assert_error(&reply, 400, "MANIFEST_BLOB_UNKNOWN");
    });
}

#[test]
fn blobs_that_are_to_be_had_elsewhere_need_not_be_pushed() {
    both("blobs_that_are_to_be_had_elsewhere_need_not_be_pushed", |r| {
        let manifest = image(r, "a", "1", |m| {
            let mut foreign = descriptor(media_type::DOCKER_LAYER_FOREIGN_GZIP, b"elsewhere");
            foreign["urls"] = serde_json::json!(["https://example.org/layer"]);
            m["mediaType"] = media_type::DOCKER_MANIFEST.into();
            m["config"]["mediaType"] = media_type::DOCKER_CONFIG.into();
            m["layers"] = serde_json::json!([foreign]);
        });
        // docker-registry wants to be told which hosts are allowed.
        if r.kind() == lab::RegistryKind::Ferry {
            assert_eq!(put(r, "a", "t", &manifest).status, 201);
        }
    });
}

#[test]
fn multi_platform_images_of_both_families_are_kept_with_their_types() {
    both("multi_platform_images_of_both_families", |r| {
        for (name, list, one) in [
            ("oci", media_type::OCI_INDEX, media_type::OCI_MANIFEST),
            ("docker", media_type::DOCKER_LIST, media_type::DOCKER_MANIFEST),
        ] {
            let child = image(r, name, "1", |m| m["mediaType"] = one.into());
            let digest = Digest::sha256(&child).to_string();
            assert_eq!(put(r, name, &digest, &child).status, 201);
            let mut entry = descriptor(one, &child);
            entry["platform"] = serde_json::json!({"os": "linux", "architecture": "amd64"});
            let index = serde_json::json!({
                "schemaVersion": 2, "mediaType": list, "manifests": [entry],
            });
            let index = serde_json::to_vec(&index).unwrap();
            assert_eq!(put(r, name, "t", &index).status, 201);
            let pulled = get_manifest(r, name, "t");
            assert_eq!((pulled.header("Content-Type"), &pulled.body), (Some(list), &index));
        }
    });
}

#[test]
fn a_digest_that_is_not_the_manifests_is_refused() {
    both("a_digest_that_is_not_the_manifests_is_refused", |r| {
        let manifest = image(r, "a", "1", |_| {});
        let reply = put(r, "a", &nothing().to_string(), &manifest);
        assert_error(&reply, 400, "DIGEST_INVALID");
    });
}

#[test]
fn what_is_no_manifest_of_its_type_is_refused() {
    ours(|r| {
        let manifest = image(r, "a", "1", |_| {});
        let put = |media: &str, bytes: &[u8]| {
            r.send("PUT", "/v2/a/manifests/t", &[("Content-Type", media)], bytes).unwrap()
        };
        for (media, bytes) in [
            (media_type::OCI_MANIFEST, &b"{}"[..]),
            (media_type::OCI_MANIFEST, b"not json"),
            (media_type::OCI_MANIFEST, b""),
            (media_type::OCI_MANIFEST, br#"{"schemaVersion":1}"#),
            (media_type::OCI_MANIFEST, br#"{"schemaVersion":2,"manifests":[]}"#),
            (media_type::OCI_INDEX, &manifest),
            (media_type::DOCKER_MANIFEST, &manifest),
            ("application/json", &manifest),
            (media_type::DOCKER_MANIFEST_V1, &manifest),
        ] {
            assert_error(&put(media, bytes), 400, "MANIFEST_INVALID");
        }
        let untyped = r.send("PUT", "/v2/a/manifests/t", &[], &manifest).unwrap();
        assert_error(&untyped, 400, "MANIFEST_INVALID");
        assert_eq!(get(r, "/v2/a/manifests/t").status, 404);
    });
}

#[test]
fn manifests_of_four_megabytes_are_accepted_and_larger_ones_are_413() {
    ours(|r| {
        let sized = |size: usize| {
            let bare = image(r, "a", "1", |m| m["annotations"] = serde_json::json!({"x": ""}));
            let padding = "x".repeat(size - bare.len());
            let manifest =
                image(r, "a", "1", |m| m["annotations"] = serde_json::json!({"x": padding}));
            assert_eq!(manifest.len(), size);
            manifest
        };
        let largest = sized(4 << 20);
        assert_eq!(put(r, "a", "t", &largest).status, 201);
        assert!(get(r, "/v2/a/manifests/t").body == largest);
        let larger = sized((4 << 20) + 1);
        assert_error(&put(r, "a", "t", &larger), 413, "SIZE_INVALID");
        let headers =
            [("Content-Type", media_type::OCI_MANIFEST), ("Transfer-Encoding", "chunked")];
        let request = lab::Request::begin(r.address(), "PUT", "/v2/a/manifests/t", &headers, None);
        let mut request = request.unwrap();
        let chunk = format!("{:x}\r\n", larger.len());
        std::io::Write::write_all(&mut request.stream, chunk.as_bytes()).unwrap();
        // Its end need not be taken any more.
        std::io::Write::write_all(&mut request.stream, &larger).ok();
        assert_eq!(request.reply().map_or(413, |reply| reply.status), 413);
    });
}

#[test]
fn a_tag_moves_to_the_manifest_that_was_pushed_last() {
    both("a_tag_moves_to_the_manifest_that_was_pushed_last", |r| {
        let (one, two) = (image(r, "a", "1", |_| {}), image(r, "a", "2", |_| {}));
        for manifest in [&one, &two, &one] {
            assert_eq!(put(r, "a", "t", manifest).status, 201);
            assert_eq!(&get_manifest(r, "a", "t").body, manifest);
        }
        let digest = Digest::sha256(&two).to_string();
        assert_eq!(get_manifest(r, "a", &digest).body, two);
    });
}

#[test]
fn tags_may_come_as_parameters_of_a_push_by_digest() {
    ours(|r| {
        let manifest = image(r, "a", "1", |_| {});
        let digest = Digest::sha256(&manifest);
        let tags: Vec<String> = (0..12).map(|n| format!("t{n}")).collect();
        let query: Vec<String> = tags.iter().map(|tag| format!("tag={tag}")).collect();
        let reply = put(r, "a", &format!("{digest}?{}", query.join("&")), &manifest);
        assert_eq!(reply.status, 201);
        let told: Vec<&str> =
            reply.all("OCI-Tag").into_iter().flat_map(|v| v.split(',')).map(str::trim).collect();
        assert_eq!(told, tags);
        for tag in &tags {
            assert_eq!(get_manifest(r, "a", tag).body, manifest);
        }
        let many: Vec<String> = (0..200).map(|n| format!("tag=x{n}")).collect();
        let reply = put(r, "a", &format!("{digest}?{}", many.join("&")), &manifest);
        assert_eq!(reply.status, 414);
        let reply = put(r, "a", &format!("{digest}?tag=.bad"), &manifest);
        assert_error(&reply, 400, "TAG_INVALID");
        assert!(put(r, "a", "t", &manifest).all("OCI-Tag").is_empty());
    });
}

#[test]
fn with_a_subject_the_answer_names_it_whether_it_is_there_or_not() {
    ours(|r| {
        let subject = descriptor(media_type::OCI_MANIFEST, b"not there");
        let digest = Digest::sha256(b"not there").to_string();
        let manifest = image(r, "a", "1", |m| m["subject"] = subject.clone());
        let reply = put(r, "a", "t", &manifest);
        assert_eq!((reply.status, reply.header("OCI-Subject")), (201, Some(digest.as_str())));
        let index = serde_json::json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [],
            "subject": subject,
        });
        let reply = put(r, "a", "i", &serde_json::to_vec(&index).unwrap());
        assert_eq!((reply.status, reply.header("OCI-Subject")), (201, Some(digest.as_str())));
        let plain = image(r, "a", "2", |_| {});
        assert_eq!(put(r, "a", "p", &plain).header("OCI-Subject"), None);
    });
}

#[test]
fn without_the_referrers_api_the_fall_back_tag_can_be_kept_by_clients() {
    both("without_the_referrers_api_the_fall_back_tag", |r| {
        let subject = push_image(r, "a", "t");
        let referrer = image(r, "a", "sig", |m| {
            m["subject"] = serde_json::json!({
                "mediaType": media_type::OCI_MANIFEST, "digest": subject, "size": 1,
            });
        });
        let digest = Digest::sha256(&referrer).to_string();
        assert_eq!(put(r, "a", &digest, &referrer).status, 201);
        let tag = format!("sha256-{}", subject.hex());
        let index = serde_json::json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_INDEX,
            "manifests": [descriptor(media_type::OCI_MANIFEST, &referrer)],
        });
        let index = serde_json::to_vec(&index).unwrap();
        assert_eq!(put(r, "a", &tag, &index).status, 201);
        assert_eq!(get_manifest(r, "a", &tag).body, index);
    });
}

#[test]
fn a_conditional_push_is_412_when_the_tag_is_elsewhere() {
    ours(|r| {
        let (one, two) = (image(r, "a", "1", |_| {}), image(r, "a", "2", |_| {}));
        let put_if = |bytes: &[u8], header: (&str, &str)| {
            let media = ("Content-Type", media_type::OCI_MANIFEST);
            r.send("PUT", "/v2/a/manifests/t", &[media, header], bytes).unwrap().status
        };
        let etag = |bytes: &[u8]| format!("\"{}\"", Digest::sha256(bytes));
        assert_eq!(put_if(&one, ("If-Match", &etag(&one))), 412);
        assert_eq!(put_if(&one, ("If-None-Match", "*")), 201);
        assert_eq!(put_if(&two, ("If-None-Match", "*")), 412);
        assert_eq!(put_if(&two, ("If-Match", &etag(&two))), 412);
        assert_eq!(get(r, "/v2/a/manifests/t").body, one);
        assert_eq!(put_if(&two, ("If-Match", &etag(&one))), 201);
    });
}
