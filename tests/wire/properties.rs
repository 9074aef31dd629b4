//! Properties over random dialogues made of the pieces that matter, and tables of attacks.

use crate::machines::{self, REFUSED};
use crate::relay::Session;
use gatepost::wire::{CloseCause, Direction, MAX_HELD};
use proptest::prelude::*;

/// Random concatenations of these fragments.
fn dialogue(fragments: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let fragment = prop_oneof![
        12 => prop::sample::select(fragments).prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 1..4),
    ];
    prop::collection::vec(fragment, 0..24).prop_map(|parts| parts.concat())
}

const CLIENT_FRAGMENTS: &[&str] = &[
    "a ",
    "b ",
    "a",
    " ",
    "\r\n",
    "\n",
    "\r",
    "\0",
    "\t",
    "NOOP\r\n",
    "a NOOP\r\n",
    "b SELECT INBOX\r\n",
    "LOGIN u p\r\n",
    "a login u p\r\n",
    "b UNAUTHENTICATE\r\n",
    "c STARTTLS\r\n",
    "c COMPRESS DEFLATE\r\n",
    "d AUTHENTICATE PLAIN =\r\n",
    "e APPEND box {17}\r\n",
    "a APPEND box {13+}\r\n",
    "a REFUSES {13+}\r\n",
    "b REFUSES {17}\r\n",
    "a LOGIN x y\r\n",
    "{3}",
    "{3+}",
    "{0}\r\n",
    "{0+}\r\n",
    "~{2}\r\n",
    "{5-}\r\n",
    "{99999999999}\r\n",
    "{",
    "}",
    "a IDLE\r\n",
    "c IDLE\r\n",
    "DONE\r\n",
    "done\n",
    "a FETCH 1 BODY[]\r\n",
    "a CAPABILITY\r\n",
    "a ASKS\r\n",
    "b ASKS\r\n",
    "a EARLY {3}\r\n",
    "a EARLY {17+}\r\n",
    "xyz",
    "\"",
    "\\",
    "+ ok\r\n",
    "* OK\r\n",
    "a ID (\"x-originating-ip\" \"1.2.3.4\")\r\n",
    "LOGIN {1}\r\n",
    " {13+}\r\n",
    "AUTHENTICATE PLAIN\r\n",
    "AGpvZQBwdw==\r\n",
    "*\r\n",
    "a AUTHENTICATE LOGIN\r\n",
    "am9l\r\n",
    "a ID (\"name\" {3}\r\nabc)\r\n",
    "a LOGOUT\r\n",
    "a STARTTLS\r\n\u{1e}",
    "a LOGIN \"j\\\"\" {4+}\r\np\r\n{ {1}\r\n",
];

const UPSTREAM_FRAGMENTS: &[&str] = &[
    "* OK hi\r\n",
    "* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR ID STARTTLS] hi\r\n",
    "* OK [CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED]\r\n",
    "* CAPABILITY IMAP4rev1 AUTH=LOGIN LOGINDISABLED\r\n",
    "* CAPABILITY IMAP4rev1\r\n",
    "gp1 OK done\r\n",
    "gp2 OK done\r\n",
    "gp3 OK in\r\n",
    "gp1 OK [CAPABILITY IMAP4rev1 IDLE UNAUTHENTICATE] in\r\n",
    "gp2 NO [LIMIT] no\r\n",
    "gp1 BAD no\r\n",
    "+ \r\n",
    "+\r\n",
    "+ VXNlcm5hbWU6\r\n",
    "* ID (\"name\" {3}\r\nabc)\r\n",
    "* LIST () \"/\" {20}\r\n",
    "* BYE gone\r\n",
    "* PREAUTH hi\r\n",
    "\r\n",
    "x",
    " {5}\r\n",
    "* OK text {5}\r\n",
    "* 3 EXISTS\r\n",
    "gp2 NO [REFERRAL imap://x/] away\r\n",
    "\0",
    "\n",
    "\u{1e}",
    "* CAPABILITY IMAP4rev1 UNAUTHENTICATE COMPRESS=DEFLATE IDLE\r\n",
    "a OK [REFERRAL imap://x/] [y] z\r\n",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_server_machine_keeps_its_invariants(mode in any::<u8>(), bytes in dialogue(CLIENT_FRAGMENTS)) {
        machines::server(&[&[mode][..], &bytes].concat());
    }

    #[test]
    fn the_client_machine_keeps_its_invariants(mode in any::<u8>(), bytes in dialogue(UPSTREAM_FRAGMENTS)) {
        machines::client(&[&[mode][..], &bytes].concat());
    }

    #[test]
    fn the_guard_keeps_its_invariants(bytes in dialogue(CLIENT_FRAGMENTS)) {
        machines::guard(&bytes);
    }

    #[test]
    fn the_guard_keeps_its_invariants_whatever_both_sides_say(
        segments in prop::collection::vec((dialogue(CLIENT_FRAGMENTS), dialogue(UPSTREAM_FRAGMENTS)), 1..4)
    ) {
        let both = segments.into_iter().flat_map(|(up, down)| [up, down]).collect::<Vec<_>>();
        machines::guard_down(&both.join(&machines::SIDES));
        machines::guard_down(&both.iter().skip(1).step_by(2).cloned().collect::<Vec<_>>().concat());
    }
}

