//! Transcripts: dialogues as files, run whole, octet by octet, and cut at each position.
//!
//! A line of a file is one of these; `#` begins a comment and a blank line says nothing.
//!
//! | | `server/` | `client/` | `session/` |
//! |---|---|---|---|
//! | `tls: ..` | `on`, `starttls`, `clear` | the same | |
//! | `C: text` | the client sends | the machine says | the client sends |
//! | `S: text` | the machine says | the upstream sends | the upstream sends |
//! | `U: text`, `D: text` | | | reaches the upstream, reaches the client |
//! | `C= text`, `S= text` | | | sent, and reaches the other side unchanged |
//! | `! text` | the machine asks or reports this | the same | the guard closes for this |
//! | `> text` | the driver does this | the same | |
//!
//! A file with `cut: no` shows what depends on how bytes arrive, and is run whole only. `C~` and `S~` send without CRLF. `\r \n \0 \t \\ \xNN` are octets, `<b64:..>` is the base64 of what is inside.

use crate::relay::Relay;
use base64::Engine;
use gatepost::reason::{Protocol, Reason, Refusal};
use gatepost::secret::Secret;
use gatepost::wire::{
    ClientEvent, ClientFacts, ClientMachine, ClientTls, CloseCause, Direction, Introduction, Limits, OutBuf,
    ServerEvent, ServerFacts, ServerMachine, Step, Success, UpstreamTls, dialect,
};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

#[test]
fn server_transcripts() {
    run_all("server", 12, |header, cut| Box::new(ServerSide::new(header, cut)));
}

#[test]
fn client_transcripts() {
    run_all("client", 10, |header, cut| Box::new(ClientSide::new(header, cut)));
}

#[test]
fn session_transcripts() {
    run_all("session", 8, |_, cut| Box::new(SpliceSide::new(cut)));
}

/// One side that a transcript speaks with.
trait Side {
    /// Whether lines with this mark are sent to it; others are expected from it.
    fn is_fed_by(&self, mark: char) -> bool;

    /// Feeds it, cut as it was told to.
    fn feed(&mut self, mark: char, bytes: &[u8]);

    /// Carries out a line with `>`.
    fn act(&mut self, action: &str);

    /// Takes out everything that it said under a mark.
    fn heard(&mut self, mark: char) -> &mut Vec<u8>;

    /// What is left in the end besides what was said; empty if nothing is.
    fn rest(&mut self) -> String;
}

/// How the bytes between two expectations are cut.
#[derive(Clone, Copy, Debug)]
enum Cut {
    Whole,
    Octets,
    /// Once in each chunk, at this position.
    At(usize),
}

impl Cut {
    fn pieces<'a>(&self, bytes: &'a [u8]) -> Vec<&'a [u8]> {
        match self {
            Cut::Whole => vec![bytes],
            Cut::Octets => bytes.chunks(1).collect(),
            Cut::At(at) => {
                let (left, right) = bytes.split_at((*at).min(bytes.len()));
                [left, right]
                    .into_iter()
                    .filter(|piece| !piece.is_empty())
                    .collect()
            }
        }
    }
}

fn run_all(folder: &str, at_least: usize, side: impl Fn(&[(String, String)], Cut) -> Box<dyn Side>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/transcripts")
        .join(folder);
    let entries = std::fs::read_dir(&folder).expect("the folder of transcripts exists");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("is readable").path()).collect();
    files.sort();
    assert!(
        files.len() >= at_least,
        "only {} transcripts in {}",
        files.len(),
        folder.display()
    );
    for file in files {
        let transcript = Transcript::read(&file);
        for cut in transcript.cuts() {
            transcript.run(side(&transcript.header, cut).as_mut(), cut);
        }
    }
}

struct Transcript {
    name: String,
    header: Vec<(String, String)>,
    /// Line number, mark, second character of the mark, text.
    lines: Vec<(usize, char, char, Vec<u8>)>,
}

