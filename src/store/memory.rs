//! An engine that forgets everything: for tests, and for trying Gatepost out without a disk.

use super::engine::{
    Changes, Engine, EngineBatch, EngineOutcome, EnginePage, EngineRange, EngineRecord, Watching,
};
use super::records::{Durability, Expect, Order};
use super::{BoxFuture, StoreError};
use std::collections::BTreeMap;
use std::future::ready;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Records in a sorted map.
#[derive(Default)]
pub(super) struct MemoryEngine {
    records: Mutex<BTreeMap<Vec<u8>, EngineRecord>>,
    changes: Changes,
}

impl MemoryEngine {
    fn records(&self) -> MutexGuard<'_, BTreeMap<Vec<u8>, EngineRecord>> {
        // Nothing panics while holding it, and no write is ever half done.
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn carry_out(&self, batch: EngineBatch) -> EngineOutcome {
        let mut records = self.records();
        let conflict = batch
            .0
            .iter()
            .position(|write| !expected(write.expect, records.get(&write.key)));
        if let Some(index) = conflict {
            return EngineOutcome::Conflict(index);
        }
        let keys = batch.keys();
        for write in batch.0 {
            match write.value {
                Some(record) => records.insert(write.key, record),
                None => records.remove(&write.key),
            };
        }
        // Told while the map is held, so that changes are told in the order in which they happened.
        self.changes.tell(keys);
        EngineOutcome::Done
    }

    fn page(&self, range: &EngineRange, limit: usize) -> EnginePage {
        let records = self.records();
        let found = records.range(range.from.clone()..range.to.clone());
        let copy = |(key, record): (&Vec<u8>, &EngineRecord)| (key.clone(), record.clone());
        let records: Vec<_> = match range.order {
            Order::Ascending => found.map(copy).take(limit.saturating_add(1)).collect(),
            Order::Descending => found.rev().map(copy).take(limit.saturating_add(1)).collect(),
        };
        EnginePage::cut(records, limit)
    }
}

fn expected(expect: Expect, found: Option<&EngineRecord>) -> bool {
    match expect {
        Expect::Any => true,
        Expect::Absent => found.is_none(),
        Expect::Equals(version) => found.is_some_and(|record| record.version == version),
    }
}

impl Engine for MemoryEngine {
    fn get(&self, keys: Vec<Vec<u8>>) -> BoxFuture<'_, Result<Vec<Option<EngineRecord>>, StoreError>> {
        let records = self.records();
        let found = keys.iter().map(|key| records.get(key).cloned()).collect();
        Box::pin(ready(Ok(found)))
    }

    fn scan(&self, range: EngineRange, limit: usize) -> BoxFuture<'_, Result<EnginePage, StoreError>> {
        Box::pin(ready(Ok(self.page(&range, limit))))
    }

    fn commit(
        &self,
        batch: EngineBatch,
        _durability: Durability,
    ) -> BoxFuture<'_, Result<EngineOutcome, StoreError>> {
        Box::pin(async move { Ok(self.carry_out(batch)) })
    }

    fn flush(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(ready(Ok(())))
    }

    fn watch(&self) -> Watching {
        self.changes.watch()
    }
}
