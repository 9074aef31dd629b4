//! Single flight: of several attempts with one literal at once, one goes on and the others wait for its decision.
//!
//! A mail program opens two to eight connections at once, all with the literal that was typed just now. The first, the
//! *leader*, hashes, claims and proves; its *followers* learn the decision only, never anything of its session. This saves
//! work and nothing else: what makes a code safe against reuse is its claim.
//!
//! A leader that vanishes, wherever it was, hands over to its oldest follower. The lead is a value that travels: whoever
//! drops it undecided, even a channel to a follower that has just gone, passes it on.

use crate::reason::Refusal;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// Names a flight: person, literal and route, under a key made at start.
pub(super) type FlightKey = [u8; 32];

/// The flights in the air. Bounded by the attempts that are under way.
#[derive(Debug, Default)]
pub(super) struct Flights(Mutex<HashMap<FlightKey, VecDeque<oneshot::Sender<Told>>>>);

/// Attempts that may wait for one leader: twice what the most eager mail program opens.
pub(super) const MAX_FOLLOWERS: usize = 16;

/// An attempt's place.
#[derive(Debug)]
pub(super) enum Joined {
    /// Nobody else: go on, and decide for those who come.
    Lead(Lead),
    /// Somebody is ahead: wait.
    Follow(oneshot::Receiver<Told>),
    /// Too many wait already.
    Full,
}

/// What a follower hears.
#[derive(Debug)]
pub(super) enum Told {
    /// The leader was let in: begin again, as the device that it made.
    Admitted,
    /// The leader was refused, and so are you.
    Refused(Refusal),
    /// The leader vanished: begin again, and lead.
    Lead(Lead),
}

impl Flights {
    /// Takes a place in the flight of this name.
    pub(super) fn join(self: &Arc<Self>, key: FlightKey) -> Joined {
        let mut flights = self.flights();
        let Some(followers) = flights.get_mut(&key) else {
            flights.insert(key, VecDeque::new());
            return Joined::Lead(Lead {
                flights: self.clone(),
                key: Some(key),
            });
        };
        if followers.len() >= MAX_FOLLOWERS {
            followers.retain(|follower| !follower.is_closed());
        }
        if followers.len() >= MAX_FOLLOWERS {
            return Joined::Full;
        }
        let (told, hear) = oneshot::channel();
        followers.push_back(told);
        Joined::Follow(hear)
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<FlightKey, VecDeque<oneshot::Sender<Told>>>> {
        // No write of it is ever half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right, and the duty, to decide a flight. Dropped undecided it goes to the oldest follower.
#[derive(Debug)]
pub(super) struct Lead {
    flights: Arc<Flights>,
    /// `None` once it is decided or handed over.
    key: Option<FlightKey>,
}

impl Lead {
    /// Ends the flight: tells every follower that the leader was let in.
    pub(super) fn admitted(self) {
        self.decide(|| Told::Admitted);
    }

    /// Ends the flight: refuses every follower as the leader was refused.
    pub(super) fn refused(self, refusal: Refusal) {
        self.decide(|| Told::Refused(refusal));
    }

    fn decide(mut self, told: impl Fn() -> Told) {
        let followers = self
            .key
            .take()
            .and_then(|key| self.flights.flights().remove(&key));
        for follower in followers.into_iter().flatten() {
            // One that is gone needs no word.
            let _ = follower.send(told());
        }
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        let Some(key) = self.key.take() else { return };
        loop {
            // The flight stays in the table while it is handed over, so that newcomers follow.
            let mut flights = self.flights.flights();
            let Some(next) = flights.get_mut(&key).and_then(VecDeque::pop_front) else {
                flights.remove(&key);
                return;
            };
            drop(flights);
            let lead = Lead {
                flights: self.flights.clone(),
                key: Some(key),
            };
            match next.send(Told::Lead(lead)) {
                Ok(()) => return,
                // Gone: this very loop goes on to the next, not the drop of the lead that came back.
                Err(Told::Lead(mut lead)) => lead.key = None,
                Err(_) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reason::Reason;

    const KEY: FlightKey = [1; 32];

    fn lead(flights: &Arc<Flights>) -> Lead {
        match flights.join(KEY) {
            Joined::Lead(lead) => lead,
            other => panic!("{other:?}"),
        }
    }

    fn follow(flights: &Arc<Flights>) -> oneshot::Receiver<Told> {
        match flights.join(KEY) {
            Joined::Follow(hear) => hear,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_follower_hears_the_decision_and_the_next_attempt_leads() {
        let flights = Arc::new(Flights::default());
        let first = lead(&flights);
        let mut followers = [follow(&flights), follow(&flights)];
        assert!(followers[0].try_recv().is_err());
        first.refused(Refusal::unproven(Reason::WrongCode));
        for follower in &mut followers {
            assert!(
                matches!(follower.try_recv(), Ok(Told::Refused(refusal)) if refusal.reason == Reason::WrongCode)
            );
        }
        let second = lead(&flights);
        let mut follower = follow(&flights);
        second.admitted();
        assert!(matches!(follower.try_recv(), Ok(Told::Admitted)));
        assert!(flights.flights().is_empty());
    }

    #[test]
    fn another_name_is_another_flight() {
        let flights = Arc::new(Flights::default());
        let _lead = lead(&flights);
        assert!(matches!(flights.join([2; 32]), Joined::Lead(_)));
    }

    #[test]
    fn a_vanished_leader_hands_over_to_the_oldest_who_is_still_there() {
        let flights = Arc::new(Flights::default());
        let leader = lead(&flights);
        let gone = follow(&flights);
        let mut oldest = follow(&flights);
        let mut youngest = follow(&flights);
        drop(gone);
        drop(leader);
        let Ok(Told::Lead(lead)) = oldest.try_recv() else {
            panic!("the oldest leads")
        };
        assert!(youngest.try_recv().is_err());
        let mut newcomer = follow(&flights);
        lead.admitted();
        for hear in [&mut youngest, &mut newcomer] {
            assert!(matches!(hear.try_recv(), Ok(Told::Admitted)));
        }
    }

    #[test]
    fn a_lead_that_was_sent_but_never_taken_goes_on_to_the_next() {
        let flights = Arc::new(Flights::default());
        let leader = lead(&flights);
        let [first, mut second] = [follow(&flights), follow(&flights)];
        drop(leader);
        // The lead lies in the first one's channel. Its connection goes before it looks.
        assert!(second.try_recv().is_err());
        drop(first);
        let Ok(Told::Lead(last)) = second.try_recv() else {
            panic!("the second leads")
        };
        drop(last);
        assert!(flights.flights().is_empty());
    }

    #[test]
    fn no_more_than_sixteen_wait_and_those_who_left_make_room() {
        let flights = Arc::new(Flights::default());
        let _leader = lead(&flights);
        let mut followers: Vec<_> = (0..MAX_FOLLOWERS).map(|_| follow(&flights)).collect();
        assert!(matches!(flights.join(KEY), Joined::Full));
        followers.pop();
        assert!(matches!(flights.join(KEY), Joined::Follow(_)));
    }
}
