//! Whether a session that was admitted would still be: after a device was revoked, a person suspended or removed, a mode
//! switched, a network denied.

use super::sessions::Facts;
use crate::auth::{AccessSettings, Now};
use crate::reason::Reason;
use crate::store::records::{Devices, Mode, Person};

/// Judges a session by what the store and the settings say now.
///
/// # Errors
/// Why it would be refused now.
pub(super) fn check(
    facts: &Facts,
    settings: &AccessSettings,
    person: Option<&Person>,
    devices: Option<&Devices>,
    now: Now,
) -> Result<(), Reason> {
    if contains(&settings.denied, facts) {
        return Err(Reason::DeniedNetwork);
    }
    let mode = mode(facts, settings, person);
    let Some(person) = person else {
        // Only learning lets strangers in, and only as such.
        let was_nobody = facts.admission.person.is_none();
        return if was_nobody && mode == Mode::Learning {
            Ok(())
        } else {
            Err(Reason::UnknownPerson)
        };
    };
    if person.suspended {
        return Err(Reason::Suspended);
    }
    if let Some(device) = facts.admission.device {
        let lives = devices.is_some_and(|devices| devices.devices.iter().any(|living| living.id == device));
        return if lives { Ok(()) } else { Err(Reason::Revoked) };
    }
    // Enrolling a token ends the grace for the next sign-in, and leaves this session alone. So does a lost clock.
    let in_grace = person
        .grace_until
        .is_some_and(|until| !now.clock_known || now.unix < until);
    let may_without = mode == Mode::Learning || in_grace || contains(&settings.trusted, facts);
    if may_without { Ok(()) } else { Err(Reason::NoCode) }
}

fn contains(networks: &[ipnet::IpNet], facts: &Facts) -> bool {
    networks.iter().any(|network| network.contains(&facts.address))
}

