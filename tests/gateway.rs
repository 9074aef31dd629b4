//! The whole product in one process: a mail program, the gateway on its real store and sockets, and a mail server that can
//! be told to misbehave.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::time::Instant;
use support::client::Client;
use support::gateway::PACE;
use support::stage::Stage;
use support::upstream::{AtLogin, Script, Transport, contains};

#[test]
fn password_and_code_sign_in_with_tls_on_both_legs() {
    let implicit = Script {
        transport: Transport::Implicit,
        ..Script::default()
    };
    let starttls = Script {
        transport: Transport::StartTls,
        greeting: "* OK [CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED] ready",
        ..Script::default()
    };
    for script in [implicit, starttls] {
        let stage = Stage::new(script);
        let mut client = Client::tls(stage.gateway.address("imaps"), &stage.gateway.certificate());
        assert!(client.line().starts_with("* OK"));
        let answer = client.command(
            "a1",
            &format!("LOGIN alice@example.org secret@{}", stage.alice.code()),
        );
        assert_eq!(
            answer, "a1 OK [CAPABILITY IMAP4rev1 IDLE UIDPLUS] Logged in",
            "the upstream's own words"
        );
        assert_eq!(client.command("a2", "LIST \"\" *"), "a2 OK LIST done");
        assert!(client.command("a3", "LOGOUT").starts_with("a3 OK"));
        assert_eq!(client.rest(), "");
        assert!(
            !contains(&stage.upstream.received(), stage.alice.code().as_bytes()),
            "the code stays here"
        );
    }
}

#[test]
fn starttls_signs_in_and_forgets_what_came_before() {
    let stage = Stage::new(Script::default());
    let mut client = Client::plain(stage.gateway.address("imap"));
    let greeting = client.line();
    assert!(
        greeting.contains("LOGINDISABLED") && greeting.contains("STARTTLS"),
        "{greeting}"
    );
    assert!(
        client
            .command("a", "LOGIN alice secret")
            .contains("[PRIVACYREQUIRED]")
    );
    stage.gateway.wait_for_reason("plaintext_password");
    assert!(client.command("b", "STARTTLS").starts_with("b OK"));
    let mut client = client.start_tls(&stage.gateway.certificate());
    client.send("c CAPABILITY\r\n");
    let capabilities = client.until("c").remove(0);
    assert!(
        capabilities.contains("AUTH=PLAIN") && !capabilities.contains("STARTTLS"),
        "{capabilities}"
    );
    let answer = client.command("d", &format!("LOGIN alice secret@{}", stage.alice.code()));
    assert!(answer.starts_with("d OK"), "{answer}");
}

#[test]
fn the_same_literal_signs_in_again_and_another_with_the_same_code_does_not() {
    let stage = Stage::new(Script::default());
    let literal = format!("secret@{}", stage.alice.code());
    for _ in 0..3 {
        let answer = stage
            .gateway
            .client()
            .command("a", &format!("LOGIN alice {literal}"));
        assert!(answer.starts_with("a OK"), "{answer}");
    }
    let other = format!("secret,{}", literal.split_once('@').unwrap().1);
    let answer = stage
        .gateway
        .client()
        .command("a", &format!("LOGIN alice {other}"));
    assert!(answer.starts_with("a NO [AUTHENTICATIONFAILED]"), "{answer}");
    assert_eq!(stage.upstream.connections(), 3);
}

#[test]
fn no_byte_of_a_password_goes_upstream_without_a_code() {
    let stage = Stage::new(Script::default());
    let wrong = stage.alice.wrong_code();
    let attempts = [
        "LOGIN alice passw0rt".to_owned(),
        format!("LOGIN alice passw0rt@{wrong}"),
        format!("LOGIN mallory passw0rt@{}", stage.alice.code()),
        "LOGIN \"\" passw0rt".to_owned(),
        "AUTHENTICATE PLAIN AGFsaWNlAHBhc3N3MHJ0".to_owned(),
        "AUTHENTICATE PLAIN Ym9iAGFsaWNlAHBhc3N3MHJ0".to_owned(),
    ];
    for attempt in &attempts {
        let answer = stage.gateway.client().command("a", attempt);
        assert!(
            answer.starts_with("a NO") || answer.starts_with("a BAD"),
            "{attempt}: {answer}"
        );
    }
    assert_eq!(stage.upstream.connections(), 0);
    assert_eq!(stage.upstream.received(), b"");
}