/// The upstream's verbs and the client's view, for a client's bytes cut at every position.
fn check(bytes: &[u8], ran: &[&str], heard: &str) {
    for cut in 0..=bytes.len() {
        let mut session = Session::new(0);
        session.client_says(&bytes[..cut]);
        session.client_says(&bytes[cut..]);
        let shown = String::from_utf8_lossy(bytes);
        assert_eq!(session.relay.closed, None, "{shown:?} cut at {cut}");
        assert_eq!(session.upstream.ran, ran, "{shown:?} cut at {cut}");
        assert_eq!(
            String::from_utf8_lossy(&session.relay.to_client),
            heard,
            "{shown:?} cut at {cut}"
        );
    }
}

fn check_closes(bytes: &str, cause: CloseCause) {
    for cut in 0..=bytes.len() {
        let mut session = Session::new(0);
        session.client_says(&bytes.as_bytes()[..cut]);
        session.client_says(&bytes.as_bytes()[cut..]);
        assert_eq!(session.relay.closed, Some(cause), "{bytes:?} cut at {cut}");
        assert!(
            !session
                .upstream
                .ran
                .iter()
                .any(|verb| REFUSED.contains(&verb.as_str()))
        );
    }
}

#[test]
fn no_refused_verb_passes_in_any_letter_case_wherever_it_is_split() {
    for verb in REFUSED {
        let word = if verb == "COMPRESS" { "NO" } else { "BAD" };
        for (nth, spelling) in spellings(verb).enumerate() {
            let bytes = format!("b {spelling} x y\r\nd   {spelling}\r\n").into_bytes();
            // Another cut for each spelling: all of both would be a product of hundreds of thousands.
            let (first, second) = bytes.split_at(nth % bytes.len());
            let mut session = Session::new(0);
            session.client_says(first);
            session.client_says(second);
            assert!(session.upstream.ran.is_empty(), "{spelling}");
            let heard = String::from_utf8_lossy(&session.relay.to_client);
            assert!(
                heard.starts_with(&format!("b {word} ")) && heard.contains(&format!("\r\nd {word} ")),
                "{heard}"
            );
        }
    }
}

/// Every mix of upper and lower case.
fn spellings(verb: &str) -> impl Iterator<Item = String> {
    (0..1_u32 << verb.len()).map(move |mix| {
        let letters = verb.chars().enumerate();
        letters
            .map(|(at, letter)| match mix >> at & 1 {
                1 => letter.to_ascii_lowercase(),
                _ => letter,
            })
            .collect()
    })
}

#[test]
fn a_refused_command_passes_at_no_cut_and_takes_its_literals_along() {
    check(
        b"a LOGIN u p\r\nb NOOP\r\n",
        &["NOOP"],
        "a BAD You are signed in\r\nb OK said {5}\r\n",
    );
    check(
        b"a LOGIN {3+}\r\nb X {2+}\r\n\r\n\r\nb NOOP\r\n",
        &["NOOP"],
        "a BAD You are signed in\r\nb OK said {5}\r\n",
    );
    check(
        b"a LOGIN {3}\r\nb NOOP\r\n",
        &["NOOP"],
        "a BAD You are signed in\r\nb OK said {5}\r\n",
    );
    check(
        b"a UNAUTHENTICATE\nb NOOP\n",
        &["NOOP"],
        "a BAD Not allowed here: sign out instead\r\nb OK said {5}\r\n",
    );
}

