//! Remembered devices: finding one by its tag, expiry, tombstones, the limit, what is worth writing down.
//!
//! Deliberately absent: any hash of a literal faster than the tag. Generated devices are not here yet.

use super::Now;
use super::throttle;
use crate::reason::Protocol;
use crate::store::records::{
    Budget, Death, Device, DeviceId, DeviceUse, Devices, GoodNetworks, SlowHashCost, Tag, Tombstone, UnixTime,
};
use ipnet::IpNet;
use std::time::Duration;

/// What a person's record says about a tag.
#[derive(Debug)]
pub(super) enum Found<'a> {
    /// A living device.
    Device(&'a Device),
    /// A dead one: its literal is never split, counted or created again.
    Tombstone,
    /// Neither.
    Nothing,
}

/// Compares a tag with all devices and tombstones, each in constant time and without early exit.
pub(super) fn find<'a>(devices: &'a Devices, tag: &Tag) -> Found<'a> {
    let mut alive = None;
    for device in &devices.devices {
        if device.tag.same(tag) {
            alive = Some(device);
        }
    }
    let mut dead = false;
    for stone in &devices.tombstones {
        dead |= stone.tag.same(tag);
    }
    match alive {
        Some(device) => Found::Device(device),
        None if dead => Found::Tombstone,
        None => Found::Nothing,
    }
}

/// Salt and cost for a person without a device.
pub(super) fn new_cost(random: &mut dyn FnMut(&mut [u8])) -> SlowHashCost {
    let mut salt = [0; 16];
    random(&mut salt);
    SlowHashCost {
        salt,
        memory_kib: MEMORY_KIB,
        passes: PASSES,
    }
}

/// A person's record before her first device.
pub(super) fn no_devices(cost: SlowHashCost) -> Devices {
    Devices {
        cost,
        devices: Vec::new(),
        tombstones: Vec::new(),
    }
}

/// How a device is used that was never written down: as at its creation.
pub(super) fn first_use(device: &Device) -> DeviceUse {
    DeviceUse {
        last_seen: device.created,
        last_network: device.first_network,
        protocols: vec![device.first_protocol],
        networks: vec![device.first_network],
        refused: None,
    }
}

/// Whether a device has been idle for too long. Only while the clock is known and has not jumped.
pub(super) fn has_expired(device: &Device, used: &DeviceUse, idle: Option<Duration>, now: Now) -> bool {
    let seen = used.last_seen.max(device.created);
    idle.is_some_and(|idle| now.clock_known && now.clock_steady && now.unix.since(seen) > idle)
}

/// Whether a remembered literal matches from this network under a spent budget: only where the device was used before the
/// first miss, and where no miss happened. Such a literal is a static code for whoever knows the password.
///
/// [`DeviceUse::networks`] grows only while there is no miss (see [`after_use`]), so it is what was used before the first.
pub(super) fn matches_under(budget: &Budget, device: &Device, used: &DeviceUse, network: IpNet) -> bool {
    let before = budget
        .first_miss
        .or(budget.spent)
        .is_none_or(|miss| device.created <= miss);
    before && used.networks.contains(&network) && !throttle::had_miss(budget, network)
}

/// Takes a device out and leaves a tombstone.
pub(super) fn bury(devices: &mut Devices, dead: DeviceId, death: Death, now: UnixTime) {
    let Some(place) = devices.devices.iter().position(|device| device.id == dead) else {
        return;
    };
    let device = devices.devices.remove(place);
    devices
        .tombstones
        .retain(|stone| now.since(stone.died) < TOMBSTONES_LAST);
    let excess = (devices.tombstones.len() + 1).saturating_sub(MAX_TOMBSTONES);
    devices.tombstones.drain(..excess);
    devices.tombstones.push(Tombstone {
        tag: device.tag,
        death,
        died: now,
    });
}

