//! What IMAP clients are told: response codes (RFC 3501 §7.1, RFC 5530) and texts.
//!
//! The code decides whether a mail program asks its user for a password (clients.md section 4): AUTHENTICATIONFAILED makes it
//! ask, UNAVAILABLE makes it wait. Some programs show the text, so it says what to do. At most 120 ASCII characters.

use crate::reason::{Hearing, Reason, Refusal};
use crate::wire::{CloseCause, OutBuf};
use std::time::Duration;

/// A refusal in IMAP's words.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Words {
    /// Response code without brackets.
    pub(super) code: &'static str,
    /// What stands behind it.
    pub(super) text: String,
}

impl Words {
    /// Everything behind the tag.
    pub(super) fn answer(&self) -> String {
        format!("NO [{}] {}", self.code, self.text)
    }
}

/// The words for a refused sign-in.
pub(super) fn refusal(refusal: &Refusal) -> Words {
    let (code, text) = match refusal.hearing() {
        Hearing::Refused => (
            "AUTHENTICATIONFAILED",
            "Sign-in refused. For a new device type password@code",
        ),
        Hearing::TryLater => (
            "UNAVAILABLE",
            "Sign-in is not possible at the moment, try again later",
        ),
        Hearing::TlsNeeded => TLS_FIRST,
        Hearing::Told(reason) => told(reason),
    };
    let wait = match (refusal.hearing(), refusal.retry_after) {
        // Minutes are a word more than the three answers; only who has proven something hears them.
        (Hearing::Told(_), Some(after)) => minutes(after),
        _ => String::new(),
    };
    Words {
        code,
        text: format!("{text}{wait}"),
    }
}

/// The goodbye for a reason to close, as one untagged line.
pub(super) fn goodbye(cause: CloseCause) -> OutBuf {
    let mut out = OutBuf::new();
    out.push(b"* BYE ");
    out.line(goodbye_text(cause));
    out
}

fn goodbye_text(cause: CloseCause) -> &'static str {
    match cause {
        CloseCause::ClientQuit => "Signing out",
        CloseCause::ClientClosed | CloseCause::UpstreamClosed | CloseCause::Io => "Connection lost",
        CloseCause::LoginDeadline => "Not signed in within the time allowed",
        CloseCause::Idle => "Nothing said for too long",
        CloseCause::TooManyErrors => "Too many bad commands",
        CloseCause::TooManyAttempts => "Too many refused sign-ins",
        CloseCause::TooLong => "Line or literal too long",
        CloseCause::WrongTransport => {
            "Wrong port: TLS from the first byte is for port 993, STARTTLS for port 143"
        }
        CloseCause::NoPlace => "[UNAVAILABLE] Too many connections, try again later",
        CloseCause::Injection => "Bytes where none may be",
        CloseCause::Desync => "Commands cannot be told apart any more",
        CloseCause::Cut => "This session was ended by the administrator or the owner of the account",
        CloseCause::Drain => "[UNAVAILABLE] Restarting, connect again in a moment",
    }
}

/// What whoever has proven a device, or password and code, hears.
fn told(reason: Reason) -> (&'static str, &'static str) {
    use Reason::*;
    match reason {
        PlaintextPassword => TLS_FIRST,
        DeniedNetwork => ("AUTHORIZATIONFAILED", "Sign-in from this network is not allowed"),
        RefusedLately | UnknownPerson | Decoy => ("AUTHENTICATIONFAILED", "Sign-in refused"),
        Revoked => (
            "AUTHENTICATIONFAILED",
            "This device was revoked or has expired; type password@code with a new code",
        ),
        NoCode => (
            "AUTHENTICATIONFAILED",
            "A code is needed: type password@code once for this device",
        ),
        WrongCode => (
            "AUTHENTICATIONFAILED",
            "The code was wrong; type password@code with a new code",
        ),
        UsedCode => (
            "AUTHENTICATIONFAILED",
            "This code was used already; wait for the next one",
        ),
        WrongPassword => ("AUTHENTICATIONFAILED", "The mail server refused the password"),
        PasswordChanged => (
            "AUTHENTICATIONFAILED",
            "The mail password has changed; type the new password@code on this device",
        ),
        PasswordExpired => (
            "EXPIRED",
            "The mail password has expired; change it, then type password@code again",
        ),
        AccountDisabled => (
            "AUTHORIZATIONFAILED",
            "The mail server does not let this account sign in",
        ),
        NotEnrolled => (
            "CONTACTADMIN",
            "No second factor is set up for this account; ask the administrator",
        ),
        Suspended => ("CONTACTADMIN", "This account is suspended; ask the administrator"),
        DeviceLimit => (
            "LIMIT",
            "Too many devices are remembered for this account; revoke one first",
        ),
        BudgetSpent => (
            "CONTACTADMIN",
            "Too many wrong codes: no new devices until the administrator has looked",
        ),
        ActsAsOther => (
            "AUTHORIZATIONFAILED",
            "Acting as somebody else is not allowed here",
        ),
        PersonWaits | NetworkBlocked => ("UNAVAILABLE", "Too many attempts, try again later"),
        KnownDeviceWaits => (
            "UNAVAILABLE",
            "The mail server refused this device lately; it is asked again later",
        ),
        UpstreamUnreachable | UpstreamSilent => ("UNAVAILABLE", "The mail server is not answering"),
        UpstreamUnavailable => ("UNAVAILABLE", "The mail server says that it is not available"),
        UpstreamLimit => (
            "LIMIT",
            "The mail server allows no more connections at the moment",
        ),
        UpstreamInUse => ("INUSE", "The mailbox is in use by another program"),
        UpstreamTls => (
            "CONTACTADMIN",
            "No safe connection to the mail server; ask the administrator",
        ),
        UpstreamMisconfigured => (
            "SERVERBUG",
            "The mail server offers no way to sign in; ask the administrator",
        ),
        NoRoute => (
            "SERVERBUG",
            "No mail server is set up for this login; ask the administrator",
        ),
        ClockUnknown => (
            "UNAVAILABLE",
            "The gateway does not know the time yet, try again later",
        ),
        StoreUnavailable => (
            "SERVERBUG",
            "The gateway cannot read its store; ask the administrator",
        ),
        Busy => ("UNAVAILABLE", "The gateway is busy, try again later"),
        ShuttingDown => ("UNAVAILABLE", "The gateway is restarting, try again in a moment"),
        // These let somebody in. As a refusal they could only come from a mistake of ours; say no more than that.
        KnownDevice | NewDevice | Learning | Grace | TrustedNetwork => {
            ("SERVERBUG", "Sign-in failed in the gateway")
        }
    }
}

