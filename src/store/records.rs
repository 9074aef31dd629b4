//! Keys and records: everything that survives a restart, as plain data.
//!
//! Pure data: no engine, no sealing, no clock. Every value is written with a schema version in front (see
//! [`Value::encode`]), so that a later version can read what an earlier one wrote.
//!
//! What must never change without a new schema version: the order of fields, and the order of the variants of the enums
//! declared here (postcard writes their position; new ones go to the end). [`Reason`] and [`Protocol`] are written by
//! name, so their order is free, but a name once stored stays readable. The files in `tests/fixtures/records` hold
//! version 1 of everything, and must decode for ever.

use crate::reason::{Protocol, Reason};
use crate::secret::Secret;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::time::Duration;
use zeroize::Zeroizing;

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
    #[serde(with = "by_name")]
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
    #[serde(with = "by_name")]
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
    #[serde(with = "by_name")]
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
    #[serde(with = "by_name")]
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
    #[serde(with = "by_name")]
    pub reason: Reason,
    /// In learning mode: what enforcing would have said.
    #[serde(with = "by_name")]
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

/// What kind of record a key names: the first byte of its encoding, which also sorts the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[allow(missing_docs, reason = "each variant is the Key variant of the same name")]
pub enum Kind {
    Meta = 1,
    Login = 2,
    Person = 3,
    Factors = 4,
    Devices = 5,
    DeviceUse = 6,
    Claim = 7,
    Budget = 8,
    GoodNetworks = 9,
    Block = 10,
    SignIn = 11,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 11] = [
        Kind::Meta,
        Kind::Login,
        Kind::Person,
        Kind::Factors,
        Kind::Devices,
        Kind::DeviceUse,
        Kind::Claim,
        Kind::Budget,
        Kind::GoodNetworks,
        Kind::Block,
        Kind::SignIn,
    ];

    /// Its name in messages and in the label of its sealing key: never changes.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Meta => "meta",
            Kind::Login => "login",
            Kind::Person => "person",
            Kind::Factors => "factors",
            Kind::Devices => "devices",
            Kind::DeviceUse => "device-use",
            Kind::Claim => "claim",
            Kind::Budget => "budget",
            Kind::GoodNetworks => "good-networks",
            Kind::Block => "block",
            Kind::SignIn => "sign-in",
        }
    }

    fn of_byte(byte: u8) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why stored bytes are not a key or a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The bytes are no key that this version knows.
    Key,
    /// The record was written by a later version.
    LaterVersion {
        /// What kind of record it is.
        kind: Kind,
        /// Its schema version.
        found: u8,
    },
    /// The record's bytes do not have the form of their schema version.
    Malformed(Kind),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeError::Key => f.write_str(
                "the store holds a kind of record that this version does not know; run the version that wrote it, or restore a backup",
            ),
            DecodeError::LaterVersion { kind, found } => write!(
                f,
                "a {kind} record has schema version {found}, this version reads up to {SCHEMA}; run the version that \
                 wrote it, or restore a backup made before the upgrade"
            ),
            DecodeError::Malformed(kind) => {
                write!(f, "a {kind} record is malformed; restore a backup, or remove the record")
            }
        }
    }
}

impl std::error::Error for DecodeError {}

impl Key {
    /// What kind of record it names.
    pub fn kind(&self) -> Kind {
        match self {
            Key::Meta => Kind::Meta,
            Key::Login(_) => Kind::Login,
            Key::Person(_) => Kind::Person,
            Key::Factors(_) => Kind::Factors,
            Key::Devices(_) => Kind::Devices,
            Key::DeviceUse(..) => Kind::DeviceUse,
            Key::Claim(..) => Kind::Claim,
            Key::Budget(_) => Kind::Budget,
            Key::GoodNetworks(_) => Kind::GoodNetworks,
            Key::Block(_) => Kind::Block,
            Key::SignIn(..) => Kind::SignIn,
        }
    }

