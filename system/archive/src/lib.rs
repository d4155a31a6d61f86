//! tar, gzip and zstd, in and out, and bzip2 and xz in: reading hostile archives within bounds, unpacking layers,
//! writing deterministic diffs and exports. Everything here is synchronous and streams; nothing
//! here knows of digests' names, images, snapshots or the network.

mod apply;
mod blocks;
mod changes;
mod compress;
mod diff;
mod error;
mod hash;
mod join;
mod member;
mod noise;
mod pack;
mod rare;
mod read;
mod root;
mod tail;
mod tree;
mod write;

pub use apply::{Applied, Deferred, MissingLink, Options, Whiteouts, apply};
pub use blocks::compress_blocks;
pub use changes::{Change, ChangeKind, changes};
pub use compress::{Compression, Compressor, Decompressor};
pub use diff::{Diffed, diff_overlay, diff_trees};
pub use error::ArchiveError;
pub use hash::{HashReader, HashWriter};
pub use join::join;
pub use member::{Members, find_member};
pub use pack::{PackOptions, pack};
pub use rare::Rare;
pub use read::{Entry, Kind, Limits, Reader, Sparse, Time};
pub use root::{Root, clean};
pub use tail::{Tail, TailReader};
pub use write::{Header, Writer};
