//! Opening the store: first start, restarts, locks, keys, and each step of the repair ladder on really damaged files.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use gatepost::store::records::{Batch, Durability, Expect, Key, KeyRange, Kind, Outcome, PersonId, Value};
use gatepost::store::seal::{BoxKey, BoxKeyError, UnsealError};
use gatepost::store::{EngineKind, OpenError, Opened, Settings, Store, StoreError, open};
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

fn settings(dir: &Path) -> Settings {
    Settings {
        path: dir.to_owned(),
        engine: EngineKind::Sled,
    }
}

fn open_well(dir: &Path) -> Store {
    let Opened { store, repaired } = open(&settings(dir)).unwrap();
    assert_eq!(repaired, None);
    store
}

/// Opens after damage and returns what was said about it.
fn open_repaired(dir: &Path) -> (Store, String) {
    let Opened { store, repaired } = open(&settings(dir)).unwrap();
    (store, repaired.expect("a repair is told"))
}

fn login(n: u64) -> Key {
    Key::Login(format!("name{n:05}"))
}

async fn put(store: &Store, n: u64, durability: Durability) -> Result<Outcome, StoreError> {
    let value = Value::Login(PersonId(n.to_be_bytes()));
    store
        .commit(Batch::default().put(login(n), Expect::Any, value), durability)
        .await
}

async fn count(store: &Store) -> usize {
    store
        .scan(KeyRange::logins(), 100_000)
        .await
        .unwrap()
        .records
        .len()
}

/// A data directory with 500 records and a snapshot.
async fn filled() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let store = open_well(dir.path());
    for n in 0..500 {
        put(&store, n, Durability::Lazy).await.unwrap();
    }
    drop(store);
    // sled writes its snapshot when it opens.
    drop(open_well(dir.path()));
    assert!(!snapshots(dir.path()).is_empty());
    dir
}

fn snapshots(dir: &Path) -> Vec<PathBuf> {
    names(&dir.join("records"), "snap.")
}

fn copies(dir: &Path) -> Vec<PathBuf> {
    names(dir, "records.damaged-")
}

fn names(dir: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path())
        .collect()
}

#[tokio::test]
async fn the_first_start_makes_a_private_directory() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("not/there/yet");
    drop(open_well(&data));
    let mode = |name: &str| fs::metadata(data.join(name)).unwrap().mode() & 0o777;
    assert_eq!(
        (mode(""), mode("records"), mode("box.key"), mode("lock")),
        (0o700, 0o700, 0o600, 0o600)
    );
    let meta = async || match open_well(&data)
        .get(vec![Key::Meta])
        .await
        .unwrap()
        .remove(0)
        .unwrap()
        .value
    {
        Value::Meta(meta) => meta,
        other => panic!("{other:?}"),
    };
    let first = meta().await;
    assert_eq!(first.layout, 1);
    assert_eq!(meta().await, first, "it stays the same store");
}

#[tokio::test]
async fn synced_records_are_there_after_reopening_and_so_are_lazy_ones() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_well(dir.path());
    put(&store, 1, Durability::Synced).await.unwrap();
    put(&store, 2, Durability::Lazy).await.unwrap();
    store
        .commit(Batch::default().remove(login(1), Expect::Any), Durability::Lazy)
        .await
        .unwrap();
    let before = store
        .get(vec![login(2)])
        .await
        .unwrap()
        .remove(0)
        .unwrap()
        .version;
    // The last clone closes the store before its drop returns, or this could not be opened again at once.
    let clone = store.clone();
    drop(store);
    drop(clone);
    for _ in 0..20 {
        let store = open_well(dir.path());
        let found = store.get(vec![login(1), login(2)]).await.unwrap();
        assert!(found[0].is_none());
        assert_eq!(
            found[1].as_ref().unwrap().version,
            before,
            "a version means the same after a restart"
        );
    }
}

#[tokio::test]
async fn lazy_records_come_to_the_disk_by_themselves() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_well(dir.path());
    put(&store, 1, Durability::Lazy).await.unwrap();
    // What a power cut would leave: the files as they are now. It takes half a second; ten mean that nobody wrote it.
    let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        let copy = tempfile::tempdir().unwrap();
        let copied = Command::new("cp")
            .arg("-R")
            .arg(dir.path().join("."))
            .arg(copy.path())
            .status()
            .unwrap();
        assert!(copied.success());
        if count(&open(&settings(copy.path())).unwrap().store).await == 1 {
            return;
        }
        assert!(std::time::Instant::now() < until, "never written");
    }
}

