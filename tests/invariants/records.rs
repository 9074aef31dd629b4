//! Keys and records as bytes, and what lies sealed on the disk.

use gatepost::secret::Secret;
use gatepost::store::records::{Batch, Durability, Expect, Key, Kind, Outcome, PersonId, Value, Version};
use gatepost::store::seal::BoxKey;
use gatepost::store::{
    BoxFuture, Changes, Engine, EngineBatch, EngineOutcome, EnginePage, EngineRange, EngineRecord, Store,
    StoreError, Watching,
};
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

/// Bytes are refused, or are a record that is written and read back as the same one; likewise keys, which have one
/// encoding and sort as their bytes do.
pub fn records(input: &[u8]) {
    for kind in Kind::ALL {
        value(kind, input);
    }
    let (one, other) = input.split_at(input.len() / 2);
    let keys = [input, one, other].map(key);
    if let [_, Some(one), Some(other)] = keys {
        assert_eq!(one.encode().cmp(&other.encode()), one.cmp(&other));
    }
}

fn value(kind: Kind, bytes: &[u8]) {
    let Ok(value) = Value::decode(kind, bytes) else {
        return;
    };
    assert_eq!(value.kind(), kind);
    let written = value.encode();
    // The shortest form; so what was read takes no more memory than its bytes announce.
    assert!(
        written.len() <= bytes.len(),
        "{} octets became {}",
        bytes.len(),
        written.len()
    );
    let again = Value::decode(kind, &written).expect("what we write is read");
    assert_eq!(*again.encode(), *written);
    assert_eq!(shown(&again), shown(&value));
}

/// Everything of a record, seeds too, which `Debug` leaves out.
fn shown(value: &Value) -> String {
    let seeds: Vec<&Secret<Vec<u8>>> = match value {
        Value::Factors(factors) => factors.totp.iter().map(|totp| &totp.seed).collect(),
        _ => Vec::new(),
    };
    let seeds: Vec<&Vec<u8>> = seeds.into_iter().map(Secret::expose).collect();
    format!("{value:?} {seeds:?}")
}

fn key(bytes: &[u8]) -> Option<Key> {
    let key = Key::decode(bytes).ok()?;
    assert_eq!(key.encode(), bytes, "a key has one encoding");
    Some(key)
}

/// A sealed record opens in its own place, as it was sealed, and nowhere else. The input says what is done to it: one octet
/// for the kind of change, then where and what.
pub fn sealed(input: &[u8]) {
    let [how, at, rest @ ..] = input else {
        return;
    };
    let slot = Slot::default();
    let key = BoxKey::parse(BOX_KEY).expect("as `BoxKey::create` writes it");
    let store = Store::new(Box::new(slot.clone()), key);
    let alice = Key::Login("alice@example.org".to_owned());
    let put = Batch::default().put(alice.clone(), Expect::Any, Value::Login(PersonId([7; 8])));
    assert_eq!(at_once(store.commit(put, Durability::Synced)), Ok(Outcome::Done));

    let good = slot.get().expect("it was written");
    let (mut changed, mut asked) = (good.clone(), alice.clone());
    let at = usize::from(*at);
    match how % 5 {
        0 => changed.sealed.truncate(at),
        1 => changed.sealed = rest.to_vec(),
        2 => {
            for (octet, change) in changed.sealed.iter_mut().skip(at).zip(rest) {
                *octet ^= change;
            }
        }
        3 => changed.version = Version(changed.version.0 ^ at as u64),
        // To the place of another record, of its own kind or of another.
        _ => asked = Key::decode(rest).unwrap_or(Key::Login("mallory@example.org".to_owned())),
    }
    let untouched = changed == good && asked == alice;
    slot.set(Some(changed));
    match at_once(store.get(vec![asked])) {
        Ok(records) => {
            let value = records[0].as_ref().map(|record| &record.value);
            assert!(untouched, "opened although it was changed");
            assert!(matches!(value, Some(Value::Login(PersonId([7, ..])))));
        }
        Err(error) => assert!(!untouched && matches!(error, StoreError::Unseal(_)), "{error}"),
    }
}

/// An engine that holds one record and gives it out under every key.
#[derive(Clone, Default)]
struct Slot(Arc<Mutex<Option<EngineRecord>>>);

impl Slot {
    fn get(&self) -> Option<EngineRecord> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, record: Option<EngineRecord>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = record;
    }
}

impl Engine for Slot {
    fn get(&self, keys: Vec<Vec<u8>>) -> BoxFuture<'_, Result<Vec<Option<EngineRecord>>, StoreError>> {
        let found = keys.iter().map(|_| Slot::get(self)).collect();
        Box::pin(std::future::ready(Ok(found)))
    }

    fn scan(&self, _: EngineRange, _: usize) -> BoxFuture<'_, Result<EnginePage, StoreError>> {
        let page = EnginePage {
            records: Vec::new(),
            more: false,
        };
        Box::pin(std::future::ready(Ok(page)))
    }

    fn commit(&self, batch: EngineBatch, _: Durability) -> BoxFuture<'_, Result<EngineOutcome, StoreError>> {
        self.set(batch.0.into_iter().next().and_then(|write| write.value));
        Box::pin(std::future::ready(Ok(EngineOutcome::Done)))
    }

    fn flush(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn watch(&self) -> Watching {
        Changes::default().watch()
    }
}

/// The result of a future that never waits.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => panic!("an engine in memory never waits"),
    }
}

/// The box key whose octets are 0 to 31.
const BOX_KEY: &[u8] = b"gatepost box key 1\n\
    000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n\
    ac41783e\n";

/// The text of a box key's file is the one that was written, or it is refused.
pub fn box_key(input: &[u8]) {
    let Some(key) = BoxKey::parse(input) else {
        return;
    };
    let lines: Vec<&[u8]> = input.split(|byte| *byte == b'\n').collect();
    assert_eq!(lines[0], b"gatepost box key 1");
    assert_eq!(lines[1].len(), 64);
    assert_eq!(lines[2], key.id().to_string().as_bytes());
    assert_eq!(format!("{key:?}").matches("[secret]").count(), 1);
}
