//! Our client machine talking to our server machine: what one writes, the other one reads.

use gatepost::reason::Protocol;
use gatepost::secret::Secret;
use gatepost::wire::{
    ClientEvent, ClientFacts, ClientMachine, ClientTls, Introduction, Limits, Machine, OutBuf, ServerEvent,
    ServerFacts, ServerMachine, Step, Success, UpstreamTls, dialect,
};
use std::time::{Duration, Instant};

/// Login, password and one word about the program arrive as they are, by every way to sign in, however the bytes are cut.
/// The first octet chooses what the upstream offers and how large the pieces are; the rest is login, password and word, each
/// behind a NUL but the first.
pub fn both_machines(input: &[u8]) {
    let Some((mode, fields)) = input.split_first() else {
        return;
    };
    let mut fields = fields.splitn(3, |byte| *byte == 0);
    let mut field = || fields.next().unwrap_or_default();
    let (login, password, word) = (field(), field(), field());
    if login.is_empty() || password.is_empty() || [login, password].iter().any(|field| field.len() > LONGEST)
    {
        return;
    }
    let mut wire = Wire::new(*mode, login, password, word);
    let (read_login, read_password) = wire.sign_in();
    assert_eq!((&read_login[..], &read_password[..]), (login, password));
    wire.introduces(word);
    wire.success();
}

/// [`Limits::max_literal`] of the server machine, whose sum is twice that.
const LONGEST: usize = 8 * 1024;

/// Ways to sign in, as an upstream offers them.
const OFFERS: [&str; 6] = [
    "IMAP4rev1 SASL-IR AUTH=PLAIN",
    "IMAP4rev1 AUTH=PLAIN ID",
    "IMAP4rev1 ID",
    "IMAP4rev1",
    "IMAP4rev1 LOGINDISABLED AUTH=LOGIN",
    "imap4REV1 logindisabled auth=login id",
];

struct Wire {
    now: Instant,
    client: Box<dyn ClientMachine>,
    server: Box<dyn ServerMachine>,
    to_server: Vec<u8>,
    to_client: Vec<u8>,
    size: usize,
    offers: &'static str,
}

impl Wire {
    fn new(mode: u8, login: &[u8], password: &[u8], word: &[u8]) -> Wire {
        let now = Instant::now();
        let offers = OFFERS[usize::from(mode) % OFFERS.len()];
        let client = (dialect(Protocol::Imap).client)(ClientFacts {
            tls: UpstreamTls::Implicit,
            login: Secret::copy(login),
            password: Secret::copy(password),
            introduction: Introduction {
                pairs: vec![(b"name".to_vec(), Some(word.to_vec())), (b"os".to_vec(), None)],
            },
            client: "192.0.2.7:50000".parse().expect("a socket address"),
            limits: Limits::default(),
        });
        let mut server = (dialect(Protocol::Imap).server)(ServerFacts {
            tls: ClientTls::On,
            hostname: "mx.example.org".to_owned(),
            limits: Limits::default(),
            deadline: now + Duration::from_secs(60),
        });
        // Its own greeting is left aside for one with these offers.
        assert!(matches!(server.step(now, &mut OutBuf::new()), Step::Flush));
        Wire {
            now,
            client,
            server,
            to_server: Vec::new(),
            to_client: format!("* OK [CAPABILITY {offers}] hi\r\n").into_bytes(),
            size: [1, 3, 4096][usize::from(mode) / OFFERS.len() % 3],
            offers,
        }
    }

    /// Carries bytes until the server machine has read a sign-in.
    fn sign_in(&mut self) -> (Vec<u8>, Vec<u8>) {
        loop {
            let moved = offer(&mut *self.client, &mut self.to_client, self.size)
                + offer(&mut *self.server, &mut self.to_server, self.size);
            match step(&mut *self.client, self.now, &mut self.to_server) {
                None => {}
                Some(event) => panic!("the client machine gave up: {event:?}"),
            }
            match step(&mut *self.server, self.now, &mut self.to_client) {
                None => {}
                Some(ServerEvent::Credentials(read)) => {
                    return (read.login.expose().clone(), read.literal.expose().clone());
                }
                Some(event) => panic!("the server machine wants {event:?}"),
            }
            let waits = self.to_server.is_empty() && self.to_client.is_empty();
            assert!(moved > 0 || !waits, "both wait");
        }
    }

    /// What the client says about itself: printable ASCII as it is, anything else as a question mark.
    fn introduces(&self, word: &[u8]) {
        if !self
            .offers
            .to_ascii_uppercase()
            .split(' ')
            .any(|offer| offer == "ID")
        {
            return;
        }
        let shown: Vec<u8> = word
            .iter()
            .map(|byte| match byte {
                b'"' | b'\\' => b'?',
                b' '..=b'~' => *byte,
                _ => b'?',
            })
            .collect();
        let pairs = self.server.introduction().pairs;
        let os = (b"os".to_vec(), None);
        // A word too long for the command is left out; the server machine drops what says where somebody comes from.
        if word.len() <= 512 {
            assert_eq!(pairs, [(b"name".to_vec(), Some(shown)), os]);
        }
    }

    /// And the success comes back as the upstream worded it.
    fn success(mut self) {
        self.server.admit(Success {
            line: b"OK Logged in".to_vec().into(),
            ..Success::default()
        });
        assert!(step(&mut *self.server, self.now, &mut self.to_client).is_none());
        loop {
            let taken = offer(&mut *self.client, &mut self.to_client, self.size);
            match step(&mut *self.client, self.now, &mut self.to_server) {
                None => assert!(taken > 0, "the success was not understood"),
                Some(ClientEvent::Ready) => break,
                Some(event) => panic!("not in: {event:?}"),
            }
        }
        assert_eq!(self.client.into_ready().success.line.as_slice(), b"OK Logged in");
    }
}

/// Offers one piece of what is on the way.
fn offer<E>(machine: &mut dyn Machine<Event = E>, wire: &mut Vec<u8>, size: usize) -> usize {
    let count = wire.len().min(size);
    let taken = machine.input(&wire[..count]);
    wire.drain(..taken);
    taken
}

/// Steps until it waits or has an event.
fn step<E>(machine: &mut dyn Machine<Event = E>, now: Instant, wire: &mut Vec<u8>) -> Option<E> {
    loop {
        let mut out = OutBuf::new();
        let step = machine.step(now, &mut out);
        wire.extend_from_slice(out.as_slice());
        match step {
            Step::Flush => {}
            Step::Wait { .. } => return None,
            Step::Event(event) => return Some(event),
            Step::Close(cause) => panic!("closed: {cause:?}"),
        }
    }
}
