//! Volumes: making them for containers, filling a fresh one with what the image has at its
//! place, who uses them, removing them. What the API says of them is in `routes`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use containerd_api::types::Mount;
use metastore::{Batch, Class, StoreError};

use crate::engine::Engine;
use crate::http::errno_text;
use crate::records::{MountRecord, REMOVED_VOLUMES, Spec, VOLUMES, Volume, now};
use crate::rootfs;

/// A volume's own folder; its content is in `_data`.
pub fn folder(data_root: &Path, name: &str) -> PathBuf {
    data_root.join("volumes").join(name)
}

/// Where a volume's content is.
pub fn data(data_root: &Path, name: &str) -> PathBuf {
    folder(data_root, name).join("_data")
}

/// Why a local volume can't have this name.
pub fn check_name(name: &str) -> Result<(), String> {
    let mut bytes = name.bytes();
    let good = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    if name.len() == 1 {
        return Err(
            "volume name is too short, names should be at least two alphanumeric characters".into(),
        );
    }
    if good {
        return Ok(());
    }
    Err(format!(
        "\"{name}\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
    ))
}

/// Makes the volume unless it exists; true when it is new.
pub fn ensure(engine: &Engine, mount: &MountRecord) -> Result<bool, String> {
    let name = mount.point.name.as_str();
    let known =
        engine.store.get_json::<Volume>(VOLUMES, name.as_bytes()).map_err(|e| e.to_string())?;
    if known.is_some() {
        return Ok(false);
    }
    let place = data(&engine.settings.data_root, name);
    fs::create_dir_all(&place).map_err(|e| format!("making volume {name}: {e}"))?;
    let volume = Volume {
        created: now(),
        anonymous: mount.anonymous,
        labels: mount.volume_labels.clone(),
        ..Volume::default()
    };
    let batch =
        Batch::default().put_json(VOLUMES, name.as_bytes(), &volume).map_err(|e| e.to_string())?;
    engine.store.commit(Class::Crash, batch).map_err(|e| e.to_string())?;
    let attributes = [("driver".to_owned(), "local".to_owned())];
    engine.events.publish("volume", "create", name, attributes.into());
    Ok(true)
}

/// The ids of the containers that have each volume.
pub fn users(engine: &Engine) -> BTreeMap<String, Vec<String>> {
    let mut users: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for container in engine.all() {
        let Ok(spec) = container.spec() else { continue };
        for mount in spec.mounts.iter().filter(|mount| mount.point.kind == "volume") {
            let ids = users.entry(mount.point.name.clone()).or_default();
            if ids.last() != Some(&spec.id) {
                ids.push(spec.id.clone());
            }
        }
    }
    users
}

/// Removes a volume that no container has, with what it holds. The caller holds the engine's
/// `volumes`, so that nobody makes it again meanwhile; it may take a while.
pub fn remove_volume(engine: &Engine, name: &str) -> Result<(), StoreError> {
    let intent = Batch::default().delete(VOLUMES, name.as_bytes()).put(
        REMOVED_VOLUMES,
        name.as_bytes(),
        b"",
    );
    engine.store.commit(Class::Power, intent)?;
    finish_removal(engine, name)?;
    let attributes = [("driver".to_owned(), "local".to_owned())];
    engine.events.publish("volume", "destroy", name, attributes.into());
    Ok(())
}

/// Goes on with the removals that an end of the daemon cut.
pub fn finish_removals(engine: &Engine) -> Result<(), StoreError> {
    for (name, _) in engine.store.scan(REMOVED_VOLUMES, b"")? {
        finish_removal(engine, &String::from_utf8_lossy(&name))?;
    }
    Ok(())
}

fn finish_removal(engine: &Engine, name: &str) -> Result<(), StoreError> {
    remove_folder(&folder(&engine.settings.data_root, name));
    engine.store.commit(Class::Crash, Batch::default().delete(REMOVED_VOLUMES, name.as_bytes()))
}

/// Removes a folder with all that it holds, if it is there.
pub fn remove_folder(folder: &Path) {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            tracing::warn!("removing {}: {e}", folder.display());
        }
        _ => {}
    }
}

