//! What may pass after the hand-over (F23, P2, P4, P7, P9).
//!
//! Whoever signed in with one person's code must not get back to the state before sign-in on the same upstream connection,
//! where a password alone would be enough. So every command line's verb is looked at, and nothing that we are not sure is the
//! inside of a literal goes past unseen. The rules that make this exact, whatever the upstream's own habits are:
//!
//! - The upstream sees only CRLF line ends and only literals that wait (`{n}`): a bare LF and `{n+}` are rewritten. So it is the
//!   *upstream's* answer, not our guess, that says whether n octets of literal or a new command follow.
//! - While a literal or IDLE waits for that answer, nothing else goes up; and it goes up only when everything before it has
//!   been answered. So a continuation or a tagged answer cannot belong to another command, not with equal tags either.
//! - Upstreams say back what they did not understand, raw: Dovecot's `BAD ... Unexpected string as search key: X` goes on with
//!   whatever lines the literal holds, and they would pass for its continuations. So only a message may hold line ends.
//! - An ID is collected and written anew, without the keys by which an upstream that trusts us takes an address from us (P6).
//! - What cannot be a command (no tag, no verb, a control character in them) is answered by us and never forwarded. A bare CR, a
//!   NUL or an odd announcement in a line ends the session: upstreams differ about them.
//!
//! Downwards only line and literal positions are followed, to find continuations and tagged answers, to know when something
//! may be said to the client, and to filter capabilities and referrals.

use super::{
    Announcement, Args, Condition, FILTERED_CODES, Gather, Gathered, MAX_TAG, Status, capabilities,
    cleaned_status, id, is_blank, is_tag, trim_blanks, words,
};
use crate::wire::line::{line_feed, without_end};
use crate::wire::{CloseCause, Direction, Guard, HoldFor, MAX_HELD, OutBuf, Watch};
use std::hash::{DefaultHasher, Hasher};

/// The guard of one IMAP session.
pub(super) struct ImapGuard {
    up: Up,
    down: Down,
    /// The upstream's line begins with bytes that are held.
    down_held: bool,
    /// Commands that were sent up and not answered yet.
    outstanding: Outstanding,
}

/// Where the client's bytes are.
enum Up {
    /// At the beginning of a command.
    Start,
    /// Inside a line of a command that may pass.
    Line(Command),
    /// A literal was announced to the upstream; nothing passes before it has said yes or no.
    ExpectGoAhead {
        command: Command,
        size: u32,
        eager: bool,
    },
    /// The upstream said yes; these octets come next.
    Literal { command: Command, size: u32 },
    /// IDLE was sent; nothing passes before the upstream idles or refuses.
    ExpectIdling { tag: TagHash },
    /// The upstream idles; only DONE may pass.
    Idling { tag: TagHash },
    /// Inside an ID.
    Introducing(Box<Introduced>),
    /// Inside a command that does not pass.
    Dropping(Box<Dropped>),
}

/// A command on its way up.
#[derive(Clone, Copy)]
struct Command {
    tag: TagHash,
    /// Octets of its lines so far.
    octets: u32,
    /// A literal of it was let in.
    has_literal: bool,
    /// The upstream has answered it although its last line end was not sent yet.
    answered: bool,
    /// It is APPEND, whose message may hold line ends.
    appends: bool,
    /// Something besides spaces stands behind the verb.
    has_argument: bool,
    /// The last octets that are no spaces.
    tail: [u8; 3],
    /// What went up last may be the beginning of an announcement that is longer than any.
    long_brace: bool,
    /// The upstream has said an untagged BAD, perhaps to this, although its last line end was not sent yet.
    doubted: bool,
}

/// An ID, of which so much has come.
#[derive(Default)]
struct Introduced {
    received: Vec<u8>,
    gather: Gather,
}

/// A command that does not pass.
struct Dropped {
    /// Octets of a literal still to be dropped.
    literal: u32,
    /// What we say when it is over; nothing where the upstream has said it.
    answer: Option<Vec<u8>>,
    /// The IDLE during which it came.
    idling: Option<TagHash>,
}

/// Where the upstream's bytes are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Down {
    /// At the beginning of a line.
    Start,
    /// Inside a line of data, behind this octet, or in an announcement that is longer than any.
    Data { last: u8, long_brace: bool },
    /// Before a literal.
    Literal { size: u64 },
    /// Inside a line of text, which announces nothing.
    Text,
    /// Inside a line that the client does not get.
    Dropped,
}

/// Identifies a tag among the outstanding ones. Equal hashes do no harm: they are counted, and what depends on one tag
/// alone waits until no other is outstanding.
type TagHash = u64;

/// Longest beginning of a command line that is held until its verb is known, octets.
const MAX_PREFIX: usize = 512;

/// Longest command without its literals, octets; 64 KiB is what Dovecot takes. An upstream that cuts longer lines could see a
/// command where we see none.
const MAX_COMMAND: usize = 64 * 1024;

/// Longest announcement of a literal, octets.
const MAX_ANNOUNCEMENT: usize = 24;

/// The largest size of a literal (`number64`, RFC 9051 §9), octets.
const MAX_NUMBER: u64 = i64::MAX as u64;

/// Most commands that wait for their answers; more stay in the socket.
const MAX_OUTSTANDING: usize = 256;

impl ImapGuard {
    pub(super) fn new() -> Self {
        ImapGuard {
            up: Up::Start,
            down: Down::Start,
            down_held: false,
            outstanding: Outstanding::default(),
        }
    }

    fn inspect_up(&mut self, bytes: &[u8]) -> Watch {
        match &mut self.up {
            Up::Start => self.command(bytes),
            Up::Line(command) => {
                let command = *command;
                self.line(command, bytes, 0)
            }
            Up::ExpectGoAhead { .. } | Up::ExpectIdling { .. } => Watch::Hold(HoldFor::OtherSide),
            Up::Literal { command, size } => {
                let (command, size) = (*command, *size);
                self.literal(command, size, bytes)
            }
            Up::Idling { tag } => {
                let tag = *tag;
                self.idling(tag, bytes)
            }
            Up::Introducing(_) => self.introduce(bytes),
            Up::Dropping(_) => self.drop_command(bytes),
        }
    }

