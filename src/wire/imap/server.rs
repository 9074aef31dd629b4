//! Our face to the client: greeting, commands before sign-in, credentials, then the upstream's own success or a refusal.

use super::words;
use super::{Announcement, Args, Gather, Gathered, id, is_tag, push_reply, split_word};
use crate::reason::{Reason, Refusal};
use crate::secret::Secret;
use crate::wire::line::{Inbox, first_line, line_feed, without_end};
use crate::wire::sasl::{self, Exchange, Identity, Mechanism, SaslError, Turn};
use crate::wire::{
    ClientTls, CloseCause, Credentials, Introduction, Leftover, Machine, OutBuf, ServerEvent, ServerFacts,
    ServerMachine, Step, Success,
};
use std::ops::Range;
use std::time::Instant;
use zeroize::Zeroizing;

/// The IMAP server machine (RFC 3501 §6.1 and §6.2).
pub(super) struct Server {
    state: State,
    facts: ServerFacts,
    inbox: Inbox,
    /// The client sends nothing more.
    ended: bool,
    /// The client asked for CAPABILITY itself, so it would ignore a code in the tagged OK (P33).
    asked_capability: bool,
    introduction: Introduction,
    client_hint: Option<String>,
    errors: u32,
    attempts: u32,
}

type Tag = Vec<u8>;

/// What may come next.
enum State {
    /// Nothing was said yet.
    Greet,
    /// A command, of which this much has come.
    ExpectCommand(Gather),
    /// An answer in an AUTHENTICATE exchange.
    ExpectSasl { tag: Tag, exchange: Exchange },
    /// The rest of a command that is refused already.
    ExpectRefusedRest(RefusedRest),
    /// The TLS handshake, by the driver.
    ExpectHandshake,
    /// The decision about a sign-in, by the driver.
    ExpectVerdict { tag: Tag },
    /// A success to be written.
    Admitting { tag: Tag, success: Success },
    /// A refusal to be written at its time.
    Refusing { tag: Tag, refusal: Refusal, at: Instant },
    /// Nothing: the session belongs to the relay.
    Admitted,
    /// A goodbye to be written; the tag is that of an undecided sign-in.
    Leaving { tag: Option<Tag>, cause: CloseCause },
    /// Nothing more.
    Closed(CloseCause),
}

/// A refused command whose remaining bytes are swallowed, because they would be taken for commands otherwise (P25).
struct RefusedRest {
    /// Octets of a literal still to come.
    literal: u64,
    /// Octets that may still be swallowed.
    budget: u64,
    /// The line that answers the command once it is over, without line end.
    answer: Zeroizing<Vec<u8>>,
    /// What comes holds a password that is not protected.
    in_clear: bool,
}

/// Most octets of a refused command that are swallowed; who sends more is cut off. Costs no memory, only time.
const MAX_SWALLOWED: u64 = 1024 * 1024;

const LINE_TOO_LONG: &str = "BAD [TOOBIG] Line too long";

/// What is kept of a refused line until its end: the longest announcement is `{18446744073709551615+}` and CRLF.
const TAIL: usize = 32;

/// Offered while a password is welcome. Only one mechanism: one wrong password is one try then (clients.md section 1).
const CAPABILITIES: &str = "IMAP4rev1 SASL-IR LITERAL+ ID AUTH=PLAIN";

/// Offered before TLS (P17).
const CAPABILITIES_BEFORE_TLS: &str = "IMAP4rev1 SASL-IR LITERAL+ ID STARTTLS LOGINDISABLED";

impl Server {
    pub(super) fn new(facts: ServerFacts) -> Self {
        // The line end of the longest line comes on top.
        let limit = facts.limits.max_line + facts.limits.max_literals + 2;
        Server {
            state: State::Greet,
            inbox: Inbox::new(limit),
            facts,
            ended: false,
            asked_capability: false,
            introduction: Introduction::default(),
            client_hint: None,
            errors: 0,
            attempts: 0,
        }
    }

