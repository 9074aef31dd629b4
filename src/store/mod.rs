//! What survives a restart.
//!
//! [`Store`] is what the other rooms use: typed keys and values, sealed on the way down. An [`Engine`] below it sees only
//! opaque bytes.
//!
//! ```text
//! <data directory>/      0700
//!   box.key              the box key (seal.rs); whoever has it and the records can read them
//!   founded              empty; there once the first record is on the disk
//!   lock                 held by the one process that uses the directory; holds its process id
//!   records/             the engine's files
//!   records.damaged-*    copies made before a repair
//! ```
//! Deliberately absent: expiry (a field of the record, judged by the caller's clock), counters, caches.

mod backward;
mod engine;
mod files;
mod memory;
mod open;
pub mod records;
pub mod seal;
mod sled;
mod wait;

pub use engine::{
    ChangedKeys, Changes, Engine, EngineBatch, EngineOutcome, EnginePage, EngineRange, EngineRecord,
    EngineWrite, Watching,
};
use memory::MemoryEngine;
pub use open::{EngineKind, OpenError, Opened, Settings, open};
use records::{
    Batch, DecodeError, Durability, Expect, Key, KeyRange, Kind, Outcome, Record, Value, Version, Write,
};
use seal::{BoxKey, RandomFailed, Sealer, UnsealError};
use std::collections::HashSet;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::broadcast::error::RecvError;

/// A boxed future, so that an engine can be chosen at run time. Never on the path of a warm sign-in.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The largest record, key and sealing included: 32 KiB. Larger values would end up in files that the embedded engine
/// never brings to the disk for certain.
pub const MAX_RECORD: usize = 32 * 1024;

/// Records by key. Cheap to clone; the last clone's drop ends the engine and frees its files before it returns.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    engine: Box<dyn Engine>,
    sealer: Sealer,
    box_key: BoxKey,
}

/// Part of a range of records.
#[derive(Clone, Debug)]
pub struct Page {
    /// Keys and records, in the range's order.
    pub records: Vec<(Key, Record)>,
    /// Whether the range holds more behind them; [`KeyRange::after`] the last key asks for it.
    pub more: bool,
}

impl Store {
    /// A store over an engine.
    pub fn new(engine: Box<dyn Engine>, box_key: BoxKey) -> Store {
        Store(Arc::new(Inner {
            engine,
            sealer: Sealer::new(&box_key),
            box_key,
        }))
    }

    /// A store that forgets everything with its last clone.
    pub fn memory(box_key: BoxKey) -> Store {
        Store::new(Box::new(MemoryEngine::default()), box_key)
    }

    /// The key that everything secret of this box is derived from.
    pub fn box_key(&self) -> &BoxKey {
        &self.0.box_key
    }

    /// Reads records, in the order of the keys. What a commit wrote is seen as soon as it was answered, lazy or not.
    ///
    /// # Errors
    /// [`StoreError::Read`], [`StoreError::Unseal`], [`StoreError::Decode`].
    pub async fn get(&self, keys: Vec<Key>) -> Result<Vec<Option<Record>>, StoreError> {
        let encoded: Vec<Vec<u8>> = keys.iter().map(Key::encode).collect();
        let found = self.0.engine.get(encoded.clone()).await?;
        keys.iter()
            .zip(encoded)
            .zip(found)
            .map(|((key, bytes), record)| record.map(|record| self.unseal(key, &bytes, record)).transpose())
            .collect()
    }

    /// Reads at most `limit` records of a range, in its order.
    ///
    /// # Errors
    /// As [`Store::get`]: one damaged record fails the page, because leaving it out silently would be a lie.
    pub async fn scan(&self, range: KeyRange, limit: usize) -> Result<Page, StoreError> {
        if range.from >= range.to {
            return Ok(Page {
                records: Vec::new(),
                more: false,
            });
        }
        let KeyRange { from, to, order } = range;
        let page = self.0.engine.scan(EngineRange { from, to, order }, limit).await?;
        let opened = page.records.into_iter().map(|(bytes, record)| {
            let key = Key::decode(&bytes)?;
            let record = self.unseal(&key, &bytes, record)?;
            Ok((key, record))
        });
        Ok(Page {
            records: opened.collect::<Result<_, StoreError>>()?,
            more: page.more,
        })
    }

    /// Carries out a batch whole or not at all.
    ///
    /// An error leaves open whether the batch was written: read again before you rely on either. A dropped future too.
    ///
    /// # Errors
    /// [`StoreError::Write`], [`StoreError::Stopped`] and [`StoreError::Full`] from the engine; the other variants say which rule the batch
    /// breaks, and then nothing was written.
    pub async fn commit(&self, batch: Batch, durability: Durability) -> Result<Outcome, StoreError> {
        check(&batch, durability)?;
        let version = self.0.sealer.fresh_version()?;
        let writes = batch
            .0
            .iter()
            .map(|write| self.seal(write, version))
            .collect::<Result<_, StoreError>>()?;
        match self.0.engine.commit(EngineBatch(writes), durability).await? {
            EngineOutcome::Done => Ok(Outcome::Done),
            EngineOutcome::Conflict(index) => Ok(Outcome::Conflict(batch.0[index].key.clone())),
        }
    }

    /// Brings everything that was answered before to the disk: the last step of an orderly shutdown.
    ///
    /// # Errors
    /// [`StoreError::Write`], [`StoreError::Stopped`], [`StoreError::Full`].
    pub async fn flush(&self) -> Result<(), StoreError> {
        self.0.engine.flush().await
    }