#[test]
fn unknown_and_known_names_hear_the_same_words() {
    let stage = Stage::new(Script::default());
    let wrong = stage.alice.wrong_code();
    let known = stage
        .gateway
        .client()
        .command("a", &format!("LOGIN alice secret@{wrong}"));
    let unknown = stage
        .gateway
        .client()
        .command("a", &format!("LOGIN nobody secret@{wrong}"));
    let no_code = stage.gateway.client().command("a", "LOGIN alice secret");
    assert_eq!(known, unknown);
    assert_eq!(known, no_code);
}

#[test]
fn a_refusal_is_not_sooner_than_its_pace() {
    let stage = Stage::new(Script::default());
    for stranger in 0..5 {
        let mut client = stage.gateway.client();
        let said = Instant::now();
        let answer = client.command("a", &format!("LOGIN stranger{stranger} secret"));
        assert!(answer.starts_with("a NO"), "{answer}");
        assert!(said.elapsed() >= PACE);
    }
}

#[test]
fn a_wrong_password_keeps_the_connection_and_the_code() {
    let stage = Stage::new(Script::default());
    let code = stage.alice.code();
    let mut client = stage.gateway.client();
    assert!(
        client
            .command("a", &format!("LOGIN alice wrong@{code}"))
            .starts_with("a NO [AUTHENTICATIONFAILED]")
    );
    let answer = client.command("b", &format!("LOGIN alice secret@{code}"));
    assert!(answer.starts_with("b OK"), "{answer}");
}

#[test]
fn pipelined_commands_reach_the_upstream_exactly_once() {
    let stage = Stage::new(Script::default());
    let message = "x".repeat(100_000);
    let mut client = stage.gateway.client();
    client.send(&format!(
        "a LOGIN alice secret@{}\r\nb SELECT INBOX\r\nc APPEND INBOX {{100000+}}\r\n{message}\r\nd NOOP\r\n",
        stage.alice.code()
    ));
    assert_eq!(
        client.until("d"),
        [
            "a OK [CAPABILITY IMAP4rev1 IDLE UIDPLUS] Logged in",
            "b OK SELECT done",
            "c OK appended 100000",
            "d OK NOOP done",
        ]
    );
    let received = String::from_utf8(stage.upstream.received()).unwrap();
    assert_eq!(received.matches("b SELECT").count(), 1);
    assert_eq!(received.matches(&message).count(), 1);
}

#[test]
fn pipelined_commands_behind_a_refused_login_are_answered_here() {
    let stage = Stage::new(Script::default());
    let mut client = stage.gateway.client();
    client.send("a LOGIN alice nonsense\r\nb NOOP\r\nc SELECT INBOX\r\nd LOGOUT\r\n");
    let lines = client.until("d");
    assert!(lines.iter().any(|line| line.starts_with("b OK")), "{lines:?}");
    assert!(lines.iter().any(|line| line.starts_with("c BAD")), "{lines:?}");
    assert_eq!(stage.upstream.connections(), 0);
}

#[test]
fn untagged_lines_in_segments_of_their_own_come_before_the_success() {
    let stage = Stage::new(Script {
        before_success: &[
            "* OK still",
            " here\r\n* CAPABILITY IMAP4rev1 COMP",
            "RESS=DEFLATE\r\n",
            "* OK [ALERT] x\r\n",
        ],
        success: "OK done",
        after_success: "* 3 EXISTS\r\n",
        ..Script::default()
    });
    let mut client = stage.gateway.client();
    client.send(&format!("a LOGIN alice secret@{}\r\n", stage.alice.code()));
    let lines = client.until("a");
    assert!(lines.contains(&"* OK still here".to_owned()), "{lines:?}");
    assert!(lines.contains(&"* OK [ALERT] x".to_owned()), "{lines:?}");
    assert!(!lines.iter().any(|line| line.contains("COMPRESS")), "{lines:?}");
    assert_eq!(
        client.line(),
        "* 3 EXISTS",
        "what came behind the success comes behind it"
    );
}

