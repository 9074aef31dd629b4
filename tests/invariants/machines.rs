//! The IMAP machines and the guard.

use super::relay::{Relay, Session};
use gatepost::reason::{Outage, Protocol, Reason, Refusal};
use gatepost::secret::Secret;
use gatepost::wire::{
    ClientEvent, ClientFacts, ClientMachine, ClientTls, CloseCause, Direction, Introduction, Limits, Machine,
    OutBuf, ServerEvent, ServerFacts, ServerMachine, Step, Success, UpstreamTls, dialect,
};
use std::time::{Duration, Instant};

/// What a machine said and did, in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Record {
    pub said: String,
    pub did: Vec<String>,
}

impl Record {
    fn note(&mut self, what: impl std::fmt::Debug) {
        self.did
            .push(format!("{what:?} after {} octets", self.said.len()));
    }
}

/// Small, so that a few octets reach them.
const LIMITS: Limits = Limits {
    max_line: 512,
    max_literal: 64,
    max_literals: 96,
    max_output: 256,
    max_pipelined: 128,
    max_errors: 10,
    max_attempts: 5,
};

/// A peer's bytes before and behind STARTTLS are apart by this octet.
const HANDSHAKE: u8 = 0x1e;

/// A whole dialogue and the same one in pieces, down to single octets.
const PIECES: [usize; 3] = [1, 2, 7];

/// The server machine says the same however its input is cut, stays within its limits and always comes to rest.
/// The first octet chooses how the connection begins and how sign-ins are decided.
pub fn server(input: &[u8]) {
    let Some((mode, bytes)) = input.split_first() else {
        return;
    };
    let whole = run_server(*mode, bytes, usize::MAX);
    // A greeting, and for each line at most an answer with untagged data and a goodbye.
    assert!(whole.said.len() <= 1024 + 128 * bytes.len(), "says too much");
    for size in PIECES {
        assert_eq!(run_server(*mode, bytes, size), whole, "in pieces of {size}");
    }
    takes_no_more_than_its_limits(&mut *new_server(*mode, Instant::now()), bytes);
}

/// What a machine keeps while nobody lets it work.
fn takes_no_more_than_its_limits<E>(machine: &mut dyn Machine<Event = E>, bytes: &[u8]) {
    let line_end = 2;
    let most = LIMITS.max_line + LIMITS.max_literals + line_end;
    let (mut kept, mut rest) = (0, bytes);
    while !rest.is_empty() {
        let taken = machine.input(rest);
        kept += taken;
        rest = &rest[taken..];
        if taken == 0 {
            break;
        }
    }
    assert!(kept <= most, "keeps {kept} octets");
}

fn new_server(mode: u8, now: Instant) -> Box<dyn ServerMachine> {
    (dialect(Protocol::Imap).server)(ServerFacts {
        tls: client_tls(mode),
        hostname: "mx.example.org".to_owned(),
        limits: LIMITS,
        deadline: now + Duration::from_secs(60),
    })
}

fn client_tls(mode: u8) -> ClientTls {
    [ClientTls::On, ClientTls::StartTls, ClientTls::ClearAllowed][usize::from(mode % 3)]
}

/// What comes before the handshake, and what comes behind it if there is one.
fn flights(bytes: &[u8]) -> (&[u8], &[u8]) {
    match bytes.iter().position(|byte| *byte == HANDSHAKE) {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (bytes, &[]),
    }
}

