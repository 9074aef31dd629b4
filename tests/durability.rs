//! What was acknowledged survives: the program is killed at random points, and the kernel is asked what it did when.
//!
//! SIGKILL leaves the kernel's cache in place; that the disk has it before anybody hears of it is what strace shows.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use rustix::process::Signal;
use serde_json::Value;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use support::gateway::Phone;
use support::program::{GATEPOST, Program, configuration, phone, said};
use support::upstream::{FakeUpstream, Script};

/// Everybody comes from one network and fails a lot.
const LIMITS: &str = "[limits.counting]
per_person = 1000
per_network = 100000
misses_a_day = 2";

/// The mail password of everybody.
const PASSWORD: &str = "secret";

/// What was acknowledged and must be so for ever.
#[derive(Clone, Debug)]
enum Fact {
    /// This literal signs in.
    SignsIn { login: String, literal: String },
    /// This literal does not.
    Refused { login: String, literal: String },
    /// The list of people says this of her.
    Listed {
        login: String,
        key: &'static str,
        value: Value,
    },
    /// She is not there any more.
    Gone { login: String },
    /// Whether her guessing budget is spent.
    Spent { login: String, spent: bool },
}

/// What happens to a person after her first sign-in.
#[derive(Clone, Copy, Debug)]
enum Plot {
    Stays,
    IsRevoked,
    IsRemoved,
    IsSuspended,
    IsResumed,
    Learns,
    IsEnforcedAgain,
    LosesHerToken,
    UsesACodeTwice,
    SpendsHerBudget,
    GetsHerBudgetBack,
}

const PLOTS: [Plot; 11] = [
    Plot::Stays,
    Plot::IsRevoked,
    Plot::IsRemoved,
    Plot::IsSuspended,
    Plot::IsResumed,
    Plot::Learns,
    Plot::IsEnforcedAgain,
    Plot::LosesHerToken,
    Plot::UsesACodeTwice,
    Plot::SpendsHerBudget,
    Plot::GetsHerBudgetBack,
];

/// The tagged answer; nothing when the program died first.
fn sign_in(address: SocketAddr, login: &str, literal: &str) -> Option<String> {
    let mut socket = TcpStream::connect(address).ok()?;
    let mut lines = BufReader::new(socket.try_clone().ok()?).lines();
    lines.next()?.ok()?;
    let command = format!("a LOGIN {login} {literal}\r\n");
    socket.write_all(command.as_bytes()).ok()?; // one segment, which strace then shows as one
    lines.map_while(Result::ok).find(|line| line.starts_with("a "))
}

/// One person's life.
struct Life<'a> {
    config: &'a Path,
    address: SocketAddr,
    login: String,
    /// What is acknowledged so far.
    facts: Vec<Fact>,
}

impl Life<'_> {
    /// Lives until the end or until something is not acknowledged. What a change puts in doubt is forgotten before it.
    fn live(&mut self, plot: Plot) -> Option<()> {
        let login = self.login.clone();
        self.said(&["person", "add", &login])?;
        self.learn_listed("suspended", false);
        let phone = phone(self.config, &login)?;
        self.learn_listed("tokens", 1);
        let code = phone.code();
        let literal = format!("{PASSWORD}@{code}");
        self.admitted(&literal)?;
        self.learn(Fact::SignsIn {
            login: login.clone(),
            literal: literal.clone(),
        });
        self.follow(plot, &phone, &code, &literal)
    }

    fn follow(&mut self, plot: Plot, phone: &Phone, code: &str, literal: &str) -> Option<()> {
        let login = self.login.clone();
        let refused = |literal: &str| Fact::Refused {
            login: login.clone(),
            literal: literal.to_owned(),
        };
        match plot {
            Plot::Stays => {}
            Plot::IsRevoked => {
                self.facts.clear();
                self.said(&["device", "revoke", &login, "--all"])?;
                self.learn(refused(literal));
            }
            Plot::IsRemoved => {
                self.facts.clear();
                self.said(&["person", "remove", &login])?;
                self.learn(refused(literal));
                self.learn(Fact::Gone { login });
            }
            Plot::IsSuspended | Plot::IsResumed => {
                let before = std::mem::take(&mut self.facts);
                self.said(&["person", "suspend", &login])?;
                if matches!(plot, Plot::IsSuspended) {
                    self.learn_listed("suspended", true);
                    self.learn(refused(literal));
                } else {
                    self.said(&["person", "resume", &login])?;
                    self.facts = before;
                }
            }
            Plot::Learns => {
                self.said(&["person", "mode", &login, "learning"])?;
                self.learn_listed("mode", "learning");
                self.learn(Fact::SignsIn {
                    login,
                    literal: PASSWORD.to_owned(),
                });
            }
            Plot::IsEnforcedAgain => {
                self.said(&["person", "mode", &login, "learning"])?;
                self.said(&["person", "mode", &login, "enforcing"])?;
                self.learn_listed("mode", "enforcing");
                self.learn(refused(PASSWORD));
            }
            Plot::LosesHerToken => {
                self.facts.retain(|fact| !matches!(fact, Fact::Listed { .. }));
                let tokens = self.said(&["token", "list", &login, "--json"])?;
                let tokens: Value = serde_json::from_str(&tokens).unwrap();
                self.said(&["token", "remove", &login, tokens[0]["id"].as_str().unwrap()])?;
                self.learn_listed("tokens", 0);
            }
            // She would be let in if the claim of the first were lost.
            Plot::UsesACodeTwice => {
                self.facts.clear();
                self.learn(refused(&format!("{PASSWORD},{code}")));
            }
            Plot::SpendsHerBudget | Plot::GetsHerBudgetBack => {
                self.facts.clear();
                for separator in ["@", "+"] {
                    let miss = format!("{PASSWORD}{separator}{}", phone.wrong_code());
                    let answer = sign_in(self.address, &login, &miss)?;
                    assert!(answer.starts_with("a NO"), "{answer}");
                }
                let spent = matches!(plot, Plot::SpendsHerBudget);
                if !spent {
                    self.said(&["person", "restore", &login])?;
                }
                self.learn(Fact::Spent { login, spent });
            }
        }
        Some(())
    }

    fn said(&self, words: &[&str]) -> Option<String> {
        said(self.config, words)
    }

    fn admitted(&self, literal: &str) -> Option<()> {
        let answer = sign_in(self.address, &self.login, literal)?;
        assert!(answer.starts_with("a OK"), "{}: {answer}", self.login);
        Some(())
    }

    fn learn(&mut self, fact: Fact) {
        self.facts.push(fact);
    }

    fn learn_listed(&mut self, key: &'static str, value: impl Into<Value>) {
        let login = self.login.clone();
        self.learn(Fact::Listed {
            login,
            key,
            value: value.into(),
        });
    }
}

