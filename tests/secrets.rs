//! No secret in the log at its loudest, in the store's files, or in what the admin API answers.

#![allow(
    clippy::unwrap_used,
    reason = "clippy allows it in tests, and the helpers are a part of them"
)]

mod support;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use support::client::Client;
use support::gateway::Phone;
use support::upstream::{FakeUpstream, Script, contains};

const PASSWORD: &str = "correct-horse-battery";
const TYPED_AS_LOGIN: &str = "staple-in-the-login-field";

/// The program itself, in a process of its own, at level TRACE.
struct Program {
    child: Child,
    log: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
    address: SocketAddr,
}

impl Program {
    fn start(config: &Path) -> Program {
        let mut child = gatepost(config, &["run"]).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let log = Arc::new(Mutex::new(Vec::new()));
        let mut address = None;
        while address.is_none() {
            let mut line = String::new();
            assert_ne!(
                lines.read_line(&mut line).unwrap(),
                0,
                "it ended: {:?}",
                log.lock().unwrap()
            );
            address = line
                .split_whitespace()
                .find_map(|word| word.strip_prefix("address="))
                .filter(|_| line.contains("event=listening"))
                .map(|address| address.trim_matches('"').parse().unwrap());
            log.lock().unwrap().extend_from_slice(line.as_bytes());
        }
        let collected = Arc::clone(&log);
        let reader = std::thread::spawn(move || {
            let mut rest = Vec::new();
            while lines.read_until(b'\n', &mut rest).is_ok_and(|count| count > 0) {
                collected.lock().unwrap().append(&mut rest);
            }
        });
        Program {
            child,
            log,
            reader: Some(reader),
            address: address.unwrap(),
        }
    }

    fn sign_in(&self, login: &str, literal: &str) -> String {
        let mut client = Client::plain(self.address);
        client.line();
        client.command("a", &format!("LOGIN \"{login}\" \"{literal}\""))
    }

    /// Ends it in order and gives the whole log back.
    fn end(mut self) -> Vec<u8> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert!(self.child.wait().unwrap().success());
        self.reader.take().unwrap().join().unwrap();
        std::mem::take(&mut self.log.lock().unwrap())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn gatepost(config: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gatepost"));
    command.args(words).arg("--config").arg(config);
    command
}

fn said(config: &Path, words: &[&str]) -> String {
    let output = gatepost(config, words).output().unwrap();
    assert!(
        output.status.success(),
        "{words:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn no_secret_is_in_log_store_or_admin_answers() {
    let directory = tempfile::tempdir().unwrap();
    let upstream = FakeUpstream::start(
        Script {
            password: PASSWORD,
            ..Script::default()
        },
        directory.path(),
    );
    let config = directory.path().join("gatepost.toml");
    let text = format!(
        r#"
        data_dir = "data"
        default_domain = "example.org"
        [log]
        level = "trace"
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
    let program = Program::start(&config);
    said(&config, &["person", "add", "alice@example.org"]);
    let enrolment = said(&config, &["token", "enrol", "alice@example.org", "--json"]);
    let enrolment: serde_json::Value = serde_json::from_str(&enrolment).unwrap();
    let seed = enrolment["seed"].as_str().unwrap().to_owned();
    let phone = Phone::new(&seed);

    let (code, wrong) = (phone.code(), phone.wrong_code());
    let literal = format!("{PASSWORD}@{code}");
    assert!(
        program
            .sign_in("alice", &format!("{PASSWORD}@{wrong}"))
            .starts_with("a NO")
    );
    assert!(program.sign_in("alice", PASSWORD).starts_with("a NO"));
    assert!(program.sign_in(TYPED_AS_LOGIN, &literal).starts_with("a NO"));
    assert!(program.sign_in(&literal, "x").starts_with("a NO"));
    assert!(program.sign_in("alice", &literal).starts_with("a OK"));
    assert!(program.sign_in("alice", &literal).starts_with("a OK"));

    let answers: String = [
        vec!["person", "show", "alice@example.org", "--json"],
        vec!["token", "list", "alice@example.org", "--json"],
        vec!["device", "list", "alice@example.org", "--json"],
        vec!["sign-ins", "--json"],
        vec!["session", "list", "--json"],
        vec!["status", "--json"],
    ]
    .iter()
    .map(|words| said(&config, words))
    .collect();
    let log = program.end();
    assert!(contains(&log, b"DEBUG"), "the log was loud");
    assert!(contains(&log, b"event=sign-in"), "sign-ins were logged");

    let mut places = vec![
        ("log".to_owned(), log),
        ("admin answers".to_owned(), answers.into_bytes()),
    ];
    places.extend(files(&directory.path().join("data")));
    assert!(places.len() > 4, "the store's files were found");
    for (what, secret) in secrets(&literal, &code, &wrong, &seed) {
        for (place, content) in &places {
            assert!(!contains(content, &secret), "{what} is in {place}");
        }
    }
}

/// Everything that must not be found, in every form in which it might be.
fn secrets(literal: &str, code: &str, wrong: &str, seed: &str) -> Vec<(String, Vec<u8>)> {
    let seed_octets = data_encoding::BASE32_NOPAD.decode(seed.as_bytes()).unwrap();
    let plain = [
        ("the password", PASSWORD.as_bytes().to_vec()),
        ("the literal", literal.as_bytes().to_vec()),
        ("a wrong literal", format!("{PASSWORD}@{wrong}").into_bytes()),
        ("what was typed as a login", TYPED_AS_LOGIN.as_bytes().to_vec()),
        ("the code with its separator", format!("@{code}").into_bytes()),
        ("the seed", seed_octets),
        ("the seed in base32", seed.as_bytes().to_vec()),
    ];
    let mut all = Vec::new();
    for (what, octets) in plain {
        all.push((
            format!("{what} in base64"),
            data_encoding::BASE64_NOPAD.encode(&octets).into_bytes(),
        ));
        all.push((
            format!("{what} in hex"),
            data_encoding::HEXLOWER.encode(&octets).into_bytes(),
        ));
        all.push((what.to_owned(), octets));
    }
    all
}

/// Every file under a directory, with its content.
fn files(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.is_file() {
            found.push((path.display().to_string(), std::fs::read(&path).unwrap()));
        }
    }
    found
}
