//! imap-codec as an oracle: what it reads, we read alike. Not the other way round: it refuses much that mail programs and
//! servers send.
//!
//! Where we differ, on purpose:
//! - An empty login or password is grammar for it and a mistake for us; so is a PLAIN message that is not two or three
//!   fields.
//! - A space behind a mechanism is an empty initial response for it and nothing for us: an empty one is `=` (RFC 4959).
//! - Before sign-in we know few commands and say BAD to all others, and a literal has its place in LOGIN and ID only.
//! - ID's keys are kept only where they look like keys, and `x-` ones never (P6).
//! - After sign-in a line end in a literal ends the session unless the literal is a message, because upstreams repeat what
//!   they did not understand (see `wire/imap/guard.rs`).
//! - A server's literal that would not wait (`{3+}`) is none: RFC 7888 lets only clients send it.
//! - A list of capabilities may hold octets that its grammar does not allow; we skip those words, it takes all
//!   for text or for a code of another kind.
//! - A response code goes on up to a bracket that a space or the line's end follows, because of REFERRAL's URLs.

use super::relay::Session;
use arbitrary::{Arbitrary, Unstructured};
use gatepost::reason::Protocol;
use gatepost::secret::Secret;
use gatepost::wire::{
    ClientEvent, ClientFacts, ClientMachine, ClientTls, Direction, Introduction, Limits, OutBuf, ServerEvent,
    ServerFacts, ServerMachine, Step, UpstreamTls, dialect,
};
use imap_codec::decode::Decoder;
use imap_codec::encode::Encoder;
use imap_codec::imap_types::auth::AuthMechanism;
use imap_codec::imap_types::command::{Command, CommandBody};
use imap_codec::imap_types::core::{IString, NString};
use imap_codec::imap_types::response::{
    Capability, Code, Data, Greeting, GreetingKind, Response, Status, StatusKind,
};
use imap_codec::{CommandCodec, GreetingCodec, ResponseCodec};
use std::time::{Duration, Instant};

/// The first octet says what the rest is: a command, a greeting or a response, as it stands or as what its types can hold.
pub fn oracle(input: &[u8]) {
    let Some((what, bytes)) = input.split_first() else {
        return;
    };
    // What is longer is a matter of limits, not of grammar.
    if bytes.len() > 4096 {
        return;
    }
    match what % 6 {
        0 => command(bytes),
        1 => greeting(bytes),
        2 => response(bytes),
        3 => made::<Command<'_>>(bytes, |it| command(&CommandCodec::default().encode(it).dump())),
        4 => made::<Greeting<'_>>(bytes, |it| greeting(&GreetingCodec::default().encode(it).dump())),
        _ => made::<Response<'_>>(bytes, |it| response(&ResponseCodec::default().encode(it).dump())),
    }
}

fn made<'a, T: Arbitrary<'a>>(bytes: &'a [u8], check: impl FnOnce(&T)) {
    if let Ok(it) = T::arbitrary(&mut Unstructured::new(bytes)) {
        check(&it);
    }
}

/// A command to the server machine, and past the guard.
fn command(bytes: &[u8]) {
    let Ok((rest, command)) = CommandCodec::default().decode(bytes) else {
        return;
    };
    if command.tag.inner().len() > LONGEST_TAG {
        return;
    }
    let bytes = &bytes[..bytes.len() - rest.len()];
    before_sign_in(bytes, &command);
    after_sign_in(bytes, &command);
}

/// Longer ones are refused; real ones have 20 octets at most.
const LONGEST_TAG: usize = 128;

/// RFC 2971 §3.3.
const MOST_PAIRS: usize = 30;

/// A command as the server machine read it.
pub struct Read {
    /// Login and literal.
    pub sign_in: Option<(Vec<u8>, Vec<u8>)>,
    /// What an ID said.
    pub pairs: Vec<Pair>,
    /// Everything that it answered, behind its greeting.
    pub said: Vec<u8>,
}

/// A pair of an ID command.
pub type Pair = (Vec<u8>, Option<Vec<u8>>);

