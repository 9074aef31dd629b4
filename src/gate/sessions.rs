//! The registry of live sessions: who is signed in, how to end it.
//!
//! ```text
//!   Gate::sign_in ── register ──▶ Sessions ◀── cut ── watch, administrator, shutdown
//!         │                          ▲
//!         ▼                          │ drop removes it
//!   SessionHandle ──▶ front, then relay
//! ```
//! About 700 bytes a session, its channel included.

use crate::auth::Admission;
use crate::reason::Protocol;
use crate::store::records::{DeviceId, PersonId, UnixTime};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// The live sessions of this gateway. Clones share one registry.
#[derive(Clone, Debug, Default)]
pub struct Sessions(Arc<Registry>);

#[derive(Debug, Default)]
struct Registry {
    live: Mutex<HashMap<u64, Arc<Live>>>,
    last_id: AtomicU64,
    /// Whoever registers from now on is told to drain at once.
    draining: AtomicBool,
}

/// What a session is told from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cut {
    /// The gateway is shutting down: end at the next good moment. [`Cut::Cut`] may follow.
    Drain,
    /// End now: an administrator, a revoked device, a suspended person or a changed mode.
    Cut,
}

/// Bytes that went through a session, for whoever looks while it lives.
#[derive(Debug, Default)]
pub struct Traffic {
    /// From client to upstream.
    pub up: AtomicU64,
    /// From upstream to client.
    pub down: AtomicU64,
}

/// Facts of a session that do not change.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Who was let in, as what.
    pub admission: Admission,
    /// By which protocol.
    pub protocol: Protocol,
    /// The client's own address.
    pub address: IpAddr,
    /// The listener's name.
    pub listener: Arc<str>,
    /// Since when.
    pub since: UnixTime,
}

/// A session as a list shows it.
#[derive(Clone, Debug)]
pub struct SessionView {
    /// Its number; never used twice while the gateway runs.
    pub id: u64,
    /// What does not change.
    pub facts: Facts,
    /// Bytes from client to upstream so far.
    pub up: u64,
    /// Bytes from upstream to client so far.
    pub down: u64,
}

/// Which sessions to cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selector {
    /// The one with this number.
    Session(u64),
    /// All of this person.
    Person(PersonId),
    /// All of this device.
    Device(DeviceId),
    /// All there are.
    All,
}

impl Selector {
    fn takes(self, live: &Live) -> bool {
        match self {
            Selector::Session(id) => live.id == id,
            Selector::Person(person) => live.facts.admission.person == Some(person),
            Selector::Device(device) => live.facts.admission.device == Some(device),
            Selector::All => true,
        }
    }
}

#[derive(Debug)]
struct Live {
    id: u64,
    facts: Facts,
    cut: watch::Sender<Option<Cut>>,
    traffic: Traffic,
}

impl Live {
    /// Whether that told it anything new. A drain never softens a cut.
    fn tell(&self, told: Cut) -> bool {
        self.cut.send_if_modified(|heard| {
            let new = match heard {
                None => true,
                Some(Cut::Drain) => told == Cut::Cut,
                Some(Cut::Cut) => false,
            };
            if new {
                *heard = Some(told);
            }
            new
        })
    }

    fn view(&self) -> SessionView {
        SessionView {
            id: self.id,
            facts: self.facts.clone(),
            up: self.traffic.up.load(Ordering::Relaxed),
            down: self.traffic.down.load(Ordering::Relaxed),
        }
    }
}

