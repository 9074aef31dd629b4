//! Places for connections that have not signed in: how many there may be, and who goes when one more comes.
//!
//! The newest always comes in, and the oldest makes room for it (P92). Turning the newest away would let a few silent
//! addresses keep everybody out for as long as they like. Who goes is chosen so that an attacker evicts himself: from the
//! network that holds the most, and there first who has asked for nothing, then whose sign-in is being decided here.
//! Who has come as far as the upstream is left alone, unless half of the places are like that: nobody gets there without a
//! right code or a known device, except while learning.
//!
//! Everything is found by order, nothing is searched: a place costs O(log n) under the lock.

use super::ListenLimits;
use super::seldom::Seldom;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::Notify;

/// Places over all networks and per network (P88, P92). Clones share them.
#[derive(Clone)]
pub struct Places(Arc<Shared>);

struct Shared {
    most: usize,
    most_per_network: usize,
    taken: Mutex<Taken>,
    evictions: Seldom,
}

#[derive(Default)]
struct Taken {
    /// Places that are held.
    all: usize,
    /// Those of them that are [`Standing::Proving`].
    proving: usize,
    /// Connections that lost their place and have not closed yet.
    leaving: usize,
    arrivals: u64,
    /// Holds only networks with places, so it is never longer than `all`.
    networks: HashMap<IpAddr, Network>,
    /// The network that has to give up a place first is the last.
    fullest: BTreeSet<Fullness>,
}

/// How many of a network's connections may have to go, then the age of the first of them.
type Fullness = (usize, Reverse<Member>, IpAddr);

/// A connection in the order in which a network's go.
type Member = (Standing, u64);

#[derive(Default)]
struct Network {
    members: BTreeMap<Member, Arc<Notify>>,
    proving: usize,
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It has asked for nothing yet, or waits for a refusal to leave.
    Silent,
    /// Its sign-in is being decided here.
    Deciding,
    /// Its sign-in is being decided by the upstream.
    Proving,
}

/// A place; dropping it, on whatever path, frees it.
pub struct Place {
    shared: Arc<Shared>,
    network: IpAddr,
    number: u64,
    evicted: Arc<Notify>,
}

impl Places {
    /// All places free.
    pub fn new(limits: &ListenLimits) -> Places {
        Places(Arc::new(Shared {
            most: limits.max_unauthenticated,
            most_per_network: limits.max_unauthenticated_per_network,
            taken: Mutex::default(),
            evictions: Seldom::default(),
        }))
    }

    /// Takes a place for a connection from `address`; if all are taken, or all of its network, another is evicted.
    pub fn take(&self, address: IpAddr, now: Instant) -> Place {
        let network = network_of(address);
        let evicted = Arc::new(Notify::new());
        let mut taken = self.0.taken();
        let victim = taken.make_room(network, &self.0);
        taken.arrivals += 1;
        let number = taken.arrivals;
        taken.insert(network, (Standing::Silent, number), Arc::clone(&evicted));
        drop(taken);
        if let Some(victim) = victim {
            self.0.report(victim, now);
        }
        Place {
            shared: Arc::clone(&self.0),
            network,
            number,
            evicted,
        }
    }
}

impl Place {
    /// Waits until the place is given to another: then the connection is to say goodbye and close.
    pub async fn evicted(&self) {
        self.evicted.notified().await;
    }

    /// Whether so many are saying goodbye already that this one should not wait for its peer to hear it. Bounds what lies
    /// beyond the places to as many again.
    pub fn is_goodbye_short(&self) -> bool {
        self.shared.taken().leaving > self.shared.most
    }

    /// Notes how far the connection has come.
    pub fn stand(&self, standing: Standing) {
        let shared = &*self.shared;
        let mut taken = shared.taken();
        let Some(evicted) = taken.remove(self.network, self.number) else {
            return; // It is another's by now.
        };
        let here = taken
            .networks
            .get(&self.network)
            .map_or(0, |network| network.proving);
        let may_prove = taken.proving < shared.most / 2 && here < shared.most_per_network / 2;
        let standing = match standing {
            Standing::Proving if !may_prove => Standing::Deciding,
            standing => standing,
        };
        taken.insert(self.network, (standing, self.number), evicted);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.shared.taken();
        if taken.remove(self.network, self.number).is_none() {
            taken.leaving -= 1;
        }
    }
}

/// Who had to go, for the log.
#[derive(Clone, Copy)]
enum Victim {
    /// All places were taken.
    Everywhere(IpAddr),
    /// All of this network were.
    Network(IpAddr),
}

impl Shared {
    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&self, victim: Victim, now: Instant) {
        let Some(evicted) = self.evictions.happened(now) else {
            return;
        };
        match victim {
            Victim::Everywhere(network) => {
                let most = self.most;
                log::warn!(event = "places-full", evicted = evicted, network:% = network;
                    "all {most} places for connections that have not signed in are taken; the oldest of the fullest network \
                     make room; if these are your own people, raise `connections` in [limits]");
            }
            Victim::Network(network) => {
                let most = self.most_per_network;
                log::warn!(event = "places-full", evicted = evicted, network:% = network;
                    "this network has {most} connections that have not signed in; its oldest make room; if many people share \
                     the address, raise `connections_per_network` in [limits]");
            }
        }
    }
}