    fn capabilities(&self) -> &'static str {
        match self.facts.tls {
            ClientTls::StartTls => CAPABILITIES_BEFORE_TLS,
            ClientTls::On | ClientTls::ClearAllowed => CAPABILITIES,
        }
    }

    fn greet(&mut self, out: &mut OutBuf) -> Step<ServerEvent> {
        out.line(&format!(
            "* OK [CAPABILITY {}] {} ready",
            self.capabilities(),
            self.facts.hostname
        ));
        self.flush()
    }

    /// Collects one command and carries it out.
    fn gather(&mut self, mut gather: Gather, out: &mut OutBuf) -> Step<ServerEvent> {
        if self.facts.tls != ClientTls::On && self.inbox.as_slice().starts_with(TLS_RECORD) {
            return self.leave(None, CloseCause::WrongTransport, out);
        }
        match gather.advance(self.inbox.as_slice()) {
            Gathered::Partial if gather.is_too_long(self.inbox.len(), &self.facts.limits) => {
                self.refuse_line(gather.line..self.inbox.len(), LINE_TOO_LONG, out)
            }
            Gathered::Partial => {
                self.state = State::ExpectCommand(gather);
                self.starved()
            }
            Gathered::Announced { announcement, behind } => self.announced(gather, announcement, behind, out),
            Gathered::Whole(end) if gather.is_too_long(end, &self.facts.limits) => {
                self.refuse_line(gather.line..end, LINE_TOO_LONG, out)
            }
            Gathered::Whole(end) => {
                let command = Zeroizing::new(self.inbox.as_slice()[..end].to_vec());
                self.inbox.consume(end);
                self.command(&command, &gather.literals, out)
            }
        }
    }

    /// Lets a literal come, or refuses it before it does: a continuation is a promise to take it (P25).
    fn announced(
        &mut self,
        mut gather: Gather,
        announcement: Announcement,
        behind: usize,
        out: &mut OutBuf,
    ) -> Step<ServerEvent> {
        let refusal = if gather.is_too_long(behind, &self.facts.limits) {
            Some(LINE_TOO_LONG.to_owned())
        } else if !gather.has_room_for(announcement.size, &self.facts.limits) {
            Some("NO [TOOBIG] Literal too long".to_owned())
        } else {
            self.unwelcome_literal()
        };
        if let Some(answer) = refusal {
            // A literal that waits for us does not come.
            let in_clear = announcement.eager && answer == tls_first();
            return self.refuse_rest(gather.line..behind, &answer, in_clear, out);
        }
        // Within the limits, which are of this type.
        gather.accept(behind, announcement.size as usize);
        self.state = State::ExpectCommand(gather);
        if !announcement.eager {
            out.line("+ OK");
        }
        Step::Flush
    }

    /// Why the command at the front may have no literal, whatever its size. A password that would travel in the clear is not
    /// asked for.
    fn unwelcome_literal(&self) -> Option<String> {
        let mut args = Args::new(first_line(self.inbox.as_slice()), &[]);
        args.word();
        args.spaces();
        match Verb::parse(args.word()) {
            Some(Verb::Login) if self.facts.tls == ClientTls::StartTls => Some(tls_first()),
            Some(Verb::Login | Verb::Id) => None,
            _ => Some("BAD No literal is expected here".to_owned()),
        }
    }

    /// Refuses the command at the front of the inbox, whose current line is (or so far is) `line`, and swallows what belongs
    /// to it. Only the line's tail is looked at again: what is before the line are literals, which may hold line ends.
    fn refuse_line(&mut self, line: Range<usize>, answer: &str, out: &mut OutBuf) -> Step<ServerEvent> {
        self.refuse_rest(line, answer, false, out)
    }

    fn refuse_rest(
        &mut self,
        line: Range<usize>,
        answer: &str,
        in_clear: bool,
        out: &mut OutBuf,
    ) -> Step<ServerEvent> {
        let (first, _) = split_word(first_line(self.inbox.as_slice()));
        let tag: &[u8] = if is_tag(first) { first } else { b"*" };
        let answer = Zeroizing::new([tag, b" ", answer.as_bytes()].concat());
        self.inbox.consume(line.start.max(line.end.saturating_sub(TAIL)));
        self.swallow(
            RefusedRest {
                literal: 0,
                budget: MAX_SWALLOWED,
                answer,
                in_clear,
            },
            out,
        )
    }

    fn swallow(&mut self, mut rest: RefusedRest, out: &mut OutBuf) -> Step<ServerEvent> {
        loop {
            if rest.literal > 0 {
                let swallowed = self
                    .inbox
                    .len()
                    .min(usize::try_from(rest.literal).unwrap_or(usize::MAX));
                self.inbox.consume(swallowed);
                rest.literal -= swallowed as u64;
                if rest.literal > 0 {
                    self.state = State::ExpectRefusedRest(rest);
                    return self.starved();
                }
            }
            let Some(end) = line_feed(self.inbox.as_slice(), 0) else {
                let swallowed = self.inbox.len().saturating_sub(TAIL);
                self.inbox.consume(swallowed);
                let Some(budget) = rest.budget.checked_sub(swallowed as u64) else {
                    return self.leave(None, CloseCause::TooLong, out);
                };
                self.state = State::ExpectRefusedRest(RefusedRest { budget, ..rest });
                return self.starved();
            };
            let announcement = Announcement::at_end_of(without_end(&self.inbox.as_slice()[..=end]));
            self.inbox.consume(end + 1);
            match announcement.filter(|announcement| announcement.eager) {
                Some(Announcement { size, .. }) => {
                    let Some(budget) = rest.budget.checked_sub(size).and_then(|left| left.checked_sub(1))
                    else {
                        return self.leave(None, CloseCause::TooLong, out);
                    };
                    rest.budget = budget;
                    rest.literal = size;
                }
                // A literal that waits for our continuation never comes: the command ends here for both of us.
                None => {
                    out.push(&rest.answer);
                    out.push(b"\r\n");
                    let step = self.erred(out);
                    return if rest.in_clear { PASSWORD_IN_CLEAR } else { step };
                }
            }
        }
    }

    fn command(&mut self, command: &[u8], literals: &[Range<usize>], out: &mut OutBuf) -> Step<ServerEvent> {
        let mut args = Args::new(command, literals);
        let tag = args.word();
        if !is_tag(tag) {
            return self.refuse_command(b"*", "BAD A command begins with a tag", out);
        }
        if command.contains(&0) {
            return self.refuse_command(tag, "BAD NUL is not allowed", out);
        }
        args.spaces();
        let Some(verb) = Verb::parse(args.word()) else {
            return self.refuse_command(tag, "BAD Unknown command, or not before sign-in", out);
        };
        match verb {
            Verb::Login => self.login(tag, args, out),
            Verb::Authenticate => self.authenticate(tag, args, out),
            Verb::StartTls => self.start_tls(tag, args, out),
            Verb::Id => self.id(tag, args, out),
            Verb::Logout => self.log_out(tag, out),
            Verb::Capability => {
                self.asked_capability = true;
                out.line(&format!("* CAPABILITY {}", self.capabilities()));
                self.answer(tag, "OK Capabilities listed", out)
            }
            Verb::Noop => self.answer(tag, "OK Nothing done", out),
            // What a client enables before sign-in would have to be enabled upstream too; so nothing is (RFC 5161 §3.2).
            Verb::Enable => {
                out.line("* ENABLED");
                self.answer(tag, "OK Nothing enabled before sign-in", out)
            }
        }
    }

    /// `login = "LOGIN" SP userid SP password` (RFC 3501 §9).
    fn login(&mut self, tag: &[u8], mut args: Args<'_>, out: &mut OutBuf) -> Step<ServerEvent> {
        if self.facts.tls == ClientTls::StartTls {
            return self.refuse_before_tls(tag, args, out);
        }
        let mut argument = || {
            let separated = args.spaces();
            args.astring()
                .map_err(drop)
                .and_then(|value| if separated { Ok(value) } else { Err(()) })
        };
        let (Ok(mut login), Ok(mut literal)) = (argument(), argument()) else {
            return self.refuse_command(tag, "BAD LOGIN needs a login and a password", out);
        };
        if !args.at_end() {
            return self.refuse_command(tag, "BAD LOGIN takes two arguments; quote what holds spaces", out);
        }
        let (login, literal) = (std::mem::take(&mut *login), std::mem::take(&mut *literal));
        match Identity::new(Secret::new(login), Secret::new(literal), None) {
            Ok(identity) => self.credentials(tag, identity),
            Err(error) => self.refuse_sasl(tag, error, out),
        }
    }

    /// `authenticate = "AUTHENTICATE" SP auth-type [SP (base64 / "=")]` (RFC 3501 §9, RFC 4959 §7).
    fn authenticate(&mut self, tag: &[u8], mut args: Args<'_>, out: &mut OutBuf) -> Step<ServerEvent> {
        args.spaces();
        let mechanism = args.word();
        if self.facts.tls == ClientTls::StartTls {
            return self.refuse_before_tls(tag, args, out);
        }
        let Some(mechanism) = Mechanism::parse(mechanism) else {
            return self.refuse_command(tag, "NO [CANNOT] Mechanism not offered", out);
        };
        let exchange = Exchange::new(mechanism);
        if args.at_end() {
            return self.ask(tag, exchange, out);
        }
        let initial = args.word();
        if !args.at_end() {
            return self.refuse_command(tag, "BAD AUTHENTICATE takes one initial response", out);
        }
        let initial: &[u8] = if initial == b"=" { b"" } else { initial };
        self.sasl_answer(tag, exchange, initial, out)
    }

    /// Refuses a sign-in that must not come before TLS; what is left of its arguments, a password, is not looked at.
    fn refuse_before_tls(&mut self, tag: &[u8], mut args: Args<'_>, out: &mut OutBuf) -> Step<ServerEvent> {
        let step = self.refuse_command(tag, &tls_first(), out);
        if args.at_end() { step } else { PASSWORD_IN_CLEAR }
    }

    fn ask(&mut self, tag: &[u8], exchange: Exchange, out: &mut OutBuf) -> Step<ServerEvent> {
        // The space belongs there even if nothing follows; some programs wait for it (P30).
        out.push(b"+ ");
        out.line(exchange.prompt());
        self.state = State::ExpectSasl {
            tag: tag.to_vec(),
            exchange,
        };
        Step::Flush
    }

    /// A line in an AUTHENTICATE exchange, of which announcements of literals are no part.
    fn sasl_line(&mut self, tag: Tag, exchange: Exchange, out: &mut OutBuf) -> Step<ServerEvent> {
        let Some(end) = line_feed(self.inbox.as_slice(), 0) else {
            if self.inbox.len() <= self.facts.limits.max_line {
                self.state = State::ExpectSasl { tag, exchange };
                return self.starved();
            }
            let answer = Zeroizing::new([&tag[..], b" ", LINE_TOO_LONG.as_bytes()].concat());
            return self.swallow(
                RefusedRest {
                    literal: 0,
                    budget: MAX_SWALLOWED,
                    answer,
                    in_clear: false,
                },
                out,
            );
        };
        let line = Zeroizing::new(self.inbox.as_slice()[..end].to_vec());
        self.inbox.consume(end + 1);
        match line.trim_ascii() {
            b"*" => self.refuse_command(&tag, "BAD Cancelled", out),
            answer => self.sasl_answer(&tag, exchange, answer, out),
        }
    }

    fn sasl_answer(
        &mut self,
        tag: &[u8],
        exchange: Exchange,
        answer: &[u8],
        out: &mut OutBuf,
    ) -> Step<ServerEvent> {
        match sasl::decode(answer).and_then(|decoded| exchange.answer(decoded)) {
            Ok(Turn::Ask(next)) => self.ask(tag, next, out),
            Ok(Turn::Done(identity)) => self.credentials(tag, identity),
            Err(error) => self.refuse_sasl(tag, error, out),
        }
    }

    fn refuse_sasl(&mut self, tag: &[u8], error: SaslError, out: &mut OutBuf) -> Step<ServerEvent> {
        let answer = match error {
            SaslError::Base64 => "BAD Not valid base64",
            SaslError::Malformed => "BAD Login and password are not in the form that the mechanism asks for",
            SaslError::Empty => "BAD Login and password must not be empty",
        };
        self.refuse_command(tag, answer, out)
    }

    fn credentials(&mut self, tag: &[u8], identity: Identity) -> Step<ServerEvent> {
        self.state = State::ExpectVerdict { tag: tag.to_vec() };
        let Identity {
            login,
            literal,
            acts_as,
        } = identity;
        let client_hint = self.client_hint.clone();
        Step::Event(ServerEvent::Credentials(Credentials {
            login,
            literal,
            acts_as,
            client_hint,
        }))
    }

    fn start_tls(&mut self, tag: &[u8], mut args: Args<'_>, out: &mut OutBuf) -> Step<ServerEvent> {
        if !args.at_end() {
            return self.refuse_command(tag, "BAD STARTTLS takes no arguments", out);
        }
        match self.facts.tls {
            ClientTls::On => self.refuse_command(tag, "BAD TLS is on already", out),
            ClientTls::ClearAllowed => self.refuse_command(tag, "BAD STARTTLS is not offered here", out),
            // Somebody on the way may have put these bytes there, to be taken for the client's own behind TLS (P12).
            ClientTls::StartTls if !self.inbox.is_empty() => {
                push_reply(out, tag, "BAD Nothing may follow STARTTLS before TLS is on");
                self.leave(None, CloseCause::Injection, out)
            }
            ClientTls::StartTls => {
                push_reply(out, tag, "OK Begin TLS now");
                self.state = State::ExpectHandshake;
                Step::Event(ServerEvent::StartTls)
            }
        }
    }

    /// `id = "ID" SP id-params-list` (RFC 2971 §4).
    fn id(&mut self, tag: &[u8], mut args: Args<'_>, out: &mut OutBuf) -> Step<ServerEvent> {
        args.spaces();
        let Ok(pairs) = id::pairs(&mut args) else {
            return self.refuse_command(tag, "BAD ID needs NIL or a list of at most 30 pairs", out);
        };
        self.client_hint = client_hint(&pairs);
        self.introduction = Introduction {
            pairs: pairs.into_iter().filter(id::may_introduce).collect(),
        };
        out.line("* ID (\"name\" \"Gatepost\")");
        self.answer(tag, "OK Nice to meet you", out)
    }

    fn log_out(&mut self, tag: &[u8], out: &mut OutBuf) -> Step<ServerEvent> {
        let step = self.leave(None, CloseCause::ClientQuit, out);
        push_reply(out, tag, "OK Signed out");
        step
    }

    fn admitted(&mut self, tag: &[u8], success: &Success, out: &mut OutBuf) -> Step<ServerEvent> {
        out.push(&success.before);
        let (condition, text) = split_word(&success.line);
        let list = success
            .capabilities
            .as_ref()
            .filter(|list| !list.is_empty())
            .map(|list| list.join(" "));
        // One of both places, never both (P33); a code that is there already leaves no room in the tagged line.
        let untagged = self.asked_capability || text.starts_with(b"[");
        if let Some(list) = list.as_ref().filter(|_| untagged) {
            out.line(&format!("* CAPABILITY {list}"));
        }
        out.push(tag);
        out.push(b" ");
        out.push(condition);
        out.push(b" ");
        if let Some(list) = list.as_ref().filter(|_| !untagged) {
            out.push(format!("[CAPABILITY {list}] ").as_bytes());
        }
        out.push(if text.is_empty() { b"Signed in" } else { text });
        out.push(b"\r\n");
        self.state = State::Admitted;
        Step::Flush
    }

    fn refused(&mut self, tag: &[u8], refusal: &Refusal, out: &mut OutBuf) -> Step<ServerEvent> {
        push_reply(out, tag, &words::refusal(refusal).answer());
        self.attempts += 1;
        if self.attempts >= self.facts.limits.max_attempts {
            return self.leave(None, CloseCause::TooManyAttempts, out);
        }
        self.flush()
    }

    fn answer(&mut self, tag: &[u8], answer: &str, out: &mut OutBuf) -> Step<ServerEvent> {
        push_reply(out, tag, answer);
        self.flush()
    }

    /// Answers a bad command; never fatal at once, but there is a limit (P29).
    fn refuse_command(&mut self, tag: &[u8], answer: &str, out: &mut OutBuf) -> Step<ServerEvent> {
        push_reply(out, tag, answer);
        self.erred(out)
    }

    fn erred(&mut self, out: &mut OutBuf) -> Step<ServerEvent> {
        self.errors += 1;
        if self.errors >= self.facts.limits.max_errors {
            return self.leave(None, CloseCause::TooManyErrors, out);
        }
        self.flush()
    }

    fn flush(&mut self) -> Step<ServerEvent> {
        self.state = State::ExpectCommand(Gather::default());
        Step::Flush
    }

    /// Says goodbye, and before it a word to an undecided sign-in.
    fn leave(&mut self, tag: Option<Tag>, cause: CloseCause, out: &mut OutBuf) -> Step<ServerEvent> {
        if let Some(tag) = tag {
            push_reply(out, &tag, "NO [UNAVAILABLE] Not decided, try again later");
        }
        out.push(words::goodbye(cause).as_slice());
        self.close(cause)
    }

    fn close(&mut self, cause: CloseCause) -> Step<ServerEvent> {
        self.inbox.clear();
        self.state = State::Closed(cause);
        Step::Close(cause)
    }

    /// Nothing can be done before more comes, and perhaps nothing more comes.
    fn starved(&mut self) -> Step<ServerEvent> {
        if self.ended {
            return self.close(CloseCause::ClientClosed);
        }
        Step::Wait {
            until: Some(self.facts.deadline),
        }
    }

    /// Turns to the goodbye when the time before sign-in is over. A refusal that waits for its own time still gets it: an
    /// earlier answer would tell how long the decision took.
    fn watch_deadline(&mut self, now: Instant) {
        let over = now >= self.facts.deadline;
        if over && !matches!(self.state, State::Admitting { .. } | State::Refusing { .. }) {
            self.turn_to_goodbye(CloseCause::LoginDeadline);
        }
    }

    fn turn_to_goodbye(&mut self, cause: CloseCause) {
        let tag = match &mut self.state {
            State::Admitted | State::Leaving { .. } | State::Closed(_) => return,
            State::ExpectVerdict { tag }
            | State::Admitting { tag, .. }
            | State::Refusing { tag, .. }
            | State::ExpectSasl { tag, .. } => Some(std::mem::take(tag)),
            State::Greet | State::ExpectCommand(_) | State::ExpectRefusedRest(_) | State::ExpectHandshake => {
                None
            }
        };
        self.state = State::Leaving { tag, cause };
    }
}

