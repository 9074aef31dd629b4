//! The program's log: one line a record, `time LEVEL target message key=value ...`, on standard error.
//!
//! Whoever logs never waits: lines go through a bounded channel to a thread that writes them, and what does not fit is
//! counted and reported. No field can forge a line: control characters are escaped, values that could be mistaken for
//! something else are quoted.
//!
//! Messages are constant text; everything that varies is a key with a value.

use super::{escape, rfc3339_millis};
use log::kv::{self, Key, Value, VisitSource};
use log::{LevelFilter, Record};
use serde::Deserialize;
use std::fmt;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, SystemTime};

/// How the program logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// The least important level that is written.
    pub level: LevelFilter,
    /// The same for the libraries that the program is made of. No louder than `level`.
    pub libraries: LevelFilter,
    /// In which form.
    pub format: Format,
}

/// The form of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people and `grep`.
    #[default]
    Text,
}

impl Default for LogSettings {
    fn default() -> Self {
        LogSettings {
            level: LevelFilter::Info,
            libraries: LevelFilter::Warn,
            format: Format::Text,
        }
    }
}

/// Sets the log up. Lines are written until the guard is dropped, which waits for those on their way.
///
/// # Errors
/// [`LogError`]: the log was set up before, or there is no thread for it.
pub fn init(settings: LogSettings) -> Result<LogGuard, LogError> {
    let (funnel, guard) = funnel(io::stderr()).map_err(|error| LogError::Thread(error.to_string()))?;
    let Format::Text = settings.format;
    let libraries = settings.level.min(settings.libraries);
    let mut builder = env_logger::Builder::new();
    for (module, loudest) in CAPPED {
        builder.filter_module(module, libraries.min(loudest));
    }
    builder
        .filter_level(libraries)
        .filter_module(env!("CARGO_CRATE_NAME"), settings.level)
        .target(env_logger::Target::Pipe(Box::new(funnel)))
        .write_style(env_logger::WriteStyle::Never)
        .format(|out, record| {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            writeln!(out, "{}", line(now.unwrap_or_default(), record))
        })
        .try_init()
        .map_err(|_| LogError::Twice)?;
    Ok(guard)
}

/// Why there is no log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogError {
    /// It was set up before.
    Twice,
    /// The system gave no thread for it.
    Thread(String),
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LogError::Twice => f.write_str("the log is set up already"),
            LogError::Thread(cause) => write!(f, "no thread for the log: {cause}"),
        }
    }
}

impl std::error::Error for LogError {}

/// Modules of libraries that show secrets at louder levels than these, whatever the settings say.
const CAPPED: [(&str, LevelFilter); 1] = [
    // TRACE writes every key that is looked up, and one of them is the login: people type passwords there.
    ("sled::tree", LevelFilter::Debug),
];

/// One record's line, without its end.
fn line(now: Duration, record: &Record<'_>) -> String {
    let mut line = String::with_capacity(USUAL_LINE);
    let (level, target) = (record.level(), escape(record.target()));
    // Writing to a string cannot fail.
    let _ = write!(line, "{} {level:5} {target} ", rfc3339_millis(now));
    match record.args().as_str() {
        Some(text) => line.push_str(&escape(text)),
        None => line.push_str(&escape(&record.args().to_string())),
    }
    // The visitor itself never fails, and a source that does has shown what it could.
    let _ = record.key_values().visit(&mut Pairs(&mut line));
    line
}

/// What most lines are shorter than.
const USUAL_LINE: usize = 512;

struct Pairs<'a>(&'a mut String);

impl<'kvs> VisitSource<'kvs> for Pairs<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        let line = &mut *self.0;
        line.push(' ');
        line.push_str(&escape(key.as_str()));
        line.push('=');
        let begins = line.len();
        // Writing to a string cannot fail.
        let _ = write!(line, "{value}");
        if !is_plain(&line[begins..]) {
            let text = line.split_off(begins);
            line.push('"');
            line.push_str(&escape(&text).replace('"', "\\\""));
            line.push('"');
        }
        Ok(())
    }
}

/// Whether a value stands for itself: nobody can take it for something else.
fn is_plain(value: &str) -> bool {
    !value.is_empty()
        && value
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'=' | b'\\'))
}

/// Waits, when dropped, until the lines on their way are written; at most a second.
#[derive(Debug)]
#[must_use = "what is logged after the guard is gone may get lost at the program's end"]
pub struct LogGuard(SyncSender<Item>);

impl Drop for LogGuard {
    fn drop(&mut self) {
        let (done, written) = sync_channel(1);
        // With a full channel the writer is stuck, and waiting would not help.
        if self.0.try_send(Item::Flush(done)).is_ok() {
            let _ = written.recv_timeout(Duration::from_secs(1));
        }
    }
}

/// Lines that may wait for the writer: a few hundred KiB, and only while standard error is stuck or for [`GATHER`].
const WAITING_LINES: usize = 4096;

/// How long lines are gathered. Nobody who reads a log notices, and 4096 lines within it would be a million a second.
const GATHER: Duration = Duration::from_millis(4);

/// Gathered lines are written when there are so many bytes of them.
const MOST_AT_ONCE: usize = 64 * 1024;