#[tokio::test]
async fn a_second_process_is_told_who_holds_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_well(dir.path());
    let error = open(&settings(dir.path())).unwrap_err();
    assert_eq!(
        error,
        OpenError::Locked {
            pid: Some(std::process::id())
        }
    );
    assert_eq!(
        error.to_string(),
        format!("the store is in use by process {}", std::process::id())
    );
    put(&store, 1, Durability::Synced).await.unwrap();
    drop(store);
    open_well(dir.path());
}

#[tokio::test]
async fn a_program_that_holds_only_the_engines_lock_is_noticed() {
    let dir = filled().await;
    let log = fs::File::open(dir.path().join("records/db")).unwrap();
    rustix::fs::flock(&log, rustix::fs::FlockOperation::LockExclusive).unwrap();
    assert_eq!(
        open(&settings(dir.path())).unwrap_err(),
        OpenError::Locked { pid: None }
    );
    assert!(copies(dir.path()).is_empty(), "a lock is no damage");
    drop(log);
    assert_eq!(count(&open_well(dir.path())).await, 500);
}

#[tokio::test]
async fn a_box_key_is_never_replaced_by_a_new_one() {
    let dir = filled().await;
    let path = dir.path().join("box.key");
    let kept = fs::read(&path).unwrap();

    fs::remove_file(&path).unwrap();
    let error = open(&settings(dir.path())).unwrap_err();
    assert_eq!(
        error,
        OpenError::BoxKey(BoxKeyError::Missing(path.display().to_string()))
    );
    assert!(!path.exists());

    let other = BoxKey::create(&path).unwrap();
    match open(&settings(dir.path())).unwrap_err() {
        error @ OpenError::OtherBoxKey { found, ours } => {
            assert_eq!(ours, other.id());
            assert_ne!(found, ours);
            assert!(error.to_string().contains("put the box key of this store back"));
        }
        error => panic!("{error:?}"),
    }

    fs::write(&path, kept).unwrap();
    assert_eq!(count(&open_well(dir.path())).await, 500);
}

#[tokio::test]
async fn a_crash_at_the_very_first_start_leaves_a_store_that_opens() {
    let dir = tempfile::tempdir().unwrap();
    drop(open_well(dir.path()));
    // The first record was on the disk, the mark was not.
    fs::remove_file(dir.path().join("founded")).unwrap();
    drop(open_well(dir.path()));
    assert!(dir.path().join("founded").exists());
    // Neither was: the engine's files are there, and empty.
    fs::remove_file(dir.path().join("founded")).unwrap();
    fs::remove_dir_all(dir.path().join("records")).unwrap();
    drop(sled::open(dir.path().join("records")).unwrap());
    put(&open_well(dir.path()), 1, Durability::Synced).await.unwrap();
    assert_eq!(count(&open_well(dir.path())).await, 1);
}

#[tokio::test]
async fn a_store_that_lost_its_log_does_not_pass_for_a_new_one() {
    let dir = filled().await;
    fs::remove_dir_all(dir.path().join("records")).unwrap();
    assert!(matches!(
        open(&settings(dir.path())),
        Err(OpenError::Damaged { copy: None, .. })
    ));
}

#[test]
fn a_box_key_that_others_can_read_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(open_well(dir.path()));
    let path = dir.path().join("box.key");
    for mode in [0o640, 0o604, 0o620, 0o644, 0o601] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let error = open(&settings(dir.path())).unwrap_err();
        assert_eq!(
            error,
            OpenError::BoxKey(BoxKeyError::Exposed {
                path: path.display().to_string(),
                mode
            })
        );
        assert!(error.to_string().contains("run `chmod 600"), "{error}");
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
    open_well(dir.path());
}

