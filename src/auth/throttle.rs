//! Counting failures: distinct failed literals by person and by network, blocks, and the guessing budget.
//!
//! A wrong password is no attack when it is always the same wrong password (P102): a program repeats it for days. So
//! everything here counts *distinct* literals, as short keyed hashes in memory. What persists is counts, times and the
//! ends of blocks.

use super::memory::{Charge, Memory, Subject};
use super::{CountingSettings, Now};
use crate::store::records::{Block, Budget, GoodNetworks, UnixTime};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// How wide each counted network is, by how many times it may fail more often than a single host. A provider gives one
/// customer a /64 at least and a /48 at most; the wider ones must hold several innocents.
const V6_WIDTHS: [(u8, u32); 3] = [(64, 1), (56, 2), (48, 4)];

/// The network of an address by which it is counted and remembered: /32 of IPv4, /64 of IPv6.
pub(super) fn host_network(address: IpAddr) -> IpNet {
    match address {
        IpAddr::V4(v4) => IpNet::V4(Ipv4Net::from(v4)),
        IpAddr::V6(v6) => v6_network(v6, V6_WIDTHS[0].0),
    }
}

/// All networks that an address is counted in, narrowest first, each with the multiple of the limits it is allowed.
pub(super) fn networks(address: IpAddr) -> impl Iterator<Item = (IpNet, u32)> {
    let wider = match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(v6) => Some(v6),
    };
    let wider = wider.into_iter().flat_map(|v6| {
        let widths = V6_WIDTHS[1..].iter();
        widths.map(move |(width, multiple)| (v6_network(v6, *width), *multiple))
    });
    std::iter::once((host_network(address), V6_WIDTHS[0].1)).chain(wider)
}

fn v6_network(address: Ipv6Addr, width: u8) -> IpNet {
    let net = Ipv6Net::new(address, width).expect("the widths are below 128");
    IpNet::V6(net.trunc())
}

/// In which networks of an address a person signed in well lately, by [`networks`]' order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Familiar([bool; 3]);

impl Familiar {
    /// What the person's good networks say about an address.
    pub(super) fn of(good: Option<&GoodNetworks>, address: IpAddr, within: Duration, now: Now) -> Familiar {
        let mut familiar = Familiar::default();
        for (place, (network, _)) in networks(address).enumerate() {
            familiar.0[place] = good.is_some_and(|good| {
                good.networks.iter().any(|(held, last)| {
                    // Without a clock nothing is old.
                    network.contains(held) && (!now.clock_known || now.unix.since(*last) < within)
                })
            });
        }
        familiar
    }

    /// Whether she signed in well from the very host or /64.
    pub(super) fn host(&self) -> bool {
        self.0[0]
    }
}

/// Distinct failed literals within a window.
#[derive(Default)]
pub(super) struct Distinct(Vec<(u64, Instant)>);

impl Distinct {
    /// How many there are.
    fn count(&mut self, window: Duration, now: Instant) -> u32 {
        self.0
            .retain(|(_, at)| now.saturating_duration_since(*at) < window);
        u32::try_from(self.0.len()).unwrap_or(u32::MAX)
    }

    /// Adds one and says how many there are. A repeated one keeps its first time: a program that repeats itself must
    /// not keep its person waiting for ever.
    fn add(&mut self, literal: u64, most: u32, window: Duration, now: Instant) -> u32 {
        let count = self.count(window, now);
        if self.0.iter().any(|(held, _)| *held == literal) {
            return count;
        }
        if count > most.min(MOST_COUNTED) {
            self.0.remove(0);
        }
        self.0.push((literal, now));
        self.count(window, now)
    }

    fn forget(&mut self, literal: u64) {
        self.0.retain(|(held, _)| *held != literal);
    }

    /// When the count will be `limit` again.
    fn calm_after(&self, limit: u32, window: Duration, now: Instant) -> Duration {
        let over = self.0.len().saturating_sub(limit as usize);
        over.checked_sub(1)
            .and_then(|last| self.0.get(last))
            .map_or(Duration::ZERO, |(_, at)| {
                (*at + window).saturating_duration_since(now)
            })
    }
}

/// Whatever the settings say, no counter holds more: worst-case memory = tables x this x 24 octets.
const MOST_COUNTED: u32 = 1024;

