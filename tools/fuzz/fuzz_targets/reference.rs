//! Any text as a reference, a digest, a platform, a registry's name: what is read and printed again
//! says the same, and is safe where it is used as a path.

#![no_main]

use libfuzzer_sys::fuzz_target;
use oci::{Digest, Platform, Reference};
use registry_client::{Insecure, Url};
use registry_server::name::{Repository, Tag};

fuzz_target!(|text: &str| {
    reference(text);
    digest(text);
    platform(text);
    names(text);
    url(text);
});

fn reference(text: &str) {
    let Ok(read) = text.parse::<Reference>() else { return };
    let again = |shown: String| shown.parse::<Reference>().expect("what it printed");
    assert_eq!(again(read.to_string()), read);
    let short = read.familiar();
    // Docker's short form drops `docker.io/` even where what follows looks like a host or an id.
    if read.domain() != "docker.io" || is_plain(&short) {
        assert_eq!(again(short), read);
    }
    assert_eq!(again(read.name()), read.without_tag());
    let tagged = read.clone().tagged();
    assert!(!tagged.is_name_only());
    assert_eq!(again(tagged.to_string()), tagged);
    let pinned = read.with_digest(Digest::sha256(text.as_bytes()));
    assert_eq!(again(pinned.to_string()), pinned);
    let json = serde_json::to_string(&read).expect("text");
    assert_eq!(serde_json::from_str::<Reference>(&json).expect("what it wrote"), read);
    // Parts become names of files and URLs.
    read.path().parse::<Repository>().expect("a repository's name");
    assert!(!read.path().split('/').any(|part| part.is_empty() || part.starts_with('.')));
    assert!(!read.domain().is_empty() && !read.domain().contains(['/', '@', ' ', '?', '#']));
    if let Some(tag) = read.tag() {
        tag.parse::<Tag>().expect("a tag");
    }
}

/// Whether a short form can be told from one that names a host, or from an id.
fn is_plain(short: &str) -> bool {
    let first = short.split_once('/').map_or("", |(first, _)| first);
    !first.contains(['.', ':']) && first != "localhost" && short.len() != 64
}

fn digest(text: &str) {
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string(), text);
        let bytes = Digest::from_bytes(digest.algorithm(), digest.as_bytes());
        assert_eq!(bytes, Some(digest));
    }
}

fn platform(text: &str) {
    let Ok(platform) = text.parse::<Platform>() else { return };
    assert_eq!(platform.normalized(), platform.normalized().normalized());
    let again = platform.to_string().parse::<Platform>().expect("what it printed");
    assert!(platform.same(&again), "{platform} {again}");
    assert_eq!(platform.rank(&platform), Some(0), "{platform} does not run itself");
}

fn names(text: &str) {
    for name in [
        text.parse::<Repository>().map(|r| r.to_string()),
        text.parse::<Tag>().map(|t| t.as_str().to_owned()),
    ]
    .into_iter()
    .flatten()
    {
        assert_eq!(name, text);
        assert!(!name.split('/').any(|part| part.is_empty() || part.starts_with('.')));
    }
    let _ = Insecure::new(&[text]);
}

fn url(text: &str) {
    let Ok(url) = Url::parse(text) else { return };
    assert_eq!(Url::parse(&url.to_string()).as_ref(), Ok(&url));
    if let Some((base, reference)) = text.split_once(' ').or_else(|| text.split_once('\n'))
        && let Ok(base) = Url::parse(base)
        && let Ok(joined) = base.join(reference)
    {
        assert_eq!(Url::parse(&joined.to_string()), Ok(joined));
    }
}
