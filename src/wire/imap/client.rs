//! Our face to the upstream: greeting, TLS, capabilities, ID, then one sign-in and its verdict.

use super::{Condition, Gather, Gathered, Status, capabilities, cleaned_status, id, push_reply, split_word};
use crate::reason::{Outage, Rejection};
use crate::secret::extend_wiping;
use crate::wire::line::{Inbox, first_line, without_end};
use crate::wire::{
    ClientEvent, ClientFacts, ClientMachine, Leftover, Machine, OutBuf, Ready, Step, Success, UpstreamTls,
    sasl,
};
use std::time::Instant;
use zeroize::Zeroizing;

/// The IMAP client machine. It has no deadline of its own; its driver has.
pub(super) struct Client {
    state: State,
    facts: ClientFacts,
    inbox: Inbox,
    gather: Gather,
    /// The upstream sends nothing more.
    ended: bool,
    tls_on: bool,
    /// Commands sent so far; the tag of the last one is [`Client::tag`].
    sent: u32,
    /// What the upstream said last about itself; `None` is "not known".
    offers: Option<Offers>,
    success: Success,
}

/// What may come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    ExpectGreeting,
    /// The answer to CAPABILITY.
    ExpectCapabilities,
    /// The go-ahead for TLS.
    ExpectTlsGoAhead,
    /// The handshake, by the driver.
    ExpectHandshake,
    /// Nothing: the handshake is done and it is our turn.
    Encrypted,
    /// Bytes came where only a handshake may: somebody on the way speaks (P13).
    Injected,
    /// The answer to ID.
    ExpectIdAnswer,
    /// The answer to ID, then the verdict about the sign-in that went out behind it.
    ExpectIdAnswerThenVerdict,
    /// A continuation, after which this is sent.
    ExpectContinuation(Sending),
    /// The verdict about the sign-in.
    ExpectVerdict,
    /// Nothing: the driver has the result.
    Over,
}

/// What goes out at a continuation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sending {
    /// PLAIN's message in base64.
    Plain,
    /// Mechanism LOGIN's user name, then its password.
    SaslLogin,
    SaslPassword,
    /// Command LOGIN's first argument as a literal, then the second one as what it needs to be.
    LoginArgument,
    PasswordArgument,
}

/// The capabilities that matter before sign-in.
#[derive(Clone, Copy, Debug, Default)]
struct Offers {
    imap4rev1: bool,
    starttls: bool,
    login_disabled: bool,
    sasl_ir: bool,
    id: bool,
    plain: bool,
    login: bool,
}

type Report = Step<ClientEvent>;

impl Client {
    pub(super) fn new(facts: ClientFacts) -> Self {
        Client {
            state: State::ExpectGreeting,
            inbox: Inbox::new(facts.limits.max_line + facts.limits.max_literals + 2),
            gather: Gather::default(),
            ended: false,
            tls_on: facts.tls == UpstreamTls::Implicit,
            sent: 0,
            offers: None,
            success: Success::default(),
            facts,
        }
    }

    /// One response, or the wish for more bytes.
    fn respond(&mut self, out: &mut OutBuf) -> Report {
        let limits = &self.facts.limits;
        match self.gather.advance(self.inbox.as_slice()) {
            Gathered::Partial if self.gather.is_too_long(self.inbox.len(), limits) => {
                self.unavailable(Outage::Misconfigured)
            }
            Gathered::Partial if self.ended => self.unavailable(Outage::Silent),
            Gathered::Partial => Step::Wait { until: None },
            // The text of a status response may end in anything; only data announces literals.
            Gathered::Announced { behind, .. } if is_text(self.inbox.as_slice()) => {
                self.response(behind, out)
            }
            Gathered::Announced { announcement, behind } => {
                if announcement.eager || !self.gather.has_room_for(announcement.size, limits) {
                    return self.unavailable(Outage::Misconfigured);
                }
                self.gather.accept(behind, announcement.size as usize);
                Step::Flush
            }
            Gathered::Whole(end) => self.response(end, out),
        }
    }

    fn response(&mut self, end: usize, out: &mut OutBuf) -> Report {
        // An upstream may say back what it was sent.
        let response = Zeroizing::new(self.inbox.as_slice()[..end].to_vec());
        self.inbox.consume(end);
        self.gather = Gather::default();
        if self.state == State::ExpectGreeting {
            return self.greeting(without_end(&response), out);
        }
        let (first, rest) = split_word(without_end(&response));
        match first {
            b"*" => self.untagged(rest, &response),
            b"+" => self.continuation(out),
            tag if tag == self.tag().as_bytes() => self.tagged(rest, out),
            tag if self.answers_early_id(tag) => {
                self.state = State::ExpectVerdict;
                Step::Flush
            }
            _ => self.unavailable(Outage::Misconfigured),
        }
    }