impl Taken {
    /// Evicts one connection where one more would be too many.
    fn make_room(&mut self, network: IpAddr, limits: &Shared) -> Option<Victim> {
        let here = self
            .networks
            .get(&network)
            .map_or(0, |network| network.members.len());
        if here >= limits.most_per_network {
            self.evict_from(network);
            Some(Victim::Network(network))
        } else if self.all >= limits.most {
            let fullest = self.fullest.last().map(|(_, _, network)| *network)?;
            self.evict_from(fullest);
            Some(Victim::Everywhere(fullest))
        } else {
            None
        }
    }

    fn evict_from(&mut self, network: IpAddr) {
        let first = self
            .networks
            .get(&network)
            .and_then(Network::first)
            .map(|(_, number)| number);
        if let Some(evicted) = first.and_then(|number| self.remove(network, number)) {
            self.leaving += 1;
            evicted.notify_one();
        }
    }

    /// Takes a connection out, unless it was evicted before.
    fn remove(&mut self, network: IpAddr, number: u64) -> Option<Arc<Notify>> {
        let (standing, evicted) = self.change(network, |network| network.remove(number))?;
        self.all -= 1;
        self.proving -= usize::from(standing == Standing::Proving);
        Some(evicted)
    }

    fn insert(&mut self, network: IpAddr, member: Member, evicted: Arc<Notify>) {
        self.all += 1;
        self.proving += usize::from(member.0 == Standing::Proving);
        self.change(network, |network| network.insert(member, evicted));
    }

    /// Changes a network and keeps it where it belongs in the order of the fullest.
    fn change<T>(&mut self, address: IpAddr, change: impl FnOnce(&mut Network) -> T) -> T {
        let network = self.networks.entry(address).or_default();
        if let Some(fullness) = network.fullness(address) {
            self.fullest.remove(&fullness);
        }
        let changed = change(network);
        if let Some(fullness) = network.fullness(address) {
            self.fullest.insert(fullness);
        }
        if network.members.is_empty() {
            self.networks.remove(&address);
        }
        changed
    }
}

impl Network {
    /// Who goes first, if anybody may have to.
    fn first(&self) -> Option<Member> {
        let first = self.members.first_key_value().map(|(member, _)| *member);
        first.filter(|(standing, _)| *standing != Standing::Proving)
    }

    fn fullness(&self, address: IpAddr) -> Option<Fullness> {
        let first = self.first()?;
        Some((self.members.len() - self.proving, Reverse(first), address))
    }

    fn insert(&mut self, member: Member, evicted: Arc<Notify>) {
        self.proving += usize::from(member.0 == Standing::Proving);
        self.members.insert(member, evicted);
    }

    fn remove(&mut self, number: u64) -> Option<(Standing, Arc<Notify>)> {
        let standings = [Standing::Silent, Standing::Deciding, Standing::Proving];
        let found = standings.into_iter().find_map(|standing| {
            let evicted = self.members.remove(&(standing, number))?;
            Some((standing, evicted))
        })?;
        self.proving -= usize::from(found.0 == Standing::Proving);
        Some(found)
    }
}

