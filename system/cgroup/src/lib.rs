//! cgroup v1, hybrid and v2; cgroupfs and systemd drivers.