    /// Whether it is the tag of an ID behind which the sign-in went out already. Its answer changes nothing.
    fn answers_early_id(&self, tag: &[u8]) -> bool {
        self.state == State::ExpectIdAnswerThenVerdict && tag == tag_of(self.sent - 1).as_bytes()
    }

    /// `greeting = "*" SP (resp-cond-auth / resp-cond-bye) CRLF` (RFC 3501 §9).
    fn greeting(&mut self, line: &[u8], out: &mut OutBuf) -> Report {
        let Some(status) = line.strip_prefix(b"* ").and_then(Status::parse) else {
            return self.unavailable(Outage::Misconfigured);
        };
        match status.condition {
            Condition::Ok => {
                self.learn_from(&status);
                self.go_on(out)
            }
            Condition::Bye => self.unavailable(outage_of(&status)),
            // Never passed on: that would be a session that nobody signed in to (P16).
            Condition::Preauth | Condition::No | Condition::Bad => self.unavailable(Outage::Misconfigured),
        }
    }

    fn untagged(&mut self, rest: &[u8], response: &[u8]) -> Report {
        let status = Status::parse(rest);
        if let Some(status) = status.filter(|status| status.condition == Condition::Bye) {
            return self.unavailable(outage_of(&status));
        }
        if let Some(status) = &status {
            self.learn_from(status);
        }
        let (name, list) = split_word(rest);
        if name.eq_ignore_ascii_case(b"CAPABILITY") {
            self.learn(list);
        } else if self.is_signing_in() && !name.eq_ignore_ascii_case(b"ID") {
            return self.keep(status, rest, response);
        }
        Step::Flush
    }

    /// Keeps an untagged response for the client, who gets it in front of its success (P34).
    fn keep(&mut self, status: Option<Status<'_>>, rest: &[u8], response: &[u8]) -> Report {
        let before = &mut self.success.before;
        match status {
            // `* OK [CAPABILITY ...] text` says nothing that the client will not hear with its success.
            Some(status) if status.has_code("CAPABILITY") => {}
            Some(status) => {
                extend_wiping(before, b"* ");
                extend_wiping(before, cleaned_status(&status, rest).as_slice());
                extend_wiping(before, b"\r\n");
            }
            None => extend_wiping(before, response),
        }
        if before.len() > self.facts.limits.max_output {
            return self.unavailable(Outage::Misconfigured);
        }
        Step::Flush
    }

    /// The command with our tag was answered.
    fn tagged(&mut self, rest: &[u8], out: &mut OutBuf) -> Report {
        let Some(status) = Status::parse(rest) else {
            return self.unavailable(Outage::Misconfigured);
        };
        let ok = status.condition == Condition::Ok;
        match self.state {
            State::ExpectVerdict | State::ExpectContinuation(_) => self.verdict(&status),
            // Whatever comes behind the go-ahead in the clear was not said by the upstream (P13).
            State::ExpectTlsGoAhead if !ok || !self.inbox.is_empty() => self.unavailable(Outage::Tls),
            State::ExpectTlsGoAhead => {
                self.state = State::ExpectHandshake;
                Step::Event(ClientEvent::StartTls)
            }
            State::ExpectCapabilities if !ok || self.offers.is_none() => {
                self.unavailable(Outage::Misconfigured)
            }
            State::ExpectCapabilities => {
                self.learn_from(&status);
                self.go_on(out)
            }
            // An upstream that does not like our ID may still let people in.
            State::ExpectIdAnswer => self.sign_in(out),
            State::ExpectGreeting
            | State::ExpectIdAnswerThenVerdict
            | State::ExpectHandshake
            | State::Encrypted
            | State::Injected
            | State::Over => self.unavailable(Outage::Misconfigured),
        }
    }

    fn verdict(&mut self, status: &Status<'_>) -> Report {
        match status.condition {
            Condition::Ok if self.state == State::ExpectVerdict => {
                if let Some((_, list)) = status.code_parts().filter(|_| status.has_code("CAPABILITY")) {
                    self.success.capabilities = Some(capabilities(list));
                }
                self.success.line = success_line(status);
                self.state = State::Over;
                Step::Event(ClientEvent::Ready)
            }
            Condition::No => self.over(refusal_of(status)),
            // OK before all was said, BAD to a well-formed command: not something to guess about.
            _ => self.unavailable(Outage::Misconfigured),
        }
    }