/// What is remembered of one network.
#[derive(Default)]
pub(super) struct NetworkNotes {
    failures: Distinct,
    blocked_until: Option<Instant>,
    /// Even for people who signed in well from here: they are allowed more, not everything.
    familiar_blocked_until: Option<Instant>,
}

/// A block that a failure has started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NewBlock {
    pub(super) network: IpNet,
    pub(super) level: u8,
    pub(super) lasts: Duration,
}

impl Memory {
    /// How long this person (or unknown login) waits from this network, if she does.
    pub(super) fn waits(
        &mut self,
        subject: Subject,
        network: IpNet,
        familiar: Familiar,
        settings: &CountingSettings,
        now: Instant,
    ) -> Option<Duration> {
        let limit = allowance(settings.per_person, 1, familiar.host(), settings);
        let failures = self.failures.touch(&(subject, network))?;
        (failures.count(settings.window, now) > limit)
            .then(|| failures.calm_after(limit, settings.window, now))
    }

    /// How long one of the address's networks is blocked, by what is remembered and by the records of the store.
    pub(super) fn blocked(
        &mut self,
        address: IpAddr,
        blocks: &[Option<Block>],
        familiar: Familiar,
        now: Now,
    ) -> Option<Duration> {
        let mut longest = None;
        for (place, (network, _)) in networks(address).enumerate() {
            let notes = self.networks_of(network).peek(&network);
            let until = notes.and_then(|notes| {
                if familiar.0[place] {
                    notes.familiar_blocked_until
                } else {
                    notes.blocked_until
                }
            });
            longest = longest.max(until.map(|until| until.saturating_duration_since(now.mono)));
            let stored = blocks.get(place).and_then(Option::as_ref);
            if let (Some(block), true, false) = (stored, now.clock_known, familiar.0[place]) {
                longest = longest.max(Some(block.until.since(now.unix)));
            }
        }
        longest.filter(|left| !left.is_zero())
    }

    /// Counts one failed literal, and says which blocks that starts. `level` tells which block of its row a network
    /// would get: 1 to 3.
    pub(super) fn count_failure(
        &mut self,
        failure: &Charge,
        settings: &CountingSettings,
        now: Now,
        level: impl Fn(usize) -> u8,
    ) -> Vec<NewBlock> {
        let host = host_network(failure.address);
        let most = allowance(settings.per_person, 1, true, settings);
        self.failures.touch_or_default((failure.subject, host)).add(
            failure.literal,
            most,
            settings.window,
            now.mono,
        );
        let mut started = Vec::new();
        for (place, (network, multiple)) in networks(failure.address).enumerate() {
            let most = allowance(settings.per_network, multiple, true, settings);
            let limit = allowance(
                settings.per_network,
                multiple,
                failure.familiar.0[place],
                settings,
            );
            let notes = self.networks_of(network).touch_or_default(network);
            let count = notes
                .failures
                .add(failure.literal, most, settings.window, now.mono);
            let until = if failure.familiar.0[place] {
                notes.familiar_blocked_until
            } else {
                notes.blocked_until
            };
            if count > limit && until.is_none_or(|until| until <= now.mono) {
                let level = level(place);
                let lasts = block_length(level, settings);
                notes.blocked_until = notes.blocked_until.max(Some(now.mono + lasts));
                if count > most {
                    notes.familiar_blocked_until = Some(now.mono + lasts);
                }
                started.push(NewBlock {
                    network,
                    level,
                    lasts,
                });
            }
        }
        started
    }

    /// Blocks a network at once.
    pub(super) fn block(&mut self, network: IpNet, lasts: Duration, now: Instant) {
        let notes = self.networks_of(network).touch_or_default(network);
        notes.blocked_until = notes.blocked_until.max(Some(now + lasts));
    }

    /// A literal that was counted turned out to be right after all.
    pub(super) fn forgive(&mut self, subject: Subject, address: IpAddr, literal: u64) {
        if let Some(failures) = self.failures.touch(&(subject, host_network(address))) {
            failures.forget(literal);
        }
        for (network, _) in networks(address) {
            if let Some(notes) = self.networks_of(network).touch(&network) {
                notes.failures.forget(literal);
            }
        }
    }