    /// The key's bytes: the kind, then ids as they are and numbers big-endian, so that bytes sort as keys do.
    ///
    /// A login is the last and only field of its key and therefore needs no length in front; without one, logins sort
    /// by the alphabet.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![self.kind() as u8];
        match self {
            Key::Meta => {}
            Key::Login(login) => out.extend_from_slice(login.as_bytes()),
            Key::Person(person)
            | Key::Factors(person)
            | Key::Devices(person)
            | Key::Budget(person)
            | Key::GoodNetworks(person) => out.extend_from_slice(&person.0),
            Key::DeviceUse(person, device) => {
                out.extend_from_slice(&person.0);
                out.extend_from_slice(&device.0);
            }
            Key::Claim(person, factor, step) => {
                out.extend_from_slice(&person.0);
                out.extend_from_slice(&factor.0);
                out.extend_from_slice(&step.to_be_bytes());
            }
            Key::Block(network) => {
                match network.addr() {
                    IpAddr::V4(address) => {
                        out.push(4);
                        out.extend_from_slice(&address.octets());
                    }
                    IpAddr::V6(address) => {
                        out.push(6);
                        out.extend_from_slice(&address.octets());
                    }
                }
                out.push(network.prefix_len());
            }
            Key::SignIn(millis, number) => {
                out.extend_from_slice(&millis.to_be_bytes());
                out.extend_from_slice(&number.to_be_bytes());
            }
        }
        out
    }

    /// Reads a key back.
    ///
    /// # Errors
    /// [`DecodeError::Key`] for a kind that this version does not know, and for bytes that [`Key::encode`] never makes.
    pub fn decode(bytes: &[u8]) -> Result<Key, DecodeError> {
        let (kind, mut rest) = bytes.split_first().ok_or(DecodeError::Key)?;
        let kind = Kind::of_byte(*kind).ok_or(DecodeError::Key)?;
        let key = match kind {
            Kind::Meta => Key::Meta,
            Kind::Login => {
                let login = std::str::from_utf8(std::mem::take(&mut rest)).map_err(|_| DecodeError::Key)?;
                Key::Login(login.to_owned())
            }
            Kind::Person => Key::Person(PersonId(take(&mut rest)?)),
            Kind::Factors => Key::Factors(PersonId(take(&mut rest)?)),
            Kind::Devices => Key::Devices(PersonId(take(&mut rest)?)),
            Kind::Budget => Key::Budget(PersonId(take(&mut rest)?)),
            Kind::GoodNetworks => Key::GoodNetworks(PersonId(take(&mut rest)?)),
            Kind::DeviceUse => Key::DeviceUse(PersonId(take(&mut rest)?), DeviceId(take(&mut rest)?)),
            Kind::Claim => Key::Claim(
                PersonId(take(&mut rest)?),
                FactorId(take(&mut rest)?),
                u64::from_be_bytes(take(&mut rest)?),
            ),
            Kind::Block => Key::Block(take_network(&mut rest)?),
            Kind::SignIn => Key::SignIn(
                u64::from_be_bytes(take(&mut rest)?),
                u32::from_be_bytes(take(&mut rest)?),
            ),
        };
        if rest.is_empty() {
            Ok(key)
        } else {
            Err(DecodeError::Key)
        }
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], DecodeError> {
    let (head, tail) = rest.split_first_chunk::<N>().ok_or(DecodeError::Key)?;
    *rest = tail;
    Ok(*head)
}

fn take_network(rest: &mut &[u8]) -> Result<IpNet, DecodeError> {
    let [family] = take(rest)?;
    match family {
        4 => {
            let address = Ipv4Addr::from(take::<4>(rest)?);
            let [prefix] = take(rest)?;
            Ipv4Net::new(address, prefix)
                .map(IpNet::V4)
                .map_err(|_| DecodeError::Key)
        }
        6 => {
            let address = Ipv6Addr::from(take::<16>(rest)?);
            let [prefix] = take(rest)?;
            Ipv6Net::new(address, prefix)
                .map(IpNet::V6)
                .map_err(|_| DecodeError::Key)
        }
        _ => Err(DecodeError::Key),
    }
}

