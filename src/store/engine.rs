//! What lies under a [`Store`](super::Store): opaque bytes with versions.
//!
//! An engine never sees a record in the open. It keeps sorted byte strings, carries out conditional batches whole or not
//! at all, and tells who listens which keys changed.

use super::records::{Durability, Expect, Order, Version};
use super::{BoxFuture, StoreError};
use std::sync::Arc;
use tokio::sync::broadcast;

/// A place that keeps records.
pub trait Engine: Send + Sync + 'static {
    /// Reads records, in the order of the keys.
    fn get(&self, keys: Vec<Vec<u8>>) -> BoxFuture<'_, Result<Vec<Option<EngineRecord>>, StoreError>>;

    /// Reads at most `limit` records of a range, in its order. The range is not empty.
    fn scan(&self, range: EngineRange, limit: usize) -> BoxFuture<'_, Result<EnginePage, StoreError>>;

    /// Carries out a batch whole or not at all. No key is in it twice; a lazy one expects nothing.
    ///
    /// Dropping the future does not take the batch back once it waits for its turn.
    fn commit(
        &self,
        batch: EngineBatch,
        durability: Durability,
    ) -> BoxFuture<'_, Result<EngineOutcome, StoreError>>;

    /// Brings every commit that was answered before, lazy ones too, to the disk.
    fn flush(&self) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Listens for changes from now on.
    fn watch(&self) -> Watching;
}

/// A sealed record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineRecord {
    /// Its version; given by the store, unique among all that this key ever had.
    pub version: Version,
    /// The sealed bytes.
    pub sealed: Vec<u8>,
}

/// One write.
#[derive(Clone, Debug)]
pub struct EngineWrite {
    /// Which record.
    pub key: Vec<u8>,
    /// Under which condition.
    pub expect: Expect,
    /// The new record; `None` removes it.
    pub value: Option<EngineRecord>,
}

/// Writes that happen together or not at all.
#[derive(Clone, Debug, Default)]
pub struct EngineBatch(pub Vec<EngineWrite>);

impl EngineBatch {
    /// The keys it writes.
    pub fn keys(&self) -> Vec<Vec<u8>> {
        self.0.iter().map(|write| write.key.clone()).collect()
    }
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineOutcome {
    /// Carried out.
    Done,
    /// Nothing was written: the write of this number did not find what it expects.
    Conflict(usize),
}

/// A stretch of keys; never empty.
#[derive(Clone, Debug)]
pub struct EngineRange {
    /// The first key.
    pub from: Vec<u8>,
    /// Behind the last key.
    pub to: Vec<u8>,
    /// In which order.
    pub order: Order,
}

/// Part of a range.
#[derive(Clone, Debug)]
pub struct EnginePage {
    /// Keys and records, in the order asked for.
    pub records: Vec<(Vec<u8>, EngineRecord)>,
    /// Whether the range holds more behind them.
    pub more: bool,
}

impl EnginePage {
    /// A page of at most `limit` records, from up to `limit + 1` that were found.
    pub fn cut(mut records: Vec<(Vec<u8>, EngineRecord)>, limit: usize) -> EnginePage {
        let more = records.len() > limit;
        records.truncate(limit);
        EnginePage { records, more }
    }
}

/// Keys that one batch wrote.
pub type ChangedKeys = Arc<[Vec<u8>]>;

/// Receives what [`Changes`] tells.
pub type Watching = broadcast::Receiver<ChangedKeys>;

/// Tells listeners which keys changed.
pub struct Changes(broadcast::Sender<ChangedKeys>);

/// A listener that falls further behind than this many batches is told that it missed some. At most a few hundred KiB,
/// shared by all listeners.
const REMEMBERED: usize = 1024;

impl Default for Changes {
    fn default() -> Self {
        Changes(broadcast::Sender::new(REMEMBERED))
    }
}

impl Changes {
    /// Tells one batch's keys. The caller keeps the order.
    pub fn tell(&self, keys: Vec<Vec<u8>>) {
        if !keys.is_empty() {
            // An error means that nobody listens.
            let _ = self.0.send(keys.into());
        }
    }

    /// Tells that anything may have changed: a key that is none, so that listeners reload all they keep.
    pub fn tell_all(&self) {
        self.tell(vec![Vec::new()]);
    }

    /// A listener from now on.
    pub fn watch(&self) -> Watching {
        self.0.subscribe()
    }
}