#[test]
fn an_upstream_that_gives_no_verdict_means_try_later_and_burns_nothing() {
    let cases: &[(&str, Script)] = &[
        (
            "silent",
            Script {
                at_login: AtLogin::Silent,
                ..Script::default()
            },
        ),
        (
            "bye",
            Script {
                at_login: AtLogin::Bye,
                ..Script::default()
            },
        ),
        (
            "mid-reply",
            Script {
                at_login: AtLogin::CloseMidReply,
                ..Script::default()
            },
        ),
        (
            "preauth",
            Script {
                greeting: "* PREAUTH welcome",
                ..Script::default()
            },
        ),
        (
            "bye greeting",
            Script {
                greeting: "* BYE too busy",
                ..Script::default()
            },
        ),
        (
            "unavailable",
            Script {
                at_login: AtLogin::No("[UNAVAILABLE] later"),
                ..Script::default()
            },
        ),
        (
            "limit",
            Script {
                at_login: AtLogin::No("[LIMIT] too many"),
                ..Script::default()
            },
        ),
    ];
    for (case, script) in cases {
        let stage = Stage::new(script.clone());
        let literal = format!("secret@{}", stage.alice.code());
        let mut client = stage.gateway.client();
        let answer = client.command("a", &format!("LOGIN alice {literal}"));
        assert!(answer.starts_with("a NO [UNAVAILABLE]"), "{case}: {answer}");
        stage.upstream.change(|script| *script = Script::default());
        let answer = client.command("b", &format!("LOGIN alice {literal}"));
        assert!(
            answer.starts_with("b OK"),
            "{case}: the same literal on the same connection: {answer}"
        );
    }
}

#[test]
fn bytes_behind_the_upstreams_starttls_are_an_attack() {
    let stage = Stage::new(Script {
        transport: Transport::StartTls,
        greeting: "* OK [CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED] ready",
        after_starttls: "* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\n",
        ..Script::default()
    });
    let answer = stage
        .gateway
        .client()
        .command("a", &format!("LOGIN alice secret@{}", stage.alice.code()));
    assert!(answer.starts_with("a NO [UNAVAILABLE]"), "{answer}");
    assert!(!contains(&stage.upstream.received(), b"secret"));
}

#[test]
fn an_upstream_without_starttls_never_sees_the_password() {
    let stage = Stage::new(Script {
        transport: Transport::StartTls,
        greeting: "* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] no TLS here",
        capabilities: "IMAP4rev1 AUTH=PLAIN",
        ..Script::default()
    });
    let answer = stage
        .gateway
        .client()
        .command("a", &format!("LOGIN alice secret@{}", stage.alice.code()));
    assert!(answer.starts_with("a NO [UNAVAILABLE]"), "{answer}");
    assert!(!contains(&stage.upstream.received(), b"AUTHENTICATE"));
}

#[test]
fn upstreams_of_every_ability_are_signed_in_to() {
    for capabilities in [
        "IMAP4rev1",
        "IMAP4rev1 AUTH=PLAIN",
        "IMAP4rev1 SASL-IR AUTH=PLAIN ID",
    ] {
        let stage = Stage::new(Script {
            greeting: "* OK hello",
            capabilities,
            ..Script::default()
        });
        drop(stage.signed_in());
    }
}

