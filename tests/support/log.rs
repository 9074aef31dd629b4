//! What gateways in this process write to the log.

use log::kv::{Error, Key, Value, VisitSource};
use log::{LevelFilter, Log, Metadata, Record};
use std::fmt::Write;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Begins to keep what is logged; everything from there on, of all tests of this process.
pub fn keep() {
    // An error means that another test was first.
    if log::set_logger(&KEPT).is_ok() {
        log::set_max_level(LevelFilter::Info);
    }
}

/// Waits until there are so many lines with all of these words, keys and values behind the text, and gives them back.
pub fn wait_for(words: &[&str], count: usize) -> Vec<String> {
    let fits = |line: &&String| words.iter().all(|word| line.contains(word));
    let few = |lines: &mut Vec<String>| lines.iter().filter(fits).count() < count;
    let (lines, _) = KEPT
        .changed
        .wait_timeout_while(KEPT.lines(), PATIENCE, few)
        .unwrap();
    lines.iter().filter(fits).cloned().collect()
}

/// Longer than anything that is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

static KEPT: Kept = Kept {
    lines: Mutex::new(Vec::new()),
    changed: Condvar::new(),
};

struct Kept {
    lines: Mutex<Vec<String>>,
    changed: Condvar,
}

impl Kept {
    fn lines(&self) -> MutexGuard<'_, Vec<String>> {
        // Some lines are written while a task panics.
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log for Kept {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let mut line = format!("{} {}", record.level(), record.args());
        let _ = record.key_values().visit(&mut Pairs(&mut line));
        self.lines().push(line);
        self.changed.notify_all();
    }

    fn flush(&self) {}
}

struct Pairs<'a>(&'a mut String);

impl<'kvs> VisitSource<'kvs> for Pairs<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        let _ = write!(self.0, " {key}={value}");
        Ok(())
    }
}
