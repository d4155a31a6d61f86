//! Project chores: setup, test, bench, tidy, dist.

fn main() {}