#[test]
fn what_is_inside_a_literal_passes() {
    let inside = b"x LOGIN u p\r\n";
    let bytes = [
        b"a APPEND box {13}\r\n",
        &inside[..],
        b"\r\nb APPEND box ({13+}\r\n",
        inside,
        b")\r\nc NOOP\r\n",
    ]
    .concat();
    check(
        &bytes,
        &["APPEND", "APPEND", "NOOP"],
        "+ go ahead\r\na OK said {5}\r\nb OK said {5}\r\nc OK said {5}\r\n",
    );
    check(
        b"a APPEND box {0+}\r\n\r\nb NOOP\r\n",
        &["APPEND", "NOOP"],
        "a OK said {5}\r\nb OK said {5}\r\n",
    );
    check(
        b"a APPEND ~{2}\r\n\0\n {1+}\r\nx\r\n",
        &["APPEND"],
        "+ go ahead\r\n+ go ahead\r\na OK said {5}\r\n"
            .replacen("+ go ahead\r\n+ go ahead\r\n", "+ go ahead\r\n", 1)
            .as_str(),
    );
}

#[test]
fn a_refused_literal_is_no_hiding_place() {
    // The upstream says NO; what the client sends as a waiting literal all the same are commands then, for both.
    check(
        b"a REFUSES {13}\r\nb LOGIN u p\r\nc NOOP\r\n",
        &["NOOP"],
        "a NO said {5}\r\nb BAD You are signed in\r\nc OK said {5}\r\n",
    );
    // What comes unasked is swallowed, with the rest of its command.
    check(
        b"a REFUSES {13+}\r\nb LOGIN u p\r\n {3+}\r\nx\r\n y\r\nc NOOP\r\n",
        &["NOOP"],
        "a NO said {5}\r\nc OK said {5}\r\n",
    );
}

#[test]
fn what_cannot_be_a_command_is_answered_and_dropped() {
    let bad = "BAD A command needs a tag and a verb";
    for line in [
        " a LOGIN u p",
        "\tLOGIN u p",
        "+ LOGIN u p",
        "* LOGIN u p",
        "a+ LOGIN u p",
        "\"a\" LOGIN u p",
        "{1} LOGIN u p",
    ] {
        check(
            format!("{line}\r\nb NOOP\r\n").as_bytes(),
            &["NOOP"],
            &format!("* {bad}\r\nb OK said {{5}}\r\n"),
        );
    }
    for line in [
        "a",
        "a ",
        "a \tLOGIN u p",
        "a LOGIN\tu p",
        "a L\0OGIN u p",
        "a \"LOGIN\" u p",
        "a LOG(IN u",
        "a {5+}\r\nLOGIN",
    ] {
        check(
            format!("{line}\r\nb NOOP\r\n").as_bytes(),
            &["NOOP"],
            &format!("a {bad}\r\nb OK said {{5}}\r\n"),
        );
    }
    check(b"\r\n\nb NOOP\r\n", &["NOOP"], "b OK said {5}\r\n");
}

#[test]
fn ambiguous_lines_end_the_session() {
    check_closes("a NOOP x\rb LOGIN u p\r\n", CloseCause::Desync);
    check_closes("a NOOP\rb LOGIN u p\r\n", CloseCause::Desync);
    check_closes("a NOOP \0\r\n", CloseCause::Desync);
    check_closes("a NOOP x\r\r\n", CloseCause::Desync);
    for announcement in [
        "{5-}",
        "{5 }",
        "{5} ",
        "{ 5}",
        "{+5}",
        "{}",
        "{5}\t",
        "{0000000000000000000000000000005}",
    ] {
        check_closes(&format!("a APPEND box {announcement}\r\n"), CloseCause::Desync);
    }
    check_closes("a APPEND box {4294967296}\r\n", CloseCause::TooLong);
    check_closes("a LOGIN {4294967296+}\r\n", CloseCause::TooLong);
}

#[test]
fn a_line_longer_than_upstreams_read_ends_the_session() {
    let mut session = Session::new(0);
    session.client_says(b"a SEARCH ");
    for _ in 0..40 {
        session.client_says(&[b'x'; 2048]);
    }
    assert_eq!(session.relay.closed, Some(CloseCause::TooLong));
}

