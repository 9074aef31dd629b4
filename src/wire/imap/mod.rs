//! IMAP (RFC 3501, RFC 9051): the grammar that its machines share.
//!
//! Before sign-in we must understand what Dovecot and Exchange understand, or people are locked out who were not before: so
//! this grammar is lenient where they are (passwords as atoms with `%`, `*`, `{` or `(`, 8-bit quoted strings, several spaces,
//! bare LF) and strict where a difference in reading could be used (NUL, tags, where a literal begins). Deliberately
//! absent: everything that only an authenticated session says; after the hand-over the guard looks at verbs and line
//! ends only.

mod client;
mod guard;
mod id;
mod server;
mod words;

use super::line::{line_feed, without_end};
use super::{Dialect, Limits, OutBuf};
use crate::reason::Protocol;
use std::ops::Range;
use zeroize::Zeroizing;

/// IMAP's row in the table of protocols.
pub(super) const DIALECT: Dialect = Dialect {
    protocol: Protocol::Imap,
    alpn: b"imap",
    implicit_port: 993,
    starttls_port: 143,
    server: |facts| Box::new(server::Server::new(facts)),
    client: |facts| Box::new(client::Client::new(facts)),
    guard: || Box::new(guard::ImapGuard::new()),
    turned_away: words::goodbye,
};

/// Longest tag that we accept, octets. Real ones have 1 to 20; 64 must work (P28).
const MAX_TAG: usize = 128;

/// Whether this is a tag: `1*<any ASTRING-CHAR except "+">` (RFC 3501 §9).
fn is_tag(bytes: &[u8]) -> bool {
    (1..=MAX_TAG).contains(&bytes.len()) && bytes.iter().all(|byte| is_atom_char(*byte) && *byte != b'+')
}

/// `ASTRING-CHAR = ATOM-CHAR / resp-specials` (RFC 3501 §9).
fn is_atom_char(byte: u8) -> bool {
    byte.is_ascii_graphic() && !b"(){%*\"\\".contains(&byte)
}

/// A literal's announcement at the end of a line: `"{" number ["+"] "}"` (RFC 3501 §4.3, RFC 7888 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Announcement {
    /// Octets; saturated where the number has more than 64 bits.
    size: u64,
    /// Whether the client sends it without waiting for a continuation.
    eager: bool,
}

impl Announcement {
    /// The announcement at the end of a line, which comes without its line end. A brace inside a word announces nothing,
    /// so that `secret{5}` may be somebody's password.
    fn at_end_of(line: &[u8]) -> Option<Self> {
        let (before, announcement) = line.split_at(memchr::memrchr(b'{', line)?);
        match before.last() {
            Some(b' ' | b'(' | b'~') => Announcement::parse(announcement),
            _ => None,
        }
    }

    /// Exactly one announcement.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let inside = bytes.strip_prefix(b"{")?.strip_suffix(b"}")?;
        let (digits, eager) = match inside.strip_suffix(b"+") {
            Some(digits) => (digits, true),
            None => (inside, false),
        };
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let size = digits.iter().fold(0_u64, |size, digit| {
            size.saturating_mul(10).saturating_add(u64::from(digit - b'0'))
        });
        Some(Announcement { size, eager })
    }
}

/// A command or a response being collected at the front of an inbox: lines, joined by the literals that they announce.
///
/// ```text
/// a LOGIN {3}\r\njoe {6}\r\nsecret\r\n
/// |          |  |  |        ^^^^^^ literals[1]
/// |          ^^^ literals[0]
/// |              ^ line: where the current line begins
/// ```
#[derive(Debug, Default)]
struct Gather {
    line: usize,
    searched: usize,
    literals: Vec<Range<usize>>,
}

/// How far a [`Gather`] came.
#[derive(Debug)]
enum Gathered {
    /// More bytes are needed.
    Partial,
    /// A literal is announced by the line that ends before `behind`: [`Gather::accept`] it, or give up the command.
    Announced {
        announcement: Announcement,
        behind: usize,
    },
    /// It is complete; this many bytes.
    Whole(usize),
}