#[test]
fn a_damaged_box_key_is_not_taken_for_another_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("box.key");
    let key = BoxKey::create(&path).unwrap();
    assert_eq!(BoxKey::load(&path).unwrap().id(), key.id());
    assert!(
        matches!(BoxKey::create(&path), Err(BoxKeyError::Io { .. })),
        "never overwritten"
    );
    assert_eq!(BoxKey::load(&path).unwrap().id(), key.id());
    let text = fs::read_to_string(&path).unwrap();
    let digit = text.find('\n').unwrap() + 5;
    let mut flipped = text.clone().into_bytes();
    flipped[digit] = if flipped[digit] == b'0' { b'1' } else { b'0' };
    let malformed = BoxKeyError::Malformed(path.display().to_string());
    let later = text.replace("key 1", "key 2");
    let damages: [&[u8]; 5] = [
        b"",
        &text.as_bytes()[..40],
        &flipped,
        later.as_bytes(),
        &[0xff; 93],
    ];
    for damage in damages {
        fs::write(&path, damage).unwrap();
        assert_eq!(BoxKey::load(&path).unwrap_err(), malformed, "{damage:?}");
    }
}

#[test]
fn a_crash_while_the_box_key_was_made_does_not_stop_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(dir.path().join("box.key.new"))
        .unwrap();
    drop(open_well(dir.path()));
    assert!(!dir.path().join("box.key.new").exists());
}

#[test]
fn a_file_in_place_of_the_directory_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    fs::write(&path, b"").unwrap();
    match open(&settings(&path)).unwrap_err() {
        OpenError::Io { path: told, .. } => assert_eq!(told, path),
        error => panic!("{error:?}"),
    }
}

#[test]
fn the_memory_engine_touches_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings {
        path: dir.path().join("data"),
        engine: EngineKind::Memory,
    };
    open(&settings).unwrap();
    assert!(!settings.path.exists());
}

// --- the ladder

#[tokio::test]
async fn an_unfinished_snapshot_is_removed() {
    let dir = filled().await;
    fs::write(dir.path().join("records/snap.00000000000FFFFF.generating"), b"").unwrap();
    let (store, said) = open_repaired(dir.path());
    assert!(said.contains("unfinished snapshot"), "{said}");
    assert_eq!(count(&store).await, 500);
    drop(store);
    assert!(copies(dir.path()).is_empty());
    open_well(dir.path());
}

#[tokio::test]
async fn damaged_snapshots_are_rebuilt_from_the_log() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 3] = [
        ("cut", |snapshot| {
            let file = fs::File::options().write(true).open(snapshot).unwrap();
            file.set_len(file.metadata().unwrap().len() / 2).unwrap();
        }),
        ("empty", |snapshot| fs::write(snapshot, b"").unwrap()),
        ("garbage", |snapshot| fs::write(snapshot, [0xa5; 4096]).unwrap()),
    ];
    for (name, damage) in damages {
        let dir = filled().await;
        let damaged = snapshots(dir.path());
        damaged.iter().for_each(|snapshot| damage(snapshot));
        let bytes = fs::read(&damaged[0]).unwrap();
        let (store, said) = open_repaired(dir.path());
        assert_eq!(count(&store).await, 500, "{name}");
        let copies = copies(dir.path());
        assert_eq!(copies.len(), 1, "{name}");
        assert!(
            said.contains("rebuilt") && said.contains(&copies[0].display().to_string()),
            "{name}: {said}"
        );
        assert_eq!(fs::metadata(&copies[0]).unwrap().mode() & 0o777, 0o700, "{name}");
        let kept = copies[0].join(damaged[0].file_name().unwrap());
        assert_eq!(
            fs::read(kept).unwrap(),
            bytes,
            "{name}: the copy shows what was found"
        );
        put(&store, 1000, Durability::Synced).await.unwrap();
        drop(store);
        assert_eq!(
            count(&open_well(dir.path())).await,
            501,
            "{name}: it is whole again"
        );
    }
}

#[tokio::test]
async fn a_damaged_log_gives_a_clear_error_and_one_copy_only() {
    let dir = filled().await;
    let log = dir.path().join("records/db");
    let length = fs::metadata(&log).unwrap().len() as usize;
    fs::write(&log, vec![0xa5; length]).unwrap();
    let copy = match open(&settings(dir.path())).unwrap_err() {
        error @ OpenError::Damaged { .. } => {
            assert!(error.to_string().contains("restore a backup"), "{error}");
            let OpenError::Damaged { copy, .. } = error else {
                unreachable!()
            };
            copy.expect("snapshots were removed, so there is a copy")
        }
        error => panic!("{error:?}"),
    };
    assert!(copy.join("db").exists());
    // A service manager starts us again and again: that must not fill the disk.
    for _ in 0..3 {
        assert!(matches!(
            open(&settings(dir.path())),
            Err(OpenError::Damaged { .. })
        ));
    }
    assert_eq!(copies(dir.path()), [copy]);
}