#[test]
fn braces_that_announce_nothing_pass() {
    for line in [
        "a SEARCH TEXT {5",
        "a SEARCH TEXT {5}x",
        "a SEARCH TEXT {",
        "a SEARCH TEXT {abc}",
        "a SEARCH {1} TEXT \"{5}\"",
    ] {
        check(format!("{line}\r\n").as_bytes(), &["SEARCH"], "a OK said {5}\r\n");
    }
    for line_end in ["\r\n", "\n"] {
        let padded = format!("a SEARCH TEXT {{{}x{line_end}", "5".repeat(60));
        check(padded.as_bytes(), &["SEARCH"], "a OK said {5}\r\n");
    }
}

#[test]
fn while_idling_only_done_passes() {
    let idles = "* 3 EXISTS\r\n+ idling\r\n";
    check(
        b"a IDLE\r\nDONE\r\nb NOOP\r\n",
        &["IDLE", "NOOP"],
        &format!("{idles}a OK said {{5}}\r\nb OK said {{5}}\r\n"),
    );
    check(
        b"a idle \ndone\nb NOOP\r\n",
        &["IDLE", "NOOP"],
        &format!("{idles}a OK said {{5}}\r\nb OK said {{5}}\r\n"),
    );
    check(
        b"a IDLE\r\nb LOGIN {3+}\r\nDON {2}\r\nx DONE\r\nDONE\r\n",
        &["IDLE"],
        &format!("{idles}b BAD Send DONE first\r\nx BAD Send DONE first\r\na OK said {{5}}\r\n"),
    );
    check(
        b"a IDLE {5}\r\nb NOOP\r\n",
        &["NOOP"],
        "a BAD IDLE takes no arguments\r\nb OK said {5}\r\n",
    );
    check(b"DONE\r\n", &[], "DONE BAD A command needs a tag and a verb\r\n");
}

/// Client and upstream by hand: `<` what the client sends, `>` what the upstream sends.
fn by_hand(script: &[(char, &str)]) -> (String, String) {
    let mut session = Session::new(0);
    let relay = &mut session.relay;
    for (side, bytes) in script {
        let direction = if *side == '<' {
            Direction::Up
        } else {
            Direction::Down
        };
        relay.receive(direction, bytes.as_bytes());
        relay.settle();
    }
    assert_eq!(relay.closed, None);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&relay.to_upstream), text(&relay.to_client))
}

#[test]
fn the_upstream_sees_only_whole_line_ends_and_literals_that_wait() {
    for (said, up) in [
        ("a NOOP\n", "a NOOP\r\n"),
        ("a APPEND box {3}\n", "a APPEND box {3}\r\n"),
        ("a APPEND box {3+}\r\n", "a APPEND box {3}\r\n"),
        ("a APPEND box {03+}\n", "a APPEND box {3}\r\n"),
        ("a IDLE\n", "a IDLE\r\n"),
    ] {
        assert_eq!(by_hand(&[('<', said)]).0, up, "{said:?}");
    }
    let (up, _) = by_hand(&[('<', "a IDLE\r\n"), ('>', "+ idling\r\n"), ('<', "DONE\n")]);
    assert_eq!(up, "a IDLE\r\nDONE\r\n");
}

#[test]
fn an_answer_to_an_earlier_command_with_the_same_tag_decides_nothing() {
    let smuggled = "a APPEND box {21}\r\nx UNAUTHENTICATE\r\nabc\r\n";
    let (up, _) = by_hand(&[('<', "a FETCH 1 ALL\r\n"), ('<', smuggled)]);
    assert_eq!(
        up, "a FETCH 1 ALL\r\na APPEND box ",
        "the announcement waits for the first answer"
    );
    let script = [
        ('<', "a FETCH 1 ALL\r\n"),
        ('<', smuggled),
        ('>', "a OK fetched\r\n"),
    ];
    assert_eq!(by_hand(&script).0, "a FETCH 1 ALL\r\na APPEND box {21}\r\n");
    let (up, down) = by_hand(&[&script[..], &[('>', "+ go\r\n"), ('>', "a OK appended\r\n")]].concat());
    assert_eq!(up, format!("a FETCH 1 ALL\r\n{smuggled}"));
    assert_eq!(down, "a OK fetched\r\n+ go\r\na OK appended\r\n");
}

#[test]
fn a_continuation_for_an_earlier_command_decides_nothing() {
    // XSTRANGE asks for something by itself; that must not let a literal through as if it were for APPEND.
    let script = [
        ('<', "a XSTRANGE\r\nb APPEND box {18}\r\nx UNAUTHENTICATE\r\n"),
        ('>', "+ tell me\r\n"),
    ];
    let (up, _) = by_hand(&script);
    assert_eq!(up, "a XSTRANGE\r\nb APPEND box ");
    let (up, _) = by_hand(&[&script[..], &[('>', "a OK\r\n"), ('>', "b NO\r\n")]].concat());
    assert_eq!(
        up, "a XSTRANGE\r\nb APPEND box {18}\r\n",
        "refused, so the rest is a command, which we answer"
    );
}

