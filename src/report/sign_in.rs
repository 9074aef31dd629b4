//! The sign-in log as people read it: what each [`Reason`] means, what helps, and which entries are wanted.

use super::{escape, rfc3339};
use crate::reason::{Outcome, Protocol, Reason};
use crate::secret::keyed_hash;
use crate::store::records::{DeviceId, PersonId, SignInEntry, UnixTime};
use ipnet::IpNet;
use ring::hmac;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

impl Reason {
    /// The stable word for logs and JSON; the same that serde writes.
    pub fn name(self) -> &'static str {
        self.words().name
    }

    /// What happened, in a sentence for the administrator.
    pub fn meaning(self) -> &'static str {
        self.words().meaning
    }

    /// What helps, in a sentence for the administrator; `None` where nothing is wrong.
    pub fn remedy(self) -> Option<&'static str> {
        self.words().remedy
    }

    fn words(self) -> Words {
        let words = |name, meaning, remedy| Words {
            name,
            meaning,
            remedy: Some(remedy),
        };
        let fine = |name, meaning| Words {
            name,
            meaning,
            remedy: None,
        };
        match self {
            Reason::KnownDevice => fine("known_device", "A remembered device signed in."),
            Reason::NewDevice => fine(
                "new_device",
                "Password and code were right; this program is remembered from now on.",
            ),
            Reason::Learning => fine(
                "learning",
                "Let in by password alone, because the mode is learning.",
            ),
            Reason::Grace => fine(
                "grace",
                "Let in by password alone, because this person may still do without a code for a while.",
            ),
            Reason::TrustedNetwork => fine(
                "trusted_network",
                "Let in by password alone, because the network is trusted.",
            ),
            Reason::PlaintextPassword => words(
                "plaintext_password",
                "The program sent a password without TLS; it was not looked at.",
                "Switch TLS or STARTTLS on in the mail program. If others may have listened, change the password.",
            ),
            Reason::DeniedNetwork => words(
                "denied_network",
                "The address is on the deny list.",
                "Take the network off the list in the configuration if it should not be there.",
            ),
            Reason::UnknownPerson => words(
                "unknown_person",
                "Nobody has this login; it is shown as its length and a hash, because people type passwords there.",
                "If somebody misspelt hers, tell her; if she is missing, add her with `gatepost person add`.",
            ),
            Reason::RefusedLately => words(
                "refused_lately",
                "The program repeated what was refused a few minutes ago.",
                "Look for the first refusal of this person; that one says what is wrong.",
            ),
            Reason::Revoked => words(
                "revoked",
                "The password field belongs to a device that was revoked, replaced or not used for too long.",
                "Type the password followed by a fresh code in the mail program.",
            ),
            Reason::NoCode => words(
                "no_code",
                "There was no code behind the password.",
                "Type the password followed by a code, such as password@123456.",
            ),
            Reason::WrongCode => words(
                "wrong_code",
                "The code was wrong, or its time was over.",
                "Type a fresh code. If that fails again, check the clock of the phone and of this box.",
            ),
            Reason::UsedCode => words(
                "used_code",
                "The code was right, but another password field used it before.",
                "Wait for the next code. If nobody signed in with it, change the password: someone saw the code.",
            ),
            Reason::WrongPassword => words(
                "wrong_password",
                "The code was right, but the mail server refused the password.",
                "Type the password again, with a fresh code.",
            ),
            Reason::PasswordChanged => words(
                "password_changed",
                "A remembered device was refused by the mail server: its password is no longer right.",
                "Type the new password followed by a code in this program.",
            ),
            Reason::PasswordExpired => words(
                "password_expired",
                "The mail server says that the password has expired.",
                "Set a new password at the mail server, then type it followed by a code.",
            ),
            Reason::AccountDisabled => words(
                "account_disabled",
                "The mail server says that this account may not sign in.",
                "Enable the account, or this service for it, at the mail server.",
            ),
            Reason::NotEnrolled => words(
                "not_enrolled",
                "This person needs a code but has no token.",
                "Enrol one with `gatepost token enrol`.",
            ),
            Reason::Suspended => words(
                "suspended",
                "An administrator suspended this person.",
                "Lift the suspension when she may sign in again.",
            ),
            Reason::DeviceLimit => words(
                "device_limit",
                "This person has as many devices as are allowed, and all of them are in use.",
                "Revoke one that is no longer needed with `gatepost device revoke`, or raise the limit.",
            ),
            Reason::BudgetSpent => words(
                "budget_spent",
                "Too many wrong codes came with this login; somebody may know the password.",
                "Change the password at the mail server, then `gatepost person restore`.",
            ),
            Reason::ActsAsOther => words(
                "acts_as_other",
                "The program asked to act as somebody else, which Gatepost does not pass on.",
                "Leave the authorisation identity in the mail program's account empty.",
            ),
            Reason::Decoy => words(
                "decoy",
                "Somebody tried a login that only attackers try.",
                "Nothing, unless the address is one of yours: then look at that computer.",
            ),
            Reason::PersonWaits => words(
                "person_waits",
                "Too many different wrong passwords for this person came from this network; both wait.",
                "Wait ten minutes, then type the password with care. Her known devices go on working.",
            ),
            Reason::NetworkBlocked => words(
                "network_blocked",
                "Too many different wrong passwords came from this network; it is blocked for a while.",
                "Find the program with the old password there. Known devices go on working.",
            ),
            Reason::KnownDeviceWaits => words(
                "known_device_waits",
                "The mail server refused this device a moment ago; it is asked again later, so that the account is \
                 not locked there.",
                "Type the new password followed by a code in this program.",
            ),
            Reason::UpstreamUnreachable => words(
                "upstream_unreachable",
                "The mail server could not be reached.",
                "Check that it runs and that its address in the configuration is right.",
            ),
            Reason::UpstreamSilent => words(
                "upstream_silent",
                "The mail server did not answer in time.",
                "Look at the load and the log of the mail server.",
            ),
            Reason::UpstreamUnavailable => words(
                "upstream_unavailable",
                "The mail server said that it cannot serve now.",
                "Look at the log of the mail server.",
            ),
            Reason::UpstreamLimit => words(
                "upstream_limit",
                "The mail server allows no more connections.",
                "Raise its limit of connections for each user and address: all of them come from this box.",
            ),
            Reason::UpstreamInUse => words(
                "upstream_in_use",
                "Another program has the mailbox locked.",
                "Wait until the other program is done, or close it.",
            ),
            Reason::UpstreamTls => words(
                "upstream_tls",
                "No safe connection to the mail server: its certificate, name or pin does not fit.",
                "Check the certificate of the mail server and the CA file or pin in the configuration.",
            ),
            Reason::UpstreamMisconfigured => words(
                "upstream_misconfigured",
                "The mail server offers no way to sign in that Gatepost may use.",
                "Allow LOGIN or AUTHENTICATE PLAIN over TLS for connections from this box.",
            ),
            Reason::NoRoute => words(
                "no_route",
                "No route serves the domain of this login, so no mail server could be asked.",
                "Add the domain, or `*`, to a [[route]], and an [[upstream]] if there is none; `gatepost status` shows both.",
            ),
            Reason::ClockUnknown => words(
                "clock_unknown",
                "This box does not know the time yet, so that no code can be judged.",
                "Check that the box reaches a time server.",
            ),
            Reason::StoreUnavailable => words(
                "store_unavailable",
                "The store could not be read or written.",
                "Look at the disk, its free space first, then restart Gatepost.",
            ),
            Reason::Busy => words(
                "busy",
                "Too much was asked of this box at once.",
                "If it happens often, look who floods it, or give it more cores.",
            ),
            Reason::ShuttingDown => words(
                "shutting_down",
                "Gatepost was stopping.",
                "Try again after the restart.",
            ),
        }
    }
}

