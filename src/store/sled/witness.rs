//! Notices a log that has lost its end.
//!
//! sled takes a log that breaks off for one that a crash cut short, and opens it without a word. After a crash that is right:
//! nothing behind the break was ever acknowledged. Where the disk lost or changed what was, it is not. So it is written down
//! now and then how far the log was on the disk for certain; a store that opens with less has lost something.
//!
//! The witness is not synced itself: an older one, or none, tells less and never anything false.

use crate::store::files;
use ::sled::Db;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Writes down how far the log is on the disk.
pub(super) struct Witness {
    path: PathBuf,
    wrote: Option<Instant>,
}

/// Between two of them: flash wears, and what happened within a minute is what an administrator remembers.
const PAUSE: Duration = Duration::from_secs(60);

impl Witness {
    pub(super) fn new(dir: &Path) -> Witness {
        Witness {
            path: dir.join(NAME),
            wrote: None,
        }
    }

    /// Everything up to `position` is on the disk.
    pub(super) fn saw(&mut self, position: i64, now: Instant) {
        if self
            .wrote
            .is_none_or(|wrote| now.saturating_duration_since(wrote) >= PAUSE)
        {
            self.write(position);
            self.wrote = Some(now);
        }
    }

    /// Writes it now; on a full disk not at all.
    pub(super) fn write(&self, position: i64) {
        let unfinished = self.path.with_extension("new");
        if fs::write(&unfinished, format!("{HEAD}{position}\n"))
            .and_then(|()| fs::rename(&unfinished, &self.path))
            .is_err()
        {
            let _ = files::remove_if_there(&unfinished);
        }
    }
}

/// Whether a log that was just opened is shorter than it was known to be. Whoever asks and goes on begins a new witness.
pub(super) fn is_short(dir: &Path, db: &Db) -> bool {
    let text = fs::read_to_string(dir.join(NAME)).unwrap_or_default();
    let known = text
        .strip_prefix(HEAD)
        .and_then(|rest| rest.strip_suffix('\n')?.parse().ok());
    known.is_some_and(|known: i64| position(db) < known)
}

/// How far the log goes: only grows while nothing is lost.
pub(super) fn position(db: &Db) -> i64 {
    db.context.pagecache.log.stable_offset()
}

const NAME: &str = "witness";
const HEAD: &str = "the log is on the disk up to ";