    /// The beginning of a command line: a tag, spaces, a verb.
    fn command(&mut self, bytes: &[u8]) -> Watch {
        if self.outstanding.is_full() {
            return Watch::Hold(HoldFor::OtherSide);
        }
        match Beginning::parse(bytes) {
            Beginning::Undecided => Watch::Hold(HoldFor::More),
            Beginning::Blank => self.begin_dropping(None, None, bytes),
            Beginning::Bad { tag } => self.begin_dropping(
                Some(answer(tag, "BAD A command needs a tag and a verb")),
                None,
                bytes,
            ),
            Beginning::Command { tag, verb, end } => match refusal_of(verb) {
                Some(words) => self.begin_dropping(Some(answer(tag, words)), None, bytes),
                None if verb.eq_ignore_ascii_case(b"IDLE") => self.idle(tag, end, bytes),
                None if verb.eq_ignore_ascii_case(b"ID") => {
                    self.up = Up::Introducing(Box::default());
                    self.introduce(bytes)
                }
                None => self.line(Command::new(tag, verb), bytes, end),
            },
        }
    }

    /// Goes on in a line that may pass; the first `seen` bytes hold no line end and no brace.
    fn line(&mut self, mut command: Command, bytes: &[u8], seen: usize) -> Watch {
        let (rest, end) = match memchr::memchr3(b'\r', b'\n', 0, &bytes[seen..]).map(|at| seen + at) {
            None => (bytes, None),
            Some(at) => match &bytes[at..] {
                [b'\n', ..] => (&bytes[..at], Some(1)),
                [b'\r', b'\n', ..] => (&bytes[..at], Some(2)),
                [b'\r'] => (&bytes[..at], Some(0)), // its LF has not come
                _ => return Watch::Close(CloseCause::Desync), // a NUL or a bare CR
            },
        };
        let answered_late = command.has_literal || command.octets as usize > MAX_PREFIX;
        if command.answered && answered_late && rest.iter().any(|byte| *byte != b' ') {
            // The upstream may take what is left for a new command, or not. An answer to the verb alone, which some give
            // before the line ends, leaves no doubt.
            return Watch::Close(CloseCause::Desync);
        }
        if command.octets as usize + rest.len() > MAX_COMMAND {
            return Watch::Close(CloseCause::TooLong);
        }
        let tail = Tail::of(&command, &rest[seen..]);
        command.long_brace = matches!(tail, Tail::Long);
        match (tail, end) {
            (Tail::Short(at), None | Some(0)) => self.pass(&rest[..seen + at], seen, command),
            (_, None | Some(0)) => self.pass(rest, seen, command),
            (Tail::Long, Some(_)) => Watch::Close(CloseCause::Desync),
            (Tail::Short(at), Some(line_end)) => match Announcement::parse(&rest[seen + at..]) {
                Some(_) if seen + at > 0 => self.pass(&rest[..seen + at], seen, command),
                Some(announcement) => self.announce(command, announcement, rest.len() + line_end, line_end),
                // `{5-}`, `{5} `: some upstream may take it for a literal.
                None if rest[seen + at..].contains(&b'}') => Watch::Close(CloseCause::Desync),
                None => self.end_line(command, rest.len(), line_end),
            },
            (Tail::Other, Some(line_end)) => self.end_line(command, rest.len(), line_end),
        }
    }

    /// Passes a part of a line, of which tag and verb are the first `seen` octets; where that is nothing, the bytes are held.
    fn pass(&mut self, part: &[u8], seen: usize, mut command: Command) -> Watch {
        if part.is_empty() {
            return Watch::Hold(HoldFor::More);
        }
        command.octets += part.len() as u32;
        command.read(part.get(seen..).unwrap_or_default());
        self.up = Up::Line(command);
        Watch::Pass(part.len())
    }

    /// Octets of a literal that the upstream has asked for.
    fn literal(&mut self, command: Command, size: u32, bytes: &[u8]) -> Watch {
        if size == 0 {
            return self.line(command, bytes, 0);
        }
        if command.is_at_message() {
            self.up = Up::Line(Command {
                has_argument: true,
                ..command
            });
            return Watch::Opaque(u64::from(size));
        }
        let count = bytes.len().min(size as usize);
        if memchr::memchr2(b'\r', b'\n', &bytes[..count]).is_some() {
            return Watch::Close(CloseCause::Desync);
        }
        let size = size - count as u32;
        self.up = match size {
            0 => Up::Line(Command {
                has_argument: true,
                ..command
            }),
            _ => Up::Literal { command, size },
        };
        Watch::Pass(count)
    }

    /// The end of a command.
    fn end_line(&mut self, mut command: Command, length: usize, line_end: usize) -> Watch {
        if line_end == 1 && length > 0 {
            command.octets += length as u32;
            self.up = Up::Line(command);
            return Watch::Pass(length);
        }
        self.up = Up::Start;
        if command.doubted {
            self.outstanding.doubt(command.tag);
        } else if !command.answered {
            self.outstanding.add(command.tag);
        }
        match line_end {
            1 => Watch::Replace(1, crlf()),
            _ => Watch::Pass(length + line_end),
        }
    }

    /// A literal's announcement and the line end behind it are all that is left of the line.
    fn announce(
        &mut self,
        command: Command,
        announcement: Announcement,
        length: usize,
        line_end: usize,
    ) -> Watch {
        let Ok(size) = u32::try_from(announcement.size) else {
            return Watch::Close(CloseCause::TooLong);
        };
        if command.answered || command.doubted {
            return Watch::Close(CloseCause::Desync);
        }
        if !self.outstanding.lets_ask(command.tag) {
            return Watch::Hold(HoldFor::OtherSide);
        }
        let command = Command {
            octets: command.octets + length as u32,
            has_literal: true,
            ..command
        };
        self.up = Up::ExpectGoAhead {
            command,
            size,
            eager: announcement.eager,
        };
        if !announcement.eager && line_end == 2 {
            return Watch::Pass(length);
        }
        let mut rewritten = OutBuf::new();
        rewritten.line(&format!("{{{size}}}"));
        Watch::Replace(length, rewritten)
    }

