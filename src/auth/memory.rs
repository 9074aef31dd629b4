//! What the policy remembers between attempts, in memory only and bounded.
//!
//! Nothing here survives a restart, and no entry is a password or a literal: everything is a keyed hash under a key made
//! at start. The worst case, with default limits:
//!
//! | table | filled by | entries × octets |
//! |---|---|---|
//! | warm devices | proven sign-ins | 16 384 × 250 = 3.9 MiB |
//! | dead literals | literals that a tombstone matched | 8 192 × 240 = 1.9 MiB |
//! | people: passwords, counted misses, refused devices | attempts at people who exist | 1 024 × 4 200 = 4.1 MiB |
//! | refused lately | any attempt | 2 048 × 64 × 40 = 5 MiB |
//! | failures by person and network | any attempt | 4 096 × (120 + 16 × 24) = 2 MiB |
//! | failures by host network | any attempt | 4 096 × (180 + 51 × 24) = 5.5 MiB |
//! | failures by /56 and /48 | any attempt | 512 × (180 + 201 × 24) = 2.4 MiB |
//! | good networks | proven sign-ins | 4 096 × 120 = 0.5 MiB |
//! | refusals by route | upstreams | 64 × 256 × 32 = 0.5 MiB |
//!
//! About 26 MiB under attack from everywhere at once, a few hundred KiB on an ordinary day.
//!
//! What an attacker can fill never pushes out what a proof has filled: they are different tables.

use super::bounded::Bounded;
use super::pace::Pace;
use super::throttle::{self, Distinct, NetworkNotes};
use super::{AccessSettings, Now, PaceSettings};
use crate::secret::keyed_hash;
use crate::store::records::{DeviceId, Devices, PersonId, Tag};
use ipnet::IpNet;
use ring::hmac;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// What the policy remembers between attempts: bounded, keyed, gone at the next start.
pub struct Memory {
    key: hmac::Key,
    warm: Bounded<LiteralPrint, Alive>,
    dead: Bounded<LiteralPrint, Dead>,
    /// The keys of both tables above, by person.
    by_person: HashMap<PersonId, Vec<LiteralPrint>>,
    people: Bounded<PersonId, PersonNotes>,
    refused: Bounded<(Subject, IpNet), VecDeque<RefusedLately>>,
    pub(super) failures: Bounded<(Subject, IpNet), Distinct>,
    networks: Bounded<IpNet, NetworkNotes>,
    wide_networks: Bounded<IpNet, NetworkNotes>,
    pub(super) good: Bounded<IpNet, Instant>,
    pace: Pace,
}

/// Whose attempts are counted: a person's, or those at a login that nobody has, which must look alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Subject {
    Person(PersonId),
    Unknown(Print),
}

/// A keyed hash of a person and a literal: the key of the warm table.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct LiteralPrint([u8; 32]);

/// A keyed hash, cut to 128 bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Print([u8; 16]);

impl std::fmt::Debug for Print {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Print(..)")
    }
}

/// What the warm table says about a literal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Warm {
    /// A living device's.
    Alive { device: DeviceId, tag: Tag },
    /// A dead device's.
    Dead,
}

struct Alive {
    person: PersonId,
    device: DeviceId,
    tag: Tag,
}

struct Dead {
    person: PersonId,
    tag: Tag,
}

struct RefusedLately {
    literal: Print,
    epoch: u64,
    at: Instant,
}

/// What is remembered of one person's passwords and misses.
#[derive(Default)]
struct PersonNotes {
    /// Password parts that the upstream took, newest first. More than one, because some upstreams give out a password
    /// for each program.
    verifiers: Vec<Print>,
    /// Literals that the budget has counted within a day, so that a program which repeats one is counted once.
    counted: VecDeque<(u64, Instant)>,
    /// The password part of the latest miss.
    missed_with: Option<Print>,
    /// Password parts of known devices that the upstream has refused.
    refused: Vec<RefusedPassword>,
    /// When the upstream refused a known device, within the last hour.
    refusals: VecDeque<Instant>,
}

struct RefusedPassword {
    password: Print,
    /// Index into [`ASK_AGAIN`].
    level: usize,
    ask_at: Instant,
}

