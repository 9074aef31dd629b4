//! Reads a range from its end by reading forward only.
//!
//! sled reads backward too, but its code for that brings a constant of 1 MiB into the program: a key above all keys, for
//! ranges without an end. Ours have one, which the compiler cannot know. So the end is sought here by halving.

/// The last `enough` items between two keys, last first. `read` gives at most so many items from one key up to before
/// another, in their order. For a page it is asked some hundred times, mostly for one item; it gives a few times as many
/// items as the page holds, wherever they lie: the store is not written meanwhile.
///
/// # Errors
/// Whatever `read` ends with.
pub(super) fn last_first<Item, Error>(
    from: &[u8],
    to: &[u8],
    enough: usize,
    read: impl Fn(&[u8], &[u8], usize) -> Result<Vec<Item>, Error>,
) -> Result<Vec<Item>, Error> {
    let mut found = Vec::new();
    take(from, to, enough, &read, &mut found)?;
    found.truncate(enough);
    Ok(found)
}

/// Appends what lies between two keys, last first, at least until there is enough.
fn take<Item, Error>(
    from: &[u8],
    to: &[u8],
    enough: usize,
    read: &impl Fn(&[u8], &[u8], usize) -> Result<Vec<Item>, Error>,
    found: &mut Vec<Item>,
) -> Result<(), Error> {
    let too_many = (enough - found.len()).saturating_mul(2);
    let items = read(from, to, too_many)?;
    if items.len() < too_many {
        found.extend(items.into_iter().rev());
        return Ok(());
    }
    drop(items);
    take_from_last(from, to, enough, read, found)
}

/// The same where there are many: goes to the last of them, and from there back in steps that grow.
fn take_from_last<Item, Error>(
    from: &[u8],
    to: &[u8],
    enough: usize,
    read: &impl Fn(&[u8], &[u8], usize) -> Result<Vec<Item>, Error>,
    found: &mut Vec<Item>,
) -> Result<(), Error> {
    let Some(middle) = middle(from, to) else {
        found.extend(read(from, to, usize::MAX)?.into_iter().rev());
        return Ok(());
    };
    if read(&middle, to, 1)?.is_empty() {
        return take_from_last(from, &middle, enough, read, found);
    }
    take_from_last(&middle, to, enough, read, found)?;
    if found.len() < enough {
        take(from, &middle, enough, read, found)?;
    }
    Ok(())
}

/// A key half-way between two, unless they are neighbours; keys are numbers for that, 16 bytes behind what both begin with.
fn middle(from: &[u8], to: &[u8]) -> Option<Vec<u8>> {
    let shared = from.iter().zip(to).take_while(|(a, b)| a == b).count();
    let [low, high] = [from, to].map(|key| {
        let mut digits = [0; size_of::<u128>()];
        for (digit, byte) in digits.iter_mut().zip(&key[shared..]) {
            *digit = *byte;
        }
        u128::from_be_bytes(digits)
    });
    let half = low.midpoint(high);
    (half > low).then(|| [&from[..shared], &half.to_be_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::cell::Cell;
    use std::collections::BTreeSet;
    use std::convert::Infallible;

    type Keys = BTreeSet<Vec<u8>>;

    /// Reads from a set of keys; answers what was found and how many keys were read for it.
    fn found(keys: &Keys, from: &[u8], to: &[u8], enough: usize) -> (Vec<Vec<u8>>, usize) {
        let read = Cell::new(0);
        let found = last_first(from, to, enough, |from, to, most| {
            let window: Vec<_> = keys
                .range(from.to_vec()..to.to_vec())
                .take(most)
                .cloned()
                .collect();
            read.set(read.get() + window.len());
            Ok::<_, Infallible>(window)
        });
        let Ok(found) = found;
        (found, read.get())
    }

    /// Short keys of few letters, so that prefixes are shared and keys are prefixes of each other.
    fn key() -> impl Strategy<Value = Vec<u8>> {
        let letter = prop_oneof![Just(0), Just(1), Just(0x7f), Just(0xff), any::<u8>()];
        prop::collection::vec(letter, 0..24)
    }

    proptest! {
        #[test]
        fn finds_what_reading_backward_finds(
            keys in prop::collection::btree_set(key(), 0..200),
            ends in (key(), key()),
            enough in 0_usize..100,
        ) {
            let (from, to) = if ends.0 < ends.1 { ends } else { (ends.1, ends.0) };
            let expected: Vec<_> = keys.range(from.clone()..to.clone()).rev().take(enough).cloned().collect();
            prop_assert_eq!(found(&keys, &from, &to, enough).0, expected);
        }
    }

    #[test]
    fn reads_few_keys_however_they_lie() {
        let at = |millis: u64| [b"s".as_slice(), &millis.to_be_bytes(), &[0; 4]].concat();
        let now = 1_700_000_000_000;
        let evenly: Keys = (0..200_000).map(|n| at(now + n * 1000)).collect();
        let burst_long_ago: Keys = (0..200_000).map(at).collect();
        let same_millisecond: Keys = (0..200_000_u32)
            .map(|n| [b"s".as_slice(), &u64::to_be_bytes(now), &n.to_be_bytes()].concat())
            .collect();
        for (keys, name) in [
            (evenly, "evenly"),
            (burst_long_ago, "burst long ago"),
            (same_millisecond, "same millisecond"),
        ] {
            let expected: Vec<_> = keys.iter().rev().take(101).cloned().collect();
            let (found, read) = found(&keys, b"s", b"t", 101);
            assert_eq!(found, expected, "{name}");
            assert!(read < 12 * 101, "{name}: {read} keys read instead of all 200 000");
        }
    }
}