    /// `idle = "IDLE" CRLF "DONE"` (RFC 2177 §4). Exactly that, so that a continuation can only mean idling.
    fn idle(&mut self, tag: &[u8], end: usize, bytes: &[u8]) -> Watch {
        let rest = &bytes[end..];
        let Some(line_end) = line_feed(rest, 0) else {
            let may_become_one =
                rest.len() < MAX_PREFIX && without_end(rest).iter().all(|byte| *byte == b' ');
            return match may_become_one {
                true => Watch::Hold(HoldFor::More),
                false => self.begin_dropping(Some(answer(tag, "BAD IDLE takes no arguments")), None, bytes),
            };
        };
        if line_end >= MAX_PREFIX || without_end(&rest[..=line_end]).iter().any(|byte| *byte != b' ') {
            return self.begin_dropping(Some(answer(tag, "BAD IDLE takes no arguments")), None, bytes);
        }
        if !self.outstanding.lets_ask(hash(tag)) {
            return Watch::Hold(HoldFor::OtherSide);
        }
        self.up = Up::ExpectIdling { tag: hash(tag) };
        pass_as_line(&bytes[..end + line_end + 1])
    }

    /// A line while the upstream idles. Upstreams differ in what they do with anything but DONE; so they get none.
    fn idling(&mut self, tag: TagHash, bytes: &[u8]) -> Watch {
        const DONE: &[u8] = b"DONE\r\n";
        let shown = &bytes[..bytes.len().min(DONE.len())];
        if let Some(line_end) = line_feed(shown, 0)
            && without_end(&shown[..=line_end]).eq_ignore_ascii_case(b"DONE")
        {
            self.outstanding.add(tag);
            self.up = Up::Start;
            return pass_as_line(&bytes[..=line_end]);
        }
        if shown.len() < DONE.len() && shown.eq_ignore_ascii_case(&DONE[..shown.len()]) {
            return Watch::Hold(HoldFor::More);
        }
        match Beginning::parse(bytes) {
            Beginning::Undecided => Watch::Hold(HoldFor::More),
            Beginning::Blank => self.begin_dropping(None, Some(tag), bytes),
            Beginning::Bad { tag: name } | Beginning::Command { tag: name, .. } => {
                self.begin_dropping(Some(answer(name, "BAD Send DONE first")), Some(tag), bytes)
            }
        }
    }

    /// Takes an ID in, literals included, and sends it on in our words once it is whole.
    fn introduce(&mut self, bytes: &[u8]) -> Watch {
        let safe_to_speak = self.safe_to_speak();
        let Up::Introducing(id) = &mut self.up else {
            return Watch::Close(CloseCause::Desync);
        };
        let literal = id.gather.line.saturating_sub(id.received.len());
        let count = match (literal, line_feed(bytes, 0)) {
            (0, Some(0)) => return self.introduce_line(safe_to_speak),
            (0, line_end) => line_end.unwrap_or(bytes.len()),
            (literal, _) => bytes.len().min(literal),
        };
        if id.received.len() + count > MAX_COMMAND {
            return Watch::Close(CloseCause::TooLong);
        }
        id.received.extend_from_slice(&bytes[..count]);
        Watch::Replace(count, OutBuf::new())
    }

    /// The LF of an ID's line is next. What needs an answer to the client waits for a place to say it.
    fn introduce_line(&mut self, safe_to_speak: bool) -> Watch {
        let Up::Introducing(id) = &mut self.up else {
            return Watch::Close(CloseCause::Desync);
        };
        id.received.push(b'\n');
        let answer = match id.gather.advance(&id.received) {
            Gathered::Partial => return Watch::Close(CloseCause::Desync),
            Gathered::Announced { announcement, .. }
                if announcement.size.saturating_add(id.received.len() as u64) > MAX_COMMAND as u64 =>
            {
                return Watch::Close(CloseCause::TooLong);
            }
            Gathered::Announced { announcement, behind } if announcement.eager || safe_to_speak => {
                // Within the limit, which is of this type.
                id.gather.accept(behind, announcement.size as usize);
                if announcement.eager {
                    return Watch::Replace(1, OutBuf::new());
                }
                Some(b"+ OK\r\n".to_vec())
            }
            Gathered::Announced { .. } => None,
            Gathered::Whole(_) => match id.rewritten() {
                Ok((tag, command)) => {
                    self.outstanding.add(tag);
                    self.up = Up::Start;
                    return Watch::Replace(1, command);
                }
                Err(answer) if safe_to_speak => {
                    self.up = Up::Start;
                    Some(answer)
                }
                Err(_) => None,
            },
        };
        match (answer, &mut self.up) {
            (Some(answer), _) => {
                let mut out = OutBuf::new();
                out.push(&answer);
                Watch::AnswerClient(1, out)
            }
            (None, Up::Introducing(id)) => {
                id.received.pop();
                Watch::Hold(HoldFor::OtherSide)
            }
            (None, _) => Watch::Close(CloseCause::Desync),
        }
    }

    fn begin_dropping(&mut self, answer: Option<Vec<u8>>, idling: Option<TagHash>, bytes: &[u8]) -> Watch {
        self.up = Up::Dropping(Box::new(Dropped {
            literal: 0,
            answer,
            idling,
        }));
        self.drop_command(bytes)
    }

    /// Drops up to the end of the command, literals included that come unasked.
    fn drop_command(&mut self, bytes: &[u8]) -> Watch {
        let safe_to_speak = self.safe_to_speak();
        let Up::Dropping(dropped) = &mut self.up else {
            return Watch::Close(CloseCause::Desync);
        };
        if dropped.literal > 0 {
            let count = bytes.len().min(dropped.literal as usize);
            dropped.literal -= count as u32;
            return Watch::Replace(count, OutBuf::new());
        }
        let Some(end) = line_feed(bytes, 0) else {
            return match announcement_tail(bytes) {
                Some(0) => Watch::Hold(HoldFor::More),
                tail => Watch::Replace(tail.unwrap_or(bytes.len()), OutBuf::new()),
            };
        };
        let line = without_end(&bytes[..end]);
        let announcement = announcement_tail(line).and_then(|at| Announcement::parse(&line[at..]));
        if let Some(Announcement { size, eager: true }) = announcement {
            let Ok(size) = u32::try_from(size) else {
                return Watch::Close(CloseCause::TooLong);
            };
            dropped.literal = size;
            return Watch::Replace(end + 1, OutBuf::new());
        }
        // A literal that waits for a continuation does not come, so the command ends here.
        if end > 0 {
            return Watch::Replace(end, OutBuf::new());
        }
        if dropped.answer.is_some() && !safe_to_speak {
            return Watch::Hold(HoldFor::OtherSide);
        }
        let (answer, idling) = (dropped.answer.take(), dropped.idling);
        self.up = idling.map_or(Up::Start, |tag| Up::Idling { tag });
        match answer {
            None => Watch::Replace(1, OutBuf::new()),
            Some(answer) => {
                let mut out = OutBuf::new();
                out.push(&answer);
                Watch::AnswerClient(1, out)
            }
        }
    }

