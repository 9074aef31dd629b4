//! Opening the store at the start of the program: the directory, its lock, the box key, the engine, the layout.

use super::files::{self, DirLock, LockError};
use super::records::{Batch, Durability, Expect, Key, KeyRange, Meta, UnixTime, Value};
use super::seal::{BoxKey, BoxKeyError, KeyId, UnsealError};
use super::wait::block_on;
use super::{Store, StoreError, sled};
use ring::rand::{SecureRandom, SystemRandom};
use serde::Deserialize;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use tokio::task::unconstrained;

/// Where records are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The data directory; made if it is not there.
    pub path: PathBuf,
    /// By what.
    pub engine: EngineKind,
}

/// What keeps records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    /// The embedded engine, in the data directory.
    #[default]
    Sled,
    /// Nothing survives a restart, no file is touched: for trying things out.
    Memory,
}

/// An open store.
#[derive(Debug)]
pub struct Opened {
    /// The store.
    pub store: Store,
    /// What had to be repaired, in words for the administrator. To be said loudly.
    pub repaired: Option<String>,
}

/// Opens the store. Blocks: for milliseconds, or for as long as a repair copies files.
///
/// # Errors
/// Every [`OpenError`]. Nothing is changed by a failed opening, except what [`OpenError::Damaged`] tells.
pub fn open(settings: &Settings) -> Result<Opened, OpenError> {
    match settings.engine {
        EngineKind::Memory => Ok(Opened {
            store: Store::memory(BoxKey::generate()?),
            repaired: None,
        }),
        EngineKind::Sled => open_directory(&settings.path),
    }
}

/// Version of the layout of keys that this program reads and writes.
const LAYOUT: u32 = 1;

fn open_directory(dir: &Path) -> Result<Opened, OpenError> {
    files::create_private_dir(dir).map_err(|error| OpenError::from_io(dir, &error))?;
    let lock = DirLock::take(&dir.join("lock")).map_err(|error| match error {
        LockError::Held(pid) => OpenError::Locked { pid },
        LockError::Io(error) => OpenError::from_io(dir, &error),
    })?;
    let records = dir.join("records");
    let box_key = box_key(dir, &records)?;
    let opened = sled::open(&records, lock).and_then(|(engine, repaired)| {
        let store = Store::new(Box::new(engine), box_key);
        // Unconstrained: inside a task that has used up its turn, a future of tokio's would wait for the runtime, which
        // waits for us.
        block_on(unconstrained(greet(&store, &dir.join(FOUNDED))))?;
        Ok(Opened { store, repaired })
    });
    opened.map_err(|error| match error {
        // A copy from an earlier start still helps: what is in place now may be less than what was found then.
        OpenError::Damaged { cause, copy: None } => OpenError::Damaged {
            cause,
            copy: newest_copy(dir),
        },
        other => other,
    })
}

/// Empty; there from the moment on which the first record is on the disk. Without it a store whose log was lost would
/// look like one that was never used, and the gateway would start with nobody enrolled and nothing remembered.
const FOUNDED: &str = "founded";

fn newest_copy(dir: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(dir).ok()?.flatten();
    let copies = entries.filter(|entry| {
        entry
            .file_name()
            .to_string_lossy()
            .starts_with("records.damaged-")
    });
    copies.map(|entry| entry.path()).max()
}

/// The box key; a new one only where there is nothing yet that an old one sealed.
fn box_key(dir: &Path, records: &Path) -> Result<BoxKey, OpenError> {
    let path = dir.join("box.key");
    match BoxKey::load(&path) {
        Err(BoxKeyError::Missing(_)) if !records.exists() && !dir.join(FOUNDED).exists() => {
            Ok(BoxKey::create(&path)?)
        }
        other => Ok(other?),
    }
}

/// Reads who this store is, or makes it somebody.
async fn greet(store: &Store, founded: &Path) -> Result<(), OpenError> {
    let found = store.get(vec![Key::Meta]).await.map_err(|error| match error {
        StoreError::Unseal(UnsealError::OtherKey { found, ours, .. }) => {
            OpenError::OtherBoxKey { found, ours }
        }
        other => OpenError::Store(other),
    })?;
    match found.into_iter().next().flatten().map(|record| record.value) {
        Some(Value::Meta(meta)) if meta.layout > LAYOUT => Err(OpenError::LaterLayout { found: meta.layout }),
        Some(_) => mark(founded),
        None if founded.exists() || !store.scan(KeyRange::all(), 1).await?.records.is_empty() => {
            Err(OpenError::Damaged {
                cause: "its first record is gone".to_owned(),
                copy: None,
            })
        }
        None => {
            found_new(store).await?;
            mark(founded)
        }
    }
}