#[test]
fn a_command_answered_early_may_only_end() {
    let early = [
        ('<', "a APPEND box {3}\r\n"),
        ('>', "+ go\r\na NO full\r\n"),
        ('<', "abc\r\nb NOOP\r\n"),
    ];
    assert_eq!(by_hand(&early).0, "a APPEND box {3}\r\nabc\r\nb NOOP\r\n");
    let mut session = Session::new(0);
    for (direction, bytes) in [
        (Direction::Up, "a APPEND box {3}\r\n"),
        (Direction::Down, "+ go\r\na NO full\r\n"),
        (Direction::Up, "abcb LOGIN u p\r\n"),
    ] {
        session.relay.receive(direction, bytes.as_bytes());
        session.relay.settle();
    }
    assert_eq!(session.relay.closed, Some(CloseCause::Desync));
    assert_eq!(session.relay.to_upstream, b"a APPEND box {3}\r\nabc");
}

#[test]
fn an_early_answer_is_the_earlier_commands_where_two_have_one_tag() {
    let script = [
        ('<', "a NOOP\r\na SEARCH x"),
        ('>', "a OK nothing done\r\n"),
        ('<', " {3}\r\n"),
    ];
    assert_eq!(by_hand(&script).0, "a NOOP\r\na SEARCH x {3}\r\n");
}

#[test]
fn we_speak_between_lines_only() {
    let script = [
        ('<', "a FETCH 1 ALL\r\n"),
        ('>', "* 1 FETCH (X {5}\r\nab"),
        ('<', "b LOGIN u p\r\n"),
    ];
    assert_eq!(by_hand(&script).1, "* 1 FETCH (X {5}\r\nab");
    let (_, down) = by_hand(&[&script[..], &[('>', "cde)"), ('>', "\r\na OK\r\n")]].concat());
    assert_eq!(
        down,
        "* 1 FETCH (X {5}\r\nabcde)\r\na OK\r\nb BAD You are signed in\r\n"
    );
    // The beginning of a line that is still held counts as a line.
    let (_, down) = by_hand(&[
        ('>', "* CAPABI"),
        ('<', "b LOGIN u p\r\n"),
        ('>', "LITY IDLE\r\n"),
    ]);
    assert_eq!(down, "* CAPABILITY IDLE\r\nb BAD You are signed in\r\n");
}

/// What goes up and comes down, for a client's ID cut at every position and in single octets.
fn check_id(said: &str, up: &str, down: &str) {
    let bytes = said.as_bytes();
    let mut ways: Vec<Vec<&[u8]>> = (0..=bytes.len())
        .map(|cut| vec![&bytes[..cut], &bytes[cut..]])
        .collect();
    ways.push(bytes.chunks(1).collect());
    for pieces in ways {
        let mut relay = Session::new(0).relay;
        for piece in &pieces {
            relay.receive(Direction::Up, piece);
            relay.settle();
        }
        assert_eq!(relay.closed, None, "{said:?}");
        assert_eq!(
            String::from_utf8_lossy(&relay.to_upstream),
            up,
            "{said:?} in {pieces:?}"
        );
        assert_eq!(
            String::from_utf8_lossy(&relay.to_client),
            down,
            "{said:?} in {pieces:?}"
        );
    }
}

#[test]
fn an_id_after_sign_in_claims_no_address() {
    let plain = "a ID (\"name\" \"K-9\")\r\n";
    check_id(plain, plain, "");
    check_id("a id NIL\r\n", "a ID NIL\r\n", "");
    check_id("a ID ()\n", "a ID NIL\r\n", "");
    check_id(
        "a ID (\"x-originating-ip\" \"192.0.2.1\")\r\n",
        "a ID NIL\r\n",
        "",
    );
    for key in [
        "x-originating-ip",
        "X-Originating-IP",
        "X-PROXY-TTL",
        " x-session-id",
        "x\tx",
    ] {
        check_id(
            &format!("a ID (\"{key}\" \"192.0.2.1\" \"name\" \"K-9\")\r\n"),
            plain,
            "",
        );
        for (plus, asked) in [("+", ""), ("", "+ OK\r\n")] {
            check_id(
                &format!(
                    "a ID ({{{}{plus}}}\r\n{key} {{9{plus}}}\r\n192.0.2.1 name K-9)\r\nb NOOP\r\n",
                    key.len()
                ),
                &format!("{plain}b NOOP\r\n"),
                &asked.repeat(2),
            );
        }
    }
    // Line ends, quotes and commands in a literal are no more than odd characters.
    check_id(
        "a ID (name {12+}\r\n\"\r\nb LOGIN x)\r\n",
        "a ID (\"name\" \"???b LOGIN x\")\r\n",
        "",
    );
}

