//! A memory allocator for programs that live for milliseconds: it takes from one arena and gives
//! back only the newest piece. Not for daemons: what is freed out of order is lost until the exit.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;

/// How much is first taken from the kernel, its pages all at once: one call instead of a fault for
/// each. A page costs 2 µs, and again some when a child shares it, so further pieces are but twice
/// as large: `state` needs one, Docker's whole default spec three.
const FIRST: usize = 16 << 10;
const LARGEST: usize = 32 << 10;

/// The allocator. It holds no lock, and so must only serve programs of one thread.
#[derive(Debug)]
pub struct Arena {
    next: Cell<usize>,
    end: Cell<usize>,
    /// The size of the next piece of the kernel's.
    chunk: Cell<usize>,
}

// SAFETY: the type's contract is a single-threaded program; a fork-like child has its own copy.
unsafe impl Sync for Arena {}

impl Default for Arena {
    fn default() -> Self {
        Self::new()
    }
}

impl Arena {
    /// An empty arena.
    pub const fn new() -> Self {
        Self { next: Cell::new(0), end: Cell::new(0), chunk: Cell::new(FIRST) }
    }

    fn grow(&self, least: usize) -> bool {
        let chunk = self.chunk.get();
        let Some(size) = least.max(chunk).checked_next_multiple_of(FIRST) else { return false };
        // SAFETY: an anonymous mapping at a place of the kernel's choice.
        let got = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                size,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE,
                -1,
                0,
            )
        };
        if got == libc::MAP_FAILED {
            return false;
        }
        self.chunk.set(LARGEST.min(chunk * 2));
        self.next.set(got as usize);
        self.end.set(got as usize + size);
        true
    }
}

// SAFETY: every piece lies inside a mapping that is never returned, is aligned as asked, and ends
// where the next begins; only the newest piece is ever taken back or extended.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        loop {
            let at = self.next.get().next_multiple_of(layout.align());
            match at.checked_add(layout.size()) {
                Some(end) if at != 0 && end <= self.end.get() => {
                    self.next.set(end);
                    return at as *mut u8;
                }
                _ => {}
            }
            if !self.grow(layout.size().saturating_add(layout.align())) {
                return std::ptr::null_mut();
            }
        }
    }

    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        if piece as usize + layout.size() == self.next.get() {
            self.next.set(piece as usize);
        }
    }

    unsafe fn realloc(&self, piece: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let start = piece as usize;
        if start + layout.size() == self.next.get()
            && let Some(end) = start.checked_add(size)
            && end <= self.end.get()
        {
            self.next.set(end);
            return piece;
        }
        if size <= layout.size() {
            return piece;
        }
        // SAFETY: the caller vouches for `layout`'s alignment; the size is its own.
        let fresh = unsafe { self.alloc(Layout::from_size_align_unchecked(size, layout.align())) };
        if !fresh.is_null() {
            // SAFETY: both pieces are live, distinct and at least this long.
            unsafe { std::ptr::copy_nonoverlapping(piece, fresh, layout.size()) };
        }
        fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_piece_grows_in_place_and_is_given_back() {
        let arena = Arena::new();
        let layout = Layout::from_size_align(100, 8).unwrap();
        // SAFETY: layouts match, pieces are used before they are given back.
        unsafe {
            let first = arena.alloc(layout);
            let second = arena.alloc(layout);
            assert_eq!(arena.realloc(second, layout, 300), second);
            arena.dealloc(second, Layout::from_size_align(300, 8).unwrap());
            assert_eq!(arena.alloc(layout), second);
            let moved = arena.realloc(first, layout, 5000);
            assert_ne!(moved, first);
            let large = arena.alloc(Layout::from_size_align(3 << 20, 4096).unwrap());
            assert_eq!(large as usize % 4096, 0);
        }
    }
}
