//! What everything takes on disk, as `GET /system/df` tells it.

use super::{ContainerSummary, ImageSummary, Volume};
use crate::Value;

api! {
    /// The reply of `GET /system/df`: lists before 1.52, sums with or without lists from then on.
    DiskUsage = "system.DiskUsage" {
        layers_size: i64 = "LayersSize".until(52);
        images: Option<Vec<ImageSummary>> = "Images".until(52);
        containers: Option<Vec<ContainerSummary>> = "Containers".until(52);
        volumes: Option<Vec<Volume>> = "Volumes".until(52);
        build_cache: Option<Vec<Value>> = "BuildCache".until(52);
        image_usage: Option<ImagesDiskUsage> = "ImageUsage".omitempty().since(52);
        container_usage: Option<ContainersDiskUsage> = "ContainerUsage".omitempty().since(52);
        volume_usage: Option<VolumesDiskUsage> = "VolumeUsage".omitempty().since(52);
        build_cache_usage: Option<BuildCacheDiskUsage> = "BuildCacheUsage".omitempty().since(52);
    }
    /// What images take.
    ImagesDiskUsage = "image.DiskUsage" {
        sums: Sums = "".embedded();
        items: Option<Vec<ImageSummary>> = "Items".omitempty();
    }
    /// What containers take beyond their images.
    ContainersDiskUsage = "container.DiskUsage" {
        sums: Sums = "".embedded();
        items: Option<Vec<ContainerSummary>> = "Items".omitempty();
    }
    /// What volumes take.
    VolumesDiskUsage = "volume.DiskUsage" {
        sums: Sums = "".embedded();
        items: Option<Vec<Volume>> = "Items".omitempty();
    }
    /// What the cache of builds takes.
    BuildCacheDiskUsage = "build.DiskUsage" {
        sums: Sums = "".embedded();
        items: Option<Vec<Value>> = "Items".omitempty();
    }
    /// How many there are of one kind, how many are in use, and what they take.
    Sums = "system.Sums" {
        active_count: i64 = "ActiveCount".omitempty();
        reclaimable: i64 = "Reclaimable".omitempty();
        total_count: i64 = "TotalCount".omitempty();
        total_size: i64 = "TotalSize".omitempty();
    }
    /// The reply of `POST /build/prune`.
    BuildCachePruneReport = "build.CachePruneReport" {
        caches_deleted: Option<Vec<String>> = "CachesDeleted";
        space_reclaimed: u64 = "SpaceReclaimed";
    }
}

impl Sums {
    /// Of images whose layers take `layers` bytes together.
    pub fn of_images(images: &[ImageSummary], layers: i64) -> Self {
        let sized =
            images.iter().filter(|i| i.containers != 0 && i.size != -1 && i.shared_size != -1);
        let used: i64 = sized.map(|image| image.size - image.shared_size).sum();
        Self {
            active_count: images.iter().filter(|image| image.containers > 0).count() as i64,
            reclaimable: layers - used,
            total_count: images.len() as i64,
            total_size: layers,
        }
    }

    /// Of containers.
    pub fn of_containers(containers: &[ContainerSummary]) -> Self {
        let is_active = |container: &&ContainerSummary| {
            matches!(container.state.as_str(), "running" | "paused" | "restarting")
        };
        let size = |container: &ContainerSummary| container.size_rw;
        Self {
            active_count: containers.iter().filter(is_active).count() as i64,
            reclaimable: containers.iter().filter(|c| !is_active(c)).map(size).sum(),
            total_count: containers.len() as i64,
            total_size: containers.iter().map(size).sum(),
        }
    }

    /// Of volumes.
    pub fn of_volumes(volumes: &[Volume]) -> Self {
        let usage = volumes.iter().filter_map(|volume| volume.usage_data.as_ref());
        let sized = usage.clone().filter(|usage| usage.size != -1);
        let idle = sized.clone().filter(|usage| usage.ref_count == 0);
        Self {
            active_count: usage.filter(|usage| usage.ref_count > 0).count() as i64,
            reclaimable: idle.map(|usage| usage.size).sum(),
            total_count: volumes.len() as i64,
            total_size: sized.map(|usage| usage.size).sum(),
        }
    }
}

impl DiskUsage {
    /// Adds the sums of what is listed; `verbose` leaves the lists beside them.
    #[must_use]
    pub fn summed(mut self, verbose: bool) -> Self {
        let (layers, images) = (self.layers_size, self.images.as_ref());
        self.image_usage = images.map(|images| ImagesDiskUsage {
            sums: Sums::of_images(images, layers),
            items: verbose.then(|| images.clone()),
        });
        self.container_usage = self.containers.as_ref().map(|containers| ContainersDiskUsage {
            sums: Sums::of_containers(containers),
            items: verbose.then(|| containers.clone()),
        });
        self.volume_usage = self.volumes.as_ref().map(|volumes| VolumesDiskUsage {
            sums: Sums::of_volumes(volumes),
            items: verbose.then(|| volumes.clone()),
        });
        // Nothing builds yet.
        self.build_cache_usage = self.build_cache.as_ref().map(|_| BuildCacheDiskUsage::default());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ApiVersion, encode};

    #[test]
    fn newer_versions_get_sums_and_older_ones_lists() {
        let image =
            ImageSummary { containers: 1, size: 5, shared_size: 2, ..ImageSummary::default() };
        let usage = DiskUsage { layers_size: 7, images: Some(vec![image]), ..DiskUsage::default() };
        let at = |minor, verbose| encode(&usage.clone().summed(verbose), ApiVersion::v1(minor));
        assert!(at(51, false).starts_with(r#"{"LayersSize":7,"Images":[{"Containers":1,"#));
        assert!(!at(51, true).contains("Usage"));
        let sums = r#"{"ImageUsage":{"ActiveCount":1,"Reclaimable":4,"TotalCount":1,"TotalSize":7"#;
        assert_eq!(at(52, false), format!("{sums}}}}}\n"));
        assert!(at(52, true).starts_with(&format!(r#"{sums},"Items":[{{"Containers":1,"#)));
    }
}
