//! What holds for every input: the properties of `properties.rs` check these, and the targets in `fuzz/` too.

use crate::relay::Session;
use gatepost::reason::{Outage, Protocol, Reason, Refusal};
use gatepost::secret::Secret;
use gatepost::wire::sasl::{Exchange, Mechanism, Turn, decode};
use gatepost::wire::{
    ClientEvent, ClientFacts, ClientMachine, ClientTls, CloseCause, Introduction, Limits, OutBuf,
    ServerEvent, ServerFacts, ServerMachine, Step, Success, UpstreamTls, dialect,
};
use std::time::{Duration, Instant};

/// What a machine said and did, in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) said: String,
    pub(crate) did: Vec<String>,
}

impl Record {
    fn note(&mut self, what: impl std::fmt::Debug) {
        self.did
            .push(format!("{what:?} after {} octets", self.said.len()));
    }
}

/// The server machine says the same however its input is cut, stays within its limits and always comes to rest.
/// The first octet chooses how the connection begins and how sign-ins are decided.
pub(crate) fn server(input: &[u8]) {
    let Some((mode, bytes)) = input.split_first() else {
        return;
    };
    let whole = run_server(*mode, bytes, usize::MAX);
    for size in [1, 2, 7] {
        assert_eq!(run_server(*mode, bytes, size), whole, "in pieces of {size}");
    }
}

fn run_server(mode: u8, bytes: &[u8], size: usize) -> Record {
    let now = Instant::now();
    let tls = [ClientTls::On, ClientTls::StartTls, ClientTls::ClearAllowed][usize::from(mode % 3)];
    let limits = Limits {
        max_line: 512,
        max_literal: 64,
        max_literals: 96,
        max_pipelined: 128,
        ..Limits::default()
    };
    let deadline = now + Duration::from_secs(60);
    let facts = ServerFacts {
        tls,
        hostname: "mx.example.org".to_owned(),
        limits,
        deadline,
    };
    let mut machine = (dialect(Protocol::Imap).server)(facts);
    let mut record = Record::default();
    let mut rest = bytes;
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
            assert!(out.len() <= 64 * 1024);
            match step {
                Step::Flush => {}
                Step::Wait { .. } => break,
                // What follows STARTTLS in the clear is an attack; when it is seen depends on the pieces.
                Step::Close(CloseCause::Injection) | Step::Event(ServerEvent::StartTls) => {
                    return Record::default();
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
                    record.note((
                        credentials.login.expose(),
                        credentials.literal.expose(),
                        credentials.client_hint,
                    ));
                    sign_ins += 1;
                    if (mode >> 2) & 1 == 0 || sign_ins > 2 {
                        // All that is left arrives while the decision is open, as far as it is taken.
                        return admitted(machine, record, rest, now);
                    }
                    machine.refuse(Refusal::unproven(Reason::WrongCode), now);
                }
            }
        }
        assert!(taken > 0 || piece.is_empty(), "takes nothing and does nothing");
    }
}

fn admitted(mut machine: Box<dyn ServerMachine>, mut record: Record, rest: &[u8], now: Instant) -> Record {
    let taken = machine.input(rest);
    assert!(taken <= 128, "takes {taken} octets behind an undecided sign-in");
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
pub(crate) fn client(input: &[u8]) {
    let Some((mode, bytes)) = input.split_first() else {
        return;
    };
    let whole = run_client(*mode, bytes, usize::MAX);
    for size in [1, 2, 7] {
        assert_eq!(run_client(*mode, bytes, size), whole, "in pieces of {size}");
    }
}

fn run_client(mode: u8, bytes: &[u8], size: usize) -> Record {
    let tls = [
        UpstreamTls::Implicit,
        UpstreamTls::StartTls,
        UpstreamTls::ClearAllowed,
    ][usize::from(mode % 3)];
    let password = if mode & 4 == 0 {
        "pass word"
    } else {
        "p\u{e4}ss\"word"
    };
    let facts = ClientFacts {
        tls,
        login: Secret::copy(b"joe"),
        password: Secret::copy(password.as_bytes()),
        introduction: Introduction {
            pairs: vec![(b"name".to_vec(), None)],
        },
        client: "192.0.2.7:50000".parse().expect("a socket address"),
        limits: Limits {
            max_line: 512,
            max_literal: 64,
            max_literals: 96,
            max_output: 256,
            ..Limits::default()
        },
    };
    let mut machine = (dialect(Protocol::Imap).client)(facts);
    let mut record = Record::default();
    let mut encrypted = tls != UpstreamTls::StartTls;
    let mut rest = bytes;
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
    assert!(ready.success.before.len() <= 256);
    let behind = [&ready.leftover.0[..], rest].concat();
    record.note((&ready.success, behind));
    record
}

/// Whatever a signed-in client sends, the upstream runs no command that leads back before the sign-in; and what both sides get
/// does not depend on how the bytes were cut.
pub(crate) fn guard(input: &[u8]) {
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
    (
        session.upstream.ran,
        session.relay.to_client,
        session.relay.closed.is_some(),
    )
}

/// What no client may say to the upstream after the hand-over.
pub(crate) const REFUSED: [&str; 6] = [
    "LOGIN",
    "AUTHENTICATE",
    "UNAUTHENTICATE",
    "STARTTLS",
    "COMPRESS",
    "PROXYAUTH",
];

/// Decoding and the exchanges never panic, and an identity has neither empty fields nor NUL.
pub(crate) fn sasl(input: &[u8]) {
    for mechanism in [Mechanism::Plain, Mechanism::Login] {
        let mut exchange = Exchange::new(mechanism);
        for line in input.split(|byte| *byte == b'\n') {
            match decode(line).and_then(|answer| exchange.answer(answer)) {
                Ok(Turn::Ask(next)) => exchange = next,
                Ok(Turn::Done(identity)) => {
                    for field in [identity.login.expose(), identity.literal.expose()] {
                        assert!(!field.is_empty() && !field.contains(&0));
                    }
                    break;
                }
                Err(_) => break,
            }
        }
    }
}