/// One whole command, read by the server machine.
pub fn read_by_us(command: &[u8]) -> Read {
    let now = Instant::now();
    let mut machine: Box<dyn ServerMachine> = (dialect(Protocol::Imap).server)(ServerFacts {
        tls: ClientTls::On,
        hostname: "mx".to_owned(),
        limits: Limits::default(),
        deadline: now + Duration::from_secs(60),
    });
    assert!(matches!(machine.step(now, &mut OutBuf::new()), Step::Flush));
    assert_eq!(machine.input(command), command.len());
    let mut read = Read {
        sign_in: None,
        pairs: Vec::new(),
        said: Vec::new(),
    };
    loop {
        let mut out = OutBuf::new();
        let step = machine.step(now, &mut out);
        read.said.extend_from_slice(out.as_slice());
        match step {
            Step::Flush => {}
            Step::Event(ServerEvent::Credentials(it)) => {
                read.sign_in = Some((it.login.expose().clone(), it.literal.expose().clone()));
                return read;
            }
            _ => {
                read.pairs = machine.introduction().pairs;
                return read;
            }
        }
    }
}

fn before_sign_in(bytes: &[u8], command: &Command<'_>) {
    let read = read_by_us(bytes);
    let shown = String::from_utf8_lossy(bytes);
    let answered = |words: &str| {
        let answer = format!("{} {words}", command.tag.inner());
        let said = String::from_utf8_lossy(&read.said).into_owned();
        // Behind it may stand what became of a literal that did not wait for a continuation.
        let mut lines = said.split("\r\n");
        let first = lines.find(|line| !line.starts_with("* ") && !line.starts_with("+ "));
        assert!(
            first.is_some_and(|line| line.starts_with(&answer)),
            "{shown:?}: {answer:?} but {said:?}"
        );
    };
    match &command.body {
        CommandBody::Login { username, password } => {
            let fields = (username.as_ref(), password.declassify().as_ref());
            signs_in(&read, fields.0, fields.1, &answered);
        }
        CommandBody::Authenticate {
            mechanism,
            initial_response,
        } => {
            let initial = initial_response.as_ref().map(|it| it.declassify().as_ref());
            let initial = initial.filter(|it| !it.is_empty() || bytes.ends_with(b"=\r\n"));
            authenticates(&read, mechanism, initial, &answered);
        }
        CommandBody::Id { parameters }
            if parameters.as_ref().is_some_and(|pairs| pairs.len() > MOST_PAIRS) =>
        {
            answered("BAD ");
        }
        CommandBody::Id { parameters } => {
            answered("OK ");
            introduces(&read, parameters.as_deref().unwrap_or_default());
        }
        CommandBody::Logout => assert!(String::from_utf8_lossy(&read.said).contains(" OK ")),
        CommandBody::Capability | CommandBody::Noop | CommandBody::Enable { .. } => answered("OK "),
        _ => answered("BAD "),
    }
}

fn authenticates(
    read: &Read,
    mechanism: &AuthMechanism<'_>,
    initial: Option<&[u8]>,
    answered: &dyn Fn(&str),
) {
    let asked = |prompt: &[u8]| assert!(read.said.ends_with(prompt), "not asked for {mechanism}");
    match (mechanism, initial) {
        (AuthMechanism::Plain, None) => asked(b"+ \r\n"),
        (AuthMechanism::Login, None) => asked(b"+ VXNlcm5hbWU6\r\n"),
        (AuthMechanism::Login, Some(_)) => asked(b"+ UGFzc3dvcmQ6\r\n"),
        (AuthMechanism::Plain, Some(message)) => {
            match message.split(|octet| *octet == 0).collect::<Vec<_>>()[..] {
                [_, login, password] => signs_in(read, login, password, answered),
                _ => answered("BAD "),
            }
        }
        _ => answered("NO "),
    }
}

fn signs_in(read: &Read, login: &[u8], password: &[u8], answered: &dyn Fn(&str)) {
    match &read.sign_in {
        None => {
            assert!(login.is_empty() || password.is_empty());
            answered("BAD ");
        }
        Some((read_login, read_password)) => {
            assert_eq!((&read_login[..], &read_password[..]), (login, password));
        }
    }
}

/// Only keys that look like keys are kept, and of a key that comes twice whatever comes.
fn introduces(read: &Read, pairs: &[(IString<'_>, NString<'_>)]) {
    for (key, value) in pairs {
        let key = key.as_ref().to_vec();
        let expected = (key.clone(), value.0.as_ref().map(|value| value.as_ref().to_vec()));
        let looks_like_a_key = key.first().is_some_and(u8::is_ascii_alphabetic)
            && key.len() <= 30
            && key
                .iter()
                .all(|octet| octet.is_ascii_alphanumeric() || b"-_.".contains(octet));
        let says_where = key.len() >= 2 && key[..2].eq_ignore_ascii_case(b"x-");
        let kept = looks_like_a_key && !says_where;
        assert_eq!(read.pairs.contains(&expected), kept, "{expected:?}");
    }
}