/// What a new device is made from.
pub(super) struct Arrival<'a> {
    /// What its program said about itself.
    pub(super) client_hint: Option<&'a str>,
    /// Where it comes from.
    pub(super) network: IpNet,
    /// When.
    pub(super) now: UnixTime,
}

/// Which devices make room for a new one; `None` when it finds no room.
///
/// A program that says the same about itself from the same network, and was not seen for a day, is taken for the one whose
/// literal was typed anew. At the limit goes first what the upstream has refused since it last let it in, then what was
/// idle for 30 days. Nothing else: a device that stops silently is worse than a refusal with a reason.
pub(super) fn make_room(
    devices: &[(Device, DeviceUse)],
    arrival: &Arrival<'_>,
    max_devices: usize,
) -> Option<Vec<DeviceId>> {
    let idle = |used: &DeviceUse| arrival.now.since(used.last_seen);
    let least_seen = |wanted: &dyn Fn(&Device, &DeviceUse) -> bool| {
        devices
            .iter()
            .filter(|(device, used)| wanted(device, used))
            .min_by_key(|(_, used)| used.last_seen)
            .map(|(device, _)| device.id)
    };
    let typed_anew = least_seen(&|device, used| {
        arrival.client_hint.is_some()
            && device.client_hint.as_deref() == arrival.client_hint
            && used.last_network == arrival.network
            && idle(used) >= TYPED_ANEW_AFTER
    });
    let mut out: Vec<DeviceId> = typed_anew.into_iter().collect();
    while devices.len() - out.len() >= max_devices.max(1) {
        let next = least_seen(&|device, used| used.refused.is_some() && !out.contains(&device.id)).or_else(
            || least_seen(&|device, used| idle(used) >= REPLACED_AFTER && !out.contains(&device.id)),
        )?;
        out.push(next);
    }
    Some(out)
}

/// The device's use after one more good sign-in, when that is worth a write: at most once a minute, unless something is new.
/// A new network joins the list only while no miss is remembered; see [`matches_under`].
pub(super) fn after_use(
    used: &DeviceUse,
    network: IpNet,
    protocol: Protocol,
    missed: bool,
    now: UnixTime,
) -> Option<DeviceUse> {
    let mut new = used.clone();
    new.refused = None;
    if !missed && !new.networks.contains(&network) {
        let excess = (new.networks.len() + 1).saturating_sub(MAX_USED_NETWORKS);
        new.networks.drain(..excess);
        new.networks.push(network);
    }
    if !new.protocols.contains(&protocol) {
        new.protocols.push(protocol);
    }
    new.last_network = network;
    let stale = now.since(used.last_seen) >= WORTH_A_WRITE;
    if new == *used && !stale {
        return None;
    }
    new.last_seen = now;
    Some(new)
}

/// The person's good networks after one more sign-in, when that is worth a write: at most once an hour a network.
pub(super) fn after_good_sign_in(
    good: Option<&GoodNetworks>,
    network: IpNet,
    now: UnixTime,
) -> Option<GoodNetworks> {
    let mut new = good.cloned().unwrap_or_default();
    if let Some(place) = new.networks.iter().position(|(held, _)| *held == network) {
        if now.since(new.networks[place].1) < NETWORK_WORTH_A_WRITE {
            return None;
        }
        new.networks.remove(place);
    } else if new.networks.len() >= MAX_GOOD_NETWORKS {
        let oldest = new.networks.iter().enumerate().min_by_key(|(_, (_, at))| *at);
        if let Some((place, _)) = oldest {
            new.networks.remove(place);
        }
    }
    new.networks.push((network, now));
    Some(new)
}

/// OWASP's least for Argon2id with two passes; about 60 ms on the box.
const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const TOMBSTONES_LAST: Duration = days(400);
const MAX_TOMBSTONES: usize = 64;
const TYPED_ANEW_AFTER: Duration = days(1);
const REPLACED_AFTER: Duration = days(30);
const WORTH_A_WRITE: Duration = Duration::from_secs(60);
const NETWORK_WORTH_A_WRITE: Duration = Duration::from_secs(3600);
const MAX_USED_NETWORKS: usize = 16;
const MAX_GOOD_NETWORKS: usize = 64;

