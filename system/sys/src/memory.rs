//! The allocator of daemons: one arena, and giving free memory back after bursts.

/// Keeps glibc at one arena and gives freed memory back early.
///
/// Call it first thing in `main`, before threads allocate. With another libc it does nothing.
pub fn limit_arenas() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt only sets tunables of the allocator and takes plain integers.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 256 << 10);
        libc::mallopt(libc::M_MMAP_THRESHOLD, 256 << 10);
    }
}

/// Keeps freed memory for the next request, also in large pieces, until [`trim`]: for a program
/// that receives much data, whose buffers would otherwise be new pages every time.
///
/// Call it after [`limit_arenas`]. With another libc it does nothing.
pub fn keep_until_trimmed() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt only sets tunables of the allocator and takes plain integers.
    unsafe {
        libc::mallopt(libc::M_TRIM_THRESHOLD, 64 << 20);
        libc::mallopt(libc::M_MMAP_THRESHOLD, 8 << 20);
    }
}

/// Gives free pages of the heap back to the kernel; worth it some seconds after a burst.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim is safe to call from any thread at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}