/// In which order a scan goes through its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The lowest key first; sign-ins: the oldest.
    Ascending,
    /// The highest key first; sign-ins: the newest.
    Descending,
}

/// A stretch of keys to scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    /// The first key's bytes.
    pub(super) from: Vec<u8>,
    /// The bytes after the last key.
    pub(super) to: Vec<u8>,
    /// In which order.
    pub(super) order: Order,
}

impl KeyRange {
    /// Every record of every kind.
    pub fn all() -> KeyRange {
        KeyRange {
            from: Vec::new(),
            to: vec![u8::MAX],
            order: Order::Ascending,
        }
    }

    /// All people, by id.
    pub fn people() -> KeyRange {
        KeyRange::prefix(Kind::Person, &[])
    }

    /// All logins and aliases, by the alphabet.
    pub fn logins() -> KeyRange {
        KeyRange::prefix(Kind::Login, &[])
    }

    /// All claims of all people, for the sweep of expired ones.
    pub fn claims() -> KeyRange {
        KeyRange::prefix(Kind::Claim, &[])
    }

    /// All claims of one person.
    pub fn claims_of(person: PersonId) -> KeyRange {
        KeyRange::prefix(Kind::Claim, &person.0)
    }

    /// All blocked networks.
    pub fn blocks() -> KeyRange {
        KeyRange::prefix(Kind::Block, &[])
    }

    /// What happened to each device of one person.
    pub fn device_uses(person: PersonId) -> KeyRange {
        KeyRange::prefix(Kind::DeviceUse, &person.0)
    }

    /// Sign-ins from the first millisecond (included) to the second (not included), Unix time.
    pub fn sign_ins(from_millis: u64, to_millis: u64, order: Order) -> KeyRange {
        KeyRange {
            from: Key::SignIn(from_millis, 0).encode(),
            to: Key::SignIn(to_millis, 0).encode(),
            order,
        }
    }

    /// All sign-ins there are.
    pub fn all_sign_ins(order: Order) -> KeyRange {
        KeyRange {
            order,
            ..KeyRange::prefix(Kind::SignIn, &[])
        }
    }

    /// The rest of this range behind a key: how the next page is asked for.
    pub fn after(mut self, key: &Key) -> KeyRange {
        let key = key.encode();
        match self.order {
            // The smallest byte string above a key is that key and a zero.
            Order::Ascending => self.from = [key.as_slice(), &[0]].concat(),
            Order::Descending => self.to = key,
        }
        self
    }

    fn prefix(kind: Kind, rest: &[u8]) -> KeyRange {
        let from = [&[kind as u8], rest].concat();
        let mut to = from.clone();
        // Kinds stay below 255, so that there is always a byte left to count up.
        while let Some(last) = to.pop() {
            if last < u8::MAX {
                to.push(last + 1);
                break;
            }
        }
        KeyRange {
            from,
            to,
            order: Order::Ascending,
        }
    }
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

/// The schema version that [`Value::encode`] writes.
pub const SCHEMA: u8 = 1;

impl Value {
    /// What kind of record it is.
    pub fn kind(&self) -> Kind {
        match self {
            Value::Meta(_) => Kind::Meta,
            Value::Login(_) => Kind::Login,
            Value::Person(_) => Kind::Person,
            Value::Factors(_) => Kind::Factors,
            Value::Devices(_) => Kind::Devices,
            Value::DeviceUse(_) => Kind::DeviceUse,
            Value::Claim(_) => Kind::Claim,
            Value::Budget(_) => Kind::Budget,
            Value::GoodNetworks(_) => Kind::GoodNetworks,
            Value::Block(_) => Kind::Block,
            Value::SignIn(_) => Kind::SignIn,
        }
    }

