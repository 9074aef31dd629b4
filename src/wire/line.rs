//! A bounded buffer of received bytes that wipes what it forgets, and the line ends in it.
//!
//! What is in it may be a password, so no copy stays behind: not when bytes are consumed, not when the buffer grows.
//! Deliberately absent: any idea of a command. Each protocol says what a line means.

use crate::secret::extend_wiping;
use zeroize::Zeroize;

/// Received bytes that no command has claimed yet.
///
/// ```text
/// bytes:  [ wiped ....... | received, not consumed ............ ]
///         0            start                              bytes.len()
/// ```
/// `bytes.len() - start <= limit` holds always; it bounds the memory of one connection before sign-in.
pub struct Inbox {
    bytes: Vec<u8>,
    start: usize,
    limit: usize,
}

impl Inbox {
    /// An empty one that holds at most `limit` octets.
    pub fn new(limit: usize) -> Self {
        Inbox {
            bytes: Vec::new(),
            start: 0,
            limit,
        }
    }

    /// Takes what fits and says how many bytes that was.
    pub fn offer(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(self.room());
        if self.start > 0 {
            self.move_to_front();
        }
        extend_wiping(&mut self.bytes, &bytes[..taken]);
        taken
    }

    /// How many octets it would take now.
    pub fn room(&self) -> usize {
        self.limit.saturating_sub(self.len())
    }

    /// What is there, oldest first.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// How many octets are there.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Whether nothing is there.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets the oldest `count` octets, wiping them.
    pub fn consume(&mut self, count: usize) {
        let end = self.start + count.min(self.len());
        self.bytes[self.start..end].zeroize();
        self.start = end;
        if self.is_empty() {
            self.bytes.clear();
            self.start = 0;
        }
    }

    /// Forgets everything, wiping it.
    pub fn clear(&mut self) {
        self.consume(self.len());
    }

    /// Takes everything out; the taker wipes it.
    pub fn take(&mut self) -> Vec<u8> {
        self.move_to_front();
        std::mem::take(&mut self.bytes)
    }

    fn move_to_front(&mut self) {
        let length = self.len();
        self.bytes.copy_within(self.start.., 0);
        self.bytes[length..].zeroize();
        self.bytes.truncate(length);
        self.start = 0;
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

/// Where the first line of `bytes` at or behind `from` ends: the position of its LF.
///
/// A bare LF counts, as it does for Dovecot and nginx (P47).
pub fn line_feed(bytes: &[u8], from: usize) -> Option<usize> {
    memchr::memchr(b'\n', bytes.get(from..)?).map(|at| from + at)
}

/// Everything before the first line end, or all where there is none.
pub fn first_line(bytes: &[u8]) -> &[u8] {
    without_end(&bytes[..line_feed(bytes, 0).map_or(bytes.len(), |end| end + 1)])
}

/// A line without its line end, which is CRLF, a bare LF, or not there at all.
pub fn without_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_no_more_than_its_limit() {
        let mut inbox = Inbox::new(4);
        assert_eq!(inbox.offer(b"abcdef"), 4);
        assert_eq!(inbox.offer(b"x"), 0);
        inbox.consume(1);
        assert_eq!(inbox.offer(b"yz"), 1);
        assert_eq!(inbox.as_slice(), b"bcdy");
    }

    #[test]
    fn consuming_wipes_what_lies_before_the_rest() {
        let mut inbox = Inbox::new(64);
        inbox.offer(b"secret line");
        inbox.consume(7);
        assert_eq!(&inbox.bytes[..7], &[0; 7]);
        assert_eq!(inbox.as_slice(), b"line");
        assert_eq!(inbox.take(), b"line");
        assert!(inbox.is_empty());
    }

    #[test]
    fn consuming_more_than_is_there_empties_it() {
        let mut inbox = Inbox::new(8);
        inbox.offer(b"abc");
        inbox.consume(99);
        assert!(inbox.is_empty());
        assert_eq!(inbox.offer(b"12345678"), 8);
    }

    #[test]
    fn finds_line_ends() {
        assert_eq!(line_feed(b"a\r\nb\n", 0), Some(2));
        assert_eq!(line_feed(b"a\r\nb\n", 3), Some(4));
        assert_eq!(line_feed(b"a\r\nb\n", 5), None);
        assert_eq!(line_feed(b"a", 9), None);
        assert_eq!(first_line(b"a b\r\nc"), b"a b");
        assert_eq!(first_line(b"a b"), b"a b");
        for (line, bare) in [
            ("a\r\n", "a"),
            ("a\n", "a"),
            ("a", "a"),
            ("a\r", "a"),
            ("\r\n", ""),
            ("a\r\r\n", "a\r"),
        ] {
            assert_eq!(without_end(line.as_bytes()), bare.as_bytes(), "{line:?}");
        }
    }
}