/// What opening a damaged store leads to.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Opening {
    /// Everything is there.
    Whole,
    /// It opens, and says that something may be missing.
    Told,
    /// It does not, and says what to do.
    Refused,
}

#[tokio::test]
async fn no_damage_goes_by_without_a_word() {
    use Opening::{Refused, Told, Whole};
    type Damage = fn(&Path);
    let damages: [(&str, Damage, Opening); 16] = [
        (
            "the log lost unused space",
            |dir| cut(dir, |length| length / 2),
            Whole,
        ),
        ("the log is empty", |dir| cut(dir, |_| 0), Refused),
        ("the log's last bytes are zero", |dir| zero(dir, 40), Told),
        ("the log's last page is zero", |dir| zero(dir, 4096), Told),
        ("all of the log is zero", |dir| zero(dir, 100_000), Refused),
        ("a bit of the log is flipped", |dir| flip(dir, 3), Told),
        ("no snapshot", forget_snapshots, Whole),
        (
            "no snapshot, unused space lost",
            |dir| {
                forget_snapshots(dir);
                cut(dir, |length| length / 2)
            },
            Whole,
        ),
        (
            "no snapshot, last bytes zero",
            |dir| {
                forget_snapshots(dir);
                zero(dir, 40)
            },
            Told,
        ),
        (
            "no snapshot, last page zero",
            |dir| {
                forget_snapshots(dir);
                zero(dir, 4096)
            },
            Told,
        ),
        (
            "no snapshot, a bit flipped early",
            |dir| {
                forget_snapshots(dir);
                flip(dir, 7)
            },
            Told,
        ),
        (
            "no snapshot, a bit flipped late",
            |dir| {
                forget_snapshots(dir);
                flip(dir, 2)
            },
            Told,
        ),
        (
            "conf is empty",
            |dir| fs::write(dir.join("conf"), b"").unwrap(),
            Whole,
        ),
        (
            "conf is garbage",
            |dir| fs::write(dir.join("conf"), [0xa5; 64]).unwrap(),
            Refused,
        ),
        (
            "conf is gone",
            |dir| fs::remove_file(dir.join("conf")).unwrap(),
            Whole,
        ),
        (
            "the directory of large values is gone",
            |dir| fs::remove_dir_all(dir.join("blobs")).unwrap(),
            Whole,
        ),
    ];
    for (name, damage, expected) in damages {
        let dir = filled().await;
        damage(&dir.path().join("records"));
        let opening = match open(&settings(dir.path())) {
            Ok(Opened { store, repaired }) => {
                let whole = holds_what_it_should(&store).await;
                match repaired {
                    None if whole => Whole,
                    None => panic!("{name}: something is missing, and nothing is said"),
                    Some(said) => {
                        assert!(
                            said.contains("look whether anything is missing"),
                            "{name}: {said}"
                        );
                        drop(store);
                        open_well(dir.path()); // It is said once.
                        Told
                    }
                }
            }
            Err(error) => {
                assert!(error.to_string().contains("restore a backup"), "{name}: {error}");
                Refused
            }
        };
        assert_eq!(opening, expected, "{name}");
    }
}

/// Whether all records are there; what is there must be right.
async fn holds_what_it_should(store: &Store) -> bool {
    let mut there = 0;
    for n in 0..500 {
        if let Ok(found) = store.get(vec![login(n)]).await
            && let Some(record) = &found[0]
        {
            assert!(matches!(record.value, Value::Login(PersonId(bytes)) if bytes == n.to_be_bytes()));
            there += 1;
        }
    }
    there == 500
}

/// Changes the log's length.
fn cut(dir: &Path, keep: impl Fn(u64) -> u64) {
    let log = fs::File::options().write(true).open(dir.join("db")).unwrap();
    log.set_len(keep(log.metadata().unwrap().len())).unwrap();
}

/// Changes what the log holds; what it never used is zero and not shown.
fn change_log(dir: &Path, change: impl Fn(&mut [u8])) {
    let mut bytes = fs::read(dir.join("db")).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    change(&mut bytes[..used]);
    fs::write(dir.join("db"), bytes).unwrap();
}

