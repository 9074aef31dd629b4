//! The program's allocator: dlmalloc for what is small, the system's for what is large.
//!
//! **Why not the system's alone.** That is musl's, which saves memory by mapping and unmapping small groups of blocks: a
//! login cost 13 % more CPU with it (benches/README.md), after the needless allocations were gone. **Why not dlmalloc
//! alone.** It keeps what it was given back, the 19 MiB of a slow hash too; musl maps such blocks one by one and returns
//! them at once.
//!
//! **Why this is sound**, although it is the one place with unsafe code: an allocator that is chosen by the layout alone is
//! chosen again by the same layout when the block is freed, so that no block ever reaches the other one. A block that
//! grows or shrinks across the border is moved, as the trait's own `realloc` does it.

#![allow(
    unsafe_code,
    reason = "an allocator is unsafe by its trait; this one only chooses between two"
)]

use dlmalloc::GlobalDlmalloc;
use std::alloc::{GlobalAlloc, Layout, System};

/// From here on musl gives every block a mapping of its own.
const LARGE: usize = 128 * 1024;

/// Chooses by size.
pub(crate) struct BySize;

impl BySize {
    fn of(size: usize) -> &'static dyn GlobalAlloc {
        if size >= LARGE { &System } else { &GlobalDlmalloc }
    }
}

// SAFETY: every call goes to an allocator that keeps the trait's promises, and the one that frees or grows a block is the
// one that made it, because both are chosen by the block's own layout.
unsafe impl GlobalAlloc for BySize {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are the callee's.
        unsafe { Self::of(layout.size()).alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are the callee's.
        unsafe { Self::of(layout.size()).alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: `layout` made this block, hence it was the same allocator.
        unsafe { Self::of(layout.size()).dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if (layout.size() >= LARGE) == (new_size >= LARGE) {
            // SAFETY: `layout` made this block, hence it was the same allocator, and the new size is its too.
            return unsafe { Self::of(new_size).realloc(block, layout, new_size) };
        }
        // SAFETY: the caller promises that the new size with the old alignment is a layout.
        let new_layout = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        // SAFETY: the caller promises that it is not empty.
        let new_block = unsafe { self.alloc(new_layout) };
        if !new_block.is_null() {
            // SAFETY: both blocks hold as many bytes as the smaller one, and a fresh block overlaps no other.
            unsafe {
                block.copy_to_nonoverlapping(new_block, layout.size().min(new_size));
                self.dealloc(block, layout);
            }
        }
        new_block
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_keeps_its_content_across_the_border() {
        let mut block: Vec<u8> = (0..=u8::MAX).cycle().take(LARGE - 1).collect();
        block.reserve_exact(LARGE);
        block.truncate(1000);
        block.shrink_to_fit();
        assert!(
            block
                .iter()
                .zip((0..=u8::MAX).cycle())
                .all(|(is, was)| *is == was)
        );
        assert_eq!(block.len(), 1000);
    }
}
