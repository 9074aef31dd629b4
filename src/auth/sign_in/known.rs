//! The literal is a remembered device's.

use super::facts::{pick_use, read, unchanged};
use super::{SignIn, Waiting, refused};
use crate::auth::memory::Print;
use crate::auth::{Need, Next, Proof, Verdict, World, device, throttle};
use crate::reason::{Reason, Refusal, Rejection};
use crate::store::records::{
    Batch, Budget, Death, Device, DeviceId, DeviceUse, Durability, Expect, Key, Mode, Outcome, Record, Tag,
    Value,
};

/// A known device on trial.
#[derive(Debug)]
pub(super) struct Known {
    device: Device,
    used: DeviceUse,
    pub(super) password: Print,
    /// In learning mode: what enforcing would have said instead of letting it in.
    would: Option<Reason>,
}

impl SignIn {
    /// Goes on with a device that the literal belongs to.
    pub(super) fn known(mut self, device: DeviceId, world: &mut World<'_>) -> Next {
        match self.case.facts.device_use.take() {
            Some(used) => self.known_used(device, Some(used), world),
            None => {
                let keys = self.case.person.map(|person| Key::DeviceUse(person, device));
                self.need(Waiting::DeviceUse(device), Need::Load(keys.into_iter().collect()))
            }
        }
    }

    pub(super) fn use_loaded(
        self,
        device: DeviceId,
        records: Vec<Option<Record>>,
        world: &mut World<'_>,
    ) -> Next {
        let used = read(records.into_iter().next(), pick_use).map(|read| read.value);
        self.known_used(device, used, world)
    }

    fn known_used(self, device: DeviceId, used: Option<DeviceUse>, world: &mut World<'_>) -> Next {
        let devices = self.case.facts.devices.as_ref().map(|read| &read.value);
        let held = devices.and_then(|devices| devices.devices.iter().find(|held| held.id == device));
        let (Some(person), Some(device)) = (self.case.person, held.cloned()) else {
            return refused(Refusal::unproven(Reason::StoreUnavailable));
        };
        let used = used.unwrap_or_else(|| device::first_use(&device));
        if device::has_expired(&device, &used, world.settings.device_idle, world.now) {
            return self.expire(&device, world);
        }
        // A spent budget makes strangers of known devices in new places; they must not even hear that they are known.
        let barred = self.case.facts.budget().is_some_and(|budget| {
            budget.spent.is_some() && !device::matches_under(budget, &device, &used, self.case.network)
        });
        let learning = self.case.mode(world.settings) == Mode::Learning;
        if barred && !learning {
            return self.refuse(super::Ending::counted(Reason::BudgetSpent), world);
        }
        if self.case.facts.suspended() {
            return refused(Refusal::proven(Reason::Suspended));
        }
        let password_len = device.password_len as usize;
        let password = world
            .memory
            .password_print(person, self.case.password(password_len));
        if let Err(left) = world.memory.may_ask(person, password, world.now.mono) {
            let mut refusal = Refusal::proven(Reason::KnownDeviceWaits);
            refusal.retry_after = Some(left);
            return refused(refusal);
        }
        let trial = self.case.trial(password_len, Some(device.id));
        let known = Box::new(Known {
            device,
            used,
            password,
            would: (barred && learning).then_some(Reason::BudgetSpent),
        });
        self.prove(trial, Waiting::KnownProof(known), world)
    }

    /// An idle device becomes a tombstone, so that its literal is dead for good.
    fn expire(self, device: &Device, world: &mut World<'_>) -> Next {
        let (Some(person), Some(read)) = (self.case.person, &self.case.facts.devices) else {
            return refused(Refusal::unproven(Reason::StoreUnavailable));
        };
        let mut devices = read.value.clone();
        device::bury(&mut devices, device.id, Death::Expired, world.now.unix);
        let batch = Batch::default()
            .put(
                Key::Devices(person),
                unchanged(Some(read)),
                Value::Devices(devices),
            )
            .remove(Key::DeviceUse(person, device.id), Expect::Any);
        self.need(Waiting::Expiry, Need::Commit(batch, Durability::Synced))
    }

    pub(super) fn expired(self, outcome: Outcome, world: &mut World<'_>) -> Next {
        match outcome {
            Outcome::Done => refused(Refusal::unproven(Reason::Revoked)),
            Outcome::Conflict(_) => self.again(world),
        }
    }

