//! The ladder by which a store is opened, damaged or not.

use super::{CACHE, LOG, RELEASE, is_locked, quietly};
use crate::store::files;
use crate::store::open::OpenError;
use crate::store::records::Kind;
use ::sled::{Config, Db, Mode};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

/// Opens the engine's directory, repairing what can be repaired, and says what was.
///
/// 1. A snapshot whose writing was interrupted is removed; sled would refuse to open for ever.
/// 2. sled opens, its panics caught, and one record is read.
/// 3. If that fails and there are snapshots: the directory is copied aside, the snapshots are removed, and sled rebuilds
///    itself from its log. Without snapshots there is nothing to remove and no copy is made, so that a gateway which is
///    restarted in a loop does not fill the disk with copies.
///    A log that is damaged itself can come out shorter: who opens the store checks that its first record is there.
/// 4. If that fails too, the error names the copy and says what to do.
pub(super) fn open(dir: &Path) -> Result<(Db, Option<String>), OpenError> {
    let io = |error: io::Error| OpenError::from_io(dir, &error);
    files::create_private_dir(dir).map_err(io)?;
    let unfinished = remove_snapshots(dir, |name| name.ends_with(".generating")).map_err(io)?;
    let repaired =
        (unfinished > 0).then(|| "removed an unfinished snapshot that a crash left behind".to_owned());
    match try_open(dir) {
        Ok(db) => Ok((db, repaired)),
        Err(Failure::Damaged(cause)) => rebuild(dir, cause).map(|(db, done)| (db, Some(done))),
        Err(failure) => Err(failure.into_error(dir)),
    }
}

/// sled's names for snapshots begin like this.
const SNAPSHOT: &str = "snap.";

/// Why sled did not open.
enum Failure {
    Locked,
    Io(io::Error),
    Damaged(String),
}

impl Failure {
    fn into_error(self, dir: &Path) -> OpenError {
        match self {
            Failure::Locked => OpenError::Locked { pid: None },
            Failure::Io(error) => OpenError::from_io(dir, &error),
            Failure::Damaged(cause) => OpenError::Damaged { cause, copy: None },
        }
    }
}

fn try_open(dir: &Path) -> Result<Db, Failure> {
    let until = Instant::now() + RELEASE;
    loop {
        match try_open_once(dir) {
            // Ours is the only process; threads of a handle that was just dropped may still hold the file.
            Err(Failure::Locked) if Instant::now() < until => thread::sleep(Duration::from_millis(10)),
            other => return other,
        }
    }
}

fn try_open_once(dir: &Path) -> Result<Db, Failure> {
    let config = Config::new()
        .path(dir)
        .cache_capacity(CACHE)
        .mode(Mode::LowSpace)
        .use_compression(false)
        .flush_every_ms(Some(500));
    let opened = quietly(|| {
        let db = config.open()?;
        // Some damage shows only when something is read.
        db.get([Kind::Meta as u8])?;
        Ok(db)
    });
    match opened {
        Ok(Ok(db)) => Ok(db),
        Ok(Err(error)) => Err(failure(dir, error)),
        Err(panicked) => Err(Failure::Damaged(panicked)),
    }
}

fn failure(dir: &Path, error: ::sled::Error) -> Failure {
    let ::sled::Error::Io(error) = error else {
        return Failure::Damaged(error.to_string());
    };
    let held = || File::open(dir.join(LOG)).is_ok_and(|file| is_locked(&file));
    match error.kind() {
        // sled reports a held lock as words only.
        io::ErrorKind::Other if error.to_string().contains("could not acquire lock") || held() => {
            Failure::Locked
        }
        io::ErrorKind::PermissionDenied
        | io::ErrorKind::ReadOnlyFilesystem
        | io::ErrorKind::StorageFull
        | io::ErrorKind::QuotaExceeded => Failure::Io(error),
        _ => Failure::Damaged(error.to_string()),
    }
}

fn rebuild(dir: &Path, cause: String) -> Result<(Db, String), OpenError> {
    let io = |error: io::Error| OpenError::from_io(dir, &error);
    if snapshots(dir).map_err(io)?.is_empty() {
        return Err(OpenError::Damaged { cause, copy: None });
    }
    let copy = copy_aside(dir).map_err(io)?;
    remove_snapshots(dir, |_| true).map_err(io)?;
    match try_open(dir) {
        Ok(db) => {
            let done = format!(
                "the store did not open ({cause}); it was rebuilt from its log; look whether anything is missing, and restore \
                 a backup if so; a copy of what was found is at {}",
                copy.display()
            );
            Ok((db, done))
        }
        Err(Failure::Damaged(cause)) => Err(OpenError::Damaged {
            cause,
            copy: Some(copy),
        }),
        Err(failure) => Err(failure.into_error(dir)),
    }
}

fn snapshots(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(SNAPSHOT) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Removes the snapshots whose name is meant, and says how many.
fn remove_snapshots(dir: &Path, meant: impl Fn(&str) -> bool) -> io::Result<usize> {
    let mut removed = 0;
    for path in snapshots(dir)? {
        if path
            .file_name()
            .is_some_and(|name| meant(&name.to_string_lossy()))
        {
            files::remove_if_there(&path)?;
            removed += 1;
        }
    }
    Ok(removed)
}

fn copy_aside(dir: &Path) -> io::Result<PathBuf> {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let mut target = dir.as_os_str().to_owned();
    target.push(format!(".damaged-{now}"));
    // A box without a clock may come to the same second twice.
    while Path::new(&target).try_exists()? {
        target.push("+");
    }
    let target = PathBuf::from(target);
    files::copy_dir(dir, &target).inspect_err(|_| {
        // Half a copy is no copy, and the disk may be full because of it.
        let _ = fs::remove_dir_all(&target);
    })?;
    Ok(target)
}
