//! The program's allocator: dlmalloc for what is small, the system's for what is large; what is short is wiped when freed.
//!
//! **Why not the system's alone.** That is musl's, which saves memory by mapping and unmapping small groups of blocks: a
//! login cost 13 % more CPU with it (benches/README.md), after the needless allocations were gone. **Why not dlmalloc
//! alone.** It keeps what it was given back, the 19 MiB of a slow hash too; musl maps such blocks one by one and returns
//! them at once.
//!
//! **Why wiped.** Our own secrets wipe themselves. Libraries do not: rustls frees a copy of every record's plaintext,
//! serde_json and tiny_http one of what they grow. Nothing that somebody typed is longer than [`TYPED`].
//!
//! **Why this is sound**, although it is the one place with unsafe code: an allocator that is chosen by the layout alone is
//! chosen again by the same layout when the block is freed, so that no block ever reaches the other one. A block of
//! another size is a new block, except where both are the system's.
//!
//! Nothing of it is inlined: at every place where something is dropped it made the program a megabyte larger.

#![allow(
    unsafe_code,
    reason = "an allocator is unsafe by its trait; this one chooses between two and wipes"
)]

use dlmalloc::GlobalDlmalloc;
use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;

/// From here on musl gives every block a mapping of its own.
const LARGE: usize = 128 * 1024;

/// Freed blocks up to this size are wiped: lines, literals and records that hold them; not mail, which is what is fast.
const TYPED: usize = 4 * 1024;

/// Chooses by size, and wipes.
pub(crate) struct WipingBySize;

fn is_large(layout: Layout) -> bool {
    layout.size() >= LARGE
}

// SAFETY: every call goes to an allocator that keeps the trait's promises, and the one that frees or grows a block is the
// one that made it, because both are chosen by the block's own layout.
unsafe impl GlobalAlloc for WipingBySize {
    #[inline(never)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are the callee's.
        unsafe {
            if is_large(layout) {
                System.alloc(layout)
            } else {
                GlobalDlmalloc.alloc(layout)
            }
        }
    }

    #[inline(never)]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are the callee's.
        unsafe {
            if is_large(layout) {
                System.alloc_zeroed(layout)
            } else {
                GlobalDlmalloc.alloc_zeroed(layout)
            }
        }
    }

    #[inline(never)]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if layout.size() <= TYPED {
            // SAFETY: the block has that size and is its owner's until it is freed below.
            unsafe { block.write_bytes(0, layout.size()) };
            // Or the compiler may drop writes that nobody reads.
            black_box(block);
        }
        // SAFETY: `layout` made this block, hence it was the same allocator.
        unsafe {
            if is_large(layout) {
                System.dealloc(block, layout);
            } else {
                GlobalDlmalloc.dealloc(block, layout);
            }
        }
    }

    #[inline(never)]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if is_large(layout) && new_size >= LARGE {
            // SAFETY: `layout` made this block, hence it is the system's, and so is the new size.
            return unsafe { System.realloc(block, layout, new_size) };
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
