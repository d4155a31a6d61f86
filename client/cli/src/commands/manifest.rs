//! `manifest`: lists of manifests by platform, made here and pushed to registries.

use engine_api::Value;
use engine_client::indent_json;
use oci::Reference;

use crate::error::{CliError, Result};
use crate::manifests::{Entry, Found, Registries, Store, list_document};
use crate::session::Session;

/// Systems and architectures that may be said of a manifest.
const PLATFORMS: &[(&str, &[&str])] = &[
    ("darwin", &["386", "amd64", "arm", "arm64"]),
    ("dragonfly", &["amd64"]),
    ("freebsd", &["386", "amd64", "arm"]),
    (
        "linux",
        &["386", "amd64", "arm", "arm64", "mips64", "mips64le", "ppc64le", "riscv64", "s390x"],
    ),
    ("netbsd", &["386", "amd64", "arm"]),
    ("openbsd", &["386", "amd64", "arm"]),
    ("plan9", &["386", "amd64"]),
    ("solaris", &["amd64"]),
    ("windows", &["386", "amd64"]),
];

fn parse(name: &str) -> std::result::Result<Reference, String> {
    super::images::check_name(name)?;
    let reference = Reference::parse(name).map_err(|e| e.to_string())?;
    Ok(if reference.digest().is_some() { reference } else { reference.tagged() })
}

fn list_name(name: &str) -> Result<Reference> {
    parse(name)
        .map_err(|e| CliError::new(format!("error parsing name for manifest list {name}: {e}")))
}

fn store(s: &Session) -> Store {
    Store::new(s.config.folder())
}

/// The registries, with the one of `name` as insecure as the flag says.
fn registries<'a>(s: &'a Session, name: &Reference) -> Result<Registries<'a>> {
    Registries::new(s, s.matches.on("insecure").then_some(name))
}

fn no_list(list: &Reference) -> CliError {
    CliError::new(format!("No such manifest: {list}"))
}

pub(super) async fn create(s: &Session) -> Result<()> {
    let (store, target) = (store(s), list_name(s.matches.arg(0))?);
    if store.list(&target)?.is_some() && !s.matches.on("amend") {
        let text = "refusing to amend an existing manifest list with no --amend flag";
        return Err(CliError::new(text));
    }
    // All are fetched before one is kept, so that a list is whole or not there.
    let mut entries = Vec::new();
    for name in &s.matches.args[1..] {
        let manifest = parse(name).map_err(CliError::new)?;
        let entry = match store.get(&target, &manifest)? {
            Some(entry) => entry,
            None => match registries(s, &manifest)?.fetch(&manifest).await? {
                Found::One(entry) => *entry,
                Found::List(_) => {
                    return Err(CliError::new(format!("{manifest} is a manifest list")));
                }
            },
        };
        entries.push((manifest, entry));
    }
    for (manifest, entry) in &entries {
        store.put(&target, manifest, entry)?;
    }
    s.line(&format!("Created manifest list {target}"));
    Ok(())
}

pub(super) async fn annotate(s: &Session) -> Result<()> {
    let m = &s.matches;
    let named = |kind: &str, name: &str| {
        parse(name).map_err(|e| {
            CliError::new(format!("annotate: error parsing name for {kind} {name}: {e}"))
        })
    };
    let target = named("manifest list", m.arg(0))?;
    let manifest = named("manifest", m.arg(1))?;
    let store = store(s);
    let Some(mut entry) = store.get(&target, &manifest)? else {
        let text = format!("manifest for image {manifest} does not exist in {target}");
        return Err(CliError::new(text));
    };
    let platform = entry.descriptor.platform.get_or_insert_default();
    let set = |field: &mut String, flag: &str| {
        if !m.text(flag).is_empty() {
            m.text(flag).clone_into(field);
        }
    };
    set(&mut platform.os, "os");
    set(&mut platform.architecture, "arch");
    set(&mut platform.variant, "variant");
    set(&mut platform.os_version, "os-version");
    for feature in m.texts("os-features") {
        let features = platform.os_features.get_or_insert_default();
        if !features.iter().any(|known| known == feature) {
            features.push(feature.to_owned());
        }
    }
    let known = PLATFORMS.iter().find(|(os, _)| *os == platform.os);
    if !known.is_some_and(|(_, list)| list.contains(&platform.architecture.as_str())) {
        return Err(CliError::new(format!(
            "manifest entry for image has unsupported os/arch combination: {}/{}",
            m.text("os"),
            m.text("arch")
        )));
    }
    store.put(&target, &manifest, &entry)
}

pub(super) async fn inspect(s: &Session) -> Result<()> {
    let m = &s.matches;
    let store = store(s);
    if m.args.len() == 2 {
        let list = parse(m.arg(0)).map_err(CliError::new)?;
        let manifest = parse(m.arg(1)).map_err(CliError::new)?;
        let entry = store.get(&list, &manifest)?.ok_or_else(|| no_list(&manifest))?;
        return print_one(s, &entry);
    }
    let name = parse(m.arg(0)).map_err(CliError::new)?;
    if let Some(entries) = store.list(&name)? {
        return print_list(s, &name, &entries);
    }
    match registries(s, &name)?.fetch(&name).await? {
        Found::One(entry) => print_one(s, &entry),
        Found::List(entries) => print_list(s, &name, &entries),
    }
}

fn print_one(s: &Session, entry: &Entry) -> Result<()> {
    if s.matches.on("verbose") {
        s.line(&indent_json(&entry.value()?.to_string(), "\t"));
    } else {
        s.line(&entry.document());
    }
    Ok(())
}

fn print_list(s: &Session, name: &Reference, entries: &[Entry]) -> Result<()> {
    if s.matches.on("verbose") {
        let values = entries.iter().map(Entry::value).collect::<Result<Vec<_>>>()?;
        s.line(&indent_json(&Value::Array(values).to_string(), "\t"));
    } else {
        s.line(&list_document(name, entries)?.1);
    }
    Ok(())
}

pub(super) async fn push(s: &Session) -> Result<()> {
    let target = parse(s.matches.arg(0)).map_err(CliError::new)?;
    let store = store(s);
    let entries = store.list(&target)?.ok_or_else(|| no_list(&target))?;
    let (kind, document) = list_document(&target, &entries)?;
    let registries = registries(s, &target)?;
    for entry in &entries {
        s.line(&registries.push_entry(&target, entry).await?);
    }
    s.line(&registries.push_list(&target, kind, document).await?);
    if s.matches.on("purge") {
        store.remove(&target)?;
    }
    Ok(())
}

pub(super) async fn remove(s: &Session) -> Result<()> {
    let store = store(s);
    let mut errors = Vec::new();
    for name in &s.matches.args {
        match parse(name).map_err(CliError::new) {
            Ok(list) => match store.remove(&list) {
                Ok(true) => {}
                Ok(false) => errors.push(no_list(&list).to_string()),
                Err(e) => errors.push(e.to_string()),
            },
            Err(e) => errors.push(e.to_string()),
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(CliError::new(errors.join("\n"))) }
}
