//! [`Secret`]: a value that no log, no `Debug` and no serialiser can show.
//!
//! Deliberately absent: `Display`, `Serialize`, `PartialEq`, `Deref`. Whoever needs the bytes says [`Secret::expose`],
//! so that a search for that word lists every place where a secret is hashed, sealed, compared or sent.

use std::fmt;
use zeroize::Zeroize;

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
}
