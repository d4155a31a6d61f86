//! Pure: container record and host facts to StartPlan and OCI spec.