    /// What comes next by what is known: capabilities, TLS, ID, sign-in.
    fn go_on(&mut self, out: &mut OutBuf) -> Report {
        let Some(offers) = self.offers else {
            return self.command("CAPABILITY", State::ExpectCapabilities, out);
        };
        if self.facts.tls == UpstreamTls::StartTls && !self.tls_on {
            if !offers.starttls {
                return self.unavailable(Outage::Tls); // perhaps removed on the way
            }
            return self.command("STARTTLS", State::ExpectTlsGoAhead, out);
        }
        if !offers.imap4rev1 {
            return self.unavailable(Outage::Misconfigured);
        }
        if !offers.id {
            return self.sign_in(out);
        }
        let introduced = self.introduce(out);
        if !offers.signs_in_at_once() {
            return introduced;
        }
        // Nothing in the answer to ID matters, and waiting for it costs a round trip (RFC 3501 §5.5 allows not to).
        let signing_in = self.sign_in(out);
        self.state = State::ExpectIdAnswerThenVerdict;
        signing_in
    }

    /// `ID` with the client's own address first, which an upstream that trusts us takes over (P6, P90).
    fn introduce(&mut self, out: &mut OutBuf) -> Report {
        let fact = |key: &str, value: String| (key.as_bytes().to_vec(), Some(value.into_bytes()));
        let ours = [
            fact(
                "x-originating-ip",
                self.facts.client.ip().to_canonical().to_string(),
            ),
            fact("x-originating-port", self.facts.client.port().to_string()),
        ];
        let command = id::command(ours.iter().chain(&self.facts.introduction.pairs));
        self.command(&command, State::ExpectIdAnswer, out)
    }

    /// Chooses the way to sign in by what is offered.
    fn sign_in(&mut self, out: &mut OutBuf) -> Report {
        let Some(offers) = self.offers else {
            return self.unavailable(Outage::Misconfigured);
        };
        // Whatever was offered before may change with the sign-in; only what is said from here on is the client's.
        self.success.capabilities = None;
        if offers.signs_in_at_once() {
            self.begin(out, "AUTHENTICATE PLAIN ");
            sasl::push_plain(out, self.facts.login.expose(), self.facts.password.expose());
            return self.expect_verdict(out);
        }
        if offers.plain {
            return self.command(
                "AUTHENTICATE PLAIN",
                State::ExpectContinuation(Sending::Plain),
                out,
            );
        }
        if !offers.login_disabled {
            self.begin(out, "LOGIN ");
            if is_plain(self.facts.login.expose()) {
                return self.push_login_quoted(out);
            }
            announce(out, self.facts.login.expose());
            self.state = State::ExpectContinuation(Sending::LoginArgument);
            return Step::Flush;
        }
        if offers.login {
            return self.command(
                "AUTHENTICATE LOGIN",
                State::ExpectContinuation(Sending::SaslLogin),
                out,
            );
        }
        self.unavailable(Outage::Misconfigured)
    }

    fn continuation(&mut self, out: &mut OutBuf) -> Report {
        let State::ExpectContinuation(sending) = self.state else {
            return self.unavailable(Outage::Misconfigured);
        };
        let (login, password) = (self.facts.login.expose(), self.facts.password.expose());
        match sending {
            Sending::Plain => {
                sasl::push_plain(out, login, password);
                self.expect_verdict(out)
            }
            Sending::SaslLogin => {
                sasl::push_base64(out, login);
                out.push(b"\r\n");
                self.state = State::ExpectContinuation(Sending::SaslPassword);
                Step::Flush
            }
            Sending::SaslPassword => {
                sasl::push_base64(out, password);
                self.expect_verdict(out)
            }
            Sending::LoginArgument => {
                out.push(login);
                self.push_password(out)
            }
            Sending::PasswordArgument => {
                out.push(password);
                self.expect_verdict(out)
            }
        }
    }

    fn push_login_quoted(&mut self, out: &mut OutBuf) -> Report {
        push_quoted(out, self.facts.login.expose());
        self.push_password(out)
    }