impl Sessions {
    /// Adds a session, until the handle is dropped.
    pub fn register(&self, facts: Facts) -> SessionHandle {
        let id = self.0.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let live = Arc::new(Live {
            id,
            facts,
            cut: watch::Sender::new(None),
            traffic: Traffic::default(),
        });
        let mut registered = self.live();
        if self.0.draining.load(Ordering::Relaxed) {
            live.tell(Cut::Drain);
        }
        registered.insert(id, live.clone());
        drop(registered);
        SessionHandle {
            live,
            sessions: self.clone(),
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.live().len()
    }

    /// All of them, the oldest first.
    pub fn list(&self) -> Vec<SessionView> {
        let mut views: Vec<SessionView> = self.live().values().map(|live| live.view()).collect();
        views.sort_by_key(|view| view.id);
        views
    }

    /// Cuts sessions; returns how many were told so and had not been before.
    pub fn cut(&self, which: Selector) -> usize {
        self.tell(Cut::Cut, |live| which.takes(live))
    }

    /// Asks every session to end at its next good moment, also those whose sign-in is still under way; returns how many
    /// were told.
    pub fn drain(&self) -> usize {
        // Before the registry is taken: whoever registers after that sees it, whoever did before is told.
        self.0.draining.store(true, Ordering::Relaxed);
        self.tell(Cut::Drain, |_| true)
    }

    /// Cuts those for whose facts `falls` is true; returns how many.
    pub(super) fn cut_if(&self, mut falls: impl FnMut(&Facts) -> bool) -> usize {
        self.tell(Cut::Cut, |live| falls(&live.facts))
    }

    /// Everybody who is signed in, each once.
    pub(super) fn people(&self) -> Vec<PersonId> {
        let mut people: Vec<PersonId> = self
            .live()
            .values()
            .filter_map(|live| live.facts.admission.person)
            .collect();
        people.sort_unstable();
        people.dedup();
        people
    }

    /// Sessions are told while the registry is held: the channels never wait, and no handle can slip out between.
    fn tell(&self, told: Cut, mut takes: impl FnMut(&Live) -> bool) -> usize {
        let live = self.live();
        live.values()
            .filter(|live| takes(live))
            .filter(|live| live.tell(told))
            .count()
    }

    fn live(&self) -> MutexGuard<'_, HashMap<u64, Arc<Live>>> {
        // No write of it is ever half done.
        self.0.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A live session; dropping it takes the session off the registry.
#[derive(Debug)]
#[must_use = "a session that is not on the registry cannot be cut"]
pub struct SessionHandle {
    live: Arc<Live>,
    sessions: Sessions,
}

impl SessionHandle {
    /// Its number.
    pub fn id(&self) -> u64 {
        self.live.id
    }

    /// What does not change.
    pub fn facts(&self) -> &Facts {
        &self.live.facts
    }

    /// Hears when the session must end. A cut that came before counts: look at the value first.
    pub fn cut(&self) -> watch::Receiver<Option<Cut>> {
        self.live.cut.subscribe()
    }

    /// To be counted up by whoever moves the bytes.
    pub fn traffic(&self) -> &Traffic {
        &self.live.traffic
    }
}

impl Drop for SessionHandle {
    fn drop(&mut self) {
        self.sessions.live().remove(&self.live.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reason::Reason;

    fn facts(person: u8, device: Option<u8>) -> Facts {
        Facts {
            admission: Admission {
                person: Some(PersonId([person; 8])),
                account: "alice@example.org".into(),
                route: "main".into(),
                device: device.map(|device| DeviceId([device; 8])),
                factor: None,
                reason: Reason::KnownDevice,
                enforcing_would: None,
            },
            protocol: Protocol::Imap,
            address: "192.0.2.1".parse().unwrap(),
            listener: "imaps".into(),
            since: UnixTime(1),
        }
    }

    #[test]
    fn a_handle_keeps_its_session_listed() {
        let sessions = Sessions::default();
        let first = sessions.register(facts(1, Some(1)));
        let second = sessions.register(facts(2, None));
        second.traffic().down.store(5, Ordering::Relaxed);
        let ids: Vec<u64> = sessions.list().iter().map(|view| view.id).collect();
        assert_eq!(ids, [first.id(), second.id()]);
        assert_eq!(sessions.list()[1].down, 5);
        assert_eq!(sessions.people(), [PersonId([1; 8]), PersonId([2; 8])]);
        drop(first);
        assert_eq!(sessions.count(), 1);
        let third = sessions.register(facts(1, Some(1)));
        assert!(third.id() > second.id(), "numbers are never used twice");
    }

    #[test]
    fn cuts_what_is_selected_and_counts_it() {
        let check = |which: fn(&[SessionHandle]) -> Selector, expected: [bool; 3]| {
            let sessions = Sessions::default();
            let handles =
                [facts(1, Some(1)), facts(1, Some(2)), facts(2, None)].map(|facts| sessions.register(facts));
            let count = sessions.cut(which(&handles));
            assert_eq!(
                handles
                    .each_ref()
                    .map(|handle| *handle.cut().borrow() == Some(Cut::Cut)),
                expected
            );
            assert_eq!(count, expected.iter().filter(|cut| **cut).count());
            assert_eq!(sessions.cut(which(&handles)), 0, "nobody is told twice");
        };
        check(|handles| Selector::Session(handles[1].id()), [false, true, false]);
        check(|_| Selector::Session(99), [false, false, false]);
        check(|_| Selector::Person(PersonId([1; 8])), [true, true, false]);
        check(|_| Selector::Device(DeviceId([1; 8])), [true, false, false]);
        check(|_| Selector::All, [true, true, true]);
    }

    #[test]
    fn a_cut_follows_a_drain_and_never_the_other_way() {
        let sessions = Sessions::default();
        let handle = sessions.register(facts(1, None));
        assert_eq!(sessions.drain(), 1);
        assert_eq!(*handle.cut().borrow(), Some(Cut::Drain));
        assert_eq!(sessions.cut(Selector::All), 1);
        assert_eq!(sessions.drain(), 0);
        assert_eq!(*handle.cut().borrow(), Some(Cut::Cut));
    }

    #[test]
    fn who_is_admitted_during_a_drain_is_told_so() {
        let sessions = Sessions::default();
        assert_eq!(sessions.drain(), 0);
        let late = sessions.register(facts(1, None));
        assert_eq!(*late.cut().borrow(), Some(Cut::Drain));
    }
}