fn run_server(mode: u8, bytes: &[u8], size: usize) -> Record {
    let mut now = Instant::now();
    let mut machine = new_server(mode, now);
    let mut record = Record::default();
    let (mut rest, mut encrypted) = flights(bytes);
    let mut tls = client_tls(mode);
    let mut sign_ins = 0;
    loop {
        let piece = &rest[..rest.len().min(size)];
        let taken = machine.input(piece);
        rest = &rest[taken..];
        if piece.is_empty() {
            machine.end_of_input();
        }
        loop {
            let mut out = OutBuf::new();
            let step = machine.step(now, &mut out);
            record.said.push_str(&String::from_utf8_lossy(out.as_slice()));
            assert!(out.len() <= 1024, "says {} octets at once", out.len());
            match step {
                Step::Flush => {}
                // A refusal that leaves later; everything else is stopped by the end of input.
                Step::Wait { until: Some(at) } if at < now + REFUSAL_AFTER + REFUSAL_AFTER => now = at,
                Step::Wait { .. } => break,
                // What follows STARTTLS in the clear is an attack; when it is seen depends on the pieces.
                Step::Close(CloseCause::Injection) => return Record::default(),
                Step::Event(ServerEvent::StartTls) if !rest.is_empty() || piece.is_empty() => {
                    return Record::default();
                }
                Step::Event(ServerEvent::StartTls) => {
                    assert_eq!(tls, ClientTls::StartTls);
                    tls = ClientTls::On;
                    machine.tls_started();
                    rest = std::mem::take(&mut encrypted);
                    record.note("TLS");
                }
                Step::Close(cause) => {
                    record.note(cause);
                    return record;
                }
                Step::Event(ServerEvent::PasswordInClear) => {
                    assert_eq!(tls, ClientTls::StartTls);
                    record.note("password in the clear");
                }
                Step::Event(ServerEvent::Credentials(credentials)) => {
                    assert_ne!(tls, ClientTls::StartTls, "a password before TLS was looked at");
                    assert!(
                        !credentials.login.expose().is_empty() && !credentials.literal.expose().is_empty()
                    );
                    let hint = credentials.client_hint.as_deref().unwrap_or_default();
                    assert!(hint.chars().count() <= 80 && !hint.chars().any(char::is_control));
                    record.note((credentials.login.expose(), credentials.literal.expose(), hint));
                    sign_ins += 1;
                    if (mode >> 2) & 1 == 0 || sign_ins > 2 {
                        // All that is left arrives while the decision is open, as far as it is taken.
                        return admitted(machine, record, rest, now);
                    }
                    let wait = if mode & 8 == 0 {
                        Duration::ZERO
                    } else {
                        REFUSAL_AFTER
                    };
                    machine.refuse(Refusal::unproven(Reason::WrongCode), now + wait);
                }
            }
        }
        assert!(taken > 0 || piece.is_empty(), "takes nothing and does nothing");
    }
}

const REFUSAL_AFTER: Duration = Duration::from_secs(3);

fn admitted(mut machine: Box<dyn ServerMachine>, mut record: Record, rest: &[u8], now: Instant) -> Record {
    let taken = machine.input(rest);
    assert!(
        taken <= LIMITS.max_pipelined,
        "takes {taken} octets behind an undecided sign-in"
    );
    machine.admit(Success {
        line: b"OK in".to_vec().into(),
        ..Success::default()
    });
    let mut out = OutBuf::new();
    assert!(matches!(machine.step(now, &mut out), Step::Flush));
    record.said.push_str(&String::from_utf8_lossy(out.as_slice()));
    let behind = [&machine.into_leftover().0[..], &rest[taken..]].concat();
    record.note(("leftover", behind));
    record
}

/// The client machine says the same however the upstream's bytes are cut, and never sends the password where it may not.
/// The first octet chooses TLS and the password.
pub fn client(input: &[u8]) {
    let Some((mode, bytes)) = input.split_first() else {
        return;
    };
    let whole = run_client(*mode, bytes, usize::MAX);
    assert!(whole.said.len() <= 1024, "a sign-in has no more to say");
    for size in PIECES {
        assert_eq!(run_client(*mode, bytes, size), whole, "in pieces of {size}");
    }
    takes_no_more_than_its_limits(&mut *new_client(*mode), bytes);
}

fn new_client(mode: u8) -> Box<dyn ClientMachine> {
    let password = if mode & 4 == 0 {
        "pass word"
    } else {
        "p\u{e4}ss\"word"
    };
    (dialect(Protocol::Imap).client)(ClientFacts {
        tls: upstream_tls(mode),
        login: Secret::copy(b"joe"),
        password: Secret::copy(password.as_bytes()),
        introduction: Introduction {
            pairs: vec![(b"name".to_vec(), None)],
        },
        client: "192.0.2.7:50000".parse().expect("a socket address"),
        limits: LIMITS,
    })
}

fn upstream_tls(mode: u8) -> UpstreamTls {
    [
        UpstreamTls::Implicit,
        UpstreamTls::StartTls,
        UpstreamTls::ClearAllowed,
    ][usize::from(mode % 3)]
}

fn run_client(mode: u8, bytes: &[u8], size: usize) -> Record {
    let mut machine = new_client(mode);
    let mut record = Record::default();
    let mut encrypted = upstream_tls(mode) != UpstreamTls::StartTls;
    let (mut rest, mut behind_handshake) = flights(bytes);
    loop {
        let piece = &rest[..rest.len().min(size)];
        let taken = machine.input(piece);
        rest = &rest[taken..];
        if piece.is_empty() {
            machine.end_of_input();
        }
        loop {
            let mut out = OutBuf::new();
            let step = machine.step(Instant::now(), &mut out);
            record.said.push_str(&String::from_utf8_lossy(out.as_slice()));
            assert!(
                encrypted || !said_secret(&record.said),
                "the password went out in the clear"
            );
            match step {
                Step::Flush => {}
                Step::Wait { .. } => break,
                Step::Event(ClientEvent::Ready) => return ready(machine, record, rest),
                // As with the server machine: bytes behind the go-ahead are seen in one piece or in two.
                Step::Event(ClientEvent::StartTls) if !rest.is_empty() => return Record::default(),
                Step::Event(ClientEvent::Unavailable(Outage::Tls)) => {
                    return Record::default();
                }
                Step::Event(ClientEvent::StartTls) => {
                    encrypted = true;
                    machine.tls_started();
                    rest = std::mem::take(&mut behind_handshake);
                }
                Step::Event(event) => {
                    record.note(event);
                    return record;
                }
                Step::Close(cause) => panic!("a client machine reports, it does not close: {cause:?}"),
            }
        }
        assert!(taken > 0 || piece.is_empty(), "takes nothing and does nothing");
    }
}

