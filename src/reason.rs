//! The shared words of a sign-in: which [`Protocol`] asked, what the upstream said ([`Rejection`], [`Outage`]), and the
//! [`Reason`] why somebody was or was not let in.
//!
//! One closed enum serves the whole product. Each protocol words it in its own `words.rs` by one total `match`; the
//! sign-in log words it in [`Reason::meaning`] and [`Reason::remedy`]. What a *client* may hear is narrower: see
//! [`Refusal::hearing`].

use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// A protocol that a mail program speaks to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// RFC 3501, RFC 9051.
    Imap,
}

impl Protocol {
    /// The protocol's name in configuration, log and records.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Imap => "imap",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The upstream's verdict on a login and password that it refused for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rejection {
    /// The password is wrong, or the upstream does not say more.
    Password,
    /// The password is right but has expired (RFC 5530 `[EXPIRED]`).
    Expired,
    /// The account may not use this service (RFC 5530 `[AUTHORIZATIONFAILED]`, `[CONTACTADMIN]`).
    Disabled,
}

/// Why the upstream gave no verdict. Nothing is counted and nothing is burnt for any of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outage {
    /// No connection: refused, unreachable, name not found.
    Unreachable,
    /// It stopped answering within the deadline, or closed in the middle of an answer.
    Silent,
    /// It said itself that it is busy or unavailable (`[UNAVAILABLE]`, `BYE`).
    Unavailable,
    /// Too many connections of this person or of this gateway (`[LIMIT]`).
    Limit,
    /// The mailbox is locked by another program (`[INUSE]`).
    InUse,
    /// TLS failed: certificate, pin, name, or bytes injected around STARTTLS.
    Tls,
    /// It speaks, but not in a way that lets us sign in: no usable mechanism, PREAUTH, nonsense.
    Misconfigured,
}

/// What kind of answer a reason leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Let in.
    Admitted,
    /// Refused for good: typing the same again will not help.
    Refused,
    /// Try later; the same literal may work then.
    TryLater,
    /// A password must not travel in the clear.
    TlsNeeded,
}

/// Why somebody was or was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    // --- let in
    /// A remembered device signed in.
    KnownDevice,
    /// Password and code were right; this literal is now a remembered device.
    NewDevice,
    /// Let in by password alone because the mode is learning.
    Learning,
    /// Let in by password alone within the person's grace period.
    Grace,
    /// Let in by password alone from a trusted network.
    TrustedNetwork,

    // --- refused
    /// A password came before TLS; it was not looked at.
    PlaintextPassword,
    /// The administrator's deny list names the client's network.
    DeniedNetwork,
    /// No person has this login.
    UnknownPerson,
    /// The same literal was refused within the last minutes.
    RefusedLately,
    /// The literal belonged to a device that was revoked, replaced or has expired.
    Revoked,
    /// No code in the literal, and this person needs one.
    NoCode,
    /// The code is wrong (or its time is over).
    WrongCode,
    /// The code was right, but another literal has used it already.
    UsedCode,
    /// The code was right; the mail server refused the password.
    WrongPassword,
    /// A known device whose password the mail server no longer takes.
    PasswordChanged,
    /// The password is right but has expired at the mail server.
    PasswordExpired,
    /// The mail server says that this account may not sign in.
    AccountDisabled,
    /// Enforcing, and the person has no factor.
    NotEnrolled,
    /// The administrator suspended the person.
    Suspended,
    /// The person has as many devices as allowed and none may be replaced.
    DeviceLimit,
    /// Too many right passwords with wrong codes: the guessing budget is spent.
    BudgetSpent,
    /// SASL asked to act as somebody else (RFC 4616 authzid).
    ActsAsOther,
    /// A login name that only attackers try.
    Decoy,

    // --- try later
    /// Too many different wrong passwords for this person from this network.
    PersonWaits,
    /// Too many different wrong passwords from this network.
    NetworkBlocked,
    /// A known device was refused upstream a moment ago; it is asked again later.
    KnownDeviceWaits,
    /// The mail server cannot be reached.
    UpstreamUnreachable,
    /// The mail server did not answer in time.
    UpstreamSilent,
    /// The mail server said that it is unavailable.
    UpstreamUnavailable,
    /// The mail server allows no more connections.
    UpstreamLimit,
    /// The mailbox is in use by another program.
    UpstreamInUse,
    /// TLS to the mail server failed.
    UpstreamTls,
    /// The mail server offers no way to sign in that we may use.
    UpstreamMisconfigured,
    /// No route serves the domain of the login, so no mail server can be asked.
    NoRoute,
    /// The box does not know the time yet.
    ClockUnknown,
    /// The store cannot be read or written.
    StoreUnavailable,
    /// Too much work at once in this box.
    Busy,
    /// The gateway is shutting down.
    ShuttingDown,
}