impl Transcript {
    fn read(file: &Path) -> Self {
        let text = std::fs::read_to_string(file).expect("is readable");
        let name = file
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let mut transcript = Transcript {
            name,
            header: Vec::new(),
            lines: Vec::new(),
        };
        for (number, line) in text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        {
            let mut letters = line.chars();
            let (mark, kind) = (letters.next().unwrap_or(' '), letters.next().unwrap_or(' '));
            let text = letters.as_str().strip_prefix(' ').unwrap_or(letters.as_str());
            match (mark, kind) {
                ('C' | 'S' | 'U' | 'D', ':' | '~' | '=') => {
                    let mut bytes = unescaped(text);
                    if kind != '~' {
                        bytes.extend_from_slice(b"\r\n");
                    }
                    transcript.lines.push((number + 1, mark, kind, bytes));
                }
                ('!' | '>', ' ') => {
                    transcript
                        .lines
                        .push((number + 1, mark, kind, letters.as_str().as_bytes().to_vec()));
                }
                _ => {
                    let (key, value) = line.split_once(": ").expect("a line with a mark, or a header");
                    transcript.header.push((key.to_owned(), value.to_owned()));
                }
            }
        }
        assert!(transcript.lines.len() >= 2, "{} says nothing", transcript.name);
        transcript
    }

    fn cuts(&self) -> Vec<Cut> {
        if value(&self.header, "cut") == Some("no") {
            return vec![Cut::Whole];
        }
        let total = self.lines.iter().map(|(_, _, _, text)| text.len()).sum::<usize>();
        // No chunk is longer than all of them; short files are cut everywhere, huge ones near the beginning.
        let positions = (1..total.min(1500)).map(Cut::At);
        [Cut::Whole, Cut::Octets].into_iter().chain(positions).collect()
    }

    fn run(&self, side: &mut dyn Side, cut: Cut) {
        let mut chunk: (char, Vec<u8>) = (' ', Vec::new());
        let mut expected: Vec<(usize, char, Vec<u8>)> = Vec::new();
        for (number, mark, kind, text) in &self.lines {
            let fed = side.is_fed_by(*mark);
            if fed && (chunk.0 != *mark || !expected.is_empty()) {
                self.flush(side, &mut chunk, &mut expected, cut);
            }
            if fed {
                chunk.0 = *mark;
                chunk.1.extend_from_slice(text);
                if *kind == '=' {
                    expected.push((*number, if *mark == 'C' { 'U' } else { 'D' }, text.clone()));
                }
            } else if *mark == '>' {
                self.flush(side, &mut chunk, &mut expected, cut);
                side.act(&String::from_utf8_lossy(text));
            } else {
                expected.push((*number, *mark, text.clone()));
            }
        }
        self.flush(side, &mut chunk, &mut expected, cut);
        for mark in ['C', 'S', 'U', 'D', '!'] {
            if !side.is_fed_by(mark) {
                let rest = String::from_utf8_lossy(side.heard(mark)).into_owned();
                assert_eq!(
                    rest, "",
                    "{} cut {cut:?}: not expected at the end under {mark}",
                    self.name
                );
            }
        }
        assert_eq!(side.rest(), "", "{} cut {cut:?}: left over", self.name);
    }

    fn flush(
        &self,
        side: &mut dyn Side,
        chunk: &mut (char, Vec<u8>),
        expected: &mut Vec<(usize, char, Vec<u8>)>,
        cut: Cut,
    ) {
        let (mark, bytes) = std::mem::replace(chunk, (' ', Vec::new()));
        if !bytes.is_empty() {
            side.feed(mark, &bytes);
        }
        for (number, mark, text) in expected.drain(..) {
            let text = if mark == '!' {
                [&text[..], b"\n"].concat()
            } else {
                text
            };
            let heard = side.heard(mark);
            let shown = String::from_utf8_lossy(&heard[..heard.len().min(text.len())]).into_owned();
            let wanted = String::from_utf8_lossy(&text);
            let all = String::from_utf8_lossy(heard);
            assert_eq!(shown, wanted, "{}:{number} cut {cut:?}, heard {all:?}", self.name);
            heard.drain(..text.len());
        }
    }
}