impl Machine for Server {
    type Event = ServerEvent;

    fn input(&mut self, bytes: &[u8]) -> usize {
        let max_pipelined = self.facts.limits.max_pipelined;
        let most = match &self.state {
            // The first line may be a sign-in already; what is behind it then counts as pipelined.
            State::Greet
            | State::ExpectCommand(_)
            | State::ExpectSasl { .. }
            | State::ExpectRefusedRest(_) => {
                line_feed(bytes, 0).map_or(bytes.len(), |end| end + 1 + max_pipelined)
            }
            State::ExpectVerdict { .. } | State::Admitting { .. } | State::Refusing { .. } => {
                max_pipelined.saturating_sub(self.inbox.len())
            }
            State::ExpectHandshake => {
                // Plain bytes between our go-ahead and the handshake: see `start_tls`.
                if !bytes.is_empty() {
                    self.turn_to_goodbye(CloseCause::Injection);
                }
                return bytes.len();
            }
            State::Admitted | State::Leaving { .. } | State::Closed(_) => 0,
        };
        self.inbox.offer(&bytes[..bytes.len().min(most)])
    }

    fn end_of_input(&mut self) {
        self.ended = true;
    }

    fn step(&mut self, now: Instant, out: &mut OutBuf) -> Step<ServerEvent> {
        self.watch_deadline(now);
        match std::mem::replace(&mut self.state, State::Closed(CloseCause::Io)) {
            State::Greet => self.greet(out),
            State::ExpectCommand(gather) => self.gather(gather, out),
            State::ExpectSasl { tag, exchange } => self.sasl_line(tag, exchange, out),
            State::ExpectRefusedRest(rest) => self.swallow(rest, out),
            state @ State::ExpectHandshake => {
                self.state = state;
                self.starved()
            }
            state @ State::ExpectVerdict { .. } => {
                // The client may have closed its half; the sign-in is decided all the same.
                self.state = state;
                Step::Wait {
                    until: Some(self.facts.deadline),
                }
            }
            State::Admitting { tag, success } => self.admitted(&tag, &success, out),
            State::Refusing { tag, refusal, at } if now >= at => self.refused(&tag, &refusal, out),
            State::Refusing { tag, refusal, at } => {
                self.state = State::Refusing { tag, refusal, at };
                Step::Wait { until: Some(at) }
            }
            State::Admitted => {
                self.state = State::Admitted;
                Step::Wait { until: None }
            }
            State::Leaving { tag, cause } => self.leave(tag, cause, out),
            State::Closed(cause) => self.close(cause),
        }
    }
}

