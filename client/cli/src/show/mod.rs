//! What commands print: rows of lists, tables by display width, times and sizes
//! for people. Templates are run here; their language is in `template`.

pub(crate) mod inspect;
pub(crate) mod list;
pub(crate) mod rows;
pub(crate) mod tree;
pub(crate) mod units;
