//! Images as one archive that everybody reads: an OCI layout (`oci-layout`, `index.json`, `blobs/`)
//! with docker's `manifest.json` and `repositories` beside it. Blobs go out exactly as they are
//! stored; documents come first, so that a reader can stream.

use super::graph::stored;
use super::resolve::{IMAGE_NAME, REF_NAME};
use crate::streaming::StreamWriter;
use crate::{Context, Error, State};
use archive::{Header, Writer};
use oci::image::{ImageConfig, Node};
use oci::{Descriptor, Digest, Platform, Reference, media_type};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufWriter, Read as _, Seek as _, SeekFrom, Write as _};

/// What an archive is to hold.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// Image names and their targets.
    pub images: Vec<(String, Descriptor)>,
    /// Platforms of indexes (none: all that are here).
    pub platforms: Vec<Platform>,
    /// Leave `manifest.json` and `repositories` out.
    pub only_oci: bool,
    /// Leave out layers whose publisher forbids to distribute them.
    pub only_distributable: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

/// Bytes that are gathered before they are sent.
const BUFFER: usize = 1 << 20;

#[derive(Default)]
struct Plan {
    blobs: BTreeSet<Digest>,
    manifests: Vec<Descriptor>,
    saved: Vec<Saved>,
    repositories: BTreeMap<String, BTreeMap<String, String>>,
}

/// Writes the archive. Blocks for as long as the reader takes.
pub fn export(
    state: &State,
    context: &Context,
    wish: &Wish,
    out: StreamWriter,
) -> Result<StreamWriter, Error> {
    let mut plan = Plan::default();
    for (name, target) in &wish.images {
        plan.image(state, context, wish, name, target)?;
    }
    let failed = |e| Error::Other(format!("writing the image archive: {e}"));
    let mut writer = Writer::new(BufWriter::with_capacity(BUFFER, out));
    let mut document =
        |name: &str, bytes: &[u8]| writer.entry(Header::file(name, 0), bytes).map_err(failed);
    document("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    document(
        "index.json",
        &json(&serde_json::json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": plan.manifests,
        }))?,
    )?;
    if !wish.only_oci {
        document("manifest.json", &json(&plan.saved)?)?;
        document("repositories", &json(&plan.repositories)?)?;
    }
    writer.entry(Header::dir("blobs/"), b"").map_err(failed)?;
    let mut folders = BTreeSet::new();
    for digest in &plan.blobs {
        if folders.insert(digest.algorithm()) {
            let folder = format!("blobs/{}/", digest.algorithm());
            writer.entry(Header::dir(folder), b"").map_err(failed)?;
        }
        let (file, info) = state.content_open(context, digest)?;
        writer.start(&Header::file(path(digest), info.size)).map_err(failed)?;
        copy(&mut writer, file, info.size, digest)?;
    }
    let out = writer.finish().map_err(failed)?;
    out.into_inner().map_err(|e| Error::Other(format!("writing the image archive: {e}")))
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(value).map_err(|e| Error::Other(e.to_string()))
}

fn path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.hex())
}

fn copy(
    writer: &mut Writer<BufWriter<StreamWriter>>,
    mut file: File,
    size: u64,
    digest: &Digest,
) -> Result<(), Error> {
    let sending = Error::io(format!("sending blob {digest}"));
    let mut left = size;
    if size > BUFFER as u64 {
        let out = writer.get_mut();
        let sent = out.flush().and_then(|()| out.get_mut().send_file(&file, size));
        let sent = sent.map_err(sending)?;
        writer.passed(sent);
        left -= sent;
        file.seek(SeekFrom::Start(sent)).map_err(Error::io(format!("reading blob {digest}")))?;
    }
    let mut buffer = vec![0; usize::try_from(left).unwrap_or(BUFFER).min(BUFFER)];
    while left > 0 {
        let n = file.read(&mut buffer).map_err(Error::io(format!("reading blob {digest}")))?;
        if n == 0 {
            return Err(Error::Other(format!("blob {digest} is shorter than its record says")));
        }
        writer
            .data(&buffer[..n])
            .map_err(|e| Error::Other(format!("writing the image archive: {e}")))?;
        left -= n as u64;
    }
    Ok(())
}

impl Plan {
    fn image(
        &mut self,
        state: &State,
        context: &Context,
        wish: &Wish,
        name: &str,
        target: &Descriptor,
    ) -> Result<(), Error> {
        let reference = Reference::parse(name).ok().filter(|r| r.tag().is_some());
        let mut entry = target.clone();
        entry.annotations.insert(IMAGE_NAME.into(), name.to_owned());
        let tag = reference.as_ref().and_then(|r| r.tag().map(str::to_owned));
        match &tag {
            Some(tag) => entry.annotations.insert(REF_NAME.into(), tag.clone()),
            None => entry.annotations.remove(REF_NAME),
        };
        if name.contains('@') {
            // A name by digest says nothing to whoever reads the archive.
            entry.annotations.remove(IMAGE_NAME);
        }
        let mut manifests = Vec::new();
        self.collect(state, context, wish, target, &mut manifests, 0)?;
        self.manifests.push(entry);
        for (config, layers) in manifests {
            let layers: Vec<String> = layers.iter().map(path).collect();
            let familiar = reference.as_ref().map(Reference::familiar);
            if let (Some(r), Some(tag), Some(top)) = (&reference, &tag, layers.last()) {
                let id = top.rsplit('/').next().unwrap_or_default().to_owned();
                let tags = self.repositories.entry(r.familiar_name()).or_default();
                tags.entry(tag.clone()).or_insert(id);
            }
            let config = path(&config);
            // One image under several names is one entry with several tags.
            match self.saved.iter_mut().find(|saved| saved.config == config) {
                Some(saved) => saved.repo_tags.extend(familiar),
                None => self.saved.push(Saved {
                    config,
                    repo_tags: familiar.into_iter().collect(),
                    layers,
                }),
            }
        }
        Ok(())
    }

    /// Adds all blobs below a descriptor; image manifests are returned as config and layers.
    fn collect(
        &mut self,
        state: &State,
        context: &Context,
        wish: &Wish,
        of: &Descriptor,
        found: &mut Vec<(Digest, Vec<Digest>)>,
        depth: u32,
    ) -> Result<(), Error> {
        match stored(state, context, of)? {
            Node::Index(index) if depth < 8 => {
                for child in &index.manifests {
                    let wanted = wish.platforms.is_empty()
                        || child
                            .platform
                            .as_ref()
                            .is_none_or(|has| wish.platforms.iter().any(|p| p.rank(has).is_some()));
                    let here = state.content_info(context, &child.digest).is_ok();
                    if wanted && here {
                        self.collect(state, context, wish, child, found, depth + 1)?;
                    }
                }
            }
            Node::Manifest(manifest) => {
                self.blobs.insert(manifest.config.digest);
                let forbidden = |l: &&Descriptor| {
                    wish.only_distributable && media_type::is_foreign_layer(&l.media_type)
                };
                let layers: Vec<Digest> =
                    manifest.layers.iter().filter(|l| !forbidden(l)).map(|l| l.digest).collect();
                self.blobs.extend(layers.iter().copied());
                let config = state.content_bytes(context, &manifest.config.digest, 8 << 20)?;
                let config: Option<ImageConfig> = serde_json::from_slice(&config).ok();
                if config
                    .is_some_and(|c| c.rootfs.diff_ids.len() == layers.len() && !layers.is_empty())
                {
                    found.push((manifest.config.digest, layers));
                }
            }
            _ => {}
        }
        self.blobs.insert(of.digest);
        Ok(())
    }
}
