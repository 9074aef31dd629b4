//! Both machines and the guard wired together in memory: client, server machine, a decision, client machine, upstream.

use crate::relay::{Relay, Upstream};
use gatepost::reason::{Protocol, Reason, Refusal};
use gatepost::secret::Secret;
use gatepost::wire::{
    ClientEvent, ClientFacts, ClientMachine, ClientTls, Credentials, Direction, Limits, OutBuf, Ready,
    ServerEvent, ServerFacts, ServerMachine, Step, UpstreamTls, dialect,
};
use std::time::{Duration, Instant};

/// A gateway between a client's bytes and an upstream, with time that stands still unless told otherwise.
struct Gateway {
    now: Instant,
    server: Box<dyn ServerMachine>,
    to_client: Vec<u8>,
    /// Everything that the upstream was sent, all connections together.
    to_upstream: Vec<u8>,
}

/// What the upstream sends: to greet (no line), and to answer each line.
type Script<'a> = &'a mut dyn FnMut(Option<&str>) -> String;

impl Gateway {
    fn new() -> Self {
        let now = Instant::now();
        let server = (dialect(Protocol::Imap).server)(ServerFacts {
            tls: ClientTls::On,
            hostname: "mail.example.org".to_owned(),
            limits: Limits::default(),
            deadline: now + Duration::from_secs(60),
        });
        Gateway {
            now,
            server,
            to_client: Vec::new(),
            to_upstream: Vec::new(),
        }
    }

    /// Steps the server machine until it rests or asks for a decision.
    fn step(&mut self) -> Option<Credentials> {
        loop {
            let mut out = OutBuf::new();
            let step = self.server.step(self.now, &mut out);
            self.to_client.extend_from_slice(out.as_slice());
            match step {
                Step::Flush => {}
                Step::Wait { .. } | Step::Close(_) => return None,
                Step::Event(ServerEvent::Credentials(credentials)) => return Some(credentials),
                Step::Event(ServerEvent::StartTls | ServerEvent::PasswordInClear) => panic!("TLS is on"),
            }
        }
    }

    /// Signs in at the upstream, which gets at most `size` octets at a time and whose answers arrive so, too.
    fn sign_in(
        &mut self,
        credentials: &Credentials,
        size: usize,
        script: Script<'_>,
    ) -> Result<Ready, ClientEvent> {
        let password = credentials
            .literal
            .expose()
            .split(|byte| *byte == b'@')
            .next()
            .unwrap_or_default();
        let mut machine = (dialect(Protocol::Imap).client)(ClientFacts {
            tls: UpstreamTls::Implicit,
            login: Secret::copy(credentials.login.expose()),
            password: Secret::copy(password),
            introduction: self.server.introduction(),
            client: "192.0.2.7:50143".parse().expect("a socket address"),
            limits: Limits::default(),
        });
        let mut lines = Vec::new();
        let mut answers = script(None).into_bytes();
        loop {
            while let Some(end) = lines.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = lines.drain(..=end).collect();
                answers.extend_from_slice(script(Some(String::from_utf8_lossy(&line).trim_end())).as_bytes());
            }
            if answers.is_empty() {
                machine.end_of_input();
            }
            let count = answers.len().min(size);
            let taken = machine.input(&answers[..count]);
            answers.drain(..taken);
            loop {
                let mut out = OutBuf::new();
                let step = machine.step(self.now, &mut out);
                lines.extend_from_slice(out.as_slice());
                self.to_upstream.extend_from_slice(out.as_slice());
                match step {
                    Step::Flush => {}
                    Step::Wait { .. } => break,
                    Step::Event(ClientEvent::Ready) => return Ok(ready(machine, &answers)),
                    Step::Event(event) => return Err(event),
                    Step::Close(cause) => panic!("a client machine reports, it does not close: {cause:?}"),
                }
            }
        }
    }
}

/// What the machine has left, and what was never offered to it.
fn ready(machine: Box<dyn ClientMachine>, unread: &[u8]) -> Ready {
    let mut ready = machine.into_ready();
    ready.leftover.0.extend_from_slice(unread);
    ready
}

fn dovecot(line: Option<&str>) -> String {
    match line {
        None => "* OK [CAPABILITY IMAP4rev1 SASL-IR ID LITERAL+ AUTH=PLAIN] ready\r\n".to_owned(),
        Some(line) if line.starts_with("gp1 ID") => "* ID NIL\r\ngp1 OK done\r\n".to_owned(),
        Some(_) => "* OK hi\r\ngp2 OK [CAPABILITY IMAP4rev1 IDLE UNAUTHENTICATE] Logged in\r\n* 1 EXISTS\r\n"
            .to_owned(),
    }
}