fn zero(dir: &Path, last: usize) {
    change_log(dir, |used| {
        let from = used.len().saturating_sub(last);
        used[from..].fill(0);
    });
}

fn flip(dir: &Path, part: usize) {
    change_log(dir, |used| used[used.len() / part] ^= 0x10);
}

fn forget_snapshots(dir: &Path) {
    for snapshot in names(dir, "snap.") {
        fs::remove_file(snapshot).unwrap();
    }
}

#[tokio::test]
async fn flipped_bits_in_the_log_are_never_read_as_data() {
    let dir = filled().await;
    let log = dir.path().join("records/db");
    let whole = fs::read(&log).unwrap();
    let used = whole.iter().rposition(|byte| *byte != 0).unwrap();
    for at in [used / 7, used / 3, used / 2, used - 40] {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        fs::write(&log, &bytes).unwrap();
        // Refused, rebuilt, unreadable or harmless: all may happen, a wrong value or a panic may not.
        if let Ok(Opened { store, .. }) = open(&settings(dir.path())) {
            holds_what_it_should(&store).await;
        }
    }
}

#[tokio::test]
async fn records_moved_within_the_files_do_not_open() {
    let dir = filled().await;
    {
        let sled = sled::open(dir.path().join("records")).unwrap();
        let (one, two) = (login(1).encode(), login(2).encode());
        let (a, b) = (sled.get(&one).unwrap().unwrap(), sled.get(&two).unwrap().unwrap());
        sled.insert(one, b).unwrap();
        sled.insert(two, a).unwrap();
        let three = login(3).encode();
        let mut other_version = sled.get(&three).unwrap().unwrap();
        other_version[7] ^= 1;
        sled.insert(three, other_version).unwrap();
    }
    let store = open_well(dir.path());
    for n in 1..=3 {
        let error = store.get(vec![login(n)]).await.unwrap_err();
        assert_eq!(error, StoreError::Unseal(UnsealError::Altered(Kind::Login)));
        assert!(!error.to_string().contains("name0"), "{error}");
    }
    assert!(store.get(vec![login(4)]).await.unwrap()[0].is_some());
    assert!(store.scan(KeyRange::logins(), 10).await.is_err());
}

#[tokio::test]
async fn nothing_readable_lies_on_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_well(dir.path());
    let seed = b"the seed that nobody may read".to_vec();
    let totp = gatepost::store::records::Totp {
        id: gatepost::store::records::FactorId([1; 8]),
        label: "the label that nobody may read".to_owned(),
        seed: seed.clone().into(),
        digits: 6,
        period: 30,
        hash: gatepost::store::records::TotpHash::Sha1,
        state: gatepost::store::records::FactorState::Active,
        created: gatepost::store::records::UnixTime(0),
    };
    let factors = Value::Factors(gatepost::store::records::Factors { totp: vec![totp] });
    let batch = Batch::default().put(Key::Factors(PersonId([9; 8])), Expect::Any, factors);
    store.commit(batch, Durability::Synced).await.unwrap();
    drop(store);
    let mut files = 0;
    for entry in fs::read_dir(dir.path().join("records")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let bytes = fs::read(&path).unwrap();
            files += 1;
            for secret in [seed.as_slice(), b"the label that nobody may read"] {
                assert!(
                    !bytes.windows(secret.len()).any(|window| window == secret),
                    "{}",
                    path.display()
                );
            }
        }
    }
    assert!(files > 0);
}

// --- another process of this very program, killed or starved

const CHILD: &str = "GATEPOST_TEST_CHILD";
/// The child stays until it can write again.
const RESUMES: &str = "GATEPOST_TEST_RESUMES";