    /// The second argument of LOGIN: quoted where no upstream can misread it, else a literal (P26).
    fn push_password(&mut self, out: &mut OutBuf) -> Report {
        let password = self.facts.password.expose();
        out.push(b" ");
        if is_plain(password) {
            push_quoted(out, password);
            return self.expect_verdict(out);
        }
        announce(out, password);
        self.state = State::ExpectContinuation(Sending::PasswordArgument);
        Step::Flush
    }

    fn expect_verdict(&mut self, out: &mut OutBuf) -> Report {
        out.push(b"\r\n");
        self.state = State::ExpectVerdict;
        Step::Flush
    }

    fn command(&mut self, command: &str, next: State, out: &mut OutBuf) -> Report {
        self.sent += 1;
        push_reply(out, self.tag().as_bytes(), command);
        self.state = next;
        Step::Flush
    }

    /// Begins a command that holds secrets, so that they go straight into `out`.
    fn begin(&mut self, out: &mut OutBuf, command: &str) {
        self.sent += 1;
        out.push(self.tag().as_bytes());
        out.push(b" ");
        out.push(command.as_bytes());
    }

    /// The tag of the command last sent. The client's own tag is never seen by the upstream before its success (P42).
    fn tag(&self) -> String {
        tag_of(self.sent)
    }

    fn is_signing_in(&self) -> bool {
        matches!(self.state, State::ExpectContinuation(_) | State::ExpectVerdict)
    }

    /// Takes capabilities out of a response code.
    fn learn_from(&mut self, status: &Status<'_>) {
        if let Some((_, list)) = status.code_parts().filter(|_| status.has_code("CAPABILITY")) {
            self.learn(list);
        }
    }

    fn learn(&mut self, list: &[u8]) {
        if self.is_signing_in() {
            self.success.capabilities = Some(capabilities(list));
        } else {
            self.offers = Some(Offers::parse(list));
        }
    }

    fn unavailable(&mut self, outage: Outage) -> Report {
        self.over(ClientEvent::Unavailable(outage))
    }

    fn over(&mut self, event: ClientEvent) -> Report {
        self.state = State::Over;
        self.inbox.clear();
        Step::Event(event)
    }
}

impl Machine for Client {
    type Event = ClientEvent;

    fn input(&mut self, bytes: &[u8]) -> usize {
        match self.state {
            State::Over => 0,
            State::ExpectHandshake | State::Injected => {
                if !bytes.is_empty() {
                    self.state = State::Injected;
                }
                bytes.len()
            }
            _ => self.inbox.offer(bytes),
        }
    }

    fn end_of_input(&mut self) {
        self.ended = true;
    }

    fn step(&mut self, _now: Instant, out: &mut OutBuf) -> Report {
        match self.state {
            State::Over => Step::Wait { until: None },
            State::ExpectHandshake if self.ended => self.unavailable(Outage::Silent),
            State::ExpectHandshake => Step::Wait { until: None },
            State::Encrypted => self.go_on(out),
            State::Injected => self.unavailable(Outage::Tls),
            _ => self.respond(out),
        }
    }
}

impl ClientMachine for Client {
    fn tls_started(&mut self) {
        if self.state != State::ExpectHandshake {
            return; // injected bytes: the next step says so
        }
        // Nothing said in the clear counts (P14).
        self.tls_on = true;
        self.offers = None;
        self.inbox.clear();
        self.gather = Gather::default();
        self.state = State::Encrypted;
    }

    fn into_ready(mut self: Box<Self>) -> Ready {
        Ready {
            success: std::mem::take(&mut self.success),
            leftover: Leftover(self.inbox.take()),
        }
    }
}

fn tag_of(command: u32) -> String {
    format!("gp{command}")
}

impl Offers {
    /// Whether a sign-in is one line, to which the verdict is the only answer.
    fn signs_in_at_once(&self) -> bool {
        self.plain && self.sasl_ir
    }

    fn parse(list: &[u8]) -> Self {
        let mut offers = Offers::default();
        for word in list.split(|byte| *byte == b' ') {
            let offered = match word.to_ascii_uppercase().as_slice() {
                b"IMAP4REV1" => &mut offers.imap4rev1,
                b"STARTTLS" => &mut offers.starttls,
                b"LOGINDISABLED" => &mut offers.login_disabled,
                b"SASL-IR" => &mut offers.sasl_ir,
                b"ID" => &mut offers.id,
                b"AUTH=PLAIN" => &mut offers.plain,
                b"AUTH=LOGIN" => &mut offers.login,
                _ => continue,
            };
            *offered = true;
        }
        offers
    }
}