impl Reason {
    /// Every reason, for tests that walk all of them and for documentation.
    pub const ALL: &'static [Reason] = &[
        Reason::KnownDevice,
        Reason::NewDevice,
        Reason::Learning,
        Reason::Grace,
        Reason::TrustedNetwork,
        Reason::PlaintextPassword,
        Reason::DeniedNetwork,
        Reason::UnknownPerson,
        Reason::RefusedLately,
        Reason::Revoked,
        Reason::NoCode,
        Reason::WrongCode,
        Reason::UsedCode,
        Reason::WrongPassword,
        Reason::PasswordChanged,
        Reason::PasswordExpired,
        Reason::AccountDisabled,
        Reason::NotEnrolled,
        Reason::Suspended,
        Reason::DeviceLimit,
        Reason::BudgetSpent,
        Reason::ActsAsOther,
        Reason::Decoy,
        Reason::PersonWaits,
        Reason::NetworkBlocked,
        Reason::KnownDeviceWaits,
        Reason::UpstreamUnreachable,
        Reason::UpstreamSilent,
        Reason::UpstreamUnavailable,
        Reason::UpstreamLimit,
        Reason::UpstreamInUse,
        Reason::UpstreamTls,
        Reason::UpstreamMisconfigured,
        Reason::NoRoute,
        Reason::ClockUnknown,
        Reason::StoreUnavailable,
        Reason::Busy,
        Reason::ShuttingDown,
    ];

    /// What kind of answer this reason leads to.
    pub fn outcome(self) -> Outcome {
        use Reason::*;
        match self {
            KnownDevice | NewDevice | Learning | Grace | TrustedNetwork => Outcome::Admitted,
            PlaintextPassword => Outcome::TlsNeeded,
            DeniedNetwork | UnknownPerson | RefusedLately | Revoked | NoCode | WrongCode | UsedCode
            | WrongPassword | PasswordChanged | PasswordExpired | AccountDisabled | NotEnrolled
            | Suspended | DeviceLimit | BudgetSpent | ActsAsOther | Decoy => Outcome::Refused,
            PersonWaits
            | NetworkBlocked
            | KnownDeviceWaits
            | UpstreamUnreachable
            | UpstreamSilent
            | UpstreamUnavailable
            | UpstreamLimit
            | UpstreamInUse
            | UpstreamTls
            | UpstreamMisconfigured
            | NoRoute
            | ClockUnknown
            | StoreUnavailable
            | Busy
            | ShuttingDown => Outcome::TryLater,
        }
    }
}

impl From<Outage> for Reason {
    fn from(outage: Outage) -> Reason {
        match outage {
            Outage::Unreachable => Reason::UpstreamUnreachable,
            Outage::Silent => Reason::UpstreamSilent,
            Outage::Unavailable => Reason::UpstreamUnavailable,
            Outage::Limit => Reason::UpstreamLimit,
            Outage::InUse => Reason::UpstreamInUse,
            Outage::Tls => Reason::UpstreamTls,
            Outage::Misconfigured => Reason::UpstreamMisconfigured,
        }
    }
}

/// A negative verdict on its way to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why, in full; for the log.
    pub reason: Reason,
    /// Whether a device, or code *and* password, were proven before this was decided. Only then may the client hear
    /// the reason itself; see [`Refusal::hearing`].
    pub proven: bool,
    /// When trying again may help, where that is known.
    pub retry_after: Option<Duration>,
    /// The route's upstream gave no verdict a moment ago. A right code then hears "try later"; so everybody must.
    pub upstream_out: bool,
}

/// What a client is told: the only input of a protocol's words.
///
/// Without proof there are exactly three answers, alike for known and unknown names, so that nobody can learn from the
/// words whether a person exists, a password is right, or a code was (access.md, "No oracle").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hearing {
    /// Refused, and no word more.
    Refused,
    /// Try later, decided by the network's or the box's state.
    TryLater,
    /// TLS first.
    TlsNeeded,
    /// The reason itself: the client has proven who it is.
    Told(Reason),
}

impl Refusal {
    /// A refusal before anything was proven.
    pub fn unproven(reason: Reason) -> Self {
        Refusal {
            reason,
            proven: false,
            retry_after: None,
            upstream_out: false,
        }
    }

    /// A refusal after a device, or code and password, were proven.
    pub fn proven(reason: Reason) -> Self {
        Refusal {
            reason,
            proven: true,
            retry_after: None,
            upstream_out: false,
        }
    }

    /// What the client may hear of it.
    pub fn hearing(&self) -> Hearing {
        match (self.proven, self.reason.outcome()) {
            (true, _) => Hearing::Told(self.reason),
            (false, Outcome::TlsNeeded) => Hearing::TlsNeeded,
            (false, Outcome::TryLater) => Hearing::TryLater,
            (false, Outcome::Refused | Outcome::Admitted) if self.upstream_out => Hearing::TryLater,
            (false, Outcome::Refused | Outcome::Admitted) => Hearing::Refused,
        }
    }
}
