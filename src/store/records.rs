//! Keys and records: everything that survives a restart, as plain data.
//!
//! Pure data: no engine, no sealing, no clock. Every value is written with a schema version in front (see
//! [`Value::encode`]), so that a later version can read what an earlier one wrote.

use crate::reason::{Protocol, Reason};
use crate::secret::Secret;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

/// Seconds since 1970-01-01 00:00:00 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
pub struct UnixTime(pub u64);

impl UnixTime {
    /// This time plus a span; saturates.
    pub fn plus(self, span: Duration) -> UnixTime {
        UnixTime(self.0.saturating_add(span.as_secs()))
    }

    /// How long ago `earlier` was; zero when it lies ahead.
    pub fn since(self, earlier: UnixTime) -> Duration {
        Duration::from_secs(self.0.saturating_sub(earlier.0))
    }
}

/// A random identifier, 64 bits, shown as 13 characters of lower-case base32.
macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub [u8; 8]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&data_encoding::BASE32_NOPAD.encode(&self.0).to_ascii_lowercase())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = NotAnId;
            fn from_str(text: &str) -> Result<Self, NotAnId> {
                let bytes = data_encoding::BASE32_NOPAD
                    .decode(text.to_ascii_uppercase().as_bytes())
                    .map_err(|_| NotAnId)?;
                bytes.try_into().map($name).map_err(|_| NotAnId)
            }
        }
    };
}

/// The text is not an identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAnId;

impl fmt::Display for NotAnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an id has 13 letters and digits, as `list` shows it")
    }
}

id_type!(
    /// A person, for ever, whatever her login becomes.
    PersonId
);
id_type!(
    /// One of a person's factors.
    FactorId
);
id_type!(
    /// One of a person's devices.
    DeviceId
);

/// How strict a box, a route or a person is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Admitted as before, recorded with what enforcing would have said.
    Learning,
    /// A code or a known device is needed.
    Enforcing,
}

/// An account that signs in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// Her identifier.
    pub id: PersonId,
    /// Her login, normalised (lower case, with domain); the key of everything.
    pub login: String,
    /// Further normalised logins that mean her.
    pub aliases: Vec<String>,
    /// Her own mode, where it differs from the route's.
    pub mode: Option<Mode>,
    /// Until when a missing factor is forgiven.
    pub grace_until: Option<UnixTime>,
    /// Suspended by the administrator: nothing signs in.
    pub suspended: bool,
    /// When she was added.
    pub created: UnixTime,
}

/// The hash inside a TOTP token (RFC 6238 §1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TotpHash {
    /// HMAC-SHA-1, what every authenticator app understands.
    Sha1,
    /// HMAC-SHA-256.
    Sha256,
    /// HMAC-SHA-512.
    Sha512,
}

/// The state of a factor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FactorState {
    /// Counts at sign-in.
    Active,
    /// Enrolled by the person herself; waits for an administrator to confirm it.
    Pending,
}

/// A TOTP token.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Totp {
    /// Its identifier.
    pub id: FactorId,
    /// What the administrator calls it.
    pub label: String,
    /// The shared key, 16 to 64 octets. The record is sealed as a whole.
    #[serde(with = "seed_bytes")]
    pub seed: Secret<Vec<u8>>,
    /// 6, 7 or 8.
    pub digits: u8,
    /// Seconds of a step, 30 or 60.
    pub period: u32,
    /// The hash.
    pub hash: TotpHash,
    /// Whether it counts.
    pub state: FactorState,
    /// When it was enrolled.
    pub created: UnixTime,
}

/// A person's factors.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Factors {
    /// Her TOTP tokens.
    pub totp: Vec<Totp>,
}

/// Salt and cost of the slow hash over a person's literals: made with her first device, changed only when she has none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlowHashCost {
    /// 16 random octets.
    pub salt: [u8; 16],
    /// Memory in KiB, at least 19456.
    pub memory_kib: u32,
    /// Passes, at least 2.
    pub passes: u32,
}

