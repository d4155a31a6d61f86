//! What a container uses, as `GET /containers/{id}/stats` tells it.

use std::collections::BTreeMap;

use crate::Time;

api! {
    /// One sample.
    ContainerStats = "container.StatsResponse" {
        name: String = "name".go("Name").omitempty();
        id: String = "id".go("ID").omitempty();
        read: Time = "read".go("Read");
        preread: Time = "preread".go("PreRead");
        pids_stats: PidsStats = "pids_stats".go("PidsStats");
        blkio_stats: BlkioStats = "blkio_stats".go("BlkioStats");
        num_procs: u32 = "num_procs".go("NumProcs");
        storage_stats: StorageStats = "storage_stats".go("StorageStats");
        cpu_stats: CpuStats = "cpu_stats".go("CPUStats");
        precpu_stats: CpuStats = "precpu_stats".go("PreCPUStats");
        memory_stats: MemoryStats = "memory_stats".go("MemoryStats");
        networks: Option<BTreeMap<String, NetworkStats>> = "networks".go("Networks").omitempty();
    }

    /// Processes.
    PidsStats = "container.PidsStats" {
        current: u64 = "current".go("Current").omitempty();
        limit: u64 = "limit".go("Limit").omitempty();
    }

    /// Block devices; `null` where the kernel counts nothing.
    BlkioStats = "container.BlkioStats" {
        io_service_bytes_recursive: Option<Vec<BlkioStatEntry>> =
            "io_service_bytes_recursive".go("IoServiceBytesRecursive");
        io_serviced_recursive: Option<Vec<BlkioStatEntry>> =
            "io_serviced_recursive".go("IoServicedRecursive");
        io_queue_recursive: Option<Vec<BlkioStatEntry>> =
            "io_queue_recursive".go("IoQueuedRecursive");
        io_service_time_recursive: Option<Vec<BlkioStatEntry>> =
            "io_service_time_recursive".go("IoServiceTimeRecursive");
        io_wait_time_recursive: Option<Vec<BlkioStatEntry>> =
            "io_wait_time_recursive".go("IoWaitTimeRecursive");
        io_merged_recursive: Option<Vec<BlkioStatEntry>> =
            "io_merged_recursive".go("IoMergedRecursive");
        io_time_recursive: Option<Vec<BlkioStatEntry>> =
            "io_time_recursive".go("IoTimeRecursive");
        sectors_recursive: Option<Vec<BlkioStatEntry>> =
            "sectors_recursive".go("SectorsRecursive");
    }

    /// One counter of a device.
    BlkioStatEntry = "container.BlkioStatEntry" {
        major: u64 = "major".go("Major");
        minor: u64 = "minor".go("Minor");
        op: String = "op".go("Op");
        value: u64 = "value".go("Value");
    }

    /// Windows' storage counters; always empty here.
    StorageStats = "container.StorageStats" {
        read_count_normalized: u64 = "read_count_normalized".go("ReadCountNormalized").omitempty();
        read_size_bytes: u64 = "read_size_bytes".go("ReadSizeBytes").omitempty();
        write_count_normalized: u64 =
            "write_count_normalized".go("WriteCountNormalized").omitempty();
        write_size_bytes: u64 = "write_size_bytes".go("WriteSizeBytes").omitempty();
    }

    /// Processor time.
    CpuStats = "container.CPUStats" {
        cpu_usage: CpuUsage = "cpu_usage".go("CPUUsage");
        system_cpu_usage: u64 = "system_cpu_usage".go("SystemUsage").omitempty();
        online_cpus: u32 = "online_cpus".go("OnlineCPUs").omitempty();
        throttling_data: ThrottlingData = "throttling_data".go("ThrottlingData");
    }

    /// Processor time in nanoseconds.
    CpuUsage = "container.CPUUsage" {
        total_usage: u64 = "total_usage".go("TotalUsage");
        percpu_usage: Option<Vec<u64>> = "percpu_usage".go("PercpuUsage").omitempty();
        usage_in_kernelmode: u64 = "usage_in_kernelmode".go("UsageInKernelmode");
        usage_in_usermode: u64 = "usage_in_usermode".go("UsageInUsermode");
    }

    /// How often the quota held it back.
    ThrottlingData = "container.ThrottlingData" {
        periods: u64 = "periods".go("Periods");
        throttled_periods: u64 = "throttled_periods".go("ThrottledPeriods");
        throttled_time: u64 = "throttled_time".go("ThrottledTime");
    }

    /// Memory in bytes.
    MemoryStats = "container.MemoryStats" {
        usage: u64 = "usage".go("Usage").omitempty();
        max_usage: u64 = "max_usage".go("MaxUsage").omitempty();
        stats: Option<BTreeMap<String, u64>> = "stats".go("Stats").omitempty();
        failcnt: u64 = "failcnt".go("Failcnt").omitempty();
        limit: u64 = "limit".go("Limit").omitempty();
        commitbytes: u64 = "commitbytes".go("Commit").omitempty();
        commitpeakbytes: u64 = "commitpeakbytes".go("CommitPeak").omitempty();
        privateworkingset: u64 = "privateworkingset".go("PrivateWorkingSet").omitempty();
    }

    /// One interface.
    NetworkStats = "container.NetworkStats" {
        rx_bytes: u64 = "rx_bytes".go("RxBytes");
        rx_packets: u64 = "rx_packets".go("RxPackets");
        rx_errors: u64 = "rx_errors".go("RxErrors");
        rx_dropped: u64 = "rx_dropped".go("RxDropped");
        tx_bytes: u64 = "tx_bytes".go("TxBytes");
        tx_packets: u64 = "tx_packets".go("TxPackets");
        tx_errors: u64 = "tx_errors".go("TxErrors");
        tx_dropped: u64 = "tx_dropped".go("TxDropped");
        endpoint_id: String = "endpoint_id".go("EndpointID").omitempty();
        instance_id: String = "instance_id".go("InstanceID").omitempty();
    }
}
