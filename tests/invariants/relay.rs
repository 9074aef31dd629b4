//! A relay in memory that keeps the contract of [`Guard`] and checks that the guard keeps its own, and a plain-minded
//! upstream for it to talk to.

use gatepost::reason::Protocol;
use std::collections::VecDeque;

use gatepost::wire::{CloseCause, Direction, Guard, HoldFor, MAX_HELD, Watch, dialect};

/// One session after the hand-over.
pub struct Relay {
    guard: Box<dyn Guard>,
    up: Lane,
    down: Lane,
    /// What has reached the upstream.
    pub to_upstream: Vec<u8>,
    /// What has reached the client.
    pub to_client: Vec<u8>,
    /// Why the guard ended the session.
    pub closed: Option<CloseCause>,
}

/// The bytes of one direction that have not passed.
#[derive(Default)]
struct Lane {
    waiting: Vec<u8>,
    opaque: u64,
    held: Option<HoldFor>,
    /// What was replaced by nothing since something was said instead.
    swallowed: usize,
}

impl Relay {
    pub fn new() -> Self {
        Relay {
            guard: (dialect(Protocol::Imap).guard)(),
            up: Lane::default(),
            down: Lane::default(),
            to_upstream: Vec::new(),
            to_client: Vec::new(),
            closed: None,
        }
    }

    /// Bytes arrive from one side; nothing moves yet.
    pub fn receive(&mut self, direction: Direction, bytes: &[u8]) {
        let lane = self.lane(direction);
        lane.waiting.extend_from_slice(bytes);
        if !bytes.is_empty() && lane.held == Some(HoldFor::More) {
            lane.held = None;
        }
    }

    /// Moves until nothing moves any more.
    pub fn settle(&mut self) {
        while self.turn(Direction::Down) || self.turn(Direction::Up) {}
    }

    /// Asks the guard once about one direction and does what it says. Says whether anything moved.
    pub fn turn(&mut self, direction: Direction) -> bool {
        if self.closed.is_some() {
            return false;
        }
        let lane = self.lane(direction);
        if lane.opaque > 0 {
            let count = lane
                .waiting
                .len()
                .min(usize::try_from(lane.opaque).unwrap_or(usize::MAX));
            lane.opaque -= count as u64;
            return count > 0 && self.forward(direction, count);
        }
        if lane.waiting.is_empty() || lane.held.is_some() {
            return false;
        }
        let waiting = std::mem::take(&mut lane.waiting);
        let watch = self.guard.inspect(direction, &waiting);
        let shown = waiting.len();
        self.lane(direction).waiting = waiting;
        match watch {
            Watch::Pass(count) => {
                assert!((1..=shown).contains(&count), "passed {count} of {shown}");
                self.forward(direction, count)
            }
            Watch::Opaque(count) => {
                assert!(count > 0);
                self.lane(direction).opaque = count;
                true
            }
            Watch::Replace(count, bytes) => {
                assert!((1..=shown).contains(&count), "replaced {count} of {shown}");
                let lane = self.lane(direction);
                let taken = lane.swallowed + count;
                lane.swallowed = if bytes.is_empty() { taken } else { 0 };
                // A line end may become longer, a text that was left empty gets a character, and each of an ID's at most
                // 60 atoms two quotes.
                assert!(
                    bytes.len() <= taken + 4 + 2 * 60,
                    "{taken} octets became {}",
                    bytes.len()
                );
                lane.waiting.drain(..count);
                self.out(direction).extend_from_slice(bytes.as_slice());
                self.moved(direction)
            }
            Watch::AnswerClient(count, bytes) => {
                assert_eq!(direction, Direction::Up);
                assert!((1..=shown).contains(&count), "answered {count} of {shown}");
                assert!(bytes.len() <= 256, "answered with {} octets", bytes.len());
                assert!(self.guard.safe_to_speak(), "spoke inside a line or a literal");
                assert!(self.down.opaque == 0 && is_between_lines(&self.to_client));
                self.up.waiting.drain(..count);
                self.to_client.extend_from_slice(bytes.as_slice());
                self.moved(direction)
            }
            Watch::Hold(reason) => {
                assert!(
                    reason == HoldFor::OtherSide || shown <= MAX_HELD,
                    "held {shown} for more"
                );
                self.lane(direction).held = Some(reason);
                false
            }
            Watch::Close(cause) => {
                self.closed = Some(cause);
                false
            }
        }
    }