fn mark(founded: &Path) -> Result<(), OpenError> {
    if founded.exists() {
        return Ok(());
    }
    files::create_private(founded, b"").map_err(|error| OpenError::from_io(founded, &error))
}

async fn found_new(store: &Store) -> Result<(), OpenError> {
    let mut store_id = [0; 16];
    SystemRandom::new()
        .fill(&mut store_id)
        .map_err(|_| StoreError::Random)?;
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let meta = Meta {
        layout: LAYOUT,
        store_id,
        created: UnixTime(since.as_secs()),
    };
    let batch = Batch::default().put(Key::Meta, Expect::Absent, Value::Meta(meta));
    // Nobody else has the store yet: there can be no conflict.
    store.commit(batch, Durability::Synced).await?;
    Ok(())
}

/// Why there is no store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// Another process uses the data directory.
    Locked {
        /// Its process id, where it is known.
        pid: Option<u32>,
    },
    /// We may not read or write there.
    NoPermission(PathBuf),
    /// The disk is full.
    DiskFull(PathBuf),
    /// Another error of the operating system.
    Io {
        /// Where.
        path: PathBuf,
        /// What it said.
        cause: String,
    },
    /// There is no usable box key.
    BoxKey(BoxKeyError),
    /// The box key is not the one that sealed this store.
    OtherBoxKey {
        /// The key that sealed it.
        found: KeyId,
        /// The key in the file.
        ours: KeyId,
    },
    /// A later version of Gatepost made this store.
    LaterLayout {
        /// Its layout.
        found: u32,
    },
    /// The engine's files are damaged beyond what can be repaired here.
    Damaged {
        /// What is wrong.
        cause: String,
        /// Where the directory was copied before a repair was tried.
        copy: Option<PathBuf>,
    },
    /// The store opened, but its first record did not.
    Store(StoreError),
}

impl OpenError {
    /// Sorts an error of the operating system by what can be done about it.
    pub(super) fn from_io(path: &Path, error: &io::Error) -> OpenError {
        let path = path.to_owned();
        match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                OpenError::NoPermission(path)
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => OpenError::DiskFull(path),
            _ => OpenError::Io {
                path,
                cause: error.to_string(),
            },
        }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Locked { pid: Some(pid) } => write!(f, "the store is in use by process {pid}"),
            OpenError::Locked { pid: None } => f.write_str("the store is in use by another process"),
            OpenError::NoPermission(path) => write!(
                f,
                "no permission to read and write {}; run as the user that owns it, or change its owner",
                path.display()
            ),
            OpenError::DiskFull(path) => {
                write!(
                    f,
                    "the disk that holds {} is full; free some space and start again",
                    path.display()
                )
            }
            OpenError::Io { path, cause } => write!(f, "{} cannot be used: {cause}", path.display()),
            OpenError::BoxKey(error) => error.fmt(f),
            OpenError::OtherBoxKey { found, ours } => write!(
                f,
                "the store is sealed with box key {found}, but box.key holds {ours}; put the box key of this store back"
            ),
            OpenError::LaterLayout { found } => write!(
                f,
                "the store has layout {found}, this version reads up to {LAYOUT}; run the version that wrote it, or \
                 restore a backup made before the upgrade"
            ),
            OpenError::Damaged { cause, copy } => {
                write!(f, "the store is damaged ({cause}); restore a backup")?;
                match copy {
                    Some(copy) => write!(f, "; a copy of what was found is at {}", copy.display()),
                    None => Ok(()),
                }
            }
            OpenError::Store(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for OpenError {}

impl From<BoxKeyError> for OpenError {
    fn from(error: BoxKeyError) -> Self {
        OpenError::BoxKey(error)
    }
}

impl From<StoreError> for OpenError {
    fn from(error: StoreError) -> Self {
        OpenError::Store(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_system_are_sorted_by_what_helps() {
        let sorted = |errno: rustix::io::Errno| OpenError::from_io(Path::new("/data"), &errno.into());
        let path = PathBuf::from("/data");
        assert_eq!(
            sorted(rustix::io::Errno::ACCESS),
            OpenError::NoPermission(path.clone())
        );
        assert_eq!(
            sorted(rustix::io::Errno::PERM),
            OpenError::NoPermission(path.clone())
        );
        assert_eq!(
            sorted(rustix::io::Errno::ROFS),
            OpenError::NoPermission(path.clone())
        );
        assert_eq!(
            sorted(rustix::io::Errno::NOSPC),
            OpenError::DiskFull(path.clone())
        );
        assert_eq!(sorted(rustix::io::Errno::DQUOT), OpenError::DiskFull(path));
        assert!(matches!(sorted(rustix::io::Errno::IO), OpenError::Io { .. }));
    }
}