/// What is known about a password part without asking the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// The upstream took it since start.
    Right,
    /// The upstream took another one since start, and not this.
    Wrong,
    /// Nothing is known.
    Unknown,
}

/// What an attempt costs whose client vanished while the upstream was being asked; see [`Memory::count_abandoned`].
#[derive(Clone, Copy, Debug)]
pub struct Charge {
    pub(super) subject: Subject,
    pub(super) address: IpAddr,
    pub(super) literal: u64,
    pub(super) familiar: throttle::Familiar,
    /// Set when a known device was asked for: its password part.
    pub(super) known: Option<(PersonId, Print)>,
}

impl Memory {
    /// An empty memory under a key that was made at random at start.
    pub fn new(key: [u8; 32]) -> Memory {
        Memory {
            key: hmac::Key::new(hmac::HMAC_SHA256, &key),
            warm: Bounded::new(16_384),
            dead: Bounded::new(8_192),
            by_person: HashMap::new(),
            people: Bounded::new(1_024),
            refused: Bounded::new(2_048),
            failures: Bounded::new(4_096),
            networks: Bounded::new(4_096),
            wide_networks: Bounded::new(512),
            good: Bounded::new(4_096),
            pace: Pace::default(),
        }
    }

    /// Counts an attempt that was abandoned between asking the upstream and its answer: as one failed literal of its
    /// network. Without that, a client could try passwords and hang up before each answer. A known device is not counted
    /// against its network; where its password was refused before, its next question waits longer.
    pub fn count_abandoned(&mut self, charge: Charge, settings: &AccessSettings, now: Now) {
        match charge.known {
            Some((person, password)) => {
                if self.was_refused(person, password) {
                    self.known_device_refused(person, password, now.mono);
                }
            }
            None => {
                // No store here: the block that this may start lives in memory.
                self.count_failure(&charge, &settings.counting, now, |_| 1);
            }
        }
    }

    /// A person's devices changed, in whatever process: forgets warm devices that live no longer (where a tombstone says
    /// so, their literals are dead from now on) and what was refused lately. `None`: the person is gone, and with her all
    /// that was remembered of her.
    pub fn person_changed(&mut self, person: PersonId, devices: Option<&Devices>) {
        self.forget_refusals(person);
        if devices.is_none() {
            self.people.remove(&person);
        }
        for print in self.by_person.remove(&person).unwrap_or_default() {
            let Some(tag) = self
                .warm
                .peek(&print)
                .map(|alive| alive.tag)
                .or_else(|| self.dead.peek(&print).map(|dead| dead.tag))
            else {
                continue;
            };
            let alive = devices.is_some_and(|d| d.devices.iter().any(|device| device.tag.same(&tag)));
            let buried = devices.is_some_and(|d| d.tombstones.iter().any(|stone| stone.tag.same(&tag)));
            if alive && self.warm.peek(&print).is_some() {
                self.by_person.entry(person).or_default().push(print);
                continue;
            }
            self.warm.remove(&print);
            self.dead.remove(&print);
            if buried {
                self.remember_dead(person, print, tag);
            }
        }
    }

    /// Forgets what was refused lately of one person, because her guessing budget is whole again.
    pub(super) fn forget_refusals(&mut self, person: PersonId) {
        self.refused
            .retain(|(subject, _), _| *subject != Subject::Person(person));
    }

    /// Forgets all that was learnt from the store (after the watch lagged): warm devices, dead literals and what was
    /// refused lately. Counters and verifiers stay, they never came from there.
    pub fn forget_all(&mut self) {
        self.warm.retain(|_, _| false);
        self.dead.retain(|_, _| false);
        self.by_person.clear();
        self.refused.retain(|_, _| false);
    }

    /// The upstream of `route` refused a password `took` after its attempt had arrived.
    pub fn upstream_refused(&mut self, route: &str, took: Duration, now: Instant) {
        self.pace.upstream_refused(route, took, now);
    }

    /// When a refusal leaves: at arrival + F + jitter, or the next multiple of F where that has passed.
    pub fn refusal_leaves(
        &mut self,
        settings: &PaceSettings,
        arrived: Instant,
        route: Option<&str>,
        now: Instant,
        jitter: u64,
    ) -> Instant {
        self.pace.leaves(settings, arrived, route, now, jitter)
    }