/// The same command from a client that is signed in, with another one behind it: the upstream runs exactly what the oracle
/// says it is, or nothing.
fn after_sign_in(bytes: &[u8], command: &Command<'_>) {
    let mut session = Session::new(0);
    session.client_says(bytes);
    if session.relay.closed.is_some() {
        // Line ends in a literal that is no message.
        assert!(bytes.iter().filter(|octet| **octet == b'\n').count() > 1);
        return;
    }
    let idles = matches!(command.body, CommandBody::Idle);
    session.client_says(if idles {
        b"DONE\r\nz NOOP\r\n"
    } else {
        b"z NOOP\r\n"
    });
    let ran: Vec<&str> = session.upstream.ran.iter().map(String::as_str).collect();
    let name = command.body.name();
    match super::machines::REFUSED.contains(&name) {
        // A client that does not wait for us with its literal makes commands of it.
        true if bytes.iter().filter(|octet| **octet == b'\n').count() > 1 => {
            assert!(
                !ran.iter().any(|verb| super::machines::REFUSED.contains(verb)),
                "{name}: {ran:?}"
            );
        }
        true => assert_eq!(ran, ["NOOP"], "{name}"),
        // What goes by UID has that for a verb.
        false => assert!(ran == [name, "NOOP"] || ran == ["UID", "NOOP"], "{name}: {ran:?}"),
    }
}

/// A greeting to the client machine.
fn greeting(bytes: &[u8]) {
    let Ok((rest, greeting)) = GreetingCodec::default().decode(bytes) else {
        return;
    };
    let bytes = &bytes[..bytes.len() - rest.len()];
    let mut upstream = Upstream::new();
    let heard = upstream.says(bytes);
    let shown = String::from_utf8_lossy(bytes);
    match (greeting.kind, &greeting.code) {
        (GreetingKind::Bye | GreetingKind::PreAuth, _) => {
            assert!(
                matches!(heard, Heard::Event(ClientEvent::Unavailable(_))),
                "{shown:?}"
            );
        }
        (GreetingKind::Ok, Some(Code::Capability(offers))) => {
            heard.is_answer_to(offers.as_ref(), 1, &shown);
        }
        // We read lists that are none by the grammar.
        (GreetingKind::Ok, _) if shown.to_uppercase().starts_with("* OK [CAPABILITY") => {}
        (GreetingKind::Ok, _) => heard.begins_with("gp1 CAPABILITY\r\n", &shown),
    }
}

/// A response to the client machine, as an answer to CAPABILITY and to a sign-in; and down past the guard.
fn response(bytes: &[u8]) {
    let Ok((rest, response)) = ResponseCodec::default().decode(bytes) else {
        return;
    };
    let bytes = &bytes[..bytes.len() - rest.len()];
    if bytes.windows(4).any(|window| window == b"+}\r\n") {
        return;
    }
    to_the_client(bytes);
    answers_capability(bytes, &response);
    answers_sign_in(bytes, &response);
}

/// The guard and the oracle agree on where a response ends.
fn to_the_client(bytes: &[u8]) {
    let mut session = Session::new(0);
    session.relay.receive(Direction::Down, bytes);
    session
        .relay
        .receive(Direction::Down, b"* CAPABILITY IMAP4rev1 UNAUTHENTICATE\r\n");
    session.relay.settle();
    let shown = String::from_utf8_lossy(bytes);
    assert_eq!(session.relay.closed, None, "{shown:?}");
    assert!(
        session
            .relay
            .to_client
            .ends_with(b"\r\n* CAPABILITY IMAP4rev1\r\n"),
        "{shown:?}"
    );
}

fn answers_capability(bytes: &[u8], response: &Response<'_>) {
    let mut upstream = Upstream::new();
    upstream
        .says(b"* OK hi\r\n")
        .begins_with("gp1 CAPABILITY\r\n", "a greeting");
    let heard = upstream.says(bytes);
    let shown = String::from_utf8_lossy(bytes);
    match response {
        Response::Data(Data::Capability(offers)) => {
            assert!(matches!(heard, Heard::Nothing), "{shown:?}");
            upstream
                .says(b"gp1 OK done\r\n")
                .is_answer_to(offers.as_ref(), 2, &shown);
        }
        Response::Status(Status::Untagged(_)) | Response::Data(_) => {
            assert!(matches!(heard, Heard::Nothing), "{shown:?}");
        }
        // Before there was a list, OK is no answer either.
        _ => assert!(
            matches!(heard, Heard::Event(ClientEvent::Unavailable(_))),
            "{shown:?}"
        ),
    }
}