/// The person's own mode, else her route's, else the box's.
fn mode(facts: &Facts, settings: &AccessSettings, person: Option<&Person>) -> Mode {
    let of_route = || {
        let route = settings
            .routes
            .iter()
            .find(|route| route.name == *facts.admission.route);
        route.and_then(|route| route.mode)
    };
    person
        .and_then(|person| person.mode)
        .or_else(of_route)
        .unwrap_or(settings.mode)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::people::{LoginForm, RouteSettings};
    use crate::auth::{Admission, CountingSettings, PaceSettings};
    use crate::reason::Protocol;
    use crate::store::records::{Device, DeviceId, FactorId, PersonId, SlowHashCost, Tag, UnixTime};
    use std::time::{Duration, Instant};

    struct World {
        facts: Facts,
        settings: AccessSettings,
        person: Option<Person>,
        devices: Option<Devices>,
        clock_known: bool,
    }

    const NOW: u64 = 1_000_000;

    fn world(person: Option<PersonId>, device: Option<DeviceId>, reason: Reason) -> World {
        let network = "192.0.2.0/24".parse().unwrap();
        let id = PersonId([1; 8]);
        World {
            facts: Facts {
                admission: Admission {
                    person,
                    account: "alice@example.org".into(),
                    route: "main".into(),
                    device,
                    factor: None,
                    reason,
                    enforcing_would: None,
                },
                protocol: Protocol::Imap,
                address: "192.0.2.1".parse().unwrap(),
                listener: "imaps".into(),
                since: UnixTime(NOW),
            },
            settings: AccessSettings {
                mode: Mode::Enforcing,
                default_domain: None,
                routes: vec![RouteSettings {
                    name: "main".into(),
                    domains: vec!["*".into()],
                    upstreams: vec!["dovecot".into()],
                    login: LoginForm::Address,
                    mode: None,
                }],
                denied: Vec::new(),
                trusted: Vec::new(),
                decoys: Vec::new(),
                max_devices: 10,
                device_idle: None,
                counting: counting(),
                pace: PaceSettings {
                    floor: Duration::ZERO,
                    ceiling: Duration::ZERO,
                },
            },
            person: person.map(|_| Person {
                id,
                login: "alice@example.org".into(),
                aliases: Vec::new(),
                mode: None,
                grace_until: None,
                suspended: false,
                created: UnixTime(0),
            }),
            devices: Some(Devices {
                cost: SlowHashCost {
                    salt: [0; 16],
                    memory_kib: 0,
                    passes: 0,
                },
                devices: vec![Device {
                    id: DeviceId([2; 8]),
                    tag: Tag([0; 32]),
                    password_len: 8,
                    client_hint: None,
                    first_protocol: Protocol::Imap,
                    created: UnixTime(0),
                    first_network: network,
                    factor: FactorId([3; 8]),
                }],
                tombstones: Vec::new(),
            }),
            clock_known: true,
        }
    }

    fn counting() -> CountingSettings {
        CountingSettings {
            window: Duration::ZERO,
            per_person: 0,
            per_network: 0,
            familiar_factor: 0,
            familiar_for: Duration::ZERO,
            blocks: [Duration::ZERO; 3],
            misses_a_day: 0,
            misses_a_month: 0,
            unverified_a_day: 0,
            unverified_a_month: 0,
        }
    }

    #[test]
    fn a_session_stands_as_long_as_its_sign_in_would() {
        let alice = Some(PersonId([1; 8]));
        let check = |mut world: World, change: fn(&mut World), expected: Result<(), Reason>| {
            change(&mut world);
            let now = crate::auth::Now {
                clock_steady: true,
                mono: Instant::now(),
                unix: UnixTime(NOW),
                clock_known: world.clock_known,
            };
            let World {
                facts,
                settings,
                person,
                devices,
                ..
            } = &world;
            assert_eq!(
                super::check(facts, settings, person.as_ref(), devices.as_ref(), now),
                expected
            );
        };

        let device = || world(alice, Some(DeviceId([2; 8])), Reason::KnownDevice);
        check(device(), |_| {}, Ok(()));
        check(device(), |w| w.settings.mode = Mode::Learning, Ok(()));
        check(device(), |w| w.devices = None, Err(Reason::Revoked));
        check(
            device(),
            |w| w.devices.as_mut().unwrap().devices.clear(),
            Err(Reason::Revoked),
        );
        check(device(), |w| w.person = None, Err(Reason::UnknownPerson));
        check(
            device(),
            |w| w.person.as_mut().unwrap().suspended = true,
            Err(Reason::Suspended),
        );
        check(
            device(),
            |w| w.settings.denied = vec!["192.0.2.1/32".parse().unwrap()],
            Err(Reason::DeniedNetwork),
        );

        let by_password = || world(alice, None, Reason::Learning);
        check(by_password(), |_| {}, Err(Reason::NoCode));
        check(by_password(), |w| w.settings.mode = Mode::Learning, Ok(()));
        check(
            by_password(),
            |w| w.settings.routes[0].mode = Some(Mode::Learning),
            Ok(()),
        );
        check(
            by_password(),
            |w| w.person.as_mut().unwrap().mode = Some(Mode::Learning),
            Ok(()),
        );
        check(
            by_password(),
            |w| {
                w.settings.mode = Mode::Learning;
                w.person.as_mut().unwrap().mode = Some(Mode::Enforcing);
            },
            Err(Reason::NoCode),
        );
        check(
            by_password(),
            |w| w.settings.trusted = vec!["192.0.2.0/24".parse().unwrap()],
            Ok(()),
        );
        check(
            by_password(),
            |w| w.settings.trusted = vec!["198.51.100.0/24".parse().unwrap()],
            Err(Reason::NoCode),
        );
        check(
            by_password(),
            |w| w.person.as_mut().unwrap().grace_until = Some(UnixTime(NOW + 1)),
            Ok(()),
        );
        check(
            by_password(),
            |w| w.person.as_mut().unwrap().grace_until = Some(UnixTime(NOW)),
            Err(Reason::NoCode),
        );
        check(
            by_password(),
            |w| {
                w.person.as_mut().unwrap().grace_until = Some(UnixTime(NOW));
                w.clock_known = false;
            },
            Ok(()),
        );

        let nobody = || world(None, None, Reason::Learning);
        check(nobody(), |w| w.settings.mode = Mode::Learning, Ok(()));
        check(nobody(), |_| {}, Err(Reason::UnknownPerson));
    }
}
