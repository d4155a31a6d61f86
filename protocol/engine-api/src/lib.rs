//! Docker Engine API: every type declared once, versions, route table, error body.
