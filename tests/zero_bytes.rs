//! For every reason to say no: what of a password reached the mail server? The answer is "not a byte" wherever neither a
//! device nor a code was right, and the match below has no arm for "somebody forgot this reason".

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use gatepost::admin::api::person::{NewPerson, Suspension};
use gatepost::admin::api::{Method, Request};
use gatepost::reason::Reason;
use support::stage::Stage;
use support::upstream::{Script, contains};

/// Where a reason stands.
enum Standing {
    /// Decided before any proof: the scene makes it happen, with the password [`BAIT`].
    Unproven(fn(&Stage)),
    /// Decided with a right code or a known device in hand: the password goes upstream because it has to.
    AfterACode,
    /// Lets in.
    Admits,
    /// Needs a broken clock, store or box; the gate's and the policy's own tests have it, against a prover that counts.
    BrokenBox,
    /// Decided by the protocol machine; nobody is asked.
    Machine(fn(&Stage)),
}

/// A password that no scene may bring to the mail server.
const BAIT: &str = "passw0rt";

#[test]
fn no_reason_lets_a_byte_of_a_password_through_before_proof() {
    let mut scenes = 0;
    for &reason in Reason::ALL {
        let (Standing::Unproven(scene) | Standing::Machine(scene)) = standing(reason) else {
            continue;
        };
        let stage = Stage::with(Script::default(), configuration(reason));
        scene(&stage);
        assert!(
            !contains(&stage.upstream.received(), BAIT.as_bytes()),
            "{reason:?}: the password went upstream"
        );
        if matches!(standing(reason), Standing::Unproven(_)) {
            assert!(
                reasons(&stage).contains(&reason),
                "{reason:?} did not happen: {:?}",
                reasons(&stage)
            );
        }
        scenes += 1;
    }
    assert!(scenes >= 12, "the scenes were played");
}

fn standing(reason: Reason) -> Standing {
    use Reason::*;
    match reason {
        KnownDevice | NewDevice | Learning | Grace | TrustedNetwork => Standing::Admits,
        WrongPassword
        | PasswordChanged
        | PasswordExpired
        | AccountDisabled
        | DeviceLimit
        | KnownDeviceWaits
        | UpstreamUnreachable
        | UpstreamSilent
        | UpstreamUnavailable
        | UpstreamLimit
        | UpstreamInUse
        | UpstreamTls
        | UpstreamMisconfigured => Standing::AfterACode,
        ClockUnknown | StoreUnavailable | Busy | ShuttingDown => Standing::BrokenBox,
        NoRoute => Standing::Unproven(|stage| refused(stage, "alice@elsewhere.example", &right_code(stage))),
        PlaintextPassword => Standing::Machine(before_tls),
        DeniedNetwork => Standing::Unproven(|stage| refused(stage, "alice", &right_code(stage))),
        UnknownPerson => Standing::Unproven(|stage| refused(stage, "nobody", &right_code(stage))),
        Decoy => Standing::Unproven(|stage| refused(stage, "admin", &right_code(stage))),
        NoCode => Standing::Unproven(|stage| refused(stage, "alice", BAIT)),
        WrongCode => Standing::Unproven(|stage| refused(stage, "alice", &wrong_code(stage))),
        ActsAsOther => Standing::Unproven(acts_as_other),
        RefusedLately => Standing::Unproven(|stage| {
            refused(stage, "alice", BAIT);
            refused(stage, "alice", BAIT);
        }),
        UsedCode => Standing::Unproven(|stage| {
            drop(stage.signed_in());
            refused(stage, "alice", &right_code(stage));
        }),
        Revoked => Standing::Unproven(revoked),
        NotEnrolled => Standing::Unproven(|stage| {
            let bob = NewPerson {
                login: "bob@example.org".to_owned(),
                aliases: Vec::new(),
            };
            stage
                .gateway
                .admin(&Request::new(Method::Post, &["people"]).with_body(&bob))
                .unwrap();
            refused(stage, "bob", BAIT);
        }),
        Suspended => Standing::Unproven(|stage| {
            let path = ["people", "alice@example.org", "suspended"];
            let order = Request::new(Method::Post, &path).with_body(&Suspension { suspended: true });
            stage.gateway.admin(&order).unwrap();
            refused(stage, "alice", &right_code(stage));
        }),
        PersonWaits => Standing::Unproven(|stage| {
            for guess in 0..4 {
                refused(stage, "alice", &format!("{BAIT}{guess}"));
            }
            refused(stage, "alice", &right_code(stage));
        }),
        NetworkBlocked => Standing::Unproven(|stage| {
            for guess in 0..11 {
                refused(stage, &format!("nobody{guess}"), &format!("{BAIT}{guess}"));
            }
            refused(stage, "alice", &right_code(stage));
        }),
        BudgetSpent => Standing::Unproven(|stage| {
            drop(stage.signed_in());
            // The right password is known now; a wrong code behind it is the dangerous case.
            refused(stage, "alice", &format!("secret@{}", stage.alice.wrong_code()));
            refused(stage, "alice", &format!("secret,{}", stage.alice.wrong_code()));
            refused(stage, "alice", &format!("{BAIT}@{}", stage.alice.code_at(1)));
        }),
    }
}

/// What a scene needs to be set before it begins.
fn configuration(reason: Reason) -> &'static str {
    match reason {
        Reason::DeniedNetwork => "access.denied = [\"127.0.0.0/8\"]",
        Reason::Decoy => "access.decoys = [\"admin\"]",
        Reason::BudgetSpent => "limits.counting.misses_a_day = 1",
        _ => "",
    }
}

fn refused(stage: &Stage, login: &str, literal: &str) {
    let answer = stage
        .gateway
        .client()
        .command("a", &format!("LOGIN {login} \"{literal}\""));
    assert!(answer.starts_with("a NO"), "{login}: {answer}");
}

fn right_code(stage: &Stage) -> String {
    format!("{BAIT}@{}", stage.alice.code())
}

fn wrong_code(stage: &Stage) -> String {
    format!("{BAIT}@{}", stage.alice.wrong_code())
}

fn acts_as_other(stage: &Stage) {
    let message = format!("bob\0alice\0{}", right_code(stage));
    let message = data_encoding::BASE64.encode(message.as_bytes());
    let answer = stage
        .gateway
        .client()
        .command("a", &format!("AUTHENTICATE PLAIN {message}"));
    assert!(answer.starts_with("a NO"), "{answer}");
}

fn revoked(stage: &Stage) {
    let literal = format!("secret@{}", stage.alice.code());
    drop(stage.signed_in());
    stage.gateway.revoke(
        "alice@example.org",
        &stage.gateway.devices("alice@example.org")[0],
    );
    let before = stage.upstream.received();
    refused(stage, "alice", &literal);
    assert_eq!(
        stage.upstream.received(),
        before,
        "a dead literal was tried upstream"
    );
}

fn before_tls(stage: &Stage) {
    let mut client = support::client::Client::plain(stage.gateway.address("imap"));
    client.line();
    let answer = client.command("a", &format!("LOGIN alice {}", right_code(stage)));
    assert!(answer.contains("[PRIVACYREQUIRED]"), "{answer}");
}

/// The reasons of the sign-in log.
fn reasons(stage: &Stage) -> Vec<Reason> {
    let log = stage
        .gateway
        .admin(&Request::new(Method::Get, &["sign-ins"]))
        .unwrap();
    let reason = |entry: &serde_json::Value| serde_json::from_value(entry["reason"].clone()).unwrap();
    log.as_array().unwrap().iter().map(reason).collect()
}
