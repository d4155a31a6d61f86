//! Mounts as they are asked for. Mounts as they are shown: `summary::MountPoint`.

use super::StringMap;

api! {
    /// One of `HostConfig.Mounts`.
    MountRequest = "mount.Mount" {
        kind: String = "Type".omitempty().kind("mount.Type");
        source: String = "Source".omitempty();
        target: String = "Target".omitempty();
        read_only: bool = "ReadOnly".omitempty();
        consistency: String = "Consistency".omitempty().kind("mount.Consistency");
        bind_options: Option<BindOptions> = "BindOptions".omitempty();
        volume_options: Option<VolumeOptions> = "VolumeOptions".omitempty();
        image_options: Option<ImageOptions> = "ImageOptions".omitempty();
        tmpfs_options: Option<TmpfsOptions> = "TmpfsOptions".omitempty();
        cluster_options: Option<ClusterOptions> = "ClusterOptions".omitempty();
    }

    /// Options of a bind mount.
    BindOptions = "mount.BindOptions" {
        propagation: String = "Propagation".omitempty().kind("mount.Propagation");
        non_recursive: bool = "NonRecursive".omitempty();
        create_mountpoint: bool = "CreateMountpoint".omitempty();
        read_only_non_recursive: bool = "ReadOnlyNonRecursive".omitempty();
        read_only_force_recursive: bool = "ReadOnlyForceRecursive".omitempty();
    }

    /// Options of a volume mount.
    VolumeOptions = "mount.VolumeOptions" {
        no_copy: bool = "NoCopy".omitempty();
        labels: Option<StringMap> = "Labels".omitempty();
        subpath: String = "Subpath".omitempty();
        driver_config: Option<MountDriver> = "DriverConfig".omitempty();
    }

    /// The driver that makes a volume.
    MountDriver = "mount.Driver" {
        name: String = "Name".omitempty();
        options: Option<StringMap> = "Options".omitempty();
    }

    /// Options of an image mount.
    ImageOptions = "mount.ImageOptions" {
        subpath: String = "Subpath".omitempty();
    }

    /// Options of a tmpfs mount.
    TmpfsOptions = "mount.TmpfsOptions" {
        size_bytes: i64 = "SizeBytes".omitempty();
        mode: u32 = "Mode".omitempty().kind("fs.FileMode");
        options: Option<Vec<Vec<String>>> = "Options".omitempty();
    }

    /// Options of a cluster volume; there are none yet.
    ClusterOptions = "mount.ClusterOptions" {}
}
