//! The policy: who gets in, and why (the design's "access" document, step by step).
//!
//! **Pure**: neither async nor a trait object, no clock, no randomness, no I/O. A [`SignIn`] takes an [`Attempt`] and says
//! what it needs next ([`Need`]); `gate/` carries that out and gives the [`Answer`] back, until there is a [`Verdict`].
//! What the policy remembers between attempts lives in [`Memory`], bounded, owned by the gate and handed in by [`World`].

mod bounded;
mod device;
mod factor;
pub mod literal;
mod memory;
mod pace;
pub mod people;
mod sign_in;
mod throttle;

pub use self::memory::{Charge, Memory};
pub use self::sign_in::SignIn;

use self::people::RouteSettings;

use crate::reason::{Outage, Protocol, Reason, Refusal, Rejection};
use crate::secret::Secret;
use crate::store::records::{
    Batch, DeviceId, Durability, FactorId, Key, Mode, Outcome, PersonId, Record, SlowHashCost, Tag, UnixTime,
};
use ipnet::IpNet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The time of one decision.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Monotonic: deadlines, windows, delays.
    pub mono: Instant,
    /// Wall clock: codes, expiry, log.
    pub unix: UnixTime,
    /// Whether the wall clock is known. No code is decided and nothing expires before it is.
    pub clock_known: bool,
    /// Whether the wall clock has moved with the monotonic one since the start. After a jump nothing expires: the clock may
    /// have been wrong before it, or be wrong now.
    pub clock_steady: bool,
}

/// One attempt to sign in, whatever the front.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// By which protocol.
    pub protocol: Protocol,
    /// The listener's name.
    pub listener: Arc<str>,
    /// The client's own address; IPv4-mapped addresses are unmapped.
    pub address: IpAddr,
    /// The login as it was typed.
    pub login: Secret<Vec<u8>>,
    /// The password field as it was typed.
    pub literal: Secret<Vec<u8>>,
    /// SASL asked to act as somebody else.
    pub acts_as_other: bool,
    /// What the program said about itself.
    pub client_hint: Option<String>,
    /// When the attempt was complete; refusals leave at a fixed distance from here.
    pub arrived: Instant,
}

/// A decision that waits for the upstream's answer.
#[derive(Clone, Debug)]
pub struct Trial {
    /// Who; `None` only in learning mode for a login that is no person yet.
    pub person: Option<PersonId>,
    /// Her normalised login, for the session line.
    pub account: Arc<str>,
    /// The route's name.
    pub route: Arc<str>,
    /// The login in the form that the route's upstream asks for.
    pub upstream_login: Secret<Vec<u8>>,
    /// The password part of the literal: what the upstream gets.
    pub password: Secret<Vec<u8>>,
    /// The known device, when one matched.
    pub device: Option<DeviceId>,
}

/// What the upstream said to a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Signed in with exactly this password.
    Accepted,
    /// Refused for good.
    Rejected(Rejection),
    /// No verdict.
    Unavailable(Outage),
}

/// The end of an attempt.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// Let in.
    Admit(Admission),
    /// Not let in, or not now ([`Reason::outcome`] tells which).
    Refuse(Refusal),
}

/// Who was let in, as what.
#[derive(Clone, Debug)]
pub struct Admission {
    /// Who; `None` only in learning mode for a login that is no person yet.
    pub person: Option<PersonId>,
    /// Her normalised login.
    pub account: Arc<str>,
    /// The route.
    pub route: Arc<str>,
    /// Which device, if any.
    pub device: Option<DeviceId>,
    /// The factor whose code was right just now, if any.
    pub factor: Option<FactorId>,
    /// One of the reasons whose outcome is admitted.
    pub reason: Reason,
    /// In learning mode: what enforcing would have said.
    pub enforcing_would: Option<Reason>,
}