/// Whether this response is text up to its line end, so that it cannot announce a literal.
fn is_text(response: &[u8]) -> bool {
    let (first, rest) = split_word(first_line(response));
    let (word, _) = split_word(rest);
    first != b"*" || Condition::parse(word).is_some()
}

/// What a tagged NO means (RFC 5530 §3).
fn refusal_of(status: &Status<'_>) -> ClientEvent {
    let name = status
        .code_parts()
        .map(|(name, _)| name.to_ascii_uppercase())
        .unwrap_or_default();
    match name.as_slice() {
        b"UNAVAILABLE" | b"SERVERBUG" => ClientEvent::Unavailable(Outage::Unavailable),
        b"LIMIT" => ClientEvent::Unavailable(Outage::Limit),
        b"INUSE" => ClientEvent::Unavailable(Outage::InUse),
        b"PRIVACYREQUIRED" => ClientEvent::Unavailable(Outage::Misconfigured),
        b"EXPIRED" => ClientEvent::Rejected(Rejection::Expired),
        b"AUTHORIZATIONFAILED" | b"CONTACTADMIN" => ClientEvent::Rejected(Rejection::Disabled),
        _ => ClientEvent::Rejected(Rejection::Password),
    }
}

/// What a goodbye means.
fn outage_of(status: &Status<'_>) -> Outage {
    match status.has_code("LIMIT") {
        true => Outage::Limit,
        false => Outage::Unavailable,
    }
}

/// The success without tag and capabilities, controls removed, because a client will read it as one line.
fn success_line(status: &Status<'_>) -> Zeroizing<Vec<u8>> {
    let mut line = Zeroizing::new(b"OK ".to_vec());
    match status.code.filter(|_| !status.has_filtered_code()) {
        Some(code) => {
            for part in [b"[", code, b"] ", status.text] {
                extend_wiping(&mut line, part);
            }
        }
        None => extend_wiping(&mut line, status.cleaned_text()),
    }
    line.retain(|byte| !byte.is_ascii_control());
    line
}

/// Whether every upstream reads this rightly between quotes.
fn is_plain(text: &[u8]) -> bool {
    text.iter()
        .all(|byte| *byte == b' ' || (byte.is_ascii_graphic() && !b"\"\\".contains(byte)))
}

fn push_quoted(out: &mut OutBuf, text: &[u8]) {
    out.push(b"\"");
    out.push(text);
    out.push(b"\"");
}