#[test]
fn what_is_no_id_goes_nowhere() {
    let bad = "a BAD ID needs NIL or a list of at most 30 pairs\r\n";
    for id in [
        "a ID\r\n",
        "a ID x\r\n",
        "a ID (\"x-originating-ip\" \"192.0.2.1\"\r\n",
        "a ID (\"name\" \"K-9\") (\"x-originating-ip\" \"192.0.2.1\")\r\n",
        "a ID (name\tK-9)\r\n",
        "a ID (\"name\" \"a\rb\")\r\n",
        "a ID (NIL NIL)\r\n",
    ] {
        check_id(&format!("{id}b NOOP\r\n"), "b NOOP\r\n", bad);
    }
    for id in ["a ID ({65536+}\r\n", "a ID ({99999999999999999999}\r\n"] {
        check_closes(id, CloseCause::TooLong);
    }
    let mut session = Session::new(0);
    session.client_says(b"a ID (\"");
    for _ in 0..40 {
        session.client_says(&[b'x'; 2048]);
    }
    assert_eq!(session.relay.closed, Some(CloseCause::TooLong));
}

#[test]
fn a_literal_of_an_id_is_asked_for_between_lines_only() {
    let script = [
        ('<', "a FETCH 1 ALL\r\n"),
        ('>', "* 1 FETCH (X {5}\r\nab"),
        ('<', "b ID ({4}\r\n"),
    ];
    assert_eq!(by_hand(&script).1, "* 1 FETCH (X {5}\r\nab");
    let rest = [('>', "cde)\r\na OK\r\n"), ('<', "name K-9)\r\n")];
    assert_eq!(
        by_hand(&[&script[..], &rest].concat()),
        (
            "a FETCH 1 ALL\r\nb ID (\"name\" \"K-9\")\r\n".to_owned(),
            "* 1 FETCH (X {5}\r\nabcde)\r\na OK\r\n+ OK\r\n".to_owned()
        )
    );
}

/// The session after the script.
fn closed_after(script: &[(Direction, &str)]) -> Option<CloseCause> {
    let mut relay = Session::new(0).relay;
    for (direction, bytes) in script {
        relay.receive(*direction, bytes.as_bytes());
        relay.settle();
    }
    relay.closed
}

#[test]
fn a_command_that_was_answered_announces_no_literal() {
    // Nobody knows whether the upstream takes what follows for a literal or for a command.
    let script = [
        (Direction::Up, "a SEARCH x"),
        (Direction::Down, "a BAD no such command\r\n"),
        (Direction::Up, " {3}\r\n"),
    ];
    assert_eq!(closed_after(&script), Some(CloseCause::Desync));
}

#[test]
fn an_untagged_bad_leaves_no_literal_waiting() {
    let append = "b APPEND box {3}\r\n";
    // The upstream does not take `#` for a tag, so it cannot say whose fault it was.
    let script = [('<', "# NOOP\r\n"), ('>', "* BAD no tag\r\n"), ('<', append)];
    assert_eq!(by_hand(&script).0, format!("# NOOP\r\n{append}"));
    // Two wait and one was bad: until one more is answered nobody knows which.
    let script = [
        ('<', "# NOOP\r\na SELECT x\r\n"),
        ('>', "* BAD no tag\r\n"),
        ('<', append),
    ];
    assert_eq!(by_hand(&script).0, "# NOOP\r\na SELECT x\r\nb APPEND box ");
    let answered = [&script[..], &[('>', "a OK selected\r\n")]].concat();
    assert_eq!(by_hand(&answered).0, format!("# NOOP\r\na SELECT x\r\n{append}"));
    // In the middle of a line.
    let script = [
        ('<', "# SEARCH x"),
        ('>', "* BAD no tag\r\n"),
        ('<', " y\r\n"),
        ('<', append),
    ];
    assert_eq!(by_hand(&script).0, format!("# SEARCH x y\r\n{append}"));
    // IDLE as well.
    let script = [
        ('<', "# NOOP\r\n"),
        ('>', "* BAD no tag\r\n"),
        ('<', "i IDLE\r\n"),
    ];
    assert_eq!(by_hand(&script).0, "# NOOP\r\ni IDLE\r\n");
}