    /// The record's bytes before sealing: the schema version, then postcard. They may hold seeds, hence wiped on drop.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let written = match self {
            Value::Meta(record) => encode(record),
            Value::Login(record) => encode(record),
            Value::Person(record) => encode(record),
            Value::Factors(record) => encode(record),
            Value::Devices(record) => encode(record),
            Value::DeviceUse(record) => encode(record),
            Value::Claim(record) => encode(record),
            Value::Budget(record) => encode(record),
            Value::GoodNetworks(record) => encode(record),
            Value::Block(record) => encode(record),
            Value::SignIn(record) => encode_open(record),
        };
        written.expect("postcard refuses only sequences of unknown length, and no record has one")
    }

    /// Reads a record back.
    ///
    /// # Errors
    /// [`DecodeError::LaterVersion`] for a schema version that this program does not know, [`DecodeError::Malformed`]
    /// for anything that [`Value::encode`] never wrote.
    pub fn decode(kind: Kind, bytes: &[u8]) -> Result<Value, DecodeError> {
        let (version, bytes) = bytes.split_first().ok_or(DecodeError::Malformed(kind))?;
        match *version {
            1 => Value::decode_1(kind, bytes).map_err(|_| DecodeError::Malformed(kind)),
            0 => Err(DecodeError::Malformed(kind)),
            found => Err(DecodeError::LaterVersion { kind, found }),
        }
    }

    fn decode_1(kind: Kind, bytes: &[u8]) -> Result<Value, postcard::Error> {
        Ok(match kind {
            Kind::Meta => Value::Meta(whole(bytes)?),
            Kind::Login => Value::Login(whole(bytes)?),
            Kind::Person => Value::Person(whole(bytes)?),
            Kind::Factors => Value::Factors(whole(bytes)?),
            Kind::Devices => Value::Devices(whole(bytes)?),
            Kind::DeviceUse => Value::DeviceUse(whole(bytes)?),
            Kind::Claim => Value::Claim(whole(bytes)?),
            Kind::Budget => Value::Budget(whole(bytes)?),
            Kind::GoodNetworks => Value::GoodNetworks(whole(bytes)?),
            Kind::Block => Value::Block(whole(bytes)?),
            Kind::SignIn => Value::SignIn(whole(bytes)?),
        })
    }
}

fn encode<T: Serialize>(record: &T) -> Result<Zeroizing<Vec<u8>>, postcard::Error> {
    // Sized beforehand: a buffer that grows leaves copies of seeds behind in freed memory.
    let size = postcard::serialize_with_flavor(record, postcard::ser_flavors::Size::default())?;
    let mut out = Vec::with_capacity(1 + size);
    out.push(SCHEMA);
    postcard::to_extend(record, out).map(Zeroizing::new)
}

/// As [`encode`], for a record that holds nothing secret, in one pass.
fn encode_open<T: Serialize>(record: &T) -> Result<Zeroizing<Vec<u8>>, postcard::Error> {
    let mut out = Vec::with_capacity(USUAL_ENTRY);
    out.push(SCHEMA);
    postcard::to_extend(record, out).map(Zeroizing::new)
}

/// Bytes that most entries of the sign-in log need.
const USUAL_ENTRY: usize = 160;

