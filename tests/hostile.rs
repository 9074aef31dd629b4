//! A hostile mail program and a hostile mail server, against the whole product: what may not pass does not, whatever it is
//! split into, hidden in or sent behind. What the mail server was sent is compared byte for byte.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use support::client::Client;
use support::stage::Stage;
use support::upstream::{AtLogin, Script};

/// Commands that lead back to the state before sign-in, or to bytes that nobody can follow.
const FORBIDDEN: [&str; 7] = [
    "UNAUTHENTICATE",
    "STARTTLS",
    "COMPRESS DEFLATE",
    "AUTHENTICATE PLAIN",
    "AUTHENTICATE PLAIN AGJvYgBzZWNyZXQ=",
    "LOGIN bob secret",
    "PROXYAUTH bob",
];

/// One way to send a forbidden command.
struct Row {
    name: &'static str,
    /// Sent first, and answered with a continuation; may be empty.
    opening: String,
    /// Sent behind it, split at every byte.
    attack: String,
    /// What the mail server gets of both.
    passes: String,
    /// Whether there is a command to refuse.
    refused: bool,
}

impl Row {
    fn new(name: &'static str, opening: &str, attack: String, passes: String) -> Row {
        Row {
            name,
            opening: opening.to_owned(),
            attack,
            passes,
            refused: true,
        }
    }

    fn inside(name: &'static str, opening: &str, attack: String, passes: String) -> Row {
        Row {
            refused: false,
            ..Row::new(name, opening, attack, passes)
        }
    }
}