/// The network that is counted: the IPv4 address itself, the /64 of an IPv6 address (a household has at least that).
pub fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn places(most: usize, most_per_network: usize) -> Places {
        Places::new(&ListenLimits {
            max_unauthenticated: most,
            max_unauthenticated_per_network: most_per_network,
            login_deadline: Duration::from_secs(60),
            idle: Duration::from_secs(1860),
        })
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// Places taken one after the other.
    struct Row {
        places: Places,
        held: Vec<(&'static str, Place)>,
    }

    impl Row {
        fn new(most: usize, most_per_network: usize) -> Row {
            Row {
                places: places(most, most_per_network),
                held: Vec::new(),
            }
        }

        fn take(&mut self, name: &'static str, address: &str) -> &Place {
            let place = self.places.take(ip(address), Instant::now());
            self.held.push((name, place));
            &self.held.last().unwrap().1
        }

        /// Who was evicted since this was asked last; they close.
        fn evicted(&mut self) -> Vec<&'static str> {
            let told = |place: &Place| {
                let mut told = std::pin::pin!(place.evicted());
                let mut context = std::task::Context::from_waker(std::task::Waker::noop());
                told.as_mut().poll(&mut context).is_ready()
            };
            let (gone, held) = std::mem::take(&mut self.held)
                .into_iter()
                .partition(|(_, place)| told(place));
            self.held = held;
            let gone: Vec<_> = gone;
            gone.iter().map(|(name, _)| *name).collect()
        }

        fn counts(&self) -> (usize, usize, usize) {
            let taken = self.places.0.taken();
            assert_eq!(
                taken.all,
                taken.networks.values().map(|n| n.members.len()).sum::<usize>()
            );
            assert_eq!(
                taken.proving,
                taken.networks.values().map(|n| n.proving).sum::<usize>()
            );
            (taken.all, taken.networks.len(), taken.leaving)
        }
    }

    #[test]
    fn a_network_that_is_full_evicts_its_own_oldest() {
        let mut row = Row::new(10, 2);
        row.take("office", "192.0.2.1");
        row.take("first", "192.0.2.2");
        row.take("second", "::ffff:192.0.2.2");
        assert_eq!(row.evicted(), [""; 0]);
        row.take("third", "192.0.2.2");
        assert_eq!(row.counts(), (3, 2, 1));
        assert_eq!(row.evicted(), ["first"]);
        assert_eq!(row.counts(), (3, 2, 0), "who has closed is forgotten");
        row.held.clear();
        assert_eq!(row.counts(), (0, 0, 0));
        assert!(row.places.0.taken().fullest.is_empty());
    }

    #[test]
    fn when_all_is_full_the_fullest_network_gives_up_its_oldest() {
        let mut row = Row::new(4, 4);
        row.take("office", "192.0.2.1");
        row.take("a", "192.0.2.2");
        row.take("b", "192.0.2.2");
        row.take("c", "192.0.2.2");
        row.take("new", "192.0.2.3");
        assert_eq!(row.evicted(), ["a"]);
        row.take("newer", "192.0.2.4");
        assert_eq!(row.evicted(), ["b"]);
        row.take("newest", "192.0.2.5");
        assert_eq!(row.evicted(), ["office"], "among equals the oldest of all");
    }

    #[test]
    fn who_has_asked_for_something_goes_later_and_who_is_at_the_upstream_not_at_all() {
        let mut row = Row::new(100, 4);
        row.take("proving", "192.0.2.1").stand(Standing::Proving);
        row.take("deciding", "192.0.2.1").stand(Standing::Deciding);
        row.take("refused", "192.0.2.1").stand(Standing::Deciding);
        row.held[2].1.stand(Standing::Silent);
        row.take("silent", "192.0.2.1");
        for (name, gone) in [("one", "refused"), ("two", "silent")] {
            row.take(name, "192.0.2.1").stand(Standing::Deciding);
            assert_eq!(row.evicted(), [gone]);
        }
        row.take("three", "192.0.2.1");
        assert_eq!(row.evicted(), ["deciding"]);
        row.held[0].1.stand(Standing::Silent);
        row.take("four", "192.0.2.1");
        assert_eq!(row.evicted(), ["proving"]);
    }

    #[test]
    fn at_most_half_are_left_alone() {
        let mut row = Row::new(8, 4);
        for name in ["a", "b", "c", "d"] {
            row.take(name, "192.0.2.1").stand(Standing::Proving);
        }
        row.take("e", "192.0.2.1");
        assert_eq!(row.evicted(), ["c"], "of one network");
        for (index, address) in ["192.0.2.2", "192.0.2.3", "192.0.2.4"].iter().enumerate() {
            row.take(["f", "g", "h"][index], address).stand(Standing::Proving);
        }
        assert_eq!(row.places.0.taken().proving, 4, "of all");
    }

    #[test]
    fn an_evicted_connection_cannot_take_its_place_back() {
        let mut row = Row::new(1, 1);
        row.take("first", "192.0.2.1");
        row.take("second", "192.0.2.1");
        row.held[0].1.stand(Standing::Proving);
        assert_eq!(row.counts(), (1, 1, 1));
        assert_eq!(row.evicted(), ["first"]);
        assert_eq!(row.counts(), (1, 1, 0));
    }

    #[test]
    fn goodbyes_become_short_when_as_many_leave_as_there_are_places() {
        let mut row = Row::new(2, 2);
        for name in ["a", "b", "c", "d", "e"] {
            row.take(name, "192.0.2.1");
            assert_eq!(row.held[0].1.is_goodbye_short(), name == "e");
        }
    }

    #[test]
    fn a_place_is_freed_when_its_task_panics() {
        let row = Row::new(1, 1);
        let place = row.places.take(ip("192.0.2.1"), Instant::now());
        let panicked = std::thread::spawn(move || {
            let _place = place;
            panic!("a connection's task dies");
        });
        assert!(panicked.join().is_err());
        assert_eq!(row.counts(), (0, 0, 0));
    }

    #[test]
    fn networks() {
        for (address, network) in [
            ("192.0.2.77", "192.0.2.77"),
            ("::ffff:192.0.2.77", "192.0.2.77"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("2001:db8:1:2:ffff::", "2001:db8:1:2::"),
            ("2001:db8:1:3::1", "2001:db8:1:3::"),
        ] {
            assert_eq!(network_of(ip(address)), ip(network), "{address}");
        }
    }
}