const fn days(count: u64) -> Duration {
    Duration::from_secs(count * 24 * 3600)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::records::FactorId;

    const DAY: u64 = 24 * 3600;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn device(n: u8, hint: Option<&str>) -> Device {
        Device {
            id: DeviceId([n; 8]),
            tag: Tag([n; 32]),
            password_len: 2,
            client_hint: hint.map(str::to_owned),
            first_protocol: Protocol::Imap,
            created: UnixTime(100 * DAY),
            first_network: net("192.0.2.1/32"),
            factor: FactorId([1; 8]),
        }
    }

    fn used(days_ago: u64, refused: bool) -> DeviceUse {
        let last_seen = UnixTime((200 - days_ago) * DAY);
        DeviceUse {
            last_seen,
            last_network: net("192.0.2.1/32"),
            protocols: vec![Protocol::Imap],
            networks: vec![net("192.0.2.1/32")],
            refused: refused.then_some(last_seen),
        }
    }

    fn room(held: &[(Device, DeviceUse)], hint: Option<&str>, network: &str, max: usize) -> Option<Vec<u8>> {
        let arrival = Arrival {
            client_hint: hint,
            network: net(network),
            now: UnixTime(200 * DAY),
        };
        make_room(held, &arrival, max).map(|out| out.iter().map(|id| id.0[0]).collect())
    }

    #[test]
    fn at_the_limit_refused_ones_go_first_then_idle_ones_then_none() {
        let held = [
            (device(1, None), used(40, false)),
            (device(2, None), used(1, true)),
            (device(3, None), used(50, false)),
        ];
        assert_eq!(room(&held, None, "192.0.2.9/32", 4), Some(vec![]));
        assert_eq!(room(&held, None, "192.0.2.9/32", 3), Some(vec![2]));
        assert_eq!(room(&held, None, "192.0.2.9/32", 2), Some(vec![2, 3]));
        let busy = [
            (device(1, None), used(29, false)),
            (device(2, None), used(0, false)),
        ];
        assert_eq!(room(&busy, None, "192.0.2.9/32", 2), None);
        assert_eq!(room(&busy, None, "192.0.2.9/32", 3), Some(vec![]));
    }

    #[test]
    fn the_same_program_on_the_same_network_is_replaced_after_a_day() {
        let held = [
            (device(1, Some("Thunderbird")), used(2, false)),
            (device(2, Some("K-9")), used(2, false)),
        ];
        assert_eq!(room(&held, Some("Thunderbird"), "192.0.2.1/32", 9), Some(vec![1]));
        assert_eq!(room(&held, Some("Thunderbird"), "192.0.2.2/32", 9), Some(vec![]));
        assert_eq!(room(&held, Some("mutt"), "192.0.2.1/32", 9), Some(vec![]));
        assert_eq!(room(&held, None, "192.0.2.1/32", 9), Some(vec![]));
        let fresh = [(device(1, Some("Thunderbird")), used(0, false))];
        assert_eq!(room(&fresh, Some("Thunderbird"), "192.0.2.1/32", 9), Some(vec![]));
    }

    #[test]
    fn tombstones_are_bounded_in_number_and_age() {
        let cost = new_cost(&mut |bytes| bytes.fill(1));
        let mut devices = no_devices(cost);
        for n in 0..100 {
            devices.devices.push(device(n, None));
            bury(
                &mut devices,
                DeviceId([n; 8]),
                Death::Revoked,
                UnixTime(1000 * DAY),
            );
        }
        assert!(devices.devices.is_empty());
        assert_eq!(devices.tombstones.len(), 64);
        assert!(matches!(find(&devices, &Tag([99; 32])), Found::Tombstone));
        assert!(matches!(find(&devices, &Tag([1; 32])), Found::Nothing));
        devices.devices.push(device(200, None));
        bury(
            &mut devices,
            DeviceId([200; 8]),
            Death::Revoked,
            UnixTime(1401 * DAY),
        );
        assert_eq!(devices.tombstones.len(), 1);
    }

    #[test]
    fn idle_devices_expire_only_by_a_known_clock() {
        let idle = Some(days(90));
        let now = |day: u64, clock_known, clock_steady| Now {
            clock_steady,
            mono: std::time::Instant::now(),
            unix: UnixTime(day * DAY),
            clock_known,
        };
        let (device, used) = (device(1, None), used(0, false));
        assert!(!has_expired(&device, &used, idle, now(290, true, true)));
        assert!(has_expired(&device, &used, idle, now(291, true, true)));
        assert!(!has_expired(&device, &used, idle, now(291, false, true)));
        // It was set to another time while we ran: nobody knows which of both was right.
        assert!(!has_expired(&device, &used, idle, now(291, true, false)));
        assert!(!has_expired(&device, &used, None, now(9999, true, true)));
    }

    #[test]
    fn a_warm_sign_in_seldom_writes() {
        let before = used(0, false);
        let write = |seconds: u64, network: &str, missed| {
            let now = UnixTime(200 * DAY + seconds);
            after_use(&before, net(network), Protocol::Imap, missed, now)
        };
        assert_eq!(write(59, "192.0.2.1/32", false), None);
        assert!(write(60, "192.0.2.1/32", false).is_some());
        let roamed = write(1, "192.0.2.7/32", false).unwrap();
        assert_eq!(roamed.networks, [net("192.0.2.1/32"), net("192.0.2.7/32")]);
        // After a miss the list stands still, so that it says what was used before.
        let roamed = write(1, "192.0.2.7/32", true).unwrap();
        assert_eq!(roamed.networks, [net("192.0.2.1/32")]);
        let refused = after_use(
            &used(0, true),
            net("192.0.2.1/32"),
            Protocol::Imap,
            false,
            UnixTime(200 * DAY),
        );
        assert_eq!(refused.unwrap().refused, None);
    }

    #[test]
    fn good_networks_are_bounded_and_written_once_an_hour() {
        let mut good = None;
        for n in 0..100_u64 {
            let network = net(&format!("10.0.0.{n}/32"));
            good = after_good_sign_in(good.as_ref(), network, UnixTime(n));
        }
        let good = good.unwrap();
        assert_eq!(good.networks.len(), 64);
        assert_eq!(good.networks[0].0, net("10.0.0.36/32"));
        assert_eq!(
            after_good_sign_in(Some(&good), net("10.0.0.99/32"), UnixTime(99 + 3599)),
            None
        );
        let again = after_good_sign_in(Some(&good), net("10.0.0.36/32"), UnixTime(36 + 3600)).unwrap();
        assert_eq!(again.networks.len(), 64);
    }

    #[test]
    fn a_spent_budget_keeps_only_networks_from_before_the_first_miss() {
        let mut budget = Budget {
            first_miss: Some(UnixTime(150 * DAY)),
            spent: Some(UnixTime(151 * DAY)),
            ..Budget::default()
        };
        let home = net("192.0.2.1/32");
        let used = used(0, false);
        assert!(matches_under(&budget, &device(1, None), &used, home));
        assert!(!matches_under(
            &budget,
            &device(1, None),
            &used,
            net("192.0.2.2/32")
        ));
        let mut young = device(1, None);
        young.created = UnixTime(150 * DAY + 1);
        assert!(!matches_under(&budget, &young, &used, home));
        budget.miss_networks.push(home);
        assert!(!matches_under(&budget, &device(1, None), &used, home));
    }
}
