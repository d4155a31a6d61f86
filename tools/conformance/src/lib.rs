//! Seam suites: each part against the real programs.
