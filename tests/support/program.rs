//! The program itself, in a process of its own.

use super::client::Client;
use super::gateway::Phone;
use super::upstream::FakeUpstream;
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

pub const GATEPOST: &str = env!("CARGO_BIN_EXE_gatepost");

/// Longer than anything that is waited for; reaching it is a failure.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running gateway; it dies with its owner.
pub struct Program {
    child: Child,
    /// Its first listener.
    pub address: SocketAddr,
    log: Arc<(Mutex<Log>, Condvar)>,
}

#[derive(Default)]
struct Log {
    lines: Vec<String>,
    ended: bool,
}

impl Program {
    /// Starts the command, which runs the program in its own process or below it, and waits until it listens.
    pub fn start(mut command: Command) -> Program {
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::<(Mutex<Log>, Condvar)>::default();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let collecting = Arc::clone(&log);
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                collecting.0.lock().unwrap().lines.push(line);
                collecting.1.notify_all();
            }
            collecting.0.lock().unwrap().ended = true;
            collecting.1.notify_all();
        });
        let mut program = Program {
            child,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            log,
        };
        let line = program.wait_for_log("event=listening");
        let address = line
            .split_whitespace()
            .find_map(|word| word.strip_prefix("address="));
        program.address = address.unwrap().trim_matches('"').parse().unwrap();
        program
    }

    pub fn run(config: &Path) -> Program {
        Program::start(gatepost(config, &["run"]))
    }

    /// The same under limits that a shell sets before.
    pub fn run_limited(config: &Path, limits: &str) -> Program {
        let mut command = Command::new("sh");
        command
            .args(["-c", &format!("{limits}; exec \"$0\" run --config \"$1\"")])
            .arg(GATEPOST)
            .arg(config);
        Program::start(command)
    }

    /// The process that was started.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Waits for a line with these words and gives the first back.
    pub fn wait_for_log(&self, words: &str) -> String {
        let found = |log: &Log| log.lines.iter().find(|line| line.contains(words)).cloned();
        let log = self.log.0.lock().unwrap();
        let waits = |log: &mut Log| found(log).is_none() && !log.ended;
        let (log, _) = self.log.1.wait_timeout_while(log, PATIENCE, waits).unwrap();
        found(&log).unwrap_or_else(|| panic!("`{words}` is not in the log: {:#?}", log.lines))
    }

    /// All lines so far with these words.
    pub fn logged(&self, words: &str) -> Vec<String> {
        let log = self.log.0.lock().unwrap();
        log.lines
            .iter()
            .filter(|line| line.contains(words))
            .cloned()
            .collect()
    }

    /// How many files and sockets it has open.
    pub fn open_files(&self) -> usize {
        let directory = format!("/proc/{}/fd", self.pid().as_raw_pid());
        std::fs::read_dir(directory).unwrap().count()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// A connection whose greeting was read.
    pub fn client(&self) -> Client {
        let mut client = Client::plain(self.address);
        let greeting = client.line();
        assert!(greeting.starts_with("* OK"), "{greeting:?}");
        client
    }

    /// Signs in and says what the answer was.
    pub fn sign_in(&self, login: &str, literal: &str) -> (Client, String) {
        let mut client = self.client();
        let answer = client.command("a", &format!("LOGIN {login} {literal}"));
        (client, answer)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A configuration with one listener without TLS in front of one upstream; refusals leave early. `limits` stands in its
/// `[limits]`, `tables` behind everything.
pub fn configuration(upstream: &FakeUpstream, directory: &Path, limits: &str, tables: &str) -> PathBuf {
    let config = directory.join("gatepost.toml");
    let text = format!(
        r#"
        data_dir = "data"
        default_domain = "example.org"
        [limits]
        {limits}
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
        {tables}
        "#,
        upstream.port()
    );
    std::fs::write(&config, text).unwrap();
    config
}

pub fn gatepost(config: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(GATEPOST);
    command.args(words).arg("--config").arg(config);
    command
}

/// What a command said, if it was acknowledged.
pub fn said(config: &Path, words: &[&str]) -> Option<String> {
    let output = gatepost(config, words).output().unwrap();
    output
        .status
        .success()
        .then(|| String::from_utf8(output.stdout).unwrap())
}

/// Enrols a token.
pub fn phone(config: &Path, login: &str) -> Option<Phone> {
    let enrolment = said(config, &["token", "enrol", login, "--json"])?;
    let enrolment: serde_json::Value = serde_json::from_str(&enrolment).unwrap();
    Some(Phone::new(enrolment["seed"].as_str().unwrap()))
}