    fn forward(&mut self, direction: Direction, count: usize) -> bool {
        let bytes: Vec<u8> = self.lane(direction).waiting.drain(..count).collect();
        self.out(direction).extend_from_slice(&bytes);
        self.moved(direction)
    }

    /// What the other side was held for may have happened.
    fn moved(&mut self, direction: Direction) -> bool {
        let other = match direction {
            Direction::Up => &mut self.down,
            Direction::Down => &mut self.up,
        };
        if other.held == Some(HoldFor::OtherSide) {
            other.held = None;
        }
        true
    }

    fn lane(&mut self, direction: Direction) -> &mut Lane {
        match direction {
            Direction::Up => &mut self.up,
            Direction::Down => &mut self.down,
        }
    }

    fn out(&mut self, direction: Direction) -> &mut Vec<u8> {
        match direction {
            Direction::Up => &mut self.to_upstream,
            Direction::Down => &mut self.to_client,
        }
    }
}

fn is_between_lines(bytes: &[u8]) -> bool {
    bytes.is_empty() || bytes.ends_with(b"\n")
}

/// An upstream as naive as they come: it runs whatever looks like a command, and notes its verb.
#[derive(Default)]
pub struct Upstream {
    received: Vec<u8>,
    command: Vec<u8>,
    literal: usize,
    idling: Option<Vec<u8>>,
    /// The command that asked for a line of data by itself.
    asking: Option<Vec<u8>>,
    /// The command was answered before its literal came; what follows the literal is taken for a command.
    early: bool,
    /// Verbs that were run, in upper case, in order.
    pub ran: Vec<String>,
    /// What an ID said, in lower case.
    pub introduced: String,
}

impl Upstream {
    /// Takes bytes and gives its answers.
    pub fn receive(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.received.extend_from_slice(bytes);
        let mut answers = Vec::new();
        while self.advance(&mut answers) {}
        answers
    }

    fn advance(&mut self, answers: &mut Vec<u8>) -> bool {
        if self.literal > 0 {
            let count = self.literal.min(self.received.len());
            self.received.drain(..count);
            self.literal -= count;
            return count > 0;
        }
        let Some(end) = self.received.iter().position(|byte| *byte == b'\n') else {
            return false;
        };
        let line: Vec<u8> = self.received.drain(..=end).collect();
        assert!(line.ends_with(b"\r\n"), "a bare LF went up");
        let line = &line[..line.len() - 2];
        assert!(
            !line.contains(&b'\r') && !line.contains(&0),
            "a bare CR or a NUL went up"
        );
        if let Some(tag) = self.idling.take() {
            let word = if line.eq_ignore_ascii_case(b"DONE") {
                "OK"
            } else {
                "BAD"
            };
            reply(answers, &tag, word);
            return true;
        }
        if let Some(tag) = self.asking.take() {
            reply(answers, &tag, "OK");
            return true;
        }
        if std::mem::take(&mut self.early) {
            self.command.clear();
        }
        self.command.extend_from_slice(line);
        match announced(line) {
            Some(size) => self.literal_announced(size, answers),
            None => self.run(answers),
        }
        true
    }

    fn literal_announced(&mut self, size: usize, answers: &mut Vec<u8>) {
        let (tag, verb) = self.parts();
        if verb == "REFUSES" {
            self.command.clear();
            return reply(answers, &tag, "NO");
        }
        self.literal = size;
        answers.extend_from_slice(b"+ go ahead\r\n");
        if verb == "EARLY" {
            reply(answers, &tag, "NO");
            self.early = true;
        }
    }

