//! What everything takes on disk, as `GET /system/df` tells it.

use super::{ContainerSummary, ImageSummary, Volume};
use crate::Value;

api! {
    /// The reply of `GET /system/df`.
    DiskUsage = "system.DiskUsage" {
        layers_size: i64 = "LayersSize";
        images: Option<Vec<ImageSummary>> = "Images";
        containers: Option<Vec<ContainerSummary>> = "Containers";
        volumes: Option<Vec<Volume>> = "Volumes";
        build_cache: Option<Vec<Value>> = "BuildCache";
    }
    /// The reply of `POST /build/prune`.
    BuildCachePruneReport = "build.CachePruneReport" {
        caches_deleted: Option<Vec<String>> = "CachesDeleted";
        space_reclaimed: u64 = "SpaceReclaimed";
    }
}