fn unescaped(text: &str) -> Vec<u8> {
    if let Some((before, rest)) = text.split_once("<b64:") {
        let (inside, behind) = rest.split_once('>').expect("<b64: ends with >");
        let encoded = base64::engine::general_purpose::STANDARD.encode(unescaped(inside));
        return [unescaped(before), encoded.into_bytes(), unescaped(behind)].concat();
    }
    let mut bytes = Vec::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        if letter != '\\' {
            let mut buffer = [0; 4];
            bytes.extend_from_slice(letter.encode_utf8(&mut buffer).as_bytes());
            continue;
        }
        match letters.next() {
            Some('r') => bytes.push(b'\r'),
            Some('n') => bytes.push(b'\n'),
            Some('t') => bytes.push(b'\t'),
            Some('0') => bytes.push(0),
            Some('x') => {
                let digits: String = letters.by_ref().take(2).collect();
                bytes.push(u8::from_str_radix(&digits, 16).expect("two hexadecimal digits"));
            }
            // Everything else stands for itself, with its backslash, as in IMAP's flags and quoted strings.
            Some('\\') => bytes.push(b'\\'),
            Some(other) => bytes.extend_from_slice(format!("\\{other}").as_bytes()),
            None => bytes.push(b'\\'),
        }
    }
    bytes
}

fn value<'a>(header: &'a [(String, String)], key: &str) -> Option<&'a str> {
    header
        .iter()
        .find(|(name, _)| name == key)
        .map(|(_, value)| value.as_str())
}

fn shown(bytes: &[u8]) -> String {
    bytes
        .escape_ascii()
        .to_string()
        .replace("\\\"", "\"")
        .replace("\\'", "'")
}

// ---------------------------------------------------------------------------------------------------- server/

struct ServerSide {
    machine: Option<Box<dyn ServerMachine>>,
    cut: Cut,
    now: Instant,
    said: Vec<u8>,
    reported: Vec<u8>,
}

impl ServerSide {
    fn new(header: &[(String, String)], cut: Cut) -> Self {
        let tls = match value(header, "tls") {
            Some("on") => ClientTls::On,
            Some("starttls") => ClientTls::StartTls,
            Some("clear") => ClientTls::ClearAllowed,
            other => panic!("tls: {other:?}"),
        };
        let now = Instant::now();
        let facts = ServerFacts {
            tls,
            hostname: "mail.example.org".to_owned(),
            limits: Limits::default(),
            deadline: now + Duration::from_secs(180),
        };
        let machine = Some((dialect(Protocol::Imap).server)(facts));
        let mut side = ServerSide {
            machine,
            cut,
            now,
            said: Vec::new(),
            reported: Vec::new(),
        };
        side.step();
        side
    }

    fn machine(&mut self) -> &mut Box<dyn ServerMachine> {
        self.machine.as_mut().expect("the machine is not finished")
    }

    fn step(&mut self) {
        loop {
            let mut out = OutBuf::new();
            let now = self.now;
            let step = self.machine().step(now, &mut out);
            self.said.extend_from_slice(out.as_slice());
            let report = match step {
                Step::Flush => continue,
                Step::Wait { .. } => return,
                Step::Close(cause) => format!("close {}", cause.name()),
                Step::Event(ServerEvent::StartTls) => "starttls".to_owned(),
                Step::Event(ServerEvent::PasswordInClear) => "password-in-clear".to_owned(),
                Step::Event(ServerEvent::Credentials(credentials)) => {
                    let mut report = format!("credentials {}", shown(credentials.login.expose()));
                    let _ = write!(report, " | {}", shown(credentials.literal.expose()));
                    if let Some(acts_as) = &credentials.acts_as {
                        let _ = write!(report, " | as {}", shown(acts_as.expose()));
                    }
                    if let Some(hint) = &credentials.client_hint {
                        let _ = write!(report, " | by {hint}");
                    }
                    report
                }
            };
            report_line(&mut self.reported, &report);
            if report.starts_with("close") {
                self.machine = None;
                return;
            }
        }
    }
}

impl Side for ServerSide {
    fn is_fed_by(&self, mark: char) -> bool {
        mark == 'C'
    }

    fn feed(&mut self, _: char, bytes: &[u8]) {
        for piece in self.cut.pieces(bytes) {
            let mut rest = piece;
            while let Some(machine) = self.machine.as_mut().filter(|_| !rest.is_empty()) {
                let taken = machine.input(rest);
                rest = &rest[taken..];
                self.step();
                if taken == 0 {
                    break;
                }
            }
        }
    }