#[test]
fn a_password_of_odd_characters_arrives_as_it_is() {
    let stage = Stage::new(Script {
        greeting: "* OK hello",
        capabilities: "IMAP4rev1",
        ..Script::default()
    });
    let mut client = stage.gateway.client();
    let literal = format!("se\"c\\ret sécret{{3}}secret@{}", stage.alice.code());
    client.send("a LOGIN {5}\r\n");
    assert!(client.line().starts_with('+'));
    client.send(&format!("alice {{{}+}}\r\n{literal}\r\n", literal.len()));
    assert!(client.until("a").pop().unwrap().starts_with("a OK"));
    assert!(contains(
        &stage.upstream.received(),
        "se\"c\\ret sécret{3}secret".as_bytes()
    ));
}

#[test]
fn forbidden_commands_after_the_hand_over_never_arrive() {
    let stage = Stage::new(Script::default());
    let mut client = stage.signed_in();
    for command in [
        "UNAUTHENTICATE",
        "unAUTHenticate",
        "COMPRESS DEFLATE",
        "STARTTLS",
        "AUTHENTICATE PLAIN =",
        "LOGIN bob secret",
    ] {
        let answer = client.command("z", command);
        assert!(
            answer.starts_with("z BAD") || answer.starts_with("z NO"),
            "{command}: {answer}"
        );
    }
    assert_eq!(client.command("y", "NOOP"), "y OK NOOP done");
    let received = String::from_utf8_lossy(&stage.upstream.received()).to_ascii_uppercase();
    for word in ["UNAUTHENTICATE", "COMPRESS", "STARTTLS", "BOB"] {
        assert!(!received.contains(word), "{word} reached the upstream");
    }
}

#[test]
fn revoking_a_device_cuts_its_session_and_kills_its_literal() {
    let stage = Stage::new(Script::default());
    let literal = format!("secret@{}", stage.alice.code());
    let mut client = stage.gateway.client();
    assert!(
        client
            .command("a", &format!("LOGIN alice {literal}"))
            .starts_with("a OK")
    );
    let devices = stage.gateway.devices("alice@example.org");
    stage.gateway.revoke("alice@example.org", &devices[0]);
    assert!(
        client.rest().starts_with("* BYE"),
        "the live session ends with a goodbye"
    );
    let answer = stage
        .gateway
        .client()
        .command("b", &format!("LOGIN alice {literal}"));
    assert!(answer.starts_with("b NO [AUTHENTICATIONFAILED]"), "{answer}");
    assert_eq!(stage.upstream.connections(), 1);
}

#[test]
fn draining_says_goodbye_to_everybody() {
    let mut stage = Stage::new(Script::default());
    let mut session = stage.signed_in();
    let mut waiting = stage.gateway.client();
    stage.gateway.drain();
    assert!(session.rest().starts_with("* BYE"));
    assert!(waiting.rest().starts_with("* BYE"));
}

#[test]
fn a_half_closed_session_still_gets_its_answers() {
    let stage = Stage::new(Script::default());
    let mut client = stage.signed_in();
    client.send("b NOOP\r\nc LOGOUT\r\n");
    client.half_close();
    assert_eq!(client.until("c"), ["b OK NOOP done", "* BYE bye", "c OK done"]);
    assert_eq!(client.rest(), "");
}

#[test]
fn the_wrong_transport_is_answered_at_once() {
    let stage = Stage::new(Script::default());
    let mut plain_on_tls = Client::plain(stage.gateway.address("imaps"));
    plain_on_tls.send("a CAPABILITY\r\n");
    assert!(plain_on_tls.rest().starts_with("* BYE"));
    let mut tls_on_plain = Client::plain(stage.gateway.address("imap"));
    tls_on_plain.line();
    tls_on_plain.send("\x16\x03\x01\x02\x00\x01\x00\x01");
    assert!(tls_on_plain.rest().starts_with("* BYE"));
}

#[test]
fn learning_lets_the_password_alone_in_and_remembers_nothing() {
    let stage = Stage::with(Script::default(), "mode = \"learning\"");
    assert!(
        stage
            .gateway
            .client()
            .command("a", "LOGIN alice secret")
            .starts_with("a OK")
    );
    assert!(stage.gateway.devices("alice@example.org").is_empty());
    assert!(
        stage
            .gateway
            .client()
            .command("a", "LOGIN alice wrong")
            .starts_with("a NO")
    );
}