fn said_secret(said: &str) -> bool {
    said.contains("LOGIN") || said.contains("AUTHENTICATE")
}

fn ready(machine: Box<dyn ClientMachine>, mut record: Record, rest: &[u8]) -> Record {
    let ready = machine.into_ready();
    assert!(ready.success.line.starts_with(b"OK"));
    assert!(ready.success.before.len() <= LIMITS.max_output);
    let behind = [&ready.leftover.0[..], rest].concat();
    record.note((&ready.success, behind));
    record
}

/// Whatever a signed-in client sends, the upstream runs no command that leads back before the sign-in; and what both sides get
/// does not depend on how the bytes were cut.
pub fn guard(input: &[u8]) {
    let whole = run_guard(input, usize::MAX, 0);
    for size in [1, 2, 7] {
        assert_eq!(run_guard(input, size, 0), whole, "in pieces of {size}");
    }
    // Where answers are late nothing can be said about their order, but the upstream must be as safe. One that takes what
    // follows a literal for a command after an early answer cannot be helped then; none is known.
    if !input
        .windows(5)
        .any(|window| window.eq_ignore_ascii_case(b"EARLY"))
    {
        for (size, lateness) in [(1, 1), (1, 9), (7, 2), (20, 1), (20, 3)] {
            run_guard(input, size, lateness);
        }
    }
}

fn run_guard(input: &[u8], size: usize, lateness: usize) -> (Vec<String>, Vec<u8>, bool) {
    let mut session = Session::new(lateness);
    for piece in input.chunks(size.min(input.len().max(1))) {
        session.client_says(piece);
    }
    session.finish();
    for verb in &session.upstream.ran {
        assert!(!REFUSED.contains(&verb.as_str()), "{verb} went through");
    }
    assert!(
        !session.upstream.introduced.contains("x-originating"),
        "an address was claimed: {}",
        session.upstream.introduced
    );
    let said = String::from_utf8_lossy(&session.relay.to_client).to_uppercase();
    assert!(
        !said.contains("CAPABILITY IMAP4REV1 UNAUTH"),
        "an unfiltered capability came down"
    );
    let heard = whole_lines(&session.relay);
    (session.upstream.ran, heard, session.relay.closed.is_some())
}

/// What no client may say to the upstream after the hand-over.
pub const REFUSED: [&str; 6] = [
    "LOGIN",
    "AUTHENTICATE",
    "UNAUTHENTICATE",
    "STARTTLS",
    "COMPRESS",
    "PROXYAUTH",
];

/// Whatever an upstream sends to a client that only listens, what the client gets does not depend on how the bytes were cut,
/// and holds nothing that must not be seen. Segments of both sides in any order, which [`SIDES`] separates, keep the
/// guard to its contract as well; [`Relay`] looks after that.
pub fn guard_down(input: &[u8]) {
    let whole = run_down(input, usize::MAX);
    let octets = input.len();
    assert!(whole.0.len() <= 2 * octets + 64, "more comes down than was sent");
    for size in PIECES {
        assert_eq!(run_down(input, size), whole, "in pieces of {size}");
    }
    let mut relay = Relay::new();
    for (index, segment) in input.split(|byte| *byte == SIDES).enumerate() {
        let direction = if index % 2 == 0 {
            Direction::Up
        } else {
            Direction::Down
        };
        relay.receive(direction, segment);
        relay.settle();
    }
    assert!(
        relay.to_upstream.len() <= 2 * octets + 64,
        "more goes up than was sent"
    );
}

/// Where the segments of one side end and those of the other begin.
pub const SIDES: u8 = 0x1f;

fn run_down(input: &[u8], size: usize) -> (Vec<u8>, Option<CloseCause>) {
    let mut relay = Relay::new();
    for piece in input.chunks(size.min(input.len().max(1))) {
        relay.receive(Direction::Down, piece);
        relay.settle();
    }
    assert!(relay.to_upstream.is_empty());
    (whole_lines(&relay), relay.closed)
}

/// What has reached the client. Of the line that ended the session as much as was there before it was known to.
fn whole_lines(relay: &Relay) -> Vec<u8> {
    let heard = &relay.to_client;
    let end = match relay.closed {
        None => heard.len(),
        Some(_) => heard
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1),
    };
    heard[..end].to_vec()
}