/// Looks whether everything is still so; several at a time, because refusals take their time.
fn hold(config: &Path, program: &Program, facts: &[Fact]) {
    let address = program.address;
    let repaired = program.logged("event=store-repaired");
    assert!(repaired.is_empty(), "a kill is no damage: {repaired:?}");
    let people: Vec<Value> =
        serde_json::from_str(&said(config, &["person", "list", "--json"]).unwrap()).unwrap();
    let people: HashMap<&str, &Value> = people
        .iter()
        .map(|person| (person["login"].as_str().unwrap(), person))
        .collect();
    thread::scope(|scope| {
        for share in facts.chunks(facts.len() / 6 + 1) {
            let people = &people;
            scope.spawn(move || {
                for fact in share {
                    assert!(holds(fact, config, address, people), "lost: {fact:?}");
                }
            });
        }
    });
}

fn holds(fact: &Fact, config: &Path, address: SocketAddr, people: &HashMap<&str, &Value>) -> bool {
    match fact {
        Fact::SignsIn { login, literal } => sign_in(address, login, literal).unwrap().starts_with("a OK"),
        Fact::Refused { login, literal } => sign_in(address, login, literal).unwrap().starts_with("a NO"),
        Fact::Listed { login, key, value } => people
            .get(login.as_str())
            .is_some_and(|person| person[key] == *value),
        Fact::Gone { login } => !people.contains_key(login.as_str()),
        Fact::Spent { login, spent } => {
            let detail = said(config, &["person", "show", login, "--json"]).unwrap();
            let detail: Value = serde_json::from_str(&detail).unwrap();
            detail["budget_spent"].is_string() == *spent
        }
    }
}

/// Lives as many lives as fit, two at a time, until it is killed; gives back what was acknowledged.
fn lives_until_killed(
    config: &Path,
    program: Program,
    lifetime: Duration,
    people: &AtomicUsize,
) -> Vec<Fact> {
    let (address, dead) = (program.address, AtomicBool::new(false));
    thread::scope(|scope| {
        let live = || {
            let mut facts = Vec::new();
            while !dead.load(Ordering::SeqCst) {
                let number = people.fetch_add(1, Ordering::SeqCst);
                let mut life = Life {
                    config,
                    address,
                    login: format!("p{number}@example.org"),
                    facts: Vec::new(),
                };
                let _ = life.live(PLOTS[number % PLOTS.len()]);
                facts.append(&mut life.facts);
            }
            facts
        };
        let living = [scope.spawn(live), scope.spawn(live)];
        thread::sleep(lifetime / 2); // the random points are the test
        program.signal(Signal::HUP);
        thread::sleep(lifetime / 2);
        dead.store(true, Ordering::SeqCst);
        drop(program);
        living.into_iter().flat_map(|life| life.join().unwrap()).collect()
    })
}

/// GATEPOST_KILL_ROUNDS sets the number of rounds, GATEPOST_KILL_SEED the points at which it is killed.
#[test]
fn nothing_acknowledged_is_lost_when_it_is_killed() {
    let number = |name, default| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let rounds: u64 = number("GATEPOST_KILL_ROUNDS", 30);
    let mut seed: u64 = number("GATEPOST_KILL_SEED", 1);
    let directory = tempfile::tempdir().unwrap();
    let upstream = FakeUpstream::start(Script::default(), directory.path());
    let config = configuration(&upstream, directory.path(), LIMITS, "");
    let (people, began) = (AtomicUsize::new(0), Instant::now());
    let (mut all, mut fresh) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        let program = Program::run(&config);
        hold(&config, &program, &fresh);
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let lifetime = Duration::from_millis(20 + (seed >> 33) % 1000);
        all.append(&mut fresh);
        fresh = lives_until_killed(&config, program, lifetime, &people);
        if round % 50 == 0 {
            println!("{round} rounds, {} facts, {:?}", all.len(), began.elapsed());
        }
    }
    all.append(&mut fresh);
    let program = Program::run(&config);
    hold(&config, &program, &all);
    println!("{rounds} rounds, {} facts hold, {:?}", all.len(), began.elapsed());
    assert!(
        all.len() as u64 > rounds,
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
    program.wait();
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
    let config = configuration(&upstream, directory.path(), "", "");
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
