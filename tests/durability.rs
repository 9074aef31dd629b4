//! What was acknowledged survives: the program is killed at random points, and the kernel is asked what it did when.
//!
//! SIGKILL leaves the kernel's cache in place; that the disk has it before anybody hears of it is what strace shows.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use support::client::Client;
use support::gateway::Phone;
use support::upstream::{FakeUpstream, Script};

const GATEPOST: &str = env!("CARGO_BIN_EXE_gatepost");

/// A running program; it dies with its owner.
struct Program {
    child: Child,
    address: SocketAddr,
}

impl Program {
    fn start(mut command: Command) -> Program {
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let mut log = String::new();
        let address = loop {
            let mut line = String::new();
            assert_ne!(lines.read_line(&mut line).unwrap(), 0, "it ended: {log}");
            let address = line
                .split_whitespace()
                .find_map(|word| word.strip_prefix("address="));
            if let Some(address) = address.filter(|_| line.contains("event=listening")) {
                break address.trim_matches('"').parse().unwrap();
            }
            log.push_str(&line);
        };
        thread::spawn(move || lines.read_to_end(&mut Vec::new()));
        Program { child, address }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What was acknowledged and must be so for ever.
enum Fact {
    /// This literal signs in.
    SignsIn(String, String),
    /// This literal was revoked.
    Revoked(String, String),
    /// This person is there.
    Person(String),
    /// This person is not there any more.
    NoPerson(String),
}

fn configuration(upstream: &FakeUpstream, directory: &Path) -> PathBuf {
    let config = directory.join("gatepost.toml");
    let text = format!(
        r#"
        data_dir = "data"
        default_domain = "example.org"
        [limits.refusals]
        floor = "100ms"
        ceiling = "100ms"
        [[listener]]
        name = "imap"
        address = "127.0.0.1:0"
        protocol = "imap"
        tls = "none"
        [[upstream]]
        name = "mail"
        protocol = "imap"
        host = "127.0.0.1"
        port = {}
        tls = "none"
        passwords_in_clear = true
        "#,
        upstream.port()
    );
    std::fs::write(&config, text).unwrap();
    config
}

fn gatepost(config: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(GATEPOST);
    command.args(words).arg("--config").arg(config);
    command
}

/// What a command said, if it was acknowledged.
fn said(config: &Path, words: &[&str]) -> Option<String> {
    let output = gatepost(config, words).output().unwrap();
    output
        .status
        .success()
        .then(|| String::from_utf8(output.stdout).unwrap())
}

fn phone(config: &Path, login: &str) -> Option<Phone> {
    let enrolment = said(config, &["token", "enrol", login, "--json"])?;
    let enrolment: serde_json::Value = serde_json::from_str(&enrolment).unwrap();
    Some(Phone::new(enrolment["seed"].as_str().unwrap()))
}

/// The tagged answer; nothing when the program died first.
fn sign_in(address: SocketAddr, login: &str, literal: &str) -> Option<String> {
    std::panic::catch_unwind(|| {
        let mut client = Client::plain(address);
        client.line();
        client.command("a", &format!("LOGIN {login} {literal}"))
    })
    .ok()
}

/// One person's life, as far as it gets.
fn live(config: &Path, address: SocketAddr, number: usize, facts: &mut Vec<Fact>) -> Option<()> {
    let login = format!("p{number}@example.org");
    said(config, &["person", "add", &login])?;
    let kept = facts.len();
    facts.push(Fact::Person(login.clone()));
    let literal = format!("secret@{}", phone(config, &login)?.code());
    let answer = sign_in(address, &login, &literal)?;
    assert!(answer.starts_with("a OK"), "{login}'s first sign-in: {answer}");
    facts.push(Fact::SignsIn(login.clone(), literal.clone()));
    match number % 3 {
        0 => {}
        1 => {
            facts.pop();
            said(config, &["device", "revoke", &login, "--all"])?;
            facts.push(Fact::Revoked(login, literal));
        }
        _ => {
            facts.truncate(kept);
            said(config, &["person", "remove", &login])?;
            facts.push(Fact::NoPerson(login));
        }
    }
    Some(())
}

fn hold(config: &Path, address: SocketAddr, facts: &[Fact]) {
    let people = said(config, &["person", "list", "--json"]).unwrap();
    for fact in facts {
        match fact {
            Fact::Person(login) => assert!(people.contains(&format!("\"{login}\"")), "{login} is lost"),
            Fact::NoPerson(login) => assert!(!people.contains(&format!("\"{login}\"")), "{login} is back"),
            Fact::SignsIn(login, literal) => {
                let answer = sign_in(address, login, literal).unwrap();
                assert!(answer.starts_with("a OK"), "{login}'s device is lost: {answer}");
            }
            Fact::Revoked(login, literal) => {
                let answer = sign_in(address, login, literal).unwrap();
                assert!(answer.starts_with("a NO"), "{login}'s device is back: {answer}");
            }
        }
    }
}

/// GATEPOST_KILL_ROUNDS sets the number of rounds, GATEPOST_KILL_SEED the points at which it is killed.
#[test]
fn nothing_acknowledged_is_lost_when_it_is_killed() {
    let number = |name, default| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let rounds: u64 = number("GATEPOST_KILL_ROUNDS", 30);
    let mut seed: u64 = number("GATEPOST_KILL_SEED", 1);
    let directory = tempfile::tempdir().unwrap();
    let upstream = FakeUpstream::start(Script::default(), directory.path());
    let config = configuration(&upstream, directory.path());
    let (mut all, mut next) = (Vec::new(), 0);
    let mut fresh = 0; // where the last round's facts begin
    for _ in 0..rounds {
        let program = Program::start(gatepost(&config, &["run"]));
        hold(&config, program.address, &all[fresh..]);
        fresh = all.len();
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let lifetime = Duration::from_millis(20 + (seed >> 33) % 700);
        let address = program.address;
        let dead = AtomicBool::new(false);
        thread::scope(|scope| {
            let lives = scope.spawn(|| {
                while !dead.load(Ordering::SeqCst) {
                    next += 1;
                    let _ = live(&config, address, next, &mut all);
                }
            });
            thread::sleep(lifetime); // the random point is the test
            dead.store(true, Ordering::SeqCst);
            drop(program);
            lives.join().unwrap();
        });
    }
    let program = Program::start(gatepost(&config, &["run"]));
    hold(&config, program.address, &all);
    assert!(
        all.len() as u64 > rounds / 2,
        "only {} things were acknowledged",
        all.len()
    );
}

/// Ends strace and what it traces.
fn end(program: &mut Program, trace: &Path) {
    let text = std::fs::read_to_string(trace).unwrap();
    let pid: i32 = text.split_whitespace().next().unwrap().parse().unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    program.child.wait().unwrap();
}

fn position(lines: &[&str], from: usize, what: &str, wanted: impl Fn(&str) -> bool) -> usize {
    let found = lines[from..].iter().position(|line| wanted(line));
    from + found.unwrap_or_else(|| panic!("{what} is not in {:#?}", &lines[from..]))
}

fn synced(line: &str) -> bool {
    line.contains("fdatasync") && line.ends_with("= 0")
}

#[test]
fn a_new_device_is_on_the_disk_before_its_success_is_said_and_a_known_one_needs_none() {
    if Command::new("strace").arg("-V").output().is_err() {
        eprintln!("skipped: strace is not installed");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let upstream = FakeUpstream::start(Script::default(), directory.path());
    let config = configuration(&upstream, directory.path());
    let trace = directory.path().join("trace");
    let mut command = Command::new("strace");
    command
        .args(["-f", "-y", "-s", "64", "-o"])
        .arg(&trace)
        .args([
            "-e",
            "trace=execve,fdatasync,pread64,read,recvfrom,write,writev,sendto",
        ])
        .args([GATEPOST, "run", "--config"])
        .arg(&config);
    let mut program = Program::start(command);
    said(&config, &["person", "add", "alice"]).unwrap();
    let literal = format!("secret@{}", phone(&config, "alice").unwrap().code());
    assert!(
        sign_in(program.address, "alice", &literal)
            .unwrap()
            .starts_with("a OK")
    );
    // Lazy records of the first are written within half a second; the second must begin in silence.
    let (mut length, mut since) = (0, Instant::now());
    while since.elapsed() < Duration::from_millis(1500) {
        let now = std::fs::read_to_string(&trace)
            .unwrap()
            .matches("fdatasync")
            .count();
        if now != length {
            (length, since) = (now, Instant::now());
        }
        thread::sleep(Duration::from_millis(50));
    }
    assert!(
        sign_in(program.address, "alice", &literal)
            .unwrap()
            .starts_with("a OK")
    );
    end(&mut program, &trace);

    let text = std::fs::read_to_string(&trace).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let command = |line: &str| line.contains("\"a LOGIN alice");
    let accepted =
        |line: &str| line.contains("OK [CAPABILITY IMAP4rev1 IDLE UIDPLUS") && line.contains("recvfrom");
    let success =
        |line: &str| line.contains("\"a OK ") && !line.contains("recvfrom") && !line.contains("read");
    let first = position(&lines, 0, "the first command", command);
    let proven = position(&lines, first, "the upstream's success", accepted);
    let told = position(&lines, proven, "the client's success", success);
    assert!(
        lines[proven..told].iter().any(|line| synced(line)),
        "{:#?}",
        &lines[first..=told]
    );
    let second = position(&lines, told, "the second command", command);
    let told = position(&lines, second, "the second success", success);
    for line in &lines[second..told] {
        assert!(!line.contains("fdatasync") && !line.contains("pread64"), "{line}");
    }
}