    fn act(&mut self, action: &str) {
        let (verb, rest) = action.split_once(' ').unwrap_or((action, ""));
        match verb {
            "tls-started" => self.machine().tls_started(),
            "eof" => self.machine().end_of_input(),
            "admit" => {
                let (line, capabilities) = rest.split_once(" | ").unwrap_or((rest, ""));
                let (capabilities, before) = capabilities.split_once(" | ").unwrap_or((capabilities, ""));
                let list: Vec<String> = capabilities.split_whitespace().map(str::to_owned).collect();
                self.machine().admit(Success {
                    before: unescaped(before).into(),
                    line: line.as_bytes().to_vec().into(),
                    capabilities: (!list.is_empty()).then_some(list),
                });
            }
            "refuse" => {
                let (reason, delay) = rest.split_once(" after ").unwrap_or((rest, "0"));
                let reason: Reason = serde_json::from_str(&format!("\"{reason}\"")).expect("a reason");
                let at = self.now + Duration::from_secs(delay.parse().expect("seconds"));
                self.machine().refuse(Refusal::unproven(reason), at);
            }
            "seconds" => self.now += Duration::from_secs(rest.parse().expect("seconds")),
            "shut-down" => self.machine().shutting_down(CloseCause::Drain),
            "introduction" => {
                let pairs = self.machine().introduction().pairs;
                let words = pairs.iter().map(|(key, value)| {
                    format!(
                        "{}={}",
                        shown(key),
                        value.as_deref().map_or("NIL".to_owned(), shown)
                    )
                });
                report_line(&mut self.reported, &words.collect::<Vec<_>>().join(" "));
            }
            "leftover" => {
                let leftover = self
                    .machine
                    .take()
                    .expect("the machine is not finished")
                    .into_leftover();
                report_line(&mut self.reported, &shown(&leftover.0));
                return;
            }
            other => panic!("no action {other}"),
        }
        self.step();
    }

    fn heard(&mut self, mark: char) -> &mut Vec<u8> {
        if mark == '!' {
            &mut self.reported
        } else {
            &mut self.said
        }
    }

    fn rest(&mut self) -> String {
        String::new()
    }
}

// ---------------------------------------------------------------------------------------------------- client/

struct ClientSide {
    machine: Option<Box<dyn ClientMachine>>,
    cut: Cut,
    said: Vec<u8>,
    reported: Vec<u8>,
    /// What came behind the success, once there is one.
    behind: Option<Vec<u8>>,
}

impl ClientSide {
    fn new(header: &[(String, String)], cut: Cut) -> Self {
        let tls = match value(header, "tls") {
            Some("on") => UpstreamTls::Implicit,
            Some("starttls") => UpstreamTls::StartTls,
            Some("clear") => UpstreamTls::ClearAllowed,
            other => panic!("tls: {other:?}"),
        };
        let pairs = value(header, "id").unwrap_or_default().split_whitespace();
        let pairs = pairs.filter_map(|pair| pair.split_once('='));
        let facts = ClientFacts {
            tls,
            login: Secret::new(unescaped(value(header, "login").unwrap_or("joe"))),
            password: Secret::new(unescaped(value(header, "password").unwrap_or("secret"))),
            introduction: Introduction {
                pairs: pairs
                    .map(|(key, value)| {
                        (
                            key.as_bytes().to_vec(),
                            (value != "NIL").then(|| value.as_bytes().to_vec()),
                        )
                    })
                    .collect(),
            },
            client: "192.0.2.7:50143".parse().expect("a socket address"),
            limits: Limits::default(),
        };
        let machine = Some((dialect(Protocol::Imap).client)(facts));
        ClientSide {
            machine,
            cut,
            said: Vec::new(),
            reported: Vec::new(),
            behind: None,
        }
    }