impl Gather {
    /// Goes on over what has come, always from the same first byte.
    fn advance(&mut self, bytes: &[u8]) -> Gathered {
        if bytes.len() < self.line {
            return Gathered::Partial; // in the middle of a literal
        }
        let Some(end) = line_feed(bytes, self.searched.max(self.line)) else {
            self.searched = bytes.len();
            return Gathered::Partial;
        };
        match Announcement::at_end_of(without_end(&bytes[self.line..=end])) {
            Some(announcement) => Gathered::Announced {
                announcement,
                behind: end + 1,
            },
            None => Gathered::Whole(end + 1),
        }
    }

    /// The announced literal begins at `behind`.
    fn accept(&mut self, behind: usize, size: usize) {
        self.literals.push(behind..behind + size);
        self.line = behind + size;
    }

    /// Whether one more literal of this size is within the limits of a command.
    fn has_room_for(&self, size: u64, limits: &Limits) -> bool {
        let sum = self.literal_octets() as u64;
        size <= limits.max_literal as u64 && sum + size <= limits.max_literals as u64
    }

    /// Whether the lines without their literals are above the limit, given everything that came so far.
    fn is_too_long(&self, received: usize, limits: &Limits) -> bool {
        received.saturating_sub(self.literal_octets()) > limits.max_line
    }

    fn literal_octets(&self) -> usize {
        self.literals.iter().map(ExactSizeIterator::len).sum()
    }
}

/// What is wrong with an argument. Carries nothing of it, because it may be a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Malformed;

/// Reads the arguments of one gathered command from left to right.
struct Args<'a> {
    /// The whole command without its last line end.
    bytes: &'a [u8],
    literals: &'a [Range<usize>],
    at: usize,
}

impl<'a> Args<'a> {
    /// From the beginning of a command, with or without its line end.
    fn new(command: &'a [u8], literals: &'a [Range<usize>]) -> Self {
        // The line end of a command that ends in a literal's announcement is not at the end, so nothing is lost here.
        Args {
            bytes: without_end(command),
            literals,
            at: 0,
        }
    }

    /// Skips spaces and says whether there were any. Several are tolerated, as Dovecot does (P27).
    fn spaces(&mut self) -> bool {
        let before = self.at;
        while self.peek() == Some(b' ') {
            self.at += 1;
        }
        self.at > before
    }

    /// Whether nothing but spaces is left.
    fn at_end(&mut self) -> bool {
        self.spaces();
        self.at >= self.bytes.len()
    }

    /// Everything up to the next space; empty at the end.
    fn word(&mut self) -> &'a [u8] {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let end = memchr::memchr(b' ', rest).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    /// `astring = 1*ASTRING-CHAR / string` (RFC 3501 §9), where an atom may hold anything but spaces and controls.
    fn astring(&mut self) -> Result<Zeroizing<Vec<u8>>, Malformed> {
        match self.peek() {
            Some(b'"') => self.quoted(),
            Some(b'{') => match self.literal() {
                Some(literal) => Ok(Zeroizing::new(literal.to_vec())),
                None => self.atom(),
            },
            _ => self.atom(),
        }
    }

    /// `nstring = string / nil` (RFC 3501 §9); an atom other than NIL is taken as its text.
    fn nstring(&mut self) -> Result<Option<Zeroizing<Vec<u8>>>, Malformed> {
        if self.peek().is_some_and(|first| first == b'"' || first == b'{') {
            return self.astring().map(Some);
        }
        let start = self.at;
        while self.peek().is_some_and(is_atom_char) {
            self.at += 1;
        }
        match &self.bytes[start..self.at] {
            b"" => Err(Malformed),
            atom if atom.eq_ignore_ascii_case(b"NIL") => Ok(None),
            atom => Ok(Some(Zeroizing::new(atom.to_vec()))),
        }
    }