/// Every way for one command; its tag is `z`.
fn rows(forbidden: &str) -> Vec<Row> {
    let c = format!("z {forbidden}");
    let size = c.len() + 2;
    let nothing = String::new;
    vec![
        Row::new("alone", "", format!("{c}\r\n"), nothing()),
        Row::new("with a bare LF", "", format!("{c}\n"), nothing()),
        Row::new(
            "between others",
            "",
            format!("p NOOP\r\n{c}\r\nq NOOP\r\n"),
            "p NOOP\r\nq NOOP\r\n".into(),
        ),
        Row::new(
            "behind a literal that waits",
            "l APPEND INBOX {3}\r\n",
            format!("abc\r\n{c}\r\n"),
            "l APPEND INBOX {3}\r\nabc\r\n".into(),
        ),
        Row::new(
            "behind a literal that should have waited",
            "",
            format!("l APPEND INBOX {{3}}\r\nabc\r\n{c}\r\n"),
            "l APPEND INBOX {3}\r\nabc\r\n".into(),
        ),
        Row::new(
            "behind a literal that does not wait",
            "",
            format!("l APPEND INBOX {{3+}}\r\nabc\r\n{c}\r\n"),
            "l APPEND INBOX {3}\r\nabc\r\n".into(),
        ),
        Row::new(
            "behind an empty literal",
            "",
            format!("l APPEND INBOX {{0+}}\r\n\r\n{c}\r\n"),
            "l APPEND INBOX {0}\r\n\r\n".into(),
        ),
        Row::inside(
            "inside a literal that waits",
            &format!("l APPEND INBOX {{{size}}}\r\n"),
            format!("{c}\r\n\r\n"),
            format!("l APPEND INBOX {{{size}}}\r\n{c}\r\n\r\n"),
        ),
        Row::inside(
            "inside a literal that does not wait",
            "",
            format!("l APPEND INBOX {{{size}+}}\r\n{c}\r\n\r\n"),
            format!("l APPEND INBOX {{{size}}}\r\n{c}\r\n\r\n"),
        ),
        Row::new(
            "inside a literal and behind it",
            "",
            format!("l APPEND INBOX {{{size}+}}\r\n{c}\r\n\r\n{c}\r\n"),
            format!("l APPEND INBOX {{{size}}}\r\n{c}\r\n\r\n"),
        ),
        Row::new(
            "behind a literal of octets",
            "",
            format!("l APPEND INBOX ~{{3+}}\r\n\0\r\n\r\n{c}\r\n"),
            "l APPEND INBOX ~{3}\r\n\0\r\n\r\n".into(),
        ),
        Row::inside(
            "inside a literal of octets",
            "",
            format!("l APPEND INBOX ~{{{size}+}}\r\n{c}\r\n\r\n"),
            format!("l APPEND INBOX ~{{{size}}}\r\n{c}\r\n\r\n"),
        ),
        Row::new(
            "inside the second of two messages and behind it",
            "",
            format!("l APPEND INBOX {{3+}}\r\nabc {{{size}+}}\r\n{c}\r\n\r\n{c}\r\n"),
            format!("l APPEND INBOX {{3}}\r\nabc {{{size}}}\r\n{c}\r\n\r\n"),
        ),
        Row::new(
            "behind a mailbox in a literal",
            "",
            format!("l APPEND {{5+}}\r\nINBOX {{3+}}\r\nabc\r\n{c}\r\n"),
            "l APPEND {5}\r\nINBOX {3}\r\nabc\r\n".into(),
        ),
        Row::new(
            "behind a quoted string that looks like a literal",
            "",
            format!("q SELECT \"a\\\"b {{5}}\"\r\n{c}\r\n"),
            "q SELECT \"a\\\"b {5}\"\r\n".into(),
        ),
        Row::new(
            "behind a literal in a quoted string without an end",
            "",
            format!("q SELECT \"a {{5}}\r\n{c}\r\n"),
            "q SELECT \"a {5}\r\n".into(),
        ),
        Row::inside(
            "in the place of a literal in a quoted string without an end",
            "",
            format!("q SELECT \"a {{{size}+}}\r\n{c}\r\n\r\n"),
            format!("q SELECT \"a {{{size}}}\r\n"),
        ),
        Row::new(
            "inside a literal that the mail server does not understand, and behind it",
            "",
            format!("l APPEND Misread {{{size}+}}\r\n{c}\r\n\r\n{c}\r\n"),
            format!("l APPEND Misread {{{size}}}\r\n"),
        ),
        Row::new(
            "with its answer behind it",
            "",
            format!("{c}\r\nAGJvYgBzZWNyZXQ=\r\n"),
            nothing(),
        ),
        Row::new(
            "behind an ID with a literal",
            "",
            format!("k ID (name {{3+}}\r\nK-9)\r\n{c}\r\n"),
            "k ID (\"name\" \"K-9\")\r\n".into(),
        ),
        Row::inside(
            "inside an ID's literal",
            "",
            format!("k ID (name {{{size}+}}\r\n{c}\r\n)\r\n"),
            format!("k ID (\"name\" \"{c}??\")\r\n"),
        ),
        Row::new(
            "inside a literal that the mail server refuses, and behind it",
            "",
            format!("l APPEND Refused {{{size}+}}\r\n{c}\r\n\r\n{c}\r\n"),
            format!("l APPEND Refused {{{size}}}\r\n"),
        ),
        Row::new(
            "in the place of a literal that the mail server refused",
            "",
            format!("l APPEND Refused {{{size}}}\r\n{c}\r\n\r\n"),
            format!("l APPEND Refused {{{size}}}\r\n"),
        ),
        Row::new(
            "with a literal",
            "",
            format!("{c} {{3+}}\r\nabc {{1+}}\r\nx\r\n"),
            nothing(),
        ),
        Row::new(
            "with a literal that holds it again",
            "",
            format!("{c} {{{size}+}}\r\n{c}\r\n\r\n"),
            nothing(),
        ),
        Row::new(
            "in the place of its own literal",
            "",
            format!("{c} {{{size}}}\r\n{c}\r\n"),
            nothing(),
        ),
        Row::new(
            "while idling",
            "i IDLE\r\n",
            format!("{c}\r\nDONE\r\n"),
            "i IDLE\r\nDONE\r\n".into(),
        ),
        Row::new(
            "behind idling",
            "i IDLE\r\n",
            format!("DONE\r\n{c}\r\n"),
            "i IDLE\r\nDONE\r\n".into(),
        ),
    ]
}

/// A session in which rows are tried, one behind the other.
struct Trial<'a> {
    stage: &'a Stage,
    client: Client,
    /// How much the mail server had received before this row.
    seen: usize,
}

