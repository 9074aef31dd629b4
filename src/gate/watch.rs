//! Follows the store's watch: what somebody changed, in whatever process, is forgotten here, and sessions that would now
//! be refused are cut.
//!
//! **Why no session slips through.** A change is first committed, then told. On hearing it this task (1) forgets the
//! cached records, (2) looks at every registered session. A sign-in (3) registers its session, then (4) judges it by the
//! records. If (3) comes before (2), the session is seen and cut here. If (3) comes after (2), then (4) comes after (1),
//! and finds no record older than the change: the cache has forgotten it and takes none from a read that began before.

use super::Inner;
use super::standing;
use crate::store::records::{Devices, Key, Person, PersonId, Record, SlowHashCost, Value};
use crate::store::{Change, StoreError, Watch};
use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::sleep;

/// Until a person is looked at again whose records could not be read.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// Follows until the gate is gone.
pub(super) async fn follow(gate: Weak<Inner>, mut watch: Watch, reloaded: Arc<Notify>) {
    let mut due: BTreeSet<PersonId> = BTreeSet::new();
    loop {
        tokio::select! {
            change = watch.next() => {
                let (Some(change), Some(gate)) = (change, gate.upgrade()) else { return };
                gate.hear(change, &mut due);
            }
            () = reloaded.notified() => {
                let Some(gate) = gate.upgrade() else { return };
                gate.judge_everybody(&mut due);
            }
            () = sleep(TRY_AGAIN), if !due.is_empty() => {}
        }
        let Some(gate) = gate.upgrade() else { return };
        for person in std::mem::take(&mut due) {
            if let Err(error) = gate.judge(person).await {
                log::error!(event = "judge-failed", person:% = person, error:% = error;
                    "a person's sessions cannot be judged; trying again");
                due.insert(person);
            }
        }
    }
}

impl Inner {
    fn hear(&self, change: Change, due: &mut BTreeSet<PersonId>) {
        match change {
            Change::Keys(keys) => {
                self.cache.changed(&keys);
                due.extend(keys.iter().filter_map(concerns));
            }
            Change::Lagged => {
                self.cache.forget_all();
                self.memory().forget_all();
                self.judge_everybody(due);
            }
        }
    }

    /// Everybody who is signed in is due; sessions of nobody need no record and are judged at once.
    fn judge_everybody(&self, due: &mut BTreeSet<PersonId>) {
        due.extend(self.sessions.people());
        let (settings, now) = (self.settings.load(), self.now());
        self.sessions.cut_if(|facts| {
            facts.admission.person.is_none() && standing::check(facts, &settings, None, None, now).is_err()
        });
    }

    /// Tells the memory what became of a person, and cuts those of her sessions that would now be refused.
    async fn judge(&self, id: PersonId) -> Result<(), StoreError> {
        let (person, devices) = self.person(id).await?;
        let no_devices = Devices {
            cost: SlowHashCost {
                salt: [0; 16],
                memory_kib: 0,
                passes: 0,
            },
            devices: Vec::new(),
            tombstones: Vec::new(),
        };
        let known = person.is_some().then(|| devices.as_ref().unwrap_or(&no_devices));
        self.memory().person_changed(id, known);
        let (settings, now) = (self.settings.load(), self.now());
        let cut = self.sessions.cut_if(|facts| {
            facts.admission.person == Some(id)
                && standing::check(facts, &settings, person.as_ref(), devices.as_ref(), now).is_err()
        });
        if cut > 0 {
            log::info!(event = "sessions-cut", person:% = id, count = cut; "sessions cut, they would now be refused");
        }
        Ok(())
    }

    /// Who somebody is now, and which devices she has.
    pub(super) async fn person(&self, id: PersonId) -> Result<(Option<Person>, Option<Devices>), StoreError> {
        let records = self.load(vec![Key::Person(id), Key::Devices(id)]).await?;
        let mut values = records
            .into_iter()
            .map(|record: Option<Record>| record.map(|record| record.value));
        let person = match values.next().flatten() {
            Some(Value::Person(person)) => Some(person),
            _ => None,
        };
        let devices = match values.next().flatten() {
            Some(Value::Devices(devices)) => Some(devices),
            _ => None,
        };
        Ok((person, devices))
    }
}

/// Whose sessions, and whose refusals, a change may decide otherwise.
fn concerns(key: &Key) -> Option<PersonId> {
    match key {
        Key::Person(person) | Key::Factors(person) | Key::Devices(person) => Some(*person),
        Key::Meta
        | Key::Login(_)
        | Key::DeviceUse(..)
        | Key::Claim(..)
        | Key::Budget(_)
        | Key::GoodNetworks(_)
        | Key::Block(_)
        | Key::SignIn(..) => None,
    }
}
