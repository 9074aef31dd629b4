//! Buffers that are borrowed for one burst of bytes and given back before anything waits.
//!
//! A session that waits holds none, so idle memory does not grow with their size. Each worker thread keeps its own few
//! free ones: a burst needs at most four at once (plaintext, ciphertext in, ciphertext out, and one for a rewritten line).

use std::cell::RefCell;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

/// Plaintext that one burst moves at most: bytes per system call are what a relay's speed depends on.
pub const BURST: usize = 64 * 1024;

/// What a buffer holds: a burst and, around it, the headers and tags of its TLS records.
pub const SIZE: usize = BURST + 1024;

/// What a thread keeps; more are freed when they are given back.
const KEPT_PER_THREAD: usize = 4;

thread_local! {
    static FREE: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// A borrowed buffer of [`SIZE`] bytes with undefined (but initialised) content; dropping it gives it back.
///
/// It is not `Send`, so a task that held one across an await could not be spawned: the compiler keeps the rule.
pub struct Buffer {
    bytes: Box<[u8]>,
    wipe: usize,
    stays_on_its_thread: PhantomData<*const ()>,
}

/// Borrows a buffer.
pub fn borrow() -> Buffer {
    let bytes = FREE
        .with_borrow_mut(Vec::pop)
        .unwrap_or_else(|| vec![0; SIZE].into_boxed_slice());
    Buffer {
        bytes,
        wipe: 0,
        stays_on_its_thread: PhantomData,
    }
}

impl Buffer {
    /// Has the first `count` bytes overwritten before the next borrower sees them.
    pub fn wipe_on_return(&mut self, count: usize) {
        self.wipe = self.wipe.max(count.min(self.bytes.len()));
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes[..self.wipe].fill(0);
        FREE.with_borrow_mut(|free| {
            if free.len() < KEPT_PER_THREAD {
                free.push(bytes);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_returned_buffer_is_borrowed_again_and_wiped_where_asked() {
        let mut first = borrow();
        let place = first.as_ptr();
        first[..6].copy_from_slice(b"secret");
        first.wipe_on_return(6);
        drop(first);
        let second = borrow();
        assert_eq!(second.as_ptr(), place);
        assert_eq!(&second[..6], &[0; 6]);
    }

    #[test]
    fn a_thread_keeps_only_a_few() {
        let many: Vec<Buffer> = (0..KEPT_PER_THREAD * 3).map(|_| borrow()).collect();
        drop(many);
        assert_eq!(FREE.with_borrow(Vec::len), KEPT_PER_THREAD);
    }
}