impl ServerMachine for Server {
    fn tls_started(&mut self) {
        if !matches!(self.state, State::ExpectHandshake) {
            return; // injected bytes: the goodbye is on its way
        }
        self.facts.tls = ClientTls::On;
        self.inbox.clear();
        self.asked_capability = false;
        self.introduction = Introduction::default();
        self.client_hint = None;
        self.state = State::ExpectCommand(Gather::default());
    }

    fn admit(&mut self, success: Success) {
        if let State::ExpectVerdict { tag } = &mut self.state {
            let tag = std::mem::take(tag);
            self.state = State::Admitting { tag, success };
        }
    }

    fn refuse(&mut self, refusal: Refusal, at: Instant) {
        if let State::ExpectVerdict { tag } = &mut self.state {
            let tag = std::mem::take(tag);
            self.state = State::Refusing { tag, refusal, at };
        }
    }

    fn shutting_down(&mut self, cause: CloseCause) {
        self.turn_to_goodbye(cause);
    }

    fn introduction(&self) -> Introduction {
        self.introduction.clone()
    }

    fn into_leftover(mut self: Box<Self>) -> Leftover {
        Leftover(self.inbox.take())
    }
}

/// The commands that we know before sign-in (P39).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Authenticate,
    Capability,
    Enable,
    Id,
    Login,
    Logout,
    Noop,
    StartTls,
}