/// One row of the table.
struct Words {
    name: &'static str,
    meaning: &'static str,
    remedy: Option<&'static str>,
}

/// The longest text of a stranger that is kept, in characters.
const LONGEST_HINT: usize = 200;

/// What a program said about itself, fit for keeping: one line, no control characters, at most 200 characters.
pub fn clean_hint(said: &str) -> String {
    let start: String = said.chars().take(LONGEST_HINT).collect();
    escape(&start).chars().take(LONGEST_HINT).collect()
}

/// What is written instead of a login that no person has: its length and a keyed hash of 48 bits, enough to see that two
/// attempts typed the same. People type their passwords there.
pub fn veiled_login(key: &hmac::Key, typed: &[u8]) -> String {
    let tag = keyed_hash(key, &[typed]);
    let hash = data_encoding::HEXLOWER.encode(&tag.as_ref()[..6]);
    format!("unknown:{}:{hash}", typed.len())
}

/// Which entries are wanted; empty wants all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of this person.
    pub person: Option<PersonId>,
    /// For this reason, or with it as what enforcing would have said.
    pub reason: Option<Reason>,
    /// Not older than this.
    pub since: Option<UnixTime>,
    /// From this network.
    pub network: Option<IpNet>,
}

impl Filter {
    /// Whether an entry is wanted.
    pub fn wants(&self, entry: &SignInEntry) -> bool {
        let reasons = [Some(entry.reason), entry.enforcing_would];
        self.person.is_none_or(|person| entry.person == Some(person))
            && self.reason.is_none_or(|reason| reasons.contains(&Some(reason)))
            && self.since.is_none_or(|since| entry.at >= since)
            && self
                .network
                .is_none_or(|network| network.contains(&entry.address))
    }
}

