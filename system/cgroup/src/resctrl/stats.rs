//! Figures of a resctrl group, in the shape that `events` prints.

use crate::file;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Figures of a container's group; everything is absent without one.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct RdtStats {
    /// What the cache can be divided into.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l3_cache_info: Option<CacheInfo>,
    /// The root's line.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub l3_cache_schema_root: String,
    /// The group's line.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub l3_cache_schema: String,
    /// What bandwidth can be divided into.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mem_bw_info: Option<BandwidthInfo>,
    /// The root's line.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mem_bw_schema_root: String,
    /// The group's line.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mem_bw_schema: String,
    /// All lines of the group.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub schemata: Vec<String>,
    /// Bytes moved, by cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mbm_stats: Option<Vec<Moved>>,
    /// Cache held, by cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmt_stats: Option<Vec<Held>>,
}

/// What the cache can be divided into.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct CacheInfo {
    /// Mask of the whole cache.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cbm_mask: String,
    /// Fewest bits of a share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_cbm_bits: Option<u64>,
    /// Most groups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_closids: Option<u64>,
}

/// What bandwidth can be divided into.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct BandwidthInfo {
    /// Steps in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bandwidth_gran: Option<u64>,
    /// Whether the delay grows in line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay_linear: Option<u64>,
    /// Least share in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_bandwidth: Option<u64>,
    /// Most groups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_closids: Option<u64>,
}

/// Bytes moved through one cache.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Moved {
    /// In all.
    pub mbm_total_bytes: u64,
    /// From and to near memory.
    pub mbm_local_bytes: u64,
}

/// Bytes held of one cache.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Held {
    /// Now.
    pub llc_occupancy: u64,
}

fn some(folder: &Path, name: &str) -> Option<u64> {
    file::number(folder, name).filter(|n| *n != 0)
}

fn line(text: &str, word: &str) -> String {
    text.lines().rfind(|l| l.contains(word)).unwrap_or_default().trim().to_owned()
}

pub(super) fn read(root: &Path, group: &Path, monitoring: Option<&PathBuf>) -> RdtStats {
    let own = file::read(group, "schemata").unwrap_or_default();
    let top = file::read(root, "schemata").unwrap_or_default();
    let mut stats = RdtStats {
        schemata: own.trim().lines().map(str::to_owned).collect(),
        ..RdtStats::default()
    };
    let info = root.join("info");
    if file::exists(&info, "L3") {
        let folder = info.join("L3");
        stats.l3_cache_info = Some(CacheInfo {
            cbm_mask: file::read(&folder, "cbm_mask").unwrap_or_default().trim().to_owned(),
            min_cbm_bits: some(&folder, "min_cbm_bits"),
            num_closids: some(&folder, "num_closids"),
        });
        stats.l3_cache_schema_root = line(&top, "L3");
        stats.l3_cache_schema = line(&own, "L3");
    }
    if file::exists(&info, "MB") {
        let folder = info.join("MB");
        stats.mem_bw_info = Some(BandwidthInfo {
            bandwidth_gran: some(&folder, "bandwidth_gran"),
            delay_linear: some(&folder, "delay_linear"),
            min_bandwidth: some(&folder, "min_bandwidth"),
            num_closids: some(&folder, "num_closids"),
        });
        stats.mem_bw_schema_root = line(&top, "MB");
        stats.mem_bw_schema = line(&own, "MB");
    }
    let features = file::read(&info.join("L3_MON"), "mon_features").unwrap_or_default();
    let has = |feature: &str| features.lines().any(|line| line == feature);
    let moves = has("mbm_total_bytes") || has("mbm_local_bytes");
    if !moves && !has("llc_occupancy") {
        return stats;
    }
    // Without a monitoring group of its own these are the figures of all in the class.
    let folder = monitoring.map_or(group, PathBuf::as_path).join("mon_data");
    let mut caches: Vec<PathBuf> = std::fs::read_dir(folder)
        .map(|all| all.filter_map(Result::ok).map(|entry| entry.path()).collect())
        .unwrap_or_default();
    caches.sort();
    let number = |folder: &Path, name: &str| file::number(folder, name).unwrap_or(0);
    if moves {
        let moved = caches.iter().map(|cache| Moved {
            mbm_total_bytes: number(cache, "mbm_total_bytes"),
            mbm_local_bytes: number(cache, "mbm_local_bytes"),
        });
        stats.mbm_stats = Some(moved.collect());
    }
    if has("llc_occupancy") {
        let held =
            caches.iter().map(|cache| Held { llc_occupancy: number(cache, "llc_occupancy") });
        stats.cmt_stats = Some(held.collect());
    }
    stats
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_those_of_the_group_and_its_monitoring() {
        let folder = super::super::tests::fake();
        let group = folder.path().join("c1");
        let cache = group.join("mon_groups/c1/mon_data/mon_L3_00");
        std::fs::create_dir_all(&cache).unwrap();
        std::fs::write(group.join("schemata"), "MB:0=50\nL3:0=f\n").unwrap();
        std::fs::write(cache.join("llc_occupancy"), "4096\n").unwrap();
        std::fs::write(cache.join("mbm_total_bytes"), "99\n").unwrap();
        let monitoring = group.join("mon_groups/c1");
        let stats = read(folder.path(), &group, Some(&monitoring));
        assert_eq!(stats.l3_cache_schema_root, "L3:0=fffff");
        assert_eq!(stats.mem_bw_schema, "MB:0=50");
        assert_eq!(stats.schemata, ["MB:0=50", "L3:0=f"]);
        assert_eq!(stats.l3_cache_info.unwrap().num_closids, Some(16));
        assert_eq!(stats.cmt_stats.unwrap(), [Held { llc_occupancy: 4096 }]);
        assert_eq!(stats.mbm_stats.unwrap()[0].mbm_total_bytes, 99);
    }
}
