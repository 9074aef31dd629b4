//! Records in memory, so that a warm sign-in neither reads the store nor waits for it.
//!
//! Filled by reads; kept right by our own commits and by the store's watch. A record may be behind the store only by the
//! time that the watch takes, and a conditional write that is based on it then fails and is tried again on fresh records.
//!
//! | what | where | bound |
//! |---|---|---|
//! | a person's records, the absence of one too | `people` | 16 MiB, about 2 500 people with three devices |
//! | blocks of networks, mostly their absence | `networks` | 1 MiB, apart, so that strangers push no person out |
//! | logins that nobody has | nowhere | guesses must not grow anything |
//! | claims, sign-in log, meta | nowhere | read once |

use crate::store::records::{Batch, Key, Record, Value, Version};
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The cache. Its lock is held for look-ups only.
pub(super) struct Cache {
    shelves: Mutex<Shelves>,
    hasher: RandomState,
}

struct Shelves {
    people: Shelf,
    networks: Shelf,
    /// Counts what happened to the keys of each hash slot. A read that began before such an event may hold what was true
    /// before it, hence it fills nothing.
    events: [u64; SLOTS],
}

const SLOTS: usize = 256;
const PEOPLE_BYTES: usize = 16 << 20;
const NETWORKS_BYTES: usize = 1 << 20;

/// What a look-up found.
pub(super) struct Looked {
    /// For each key: what is known of it.
    pub(super) found: Vec<Option<Option<Record>>>,
    /// For each key: the events so far, for [`Cache::fill`].
    seen: Vec<u64>,
}

impl Cache {
    pub(super) fn new() -> Cache {
        Cache {
            shelves: Mutex::new(Shelves {
                people: Shelf::new(PEOPLE_BYTES),
                networks: Shelf::new(NETWORKS_BYTES),
                events: [0; SLOTS],
            }),
            hasher: RandomState::new(),
        }
    }

    /// Looks keys up. Must come before the read whose result is given to [`Cache::fill`].
    pub(super) fn look(&self, keys: &[Key]) -> Looked {
        let mut shelves = self.shelves();
        let seen = keys.iter().map(|key| shelves.events[self.slot(key)]).collect();
        let found = keys
            .iter()
            .map(|key| shelves.shelf(key).and_then(|shelf| shelf.get(key)))
            .collect();
        Looked { found, seen }
    }

    /// Keeps what was read for the key of this index, unless something happened to it since the look-up.
    pub(super) fn fill(&self, looked: &Looked, index: usize, key: &Key, record: &Option<Record>) {
        let mut shelves = self.shelves();
        if shelves.events[self.slot(key)] != looked.seen[index] {
            return;
        }
        if let Some(shelf) = shelves.shelf(key).filter(|_| worth_keeping(key, record)) {
            shelf.put(key.clone(), record.clone(), 0);
        }
    }

