//! Files on their way into a connection, on both sides of a registry: uploads of the client, blobs
//! of the server. On a plain connection the kernel sends a file's pages itself; else they are read,
//! on the spot as far as the page cache has them.
//!
//! Knows nothing of registries, and of HTTP only that hyper writes what a body gives it. Begin
//! reading at [`FileStream`], the bytes of a body; [`Files`] is the connection's part.

mod files;
mod stream;

pub use files::Files;
pub use stream::FileStream;