    fn inspect_down(&mut self, bytes: &[u8]) -> Watch {
        match self.down {
            Down::Start => match quiet_lines(bytes) {
                0 => self.response(bytes),
                count => Watch::Pass(count),
            },
            Down::Data { last, long_brace } => self.data(last, long_brace, bytes),
            Down::Literal { size } => {
                self.down = Down::Data {
                    last: 0,
                    long_brace: false,
                };
                match size {
                    0 => self.data(0, false, bytes),
                    _ => Watch::Opaque(size),
                }
            }
            Down::Text => self.text(bytes),
            Down::Dropped => {
                let count = self.rest_of_line(Down::Dropped, bytes);
                Watch::Replace(count, OutBuf::new())
            }
        }
    }

    /// The beginning of a response line that is not a quiet one.
    fn response(&mut self, bytes: &[u8]) -> Watch {
        match Response::parse(bytes) {
            Response::Undecided => Watch::Hold(HoldFor::More),
            Response::Data => self.data(0, false, bytes),
            Response::Odd => Watch::Close(CloseCause::Desync),
            Response::Text { answers } | Response::Rewritten { answers } if self.is_in_doubt(answers) => {
                Watch::Close(CloseCause::Desync)
            }
            Response::Text { answers } => {
                self.answered(answers);
                self.text(bytes)
            }
            Response::Rewritten { answers } => match line_feed(bytes, 0) {
                Some(end) if end < MAX_HELD => {
                    self.answered(answers);
                    Watch::Replace(end + 1, rewritten(&bytes[..=end]))
                }
                None if bytes.len() <= MAX_HELD => Watch::Hold(HoldFor::More),
                _ => Watch::Close(CloseCause::TooLong),
            },
            Response::Continuation => {
                if self.go_ahead() {
                    return self.text(bytes);
                }
                let count = self.rest_of_line(Down::Dropped, bytes);
                Watch::Replace(count, OutBuf::new())
            }
        }
    }

    /// A continuation came. Says whether the client gets it: not if it sent its literal unasked.
    fn go_ahead(&mut self) -> bool {
        match self.up {
            Up::ExpectGoAhead { command, size, eager } => {
                self.up = Up::Literal { command, size };
                !eager
            }
            Up::ExpectIdling { tag } => {
                self.up = Up::Idling { tag };
                true
            }
            _ => true,
        }
    }

    /// Whether it cannot be told any more what the upstream will take the next bytes for.
    fn is_in_doubt(&self, answers: Answers) -> bool {
        let may_be_refused = matches!(self.up, Up::ExpectGoAhead { .. } | Up::ExpectIdling { .. });
        answers == Answers::Somebody && (may_be_refused || self.outstanding.doubts_too_many())
    }

    /// A status response came.
    fn answered(&mut self, answers: Answers) {
        let tag = match answers {
            Answers::Nothing => return,
            Answers::Somebody => return self.somebody_answered(),
            Answers::Tag(tag) => tag,
        };
        match &mut self.up {
            Up::ExpectGoAhead { command, size, eager } if command.tag == tag => {
                self.up = match *eager {
                    true => Up::Dropping(Box::new(Dropped {
                        literal: *size,
                        answer: None,
                        idling: None,
                    })),
                    false => Up::Start,
                };
            }
            // Where an earlier command has the same tag, which of them is meant does not matter: both are answered in the end.
            Up::Literal { command, .. } | Up::Line(command)
                if command.tag == tag && !self.outstanding.holds(tag) =>
            {
                command.answered = true;
            }
            Up::ExpectIdling { tag: idle } | Up::Idling { tag: idle } if *idle == tag => self.up = Up::Start,
            Up::Dropping(dropped) if dropped.idling == Some(tag) => dropped.idling = None,
            _ => self.outstanding.remove(tag),
        }
    }

    fn somebody_answered(&mut self) {
        match &mut self.up {
            Up::Line(command) | Up::Literal { command, .. } if self.outstanding.none_is_due() => {
                command.doubted = true;
            }
            _ => self.outstanding.one_was_bad(),
        }
    }

    /// Goes on in a line of data, behind the octet `last`.
    fn data(&mut self, last: u8, long_brace: bool, bytes: &[u8]) -> Watch {
        let Some(end) = line_feed(bytes, 0) else {
            let shown = without_end(bytes);
            let count = announcement_tail(shown).unwrap_or(shown.len());
            if count == 0 {
                return Watch::Hold(HoldFor::More);
            }
            self.down = Down::Data {
                last: bytes[count - 1],
                long_brace: is_long_brace(long_brace, &bytes[..count]),
            };
            return Watch::Pass(count);
        };
        let line = without_end(&bytes[..=end]);
        if *line.last().unwrap_or(&last) == b'}' && is_long_brace(long_brace, line) {
            return Watch::Close(CloseCause::Desync);
        }
        self.down = match announced_literal(last, line) {
            // No server may say `{n+}` (RFC 7888 §4), and no literal is so large: clients would differ about what follows.
            Some(Announcement { size, eager }) if eager || size > MAX_NUMBER => {
                return Watch::Close(CloseCause::Desync);
            }
            Some(Announcement { size, .. }) => Down::Literal { size },
            None => Down::Start,
        };
        Watch::Pass(end + 1)
    }

    fn text(&mut self, bytes: &[u8]) -> Watch {
        Watch::Pass(self.rest_of_line(Down::Text, bytes))
    }