impl Verb {
    fn parse(word: &[u8]) -> Option<Self> {
        const VERBS: [(&str, Verb); 8] = [
            ("AUTHENTICATE", Verb::Authenticate),
            ("CAPABILITY", Verb::Capability),
            ("ENABLE", Verb::Enable),
            ("ID", Verb::Id),
            ("LOGIN", Verb::Login),
            ("LOGOUT", Verb::Logout),
            ("NOOP", Verb::Noop),
            ("STARTTLS", Verb::StartTls),
        ];
        VERBS
            .iter()
            .find(|(name, _)| name.as_bytes().eq_ignore_ascii_case(word))
            .map(|(_, verb)| *verb)
    }
}

/// "Thunderbird 128.0" out of name and version.
fn client_hint(pairs: &[id::Pair]) -> Option<String> {
    let value = |wanted: &str| {
        let (_, value) = pairs
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(wanted.as_bytes()))?;
        value.as_deref().map(String::from_utf8_lossy)
    };
    let name = value("name")?;
    let both = format!("{name} {}", value("version").unwrap_or_default());
    let cleaned: String = both
        .chars()
        .filter(|letter| !letter.is_control())
        .take(MAX_HINT)
        .collect();
    Some(cleaned.trim().to_owned()).filter(|hint| !hint.is_empty())
}

