//! A map with a hard cap: what was touched longest ago makes room.
//!
//! Everything that an attacker can cause to be remembered lives in one of these, so that the worst case in memory is a
//! product of two constants (see `memory.rs`). Deliberately absent: expiry by time; the user judges age by its own `now`.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// A map of at most `cap` entries.
pub(super) struct Bounded<K, V> {
    cap: usize,
    entries: HashMap<K, (u64, V)>,
    by_age: BTreeMap<u64, K>,
    clock: u64,
}

impl<K: Hash + Eq + Clone, V> Bounded<K, V> {
    /// An empty map that will hold at most `cap` entries; 1 at the least.
    pub(super) fn new(cap: usize) -> Self {
        Bounded {
            cap: cap.max(1),
            entries: HashMap::new(),
            by_age: BTreeMap::new(),
            clock: 0,
        }
    }

    /// The value, which counts as touched.
    pub(super) fn touch(&mut self, key: &K) -> Option<&mut V> {
        let next = self.clock + 1;
        let (age, value) = self.entries.get_mut(key)?;
        let key = self
            .by_age
            .remove(age)
            .expect("every entry has its place in the order");
        self.by_age.insert(next, key);
        *age = next;
        self.clock = next;
        Some(value)
    }

    /// The value, without touching it.
    pub(super) fn peek(&self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|(_, value)| value)
    }

    /// Puts a value in place of an earlier one. Gives back what had to make room for it.
    pub(super) fn insert(&mut self, key: K, value: V) -> Option<(K, V)> {
        if let Some(held) = self.touch(&key) {
            *held = value;
            return None;
        }
        let evicted = (self.entries.len() >= self.cap).then(|| self.evict()).flatten();
        self.clock += 1;
        self.by_age.insert(self.clock, key.clone());
        self.entries.insert(key, (self.clock, value));
        evicted
    }

    /// The value, made first if there is none; counts as touched.
    pub(super) fn touch_or_default(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        if self.peek(&key).is_none() {
            self.insert(key.clone(), V::default());
        }
        self.touch(&key).expect("it was put there just now")
    }

    /// Takes an entry out.
    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        let (age, value) = self.entries.remove(key)?;
        self.by_age.remove(&age);
        Some(value)
    }

    /// Forgets the entries for which `keep` says no. Visits all of them.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&K, &mut V) -> bool) {
        let by_age = &mut self.by_age;
        self.entries.retain(|key, (age, value)| {
            let kept = keep(key, value);
            if !kept {
                by_age.remove(age);
            }
            kept
        });
    }

    fn evict(&mut self) -> Option<(K, V)> {
        let (_, key) = self.by_age.pop_first()?;
        let (_, value) = self.entries.remove(&key)?;
        Some((key, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_one_touched_longest_ago_makes_room() {
        let mut map = Bounded::new(2);
        assert!(map.insert("a", 1).is_none());
        assert!(map.insert("b", 2).is_none());
        assert_eq!(map.touch(&"a"), Some(&mut 1));
        assert_eq!(map.insert("c", 3), Some(("b", 2)));
        assert_eq!(
            (map.peek(&"a"), map.peek(&"b"), map.peek(&"c")),
            (Some(&1), None, Some(&3))
        );
    }

    proptest! {
        #[test]
        fn never_holds_more_than_its_cap(cap in 1_usize..8, keys in proptest::collection::vec(0_u8..20, 0..200)) {
            let mut map = Bounded::new(cap);
            for (n, key) in keys.iter().enumerate() {
                match n % 5 {
                    4 => { map.remove(key); }
                    3 => { map.touch(key); }
                    _ => { map.insert(*key, n); }
                }
                prop_assert!(map.entries.len() <= cap);
                prop_assert_eq!(map.entries.len(), map.by_age.len());
            }
            map.retain(|key, _| key % 2 == 0);
            prop_assert_eq!(map.entries.len(), map.by_age.len());
        }
    }
}
