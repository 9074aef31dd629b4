//! Lazy writes: last seen, good networks, the sign-in log. In order, one after the other, and nobody waits for them.

use super::cache::Cache;
use crate::store::records::{Batch, Durability};
use crate::store::{Store, StoreError};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;

/// Takes lazy batches.
pub(super) struct Lazies {
    items: mpsc::Sender<Item>,
    cache: Arc<Cache>,
}

/// Batches that may wait, a few hundred bytes each. More than come within [`GATHER`] wait only while the disk is stuck;
/// what does not fit then is lost, which lazy writes may be.
const WAITING: usize = 4096;

/// How long batches are gathered, so that not every sign-in wakes the task that writes them and those that watch the
/// store. Short beside the half second that the store keeps them itself.
const GATHER: Duration = Duration::from_millis(50);

enum Item {
    Batch(Batch),
    Flush(oneshot::Sender<()>),
}

impl Lazies {
    /// Starts the task that writes. It ends with the last sender.
    pub(super) fn start(store: Store, cache: Arc<Cache>) -> Lazies {
        let (items, taken) = mpsc::channel(WAITING);
        tokio::spawn(write_all(store, cache.clone(), taken));
        Lazies { items, cache }
    }

    /// Writes a batch soon; the cache shows it at once.
    pub(super) fn write(&self, batch: Batch) {
        if batch.0.is_empty() {
            return;
        }
        // Before it is sent: the watch may repeat it as soon as the task has it.
        self.cache.write_through(&batch);
        if let Err(error) = self.items.try_send(Item::Batch(batch))
            && let Item::Batch(lost) = error.into_inner()
        {
            self.cache.forget(lost.0.iter().map(|write| &write.key));
            log::warn!(event = "lazy-write-lost"; "the store does not keep up; a lazy write was dropped");
        }
    }

    /// Waits until everything so far is in the store's hands.
    pub(super) async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        if self.items.send(Item::Flush(done)).await.is_ok() {
            // An error means that the task has ended, and with it everything that waited.
            let _ = flushed.await;
        }
    }
}

async fn write_all(store: Store, cache: Arc<Cache>, mut items: mpsc::Receiver<Item>) {
    while let Some(first) = items.recv().await {
        let mut has_written = false;
        let mut next = Some(first);
        while let Some(item) = next {
            match item {
                Item::Batch(batch) => {
                    write(&store, &cache, batch).await;
                    has_written = true;
                }
                Item::Flush(done) => drop(done),
            }
            next = items.try_recv().ok();
        }
        if has_written {
            sleep(GATHER).await;
        }
    }
}

async fn write(store: &Store, cache: &Cache, batch: Batch) {
    let keys: Vec<_> = batch.0.iter().map(|write| write.key.clone()).collect();
    if let Err(error) = store.commit(batch, Durability::Lazy).await {
        cache.forget(&keys);
        // A store that stopped has said so once; this would repeat it at every sign-in.
        if !matches!(error, StoreError::Stopped(_) | StoreError::Full(_)) {
            log::warn!(event = "lazy-write-failed", error:% = error; "a lazy write failed");
        }
    }
}
