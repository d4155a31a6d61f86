//! Records that survive: an append journal in front of redb.