fn whole<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, postcard::Error> {
    let (record, rest) = postcard::take_from_bytes(bytes)?;
    if rest.is_empty() {
        Ok(record)
    } else {
        Err(postcard::Error::DeserializeBadEncoding)
    }
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

/// Words of a closed enum, stored as JSON text: postcard would store a variant's position, and a variant added in the
/// middle would silently turn every stored reason into its neighbour. Text formats see the value itself.
mod by_name {
    use serde::de::{DeserializeOwned, Error as _};
    use serde::ser::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// Longer than any name with its quotes; a longer one would be an error at its first use, which every name has in
    /// the tests.
    const LONGEST_NAME: usize = 64;

    pub(super) fn serialize<T: Serialize, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
        if to.is_human_readable() {
            return value.serialize(to);
        }
        let mut name = [0; LONGEST_NAME];
        let mut room = &mut name[..];
        serde_json::to_writer(&mut room, value).map_err(S::Error::custom)?;
        let length = LONGEST_NAME - room.len();
        std::str::from_utf8(&name[..length])
            .map_err(S::Error::custom)?
            .serialize(to)
    }

    pub(super) fn deserialize<'de, T: DeserializeOwned, D: Deserializer<'de>>(
        from: D,
    ) -> Result<T, D::Error> {
        if from.is_human_readable() {
            return T::deserialize(from);
        }
        let text = String::deserialize(from)?;
        serde_json::from_str(&text).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id() -> impl Strategy<Value = [u8; 8]> {
        // Few values for most bytes, so that keys with a common beginning come up.
        proptest::array::uniform8(prop_oneof![Just(0u8), Just(1), Just(255), any::<u8>()])
    }

    fn network() -> impl Strategy<Value = IpNet> {
        (any::<IpAddr>(), 0..=128u8).prop_map(|(address, prefix)| {
            let widest = if address.is_ipv4() { 32 } else { 128 };
            IpNet::new(address, prefix.min(widest)).unwrap()
        })
    }

    fn key() -> impl Strategy<Value = Key> {
        prop_oneof![
            Just(Key::Meta),
            "[a-c@.\u{e4}]{0,4}".prop_map(Key::Login),
            any::<String>().prop_map(Key::Login),
            id().prop_map(|id| Key::Person(PersonId(id))),
            id().prop_map(|id| Key::Factors(PersonId(id))),
            id().prop_map(|id| Key::Devices(PersonId(id))),
            (id(), id()).prop_map(|(person, device)| Key::DeviceUse(PersonId(person), DeviceId(device))),
            (id(), id(), any::<u64>()).prop_map(|(p, f, step)| Key::Claim(PersonId(p), FactorId(f), step)),
            id().prop_map(|id| Key::Budget(PersonId(id))),
            id().prop_map(|id| Key::GoodNetworks(PersonId(id))),
            network().prop_map(Key::Block),
            (0..1000u64, 0..3u32).prop_map(|(millis, number)| Key::SignIn(millis, number)),
            (any::<u64>(), any::<u32>()).prop_map(|(millis, number)| Key::SignIn(millis, number)),
        ]
    }

    proptest! {
        #[test]
        fn keys_come_back_as_they_were(key in key()) {
            prop_assert_eq!(Key::decode(&key.encode()), Ok(key));
        }

        #[test]
        fn bytes_sort_as_keys_do(a in key(), b in key()) {
            prop_assert_eq!(a.encode().cmp(&b.encode()), a.cmp(&b));
        }

        #[test]
        fn no_bytes_make_decoding_panic_and_each_key_has_one_encoding(bytes: Vec<u8>, kind in 0..13u8) {
            let bytes = [&[kind], bytes.as_slice()].concat();
            if let Ok(key) = Key::decode(&bytes) {
                prop_assert_eq!(key.encode(), bytes);
            }
        }

        #[test]
        fn no_bytes_make_reading_a_value_panic(bytes: Vec<u8>) {
            for kind in Kind::ALL {
                let _ = Value::decode(kind, &[&[SCHEMA], bytes.as_slice()].concat());
            }
        }

        #[test]
        fn a_range_goes_on_right_behind_a_key(a in key(), b in key()) {
            let up = KeyRange::all().after(&a);
            prop_assert_eq!(b.encode() >= up.from, b > a);
            let down = KeyRange { order: Order::Descending, ..KeyRange::all() }.after(&a);
            prop_assert_eq!(b.encode() < down.to, b < a);
        }

        #[test]
        fn ranges_hold_what_they_say(key in key(), person in id(), from in 0..1000u64, to in 0..1000u64) {
            let person = PersonId(person);
            let holds = |range: KeyRange| range.from <= key.encode() && key.encode() < range.to;
            prop_assert!(holds(KeyRange::all()));
            prop_assert_eq!(holds(KeyRange::people()), matches!(key, Key::Person(_)));
            prop_assert_eq!(holds(KeyRange::logins()), matches!(key, Key::Login(_)));
            prop_assert_eq!(holds(KeyRange::claims()), matches!(key, Key::Claim(..)));
            prop_assert_eq!(holds(KeyRange::blocks()), matches!(key, Key::Block(_)));
            prop_assert_eq!(holds(KeyRange::all_sign_ins(Order::Ascending)), matches!(key, Key::SignIn(..)));
            prop_assert_eq!(
                holds(KeyRange::claims_of(person)),
                matches!(&key, Key::Claim(of, ..) if *of == person)
            );
            prop_assert_eq!(
                holds(KeyRange::device_uses(person)),
                matches!(&key, Key::DeviceUse(of, _) if *of == person)
            );
            prop_assert_eq!(
                holds(KeyRange::sign_ins(from, to, Order::Ascending)),
                matches!(&key, Key::SignIn(millis, _) if (from..to).contains(millis))
            );
        }
    }

    #[test]
    fn refuses_bytes_that_are_no_key() {
        let long = [Key::Person(PersonId([1; 8])).encode(), vec![0]].concat();
        let wide = [&[Kind::Block as u8, 4], [192, 0, 2, 0].as_slice(), &[33]].concat();
        for bytes in [
            &[][..],
            &[0],
            &[12],
            &[255, 1],
            &[Kind::Meta as u8, 0],
            &[3, 1, 2],
            &[2, 0xff],
            &long,
            &wide,
        ] {
            assert_eq!(Key::decode(bytes), Err(DecodeError::Key), "{bytes:?}");
        }
    }

    #[test]
    fn refuses_values_of_a_later_version_and_malformed_ones() {
        let good = Value::Login(PersonId([1; 8])).encode();
        assert!(matches!(
            Value::decode(Kind::Login, &good),
            Ok(Value::Login(PersonId([1, ..])))
        ));
        let mut later = good.to_vec();
        later[0] = 2;
        let error = Value::decode(Kind::Login, &later).unwrap_err();
        assert_eq!(
            error,
            DecodeError::LaterVersion {
                kind: Kind::Login,
                found: 2
            }
        );
        assert!(
            error.to_string().contains("run the version that wrote it"),
            "{error}"
        );
        let long = [good.as_slice(), &[0]].concat();
        let zero = [&[0], &good[1..]].concat();
        for bytes in [&[][..], &[1], &good[..5], &long, &zero] {
            let error = Value::decode(Kind::Login, bytes).unwrap_err();
            assert_eq!(error, DecodeError::Malformed(Kind::Login), "{bytes:?}");
        }
    }

    /// Text formats must show the words, not words wrapped in words.
    #[test]
    fn json_shows_reasons_and_protocols_plainly() {
        let block = Block {
            reason: Reason::NetworkBlocked,
            until: UnixTime(1),
            level: 1,
        };
        let json = serde_json::to_string(&block).unwrap();
        assert_eq!(json, r#"{"reason":"network_blocked","until":1,"level":1}"#);
        assert_eq!(serde_json::from_str::<Block>(&json).unwrap(), block);
    }

    #[test]
    fn ids_are_read_as_they_are_shown() {
        let person = PersonId([0, 1, 2, 3, 252, 253, 254, 255]);
        assert_eq!(person.to_string().parse(), Ok(person));
        assert_eq!(person.to_string().to_uppercase().parse(), Ok(person));
        for text in ["", "a", "aaaaaaaaaaaa", "aaaaaaaaaaaaaa", "aaaaaaaaaaaa1"] {
            assert_eq!(text.parse::<PersonId>(), Err(NotAnId), "{text}");
        }
    }
}
