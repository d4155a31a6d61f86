//! Any bytes where registries and clients speak of who somebody is: challenges, refusals, token
//! answers, small headers, `X-Registry-Auth`, entries of a configuration file.

#![no_main]

use engine_api::{AuthConfig, json};
use libfuzzer_sys::fuzz_target;
use registry_client::parse::{
    ContentRange, challenges, next_link, parse_retry_after, token_answer, uploaded,
};
use registry_client::{Answer, Credentials, Scope, Scopes};
use std::time::{Duration, SystemTime};

fuzz_target!(|bytes: &[u8]| {
    let Some((part, rest)) = bytes.split_first() else { return };
    match part % 6 {
        0 => std::str::from_utf8(rest).map(challenge).unwrap_or_default(),
        1 => refusal(rest),
        2 => token(rest),
        3 => std::str::from_utf8(rest).map(small).unwrap_or_default(),
        4 => header(rest),
        _ => file(rest),
    }
});

fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

/// What is read is bounded, and says the same when it is written and read again.
fn challenge(value: &str) {
    for found in challenges(value) {
        assert!(!found.scheme.is_empty() && found.scheme == found.scheme.to_ascii_lowercase());
        let names = ["realm", "service", "scope", "error"];
        let said: Vec<(&str, &str)> =
            names.iter().filter_map(|name| Some((*name, found.get(name)?))).collect();
        let parameters: Vec<String> =
            said.iter().map(|(name, text)| format!("{name}=\"{}\"", quoted(text))).collect();
        let written = format!("{} {}", found.scheme, parameters.join(","));
        if written.len() > value.len() + 64 {
            continue;
        }
        let again = challenges(&written);
        assert_eq!(again.len(), 1, "{written}");
        for (name, text) in said {
            assert_eq!(again[0].get(name), Some(text), "{written}");
        }
        if let Some(scope) = found.get("scope") {
            scopes(scope);
        }
    }
}

fn scopes(text: &str) {
    let mut all = Scopes::default();
    for scope in text.split(' ').filter_map(Scope::parse) {
        assert_eq!(Scope::parse(&scope.to_string()).as_ref(), Some(&scope));
        all.add(scope);
    }
    for scope in all.to_string().split(' ').filter(|scope| !scope.is_empty()) {
        assert!(Scope::parse(scope).is_some(), "{scope}");
    }
}

/// A body of any kind becomes a short text.
fn refusal(body: &[u8]) {
    let (head, body) = body.split_at(body.len().min(2));
    let status = 400 + head.iter().map(|byte| u16::from(*byte)).sum::<u16>() % 200;
    let known = challenges("Bearer realm=\"r\",error=\"insufficient_scope\"");
    for kind in [None, Some("application/json"), Some("text/html"), Some("text/plain; charset=x")] {
        for challenges in [&known[..], &[]] {
            let answer = Answer::read(status, challenges, kind, body);
            assert!(!answer.to_string().is_empty());
            assert!(answer.to_string().len() <= 4096 + 16 * body.len());
            let _ = (answer.code().status(), answer.status_line());
        }
    }
}

fn token(body: &[u8]) {
    let Ok(grant) = token_answer(body) else { return };
    assert!(grant.value.is_sensitive());
    assert!(grant.value.as_bytes().starts_with(b"Bearer ") && grant.value.len() > 7);
    assert!((60..=24 * 3600).contains(&grant.life.as_secs()));
    assert_ne!(grant.identity.as_deref(), Some(""));
}

fn small(value: &str) {
    if let Some(target) = next_link(value) {
        assert!(!target.contains('>'));
        assert_eq!(next_link(&format!("<{target}>; rel=\"next\"")), Some(target));
    }
    if let Some(range) = ContentRange::parse(value) {
        assert!(range.first <= range.last && range.size.is_none_or(|size| range.last < size));
    }
    let _ = uploaded(value);
    if let Some(wait) = parse_retry_after(value, SystemTime::UNIX_EPOCH) {
        assert!(wait <= Duration::from_secs(7 * 24 * 3600));
    }
}

fn header(value: &[u8]) {
    let Ok(Some(auth)) = AuthConfig::from_header(value) else { return };
    let again = AuthConfig::from_header(auth.to_header().as_bytes());
    assert_eq!(again, Ok(Some(auth.clone())));
    let AuthConfig { username, password, identitytoken, registrytoken, .. } = &auth;
    let _ = Credentials::of(username, password, identitytoken, registrytoken);
    entry(&auth);
}

/// A configuration file as `~/.docker/config.json`.
fn file(bytes: &[u8]) {
    let Ok(config) = json::parse(bytes) else { return };
    for (name, value) in config.as_object().unwrap_or_default() {
        if name == "auths" {
            for (address, value) in value.as_object().unwrap_or_default() {
                let auth = AuthConfig::from_entry(address, value);
                assert_eq!(&auth.serveraddress, address);
                entry(&auth);
            }
        }
    }
}

/// What is kept is found again, but for names and passwords that the form can't hold.
fn entry(auth: &AuthConfig) {
    if auth.username.contains(':') || auth.password != auth.password.trim_matches('\0') {
        return;
    }
    let kept = auth.to_entry();
    let text = kept.to_string();
    let read = json::parse(text.as_bytes()).expect("what was written");
    assert_eq!(read, kept);
    let again = AuthConfig::from_entry(&auth.serveraddress, &read);
    assert_eq!(again.username, auth.username);
    assert_eq!(again.password, auth.password);
    assert_eq!(again.identitytoken, auth.identitytoken);
    assert_eq!(again.registrytoken, auth.registrytoken);
}