#[test]
fn bytes_on_both_sides_of_the_hand_over_arrive_exactly_once_and_in_order() {
    let message = "m".repeat(20_000);
    let client = format!(
        "a LOGIN alice secret@123456\r\nb APPEND Sent {{{}+}}\r\n{message}\r\nc UNAUTHENTICATE\r\nd NOOP\r\n",
        message.len()
    );
    for size in [1, 3, 1000, usize::MAX] {
        let mut gateway = Gateway::new();
        let mut rest = client.as_bytes();
        let credentials = loop {
            let taken = gateway.server.input(&rest[..rest.len().min(size)]);
            rest = &rest[taken..];
            if let Some(credentials) = gateway.step() {
                break credentials;
            }
        };
        // Back-pressure: behind an undecided sign-in no more than max_pipelined is taken, ever.
        while let taken @ 1.. = gateway.server.input(&rest[..rest.len().min(size)]) {
            rest = &rest[taken..];
            assert!(gateway.step().is_none());
        }
        assert!(rest.len() >= message.len() - 16 * 1024, "took too much");
        let ready = gateway
            .sign_in(&credentials, size, &mut dovecot)
            .expect("the upstream lets her in");
        gateway.server.admit(ready.success);
        assert!(gateway.step().is_none());

        let mut relay = Relay::new();
        let mut upstream = Upstream::default();
        relay.receive(Direction::Down, &ready.leftover.0);
        let leftover = gateway.server.into_leftover();
        for piece in [&leftover.0[..], rest] {
            relay.receive(Direction::Up, piece);
            while relay.turn(Direction::Down) || relay.turn(Direction::Up) {
                let answers = upstream.receive(&std::mem::take(&mut relay.to_upstream));
                relay.receive(Direction::Down, &answers);
            }
        }
        gateway.to_client.extend_from_slice(&relay.to_client);
        assert_eq!(upstream.ran, ["APPEND", "NOOP"]);
        assert_eq!(
            String::from_utf8_lossy(&gateway.to_client),
            "* OK [CAPABILITY IMAP4rev1 SASL-IR LITERAL+ ID AUTH=PLAIN] mail.example.org ready\r\n\
             * OK hi\r\na OK [CAPABILITY IMAP4rev1 IDLE] Logged in\r\n* 1 EXISTS\r\n\
             b OK said {5}\r\nc BAD Not allowed here: sign out instead\r\nd OK said {5}\r\n",
            "in pieces of {size}"
        );
    }
}

#[test]
fn the_client_is_told_to_the_upstream_with_its_address_first() {
    let mut gateway = Gateway::new();
    gateway.server.input(
        b"i ID (\"name\" \"K-9\" \"x-originating-ip\" \"10.0.0.1\")\r\na LOGIN alice secret@123456\r\n",
    );
    let credentials = gateway.step().expect("a sign-in");
    assert!(gateway.sign_in(&credentials, usize::MAX, &mut dovecot).is_ok());
    let sent = String::from_utf8_lossy(&gateway.to_upstream);
    let id =
        "gp1 ID (\"x-originating-ip\" \"192.0.2.7\" \"x-originating-port\" \"50143\" \"name\" \"K-9\")\r\n";
    assert!(sent.starts_with(id), "{sent}");
}

#[test]
fn a_refused_sign_in_leaves_in_its_time_and_the_session_goes_on() {
    for (answer, reason) in [
        ("gp2 NO [AUTHENTICATIONFAILED] no\r\n", Reason::WrongPassword),
        ("* BYE going down\r\n", Reason::UpstreamUnavailable),
        ("gp2 NO [LIMIT] too many\r\n", Reason::UpstreamLimit),
        ("", Reason::UpstreamSilent),
    ] {
        let mut gateway = Gateway::new();
        gateway.server.input(b"a LOGIN alice secret@123456\r\nb NOOP\r\n");
        let credentials = gateway.step().expect("a sign-in");
        let mut script = |line: Option<&str>| match line {
            Some(line) if line.starts_with("gp2") => answer.to_owned(),
            other => dovecot(other),
        };
        let event = gateway
            .sign_in(&credentials, 1, &mut script)
            .err()
            .expect("refused");
        let heard = match event {
            ClientEvent::Rejected(_) => Reason::WrongPassword,
            ClientEvent::Unavailable(outage) => Reason::from(outage),
            other => panic!("{other:?}"),
        };
        assert_eq!(heard, reason);
        gateway.to_client.clear();
        gateway
            .server
            .refuse(Refusal::unproven(heard), gateway.now + Duration::from_secs(3));
        gateway.now += Duration::from_millis(2999);
        assert!(gateway.step().is_none());
        assert!(gateway.to_client.is_empty(), "{heard:?} left early");
        gateway.now += Duration::from_millis(1);
        assert!(gateway.step().is_none());
        let said = String::from_utf8_lossy(&gateway.to_client).into_owned();
        assert!(
            said.starts_with("a NO [") && said.ends_with("\r\nb OK Nothing done\r\n"),
            "{said}"
        );
    }
}

#[test]
fn an_id_of_the_largest_legal_size_is_answered() {
    let pairs: Vec<String> = (0..30)
        .map(|key| format!("\"{key:a>30}\" \"{}\"", "v".repeat(1024)))
        .collect();
    let mut gateway = Gateway::new();
    let id = format!("a ID ({})\r\n", pairs.join(" "));
    let mut rest = id.as_bytes();
    while !rest.is_empty() {
        let taken = gateway.server.input(&rest[..rest.len().min(4096)]);
        assert!(taken > 0);
        rest = &rest[taken..];
        assert!(gateway.step().is_none());
    }
    assert!(
        gateway
            .to_client
            .ends_with(b"* ID (\"name\" \"Gatepost\")\r\na OK Nice to meet you\r\n")
    );
    assert_eq!(gateway.server.introduction().pairs.len(), 30);
}