/// HMAC(label key, Argon2id(literal, person's salt)): what is at rest of a literal, and nothing faster.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Tag(pub [u8; 32]);

impl Tag {
    /// Whether both tags are equal, in constant time.
    pub fn same(&self, other: &Tag) -> bool {
        use subtle::ConstantTimeEq;
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tag(..)")
    }
}

/// A remembered device: a literal that once held a right code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Its identifier.
    pub id: DeviceId,
    /// What is at rest of its literal.
    pub tag: Tag,
    /// Where the password part of its literal ends, in octets. Never split anew.
    pub password_len: u32,
    /// What the program said about itself, at its first sign-in that said anything.
    pub client_hint: Option<String>,
    /// Protocol of the first sign-in.
    pub first_protocol: Protocol,
    /// The first sign-in.
    pub created: UnixTime,
    /// The network of the first sign-in.
    pub first_network: IpNet,
    /// The factor whose code made it.
    pub factor: FactorId,
}

/// Why a literal is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Death {
    /// Revoked by a person or an administrator.
    Revoked,
    /// Not used for too long.
    Expired,
    /// A newer literal of the same program took its place.
    Replaced,
}

/// The tag of a dead device: it answers "revoked" and is never split, counted or created again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    /// The dead device's tag.
    pub tag: Tag,
    /// Why.
    pub death: Death,
    /// When.
    pub died: UnixTime,
}

/// All devices of one person: one record, so that making, replacing and revoking are single conditional writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Devices {
    /// How her literals are hashed.
    pub cost: SlowHashCost,
    /// Her living devices, oldest first.
    pub devices: Vec<Device>,
    /// Her dead ones: at most 64, at most 400 days old.
    pub tombstones: Vec<Tombstone>,
}

/// What happens to a device while it lives; written lazily, at most a second may be lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceUse {
    /// The last good sign-in.
    pub last_seen: UnixTime,
    /// From where.
    pub last_network: IpNet,
    /// With which protocols so far.
    pub protocols: Vec<Protocol>,
    /// Networks of good sign-ins, newest last, at most 16.
    pub networks: Vec<IpNet>,
    /// When the upstream last refused it, if that was after `last_seen`.
    pub refused: Option<UnixTime>,
}

/// How far a claim has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ClaimState {
    /// One literal holds the code; its password is not proven yet.
    Claimed,
    /// The code made a device.
    Used,
    /// No literal holds it: the upstream refused the password.
    Released,
    /// Three passwords were refused with it: dead for every literal.
    Dead,
}

/// Ties a right code to one literal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The literal that holds or held it.
    pub tag: Tag,
    /// How far it is.
    pub state: ClaimState,
    /// Different literals that the upstream refused with this code.
    pub rejected: u8,
    /// After this nobody asks for it any more: 60 s after the step's window.
    pub expires: UnixTime,
}

/// Right passwords with wrong codes: counts only, never hashes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// Misses per day, newest last: (day number since 1970, count), at most 31 entries.
    pub misses: Vec<(u64, u32)>,
    /// Distinct code-shaped literals per day while no verifier was known, likewise.
    pub unverified: Vec<(u64, u32)>,
    /// The first miss since the budget was last restored.
    pub first_miss: Option<UnixTime>,
    /// Networks that had a miss since then, at most 64; full means every network.
    pub miss_networks: Vec<IpNet>,
    /// When the budget ran out, until it is restored.
    pub spent: Option<UnixTime>,
}

/// A blocked network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// Why it was blocked.
    pub reason: Reason,
    /// Until when.
    pub until: UnixTime,
    /// How often in a row: 1 means 5 minutes, 2 an hour, 3 a day.
    pub level: u8,
}

/// Good sign-ins of one person: where and when last. Lazy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoodNetworks {
    /// (network, last good sign-in), at most 64, oldest replaced.
    pub networks: Vec<(IpNet, UnixTime)>,
}