    /// How much of the bytes belongs to this line.
    fn rest_of_line(&mut self, inside: Down, bytes: &[u8]) -> usize {
        match line_feed(bytes, 0) {
            Some(end) => {
                self.down = Down::Start;
                end + 1
            }
            None => {
                self.down = inside;
                bytes.len()
            }
        }
    }
}

impl Guard for ImapGuard {
    fn inspect(&mut self, direction: Direction, bytes: &[u8]) -> Watch {
        if bytes.is_empty() {
            return Watch::Hold(HoldFor::More);
        }
        match direction {
            Direction::Up => self.inspect_up(bytes),
            Direction::Down => {
                let watch = self.inspect_down(bytes);
                self.down_held = matches!(watch, Watch::Hold(_));
                watch
            }
        }
    }

    fn safe_to_speak(&self) -> bool {
        self.down == Down::Start && !self.down_held
    }

    fn goodbye(&self, cause: CloseCause) -> OutBuf {
        words::goodbye(cause)
    }
}

/// Why a command may not pass, as the answer to it.
fn refusal_of(verb: &[u8]) -> Option<&'static str> {
    const REFUSED: [(&str, &str); 6] = [
        ("UNAUTHENTICATE", "BAD Not allowed here: sign out instead"), // P2
        ("AUTHENTICATE", "BAD You are signed in"),
        ("LOGIN", "BAD You are signed in"),
        ("STARTTLS", "BAD Only before sign-in"),       // P4
        ("PROXYAUTH", "BAD Not allowed here"),         // Sun and Oracle: an administrator becomes anybody
        ("COMPRESS", "NO Compression is not offered"), // P7
    ];
    REFUSED
        .iter()
        .find(|(name, _)| name.as_bytes().eq_ignore_ascii_case(verb))
        .map(|(_, words)| *words)
}

/// How a command line begins.
enum Beginning<'a> {
    Undecided,
    /// Nothing but a line end.
    Blank,
    /// No command; `tag` is `*` where there is none.
    Bad {
        tag: &'a [u8],
    },
    /// The verb ends at `end`, before a space or a line end.
    Command {
        tag: &'a [u8],
        verb: &'a [u8],
        end: usize,
    },
}

impl<'a> Beginning<'a> {
    fn parse(bytes: &'a [u8]) -> Self {
        let shown = &bytes[..bytes.len().min(MAX_PREFIX)];
        match shown {
            [b'\n', ..] | [b'\r', b'\n', ..] => return Beginning::Blank,
            [b'\r'] => return Beginning::Undecided,
            _ => {}
        }
        let Some(tag_end) = shown.iter().position(|byte| b" \r\n".contains(byte)) else {
            return Beginning::incomplete(shown, is_tag, b"*");
        };
        let tag = &shown[..tag_end];
        if !is_tag(tag) {
            return Beginning::Bad { tag: b"*" };
        }
        let spaces = shown[tag_end..].iter().take_while(|byte| **byte == b' ').count();
        let from = tag_end + spaces;
        let is_verb_char = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-';
        let verb = &shown[from..];
        let verb = &verb[..verb.iter().take_while(|byte| is_verb_char(byte)).count()];
        let end = from + verb.len();
        match shown.get(end) {
            None => Beginning::incomplete(shown, |_| true, tag),
            Some(b' ' | b'\r' | b'\n') if spaces > 0 && !verb.is_empty() => {
                Beginning::Command { tag, verb, end }
            }
            Some(_) => Beginning::Bad { tag },
        }
    }

    /// All that is shown could still become a command, if there is room for it.
    fn incomplete(shown: &'a [u8], may_become_one: impl Fn(&[u8]) -> bool, tag: &'a [u8]) -> Self {
        match shown.len() < MAX_PREFIX && may_become_one(shown) {
            true => Beginning::Undecided,
            false => Beginning::Bad { tag },
        }
    }
}

/// How what is known of a line ends, with regard to announcements.
enum Tail {
    /// Something that begins at this offset may be, or become, an announcement.
    Short(usize),
    /// The same, but longer than any announcement is.
    Long,
    Other,
}

impl Tail {
    fn of(command: &Command, rest: &[u8]) -> Self {
        match memchr::memrchr(b'{', rest) {
            Some(at) if !rest[at + 1..].iter().all(is_announcement_char) => Tail::Other,
            Some(at) if rest.len() - at <= MAX_ANNOUNCEMENT => Tail::Short(at),
            Some(_) => Tail::Long,
            None if command.long_brace && rest.iter().all(is_announcement_char) => Tail::Long,
            None => Tail::Other,
        }
    }
}

/// What may stand behind the brace of an announcement in the eyes of some upstream.
fn is_announcement_char(byte: &u8) -> bool {
    byte.is_ascii_digit() || b"+-} \t".contains(byte)
}

/// Where an announcement may begin at the end of these bytes.
fn announcement_tail(bytes: &[u8]) -> Option<usize> {
    let tail = &bytes[bytes.len().saturating_sub(MAX_ANNOUNCEMENT)..];
    let at = memchr::memrchr(b'{', tail)?;
    let fits = tail[at + 1..]
        .iter()
        .all(|byte| byte.is_ascii_digit() || b"+}\r".contains(byte));
    fits.then_some(bytes.len() - tail.len() + at)
}

/// Whether these bytes, behind others that did or did not, end in an announcement that is longer than any.
fn is_long_brace(before: bool, bytes: &[u8]) -> bool {
    let at = memchr::memrchr(b'{', bytes);
    let rest = &bytes[at.map_or(0, |at| at + 1)..];
    let goes_on = at.map_or(before, |_| rest.len() >= MAX_ANNOUNCEMENT - 1);
    goes_on
        && rest
            .iter()
            .all(|byte| byte.is_ascii_digit() || b"+}".contains(byte))
}

/// The literal that a line of data announces; `last` is the octet before the line's bytes.
fn announced_literal(last: u8, line: &[u8]) -> Option<Announcement> {
    if line.last() != Some(&b'}') {
        return None;
    }
    let at = announcement_tail(line)?;
    let before = at.checked_sub(1).map_or(last, |at| line[at]);
    // A brace inside a word announces nothing; a mailbox's name may end like that.
    matches!(before, b' ' | b'(' | b'~').then(|| Announcement::parse(&line[at..]))?
}