    pub(super) fn known_proved(self, known: Box<Known>, proof: Proof, world: &mut World<'_>) -> Next {
        match proof {
            Proof::Accepted => self.admit_known(&known, world),
            Proof::Rejected(rejection) => self.known_rejected(known, rejection, world),
            Proof::Unavailable(outage) => {
                if let Some(person) = self.case.person {
                    let now = world.now.mono;
                    world.memory.not_answered(person, known.password, now);
                }
                refused(Refusal::proven(outage.into()))
            }
        }
    }

    fn admit_known(self, known: &Known, world: &mut World<'_>) -> Next {
        let Known { device, used, .. } = known;
        self.proven(device.id, device.password_len as usize, device.tag, world);
        let case = &self.case;
        let mut lazy = Batch::default();
        if let Some(person) = case.person.filter(|_| world.now.clock_known) {
            let missed = throttle::first_miss(case.facts.budget(), world.now).is_some();
            let protocol = case.attempt.protocol;
            if let Some(used) = device::after_use(used, case.network, protocol, missed, world.now.unix) {
                let key = Key::DeviceUse(person, device.id);
                lazy = lazy.put(key, Expect::Any, Value::DeviceUse(used));
            }
        }
        let lazy = self.good_network(lazy, world);
        let verdict = self.admit(Some(device.id), None, Reason::KnownDevice, known.would);
        Next::Done(verdict, lazy)
    }

    /// Remembers that a device's literal was proven just now.
    pub(super) fn proven(&self, device: DeviceId, password_len: usize, tag: Tag, world: &mut World<'_>) {
        let case = &self.case;
        let (Some(person), Some(print)) = (case.person, case.print(world)) else {
            return;
        };
        let password = world.memory.password_print(person, case.password(password_len));
        let literal = case.charge(world).literal;
        let memory = &mut *world.memory;
        memory.remember_alive(person, print, device, tag);
        memory.password_right(person, password);
        memory.good_sign_in(case.attempt.address, world.now.mono);
        memory.forgive(case.subject, case.attempt.address, literal);
    }

    /// Adds the good network to the lazy writes, where that is worth one. Without a clock there is nothing to write.
    pub(super) fn good_network(&self, lazy: Batch, world: &World<'_>) -> Batch {
        let case = &self.case;
        let Some(person) = case.person.filter(|_| world.now.clock_known) else {
            return lazy;
        };
        match device::after_good_sign_in(case.facts.good.as_ref(), case.network, world.now.unix) {
            Some(good) => lazy.put(Key::GoodNetworks(person), Expect::Any, Value::GoodNetworks(good)),
            None => lazy,
        }
    }

    /// The mail password was changed, most likely. Never counted against the network: the program knows no better.
    fn known_rejected(self, known: Box<Known>, rejection: Rejection, world: &mut World<'_>) -> Next {
        let Some(person) = self.case.person else {
            return refused(Refusal::unproven(Reason::StoreUnavailable));
        };
        let now = world.now;
        world
            .memory
            .known_device_refused(person, known.password, now.mono);
        let refusal = Refusal::proven(match rejection {
            Rejection::Password => Reason::PasswordChanged,
            Rejection::Expired => Reason::PasswordExpired,
            Rejection::Disabled => Reason::AccountDisabled,
        });
        let mut lazy = Batch::default();
        if now.clock_known {
            let mut used = known.used;
            used.refused = Some(now.unix);
            let key = Key::DeviceUse(person, known.device.id);
            lazy = lazy.put(key, Expect::Any, Value::DeviceUse(used));
        }
        if rejection != Rejection::Password {
            return Next::Done(Verdict::Refuse(refusal), lazy);
        }
        world.memory.password_wrong(person, known.password);
        // What was guessed against is a password that is good for nothing any more: the budget is whole again.
        match &self.case.facts.budget {
            Some(budget)
                if budget.value != Budget::default() && world.memory.missed_with(person, known.password) =>
            {
                world.memory.forget_refusals(person);
                let whole = Value::Budget(Budget::default());
                let batch = Batch::default().put(Key::Budget(person), unchanged(Some(budget)), whole);
                let need = Need::Commit(batch, Durability::Synced);
                self.need(Waiting::Restored(refusal, lazy), need)
            }
            _ => Next::Done(Verdict::Refuse(refusal), lazy),
        }
    }
}