/// What the gate must do before the policy can go on.
#[derive(Debug)]
pub enum Need {
    /// Read these records (from the gate's cache where it has them). -> [`Answer::Loaded`]
    Load(Vec<Key>),
    /// Argon2id of the attempt's literal, then HMAC with the device-tag key. -> [`Answer::Hashed`] or [`Answer::Busy`]
    SlowHash(SlowHashWork),
    /// Pass the admission of the slow-hash pool, wait for one's turn and hold it as long as a hash does, without the work:
    /// so that neither a busy box nor a crowd of attempts tells whether a login exists or a password or code was right.
    /// -> [`Answer::Queued`] or [`Answer::Busy`]
    Queue {
        /// Whose turn it is, as in [`SlowHashWork::person`]; a login that nobody has gets an id of its own from its keyed
        /// hash.
        person: PersonId,
        /// As in [`SlowHashWork::familiar`].
        familiar: bool,
    },
    /// Commit synced: the claim on a code. -> [`Answer::Committed`]
    Claim(Batch),
    /// Ask the upstream. From here until the answer the attempt counts as one password guess even if its client
    /// vanishes. -> [`Answer::Proved`]
    Prove(Trial),
    /// Commit. -> [`Answer::Committed`]
    Commit(Batch, Durability),
}

/// A slow hash to be made.
#[derive(Debug, Clone)]
pub struct SlowHashWork {
    /// Salt and cost of the person.
    pub cost: SlowHashCost,
    /// Whose hash it is (one at a time per person).
    pub person: PersonId,
    /// Whether the person signed in from this network within 30 days: the reserved lane.
    pub familiar: bool,
}

/// The gate's answer to a [`Need`].
#[derive(Debug)]
pub enum Answer {
    /// In the order of the keys.
    Loaded(Vec<Option<Record>>),
    /// The literal's tag.
    Hashed(Tag),
    /// The turn came.
    Queued,
    /// The slow-hash pool has no room.
    Busy,
    /// What became of the batch.
    Committed(Outcome),
    /// What the upstream said.
    Proved(Proof),
    /// The store failed, whatever was asked of it.
    StoreFailed,
}

/// One step of a sign-in. The verdict carries what is to be written lazily afterwards (last seen, good networks).
#[derive(Debug)]
#[must_use = "a sign-in goes on only when its need is answered"]
pub enum Next {
    /// Carry this out, then resume the sign-in.
    Need(SignIn, Need),
    /// Decided.
    Done(Verdict, Batch),
}

/// Everything that the administrator can set about access.
#[derive(Clone, Debug)]
pub struct AccessSettings {
    /// The box's mode.
    pub mode: Mode,
    /// Domain added to a login without one.
    pub default_domain: Option<String>,
    /// The routes.
    pub routes: Vec<RouteSettings>,
    /// Networks whose attempts are refused unseen.
    pub denied: Vec<IpNet>,
    /// Networks from which the password alone is enough.
    pub trusted: Vec<IpNet>,
    /// Logins that only attackers try: a full login, or a local part alone.
    pub decoys: Vec<String>,
    /// Devices a person may have (10).
    pub max_devices: usize,
    /// Idle life of a remembered device (90 days); `None` means for ever.
    pub device_idle: Option<Duration>,
    /// See [`CountingSettings`].
    pub counting: CountingSettings,
    /// See [`PaceSettings`].
    pub pace: PaceSettings,
}

/// Limits of counting failures.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CountingSettings {
    /// The window in which distinct failed literals are counted (10 min).
    pub window: Duration,
    /// More distinct failed literals than this: the person waits from that network (3).
    pub per_person: u32,
    /// More than this: the network is blocked (10).
    pub per_network: u32,
    /// Allowance factor for a network of the person's own good sign-ins (5).
    pub familiar_factor: u32,
    /// How long a good sign-in keeps its network familiar (7 days).
    pub familiar_for: Duration,
    /// Successive block times (5 min, 1 h, 24 h).
    pub blocks: [Duration; 3],
    /// Right passwords with wrong codes a day (10).
    pub misses_a_day: u32,
    /// And in 30 days (30).
    pub misses_a_month: u32,
    /// Distinct code-shaped literals a day while no verifier is known (100).
    pub unverified_a_day: u32,
    /// And in 30 days (300).
    pub unverified_a_month: u32,
}

/// When refusals leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaceSettings {
    /// The least distance from arrival (2.5 s).
    pub floor: Duration,
    /// The most (8 s).
    pub ceiling: Duration,
}

/// What a decision is made from, besides the attempt.
pub struct World<'a> {
    /// The settings.
    pub settings: &'a AccessSettings,
    /// What is remembered; bounded.
    pub memory: &'a mut Memory,
    /// The time.
    pub now: Now,
    /// Fills the slice with random octets.
    pub random: &'a mut dyn FnMut(&mut [u8]),
}