/// Longest [`Credentials::client_hint`], characters.
const MAX_HINT: usize = 80;

/// How every TLS handshake begins: a record of type handshake, version 3.x (RFC 8446 §5.1). No tag begins so.
const TLS_RECORD: &[u8] = &[0x16, 0x03];

/// The state that follows was set before: the machine goes on by itself.
const PASSWORD_IN_CLEAR: Step<ServerEvent> = Step::Event(ServerEvent::PasswordInClear);

/// The answer to a password before TLS, which nobody looked at (P18).
fn tls_first() -> String {
    words::refusal(&Refusal::unproven(Reason::PlaintextPassword)).answer()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Limits;
    use std::time::Duration;

    fn server(tls: ClientTls) -> (Server, Instant) {
        let now = Instant::now();
        let deadline = now + Duration::from_secs(60);
        let facts = ServerFacts {
            tls,
            hostname: "mx.example.org".to_owned(),
            limits: Limits::default(),
            deadline,
        };
        (Server::new(facts), now)
    }

    /// Steps to rest; gives what was said and the last step.
    fn rest(server: &mut Server, now: Instant) -> (String, Step<ServerEvent>) {
        let mut said = String::new();
        loop {
            let mut out = OutBuf::new();
            let step = server.step(now, &mut out);
            said.push_str(std::str::from_utf8(out.as_slice()).unwrap());
            if !matches!(step, Step::Flush) {
                return (said, step);
            }
        }
    }

    /// Offers everything, stepping in between.
    fn offer(server: &mut Server, now: Instant, bytes: &[u8]) -> String {
        let (mut said, _) = rest(server, now);
        let mut left = bytes;
        while let taken @ 1.. = server.input(left) {
            left = &left[taken..];
            said.push_str(&rest(server, now).0);
        }
        said
    }

    #[test]
    fn no_more_than_the_limit_is_taken_behind_a_sign_in() {
        let (mut server, now) = server(ClientTls::On);
        let login = b"a LOGIN joe secret\r\n";
        let bytes = [&login[..], &[b'x'; 100_000]].concat();
        let max_pipelined = Limits::default().max_pipelined;
        assert_eq!(server.input(&bytes), login.len() + max_pipelined);
        assert!(matches!(
            rest(&mut server, now).1,
            Step::Event(ServerEvent::Credentials(_))
        ));
        assert_eq!(server.input(&bytes), 0);
        assert_eq!(Box::new(server).into_leftover().0.len(), max_pipelined);
    }

    #[test]
    fn a_line_above_the_limit_is_answered_and_costs_no_memory() {
        let (mut server, now) = server(ClientTls::On);
        let line = [
            b"a LOGIN ".to_vec(),
            vec![b'x'; 300_000],
            b" {12+}\r\nb LOGIN x y\n\r\nc NOOP\r\n".to_vec(),
        ]
        .concat();
        let said = offer(&mut server, now, &line);
        assert!(
            said.ends_with("ready\r\na BAD [TOOBIG] Line too long\r\nc OK Nothing done\r\n"),
            "{said}"
        );
        assert!(server.inbox.is_empty());
    }

    #[test]
    fn who_sends_a_refused_command_without_end_is_cut_off() {
        let (mut server, now) = server(ClientTls::On);
        offer(&mut server, now, &vec![b'x'; 1_200_000]);
        assert!(matches!(
            rest(&mut server, now).1,
            Step::Close(CloseCause::TooLong)
        ));
    }

    #[test]
    fn literals_are_limited_one_by_one_and_together() {
        let (mut server, now) = server(ClientTls::On);
        let literal = [b"{8192+}\r\n".to_vec(), vec![b'x'; 8192]].concat();
        let command = [
            &b"a ID ("[..],
            &literal,
            b" ",
            &literal,
            b" {1+}\r\ny NIL)\r\nb NOOP\r\n",
        ]
        .concat();
        let said = offer(&mut server, now, &command);
        assert!(
            said.ends_with("ready\r\na NO [TOOBIG] Literal too long\r\nb OK Nothing done\r\n"),
            "{said}"
        );
    }

    #[test]
    fn a_refusal_keeps_its_time_across_the_deadline() {
        let (mut server, now) = server(ClientTls::On);
        offer(&mut server, now, b"a LOGIN joe secret\r\n");
        server.refuse(
            Refusal::unproven(Reason::WrongCode),
            now + Duration::from_secs(63),
        );
        let (said, step) = rest(&mut server, now + Duration::from_secs(62));
        assert!(
            said.is_empty()
                && matches!(step, Step::Wait { until: Some(at) } if at == now + Duration::from_secs(63))
        );
        let (said, step) = rest(&mut server, now + Duration::from_secs(63));
        assert!(
            said.starts_with("a NO [AUTHENTICATIONFAILED] ") && said.contains("\r\n* BYE "),
            "{said}"
        );
        assert!(matches!(step, Step::Close(CloseCause::LoginDeadline)));
        let (said, step) = rest(&mut server, now + Duration::from_secs(64));
        assert!(
            said.is_empty() && matches!(step, Step::Close(CloseCause::LoginDeadline)),
            "spurious steps are safe"
        );
    }

    #[test]
    fn a_decision_that_comes_too_late_changes_nothing() {
        let (mut server, now) = server(ClientTls::On);
        offer(&mut server, now, b"a LOGIN joe secret\r\n");
        server.shutting_down(CloseCause::Drain);
        server.admit(Success {
            line: b"OK in".to_vec().into(),
            ..Success::default()
        });
        let (said, step) = rest(&mut server, now);
        assert!(
            said.starts_with("a NO [UNAVAILABLE] ") && !said.contains("OK in"),
            "{said}"
        );
        assert!(matches!(step, Step::Close(CloseCause::Drain)));
    }

    #[test]
    fn every_close_before_the_greeting_is_a_greeting() {
        let (mut server, now) = server(ClientTls::On);
        server.shutting_down(CloseCause::Drain);
        assert!(rest(&mut server, now).0.starts_with("* BYE "));
    }

    #[test]
    fn hints_are_short_and_clean() {
        let pair = |key: &str, value: &str| (key.as_bytes().to_vec(), Some(value.as_bytes().to_vec()));
        for (pairs, expected) in [
            (
                vec![pair("NAME", "K-9"), pair("version", "6.8")],
                Some("K-9 6.8".to_owned()),
            ),
            (
                vec![pair("name", "evil\r\n\x1b[1mname")],
                Some("evil[1mname".to_owned()),
            ),
            (vec![pair("name", &"n".repeat(100))], Some("n".repeat(80))),
            (vec![pair("version", "1")], None),
            (vec![pair("name", " ")], None),
            (vec![(b"name".to_vec(), None)], None),
        ] {
            assert_eq!(client_hint(&pairs), expected);
        }
    }
}
