//! tar, gzip and zstd, in and out: bounded, whiteouts, deterministic diffs.
