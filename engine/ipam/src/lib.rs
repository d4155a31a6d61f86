//! Pure address pools and allocations.