/// Announces a literal that waits for the continuation; every upstream understands that.
fn announce(out: &mut OutBuf, literal: &[u8]) {
    out.line(&format!("{{{}}}", literal.len()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;
    use crate::wire::{Introduction, Limits};

    fn client(pairs: Vec<(Vec<u8>, Option<Vec<u8>>)>) -> Client {
        Client::new(ClientFacts {
            tls: UpstreamTls::Implicit,
            login: Secret::copy(b"joe"),
            password: Secret::copy(b"secret"),
            introduction: Introduction { pairs },
            client: "[::ffff:192.0.2.7]:50143".parse().unwrap(),
            limits: Limits::default(),
        })
    }

    /// Feeds everything; gives what was said and the last step.
    fn feed(client: &mut Client, bytes: &[u8]) -> (String, Report) {
        let mut said = String::new();
        let mut left = bytes;
        loop {
            let taken = client.input(left);
            left = &left[taken..];
            let step = loop {
                let mut out = OutBuf::new();
                let step = client.step(Instant::now(), &mut out);
                said.push_str(std::str::from_utf8(out.as_slice()).unwrap());
                if !matches!(step, Step::Flush) {
                    break step;
                }
            };
            if taken == 0 || left.is_empty() || !matches!(step, Step::Wait { .. }) {
                return (said, step);
            }
        }
    }

    #[test]
    fn refusals_mean_what_rfc_5530_says() {
        for (answer, expected) in [
            ("NO [AUTHENTICATIONFAILED] no", "Rejected(Password)"),
            ("NO no", "Rejected(Password)"),
            (
                "NO [ALERT] Application-specific password required",
                "Rejected(Password)",
            ),
            ("NO [authorizationfailed] no", "Rejected(Disabled)"),
            ("NO [CONTACTADMIN] no", "Rejected(Disabled)"),
            ("NO [EXPIRED] no", "Rejected(Expired)"),
            ("NO [UNAVAILABLE] no", "Unavailable(Unavailable)"),
            ("NO [SERVERBUG] no", "Unavailable(Unavailable)"),
            ("NO [LIMIT] no", "Unavailable(Limit)"),
            ("NO [INUSE] no", "Unavailable(InUse)"),
            ("NO [PRIVACYREQUIRED] no", "Unavailable(Misconfigured)"),
            ("BAD no", "Unavailable(Misconfigured)"),
            ("PREAUTH no", "Unavailable(Misconfigured)"),
            ("nonsense", "Unavailable(Misconfigured)"),
        ] {
            let mut client = client(Vec::new());
            let _ = feed(&mut client, b"* OK [CAPABILITY IMAP4rev1] hi\r\n");
            let (_, step) = feed(&mut client, format!("gp1 {answer}\r\n").as_bytes());
            let Step::Event(event) = step else {
                panic!("{answer}: {step:?}")
            };
            assert_eq!(format!("{event:?}"), expected, "{answer}");
            assert!(matches!(
                client.step(Instant::now(), &mut OutBuf::new()),
                Step::Wait { until: None }
            ));
        }
    }

    #[test]
    fn a_no_or_bad_in_the_place_of_a_continuation_ends_the_sign_in() {
        for offers in ["AUTH=PLAIN", "LOGINDISABLED AUTH=LOGIN"] {
            for (answer, expected) in [
                ("NO no", "Rejected(Password)"),
                ("BAD no", "Unavailable(Misconfigured)"),
            ] {
                let mut client = client(Vec::new());
                let greeting = format!("* OK [CAPABILITY IMAP4rev1 {offers}] hi\r\n");
                let _ = feed(&mut client, greeting.as_bytes());
                let (said, step) = feed(&mut client, format!("gp1 {answer}\r\n").as_bytes());
                let Step::Event(event) = step else {
                    panic!("{offers} {answer}: {step:?}")
                };
                assert_eq!(format!("{event:?}"), expected, "{offers} {answer}");
                assert_eq!(said, "", "{offers} {answer}");
            }
        }
    }

    #[test]
    fn an_answer_with_a_strange_tag_is_no_verdict() {
        for tag in ["gp2", "gp0", "a", "GP1"] {
            let mut client = client(Vec::new());
            let _ = feed(&mut client, b"* OK [CAPABILITY IMAP4rev1] hi\r\n");
            let (_, step) = feed(&mut client, format!("{tag} OK in\r\n").as_bytes());
            assert!(
                matches!(step, Step::Event(ClientEvent::Unavailable(Outage::Misconfigured))),
                "{tag} {step:?}"
            );
        }
    }

    #[test]
    fn an_upstream_that_talks_without_end_is_given_up() {
        for (line, times) in [
            ("* OK blah blah blah\r\n", 5_000),
            ("* ", 50_000),
            ("* X {8193}\r\n", 1),
            ("* X {5+}\r\n", 1),
        ] {
            let mut client = client(Vec::new());
            let _ = feed(&mut client, b"* OK [CAPABILITY IMAP4rev1] hi\r\n");
            let (_, step) = feed(&mut client, line.repeat(times).as_bytes());
            assert!(
                matches!(step, Step::Event(ClientEvent::Unavailable(Outage::Misconfigured))),
                "{line:?} {step:?}"
            );
        }
    }

    #[test]
    fn an_introduction_is_cleaned_and_short() {
        let long = (b"address".to_vec(), Some(vec![b'v'; 1024]));
        let odd = (b"name".to_vec(), Some(b"a\"b\\c\r\n\xe4".to_vec()));
        let pairs = [vec![odd], vec![long; 29]].concat();
        let (said, _) = feed(&mut client(pairs), b"* OK [CAPABILITY IMAP4rev1 ID] hi\r\n");
        assert!(said.starts_with(
            "gp1 ID (\"x-originating-ip\" \"192.0.2.7\" \"x-originating-port\" \"50143\" \"name\" \"a?b?c???\" \"address\""
        ));
        assert!(
            said.len() < 4 * 1024 + 16 && said.ends_with("\")\r\n") && said.lines().count() == 1,
            "{}",
            said.len()
        );
    }

    #[test]
    fn only_plain_text_stands_between_quotes() {
        for (text, expected) in [
            ("open sesame@123456", true),
            ("%*(){}[]", true),
            ("a\"b", false),
            ("a\\b", false),
            ("\u{e4}", false),
            ("a\r\nb", false),
        ] {
            assert_eq!(is_plain(text.as_bytes()), expected, "{text:?}");
        }
    }
}