    /// Listens for changes from now on.
    pub fn watch(&self) -> Watch {
        Watch(self.0.engine.watch())
    }

    fn seal(&self, write: &Write, version: Version) -> Result<EngineWrite, StoreError> {
        let key = write.key.encode();
        let value = write
            .value
            .as_ref()
            .map(|value| self.seal_value(&key, value, version))
            .transpose()?;
        Ok(EngineWrite {
            key,
            expect: write.expect,
            value,
        })
    }

    fn seal_value(&self, key: &[u8], value: &Value, version: Version) -> Result<EngineRecord, StoreError> {
        let kind = value.kind();
        let sealed = self.0.sealer.seal(kind, key, version, &value.encode())?;
        let size = key.len() + sealed.len();
        if size > MAX_RECORD {
            return Err(StoreError::TooBig { kind, size });
        }
        Ok(EngineRecord { version, sealed })
    }

    fn unseal(&self, key: &Key, bytes: &[u8], record: EngineRecord) -> Result<Record, StoreError> {
        let kind = key.kind();
        let plain = self.0.sealer.open(kind, bytes, record.version, record.sealed)?;
        Ok(Record {
            version: record.version,
            value: Value::decode(kind, &plain)?,
        })
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store(box key {})", self.0.box_key.id())
    }
}

fn check(batch: &Batch, durability: Durability) -> Result<(), StoreError> {
    let mut seen = HashSet::new();
    for write in &batch.0 {
        let kind = write.key.kind();
        if !seen.insert(&write.key) {
            return Err(StoreError::TwiceInBatch(kind));
        }
        if let Some(value) = write
            .value
            .as_ref()
            .map(Value::kind)
            .filter(|value| *value != kind)
        {
            return Err(StoreError::Mismatch { key: kind, value });
        }
        if durability == Durability::Lazy && write.expect != Expect::Any {
            return Err(StoreError::LazyCondition(kind));
        }
    }
    Ok(())
}

/// Tells which keys changed, batch by batch, in order.
pub struct Watch(Watching);

/// What a [`Watch`] tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// One batch wrote these keys.
    Keys(Vec<Key>),
    /// Some changes were missed, or this version cannot name what changed: reload whatever you keep.
    Lagged,
}

impl Watch {
    /// The next change; `None` when the store is gone. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Change> {
        match self.0.recv().await {
            Ok(keys) => {
                let keys: Result<Vec<Key>, DecodeError> = keys.iter().map(|key| Key::decode(key)).collect();
                Some(keys.map_or(Change::Lagged, Change::Keys))
            }
            Err(RecvError::Lagged(_)) => Some(Change::Lagged),
            Err(RecvError::Closed) => None,
        }
    }
}

/// Why the store did not do as asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// The engine could not read.
    Read(String),
    /// The engine could not write this; whether it is on the disk is open.
    Write(String),
    /// An earlier write failed, so nothing is written any more. Reads go on.
    Stopped(String),
    /// An earlier write found no room, so nothing is written before there is some. Reads go on.
    Full(String),
    /// A record did not open.
    Unseal(UnsealError),
    /// A record or key is not readable by this version.
    Decode(DecodeError),
    /// The operating system gave no random bytes.
    Random,
    /// A record above [`MAX_RECORD`].
    TooBig {
        /// What kind of record it is.
        kind: Kind,
        /// Its size in bytes, sealed.
        size: usize,
    },
    /// A value of another kind than its key.
    Mismatch {
        /// What the key names.
        key: Kind,
        /// What the value is.
        value: Kind,
    },
    /// A batch names one key twice.
    TwiceInBatch(Kind),
    /// A lazy batch expects something; only [`Expect::Any`] can be promised without asking the disk.
    LazyCondition(Kind),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Read(cause) => write!(f, "the store cannot be read: {cause}"),
            StoreError::Write(cause) => write!(f, "the store cannot be written: {cause}"),
            StoreError::Stopped(cause) => write!(
                f,
                "the store stopped writing ({cause}); see to the disk, its free space first, then restart gatepost"
            ),
            StoreError::Full(cause) => write!(
                f,
                "the store has no room to write ({cause}); free some space on its disk, then it goes on by itself"
            ),
            StoreError::Unseal(error) => error.fmt(f),
            StoreError::Decode(error) => error.fmt(f),
            StoreError::Random => f.write_str("the operating system gave no random bytes"),
            StoreError::TooBig { kind, size } => {
                write!(
                    f,
                    "a {kind} record of {size} bytes is above the limit of {MAX_RECORD}"
                )
            }
            StoreError::Mismatch { key, value } => {
                write!(f, "a {value} value does not belong under a {key} key")
            }
            StoreError::TwiceInBatch(kind) => write!(f, "a batch writes the same {kind} record twice"),
            StoreError::LazyCondition(kind) => write!(f, "a lazy write of a {kind} record has a condition"),
        }
    }
}

impl std::error::Error for StoreError {}

impl From<UnsealError> for StoreError {
    fn from(error: UnsealError) -> Self {
        StoreError::Unseal(error)
    }
}

impl From<DecodeError> for StoreError {
    fn from(error: DecodeError) -> Self {
        StoreError::Decode(error)
    }
}

impl From<RandomFailed> for StoreError {
    fn from(_: RandomFailed) -> Self {
        StoreError::Random
    }
}
