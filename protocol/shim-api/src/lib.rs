//! Shim v2: task messages, a sans-I/O ttrpc codec, the sink's frames.
