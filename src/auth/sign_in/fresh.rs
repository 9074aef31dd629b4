//! A right code: claim, proof, new device.
//!
//! The claim alone makes replay safe: a right code belongs to the one literal whose tag the claim holds, in this process
//! and in every other that shares the store.
//!
//! ```text
//!            same tag: go on
//!  absent ─▶ Claimed(tag) ─ accepted ─▶ Used(tag), for ever
//!     ▲          │  │
//!     └ Released ┘  └ rejected three times ─▶ Dead, for every literal
//! ```

use super::facts::{Read, pick_claim, pick_devices, pick_factors, pick_person, pick_use, read, unchanged};
use super::refuse::Ending;
use super::{MAX_CONFLICTS, POOL_FAMILIAR, SignIn, Waiting, refused};
use crate::auth::device::{self, Arrival, Found};
use crate::auth::factor::{self, Match};
use crate::auth::{Need, Next, Proof, SlowHashWork, World};
use crate::reason::{Reason, Refusal, Rejection};
use crate::store::records::{
    Batch, Claim, ClaimState, Death, Device, DeviceId, DeviceUse, Devices, Durability, Expect, Key, Outcome,
    PersonId, Record, SlowHashCost, Tag, Value,
};
use std::time::Duration;

/// A right code on its way to a device.
#[derive(Debug)]
pub(super) struct Fresh {
    password_len: usize,
    right: Match,
    person: PersonId,
    /// How the literal is hashed.
    cost: SlowHashCost,
    /// The literal's tag, once it is made.
    tag: Tag,
    /// Conflicts since the proof.
    conflicts: u8,
}

impl Fresh {
    fn claim_key(&self) -> Key {
        Key::Claim(self.person, self.right.factor, self.right.step)
    }

    fn claim(&self, state: ClaimState, rejected: u8) -> Claim {
        Claim {
            tag: self.tag,
            state,
            rejected,
            expires: self.right.window_ends.plus(CLAIM_OUTLIVES),
        }
    }
}

impl SignIn {
    /// The code is right: the literal's tag is needed to claim it.
    pub(super) fn fresh(self, password_len: usize, right: Match, world: &mut World<'_>) -> Next {
        let Some(person) = self.case.person else {
            return refused(Refusal::unproven(Reason::StoreUnavailable));
        };
        let held = self.case.facts.cost().cloned();
        let hashed = self.case.hashed.clone();
        let cost = held
            .or_else(|| hashed.as_ref().map(|(cost, _)| cost.clone()))
            .unwrap_or_else(|| device::new_cost(world.random));
        let mut fresh = Box::new(Fresh {
            password_len,
            right,
            person,
            cost: cost.clone(),
            tag: Tag([0; 32]),
            conflicts: 0,
        });
        if let Some((_, tag)) = hashed {
            fresh.tag = tag;
            return self.read_claim(fresh);
        }
        let familiar = self.case.familiar_for(POOL_FAMILIAR, world).host();
        let work = SlowHashWork {
            cost,
            person,
            familiar,
        };
        self.need(Waiting::FreshHash(fresh), Need::SlowHash(work))
    }

    pub(super) fn fresh_hashed(mut self, mut fresh: Box<Fresh>, tag: Tag, world: &mut World<'_>) -> Next {
        self.case.hashed = Some((fresh.cost.clone(), tag));
        fresh.tag = tag;
        self.compare(tag, world, |stranger, _| stranger.read_claim(fresh))
    }

    fn read_claim(self, fresh: Box<Fresh>) -> Next {
        let keys = vec![fresh.claim_key()];
        self.need(Waiting::Claim(fresh), Need::Load(keys))
    }

