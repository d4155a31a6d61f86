//! Volumes.

use super::StringMap;

api! {
    /// A volume.
    Volume = "volume.Volume" {
        created_at: String = "CreatedAt".omitempty();
        driver: String = "Driver";
        labels: Option<StringMap> = "Labels";
        mountpoint: String = "Mountpoint";
        name: String = "Name";
        options: Option<StringMap> = "Options";
        scope: String = "Scope";
        status: Option<std::collections::BTreeMap<String, crate::Value>> = "Status".omitempty();
        usage_data: Option<VolumeUsageData> = "UsageData".omitempty();
    }

    /// What a volume takes; only in `system/df`.
    VolumeUsageData = "volume.UsageData" {
        ref_count: i64 = "RefCount";
        size: i64 = "Size";
    }

    /// The body of `POST /volumes/create`.
    VolumeCreateRequest = "volume.CreateOptions" {
        cluster_volume_spec: Option<crate::Value> = "ClusterVolumeSpec".omitempty();
        driver: String = "Driver".omitempty();
        driver_opts: Option<StringMap> = "DriverOpts".omitempty();
        labels: Option<StringMap> = "Labels".omitempty();
        name: String = "Name".omitempty();
    }

    /// The reply of `GET /volumes`.
    VolumeListResponse = "volume.ListResponse" {
        volumes: Vec<Volume> = "Volumes";
        warnings: Option<Vec<String>> = "Warnings";
    }

    /// The reply of prune.
    VolumesPruneReport = "volume.PruneReport" {
        volumes_deleted: Option<Vec<String>> = "VolumesDeleted";
        space_reclaimed: u64 = "SpaceReclaimed";
    }
}
