//! OCI bundle to process: the library of ferry-runc.