/// How many bytes at the front are whole lines of untagged data without literals, the bulk of what an upstream says.
fn quiet_lines(bytes: &[u8]) -> usize {
    let mut quiet = 0;
    while let Some(end) = line_feed(bytes, quiet) {
        let line = without_end(&bytes[quiet..=end]);
        let is_quiet = line.last() != Some(&b'}')
            && line.strip_prefix(b"* ").is_some_and(|rest| {
                let (word, _) = super::split_word(rest);
                let first = word.first().copied().unwrap_or(b' ');
                first.is_ascii_digit()
                    || !(first == b' '
                        || word.eq_ignore_ascii_case(b"CAPABILITY")
                        || Condition::parse(word).is_some())
            });
        if !is_quiet {
            break;
        }
        quiet = end + 1;
    }
    quiet
}

/// How a response line begins.
#[derive(Debug, PartialEq, Eq)]
enum Response {
    Undecided,
    Continuation,
    /// Text up to the line end.
    Text {
        answers: Answers,
    },
    /// The same, or `* CAPABILITY`, with something to be filtered; needed whole.
    Rewritten {
        answers: Answers,
    },
    /// May announce literals.
    Data,
    /// More blanks between words than anybody means.
    Odd,
}

/// Which command a status response answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answers {
    Nothing,
    Tag(TagHash),
    /// One of those on their way: an untagged BAD is "an error for which the associated command can not be determined"
    /// (RFC 3501 §7.1.3), where a tag is no tag to the upstream.
    Somebody,
}

impl Response {
    fn parse(bytes: &[u8]) -> Self {
        if bytes.first() == Some(&b'+') {
            return Response::Continuation;
        }
        let (first, rest) = match Word::first(bytes, MAX_TAG) {
            Word::Before(first, Some(rest)) => (first, rest),
            Word::Undecided => return Response::Undecided,
            Word::Before(_, None) | Word::Long => return Response::Data,
            Word::Far => return Response::Odd,
        };
        let (word, text) = match Word::first(rest, CAPABILITY.len()) {
            Word::Before(word, text) => (word, text),
            Word::Undecided => return Response::Undecided,
            Word::Long => return Response::Data,
            Word::Far => return Response::Odd,
        };
        let untagged = first == b"*";
        if untagged && word.eq_ignore_ascii_case(CAPABILITY) {
            let answers = Answers::Nothing;
            return Response::Rewritten { answers };
        }
        let answers = match Condition::parse(word) {
            None => return Response::Data,
            Some(_) if !untagged => Answers::Tag(hash(first)),
            Some(Condition::Bad) => Answers::Somebody,
            Some(_) => Answers::Nothing,
        };
        match text.map_or(CodePrefix::Other, CodePrefix::of) {
            CodePrefix::Undecided => Response::Undecided,
            CodePrefix::Filtered => Response::Rewritten { answers },
            CodePrefix::Other => Response::Text { answers },
            CodePrefix::Far => Response::Odd,
        }
    }
}

const CAPABILITY: &[u8] = b"CAPABILITY";

/// Blanks between two words of a response. One is right; some clients take several, so they hide nothing.
const MAX_BLANKS: usize = 16;

/// The first word of what is known of a line, behind blanks.
enum Word<'a> {
    /// It has not ended.
    Undecided,
    /// It ended before a blank and what follows that, or before the line end.
    Before(&'a [u8], Option<&'a [u8]>),
    /// Longer than any that matters.
    Long,
    /// Behind too many blanks.
    Far,
}

impl<'a> Word<'a> {
    fn first(bytes: &'a [u8], longest: usize) -> Self {
        let word = trim_blanks(bytes);
        if bytes.len() - word.len() > MAX_BLANKS {
            return Word::Far;
        }
        let shown = &word[..word.len().min(longest + 1)];
        match shown.iter().position(|byte| b" \t\r\n".contains(byte)) {
            Some(end) => Word::Before(&word[..end], is_blank(&word[end]).then(|| &word[end + 1..])),
            None if shown.len() > longest => Word::Long,
            None => Word::Undecided,
        }
    }
}

/// Whether a status response's text begins with a code that is filtered.
enum CodePrefix {
    Undecided,
    Filtered,
    Other,
    /// Behind too many blanks.
    Far,
}

impl CodePrefix {
    fn of(text: &[u8]) -> Self {
        let code = trim_blanks(text);
        if text.len() - code.len() > MAX_BLANKS {
            return CodePrefix::Far;
        }
        let Some(name) = code.strip_prefix(b"[") else {
            return match code {
                [] => CodePrefix::Undecided,
                _ => CodePrefix::Other,
            };
        };
        for filtered in FILTERED_CODES {
            let shown = name.len().min(filtered.len());
            if !name[..shown].eq_ignore_ascii_case(&filtered[..shown]) {
                continue;
            }
            return match name.get(filtered.len()) {
                Some(b']') => CodePrefix::Filtered,
                Some(behind) if is_blank(behind) => CodePrefix::Filtered,
                Some(_) => CodePrefix::Other,
                None => CodePrefix::Undecided,
            };
        }
        CodePrefix::Other
    }
}

/// A whole line with what the client may not see taken out.
fn rewritten(line: &[u8]) -> OutBuf {
    let (first, rest) = super::split_word(without_end(line));
    let mut out = OutBuf::new();
    out.push(first);
    out.push(b" ");
    match Status::parse(rest) {
        Some(status) => out.push(cleaned_status(&status, rest).as_slice()),
        None => {
            let (_, list) = super::split_word(rest);
            out.push(CAPABILITY);
            for capability in capabilities(list) {
                out.push(b" ");
                out.push(capability.as_bytes());
            }
        }
    }
    out.push(b"\r\n");
    out
}

/// Passes a whole line, or the same with CRLF where it ends in a bare LF.
fn pass_as_line(line: &[u8]) -> Watch {
    if line.ends_with(b"\r\n") {
        return Watch::Pass(line.len());
    }
    let mut out = OutBuf::new();
    out.push(without_end(line));
    out.push(b"\r\n");
    Watch::Replace(line.len(), out)
}