    /// The key under which identical attempts at one upstream wait for each other.
    pub fn flight_key(&self, person: PersonId, literal: &[u8], route: &str) -> [u8; 32] {
        let length = (route.len() as u64).to_be_bytes();
        self.sign(b'f', &[&person.0, &length, route.as_bytes(), literal])
    }

    // --- literals

    pub(super) fn literal_print(&self, person: PersonId, literal: &[u8]) -> LiteralPrint {
        LiteralPrint(self.sign(b'l', &[&person.0, literal]))
    }

    pub(super) fn warm(&mut self, print: &LiteralPrint) -> Option<Warm> {
        if let Some(alive) = self.warm.touch(print) {
            return Some(Warm::Alive {
                device: alive.device,
                tag: alive.tag,
            });
        }
        self.dead.touch(print).map(|_| Warm::Dead)
    }

    /// Only after a proof: nothing else may fill this table.
    pub(super) fn remember_alive(
        &mut self,
        person: PersonId,
        print: LiteralPrint,
        device: DeviceId,
        tag: Tag,
    ) {
        self.index(person, print);
        let alive = Alive { person, device, tag };
        if let Some((print, alive)) = self.warm.insert(print, alive) {
            self.unindex(alive.person, print);
        }
    }

    /// A tombstone matched this literal.
    pub(super) fn remember_dead(&mut self, person: PersonId, print: LiteralPrint, tag: Tag) {
        self.warm.remove(&print);
        self.index(person, print);
        if let Some((print, dead)) = self.dead.insert(print, Dead { person, tag }) {
            self.unindex(dead.person, print);
        }
    }

    /// Whether the person has a device or a tombstone whose literal has not been seen since start. If she has none, a
    /// literal that is not warm needs no slow hash to be known as a stranger.
    pub(super) fn has_unseen(&self, person: PersonId, devices: &Devices) -> bool {
        let seen: Vec<Tag> = self
            .prints(person)
            .filter_map(|print| {
                let alive = self.warm.peek(print).map(|alive| alive.tag);
                alive.or_else(|| self.dead.peek(print).map(|dead| dead.tag))
            })
            .collect();
        let tags = devices.devices.iter().map(|device| device.tag);
        let stones = devices.tombstones.iter().map(|stone| stone.tag);
        tags.chain(stones)
            .any(|tag| !seen.iter().any(|seen| seen.same(&tag)))
    }

    fn prints(&self, person: PersonId) -> impl Iterator<Item = &LiteralPrint> {
        self.by_person.get(&person).into_iter().flatten()
    }

    fn index(&mut self, person: PersonId, print: LiteralPrint) {
        let prints = self.by_person.entry(person).or_default();
        if !prints.contains(&print) {
            prints.push(print);
        }
    }

    fn unindex(&mut self, person: PersonId, print: LiteralPrint) {
        if let Some(prints) = self.by_person.get_mut(&person) {
            prints.retain(|held| *held != print);
            if prints.is_empty() {
                self.by_person.remove(&person);
            }
        }
    }

    // --- password parts

    /// The table that a network is counted in. The wider ones have their own: one provider's customers must not push out
    /// the hosts.
    pub(super) fn networks_of(&mut self, network: IpNet) -> &mut Bounded<IpNet, NetworkNotes> {
        match network {
            IpNet::V6(v6) if v6.prefix_len() < 64 => &mut self.wide_networks,
            _ => &mut self.networks,
        }
    }

    pub(super) fn password_print(&self, person: PersonId, password: &[u8]) -> Print {
        self.print(b'p', &[&person.0, password])
    }

    /// What is known about a password part.
    pub(super) fn judge(&self, person: PersonId, password: Print) -> Judgement {
        match self.people.peek(&person) {
            Some(notes) if notes.verifiers.contains(&password) => Judgement::Right,
            Some(notes) if !notes.verifiers.is_empty() => Judgement::Wrong,
            _ => Judgement::Unknown,
        }
    }

    /// The upstream took this password part.
    pub(super) fn password_right(&mut self, person: PersonId, password: Print) {
        let notes = self.people.touch_or_default(person);
        notes.verifiers.retain(|held| *held != password);
        notes.verifiers.insert(0, password);
        notes.verifiers.truncate(MAX_PASSWORDS);
        notes.refused.retain(|refused| refused.password != password);
    }