/// One decided attempt in the sign-in log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignInEntry {
    /// When.
    pub at: UnixTime,
    /// By which protocol.
    pub protocol: Protocol,
    /// From where.
    pub address: IpAddr,
    /// Who, when a person matched.
    pub person: Option<PersonId>,
    /// Her login then; or, when no person matched, length and keyed hash of what was typed.
    pub login: String,
    /// Which device.
    pub device: Option<DeviceId>,
    /// Why let in or not.
    pub reason: Reason,
    /// In learning mode: what enforcing would have said.
    pub enforcing_would: Option<Reason>,
    /// What the program said about itself.
    pub client_hint: Option<String>,
}

/// Facts about the store itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Version of the layout of keys; 1.
    pub layout: u32,
    /// Random identity of this store.
    pub store_id: [u8; 16],
    /// When it was made.
    pub created: UnixTime,
}

/// Which record. The order of variants is the order on disk.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// [`Meta`].
    Meta,
    /// Normalised login or alias -> [`Value::Login`].
    Login(String),
    /// [`Person`].
    Person(PersonId),
    /// [`Factors`].
    Factors(PersonId),
    /// [`Devices`].
    Devices(PersonId),
    /// [`DeviceUse`].
    DeviceUse(PersonId, DeviceId),
    /// [`Claim`]; the number is the RFC 6238 step.
    Claim(PersonId, FactorId, u64),
    /// [`Budget`].
    Budget(PersonId),
    /// [`GoodNetworks`].
    GoodNetworks(PersonId),
    /// [`Block`].
    Block(IpNet),
    /// [`SignInEntry`]: unix milliseconds, then a number that keeps entries of one millisecond apart.
    SignIn(u64, u32),
}

/// What a key holds.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "each variant is the record type of the same name")]
pub enum Value {
    Meta(Meta),
    Login(PersonId),
    Person(Person),
    Factors(Factors),
    Devices(Devices),
    DeviceUse(DeviceUse),
    Claim(Claim),
    Budget(Budget),
    GoodNetworks(GoodNetworks),
    Block(Block),
    SignIn(SignInEntry),
}

/// The version of one stored record; any write changes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Version(pub u64);

/// A record as it was read.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its version, for [`Expect::Equals`].
    pub version: Version,
    /// Its value.
    pub value: Value,
}

/// What must be true of a key for a batch to be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// There is no record.
    Absent,
    /// The record has this version.
    Equals(Version),
    /// Whatever there is.
    Any,
}

impl Expect {
    /// Expects what was read.
    pub fn unchanged(read: Option<&Record>) -> Expect {
        read.map_or(Expect::Absent, |record| Expect::Equals(record.version))
    }
}

/// One write of a batch.
#[derive(Clone, Debug)]
pub struct Write {
    /// Which record.
    pub key: Key,
    /// Under which condition.
    pub expect: Expect,
    /// The new value; `None` removes the record.
    pub value: Option<Value>,
}

/// Writes that happen together or not at all.
#[derive(Clone, Debug, Default)]
pub struct Batch(pub Vec<Write>);

impl Batch {
    /// Adds a write.
    pub fn put(mut self, key: Key, expect: Expect, value: Value) -> Batch {
        self.0.push(Write {
            key,
            expect,
            value: Some(value),
        });
        self
    }

    /// Adds a removal.
    pub fn remove(mut self, key: Key, expect: Expect) -> Batch {
        self.0.push(Write {
            key,
            expect,
            value: None,
        });
        self
    }
}

/// How firmly a batch is written before it counts as done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// On the disk before the answer.
    Synced,
    /// With the next batch, at most 500 ms later. Only for the sign-in log, last seen, and rate counters.
    Lazy,
}

/// What became of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Written.
    Done,
    /// Nothing was written: this key was not as expected.
    Conflict(Key),
}

mod seed_bytes {
    use crate::secret::Secret;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(seed: &Secret<Vec<u8>>, to: S) -> Result<S::Ok, S::Error> {
        seed.expose().serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Secret<Vec<u8>>, D::Error> {
        Vec::<u8>::deserialize(from).map(Secret::new)
    }
}