#[test]
fn a_late_answer_behind_an_untagged_bad_decides_nothing() {
    // Were the late answer taken for APPEND's, its `+` would be taken for the next one's.
    let script = [
        ('<', "a NOOP x\r\n"),
        ('>', "* BAD strange\r\n"),
        ('<', "a APPEND box {3}\r\n"),
    ];
    assert_eq!(by_hand(&script).0, "a NOOP x\r\na APPEND box ");
    let late = [&script[..], &[('>', "a BAD strange\r\n")]].concat();
    assert_eq!(by_hand(&late).0, "a NOOP x\r\na APPEND box {3}\r\n");
    // IDLE with the tag of a doubted command.
    let script = [('<', "a NOOP x\r\n"), ('>', "* BAD x\r\n"), ('<', "a IDLE\r\n")];
    assert_eq!(by_hand(&script).0, "a NOOP x\r\n");
}

#[test]
fn an_untagged_bad_in_the_place_of_a_go_ahead_ends_the_session() {
    for command in ["# APPEND box {3}\r\n", "# IDLE\r\n"] {
        let script = [(Direction::Up, command), (Direction::Down, "* BAD no tag\r\n")];
        assert_eq!(closed_after(&script), Some(CloseCause::Desync), "{command}");
    }
    let script = [
        (Direction::Up, "# SEARCH x"),
        (Direction::Down, "* BAD no tag\r\n"),
        (Direction::Up, " {3}\r\n"),
    ];
    assert_eq!(closed_after(&script), Some(CloseCause::Desync));
    let many: Vec<(Direction, &str)> = [
        (Direction::Up, "# NOOP\r\n"),
        (Direction::Down, "* BAD no tag\r\n"),
    ]
    .into_iter()
    .cycle()
    .take(2 * 257)
    .collect();
    assert_eq!(closed_after(&many[..2 * 256]), None);
    assert_eq!(closed_after(&many), Some(CloseCause::Desync));
}

/// What comes down, for an upstream's bytes cut at every position.
fn check_down(said: &str, heard: &str) {
    for cut in 0..=said.len() {
        let (_, down) = by_hand(&[('>', &said[..cut]), ('>', &said[cut..])]);
        assert_eq!(down, heard, "{said:?} cut at {cut}");
    }
}

#[test]
fn capabilities_and_referrals_are_filtered_at_every_cut() {
    for (said, heard) in [
        (
            "* CAPABILITY IMAP4rev1 UNAUTHENTICATE COMPRESS=DEFLATE IDLE\r\n",
            "* CAPABILITY IMAP4rev1 IDLE\r\n",
        ),
        ("* capability Compress=Deflate\r\n", "* CAPABILITY\r\n"),
        (
            "a OK [CAPABILITY IMAP4rev1 UnAuthenticate] in\r\n",
            "a OK [CAPABILITY IMAP4rev1] in\r\n",
        ),
        (
            "* OK [Capability AUTH=PLAIN IDLE] hi\n",
            "* OK [Capability IDLE] hi\r\n",
        ),
        (
            "a NO [REFERRAL imap://u;AUTH=*@[::1]/x] try there\r\n",
            "a NO try there\r\n",
        ),
        ("* BYE [referral imap://elsewhere/] moved\r\n", "* BYE moved\r\n"),
        ("* OK [CAPABILITIES] no\r\n", "* OK [CAPABILITIES] no\r\n"),
        (
            "* 1 FETCH (BODY {23}\r\n* CAPABILITY COMPRESS=X\r\n)\r\n",
            "* 1 FETCH (BODY {23}\r\n* CAPABILITY COMPRESS=X\r\n)\r\n",
        ),
        (
            "* LIST () \"/\" foo{5}\r\n* CAPABILITY COMPRESS=X\r\n",
            "* LIST () \"/\" foo{5}\r\n* CAPABILITY\r\n",
        ),
        (
            "* 1 FETCH (A {0}\r\n B {1}\r\nx C ~{2}\r\nyz)\r\n+ x {5}\r\na OK y {9}\r\n",
            "* 1 FETCH (A {0}\r\n B {1}\r\nx C ~{2}\r\nyz)\r\n+ x {5}\r\na OK y {9}\r\n",
        ),
        ("\r\nnonsense\r\n* \r\n", "\r\nnonsense\r\n* \r\n"),
        // Some clients take several blanks for one, or read a code that does not end.
        ("*   CAPABILITY COMPRESS=X IDLE\r\n", "* CAPABILITY IDLE\r\n"),
        ("* \tCAPABILITY\tUNAUTHENTICATE IDLE\r\n", "* CAPABILITY IDLE\r\n"),
        (
            "a  OK  [CAPABILITY\tCOMPRESS=X IDLE] x\r\n",
            "a OK [CAPABILITY IDLE] x\r\n",
        ),
        (
            "* OK [CAPABILITY COMPRESS=X IDLE]x\r\n",
            "* OK [CAPABILITY IDLE] x\r\n",
        ),
        (
            "* OK [CAPABILITY COMPRESS=X IDLE\r\n",
            "* OK [CAPABILITY IDLE] -\r\n",
        ),
        ("a NO [REFERRAL imap://x/\r\n", "a NO -\r\n"),
        (
            "* NO [REFERRAL imap://x/] [CAPABILITY COMPRESS=X] [REFERRAL imap://x/] y\r\n",
            "* NO y\r\n",
        ),
        (
            "* CAPABILITY IDLE {16}\r\nCOMPRESS=DEFLATE\r\n",
            "* CAPABILITY IDLE\r\nCOMPRESS=DEFLATE\r\n",
        ),
    ] {
        check_down(said, heard);
    }
}