    fn run(&mut self, answers: &mut Vec<u8>) {
        let (tag, verb) = self.parts();
        let command = std::mem::take(&mut self.command);
        match verb.as_str() {
            "ID" => {
                self.introduced
                    .push_str(&String::from_utf8_lossy(&command).to_lowercase());
                reply(answers, &tag, "OK");
            }
            "IDLE" => {
                answers.extend_from_slice(b"* 3 EXISTS\r\n+ idling\r\n");
                self.idling = Some(tag);
            }
            "ASKS" => {
                answers.extend_from_slice(b"+ tell me\r\n");
                self.asking = Some(tag);
            }
            // A message that tries to look like answers.
            "FETCH" => {
                answers.extend_from_slice(b"* 1 FETCH (BODY[] {19}\r\n+ no\r\nz OK no {9}\r\n)\r\n");
                reply(answers, &tag, "OK");
            }
            "CAPABILITY" => {
                answers.extend_from_slice(b"* CAPABILITY IMAP4rev1 UNAUTHENTICATE IDLE\r\n");
                reply(answers, &tag, "OK");
            }
            _ => reply(answers, &tag, "OK"),
        }
        self.ran.push(verb);
    }

    fn parts(&self) -> (Vec<u8>, String) {
        let mut words = self
            .command
            .split(|byte| *byte == b' ')
            .filter(|word| !word.is_empty());
        let tag = words.next().unwrap_or_default().to_vec();
        (
            tag,
            String::from_utf8_lossy(words.next().unwrap_or_default()).to_uppercase(),
        )
    }
}

fn reply(answers: &mut Vec<u8>, tag: &[u8], word: &str) {
    answers.extend_from_slice(tag);
    answers.extend_from_slice(format!(" {word} said {{5}}\r\n").as_bytes());
}

/// `{n}` and `{n+}` wherever they stand at the end, which is as generous as an upstream can be.
fn announced(line: &[u8]) -> Option<usize> {
    let at = line.iter().rposition(|byte| *byte == b'{')?;
    let inside = line[at + 1..].strip_suffix(b"}")?;
    let digits = inside.strip_suffix(b"+").unwrap_or(inside);
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// A client's bytes, in pieces, through the guard to that upstream and back.
pub struct Session {
    pub relay: Relay,
    pub upstream: Upstream,
    /// Answers that are under way.
    answers: VecDeque<Vec<u8>>,
    /// How many pieces late an answer is.
    lateness: usize,
}

impl Session {
    /// A session whose upstream answers at once, or some pieces later.
    pub fn new(lateness: usize) -> Self {
        Session {
            relay: Relay::new(),
            upstream: Upstream::default(),
            answers: VecDeque::new(),
            lateness,
        }
    }

    /// The client sends one piece; what follows from it happens before this returns.
    pub fn client_says(&mut self, piece: &[u8]) {
        self.relay.receive(Direction::Up, piece);
        self.settle();
        if self.answers.len() > self.lateness {
            self.answer();
        }
    }

    /// The answers that are still under way arrive.
    pub fn finish(&mut self) {
        while !self.answers.is_empty() {
            self.answer();
        }
    }

    fn answer(&mut self) {
        let answer = self.answers.pop_front().unwrap_or_default();
        self.relay.receive(Direction::Down, &answer);
        self.settle();
    }

    fn settle(&mut self) {
        // Down first and the upstream at once, so that the order of answers does not depend on the pieces.
        while self.relay.turn(Direction::Down) || self.relay.turn(Direction::Up) {
            let sent = std::mem::take(&mut self.relay.to_upstream);
            let answers = self.upstream.receive(&sent);
            match self.lateness {
                0 => self.relay.receive(Direction::Down, &answers),
                _ => self
                    .answers
                    .extend(answers.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec)),
            }
        }
    }
}