    /// Forgets records: after a commit that may have changed them, whatever came of it.
    pub(super) fn forget<'a>(&self, keys: impl IntoIterator<Item = &'a Key>) {
        let mut shelves = self.shelves();
        for key in keys {
            let slot = self.slot(key);
            if let Some(shelf) = shelves.after_event(slot, key) {
                shelf.remove(key);
            }
        }
    }

    /// Forgets everything.
    pub(super) fn forget_all(&self) {
        let mut shelves = self.shelves();
        for events in &mut shelves.events {
            *events += 1;
        }
        shelves.people.clear();
        shelves.networks.clear();
    }

    /// Takes a lazy batch's values over before they are written, so that the next sign-in needs no read for them. The
    /// batch must be written afterwards, or [`Cache::forget`] called.
    ///
    /// Their versions are not known. A condition on such a record fails, which leads to a fresh read.
    pub(super) fn write_through(&self, batch: &Batch) {
        let mut shelves = self.shelves();
        for write in &batch.0 {
            let slot = self.slot(&write.key);
            let record = write.value.clone().map(|value| Record {
                version: Version(0),
                value,
            });
            if let Some(shelf) = shelves.after_event(slot, &write.key) {
                let echoes = shelf.echoes(&write.key) + 1;
                shelf.put(write.key.clone(), record, echoes);
            }
        }
    }

    /// Hears from the watch that these keys changed. What a lazy write of ours put here stays: the watch only repeats it.
    /// Where somebody else wrote the same key meanwhile, one event more comes, and the record is forgotten then.
    pub(super) fn changed(&self, keys: &[Key]) {
        let mut shelves = self.shelves();
        for key in keys {
            let slot = self.slot(key);
            if let Some(shelf) = shelves.after_event(slot, key) {
                shelf.hear(key);
            }
        }
    }

    fn slot(&self, key: &Key) -> usize {
        usize::try_from(self.hasher.hash_one(key) % SLOTS as u64).unwrap_or(0)
    }

    fn shelves(&self) -> MutexGuard<'_, Shelves> {
        // Nothing panics while holding it.
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shelves {
    fn shelf(&mut self, key: &Key) -> Option<&mut Shelf> {
        match key {
            Key::Login(_)
            | Key::Person(_)
            | Key::Factors(_)
            | Key::Devices(_)
            | Key::DeviceUse(..)
            | Key::Budget(_)
            | Key::GoodNetworks(_) => Some(&mut self.people),
            Key::Block(_) => Some(&mut self.networks),
            Key::Meta | Key::Claim(..) | Key::SignIn(..) => None,
        }
    }

    /// The shelf of a key to which something happened; `None` for keys that are never kept.
    fn after_event(&mut self, slot: usize, key: &Key) -> Option<&mut Shelf> {
        self.events[slot] += u64::from(self.shelf(key).is_some());
        self.shelf(key)
    }
}

/// The absence of a login is not kept: whoever guesses names must not fill the memory.
fn worth_keeping(key: &Key, record: &Option<Record>) -> bool {
    record.is_some() || !matches!(key, Key::Login(_))
}

/// Records up to a number of bytes; who was not looked at since the hand last passed goes first ("clock").
struct Shelf {
    books: HashMap<Key, Book>,
    /// Keys in the order of the hand, with the stamp of their book: another stamp means that the place is void.
    hand: VecDeque<(Key, u64)>,
    stamps: u64,
    bytes: usize,
    bound: usize,
}

struct Book {
    record: Option<Record>,
    bytes: usize,
    stamp: u64,
    looked_at: bool,
    /// Lazy writes of ours that the watch has yet to repeat.
    echoes: u32,
}

impl Shelf {
    fn new(bound: usize) -> Shelf {
        Shelf {
            books: HashMap::new(),
            hand: VecDeque::new(),
            stamps: 0,
            bytes: 0,
            bound,
        }
    }

    fn get(&mut self, key: &Key) -> Option<Option<Record>> {
        let book = self.books.get_mut(key)?;
        book.looked_at = true;
        Some(book.record.clone())
    }

    fn echoes(&self, key: &Key) -> u32 {
        self.books.get(key).map_or(0, |book| book.echoes)
    }

    fn put(&mut self, key: Key, record: Option<Record>, echoes: u32) {
        let bytes = weight(&key, record.as_ref());
        if let Some(book) = self.books.get_mut(&key) {
            self.bytes = self.bytes - book.bytes + bytes;
            book.record = record;
            book.bytes = bytes;
            book.echoes = echoes;
        } else {
            self.stamps += 1;
            self.hand.push_back((key.clone(), self.stamps));
            self.bytes += bytes;
            let book = Book {
                record,
                bytes,
                stamp: self.stamps,
                looked_at: false,
                echoes,
            };
            self.books.insert(key, book);
        }
        self.make_room();
    }

