//! The program in a process of its own: what it logs, and what is in its memory.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

pub(crate) struct Program {
    child: Child,
    config: PathBuf,
    log: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
    addresses: HashMap<String, SocketAddr>,
}

impl Program {
    /// Starts it and waits until it listens on all of these.
    pub(crate) fn start(config: &Path, listeners: &[&str]) -> Program {
        let mut child = gatepost(config, &["run"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let mut log = Vec::new();
        let mut addresses = HashMap::new();
        while !listeners.iter().all(|name| addresses.contains_key(*name)) {
            let mut line = String::new();
            let count = lines.read_line(&mut line).unwrap();
            assert_ne!(count, 0, "it ended: {}", String::from_utf8_lossy(&log));
            if line.contains("event=listening") {
                let address = value(&line, "address").parse().unwrap();
                addresses.insert(value(&line, "listener"), address);
            }
            log.extend_from_slice(line.as_bytes());
        }
        let log = Arc::new(Mutex::new(log));
        let collected = Arc::clone(&log);
        let reader = std::thread::spawn(move || {
            let mut line = Vec::new();
            while lines.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
                collected.lock().unwrap().append(&mut line);
            }
        });
        Program {
            child,
            config: config.to_owned(),
            log,
            reader: Some(reader),
            addresses,
        }
    }

    pub(crate) fn address(&self, listener: &str) -> SocketAddr {
        self.addresses[listener]
    }

    /// What a command says, which must work.
    pub(crate) fn says(&self, words: &[&str]) -> String {
        let output = gatepost(&self.config, words).output().unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {complaint}");
        String::from_utf8(output.stdout).unwrap() + &complaint
    }

    /// What everybody on the machine may read about it: its command line, and (as itself) its environment.
    pub(crate) fn facts(&self) -> Vec<(String, Vec<u8>)> {
        ["cmdline", "environ"]
            .map(|name| (name.to_owned(), std::fs::read(self.proc(name)).unwrap()))
            .to_vec()
    }

    /// All memory that it may write to, piece by piece: what a core would hold of it.
    pub(crate) fn memory(&self) -> Vec<(String, Vec<u8>)> {
        let maps = std::fs::read_to_string(self.proc("maps")).unwrap();
        let memory = File::open(self.proc("mem")).unwrap();
        let mut pieces = Vec::new();
        for map in maps.lines().filter(|map| map.contains(" rw")) {
            let (range, _) = map.split_once(' ').unwrap();
            let (from, to) = range.split_once('-').unwrap();
            let [from, to] = [from, to].map(|at| u64::from_str_radix(at, 16).unwrap());
            let mut content = vec![0; usize::try_from(to - from).unwrap()];
            // Unmapped meanwhile, which the next reading of the map would show.
            if memory.read_exact_at(&mut content, from).is_ok() {
                pieces.push((map.to_owned(), content));
            }
        }
        assert!(!pieces.is_empty(), "its memory can be read");
        pieces
    }

    /// Ends it in order and gives the whole log back.
    pub(crate) fn end(mut self) -> Vec<u8> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert!(self.child.wait().unwrap().success());
        self.reader.take().unwrap().join().unwrap();
        std::mem::take(&mut self.log.lock().unwrap())
    }

    fn proc(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.child.id()))
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

/// The value of a key in a line of the log.
fn value(line: &str, key: &str) -> String {
    let (_, behind) = line.split_once(&format!(" {key}=")).unwrap();
    behind
        .split([' ', '\n'])
        .next()
        .unwrap()
        .trim_matches('"')
        .to_owned()
}