    fn step(&mut self) {
        while let Some(machine) = &mut self.machine {
            let mut out = OutBuf::new();
            let step = machine.step(Instant::now(), &mut out);
            self.said.extend_from_slice(out.as_slice());
            let report = match step {
                Step::Flush => continue,
                Step::Wait { .. } => return,
                Step::Close(cause) => format!("close {}", cause.name()),
                Step::Event(ClientEvent::StartTls) => "starttls".to_owned(),
                Step::Event(ClientEvent::Rejected(rejection)) => format!("rejected {rejection:?}"),
                Step::Event(ClientEvent::Unavailable(outage)) => format!("unavailable {outage:?}"),
                Step::Event(ClientEvent::Ready) => {
                    let ready = self.machine.take().expect("is there").into_ready();
                    let capabilities = ready.success.capabilities.as_ref().map(|list| list.join(" "));
                    let report = format!(
                        "ready {} | {} | {}",
                        shown(&ready.success.line),
                        capabilities.unwrap_or("-".to_owned()),
                        shown(&ready.success.before)
                    );
                    self.behind = Some(ready.leftover.0.clone());
                    report
                }
            };
            report_line(&mut self.reported, &report);
        }
    }
}

impl Side for ClientSide {
    fn is_fed_by(&self, mark: char) -> bool {
        mark == 'S'
    }

    fn feed(&mut self, _: char, bytes: &[u8]) {
        for piece in self.cut.pieces(bytes) {
            let mut rest = piece;
            while let Some(machine) = self.machine.as_mut().filter(|_| !rest.is_empty()) {
                let taken = machine.input(rest);
                rest = &rest[taken..];
                self.step();
                if taken == 0 {
                    break;
                }
            }
            if let Some(behind) = &mut self.behind {
                behind.extend_from_slice(rest);
            }
        }
    }

    fn act(&mut self, action: &str) {
        match (action, &mut self.machine) {
            ("tls-started", Some(machine)) => machine.tls_started(),
            ("eof", Some(machine)) => machine.end_of_input(),
            ("leftover", None) => {
                let behind = self.behind.take().unwrap_or_default();
                report_line(&mut self.reported, &shown(&behind));
            }
            (other, _) => panic!("no action {other} now"),
        }
        self.step();
    }

    fn heard(&mut self, mark: char) -> &mut Vec<u8> {
        if mark == '!' {
            &mut self.reported
        } else {
            &mut self.said
        }
    }

    fn rest(&mut self) -> String {
        shown(self.behind.as_deref().unwrap_or_default())
    }
}

// --------------------------------------------------------------------------------------------------- session/

struct SpliceSide {
    relay: Relay,
    cut: Cut,
    reported: Vec<u8>,
}

impl SpliceSide {
    fn new(cut: Cut) -> Self {
        SpliceSide {
            relay: Relay::new(),
            cut,
            reported: Vec::new(),
        }
    }
}

impl Side for SpliceSide {
    fn is_fed_by(&self, mark: char) -> bool {
        mark == 'C' || mark == 'S'
    }

    fn feed(&mut self, mark: char, bytes: &[u8]) {
        let direction = if mark == 'C' {
            Direction::Up
        } else {
            Direction::Down
        };
        let was_open = self.relay.closed.is_none();
        for piece in self.cut.pieces(bytes) {
            self.relay.receive(direction, piece);
            self.relay.settle();
        }
        if let Some(cause) = self.relay.closed.filter(|_| was_open) {
            // How much of the last line went up before the end depends on the cut.
            let lines = self
                .relay
                .to_upstream
                .iter()
                .rposition(|byte| *byte == b'\n')
                .map_or(0, |at| at + 1);
            self.relay.to_upstream.truncate(lines);
            report_line(&mut self.reported, &format!("close {}", cause.name()));
        }
    }

    fn act(&mut self, action: &str) {
        panic!("no action {action}");
    }

    fn heard(&mut self, mark: char) -> &mut Vec<u8> {
        match mark {
            'U' => &mut self.relay.to_upstream,
            'D' => &mut self.relay.to_client,
            _ => &mut self.reported,
        }
    }

    fn rest(&mut self) -> String {
        String::new()
    }
}

/// Reports are lines.
fn report_line(reported: &mut Vec<u8>, line: &str) {
    reported.extend_from_slice(line.trim_end().as_bytes());
    reported.push(b'\n');
}
