//! Images.

use super::{ContainerConfig, DriverData, HealthConfig, StringMap, StringSet};

api! {
    /// An item of `GET /images/json`.
    ImageSummary = "image.Summary" {
        containers: i64 = "Containers";
        created: i64 = "Created";
        id: String = "Id".go("ID");
        labels: Option<StringMap> = "Labels";
        parent_id: String = "ParentId".go("ParentID");
        descriptor: Option<OciDescriptor> = "Descriptor".omitempty().since(48);
        manifests: Option<Vec<ImageManifest>> = "Manifests".omitempty().since(47);
        repo_digests: Option<Vec<String>> = "RepoDigests";
        repo_tags: Option<Vec<String>> = "RepoTags";
        shared_size: i64 = "SharedSize";
        size: i64 = "Size";
        virtual_size: i64 = "VirtualSize".until(44);
    }

    /// The reply of `GET /images/{name}/json`.
    ImageInspect = "image.InspectResponse" {
        id: String = "Id".go("ID");
        repo_tags: Vec<String> = "RepoTags";
        repo_digests: Vec<String> = "RepoDigests";
        parent: String = "Parent";
        comment: String = "Comment";
        created: String = "Created".omitempty();
        container_config: Option<ContainerConfig> = "ContainerConfig".omitempty().until(45);
        docker_version: String = "DockerVersion";
        author: String = "Author";
        config: Option<ImageConfig> = "Config";
        architecture: String = "Architecture";
        variant: String = "Variant".omitempty();
        os: String = "Os";
        os_version: String = "OsVersion".omitempty();
        size: i64 = "Size";
        virtual_size: i64 = "VirtualSize".omitempty().until(44);
        graph_driver: DriverData = "GraphDriver";
        root_fs: RootFs = "RootFS";
        metadata: ImageMetadata = "Metadata";
        descriptor: Option<OciDescriptor> = "Descriptor".omitempty().since(48);
        manifests: Option<Vec<ImageManifest>> = "Manifests".omitempty().since(48);
    }

    /// What an image has for one platform, or says about itself.
    ImageManifest = "image.ManifestSummary" {
        id: String = "ID";
        descriptor: OciDescriptor = "Descriptor";
        available: bool = "Available";
        size: ImageManifestSize = "Size";
        kind: String = "Kind";
        image_data: Option<ImageManifestData> = "ImageData".omitempty();
        attestation_data: Option<AttestationData> = "AttestationData".omitempty();
    }

    /// What a manifest takes: its content, and that with what is unpacked.
    ImageManifestSize = "image.ManifestSize" {
        content: i64 = "Content";
        total: i64 = "Total";
    }

    /// An image's manifest.
    ImageManifestData = "image.ImageProperties" {
        platform: OciPlatform = "Platform";
        size: UnpackedSize = "Size";
        containers: Option<Vec<String>> = "Containers";
    }

    /// What is unpacked of an image.
    UnpackedSize = "image.UnpackedSize" {
        unpacked: i64 = "Unpacked";
    }

    /// The manifest that says something about another.
    AttestationData = "image.AttestationProperties" {
        about: String = "For".go("For");
    }

    /// The configuration that containers of an image start with.
    ImageConfig = "v1.DockerOCIImageConfig" {
        user: String = "User".omitempty();
        exposed_ports: Option<StringSet> = "ExposedPorts".omitempty();
        env: Option<Vec<String>> = "Env".omitempty();
        entrypoint: Option<Vec<String>> = "Entrypoint".omitempty();
        cmd: Option<Vec<String>> = "Cmd".omitempty();
        volumes: Option<StringSet> = "Volumes".omitempty();
        working_dir: String = "WorkingDir".omitempty();
        labels: Option<StringMap> = "Labels".omitempty();
        stop_signal: String = "StopSignal".omitempty();
        args_escaped: bool = "ArgsEscaped".omitempty();
        healthcheck: Option<HealthConfig> = "Healthcheck".omitempty();
        on_build: Option<Vec<String>> = "OnBuild".omitempty();
        shell: Option<Vec<String>> = "Shell".omitempty();
    }

    /// The layers of an image by diff id.
    RootFs = "image.RootFS" {
        kind: String = "Type".omitempty();
        layers: Option<Vec<String>> = "Layers".omitempty();
    }

    /// What the engine knows beyond the image's own data.
    ImageMetadata = "image.Metadata" {
        last_tag_time: crate::Time = "LastTagTime".omitempty();
    }

    /// A reference to content by digest.
    OciDescriptor = "v1.Descriptor" {
        media_type: String = "mediaType".go("MediaType");
        digest: String = "digest".go("Digest");
        size: i64 = "size".go("Size");
        urls: Option<Vec<String>> = "urls".go("URLs").omitempty();
        annotations: Option<StringMap> = "annotations".go("Annotations").omitempty();
        data: String = "data".go("Data").omitempty();
        platform: Option<OciPlatform> = "platform".go("Platform").omitempty();
        artifact_type: String = "artifactType".go("ArtifactType").omitempty();
    }

    /// What a manifest runs on.
    OciPlatform = "v1.Platform" {
        architecture: String = "architecture".go("Architecture");
        os: String = "os".go("OS");
        os_version: String = "os.version".go("OSVersion").omitempty();
        os_features: Option<Vec<String>> = "os.features".go("OSFeatures").omitempty();
        variant: String = "variant".go("Variant").omitempty();
    }

    /// The reply of `GET /distribution/{name}/json`.
    DistributionInspect = "registry.DistributionInspect" {
        descriptor: OciDescriptor = "Descriptor";
        platforms: Option<Vec<OciPlatform>> = "Platforms";
    }

    /// An item of `GET /images/search`.
    SearchResult = "registry.SearchResult" {
        star_count: i64 = "star_count".go("StarCount");
        is_official: bool = "is_official".go("IsOfficial");
        name: String = "name".go("Name");
        is_automated: bool = "is_automated".go("IsAutomated");
        description: String = "description".go("Description");
    }

    /// An item of `GET /images/{name}/history`.
    ImageHistoryItem = "image.HistoryResponseItem" {
        comment: String = "Comment";
        created: i64 = "Created";
        created_by: String = "CreatedBy";
        id: String = "Id".go("ID");
        size: i64 = "Size";
        tags: Option<Vec<String>> = "Tags";
    }

    /// An item of the reply of `DELETE /images/{name}`.
    ImageDeleteItem = "image.DeleteResponse" {
        deleted: String = "Deleted".omitempty();
        untagged: String = "Untagged".omitempty();
    }

    /// The reply of `POST /images/prune`.
    ImagesPruneReport = "image.PruneReport" {
        images_deleted: Option<Vec<ImageDeleteItem>> = "ImagesDeleted";
        space_reclaimed: u64 = "SpaceReclaimed";
    }

    /// An item of `GET /images/search`.
    ImageSearchItem = "registry.SearchResult" {
        star_count: i64 = "star_count".go("StarCount");
        is_official: bool = "is_official".go("IsOfficial");
        name: String = "name".go("Name");
        is_automated: bool = "is_automated".go("IsAutomated");
        description: String = "description".go("Description");
    }
}

impl From<&oci::Platform> for OciPlatform {
    fn from(platform: &oci::Platform) -> Self {
        Self {
            architecture: platform.architecture.clone(),
            os: platform.os.clone(),
            os_version: platform.os_version.clone(),
            os_features: Some(platform.os_features.clone()).filter(|list| !list.is_empty()),
            variant: platform.variant.clone(),
        }
    }
}