/// Makes the sources of binds that are to be made.
fn make_sources(spec: &Spec) -> Result<(), String> {
    for mount in spec.mounts.iter().filter(|m| m.make_source) {
        let source = &mount.point.source;
        if fs::symlink_metadata(source).is_err() {
            fs::create_dir_all(source).map_err(|e| {
                let why = errno_text(&e);
                format!("error while creating mount source path '{source}': mkdir {source}: {why}")
            })?;
        }
    }
    Ok(())
}

/// Makes what this container's mounts lack on the host: sources of binds, and the content of
/// volumes that are still empty, from the image.
pub async fn fill(engine: &Engine, spec: &Spec, root: &[Mount]) -> Result<(), String> {
    make_sources(spec)?;
    for mount in spec.mounts.iter().filter(|m| m.point.kind == "volume") {
        let (place, target) = (PathBuf::from(&mount.point.source), mount.point.destination.clone());
        if mount.copy_up && is_empty(&place) {
            let sources = rootfs::folders(&rootfs::layers(root), &target);
            if !sources.is_empty() {
                let failed = format!("filling volume {}", mount.point.name);
                let copied = tokio::task::spawn_blocking(move || copy_up(&sources, &place)).await;
                copied
                    .map_err(|e| format!("{failed}: {e}"))?
                    .map_err(|e| format!("{failed}: {e}"))?;
            }
        }
        let attributes = [
            ("container".to_owned(), spec.id.clone()),
            ("destination".to_owned(), mount.point.destination.clone()),
            ("driver".to_owned(), "local".to_owned()),
            ("propagation".to_owned(), mount.point.propagation.clone()),
            ("read/write".to_owned(), mount.point.rw.to_string()),
        ];
        engine.events.publish("volume", "mount", &mount.point.name, attributes.into());
    }
    Ok(())
}

fn is_empty(place: &Path) -> bool {
    fs::read_dir(place).is_ok_and(|mut entries| entries.next().is_none())
}

/// Copies the layers' folders, lowest first, so that upper ones win.
fn copy_up(sources: &[PathBuf], place: &Path) -> io::Result<()> {
    for source in sources.iter().rev() {
        copy_tree(source, place)?;
    }
    Ok(())
}

fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    let meta = fs::symlink_metadata(from)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let meta = fs::symlink_metadata(&source)?;
        let kind = meta.file_type();
        let is_whiteout = std::os::unix::fs::FileTypeExt::is_char_device(&kind) && meta.rdev() == 0;
        if is_whiteout || (target.symlink_metadata().is_ok() && !kind.is_dir()) {
            remove(&target)?;
        }
        if is_whiteout {
            continue;
        }
        if kind.is_dir() {
            if fs::symlink_metadata(&target).is_ok_and(|m| !m.is_dir()) {
                remove(&target)?;
            }
            match fs::create_dir(&target) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
                _ => {}
            }
            copy_tree(&source, &target)?;
        } else if kind.is_symlink() {
            symlink(fs::read_link(&source)?, &target)?;
            std::os::unix::fs::lchown(&target, Some(meta.uid()), Some(meta.gid()))?;
        } else if kind.is_file() {
            fs::copy(&source, &target)?;
            own(&target, &meta)?;
        }
    }
    own(to, &meta)
}

fn own(path: &Path, meta: &fs::Metadata) -> io::Result<()> {
    std::os::unix::fs::lchown(path, Some(meta.uid()), Some(meta.gid()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(meta.mode() & 0o7777))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_gets_what_the_layers_show_together() {
        let temp = tempfile::tempdir().unwrap();
        let (top, low, place) =
            (temp.path().join("t"), temp.path().join("l"), temp.path().join("v"));
        for path in [&top, &low, &place] {
            fs::create_dir_all(path.join("d")).unwrap();
        }
        fs::remove_dir(place.join("d")).unwrap();
        fs::write(low.join("d/a"), "old").unwrap();
        fs::write(low.join("b"), "b").unwrap();
        fs::write(top.join("d/a"), "new").unwrap();
        symlink("/etc", top.join("s")).unwrap();
        copy_up(&[top, low], &place).unwrap();
        assert_eq!(fs::read_to_string(place.join("d/a")).unwrap(), "new");
        assert_eq!(fs::read_to_string(place.join("b")).unwrap(), "b");
        assert_eq!(fs::read_link(place.join("s")).unwrap(), Path::new("/etc"));
    }

    #[test]
    fn volume_names_are_checked() {
        assert!(check_name("a_b.c-1").is_ok());
        for bad in ["", "a", "a/b", ".x"] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
