//! A full disk.

use crate::support::program::{Program, configuration, phone, said};
use crate::support::upstream::{FakeUpstream, Script};
use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// A way to take all room away and give it back.
trait Room {
    fn take(&self, gateway: Pid);
    fn give_back(&self, gateway: Pid);
}

/// A limit of the size of files: writes fail as on a full disk, anywhere and without privileges.
struct Limit;

impl Limit {
    fn set(gateway: Pid, current: Option<u64>) {
        let limit = Rlimit {
            current,
            maximum: None,
        };
        prlimit(Some(gateway), Resource::Fsize, limit).unwrap();
    }
}

impl Room for Limit {
    fn take(&self, gateway: Pid) {
        Limit::set(gateway, Some(4096));
    }

    fn give_back(&self, gateway: Pid) {
        Limit::set(gateway, None);
    }
}

/// A small disk that is really full.
struct Ballast(PathBuf);

impl Room for Ballast {
    fn take(&self, _: Pid) {
        let mut ballast = File::create(&self.0).unwrap();
        while ballast.write_all(&[0; 4096]).is_ok() {}
    }

    fn give_back(&self, _: Pid) {
        std::fs::remove_file(&self.0).unwrap();
    }
}

/// A mounted tmpfs; it goes with its owner.
struct SmallDisk(TempDir);

impl SmallDisk {
    /// Nothing where this process may not mount.
    fn mount() -> Option<SmallDisk> {
        let directory = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=8m,mode=0700", "tmpfs"]);
        let output = mount.arg(directory.path()).output().ok()?;
        output.status.success().then(|| SmallDisk(directory))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn without_room_known_devices_go_on_and_with_room_everything_does() {
    let directory = tempfile::tempdir().unwrap();
    check(directory.path(), &Limit);
}

#[test]
fn the_same_on_a_disk_that_is_really_full() {
    let Some(disk) = SmallDisk::mount() else {
        eprintln!("skipped: mounting a small disk needs root");
        return;
    };
    check(disk.0.path(), &Ballast(disk.0.path().join("ballast")));
}

fn check(directory: &Path, room: &dyn Room) {
    let elsewhere = tempfile::tempdir().unwrap();
    let upstream = FakeUpstream::start(Script::default(), elsewhere.path());
    let config = configuration(&upstream, directory, "", "");
    // A limit of file sizes comes with a signal, which a full disk has not.
    let mut gateway = Program::run_limited(&config, "trap '' XFSZ");
    for login in ["alice", "bob"] {
        said(&config, &["person", "add", login]).unwrap();
    }
    let hers = format!("secret@{}", phone(&config, "alice").unwrap().code());
    let bobs_phone = phone(&config, "bob").unwrap();
    let (mut session, answer) = gateway.sign_in("alice", &hers);
    assert!(answer.starts_with("a OK"), "{answer}");

    room.take(gateway.pid());
    // What is on the disk already may take a few more.
    let mut added = Vec::new();
    while let Some(login) = (added.len() < 1000).then(|| format!("p{}", added.len())) {
        if said(&config, &["person", "add", &login]).is_none() {
            break;
        }
        added.push(login);
    }
    let line = gateway.wait_for_log("event=store-stopped");
    assert!(
        line.contains("ERROR") && line.contains("free some space on its disk"),
        "{line}"
    );
    let asked = upstream.connections();
    let (mut bob, answer) = gateway.sign_in("bob", &format!("secret@{}", bobs_phone.code()));
    assert!(answer.starts_with("a NO [UNAVAILABLE]"), "{answer}");
    assert_eq!(
        upstream.connections(),
        asked,
        "no password left without a written claim"
    );
    assert!(
        said(&config, &["device", "revoke", "alice", "--all"]).is_none(),
        "not acknowledged"
    );
    for _ in 0..3 {
        let (_, answer) = gateway.sign_in("alice", &hers);
        assert!(answer.starts_with("a OK"), "a known device: {answer}");
    }
    assert_eq!(session.command("n", "NOOP"), "n OK NOOP done");

    room.give_back(gateway.pid());
    gateway.wait_for_log("event=store-writes-again");
    let his = format!("secret@{}", bobs_phone.code());
    let answer = bob.command("b", &format!("LOGIN bob {his}"));
    assert!(
        answer.starts_with("b OK"),
        "the same connection and, maybe, literal: {answer}"
    );
    assert_eq!(session.command("n", "NOOP"), "n OK NOOP done");
    assert_eq!(gateway.logged("event=store-stopped").len(), 1, "said once");

    gateway.signal(Signal::KILL);
    gateway.wait();
    let gateway = Program::run(&config);
    assert!(gateway.logged("event=store-repaired").is_empty());
    for (login, literal) in [("alice", &hers), ("bob", &his)] {
        let (_, answer) = gateway.sign_in(login, literal);
        assert!(answer.starts_with("a OK"), "{login}: {answer}");
    }
    let people = said(&config, &["person", "list", "--json"]).unwrap();
    for login in &added {
        assert!(
            people.contains(&format!("\"{login}@example.org\"")),
            "{login} was acknowledged"
        );
    }
}