enum Item {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

/// Where env_logger writes to.
struct Funnel {
    items: SyncSender<Item>,
    dropped: Arc<AtomicU64>,
}

impl Write for Funnel {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Err(TrySendError::Full(_)) = self.items.try_send(Item::Line(line.to_vec())) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn funnel(to: impl Write + Send + 'static) -> io::Result<(Funnel, LogGuard)> {
    let (items, received) = sync_channel(WAITING_LINES);
    let dropped = Arc::new(AtomicU64::new(0));
    let writer = {
        let dropped = dropped.clone();
        move || write_all(&received, &dropped, to)
    };
    thread::Builder::new().name("log".into()).spawn(writer)?;
    Ok((
        Funnel {
            items: items.clone(),
            dropped,
        },
        LogGuard(items),
    ))
}

/// Writes what comes until the last sender is gone. The first line leaves at once; those that follow it within
/// [`GATHER`] leave together, because waking this thread for each of them costs whoever logs more than the line itself.
fn write_all(items: &Receiver<Item>, dropped: &AtomicU64, mut to: impl Write) {
    let mut lines = Vec::new();
    while let Ok(first) = items.recv() {
        let flushed = gather(first, items, &mut lines);
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            // Writing to a vector cannot fail.
            let _ = writeln!(
                lines,
                "{lost} lines of the log were dropped, because nothing took them in time"
            );
        }
        // An error here has nowhere to be reported.
        let _ = to.write_all(&lines).and_then(|()| to.flush());
        lines.clear();
        if flushed.is_empty() {
            thread::sleep(GATHER);
        }
    }
}

/// Takes what waits, as much as is written at once; who asked for a flush is told by dropping what is returned.
fn gather(first: Item, items: &Receiver<Item>, lines: &mut Vec<u8>) -> Vec<SyncSender<()>> {
    let mut flushed = Vec::new();
    let mut next = Some(first);
    while let Some(item) = next {
        match item {
            Item::Line(mut line) => lines.append(&mut line),
            Item::Flush(done) => flushed.push(done),
        }
        next = (lines.len() < MOST_AT_ONCE)
            .then(|| items.try_recv().ok())
            .flatten();
    }
    flushed
}

#[cfg(test)]
mod tests {
    use super::*;
    use log::Level;
    use std::sync::mpsc::{Sender, channel};

    fn check(message: &str, pairs: &[(&str, &str)], expected: &str) {
        let record = |args: fmt::Arguments<'_>| {
            let pairs: Vec<(&str, Value<'_>)> = pairs
                .iter()
                .map(|(key, value)| (*key, Value::from(*value)))
                .collect();
            let record = Record::builder()
                .level(Level::Info)
                .target("gatepost::x")
                .args(args)
                .key_values(&pairs)
                .build();
            line(Duration::from_millis(1_795_471_560_007), &record)
        };
        assert_eq!(
            record(format_args!("{message}")),
            format!("2026-11-23T22:06:00.007Z INFO  gatepost::x {expected}")
        );
    }

    #[test]
    fn writes_message_and_pairs_in_one_line() {
        check("started", &[], "started");
        check("a", &[("k", "v"), ("n", "1")], "a k=v n=1");
        check("a", &[("k", ""), ("n", "two words")], "a k=\"\" n=\"two words\"");
    }

    #[test]
    fn no_field_can_forge_a_line_or_another_field() {
        check("a\nb", &[], "a\\nb");
        check(
            "a",
            &[("client", "x\r\n2026 INFO event=session")],
            "a client=\"x\\r\\n2026 INFO event=session\"",
        );
        check(
            "a",
            &[("client", "x\" reason=known_device \"")],
            "a client=\"x\\\" reason=known_device \\\"\"",
        );
        check("a", &[("k\n", "\u{1b}[31m")], "a k\\n=\"\\u{1b}[31m\"");
    }

    /// A writer that says when it is asked to write, and writes only when it is told to.
    struct Slow {
        asked: Sender<()>,
        go: std::sync::mpsc::Receiver<()>,
        written: Sender<String>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.asked.send(());
            let _ = self.go.recv();
            let _ = self.written.send(String::from_utf8_lossy(bytes).into_owned());
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stuck_reader_costs_lines_and_never_time() {
        let (go, gate) = channel();
        let (asked, stuck) = channel();
        let (written, lines) = channel();
        let slow = Slow {
            asked,
            go: gate,
            written,
        };
        let (mut funnel, guard) = funnel(slow).unwrap();
        funnel.write_all(b"line\n").unwrap();
        stuck.recv().unwrap();
        for _ in 0..WAITING_LINES + 100 {
            funnel.write_all(b"line\n").unwrap();
        }
        drop(go);
        drop(guard);
        drop(funnel);
        let said: String = lines.iter().collect();
        let (told, written): (Vec<&str>, Vec<&str>) = said.lines().partition(|line| *line != "line");
        assert_eq!(
            told,
            ["100 lines of the log were dropped, because nothing took them in time"]
        );
        assert_eq!(written.len(), 1 + WAITING_LINES);
    }

    #[test]
    fn the_guard_waits_for_what_is_on_its_way() {
        let (go, gate) = channel();
        let (written, lines) = channel();
        let slow = Slow {
            asked: channel().0,
            go: gate,
            written,
        };
        let (mut funnel, guard) = funnel(slow).unwrap();
        funnel.write_all(b"last words\n").unwrap();
        go.send(()).unwrap();
        drop(guard);
        assert_eq!(lines.try_recv().unwrap(), "last words\n");
    }
}