/// Not a test by itself: what the child processes below run.
#[tokio::test]
async fn child() {
    let Ok(dir) = std::env::var(CHILD) else { return };
    let store = open(&settings(Path::new(&dir))).unwrap().store;
    for n in 0.. {
        match put(&store, n, Durability::Synced).await {
            Ok(_) => println!("acknowledged {n}"),
            Err(error) => {
                println!("first error: {error:?}");
                break;
            }
        }
    }
    println!(
        "next error: {:?}",
        put(&store, 0, Durability::Synced).await.unwrap_err()
    );
    // It waits for room in memory.
    put(&store, 0, Durability::Lazy).await.unwrap();
    println!("still reads {}", count(&store).await);
    if std::env::var(RESUMES).is_ok() {
        let since = Instant::now();
        while put(&store, 1_000_000, Durability::Synced).await.is_err() {
            assert!(
                since.elapsed() < Duration::from_secs(30),
                "it does not write again"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        println!("writes again, reads {}", count(&store).await);
    }
    drop(store);
    println!("closed");
}

fn run_child(dir: &Path, shell: &str) -> Child {
    let program = std::env::current_exe().unwrap();
    Command::new("sh")
        .args(["-c", &format!("{shell} exec \"$0\" child --exact --nocapture")])
        .arg(program)
        .env(CHILD, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn lines(child: &mut Child) -> impl Iterator<Item = String> {
    BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map(|line| line.unwrap())
}

fn acknowledged(line: &str) -> Option<u64> {
    // The test runner may print before it on the same line.
    line.split_once("acknowledged ")?.1.parse().ok()
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_when_the_process_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut last = 0;
    for enough in [50, 173, 391] {
        let mut child = run_child(dir.path(), "");
        let lines: Vec<u64> = lines(&mut child)
            .filter_map(|line| acknowledged(&line))
            .take(enough)
            .collect();
        child.kill().unwrap();
        child.wait().unwrap();
        last = last.max(*lines.last().unwrap());
        let store = open(&settings(dir.path())).unwrap().store;
        for n in 0..=last {
            assert!(
                store.get(vec![login(n)]).await.unwrap()[0].is_some(),
                "{n} was acknowledged"
            );
        }
    }
}

/// 1 MiB in the units of every shell's `ulimit`, or 2: enough to begin with. Soft, so that it can be raised.
const NO_ROOM: &str = "trap '' XFSZ; ulimit -S -f 2048;";

#[tokio::test]
async fn a_full_disk_stops_writing_but_not_reading() {
    let dir = tempfile::tempdir().unwrap();
    // A limit on the size of files fails writes as a full disk does; the signal that comes along is ignored.
    let mut child = run_child(dir.path(), NO_ROOM);
    let lines: Vec<String> = lines(&mut child).collect();
    assert!(child.wait().unwrap().success());
    let said = |what: &str| {
        lines
            .iter()
            .filter(|line| line.contains(what))
            .cloned()
            .collect::<Vec<_>>()
    };
    let acks: Vec<u64> = lines.iter().filter_map(|line| acknowledged(line)).collect();
    assert!(!acks.is_empty());
    assert!(said("first error: ")[0].contains("Write("), "{:?}", said("error"));
    assert!(said("next error: ")[0].contains("Full("), "{:?}", said("error"));
    assert_eq!(said("still reads").len(), 1);
    assert_eq!(said("closed").len(), 1);

    let store = open(&settings(dir.path())).unwrap().store;
    for n in &acks {
        assert!(
            store.get(vec![login(*n)]).await.unwrap()[0].is_some(),
            "{n} was acknowledged"
        );
    }
    put(&store, 0, Durability::Synced).await.unwrap();
}

#[tokio::test]
async fn writing_goes_on_when_there_is_room_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = run_child(dir.path(), &format!("{NO_ROOM} {RESUMES}=1; export {RESUMES};"));
    let pid = rustix::process::Pid::from_child(&child);
    let mut acknowledged_count = 0;
    let mut said = String::new();
    for line in lines(&mut child) {
        acknowledged_count += usize::from(acknowledged(&line).is_some());
        if line.contains("still reads ") {
            use rustix::process::{Resource, Rlimit, prlimit};
            let none = Rlimit {
                current: None,
                maximum: None,
            };
            prlimit(Some(pid), Resource::Fsize, none).unwrap();
        }
        if let Some((_, count)) = line.split_once("writes again, reads ") {
            said = count.to_owned();
        }
    }
    assert!(child.wait().unwrap().success());
    // All that was acknowledged, the new one, and the one whose answer was an error, which may be there or not.
    let reads: usize = said.parse().unwrap();
    assert!(
        (acknowledged_count + 1..=acknowledged_count + 2).contains(&reads),
        "{acknowledged_count} acknowledged, {reads} read"
    );
    assert_eq!(count(&open_well(dir.path())).await, reads);
    assert!(copies(dir.path()).is_empty() && !dir.path().join("records/room").exists());
}