    pub(super) fn claim_loaded(
        self,
        fresh: Box<Fresh>,
        records: Vec<Option<Record>>,
        world: &mut World<'_>,
    ) -> Next {
        let held = read(records.into_iter().next(), pick_claim);
        if held.is_some() && self.case.facts.devices.is_none() {
            // Whoever claimed this code fixed the person's salt; this tag was made with another.
            return self.again(world);
        }
        let rejected = held.as_ref().map_or(0, |read| read.value.rejected);
        let state = held
            .as_ref()
            .map(|read| (read.value.state, read.value.tag.same(&fresh.tag)));
        match state {
            None | Some((ClaimState::Released, _)) => self.write_claim(fresh, held.as_ref(), rejected),
            Some((ClaimState::Claimed, true)) => self.prove_fresh(fresh, world),
            // It made a device since this sign-in read the devices; or that device is gone without a trace.
            Some((ClaimState::Used, true)) if self.case.conflicts < MAX_CONFLICTS => self.again(world),
            // Not the last word: the holder's password may be refused, and then the code is free again.
            Some((ClaimState::Claimed, false)) => self.code_spent(&fresh, false, world),
            Some((ClaimState::Used | ClaimState::Dead, _)) => self.code_spent(&fresh, true, world),
        }
    }

    /// A conditional, synced write: whoever comes second finds the claim. A person's first claim fixes salt and cost, so
    /// that the same literal has the same tag in every process.
    fn write_claim(self, fresh: Box<Fresh>, held: Option<&Read<Claim>>, rejected: u8) -> Next {
        let claim = Value::Claim(fresh.claim(ClaimState::Claimed, rejected));
        let mut batch = Batch::default().put(fresh.claim_key(), unchanged(held), claim);
        if self.case.facts.devices.is_none() {
            let devices = Value::Devices(device::no_devices(fresh.cost.clone()));
            batch = batch.put(Key::Devices(fresh.person), Expect::Absent, devices);
        }
        self.need(Waiting::Claimed(fresh), Need::Claim(batch))
    }

    pub(super) fn claimed(self, fresh: Box<Fresh>, outcome: Outcome, world: &mut World<'_>) -> Next {
        match outcome {
            Outcome::Done => self.prove_fresh(fresh, world),
            Outcome::Conflict(_) => self.again(world),
        }
    }

    /// The code was used up by another literal.
    fn code_spent(self, fresh: &Fresh, for_good: bool, world: &mut World<'_>) -> Next {
        if let Some(reason) = self.case.without_code(world) {
            return self.prove_alone(fresh.password_len, reason, Some(Reason::UsedCode), world);
        }
        let ending = Ending::counted(Reason::UsedCode);
        self.refuse(if for_good { ending } else { ending.not_cached() }, world)
    }

    fn prove_fresh(self, fresh: Box<Fresh>, world: &World<'_>) -> Next {
        let trial = self.case.trial(fresh.password_len, None);
        self.prove(trial, Waiting::FreshProof(fresh), world)
    }

    pub(super) fn fresh_proved(self, fresh: Box<Fresh>, proof: Proof, world: &mut World<'_>) -> Next {
        let password = self.case.password(fresh.password_len);
        let password = world.memory.password_print(fresh.person, password);
        let ending = match proof {
            Proof::Accepted => {
                world.memory.password_right(fresh.person, password);
                return self.read_again(fresh);
            }
            Proof::Rejected(Rejection::Password) => {
                world.memory.password_wrong(fresh.person, password);
                Ending::counted(Reason::WrongPassword)
            }
            Proof::Rejected(Rejection::Expired) => {
                Ending::free(Refusal::proven(Reason::PasswordExpired)).cached()
            }
            Proof::Rejected(Rejection::Disabled) => Ending::free(Refusal::proven(Reason::AccountDisabled)),
            Proof::Unavailable(outage) => Ending::free(Refusal::unproven(outage.into())),
        };
        self.read_claim_to_release(fresh, ending)
    }

    // --- accepted: the claim becomes used and the device is made, in one commit

    /// Reads again what may have changed while the upstream was being asked.
    fn read_again(self, fresh: Box<Fresh>) -> Next {
        let devices = self.case.facts.devices.as_ref();
        let ids: Vec<DeviceId> = devices
            .into_iter()
            .flat_map(|read| read.value.devices.iter().map(|device| device.id))
            .collect();
        let mut keys = vec![
            Key::Person(fresh.person),
            Key::Factors(fresh.person),
            Key::Devices(fresh.person),
            fresh.claim_key(),
        ];
        keys.extend(ids.iter().map(|id| Key::DeviceUse(fresh.person, *id)));
        self.need(Waiting::Reread(fresh, ids), Need::Load(keys))
    }