/// An entry as JSON shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignInView {
    /// When: RFC 3339, UTC.
    pub at: String,
    /// By which protocol.
    pub protocol: Protocol,
    /// From where.
    pub address: IpAddr,
    /// Who, when a person matched.
    pub person: Option<String>,
    /// Her login then; or length and keyed hash of a login that nobody has.
    pub login: String,
    /// Which device.
    pub device: Option<String>,
    /// `admitted`, `refused`, `try_later` or `tls_needed`.
    pub outcome: String,
    /// Why.
    pub reason: Reason,
    /// What that means.
    pub meaning: String,
    /// What helps.
    pub remedy: Option<String>,
    /// In learning mode: what enforcing would have said.
    pub enforcing_would: Option<Reason>,
    /// What the program said about itself.
    pub client: Option<String>,
}

impl From<&SignInEntry> for SignInView {
    fn from(entry: &SignInEntry) -> Self {
        let outcome = match entry.reason.outcome() {
            Outcome::Admitted => "admitted",
            Outcome::Refused => "refused",
            Outcome::TryLater => "try_later",
            Outcome::TlsNeeded => "tls_needed",
        };
        SignInView {
            at: rfc3339(entry.at),
            protocol: entry.protocol,
            address: entry.address,
            person: entry.person.as_ref().map(PersonId::to_string),
            login: entry.login.clone(),
            device: entry.device.as_ref().map(DeviceId::to_string),
            outcome: outcome.to_owned(),
            reason: entry.reason,
            meaning: entry.reason.meaning().to_owned(),
            remedy: entry.reason.remedy().map(str::to_owned),
            enforcing_would: entry.enforcing_would,
            client: entry.client_hint.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_reason_has_words_of_its_own() {
        let mut meanings = HashSet::new();
        for reason in Reason::ALL {
            let (meaning, remedy) = (reason.meaning(), reason.remedy());
            assert!(meanings.insert(meaning), "{reason:?} says what another says");
            assert_eq!(
                remedy.is_none(),
                reason.outcome() == Outcome::Admitted,
                "{reason:?}"
            );
            for sentence in [Some(meaning), remedy].into_iter().flatten() {
                assert!(sentence.ends_with('.') && !sentence.contains("  "), "{sentence}");
                assert!(sentence.starts_with(char::is_uppercase), "{sentence}");
            }
            let json = serde_json::to_value(reason).unwrap();
            assert_eq!(json, reason.name(), "{reason:?} has another name in JSON");
        }
    }

    fn entry() -> SignInEntry {
        SignInEntry {
            at: UnixTime(1_795_471_560),
            protocol: Protocol::Imap,
            address: "192.0.2.7".parse().unwrap(),
            person: Some(PersonId([1; 8])),
            login: "alice@example.org".into(),
            device: None,
            reason: Reason::Learning,
            enforcing_would: Some(Reason::NoCode),
            client_hint: Some("Mail/1.0".into()),
        }
    }

    #[test]
    fn filters_by_everything_at_once() {
        let entry = entry();
        let wants = |filter: Filter| filter.wants(&entry);
        assert!(wants(Filter::default()));
        let all = Filter {
            person: entry.person,
            reason: Some(Reason::Learning),
            since: Some(entry.at),
            network: Some("192.0.2.0/24".parse().unwrap()),
        };
        assert!(wants(all.clone()));
        assert!(wants(Filter {
            reason: Some(Reason::NoCode),
            ..all.clone()
        }));
        assert!(!wants(Filter {
            person: Some(PersonId([2; 8])),
            ..all.clone()
        }));
        assert!(!wants(Filter {
            reason: Some(Reason::WrongCode),
            ..all.clone()
        }));
        assert!(!wants(Filter {
            since: Some(UnixTime(entry.at.0 + 1)),
            ..all.clone()
        }));
        assert!(!wants(Filter {
            network: Some("198.51.100.0/24".parse().unwrap()),
            ..all
        }));
    }

    #[test]
    fn json_says_what_happened_and_what_helps() {
        let json = serde_json::to_value(SignInView::from(&entry())).unwrap();
        assert_eq!(json["at"], "2026-11-23T22:06:00Z");
        assert_eq!(json["outcome"], "admitted");
        assert_eq!(json["reason"], "learning");
        assert_eq!(json["enforcing_would"], "no_code");
        assert_eq!(json["remedy"], serde_json::Value::Null);
    }

    #[test]
    fn strangers_logins_and_hints_are_made_harmless() {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &[7; 32]);
        let veiled = veiled_login(&key, b"my password");
        assert!(
            veiled.starts_with("unknown:11:") && veiled.len() == 11 + 12,
            "{veiled}"
        );
        assert_eq!(veiled, veiled_login(&key, b"my password"));
        assert_ne!(veiled, veiled_login(&key, b"My password"));
        assert_eq!(clean_hint("Mail\r\n\u{1b}[2J"), "Mail\\r\\n\\u{1b}[2J");
        assert_eq!(clean_hint(&"\n".repeat(10_000)).len(), LONGEST_HINT);
    }
}
