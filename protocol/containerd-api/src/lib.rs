//! containerd's gRPC services and messages, events and filters.