    pub(super) fn reread(
        mut self,
        fresh: Box<Fresh>,
        asked: &[DeviceId],
        records: Vec<Option<Record>>,
        world: &mut World<'_>,
    ) -> Next {
        let mut records = records.into_iter();
        match read(records.next(), pick_person) {
            None => return refused(Refusal::proven(Reason::UnknownPerson)),
            Some(person) if person.value.suspended => {
                return refused(Refusal::proven(Reason::Suspended));
            }
            Some(_) => {}
        }
        let factors = read(records.next(), pick_factors);
        if !factors.is_some_and(|read| factor::is_active(&read.value, fresh.right.factor)) {
            // The token was taken away while the upstream was being asked.
            return refused(Refusal::proven(Reason::NotEnrolled));
        }
        let Some(devices) = read(records.next(), pick_devices) else {
            return refused(Refusal::proven(Reason::StoreUnavailable));
        };
        let claim = read(records.next(), pick_claim);
        let uses: Vec<Option<DeviceUse>> = asked
            .iter()
            .map(|_| read(records.next(), pick_use).map(|read| read.value))
            .collect();
        let with_use = |device: &Device| {
            let place = asked.iter().position(|id| *id == device.id)?;
            let used = uses.get(place).cloned().flatten();
            let used = used.unwrap_or_else(|| device::first_use(device));
            Some((device.clone(), used))
        };
        let held: Option<Vec<_>> = devices.value.devices.iter().map(with_use).collect();
        match device::find(&devices.value, &fresh.tag) {
            // The same literal came by another way and was faster.
            Found::Device(device) => {
                let id = device.id;
                self.proven(id, fresh.password_len, fresh.tag, world);
                let verdict = self.admit(Some(id), None, Reason::KnownDevice, None);
                return Next::Done(verdict, Batch::default());
            }
            Found::Tombstone => {
                self.case.remember_dead(fresh.tag, world);
                return refused(Refusal::proven(Reason::Revoked));
            }
            Found::Nothing => {}
        }
        self.case.facts.devices = Some(devices);
        match held {
            Some(held) => self.create(fresh, &held, claim.as_ref(), world),
            // A device appeared whose use was not read.
            None => self.once_more(fresh),
        }
    }

    fn once_more(self, mut fresh: Box<Fresh>) -> Next {
        fresh.conflicts += 1;
        if fresh.conflicts > MAX_CONFLICTS {
            return refused(Refusal::proven(Reason::StoreUnavailable));
        }
        self.read_again(fresh)
    }

    fn create(
        self,
        fresh: Box<Fresh>,
        held: &[(Device, DeviceUse)],
        claim: Option<&Read<Claim>>,
        world: &mut World<'_>,
    ) -> Next {
        let ours = claim.is_some_and(|read| {
            read.value.tag.same(&fresh.tag)
                && matches!(read.value.state, ClaimState::Claimed | ClaimState::Released)
        });
        let (Some(read), true) = (&self.case.facts.devices, ours) else {
            return refused(Refusal::proven(Reason::UsedCode));
        };
        if read.value.cost != fresh.cost {
            return refused(Refusal::proven(Reason::StoreUnavailable));
        }
        let now = world.now.unix;
        let arrival = Arrival {
            client_hint: self.case.attempt.client_hint.as_deref(),
            network: self.case.network,
            now,
        };
        let Some(out) = device::make_room(held, &arrival, world.settings.max_devices) else {
            return self.no_room(world);
        };
        let (device, used) = self.new_device(&fresh, world);
        let mut devices: Devices = read.value.clone();
        let rejected = claim.map_or(0, |read| read.value.rejected);
        let used_up = Value::Claim(fresh.claim(ClaimState::Used, rejected));
        let mut batch = Batch::default().put(fresh.claim_key(), unchanged(claim), used_up);
        for old in out {
            device::bury(&mut devices, old, Death::Replaced, now);
            batch = batch.remove(Key::DeviceUse(fresh.person, old), Expect::Any);
        }
        let id = device.id;
        devices.devices.push(device);
        batch = batch
            .put(
                Key::Devices(fresh.person),
                unchanged(Some(read)),
                Value::Devices(devices),
            )
            .put(
                Key::DeviceUse(fresh.person, id),
                Expect::Any,
                Value::DeviceUse(used),
            );
        let need = Need::Commit(batch, Durability::Synced);
        self.need(Waiting::Created(fresh, id), need)
    }