    /// One expected character.
    fn take(&mut self, expected: u8) -> bool {
        let there = self.peek() == Some(expected);
        self.at += usize::from(there);
        there
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn atom(&mut self) -> Result<Zeroizing<Vec<u8>>, Malformed> {
        let word = self.word();
        if word.is_empty() || word.iter().any(u8::is_ascii_control) {
            return Err(Malformed);
        }
        Ok(Zeroizing::new(word.to_vec()))
    }

    /// `quoted = DQUOTE *QUOTED-CHAR DQUOTE`; any octet but CR and LF inside, and a backslash quotes whatever follows it.
    fn quoted(&mut self) -> Result<Zeroizing<Vec<u8>>, Malformed> {
        self.at += 1;
        // At its full capacity at once: growing would leave copies behind.
        let mut text = Zeroizing::new(Vec::with_capacity(self.bytes.len() - self.at));
        while let Some(byte) = self.peek() {
            self.at += 1;
            let octet = match byte {
                b'"' => return Ok(text),
                b'\\' => {
                    let quoted = self.peek().ok_or(Malformed)?;
                    self.at += 1;
                    quoted
                }
                other => other,
            };
            if octet == b'\r' || octet == b'\n' {
                return Err(Malformed);
            }
            text.push(octet);
        }
        Err(Malformed)
    }

    /// The literal whose announcement stands here, if [`Gather`] read one here.
    fn literal(&mut self) -> Option<&'a [u8]> {
        let begin = line_feed(self.bytes, self.at)? + 1;
        let range = self.literals.iter().find(|range| range.start == begin)?;
        Announcement::parse(without_end(&self.bytes[self.at..begin]))?;
        self.at = range.end;
        self.bytes.get(range.clone())
    }
}

/// `resp-cond-state`, `resp-cond-bye` or a greeting (RFC 3501 §7.1): everything behind `*` or the tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Status<'a> {
    condition: Condition,
    /// What stands between the brackets.
    code: Option<&'a [u8]>,
    text: &'a [u8],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Ok,
    No,
    Bad,
    Bye,
    Preauth,
}

impl Condition {
    fn parse(word: &[u8]) -> Option<Self> {
        const NAMES: [(&[u8], Condition); 5] = [
            (b"OK", Condition::Ok),
            (b"NO", Condition::No),
            (b"BAD", Condition::Bad),
            (b"BYE", Condition::Bye),
            (b"PREAUTH", Condition::Preauth),
        ];
        NAMES
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(word))
            .map(|(_, condition)| *condition)
    }
}

impl<'a> Status<'a> {
    /// Reads it, without a line end.
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (word, rest) = split_word(bytes);
        let condition = Condition::parse(word)?;
        let (code, text) = match rest.strip_prefix(b"[").and_then(split_code) {
            Some((code, text)) => (Some(code), text),
            None => (None, rest),
        };
        Some(Status {
            condition,
            code,
            text,
        })
    }

    /// The code's name and arguments.
    fn code_parts(&self) -> Option<(&'a [u8], &'a [u8])> {
        self.code.map(split_word)
    }

    /// Whether its code has this name.
    fn has_code(&self, name: &str) -> bool {
        self.code_parts()
            .is_some_and(|(code, _)| code.eq_ignore_ascii_case(name.as_bytes()))
    }

    /// Whether a client may not see its code as it is.
    fn has_filtered_code(&self) -> bool {
        self.code_parts().is_some_and(|(code, _)| is_filtered(code))
    }

    /// The text, without further codes that would come to stand first when this one is taken out.
    fn cleaned_text(&self) -> &'a [u8] {
        let mut text = trim_blanks(self.text);
        while let Some((_, rest)) = text
            .strip_prefix(b"[")
            .and_then(split_code)
            .filter(|(code, _)| is_filtered(split_word(code).0))
        {
            text = trim_blanks(rest);
        }
        text
    }
}

/// Ends a response code at the first bracket that a space or the end follows: the URL of a REFERRAL may hold a bracket
/// itself (`imap://[2001:db8::1]/`). Where there is none, a code that is filtered ends at the last bracket or with the line,
/// because some client may read it all the same.
fn split_code(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let strict = memchr::memchr_iter(b']', bytes).find_map(|at| match &bytes[at + 1..] {
        [] => Some((&bytes[..at], &b""[..])),
        [b' ', text @ ..] => Some((&bytes[..at], text)),
        _ => None,
    });
    strict.or_else(|| {
        is_filtered(split_word(bytes).0).then(|| match memchr::memrchr(b']', bytes) {
            Some(at) => (&bytes[..at], &bytes[at + 1..]),
            None => (bytes, &b""[..]),
        })
    })
}