fn crlf() -> OutBuf {
    let mut out = OutBuf::new();
    out.push(b"\r\n");
    out
}

fn answer(tag: &[u8], words: &str) -> Vec<u8> {
    [tag, b" ", words.as_bytes(), b"\r\n"].concat()
}

fn hash(tag: &[u8]) -> TagHash {
    let mut hasher = DefaultHasher::new();
    hasher.write(tag);
    hasher.finish()
}

impl Introduced {
    /// The whole command as it goes up, and its tag; or what is to be said about it.
    fn rewritten(&self) -> Result<(TagHash, OutBuf), Vec<u8>> {
        let mut args = Args::new(&self.received, &self.gather.literals);
        let tag = args.word();
        args.spaces();
        args.word(); // ID itself
        args.spaces();
        let pairs = id::pairs(&mut args)
            .map_err(|_| answer(tag, "BAD ID needs NIL or a list of at most 30 pairs"))?;
        let mut command = OutBuf::new();
        super::push_reply(
            &mut command,
            tag,
            &id::command(pairs.iter().filter(|pair| id::may_introduce(pair))),
        );
        Ok((hash(tag), command))
    }
}

impl Command {
    fn new(tag: &[u8], verb: &[u8]) -> Self {
        Command {
            tag: hash(tag),
            octets: 0,
            has_literal: false,
            answered: false,
            appends: verb.eq_ignore_ascii_case(b"APPEND"),
            has_argument: false,
            tail: [0; 3],
            long_brace: false,
            doubted: false,
        }
    }

    /// Takes note of arguments that pass.
    fn read(&mut self, arguments: &[u8]) {
        if !self.appends {
            return;
        }
        for byte in arguments.iter().filter(|byte| **byte != b' ') {
            self.has_argument = true;
            self.tail = [self.tail[1], self.tail[2], byte.to_ascii_lowercase()];
        }
    }

    /// Whether a literal that comes now is (a part of) a message, rather than a mailbox's name or CATENATE's URL (RFC 4469).
    fn is_at_message(&self) -> bool {
        self.appends && self.has_argument && self.tail != *b"url"
    }
}

/// The commands that wait for their answers; without memory of its own while there are none, which is most of the time.
///
/// An untagged BAD answers one of them and does not say which. So once as many of those came as commands are outstanding, all
/// of these are *doubted*: nothing waits for them any more, but a late answer may still come, which must not be taken for
/// the answer to another command with the same tag.
#[derive(Default)]
struct Outstanding(Option<Box<Waiting>>);

#[derive(Default)]
struct Waiting {
    /// A multiset.
    tags: Vec<TagHash>,
    /// How many untagged BADs none of them accounts for.
    bad: usize,
    doubted: Vec<TagHash>,
}

impl Outstanding {
    /// Whether a command with this tag may ask for a continuation: neither that nor its answer can be another's.
    fn lets_ask(&self, tag: TagHash) -> bool {
        let all_others_are_answered =
            |waiting: &Waiting| waiting.tags.is_empty() && !waiting.doubted.contains(&tag);
        self.0.as_deref().is_none_or(all_others_are_answered)
    }

    /// Whether every command was answered or is doubted.
    fn none_is_due(&self) -> bool {
        self.0.as_deref().is_none_or(|waiting| waiting.tags.is_empty())
    }

    fn is_full(&self) -> bool {
        let fills = |waiting: &Waiting| waiting.tags.len() >= MAX_OUTSTANDING;
        self.0.as_deref().is_some_and(fills)
    }

    fn doubts_too_many(&self) -> bool {
        let too_many = |waiting: &Waiting| waiting.doubted.len() >= MAX_OUTSTANDING;
        self.0.as_deref().is_some_and(too_many)
    }

    fn holds(&self, tag: TagHash) -> bool {
        let holds = |waiting: &Waiting| waiting.tags.contains(&tag) || waiting.doubted.contains(&tag);
        self.0.as_deref().is_some_and(holds)
    }

    fn add(&mut self, tag: TagHash) {
        self.0.get_or_insert_default().tags.push(tag);
    }

    fn doubt(&mut self, tag: TagHash) {
        self.0.get_or_insert_default().doubted.push(tag);
    }

    /// A tagged answer came. A doubted command is taken for the one that it is meant for, so that the other is still due.
    fn remove(&mut self, tag: TagHash) {
        let Some(waiting) = &mut self.0 else { return };
        let known = |tags: &[TagHash]| tags.iter().position(|known| *known == tag);
        if let Some(at) = known(&waiting.doubted) {
            waiting.doubted.remove(at);
        } else if let Some(at) = known(&waiting.tags) {
            waiting.tags.remove(at);
        }
        self.settle();
    }

    /// An untagged BAD came.
    fn one_was_bad(&mut self) {
        if let Some(waiting) = &mut self.0 {
            waiting.bad += 1;
        }
        self.settle();
    }