    fn new_device(&self, fresh: &Fresh, world: &mut World<'_>) -> (Device, DeviceUse) {
        let mut id = [0; 8];
        (world.random)(&mut id);
        let attempt = &self.case.attempt;
        let device = Device {
            id: DeviceId(id),
            tag: fresh.tag,
            password_len: u32::try_from(fresh.password_len).unwrap_or(u32::MAX),
            client_hint: attempt.client_hint.clone(),
            first_protocol: attempt.protocol,
            created: world.now.unix,
            first_network: self.case.network,
            factor: fresh.right.factor,
        };
        let used = device::first_use(&device);
        (device, used)
    }

    /// Password and code were right, but there is no room. In learning mode that is no reason to lock anybody out.
    fn no_room(self, world: &mut World<'_>) -> Next {
        match self.case.without_code(world) {
            Some(reason) => {
                let would = self.case.alone_would(reason, Some(Reason::DeviceLimit), world);
                Next::Done(self.admit(None, None, reason, would), Batch::default())
            }
            None => self.end(Ending::free(Refusal::proven(Reason::DeviceLimit)).cached(), world),
        }
    }

    pub(super) fn created(
        self,
        fresh: Box<Fresh>,
        device: DeviceId,
        outcome: Outcome,
        world: &mut World<'_>,
    ) -> Next {
        if let Outcome::Conflict(_) = outcome {
            return self.once_more(fresh);
        }
        self.proven(device, fresh.password_len, fresh.tag, world);
        let factor = Some(fresh.right.factor);
        let lazy = self.good_network(Batch::default(), world);
        Next::Done(self.admit(Some(device), factor, Reason::NewDevice, None), lazy)
    }

    // --- not accepted: the claim is released

    /// The devices too: the first claim of a person wrote their record, and what is remembered of the refusal depends on
    /// its version.
    fn read_claim_to_release(self, fresh: Box<Fresh>, ending: Ending) -> Next {
        let keys = vec![fresh.claim_key(), Key::Devices(fresh.person)];
        self.need(Waiting::Release(fresh, ending), Need::Load(keys))
    }

    pub(super) fn release(
        mut self,
        fresh: Box<Fresh>,
        ending: Ending,
        records: Vec<Option<Record>>,
        world: &mut World<'_>,
    ) -> Next {
        let mut records = records.into_iter();
        let held = read(records.next(), pick_claim);
        self.case.facts.devices = read(records.next(), pick_devices);
        let rejected = held.as_ref().map_or(0, |read| read.value.rejected);
        let rejected = rejected.saturating_add(u8::from(ending.counts()));
        let ours = held
            .as_ref()
            .is_some_and(|read| read.value.tag.same(&fresh.tag) && read.value.state == ClaimState::Claimed);
        if !ours {
            return self.end(ending, world);
        }
        let state = if rejected >= MAX_REJECTED {
            ClaimState::Dead
        } else {
            ClaimState::Released
        };
        let released = Value::Claim(fresh.claim(state, rejected));
        let batch = Batch::default().put(fresh.claim_key(), unchanged(held.as_ref()), released);
        let need = Need::Commit(batch, Durability::Synced);
        self.need(Waiting::Released(fresh, ending), need)
    }

    pub(super) fn released(
        self,
        mut fresh: Box<Fresh>,
        ending: Ending,
        outcome: Outcome,
        world: &mut World<'_>,
    ) -> Next {
        fresh.conflicts += 1;
        match outcome {
            Outcome::Conflict(_) if fresh.conflicts <= MAX_CONFLICTS => {
                self.read_claim_to_release(fresh, ending)
            }
            Outcome::Done | Outcome::Conflict(_) => self.end(ending, world),
        }
    }
}

/// A claim stays this long behind the window of its step: clocks of a fleet differ by less.
const CLAIM_OUTLIVES: Duration = Duration::from_secs(60);
/// Passwords that may be tried with one code.
const MAX_REJECTED: u8 = 3;
