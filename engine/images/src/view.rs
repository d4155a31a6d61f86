//! One image in full, and its history, as the API shows them.

use engine_api::{
    ContainerConfig, DriverData, HealthConfig, ImageConfig, ImageHistoryItem, ImageInspect,
    ImageMetadata, OciDescriptor, OciPlatform, RootFs, Time,
};
use oci::image::{Healthcheck, RunConfig};
use oci::{Descriptor, Digest};

use crate::{Images, ResolvedImage};

impl Images {
    /// The reply of inspect.
    pub fn inspect(&self, image: &ResolvedImage) -> ImageInspect {
        let (repo_tags, repo_digests) = names(image);
        let tagged = image.names.iter().map(|name| name.tagged_at).max();
        let config = &image.config;
        let layers: Vec<String> = image.diff_ids.iter().map(Digest::to_string).collect();
        let text = |key: &str| {
            let value = config.other.get(key).and_then(|v| v.as_str());
            value.unwrap_or_default().to_owned()
        };
        ImageInspect {
            id: image.id.to_string(),
            repo_tags,
            repo_digests,
            parent: image.parent.map(|id| id.to_string()).unwrap_or_default(),
            comment: match text("comment") {
                comment if !comment.is_empty() => comment,
                _ => config.history.last().map(|h| h.comment.clone()).unwrap_or_default(),
            },
            created: image.created_at().map(|t| Time(t).rfc3339()).unwrap_or_default(),
            docker_version: text("docker_version"),
            author: config.author.clone(),
            config: Some(api_config(&config.config)),
            architecture: config.architecture.clone(),
            variant: config.variant.clone(),
            os: config.os.clone(),
            os_version: config.os_version.clone(),
            size: image.size() as i64,
            graph_driver: DriverData { data: None, name: self.snapshotter().into() },
            root_fs: RootFs { kind: "layers".into(), layers: Some(layers) },
            metadata: ImageMetadata { last_tag_time: tagged.map(Time).unwrap_or_default() },
            ..ImageInspect::default()
        }
    }

    /// The reply of history, newest first.
    pub fn history(&self, image: &ResolvedImage) -> Vec<ImageHistoryItem> {
        let mut sizes = image.layer_sizes.iter();
        let mut out: Vec<ImageHistoryItem> = Vec::new();
        for entry in &image.config.history {
            let size = if entry.empty_layer { 0 } else { sizes.next().copied().unwrap_or(0) };
            let created = entry.created.as_ref().and_then(|t| t.parse::<jiff::Timestamp>().ok());
            out.push(ImageHistoryItem {
                comment: entry.comment.clone(),
                created: created.map_or(0, jiff::Timestamp::as_second),
                created_by: entry.created_by.clone(),
                id: "<missing>".into(),
                size: size as i64,
                tags: None,
            });
        }
        out.reverse();
        // Each entry below the first is a parent's, as far as those are known.
        let index = self.index();
        let mut known = Some(image);
        for entry in &mut out {
            let Some(image) = known else { break };
            entry.id = image.id.to_string();
            let (tags, _) = names(image);
            entry.tags = Some(tags).filter(|tags| !tags.is_empty());
            known = image.parent.and_then(|id| index.by_id(&id).map(|parent| &**parent));
        }
        out
    }
}

/// Names with tags, and names with digests, as users write them. What is known to be in the
/// repository of a tag has its digest there, too.
pub(crate) fn names(image: &ResolvedImage) -> (Vec<String>, Vec<String>) {
    let (mut tags, mut digests) = (Vec::new(), Vec::new());
    for name in &image.names {
        let reference = &name.reference;
        if reference.digest().is_some() {
            digests.push(reference.without_tag().with_digest(name.target).familiar());
            continue;
        }
        tags.push(reference.familiar());
        if name.is_published {
            digests.push(reference.without_tag().with_digest(name.target).familiar());
        }
    }
    digests.sort();
    digests.dedup();
    (tags, digests)
}

/// A descriptor as the API writes it.
pub fn api_descriptor(descriptor: &Descriptor) -> OciDescriptor {
    let annotations = Some(descriptor.annotations.clone()).filter(|a| !a.is_empty());
    OciDescriptor {
        media_type: descriptor.media_type.clone(),
        digest: descriptor.digest.to_string(),
        size: descriptor.size as i64,
        annotations,
        platform: descriptor.platform.as_ref().map(OciPlatform::from),
        ..OciDescriptor::default()
    }
}

/// What containers of an image start with, as the API writes it.
fn api_config(c: &RunConfig) -> ImageConfig {
    let set = |set: &Option<std::collections::BTreeMap<String, oci::image::Empty>>| {
        set.as_ref().map(|set| set.keys().map(|key| (key.clone(), ())).collect())
    };
    ImageConfig {
        user: c.user.clone(),
        exposed_ports: set(&c.exposed_ports),
        env: c.env.clone(),
        entrypoint: c.entrypoint.clone(),
        cmd: c.cmd.clone(),
        volumes: set(&c.volumes),
        working_dir: c.working_dir.clone(),
        labels: c.labels.clone(),
        stop_signal: c.stop_signal.clone(),
        args_escaped: c.args_escaped,
        healthcheck: c.healthcheck.as_ref().map(api_health),
        on_build: c.on_build.clone(),
        shell: c.shell.clone(),
    }
}

fn api_health(h: &Healthcheck) -> HealthConfig {
    use engine_api::GoDuration;
    HealthConfig {
        test: Some(h.test.clone()).filter(|t| !t.is_empty()),
        interval: GoDuration(h.interval),
        timeout: GoDuration(h.timeout),
        start_period: GoDuration(h.start_period),
        start_interval: GoDuration(h.start_interval),
        retries: h.retries,
    }
}

impl ResolvedImage {
    /// The configuration that a container of this image begins with.
    pub fn container_config(&self) -> ContainerConfig {
        let c = api_config(&self.config.config);
        ContainerConfig {
            user: c.user,
            exposed_ports: c.exposed_ports,
            env: c.env,
            entrypoint: c.entrypoint,
            cmd: c.cmd,
            volumes: c.volumes,
            working_dir: c.working_dir,
            labels: c.labels,
            stop_signal: c.stop_signal,
            args_escaped: c.args_escaped,
            healthcheck: c.healthcheck,
            on_build: c.on_build,
            shell: c.shell,
            ..ContainerConfig::default()
        }
    }
}