    fn remove(&mut self, key: &Key) {
        if let Some(book) = self.books.remove(key) {
            self.bytes -= book.bytes;
        }
        // Void places would pile up where one key comes and goes.
        if self.hand.len() > 2 * self.books.len() + 64 {
            let books = &self.books;
            self.hand
                .retain(|(key, stamp)| books.get(key).is_some_and(|book| book.stamp == *stamp));
        }
    }

    fn hear(&mut self, key: &Key) {
        match self.books.get_mut(key) {
            Some(book) if book.echoes > 0 => book.echoes -= 1,
            _ => self.remove(key),
        }
    }

    fn clear(&mut self) {
        self.books.clear();
        self.hand.clear();
        self.bytes = 0;
    }

    fn make_room(&mut self) {
        while self.bytes > self.bound {
            let Some((key, stamp)) = self.hand.pop_front() else {
                return;
            };
            match self.books.get_mut(&key) {
                Some(book) if book.stamp == stamp && book.looked_at => {
                    book.looked_at = false;
                    self.hand.push_back((key, stamp));
                }
                Some(book) if book.stamp == stamp => self.remove(&key),
                _ => {}
            }
        }
    }
}

/// About what a record takes in memory, places in the tables included. Rounded up: a bound that is kept matters more
/// than one that is used to the full.
fn weight(key: &Key, record: Option<&Record>) -> usize {
    const PLACE: usize = 256;
    let login = match key {
        Key::Login(login) => 2 * login.len(),
        _ => 0,
    };
    let value = match record.map(|record| &record.value) {
        None => 0,
        Some(Value::Person(person)) => {
            let aliases: usize = person.aliases.iter().map(|alias| alias.len() + 24).sum();
            person.login.len() + aliases
        }
        Some(Value::Factors(factors)) => {
            let of = |label: &str, seed: usize| label.len() + seed + 128;
            factors
                .totp
                .iter()
                .map(|totp| of(&totp.label, totp.seed.expose().len()))
                .sum()
        }
        Some(Value::Devices(devices)) => {
            let hints: usize = devices
                .devices
                .iter()
                .map(|device| device.client_hint.as_ref().map_or(0, String::len) + 192)
                .sum();
            hints + 64 * devices.tombstones.len()
        }
        Some(Value::DeviceUse(used)) => 32 * used.networks.len() + 16,
        Some(Value::Budget(budget)) => {
            16 * (budget.misses.len() + budget.unverified.len()) + 32 * budget.miss_networks.len()
        }
        Some(Value::GoodNetworks(good)) => 40 * good.networks.len(),
        Some(Value::Meta(_) | Value::Login(_) | Value::Claim(_) | Value::Block(_) | Value::SignIn(_)) => 0,
    };
    PLACE + login + value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::records::{DeviceId, DeviceUse, Expect, PersonId, UnixTime};

    fn login(person: u8) -> Option<Record> {
        Some(Record {
            version: Version(1),
            value: Value::Login(PersonId([person; 8])),
        })
    }

    fn key(name: &str) -> Key {
        Key::Login(name.to_owned())
    }

    fn read(cache: &Cache, key: &Key, record: &Option<Record>) {
        let looked = cache.look(std::slice::from_ref(key));
        cache.fill(&looked, 0, key, record);
    }

    fn knows(cache: &Cache, key: &Key) -> Option<bool> {
        cache.look(std::slice::from_ref(key)).found[0]
            .as_ref()
            .map(Option::is_some)
    }

    #[test]
    fn keeps_what_was_read_and_the_absence_of_what_guesses_cannot_multiply() {
        let cache = Cache::new();
        read(&cache, &key("alice"), &login(1));
        read(&cache, &key("nobody"), &None);
        read(&cache, &Key::Budget(PersonId([1; 8])), &None);
        read(&cache, &Key::Block("192.0.2.0/24".parse().unwrap()), &None);
        read(&cache, &Key::Meta, &None);
        assert_eq!(knows(&cache, &key("alice")), Some(true));
        assert_eq!(knows(&cache, &key("nobody")), None);
        assert_eq!(knows(&cache, &Key::Budget(PersonId([1; 8]))), Some(false));
        assert_eq!(
            knows(&cache, &Key::Block("192.0.2.0/24".parse().unwrap())),
            Some(false)
        );
        assert_eq!(knows(&cache, &Key::Meta), None);
        cache.forget([&key("alice")]);
        assert_eq!(knows(&cache, &key("alice")), None);
        cache.forget_all();
        assert_eq!(knows(&cache, &Key::Budget(PersonId([1; 8]))), None);
    }

    #[test]
    fn a_read_that_began_before_a_change_fills_nothing() {
        type Event = fn(&Cache, &Key);
        let events: [Event; 4] = [
            |cache, key| cache.forget([key]),
            |cache, key| cache.changed(std::slice::from_ref(key)),
            |cache, _| cache.forget_all(),
            |cache, key| {
                cache.write_through(&Batch::default().remove(key.clone(), Expect::Any));
                cache.changed(std::slice::from_ref(key));
                cache.changed(std::slice::from_ref(key));
            },
        ];
        for event in events {
            let cache = Cache::new();
            let alice = key("alice");
            let looked = cache.look(std::slice::from_ref(&alice));
            event(&cache, &alice);
            cache.fill(&looked, 0, &alice, &login(1));
            assert_eq!(knows(&cache, &alice), None);
            read(&cache, &alice, &login(1));
            assert_eq!(knows(&cache, &alice), Some(true));
        }
    }

    fn seen(at: u64) -> (Key, Value) {
        let network = "192.0.2.0/24".parse().unwrap();
        let value = DeviceUse {
            last_seen: UnixTime(at),
            last_network: network,
            protocols: Vec::new(),
            networks: vec![network],
            refused: None,
        };
        (
            Key::DeviceUse(PersonId([1; 8]), DeviceId([2; 8])),
            Value::DeviceUse(value),
        )
    }

    #[test]
    fn our_lazy_writes_stay_and_those_of_others_do_not() {
        let cache = Cache::new();
        let (key, first) = seen(1);
        let (_, second) = seen(2);
        cache.write_through(&Batch::default().put(key.clone(), Expect::Any, first));
        cache.write_through(&Batch::default().put(key.clone(), Expect::Any, second));
        for _ in 0..2 {
            cache.changed(std::slice::from_ref(&key));
            let found = cache.look(std::slice::from_ref(&key)).found.remove(0).flatten();
            assert!(matches!(
                found.map(|record| record.value),
                Some(Value::DeviceUse(DeviceUse {
                    last_seen: UnixTime(2),
                    ..
                }))
            ));
        }
        cache.changed(std::slice::from_ref(&key));
        assert_eq!(knows(&cache, &key), None, "a third event is somebody else's");
    }

    #[test]
    fn a_shelf_keeps_its_bound_and_what_is_in_use() {
        let mut shelf = Shelf::new(100 * weight(&key("0000"), None));
        shelf.put(key("used"), login(1), 0);
        for number in 0..1000 {
            shelf.get(&key("used")).expect("what is in use stays");
            shelf.put(key(&format!("{number:04}")), login(2), 0);
            assert!(shelf.bytes <= shelf.bound);
        }
        assert!(shelf.get(&key("0999")).is_some());
        assert!(shelf.get(&key("0000")).is_none());
        assert_eq!(
            shelf.books.values().map(|book| book.bytes).sum::<usize>(),
            shelf.bytes
        );
    }

    #[test]
    fn a_key_that_comes_and_goes_leaves_nothing_behind() {
        let mut shelf = Shelf::new(PEOPLE_BYTES);
        for _ in 0..10_000 {
            shelf.put(key("alice"), login(1), 0);
            shelf.remove(&key("alice"));
        }
        assert!(shelf.hand.len() <= 65);
        assert_eq!(shelf.bytes, 0);
    }
}
