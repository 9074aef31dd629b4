//! The buffer of received bytes, against a plain queue.

use gatepost::wire::line::{Inbox, first_line, line_feed, without_end};
use std::collections::VecDeque;

/// An inbox holds what a queue of bytes would hold, and never more than its limit. The first octet is the limit; each pair
/// that follows is an operation and its count.
pub fn lines(input: &[u8]) {
    let Some((limit, operations)) = input.split_first() else {
        return;
    };
    let limit = usize::from(*limit);
    let (mut inbox, mut model) = (Inbox::new(limit), VecDeque::new());
    for operation in operations.chunks_exact(2) {
        let count = usize::from(operation[1]);
        match operation[0] % 8 {
            0 => {
                inbox.consume(count);
                model.drain(..count.min(model.len()));
            }
            1 => inbox_is_cleared(&mut inbox, &mut model),
            2 => assert_eq!(inbox.take(), Vec::from(std::mem::take(&mut model))),
            // Offering is what happens most.
            _ => {
                let bytes: Vec<u8> = operations.iter().copied().cycle().take(count).collect();
                let taken = inbox.offer(&bytes);
                assert_eq!(taken, count.min(limit - model.len()));
                model.extend(&bytes[..taken]);
            }
        }
        assert!(inbox.as_slice().iter().eq(model.iter()));
        assert_eq!((inbox.len(), inbox.is_empty()), (model.len(), model.is_empty()));
        assert_eq!(inbox.room(), limit - model.len());
    }
    line_ends(operations);
}

fn inbox_is_cleared(inbox: &mut Inbox, model: &mut VecDeque<u8>) {
    inbox.clear();
    model.clear();
}

/// A first line, its end, and everything behind it are the whole again.
fn line_ends(bytes: &[u8]) {
    let first = first_line(bytes);
    assert!(bytes.starts_with(first) && !first.contains(&b'\n'));
    match line_feed(bytes, 0) {
        None => assert!(!bytes.contains(&b'\n')),
        Some(end) => {
            let ending = &bytes[first.len()..=end];
            assert!(ending == b"\n" || ending == b"\r\n");
            assert_eq!(without_end(&bytes[..=end]), first);
        }
    }
    for from in [0, bytes.len() / 2, bytes.len(), bytes.len() + 1] {
        let plain = bytes.iter().skip(from).position(|byte| *byte == b'\n');
        assert_eq!(line_feed(bytes, from), plain.map(|at| from + at));
    }
}