    /// Somebody signed in well from here. Kept in memory only: after a start, a decoy may block an office for strangers
    /// to it, never for known devices or for people who signed in well from there.
    pub(super) fn good_sign_in(&mut self, address: IpAddr, now: Instant) {
        self.good.insert(host_network(address), now);
    }

    /// Whether anybody signed in well from here lately.
    pub(super) fn had_good_sign_in(&self, address: IpAddr, within: Duration, now: Instant) -> bool {
        self.good
            .peek(&host_network(address))
            .is_some_and(|at| now.saturating_duration_since(*at) < within)
    }
}

/// Which block of its row comes next: a row goes on while the last block ended less than the longest block ago.
pub(super) fn next_level(last: Option<&Block>, settings: &CountingSettings, now: Now) -> u8 {
    match last {
        Some(block) if now.unix < block.until.plus(settings.blocks[2]) => (block.level + 1).min(3),
        _ => 1,
    }
}

/// How long a block of this level lasts.
pub(super) fn block_length(level: u8, settings: &CountingSettings) -> Duration {
    settings.blocks[usize::from(level.clamp(1, 3) - 1)]
}

fn allowance(limit: u32, multiple: u32, familiar: bool, settings: &CountingSettings) -> u32 {
    let factor = if familiar {
        settings.familiar_factor.max(1)
    } else {
        1
    };
    limit.saturating_mul(multiple).saturating_mul(factor)
}

/// What the budget counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Miss {
    /// The password part is right and the code is wrong.
    RightPassword,
    /// Nobody knows whether the password part is right: nothing was proven since start.
    Unverified,
}

/// The budget after one more miss from `network`.
pub(super) fn after_miss(
    budget: &Budget,
    miss: Miss,
    network: IpNet,
    settings: &CountingSettings,
    now: UnixTime,
) -> Budget {
    let mut budget = aged(budget, now);
    let today = now.0 / DAY.as_secs();
    let days = match miss {
        Miss::RightPassword => &mut budget.misses,
        Miss::Unverified => &mut budget.unverified,
    };
    match days.last_mut() {
        Some((day, count)) if *day == today => *count = count.saturating_add(1),
        _ => days.push((today, 1)),
    }
    budget.first_miss.get_or_insert(now);
    if miss == Miss::RightPassword
        && budget.miss_networks.len() < MAX_MISS_NETWORKS
        && !budget.miss_networks.contains(&network)
    {
        budget.miss_networks.push(network);
    }
    let over = |days: &[(u64, u32)], a_day: u32, a_month: u32| {
        let on_day = days.iter().find(|(day, _)| *day == today).map_or(0, |(_, n)| *n);
        let in_month: u32 = days.iter().fold(0, |sum, (_, n)| sum.saturating_add(*n));
        on_day >= a_day || in_month >= a_month
    };
    if over(&budget.misses, settings.misses_a_day, settings.misses_a_month)
        || over(
            &budget.unverified,
            settings.unverified_a_day,
            settings.unverified_a_month,
        )
    {
        budget.spent.get_or_insert(now);
    }
    budget
}

/// Since when misses count against the networks of remembered devices: none when the last is 30 days old and the budget
/// was not spent.
pub(super) fn first_miss(budget: Option<&Budget>, now: Now) -> Option<UnixTime> {
    let budget = budget?;
    if now.clock_known {
        aged(budget, now.unix).first_miss
    } else {
        budget.first_miss
    }
}

/// Whether the network had a miss of its own.
pub(super) fn had_miss(budget: &Budget, network: IpNet) -> bool {
    budget.miss_networks.len() >= MAX_MISS_NETWORKS || budget.miss_networks.contains(&network)
}

/// Without the days that no longer count.
fn aged(budget: &Budget, now: UnixTime) -> Budget {
    let mut budget = budget.clone();
    let oldest = (now.0 / DAY.as_secs()).saturating_sub(29);
    budget.misses.retain(|(day, _)| *day >= oldest);
    budget.unverified.retain(|(day, _)| *day >= oldest);
    if budget.spent.is_none() && budget.misses.is_empty() && budget.unverified.is_empty() {
        budget.first_miss = None;
        budget.miss_networks.clear();
    }
    budget
}

/// As [`Budget::miss_networks`] says.
const MAX_MISS_NETWORKS: usize = 64;
const DAY: Duration = Duration::from_secs(24 * 3600);