/// The response codes that a client does not see as the upstream sent them.
const FILTERED_CODES: [&[u8]; 2] = [b"CAPABILITY", b"REFERRAL"];

fn is_filtered(name: &[u8]) -> bool {
    FILTERED_CODES.iter().any(|code| code.eq_ignore_ascii_case(name))
}

/// The first word, and what comes behind the spaces. One is right; some clients take several, and tabs.
fn split_word(bytes: &[u8]) -> (&[u8], &[u8]) {
    match bytes.iter().position(is_blank) {
        Some(at) => (&bytes[..at], trim_blanks(&bytes[at..])),
        None => (bytes, b""),
    }
}

fn trim_blanks(bytes: &[u8]) -> &[u8] {
    let blanks = bytes.iter().take_while(|byte| is_blank(byte)).count();
    &bytes[blanks..]
}

fn is_blank(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// The capabilities that may be shown to a client that is signed in, in the upstream's order.
fn capabilities(list: &[u8]) -> Vec<String> {
    list.split(|byte| *byte == b' ')
        .filter(|word| may_advertise(word))
        .map(text_of)
        .collect()
}

/// Whether a signed-in client may see this capability: not what the guard refuses, and nothing about signing in.
fn may_advertise(capability: &[u8]) -> bool {
    const HIDDEN: [&str; 9] = [
        "UNAUTHENTICATE",    // RFC 8437: back to "not signed in" without us (P2)
        "LOGIN-REFERRALS",   // RFC 2221: away to the real server (P9)
        "MAILBOX-REFERRALS", // RFC 2193: the same
        "REPLACE",           // RFC 8508: the guard knows only APPEND's messages
        "STARTTLS",
        "LOGINDISABLED",
        "SASL-IR",
        "PROXYAUTH", // Sun and Oracle: an administrator becomes anybody
        "X-PROXYAUTH",
    ];
    let starts_with = |prefix: &[u8]| {
        capability.len() >= prefix.len() && capability[..prefix.len()].eq_ignore_ascii_case(prefix)
    };
    !capability.is_empty()
        && capability
            .iter()
            .all(|byte| is_atom_char(*byte) && !b"[]".contains(byte))
        && !starts_with(b"AUTH=")
        && !starts_with(b"COMPRESS=")
        && !HIDDEN
            .iter()
            .any(|hidden| hidden.as_bytes().eq_ignore_ascii_case(capability))
}

/// A status response as a client may see it: capabilities filtered, a REFERRAL removed (P9). Without a line end.
fn cleaned_status(status: &Status<'_>, bytes: &[u8]) -> OutBuf {
    let mut cleaned = OutBuf::new();
    if !status.has_filtered_code() {
        cleaned.push(bytes);
        return cleaned;
    }
    let (word, _) = split_word(bytes);
    cleaned.push(word);
    cleaned.push(b" ");
    if let Some((name, list)) = status.code_parts().filter(|_| status.has_code("CAPABILITY")) {
        let kept = capabilities(list);
        if !kept.is_empty() {
            cleaned.push(b"[");
            cleaned.push(name);
            cleaned.push(b" ");
            cleaned.push(kept.join(" ").as_bytes());
            cleaned.push(b"] ");
        }
    }
    let text = status.cleaned_text();
    // `resp-text` needs at least one character of text (RFC 3501 §9).
    cleaned.push(if text.is_empty() { b"-" } else { text });
    cleaned
}

/// ASCII as text; callers have checked that it is ASCII, anything else becomes the replacement character.
fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Appends `tag status text` and CRLF.
fn push_reply(out: &mut OutBuf, tag: &[u8], text: &str) {
    out.push(tag);
    out.push(b" ");
    out.line(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags() {
        for tag in ["a", "#1", "$", "!", "1", "a]b", "A.0001", &"t".repeat(64)] {
            assert!(is_tag(tag.as_bytes()), "{tag}");
        }
        for tag in [
            "",
            "+1",
            "a+",
            "a b",
            "*",
            "a(",
            "{5}",
            "\"a\"",
            "a\\",
            "a\tb",
            "\u{e4}",
            &"t".repeat(129),
        ] {
            assert!(!is_tag(tag.as_bytes()), "{tag}");
        }
    }

    #[test]
    fn announcements() {
        let literal = |size, eager| Some(Announcement { size, eager });
        for (line, expected) in [
            ("a LOGIN {3}", literal(3, false)),
            ("a LOGIN {3+}", literal(3, true)),
            ("a LOGIN joe {0}", literal(0, false)),
            ("a ID ({0004+}", literal(4, true)),
            ("a APPEND x ~{9}", literal(9, false)),
            ("a LOGIN {99999999999999999999999}", literal(u64::MAX, false)),
            ("a LOGIN joe secret{5}", None),
            ("a LOGIN joe {5", None),
            ("a LOGIN joe {5}x", None),
            ("a LOGIN joe {}", None),
            ("a LOGIN joe {-5}", None),
            ("a LOGIN joe {5++}", None),
            ("a LOGIN joe \"pw {5}\"", None),
            ("{5}", None),
            ("", None),
        ] {
            assert_eq!(Announcement::at_end_of(line.as_bytes()), expected, "{line}");
        }
    }

    /// Gathers with every announced literal accepted; gives the literals and what is behind.
    fn gather(bytes: &[u8]) -> Option<(Vec<&[u8]>, &[u8])> {
        let mut gather = Gather::default();
        loop {
            match gather.advance(bytes) {
                Gathered::Partial => return None,
                Gathered::Announced { announcement, behind } => {
                    gather.accept(behind, announcement.size as usize)
                }
                Gathered::Whole(end) => {
                    let literals = gather
                        .literals
                        .iter()
                        .map(|range| &bytes[range.clone()])
                        .collect();
                    return Some((literals, &bytes[end..]));
                }
            }
        }
    }

    #[test]
    fn gathers_lines_and_literals() {
        let whole = b"a LOGIN {3}\r\nj\ne {6+}\r\nsec{2}\n\r\nb";
        assert_eq!(
            gather(whole),
            Some((vec![&b"j\ne"[..], b"sec{2}"], &b"\r\nb"[..]))
        );
        for end in 0..whole.len() - 3 {
            assert!(gather(&whole[..end]).is_none(), "{end}");
        }
    }

    /// Reads `bytes` as arguments up to the end.
    fn check_args(command: &str, expected: Result<&[&str], Malformed>) {
        let bytes = command.as_bytes();
        let mut gather = Gather::default();
        while let Gathered::Announced { announcement, behind } = gather.advance(bytes) {
            gather.accept(behind, announcement.size as usize);
        }
        let mut args = Args::new(bytes, &gather.literals);
        args.word();
        let mut read = Vec::new();
        let result = loop {
            if args.at_end() {
                break Ok(());
            }
            match args.astring() {
                Ok(value) => read.push(text_of(&value)),
                Err(error) => break Err(error),
            }
        };
        assert_eq!(
            result.map(|()| read),
            expected.map(|words| words.iter().map(|w| w.to_string()).collect()),
            "{command}"
        );
    }

    #[test]
    fn astrings() {
        check_args("LOGIN joe secret\r\n", Ok(&["joe", "secret"]));
        check_args("LOGIN  joe   secret  \r\n", Ok(&["joe", "secret"]));
        check_args("LOGIN joe se%c*r(e{t}\\\r\n", Ok(&["joe", "se%c*r(e{t}\\"]));
        check_args("LOGIN joe {5\r\n", Ok(&["joe", "{5"]));
        check_args("LOGIN \"j \\\"o\\\\e\" \"\"\n", Ok(&["j \"o\\e", ""]));
        check_args("LOGIN \"\u{e4}\" \"p\\ass\"\r\n", Ok(&["\u{e4}", "pass"]));
        check_args("LOGIN {3}\r\njoe {4+}\r\n a\r\n\r\n", Ok(&["joe", " a\r\n"]));
        check_args("LOGIN {0}\r\n {0+}\r\n\r\n", Ok(&["", ""]));
        check_args("LOGIN \"joe\" {2}\npw\n", Ok(&["joe", "pw"]));
        check_args("LOGIN \"joe\r\n", Err(Malformed));
        check_args("LOGIN \"joe\\\r\n", Err(Malformed));
        check_args("LOGIN j\toe\r\n", Err(Malformed));
        check_args("LOGIN j\roe\r\n", Err(Malformed));
        check_args("LOGIN \"joe {2}\r\npw\r\n", Err(Malformed));
    }

    #[test]
    fn statuses() {
        let parse = |line: &'static str| {
            let status = Status::parse(line.as_bytes())?;
            Some((status.condition, status.code.map(text_of), text_of(status.text)))
        };
        let code = |code: &str| Some(code.to_owned());
        for (line, expected) in [
            ("OK done", Some((Condition::Ok, None, "done".to_owned()))),
            (
                "no [ALERT] Hi",
                Some((Condition::No, code("ALERT"), "Hi".to_owned())),
            ),
            (
                "OK [CAPABILITY A B]",
                Some((Condition::Ok, code("CAPABILITY A B"), String::new())),
            ),
            ("BAD", Some((Condition::Bad, None, String::new()))),
            ("OK [x", Some((Condition::Ok, None, "[x".to_owned()))),
            (
                "BYE [REFERRAL imap://[::1]/] away",
                Some((Condition::Bye, code("REFERRAL imap://[::1]/"), "away".to_owned())),
            ),
            ("PREAUTH hi", Some((Condition::Preauth, None, "hi".to_owned()))),
            ("OKAY", None),
            ("CAPABILITY IMAP4rev1", None),
        ] {
            assert_eq!(parse(line), expected, "{line}");
        }
    }

    #[test]
    fn statuses_are_cleaned() {
        for (line, expected) in [
            ("OK done", "OK done"),
            ("OK [ALERT] done", "OK [ALERT] done"),
            (
                "OK [CAPABILITY IMAP4rev1 UNAUTHENTICATE idle] done",
                "OK [CAPABILITY IMAP4rev1 idle] done",
            ),
            ("ok [capability auth=plain Compress=Deflate]", "ok -"),
            ("NO [REFERRAL imap://[::1]/x] gone ]", "NO gone ]"),
            ("OK  [CAPABILITY IDLE UNAUTHENTICATE] x", "OK [CAPABILITY IDLE] x"),
            ("OK [CAPABILITY\tIDLE UNAUTHENTICATE] x", "OK [CAPABILITY IDLE] x"),
            ("OK [CAPABILITY IDLE UNAUTHENTICATE]x", "OK [CAPABILITY IDLE] x"),
            ("OK [CAPABILITY IDLE UNAUTHENTICATE", "OK [CAPABILITY IDLE] -"),
            ("OK [CAPABILITY IDLE {14}] x", "OK [CAPABILITY IDLE] x"),
            ("NO [REFERRAL imap://[::1]/x]gone", "NO gone"),
            ("NO [REFERRAL imap://thief.example/", "NO -"),
            (
                "NO [REFERRAL imap://x/] [CAPABILITY UNAUTHENTICATE] [REFERRAL imap://y/]  [ALERT] x",
                "NO [ALERT] x",
            ),
        ] {
            let status = Status::parse(line.as_bytes()).unwrap();
            assert_eq!(
                text_of(cleaned_status(&status, line.as_bytes()).as_slice()),
                expected
            );
        }
    }

    #[test]
    fn capabilities_that_lead_around_the_gateway_are_hidden() {
        let list = b"IMAP4rev1 AUTH=PLAIN auth=x SASL-IR STARTTLS LOGINDISABLED unauthenticate  IDLE COMPRESS=DEFLATE \
            LOGIN-REFERRALS MAILBOX-REFERRALS REPLACE ProxyAuth X-PROXYAUTH UTF8=ACCEPT LITERAL+ ENABLE";
        assert_eq!(
            capabilities(list),
            ["IMAP4rev1", "IDLE", "UTF8=ACCEPT", "LITERAL+", "ENABLE"]
        );
        assert!(capabilities(b"").is_empty());
    }
}
