//! The channel to containerd: services, typed errors, retries.
