//! A full disk, and how writing goes on when there is room again.
//!
//! One failed write stops sled for good: it keeps the error and refuses whatever comes, while it still reads. The writer
//! then waits for room, closes that sled and opens another, which finds everything that was ever acknowledged: nothing was
//! acknowledged since. What was not may be there or not; caches are told to forget everything.

use super::{LOG, Shared, Stopped, is_released, ladder, quietly};
use crate::store::files;
use crate::store::open::OpenError;
use ::sled::Db;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::sync::PoisonError;
use std::thread;
use std::time::{Duration, Instant};

/// How often the writer looks for room.
const LOOK: Duration = Duration::from_secs(1);

/// What must fit for another try, in bytes: two of sled's segments.
const ROOM: usize = 1024 * 1024;

impl Shared {
    /// Waits for room and opens sled again. False when the store closes meanwhile or cannot be opened.
    pub(super) fn resume_with_room(&self) -> bool {
        loop {
            if self.closes_within(LOOK) {
                return false;
            }
            if self.try_room().is_ok() {
                match self.open_again() {
                    Ok(()) => return true,
                    Err(stopped @ Stopped::Broken(_)) => {
                        self.stop(stopped);
                        return false;
                    }
                    Err(Stopped::Full(_)) => {}
                }
            }
        }
    }

    fn closes_within(&self, time: Duration) -> bool {
        let waiting = self.waiting();
        let (waiting, _) = self
            .wake
            .wait_timeout_while(waiting, time, |waiting| !waiting.closing)
            .unwrap_or_else(PoisonError::into_inner);
        waiting.closing
    }

    /// Writes where sled's log would grow: as many bytes, and as far out, because a limit of a file's size is met only there.
    fn try_room(&self) -> io::Result<()> {
        let path = self.dir.join("room");
        files::remove_if_there(&path)?;
        let tried = File::create_new(&path).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.log.metadata()?.len()))?;
            file.write_all(&vec![0xa5; ROOM])?;
            file.sync_all()
        });
        files::remove_if_there(&path)?;
        tried
    }

    fn open_again(&self) -> Result<(), Stopped> {
        let old = self.db_alone().take();
        // In a thread, because a sled that hangs must not take the writer along; whether it is gone shows at its lock.
        thread::spawn(|| quietly(|| old.map(close)));
        if !File::open(self.dir.join(LOG)).is_ok_and(|log| is_released(&log)) {
            return Err(Stopped::Broken("sled does not let go of its files".to_owned()));
        }
        let (new, repaired) = ladder::open(&self.dir).map_err(|error| match error {
            OpenError::DiskFull(_) => Stopped::Full(error.to_string()),
            _ => Stopped::Broken(error.to_string()),
        })?;
        *self.db_alone() = Some(new);
        self.waiting().go_on(Instant::now());
        self.changes.tell_all();
        if let Some(repaired) = repaired {
            log::error!(event = "store-repaired"; "the store was damaged and has been repaired: {repaired}");
        }
        log::info!(event = "store-writes-again"; "there is room on the disk: the store writes again");
        Ok(())
    }
}

/// Closes a sled that has failed. Threads of its own may wait for the write that failed, because that woke nobody; one more
/// write, which is refused, does.
fn close(failed: Db) {
    if failed.context.global_error().is_err() {
        let _ = failed.insert(b"", b"");
    }
}
