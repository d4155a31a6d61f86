//! "Listing Tags", and docker-registry's catalog.

use lab::{Registry, RegistryKind};

use crate::support::*;

fn tags(r: &Registry, query: &str) -> (Vec<String>, Option<String>) {
    list(r, &format!("/v2/a/tags/list{query}"), "tags")
}

fn list(r: &Registry, target: &str, key: &str) -> (Vec<String>, Option<String>) {
    let reply = get(r, target);
    assert_eq!(reply.status, 200, "{target}: {reply:?}");
    assert!(reply.header("Content-Type").unwrap().starts_with("application/json"));
    let all = reply.json()[key].as_array().cloned().unwrap_or_default();
    let all = all.iter().map(|tag| tag.as_str().unwrap().to_owned()).collect();
    let link = reply.header("Link").map(|link| {
        let (target, relation) = link.split_once(';').unwrap();
        assert!(relation.contains("rel=\"next\""), "{link}");
        target.trim_matches(['<', '>']).to_owned()
    });
    (all, link)
}

/// Tags in ASCII order, which is not that of any alphabet.
const TAGS: [&str; 7] = ["1.10", "1.9", "A", "Z", "_x", "a", "latest"];

fn tagged(r: &Registry) {
    for tag in TAGS.iter().rev() {
        push_image(r, "a", tag);
    }
}

#[test]
fn tags_are_listed_in_ascii_order() {
    // docker-registry 2.8 lists them in the order of its folder.
    ours(|r| {
        tagged(r);
        assert_eq!(get(r, "/v2/a/tags/list").json()["name"], "a");
        let (all, link) = tags(r, "");
        assert_eq!((all, link), (TAGS.map(str::to_owned).to_vec(), None));
    });
}

#[test]
fn tags_of_a_repository_that_is_not_there_are_404() {
    both("tags_of_a_repository_that_is_not_there_are_404", |r| {
        assert_error(&get(r, "/v2/nobody/tags/list"), 404, "NAME_UNKNOWN");
    });
}

#[test]
fn a_repository_without_tags_has_an_empty_list() {
    ours(|r| {
        push_blob(r, "a", b"x");
        assert_eq!(tags(r, ""), (vec![], None));
        assert!(get(r, "/v2/a/tags/list").text().contains("\"tags\":[]"));
    });
}

#[test]
fn a_number_of_tags_gives_as_many_and_a_link_to_the_rest() {
    ours(|r| {
        tagged(r);
        let (first, link) = tags(r, "?n=3");
        assert_eq!(first, TAGS[..3]);
        let (second, link) = list(r, &link.unwrap(), "tags");
        assert_eq!(second, TAGS[3..6]);
        let (third, link) = list(r, &link.unwrap(), "tags");
        assert_eq!((third, link), (vec![TAGS[6].to_owned()], None));
        for n in [7, 8, 1000] {
            assert_eq!(tags(r, &format!("?n={n}")), (TAGS.map(str::to_owned).to_vec(), None));
        }
    });
}

#[test]
fn no_tags_are_listed_and_no_link_is_given_when_n_is_zero() {
    ours(|r| {
        tagged(r);
        assert_eq!(tags(r, "?n=0"), (vec![], None));
        assert_eq!(tags(r, "?n=0&last=A"), (vec![], None));
    });
}

#[test]
fn the_list_begins_after_the_last_tag_which_need_not_exist() {
    ours(|r| {
        tagged(r);
        assert_eq!(tags(r, "?n=2&last=A").0, TAGS[3..5]);
        assert_eq!(tags(r, "?last=A").0, TAGS[3..]);
        assert_eq!(tags(r, "?n=2&last=B").0, TAGS[3..5]);
        assert_eq!(tags(r, "?last=zzz"), (vec![], None));
        assert_eq!(get(r, "/v2/a/tags/list?n=x").status, 400);
        assert_eq!(get(r, "/v2/a/tags/list?n=-1").status, 400);
    });
}

#[test]
fn the_catalog_lists_repositories_in_order_and_in_pages() {
    both("the_catalog_lists_repositories_in_order_and_in_pages", |r| {
        for name in ["c", "a/b", "b"] {
            push_image(r, name, "t");
        }
        let (all, _) = list(r, "/v2/_catalog", "repositories");
        assert_eq!(all, ["a/b", "b", "c"]);
        let (first, link) = list(r, "/v2/_catalog?n=2", "repositories");
        assert_eq!(first, ["a/b", "b"]);
        let (second, link) = list(r, &link.unwrap(), "repositories");
        assert_eq!((second, link), (vec!["c".to_owned()], None));
        // docker-registry has it so too.
        assert_eq!(list(r, "/v2/_catalog?last=b", "repositories").0, ["c"]);
    });
}

#[test]
fn an_empty_registry_has_an_empty_catalog() {
    both("an_empty_registry_has_an_empty_catalog", |r| {
        assert_eq!(list(r, "/v2/_catalog", "repositories").0, Vec::<String>::new());
        assert_eq!(r.kind() == RegistryKind::Ferry, r.root().join("ferry").exists());
    });
}