    /// The upstream refused this password part.
    pub(super) fn password_wrong(&mut self, person: PersonId, password: Print) {
        if let Some(notes) = self.people.touch(&person) {
            notes.verifiers.retain(|held| *held != password);
        }
    }

    // --- known devices that the upstream refuses

    /// Whether the upstream may be asked about a known device's password part now; if not, for how long not. A question
    /// that is let through moves the next one, so that programs which come at once do not all ask.
    pub(super) fn may_ask(
        &mut self,
        person: PersonId,
        password: Print,
        now: Instant,
    ) -> Result<(), Duration> {
        let Some(notes) = self.people.touch(&person) else {
            return Ok(());
        };
        if notes.verifiers.contains(&password) {
            return Ok(());
        }
        while notes
            .refusals
            .front()
            .is_some_and(|at| now.saturating_duration_since(*at) >= HOUR)
        {
            notes.refusals.pop_front();
        }
        if let (true, Some(first)) = (notes.refusals.len() > ASKED_AGAIN_AN_HOUR, notes.refusals.front()) {
            return Err((*first + HOUR).saturating_duration_since(now));
        }
        let Some(refused) = notes.refused.iter_mut().find(|r| r.password == password) else {
            return Ok(());
        };
        if now < refused.ask_at {
            return Err(refused.ask_at - now);
        }
        refused.ask_at = now + ASK_AGAIN[refused.level];
        Ok(())
    }

    /// The upstream had no answer: the question that [`Memory::may_ask`] let through does not count.
    pub(super) fn not_answered(&mut self, person: PersonId, password: Print, now: Instant) {
        if let Some(notes) = self.people.touch(&person)
            && let Some(refused) = notes.refused.iter_mut().find(|r| r.password == password)
        {
            refused.ask_at = now;
        }
    }

    /// The upstream refused a known device's password part: it is asked again after 1, 5, 30, 60 minutes.
    pub(super) fn known_device_refused(&mut self, person: PersonId, password: Print, now: Instant) {
        let notes = self.people.touch_or_default(person);
        if notes.refusals.len() > ASKED_AGAIN_AN_HOUR {
            notes.refusals.pop_front();
        }
        notes.refusals.push_back(now);
        let level = match notes.refused.iter().position(|r| r.password == password) {
            Some(place) => (notes.refused.remove(place).level + 1).min(ASK_AGAIN.len() - 1),
            None => 0,
        };
        notes.refused.insert(
            0,
            RefusedPassword {
                password,
                level,
                ask_at: now + ASK_AGAIN[level],
            },
        );
        notes.refused.truncate(MAX_PASSWORDS);
    }

    fn was_refused(&self, person: PersonId, password: Print) -> bool {
        self.people
            .peek(&person)
            .is_some_and(|notes| notes.refused.iter().any(|r| r.password == password))
    }

    // --- misses

    /// Whether the budget has counted this literal within a day.
    pub(super) fn was_counted(&mut self, person: PersonId, literal: u64, now: Instant) -> bool {
        let notes = self.people.touch_or_default(person);
        while notes
            .counted
            .front()
            .is_some_and(|(_, at)| now.saturating_duration_since(*at) >= DAY)
        {
            notes.counted.pop_front();
        }
        notes.counted.iter().any(|(held, _)| *held == literal)
    }

    /// The budget has counted this literal; `password` where it is known to be right.
    pub(super) fn counted(&mut self, person: PersonId, literal: u64, password: Option<Print>, now: Instant) {
        let notes = self.people.touch_or_default(person);
        if notes.counted.len() >= MAX_COUNTED {
            notes.counted.pop_front();
        }
        notes.counted.push_back((literal, now));
        notes.missed_with = password.or(notes.missed_with);
    }

    /// Whether the latest miss since start was made with this password part.
    pub(super) fn missed_with(&self, person: PersonId, password: Print) -> bool {
        self.people
            .peek(&person)
            .and_then(|notes| notes.missed_with)
            .is_some_and(|missed| missed == password)
    }

    // --- refused lately