#[test]
fn what_clients_read_differently_ends_the_session() {
    let zeros = "0".repeat(30);
    for said in [
        "* X {3+}\r\n".to_owned(),
        "* X {9223372036854775808}\r\n".to_owned(),
        format!("* X {{{zeros}3}}\r\n"),
        format!("* X {{3{zeros}\r\n* X {{{zeros}+}}\r\n"),
        format!("* {} CAPABILITY X\r\n", " ".repeat(20)),
        format!("* OK {} [CAPABILITY X] x\r\n", " ".repeat(20)),
    ] {
        for cut in 0..=said.len() {
            let script = [(Direction::Down, &said[..cut]), (Direction::Down, &said[cut..])];
            assert_eq!(
                closed_after(&script),
                Some(CloseCause::Desync),
                "{said:?} cut at {cut}"
            );
        }
    }
    for said in [
        format!("* X {zeros}}}\r\n"),
        format!("* X {{a{zeros}}}\r\n"),
        format!("* X {{{zeros}\r\n}}\r\n"),
    ] {
        check_down(&said, &said);
    }
}

#[test]
fn a_capability_line_without_end_ends_the_session() {
    let mut session = Session::new(0);
    for _ in 0..3 {
        session
            .relay
            .receive(Direction::Down, &[&b"* CAPABILITY "[..], &[b'x'; 4096]].concat());
        session.relay.settle();
    }
    assert_eq!(session.relay.closed, Some(CloseCause::TooLong));
}

/// Where a line is about as long as can be held, whether it came in one piece must not matter either.
#[test]
fn lines_that_are_just_held_or_just_not_are_the_same_at_every_split() {
    for length in MAX_HELD - 3..MAX_HELD + 3 {
        for line_end in ["\r\n", "\n"] {
            let line = format!("{:X<length$}{line_end}", "* CAPABILITY ");
            machines::guard_down(line.as_bytes());
        }
    }
}

#[test]
fn bulk_data_passes_whole() {
    let lines = "* 1 FETCH (FLAGS (\\Seen))\r\n".repeat(1000);
    let (_, down) = by_hand(&[('>', &lines)]);
    assert_eq!(down, lines);
}

#[test]
fn many_unanswered_commands_wait_in_the_socket() {
    let mut session = Session::new(0);
    session
        .relay
        .receive(Direction::Up, "a NOOP\r\n".repeat(1000).as_bytes());
    session.relay.settle();
    assert_eq!(session.relay.to_upstream.len(), 256 * 8);
    session
        .relay
        .receive(Direction::Down, "a OK\r\n".repeat(1000).as_bytes());
    session.relay.settle();
    assert_eq!(session.relay.to_upstream.len(), 512 * 8);
    assert_eq!(session.relay.closed, None);
}