    fn settle(&mut self) {
        let Some(waiting) = &mut self.0 else { return };
        if waiting.tags.len() <= waiting.bad {
            waiting.doubted.append(&mut waiting.tags);
            waiting.bad = 0;
        }
        if waiting.doubted.is_empty() && waiting.tags.is_empty() {
            self.0 = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_session_costs_little() {
        // Aim: 64 octets. A box of its own is needed only while a command is being dropped or commands are outstanding.
        assert!(size_of::<ImapGuard>() <= 80, "{}", size_of::<ImapGuard>());
        let mut guard = ImapGuard::new();
        let watch = guard.inspect(Direction::Up, b"a IDLE\r\n");
        assert!(matches!(watch, Watch::Pass(8)));
        assert!(matches!(
            guard.inspect(Direction::Down, b"+ idling\r\n"),
            Watch::Pass(10)
        ));
        assert!(guard.outstanding.0.is_none());
        assert!(guard.safe_to_speak());
    }

    #[test]
    fn responses_are_told_apart_as_soon_as_they_can_be() {
        let tagged = |tag: &str| Answers::Tag(hash(tag.as_bytes()));
        let text = |answers| Response::Text { answers };
        let rewritten = |answers| Response::Rewritten { answers };
        let capability = || rewritten(Answers::Nothing);
        for (line, expected) in [
            ("+", Response::Continuation),
            ("*", Response::Undecided),
            ("* 1", Response::Undecided),
            ("* 12 ", Response::Data),
            ("* CAPABILIT", Response::Undecided),
            ("* CAPABILITY\r", capability()),
            ("* CAPABILITYX", Response::Data),
            ("* capability ", capability()),
            ("*  CAPABILITY ", capability()),
            ("* \tcapability\t", capability()),
            ("*\tCAPABILITY ", capability()),
            ("*      CAPABILI", Response::Undecided),
            ("*                  CAPABILITY", Response::Odd),
            ("* OK", Response::Undecided),
            ("* OK\r", text(Answers::Nothing)),
            ("* OK  ", Response::Undecided),
            ("* OK  [CAPABILITY\t", rewritten(Answers::Nothing)),
            ("a OK                    [CAP", Response::Odd),
            ("* BYE x", text(Answers::Nothing)),
            ("* BAD x", text(Answers::Somebody)),
            ("a OK [", Response::Undecided),
            ("a OK [R", Response::Undecided),
            ("a OK [READ", text(tagged("a"))),
            ("a NO [referral", Response::Undecided),
            ("a NO [referral ", rewritten(tagged("a"))),
            ("a BAD x", text(tagged("a"))),
            ("a CAPABILITY x", Response::Data),
            ("a\r\n", Response::Data),
            (&"t".repeat(129), Response::Data),
        ] {
            assert_eq!(Response::parse(line.as_bytes()), expected, "{line:?}");
        }
    }

    /// Shows bytes until all have passed; says what became of the rest where they have not.
    fn show(guard: &mut ImapGuard, direction: Direction, mut bytes: &[u8]) -> Option<Watch> {
        let mut opaque = 0;
        while !bytes.is_empty() {
            let count = match opaque {
                0 => match guard.inspect(direction, bytes) {
                    Watch::Pass(count) | Watch::Replace(count, _) => count,
                    Watch::Opaque(size) => {
                        opaque = size as usize;
                        continue;
                    }
                    other => return Some(other),
                },
                _ => opaque.min(bytes.len()),
            };
            opaque = opaque.saturating_sub(count);
            bytes = &bytes[count..];
        }
        None
    }

    #[test]
    fn only_a_message_may_hold_what_could_come_back_as_an_answer() {
        let check = |before: &str, literal: &str, passes: bool| {
            let mut guard = ImapGuard::new();
            for part in before.split_inclusive('|') {
                let part = part.trim_end_matches('|');
                assert!(
                    show(&mut guard, Direction::Up, part.as_bytes()).is_none(),
                    "{before}"
                );
                assert!(show(&mut guard, Direction::Down, b"+ OK\r\n").is_none());
            }
            let shown = show(&mut guard, Direction::Up, literal.as_bytes());
            match shown {
                None => assert!(passes, "{before} {literal:?}"),
                Some(Watch::Close(CloseCause::Desync)) => assert!(!passes, "{before} {literal:?}"),
                other => panic!("{before}: {other:?}"),
            }
        };
        check("a SEARCH {8}\r\n", "X\r\n+ go\n", false);
        check("a SEARCH {8}\r\n", "X", true);
        check("a SEARCH {8+}\r\n", "x\ny", false);
        check("a UID SEARCH CHARSET UTF-8 {8}\r\n", "x\ry", false);
        check("a SEARCH {8}\r\n", "8 octets\r\n", true);
        check("a APPEND {8}\r\n", "X\r\n+ go\n", false);
        check("a append  {8}\r\n", "X\r\n+ go\n", false);
        check("a APPEND {1}\r\n|x {8}\r\n", "X\r\n+ go\n", true);
        check("a append INBOX (\\Seen) ~{8+}\r\n", "X\r\n+ go\n", true);
        check("a APPEND INBOX {2}\r\n|\r\n {8}\r\n", "X\r\n+ go\n", true);
        check("a APPEND x CATENATE (URL {8}\r\n", "X\r\n+ go\n", false);
        check("a APPEND x CATENATE (TEXT {8}\r\n", "X\r\n+ go\n", true);
        check(
            "a APPEND x CATENATE (TEXT {2}\r\n|\r\n url  {8}\r\n",
            "X\r\n+ go\n",
            false,
        );
    }

    #[test]
    fn an_answer_to_the_verb_alone_leaves_nothing_outstanding() {
        let mut guard = ImapGuard::new();
        assert!(show(&mut guard, Direction::Up, b"d NOSUCH ").is_none());
        assert!(show(&mut guard, Direction::Down, b"d BAD Unknown command\r\n").is_none());
        assert!(show(&mut guard, Direction::Up, b"argument\r\ni IDLE\r\n").is_none());
        assert!(matches!(guard.up, Up::ExpectIdling { .. }));
    }

    #[test]
    fn an_answer_within_a_long_line_leaves_doubt() {
        let mut guard = ImapGuard::new();
        let line = [&b"d NOOP "[..], &[b'x'; MAX_PREFIX]].concat();
        assert!(show(&mut guard, Direction::Up, &line).is_none());
        assert!(show(&mut guard, Direction::Down, b"d BAD Too long\r\n").is_none());
        let rest = show(&mut guard, Direction::Up, b"e LOGIN x y\r\n");
        assert!(matches!(rest, Some(Watch::Close(CloseCause::Desync))));
    }

    #[test]
    fn a_goodbye_is_spoken_between_lines_only() {
        let mut guard = ImapGuard::new();
        assert!(guard.safe_to_speak());
        for (shown, safe) in [
            (&b"* 1 FETCH (X {3}"[..], false),
            (b"{3}\r\n", false),
            (b"abc", false),
            (b")\r\n", true),
            (b"* OK [CAPABI", false),
            (b"* OK [CAPABILITY A] x\r\n", true),
        ] {
            let _ = guard.inspect(Direction::Down, shown);
            assert_eq!(
                guard.safe_to_speak(),
                safe,
                "{:?}",
                String::from_utf8_lossy(shown)
            );
        }
        assert!(guard.goodbye(CloseCause::Cut).as_slice().starts_with(b"* BYE "));
    }
}