const TLS_FIRST: (&str, &str) = (
    "PRIVACYREQUIRED",
    "Turn on STARTTLS or TLS first; the password was not looked at, but it was sent in the clear",
);

fn minutes(after: Duration) -> String {
    match after.as_secs().div_ceil(60) {
        0 | 1 => " (in 1 minute)".to_owned(),
        minutes => format!(" (in {minutes} minutes)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reason::Outcome;

    fn check_form(words: &Words) {
        assert!(words.text.len() <= 120, "{} has {}", words.text, words.text.len());
        assert!(
            words
                .text
                .bytes()
                .all(|byte| byte == b' ' || byte.is_ascii_graphic()),
            "{}",
            words.text
        );
        assert!(!words.text.starts_with('['));
        assert!(words.code.bytes().all(|byte| byte.is_ascii_uppercase()));
    }

    #[test]
    fn every_reason_has_words() {
        for reason in Reason::ALL {
            for proven in [false, true] {
                for retry_after in [None, Some(Duration::from_secs(90 * 60))] {
                    check_form(&refusal(&Refusal {
                        reason: *reason,
                        proven,
                        retry_after,
                        upstream_out: false,
                    }));
                }
            }
        }
    }

    #[test]
    fn without_proof_there_are_three_answers() {
        for reason in Reason::ALL {
            let expected = match reason.outcome() {
                Outcome::TryLater => "UNAVAILABLE",
                Outcome::TlsNeeded => "PRIVACYREQUIRED",
                Outcome::Refused | Outcome::Admitted => "AUTHENTICATIONFAILED",
            };
            let words = refusal(&Refusal {
                retry_after: Some(Duration::from_secs(300)),
                ..Refusal::unproven(*reason)
            });
            assert_eq!(words.code, expected, "{reason:?}");
            let same = Reason::ALL
                .iter()
                .filter(|other| other.outcome() == reason.outcome());
            for other in same {
                assert_eq!(words, refusal(&Refusal::unproven(*other)), "{reason:?} {other:?}");
            }
        }
    }

    #[test]
    fn an_outage_never_asks_for_a_password() {
        for reason in Reason::ALL
            .iter()
            .filter(|reason| reason.outcome() == Outcome::TryLater)
        {
            for proven in [false, true] {
                let words = refusal(&Refusal {
                    reason: *reason,
                    proven,
                    retry_after: None,
                    upstream_out: false,
                });
                assert_ne!(words.code, "AUTHENTICATIONFAILED", "{reason:?}");
            }
        }
    }

    #[test]
    fn who_has_proven_something_hears_the_most_helpful_code() {
        for (reason, code) in [
            (Reason::DeviceLimit, "LIMIT"),
            (Reason::Suspended, "CONTACTADMIN"),
            (Reason::PasswordExpired, "EXPIRED"),
            (Reason::AccountDisabled, "AUTHORIZATIONFAILED"),
            (Reason::PasswordChanged, "AUTHENTICATIONFAILED"),
            (Reason::UpstreamMisconfigured, "SERVERBUG"),
            (Reason::UpstreamInUse, "INUSE"),
        ] {
            assert_eq!(refusal(&Refusal::proven(reason)).code, code, "{reason:?}");
        }
        let waits = Refusal {
            retry_after: Some(Duration::from_secs(241)),
            ..Refusal::proven(Reason::KnownDeviceWaits)
        };
        assert!(refusal(&waits).text.ends_with("(in 5 minutes)"));
    }

    #[test]
    fn goodbyes_are_one_untagged_line() {
        let out = goodbye(CloseCause::Drain);
        let line = std::str::from_utf8(out.as_slice()).unwrap();
        assert!(line.starts_with("* BYE [UNAVAILABLE] ") && line.ends_with("\r\n"));
        assert_eq!(line.matches('\n').count(), 1);
    }
}