impl<'a> Trial<'a> {
    fn new(stage: &'a Stage, tls: bool) -> Trial<'a> {
        let mut client = match tls {
            true => Client::tls(stage.gateway.address("imaps"), &stage.gateway.certificate()),
            false => Client::plain(stage.gateway.address("clear")),
        };
        client.line();
        let answer = client.command("a", &format!("LOGIN alice secret@{}", stage.alice.code()));
        assert!(answer.starts_with("a OK"), "{answer}");
        let seen = stage.upstream.received().len();
        Trial { stage, client, seen }
    }

    /// Sends the attack in these pieces, and compares what arrives with what may.
    fn row(&mut self, row: &Row, pieces: &[&str]) {
        if !row.opening.is_empty() {
            self.client.send(&row.opening);
            assert!(self.client.line().starts_with('+'), "{}", row.name);
        }
        for piece in pieces {
            self.client.send_alone(piece);
        }
        let heard = self.noop();
        let words = |good: &[&str]| {
            heard
                .iter()
                .any(|line| good.iter().any(|good| line.starts_with(good)))
        };
        assert_eq!(
            words(&["z BAD ", "z NO "]),
            row.refused,
            "{}, {pieces:?}: {heard:?}",
            row.name
        );
        assert!(!words(&["z OK"]), "{}, {pieces:?}: {heard:?}", row.name);
        self.expect(&row.passes, &format!("{}, {pieces:?}", row.name));
    }

    /// Everything that is said up to the answer to a NOOP.
    fn noop(&mut self) -> Vec<String> {
        self.client.send("n NOOP\r\n");
        self.client.until("n")
    }

    /// The mail server has received exactly this and the NOOP.
    fn expect(&mut self, passes: &str, what: &str) {
        let received = self.stage.upstream.received_behind(self.seen);
        assert_eq!(
            String::from_utf8_lossy(&received),
            format!("{passes}n NOOP\r\n"),
            "{what}"
        );
        self.seen += received.len();
    }
}

#[test]
fn no_forbidden_command_arrives_wherever_it_is_split() {
    let stage = Stage::new(Script::default());
    let mut trial = Trial::new(&stage, false);
    for row in FORBIDDEN.iter().flat_map(|forbidden| rows(forbidden)) {
        for cut in 0..row.attack.len() {
            let (first, second) = row.attack.split_at(cut);
            trial.row(&row, &[first, second]);
        }
    }
}

#[test]
fn no_forbidden_command_arrives_byte_by_byte() {
    for tls in [false, true] {
        let stage = Stage::new(Script::default());
        let mut trial = Trial::new(&stage, tls);
        for row in FORBIDDEN.iter().flat_map(|forbidden| rows(forbidden)) {
            let bytes: Vec<&str> = row.attack.split_inclusive(|_: char| true).collect();
            trial.row(&row, &bytes);
        }
    }
}

#[test]
fn no_mix_of_upper_and_lower_case_passes() {
    let stage = Stage::new(Script::default());
    let mut trial = Trial::new(&stage, false);
    for verb in ["UNAUTHENTICATE", "AUTHENTICATE", "STARTTLS", "COMPRESS", "LOGIN"] {
        let mixes: Vec<u32> = (0..1 << verb.len()).collect();
        // Answers are read in between, because who reads none is not read from.
        for mixes in mixes.chunks(512) {
            let commands: String = mixes
                .iter()
                .map(|mix| format!("z {} x\r\n", mixed(verb, *mix)))
                .collect();
            trial.client.send(&commands);
            let heard = trial.noop();
            let refused = heard
                .iter()
                .filter(|line| line.starts_with("z BAD ") || line.starts_with("z NO "));
            assert_eq!(refused.count(), mixes.len(), "{verb} {mixes:?}");
            trial.expect("", verb);
        }
    }
}

/// The word with the letters of the mix's one bits in lower case.
fn mixed(word: &str, mix: u32) -> String {
    let letters = word.chars().enumerate();
    letters
        .map(|(at, letter)| match mix >> at & 1 {
            1 => letter.to_ascii_lowercase(),
            _ => letter,
        })
        .collect()
}

/// Lines that some mail server may read otherwise than we do. Each ends the session or is refused; each is followed by a
/// command that would be obeyed if the line before it were taken for something else.
#[test]
fn lines_that_peers_read_differently_smuggle_nothing() {
    let disguises = [
        "z  {}\r\n",
        "z\t{}\r\n",
        " z {}\r\n",
        "z {}\r\r\n",
        "z {}\0\r\n",
        "z \0{}\r\n",
        "\0z {}\r\n",
        "* {}\r\n",
        "+ {}\r\n",
        "\"z\" {}\r\n",
        "{1+}\r\nz {}\r\n",
        "{1}\r\nz {}\r\n",
        "z {3+}\r\nabc {}\r\n",
        "\r\n\r\nz {}\r\n",
        "\n\nz {}\n",
        "z NOOP\rz {}\r\n",
        "z NOOP\0\r\nz {}\r\n",
        "z NOOP {3\r\nz {}\r\n",
        "z NOOP {5-}\r\nz {}\r\n",
        "z NOOP {5} \r\nz {}\r\n",
        "z NOOP { 5}\r\nz {}\r\n",
        "z NOOP {99999999999999999999}\r\nz {}\r\n",
        "z NOOP {99999999999999999999+}\r\nz {}\r\n",
        "z NOOP {4294967296+}\r\nz {}\r\n",
        "z NOOP ~{5+}\r\nabcde\r\nz {}\r\n",
        "i IDLE\r\nz {}\r\nDONE\r\n",
        "i IDLE x\r\nz {}\r\n",
        "i IDLE\nDONE\nz {}\r\n",
        "] {}\r\n",
        "#!$&',-./:;<=>?@[]^_`|}~ {}\r\n",
        "z+ {}\r\n",
        "(z {})\r\n",
        "z ({})\r\n",
        "z \"{}\"\r\n",
        "z UID {}\r\n",
        "z\u{a0}{}\r\n",
        "z \u{ff35}{}\r\n",
        "z NOOP {5}\tx\r\nz {}\r\n",
        "z NOOP \"{5+}\r\nabcdez {}\r\n",
        "z SEARCH {9+}\r\nz {}\r\n",
    ];
    let stage = Stage::new(Script::default());
    for forbidden in FORBIDDEN {
        for disguise in disguises {
            let attack = disguise.replace("{}", forbidden);
            let mut trial = Trial::new(&stage, false);
            // LOGOUT ends what the attack has left open.
            trial.client.send(&format!("{attack}n LOGOUT\r\n"));
            trial.client.rest();
            stage.upstream.wait_for_the_end();
            let received = stage.upstream.received_behind(trial.seen);
            let received = String::from_utf8_lossy(&received).to_ascii_uppercase();
            let verb = forbidden.split(' ').next().unwrap();
            // As an argument it is none.
            let received = received.replace(&format!("UID {verb}"), "");
            assert!(!received.contains(verb), "{attack:?} went up as {received:?}");
        }
    }
}

#[test]
fn a_long_literal_that_does_not_wait_hides_nothing() {
    // 4096 octets is the most that LITERAL- lets come unasked (RFC 7888 §5).
    let stage = Stage::new(Script::default());
    let mut trial = Trial::new(&stage, false);
    for size in [4095, 4096, 4097, 70_000] {
        let message = "z LOGIN bob secret\r\n".repeat(size / 20 + 1)[..size].to_owned();
        let row = Row::new(
            "behind a long literal",
            "",
            format!("l APPEND INBOX {{{size}+}}\r\n{message}\r\nz LOGIN bob secret\r\n"),
            format!("l APPEND INBOX {{{size}}}\r\n{message}\r\n"),
        );
        trial.row(&row, &[&row.attack]);
    }
}

#[test]
fn no_address_is_claimed_after_sign_in_wherever_it_is_split() {
    let stage = Stage::new(Script::default());
    let mut trial = Trial::new(&stage, false);
    let clean = "k ID (\"name\" \"K-9\")\r\n";
    for attack in [
        "k ID (\"x-originating-ip\" \"192.0.2.1\" \"name\" \"K-9\")\r\n",
        "k id (\"name\" \"K-9\" \"X-Forward\" NIL)\n",
        "k ID ({16+}\r\nx-originating-ip {9+}\r\n192.0.2.1 name {3+}\r\nK-9)\r\n",
        "k ID (\"\\x-originating-ip\" \"192.0.2.1\" \"name\" \"K-9\")\r\n",
    ] {
        let row = Row::inside("ID", "", attack.to_owned(), clean.to_owned());
        for cut in 0..attack.len() {
            let (first, second) = attack.split_at(cut);
            trial.row(&row, &[first, second]);
        }
    }
}

/// A mail server that offers, wherever it can, what may not be offered.
const OFFERING: Script = Script {
    transport: support::upstream::Transport::Clear,
    greeting: "* OK [CAPABILITY IMAP4rev1 UNAUTHENTICATE SASL-IR COMPRESS=DEFLATE AUTH=PLAIN LOGIN-REFERRALS] hello",
    capabilities: "UNAUTHENTICATE IMAP4rev1 COMPRESS=DEFLATE IDLE LOGIN-REFERRALS",
    before_success: &[
        "* CAPABILITY IMAP4rev1 unauthenticate IDLE Compress=Deflate login-referrals\r\n",
        "* OK [CAPABILITY IMAP4rev1 UnAuthenticate IDLE COMPRESS=DEFLATE LOGIN-REFERRALS] before\r\n",
        "* OK [REFERRAL imap://thief.example/] before\r\n",
        "*  CAPABILITY  UNAUTHENTICATE IDLE\r\n",
        "* OK  [CAPABILITY\tUNAUTHENTICATE]before\r\n",
        "* NO [REFERRAL imap://thief.example/] [CAPABILITY UNAUTHENTICATE] before\r\n",
    ],
    success: "OK [CAPABILITY IMAP4rev1 COMPRESS=DEFLATE IDLE LOGIN-REFERRALS UNAUTHENTICATE] Logged in",
    after_success: "* CAPABILITY IMAP4rev1 UNAUTHENTICATE IDLE COMPRESS=DEFLATE\r\n",
    after_starttls: "",
    at_login: AtLogin::Check,
    password: "secret",
    answers: &[
        (
            "SELECT",
            "* OK [REFERRAL imap://thief.example/] there\r\n* NO [referral imap://thief.example/] there\r\n",
        ),
        (
            "SELECT",
            "*   OK [REFERRAL imap://thief.example/] [CAPABILITY UNAUTHENTICATE] there\r\n* OK [REFERRAL imap://thief\r\n",
        ),
        ("SELECT", "TAG NO [REFERRAL imap://thief.example/] not here\r\n"),
        (
            "ENABLE",
            "*  capability\tUNAUTHENTICATE IDLE\r\n* OK  [CAPABILITY COMPRESS=DEFLATE]x\r\n* NO [CAPABILITY COMPRESS=X\r\n",
        ),
        (
            "ENABLE",
            "* OK [CAPABILITY IMAP4rev1 COMPRESS=DEFLATE IDLE UNAUTHENTICATE] again\r\n",
        ),
        (
            "ENABLE",
            "* capability IMAP4rev1 COMPRESS=DEFLATE IDLE UNAUTHENTICATE\r\n",
        ),
        (
            "ENABLE",
            "TAG OK [Capability IMAP4rev1 IDLE COMPRESS=DEFLATE LOGIN-REFERRALS] so be it\r\n",
        ),
        ("FETCH", MAIL),
    ],
    cut: None,
};

/// A mail about all this, in which nothing may change.
const MAIL: &str = "* 1 FETCH (BODY[] {79}\r\n* CAPABILITY UNAUTHENTICATE COMPRESS=DEFLATE\r\n* OK [REFERRAL imap://other/] x\r\n)\r\nTAG OK fetched\r\n";

#[test]
fn what_the_mail_server_offers_is_never_seen_wherever_it_is_split() {
    let stage = Stage::new(OFFERING);
    let literal = format!("secret@{}", stage.alice.code());
    let longest = OFFERING.greeting.len() + 2;
    for cut in 1..longest {
        stage.upstream.change(|script| script.cut = Some(cut));
        let mut client = stage.gateway.client();
        client.send(&format!("a LOGIN alice {literal}\r\n"));
        let mut heard = client.until("a");
        assert!(
            heard
                .last()
                .unwrap()
                .starts_with("a OK [CAPABILITY IMAP4rev1 IDLE"),
            "{cut}: {heard:?}"
        );
        for (tag, command) in [("b", "CAPABILITY"), ("c", "SELECT INBOX"), ("d", "ENABLE X")] {
            client.send(&format!("{tag} {command}\r\n"));
            heard.extend(client.until(tag));
        }
        assert_unoffered(&heard, &format!("cut at {cut}"));
        for line in ["b OK done", "* CAPABILITY IMAP4rev1 IDLE"] {
            assert!(
                heard.iter().any(|heard| heard == line),
                "{cut}: {line} is not in {heard:?}"
            );
        }
        assert!(
            heard
                .iter()
                .any(|line| line.starts_with("c NO ") && line.contains("not here")),
            "{heard:?}"
        );
        client.send("e FETCH 1 BODY[]\r\n");
        let mail = client.until("e").join("\r\n") + "\r\n";
        assert_eq!(mail, MAIL.replace("TAG", "e"), "cut at {cut}");
    }
}

#[test]
fn what_comes_before_the_tagged_success_is_filtered_too() {
    let stage = Stage::new(OFFERING);
    for cut in 1..OFFERING.before_success[1].len() {
        stage.upstream.change(|script| script.cut = Some(cut));
        let mut client = stage.gateway.client();
        client.send(&format!(
            "a LOGIN alice secret@{}\r\nb LOGOUT\r\n",
            stage.alice.code()
        ));
        let heard = client.until("b");
        assert_unoffered(&heard, &format!("cut at {cut}"));
        assert!(
            heard.iter().any(|line| line.ends_with("before")),
            "{cut}: {heard:?}"
        );
    }
}

#[test]
fn no_success_offers_anything_whatever_it_looks_like() {
    for success in [
        "OK [REFERRAL imap://thief.example/] in",
        "OK [REFERRAL imap://thief.example/] [CAPABILITY IMAP4rev1 UNAUTHENTICATE] in",
        "OK [CAPABILITY IMAP4rev1 UNAUTHENTICATE] [REFERRAL imap://thief.example/] in",
        "OK [CAPABILITY IMAP4rev1 UNAUTHENTICATE]in",
        "OK [CAPABILITY IMAP4rev1 UNAUTHENTICATE",
        "OK  [Capability\tIMAP4rev1 COMPRESS=DEFLATE] in",
        "ok [capability imap4rev1 compress=deflate login-referrals mailbox-referrals]",
        "OK [CAPABILITY IMAP4rev1 {14}]",
    ] {
        let stage = Stage::new(Script { success, ..OFFERING });
        let mut client = stage.gateway.client();
        client.send(&format!("a LOGIN alice secret@{}\r\n", stage.alice.code()));
        let heard = client.until("a");
        assert!(heard.last().unwrap().starts_with("a OK"), "{success}: {heard:?}");
        assert_unoffered(&heard, success);
    }
}

#[test]
fn a_refusal_refers_nobody_elsewhere() {
    for text in [
        "[REFERRAL imap://thief.example/] there",
        "[referral imap://thief.example/]",
    ] {
        let stage = Stage::new(Script {
            at_login: AtLogin::No(text),
            ..OFFERING
        });
        let mut client = stage.gateway.client();
        client.send(&format!("a LOGIN alice secret@{}\r\n", stage.alice.code()));
        let heard = client.until("a");
        assert!(heard.last().unwrap().starts_with("a NO"), "{heard:?}");
        assert_unoffered(&heard, text);
    }
}

#[test]
fn no_greeting_leads_elsewhere() {
    for (greeting, answer) in [
        (
            "* BYE [REFERRAL imap://thief.example/] moved",
            "a NO [UNAVAILABLE]",
        ),
        // Somebody is signed in whom nobody has asked for (P16).
        ("* PREAUTH [CAPABILITY IMAP4rev1 UNAUTHENTICATE] in", "a NO ["),
        ("* OK [REFERRAL imap://thief.example/] hello", "a OK"),
        ("* OK [CAPABILITY IMAP4rev1 COMPRESS=DEFLATE]hello", "a OK"),
    ] {
        let stage = Stage::new(Script { greeting, ..OFFERING });
        let mut client = stage.gateway.client();
        client.send(&format!("a LOGIN alice secret@{}\r\n", stage.alice.code()));
        let heard = client.until("a");
        assert!(heard.last().unwrap().starts_with(answer), "{greeting}: {heard:?}");
        assert_unoffered(&heard, greeting);
        if answer != "a OK" {
            let received = stage.upstream.received();
            assert!(
                received.is_empty(),
                "a password went to a server that had not asked for it"
            );
        }
    }
}

fn assert_unoffered(heard: &[String], what: &str) {
    for line in heard {
        let upper = line.to_ascii_uppercase();
        for word in ["UNAUTHENTICATE", "COMPRESS", "REFERRAL", "THIEF"] {
            assert!(!upper.contains(word), "{what}: the client hears {line}");
        }
    }
}