fn answers_sign_in(bytes: &[u8], response: &Response<'_>) {
    let mut upstream = Upstream::new();
    let greeting = b"* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] hi\r\n";
    upstream
        .says(greeting)
        .begins_with("gp1 AUTHENTICATE PLAIN ", "a greeting");
    let heard = upstream.says(bytes);
    let shown = String::from_utf8_lossy(bytes);
    let expected = match response {
        Response::Data(_) | Response::Status(Status::Untagged(_)) => matches!(heard, Heard::Nothing),
        Response::Status(Status::Tagged(tagged)) if tagged.tag.inner() == "gp1" => match tagged.body.kind {
            StatusKind::Ok => matches!(heard, Heard::Event(ClientEvent::Ready)),
            StatusKind::No => matches!(
                heard,
                Heard::Event(ClientEvent::Rejected(_) | ClientEvent::Unavailable(_))
            ),
            StatusKind::Bad => matches!(heard, Heard::Event(ClientEvent::Unavailable(_))),
        },
        _ => matches!(heard, Heard::Event(ClientEvent::Unavailable(_))),
    };
    assert!(expected, "{shown:?}");
    if matches!(heard, Heard::Nothing) {
        let heard = upstream.says(b"gp1 OK in\r\n");
        assert!(
            matches!(heard, Heard::Event(ClientEvent::Ready)),
            "behind {shown:?}"
        );
    }
}

/// Somebody who speaks to the client machine.
struct Upstream(Box<dyn ClientMachine>);

/// What the client machine did about it.
enum Heard {
    Nothing,
    Sent(Vec<u8>),
    Event(ClientEvent),
}

impl Upstream {
    fn new() -> Upstream {
        Upstream((dialect(Protocol::Imap).client)(ClientFacts {
            tls: UpstreamTls::Implicit,
            login: Secret::copy(b"joe"),
            password: Secret::copy(b"pw"),
            introduction: Introduction::default(),
            client: "192.0.2.7:50000".parse().expect("a socket address"),
            limits: Limits::default(),
        }))
    }

    fn says(&mut self, bytes: &[u8]) -> Heard {
        assert_eq!(self.0.input(bytes), bytes.len());
        let mut out = OutBuf::new();
        loop {
            match self.0.step(Instant::now(), &mut out) {
                Step::Flush => {}
                Step::Event(event) => return Heard::Event(event),
                Step::Close(cause) => panic!("a client machine reports, it does not close: {cause:?}"),
                Step::Wait { .. } if out.is_empty() => return Heard::Nothing,
                Step::Wait { .. } => return Heard::Sent(out.as_slice().to_vec()),
            }
        }
    }
}

impl Heard {
    fn begins_with(&self, words: &str, to: &str) {
        match self {
            Heard::Sent(sent) => assert!(sent.starts_with(words.as_bytes()), "{words:?} to {to:?}"),
            Heard::Nothing => panic!("nothing to {to:?}"),
            Heard::Event(event) => panic!("{event:?} to {to:?}"),
        }
    }

    /// What must come next where an upstream offers this.
    fn is_answer_to(&self, offers: &[Capability<'_>], number: u32, to: &str) {
        let offered = |wanted: &Capability<'_>| offers.contains(wanted);
        let command = if !offered(&Capability::Imap4Rev1) {
            assert!(
                matches!(self, Heard::Event(ClientEvent::Unavailable(_))),
                "{to:?}"
            );
            return;
        } else if offered(&Capability::Id) {
            "ID ("
        } else if offered(&Capability::Auth(AuthMechanism::Plain)) && offered(&Capability::SaslIr) {
            "AUTHENTICATE PLAIN "
        } else if offered(&Capability::Auth(AuthMechanism::Plain)) {
            "AUTHENTICATE PLAIN\r\n"
        } else if !offered(&Capability::LoginDisabled) {
            "LOGIN "
        } else if offered(&Capability::Auth(AuthMechanism::Login)) {
            "AUTHENTICATE LOGIN\r\n"
        } else {
            assert!(
                matches!(self, Heard::Event(ClientEvent::Unavailable(_))),
                "{to:?}"
            );
            return;
        };
        self.begins_with(&format!("gp{number} {command}"), to);
    }
}