    pub(super) fn attempt_print(&self, subject: Subject, literal: &[u8]) -> Print {
        self.print(b'a', &[&subject.bytes(), literal])
    }

    pub(super) fn unknown(&self, login: &[u8]) -> Subject {
        Subject::Unknown(self.print(b'u', &[login]))
    }

    /// Whether this very attempt was refused within the last 10 minutes, in the same epoch.
    pub(super) fn refused_lately(
        &mut self,
        subject: Subject,
        network: IpNet,
        literal: Print,
        epoch: u64,
        now: Instant,
    ) -> bool {
        self.refused.touch(&(subject, network)).is_some_and(|entries| {
            entries.iter().any(|entry| {
                entry.literal == literal
                    && entry.epoch == epoch
                    && now.saturating_duration_since(entry.at) < REFUSED_LATELY
            })
        })
    }

    pub(super) fn remember_refused(
        &mut self,
        subject: Subject,
        network: IpNet,
        literal: Print,
        epoch: u64,
        now: Instant,
    ) {
        let entries = self.refused.touch_or_default((subject, network));
        entries.retain(|entry| entry.literal != literal);
        if entries.len() >= MAX_REFUSED {
            entries.pop_front();
        }
        entries.push_back(RefusedLately {
            literal,
            epoch,
            at: now,
        });
    }

    // --- hashing

    /// A short keyed hash for counting: a collision makes one guess in 2^64 free.
    pub(super) fn short_print(&self, subject: Subject, literal: &[u8]) -> u64 {
        let Print(bytes) = self.attempt_print(subject, literal);
        u64::from_be_bytes(*bytes.first_chunk().expect("16 octets hold 8"))
    }

    /// A short keyed hash of public facts.
    pub(super) fn epoch(&self, facts: &impl std::hash::Hash) -> u64 {
        use std::hash::{DefaultHasher, Hasher};
        let mut hasher = DefaultHasher::new();
        facts.hash(&mut hasher);
        hasher.finish()
    }

    fn print(&self, label: u8, parts: &[&[u8]]) -> Print {
        Print(*self.sign(label, parts).first_chunk().expect("32 octets hold 16"))
    }

    /// HMAC-SHA-256 under the key made at start. All parts but the last have a fixed length.
    fn sign(&self, label: u8, parts: &[&[u8]]) -> [u8; 32] {
        let label = [label];
        let parts: Vec<&[u8]> = std::iter::once(&label[..]).chain(parts.iter().copied()).collect();
        let mut out = [0; 32];
        out.copy_from_slice(keyed_hash(&self.key, &parts).as_ref());
        out
    }
}

impl Subject {
    /// In whose name an attempt waits for its turn: an id that belongs to nobody where the login does. It is cut from a
    /// hash under the memory's key, so that no login can be made up which shares a person's.
    pub(super) fn stands_as(&self) -> PersonId {
        match self {
            Subject::Person(person) => *person,
            Subject::Unknown(Print(print)) => PersonId(*print.first_chunk().expect("16 octets hold 8")),
        }
    }

    fn bytes(&self) -> [u8; 17] {
        let mut out = [0; 17];
        match self {
            Subject::Person(PersonId(id)) => {
                out[0] = 1;
                out[1..9].copy_from_slice(id);
            }
            Subject::Unknown(Print(print)) => {
                out[0] = 2;
                out[1..].copy_from_slice(print);
            }
        }
        out
    }
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Memory(..)")
    }
}

/// After how long the upstream is asked again about a known device that it refused.
const ASK_AGAIN: [Duration; 4] = [
    Duration::from_secs(60),
    Duration::from_secs(5 * 60),
    Duration::from_secs(30 * 60),
    HOUR,
];
/// Besides the first refusal, over all of a person's known devices: five programs with an old password must not lock her
/// account at the upstream.
const ASKED_AGAIN_AN_HOUR: usize = 3;
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const REFUSED_LATELY: Duration = Duration::from_secs(600);
/// Refused literals a person and network.
const MAX_REFUSED: usize = 64;
/// Password parts a person, right ones and refused ones each.
const MAX_PASSWORDS: usize = 10;
/// Above the daily limits of the budget, so that no repeated literal is counted twice before it is spent.
const MAX_COUNTED: usize = 128;
