//! [`Secret`]: a value that no log, no `Debug` and no serialiser can show.
//!
//! Beside it, what is done to secrets in memory so that no copy stays behind.
//!
//! Deliberately absent: `Display`, `Serialize`, `PartialEq`, `Deref`. Whoever needs the bytes says [`Secret::expose`],
//! so that a search for that word lists every place where a secret is hashed, sealed, compared or sent.

use ring::hmac;
use std::fmt;
use zeroize::{Zeroize, Zeroizing};

/// A value that is redacted in every build and zeroed when dropped.
#[derive(Clone)]
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    /// Takes the value in; from here on only [`Secret::expose`] shows it.
    pub fn new(value: T) -> Self {
        Secret(value)
    }

    /// The value itself, to be hashed, sealed, compared in constant time, or sent; never to be logged.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl Secret<Vec<u8>> {
    /// Copies bytes in.
    pub fn copy(bytes: &[u8]) -> Self {
        Secret(bytes.to_vec())
    }

    /// Whether both hold the same bytes, in a time that depends only on the lengths.
    pub fn same(&self, other: &[u8]) -> bool {
        use subtle::ConstantTimeEq;
        self.0.ct_eq(other).into()
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<T: Zeroize> From<T> for Secret<T> {
    fn from(value: T) -> Self {
        Secret(value)
    }
}

/// Appends to a buffer of secrets. When it has to grow, the old allocation is wiped before it is freed, which
/// [`Vec::extend_from_slice`] would not do.
pub fn extend_wiping(buffer: &mut Vec<u8>, bytes: &[u8]) {
    let needed = buffer.len() + bytes.len();
    if needed > buffer.capacity() {
        let mut larger = Vec::with_capacity(needed.max(buffer.capacity() * 2).max(64));
        larger.extend_from_slice(buffer);
        std::mem::swap(buffer, &mut larger);
        larger.zeroize();
    }
    buffer.extend_from_slice(bytes);
}

/// HMAC-SHA-256 of these parts in a row, of which all but the last have a fixed length.
///
/// ring keeps what does not fill a block in its context, which moves about on the stack and is wiped nowhere. So the message
/// is padded here, as Merkle and Damgard do, in memory that is wiped: nothing that does not fill a block is left.
pub fn keyed_hash(key: &hmac::Key, parts: &[&[u8]]) -> hmac::Tag {
    const END: u8 = 0x80;
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let block = key.algorithm().digest_algorithm().block_len();
    let padded = (length + 1).next_multiple_of(block);
    let mut message = Zeroizing::new(Vec::with_capacity(padded));
    for part in parts {
        message.extend_from_slice(part);
    }
    message.push(END);
    message.resize(padded, 0);
    hmac::sign(key, &message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing_in_any_build() {
        let secret = Secret::copy(b"open sesame");
        assert_eq!(format!("{secret:?}"), "[secret]");
        assert_eq!(format!("{:#?}", Some(&secret)), "Some(\n    [secret],\n)");
    }

    #[test]
    fn compares_bytes() {
        let secret = Secret::copy(b"abc");
        assert!(secret.same(b"abc"));
        assert!(!secret.same(b"abd"));
        assert!(!secret.same(b"ab"));
    }

    #[test]
    fn keyed_hashes_tell_messages_apart() {
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"key");
        let hash = |parts: &[&[u8]]| keyed_hash(&key, parts).as_ref().to_vec();
        let long = vec![0; 64];
        let mut seen = std::collections::HashSet::new();
        for last in [
            &b""[..],
            b"\0",
            b"\0\0",
            b"\x80",
            b"a",
            &long[..54],
            &long[..55],
            &long[..62],
            &long[..63],
            &long,
        ] {
            assert!(seen.insert(hash(&[b"x", last])), "{last:?}");
            assert_eq!(hash(&[b"x", last]), hash(&[&[b"x", last].concat()]));
        }
        assert_eq!(hash(&[b"abc"]), {
            let mut padded = [0; 64];
            padded[..4].copy_from_slice(b"abc\x80");
            hmac::sign(&key, &padded).as_ref().to_vec()
        });
    }
}
