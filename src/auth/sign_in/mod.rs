//! The machine of one sign-in: the order of access.md, local and cheap first, the upstream last.
//!
//! ```text
//!  begin ── deny list ── login ── records ── refused lately? ── warm or cold device? ──yes── known.rs ──┐
//!                                                                      │ no                              │
//!                          blocks, waits, decoys (unmatched) ──────────┤                                 │
//!                                                                      ├─ right code ── fresh.rs ── claim┤
//!                                                                      ├─ password alone ── alone.rs ────┤
//!                                                                      └─ refused ── refuse.rs           │
//!                                                                            Done(verdict, lazy writes) ◀┘
//! ```
//!
//! No path to a `Prove` exists without a known device, a claimed code, or a mode and network that ask for no code.

mod alone;
mod facts;
mod fresh;
mod known;
mod refuse;

use self::alone::Alone;
use self::facts::{Facts, pick_login, read};
use self::fresh::Fresh;
use self::known::Known;
use self::refuse::{Ending, Recording};
use super::device::{self, Found};
use super::memory::{Charge, Judgement, LiteralPrint, Subject, Warm};
use super::people::{self, LoginForm};
use super::throttle::{self, Familiar};
use super::{
    AccessSettings, Admission, Answer, Attempt, Need, Next, SlowHashWork, Trial, Verdict, World, factor,
    literal,
};
use crate::reason::{Reason, Refusal};
use crate::secret::Secret;
use crate::store::records::{Batch, DeviceId, Key, Mode, PersonId, Record, SlowHashCost, Tag};
use ipnet::IpNet;
use std::sync::Arc;
use std::time::Duration;

/// A sign-in on its way to a verdict.
#[derive(Debug)]
pub struct SignIn {
    case: Box<Case>,
    waiting: Waiting,
    charge: Option<Charge>,
}

/// What is known of one attempt so far.
#[derive(Debug)]
struct Case {
    attempt: Attempt,
    /// /32 or /64.
    network: IpNet,
    /// Normalised; what cannot be a login is treated as an unknown one.
    login: Option<String>,
    route: Option<Route>,
    person: Option<PersonId>,
    subject: Subject,
    facts: Facts,
    /// The slow hash of the literal, and with which cost it was made.
    hashed: Option<(SlowHashCost, Tag)>,
    /// Whether it stood in the slow hash's queue without work.
    queued: bool,
    /// How often a conflict made it begin again.
    conflicts: u8,
}

#[derive(Debug)]
struct Route {
    name: Arc<str>,
    login: LoginForm,
    mode: Option<Mode>,
}

/// What may come next.
#[derive(Debug)]
enum Waiting {
    /// The person of the login.
    Login,
    /// Her records.
    Facts,
    /// The tag made with this cost, to be compared with her devices.
    EarlyHash(SlowHashCost),
    /// The turn in the queue, where there was nothing to hash.
    EarlyTurn,
    /// How the matched device is used.
    DeviceUse(DeviceId),
    /// The idle device is buried.
    Expiry,
    /// The upstream's word on a known device.
    KnownProof(Box<Known>),
    /// The tag, for the claim.
    FreshHash(Box<Fresh>),
    /// The claim as it stands.
    Claim(Box<Fresh>),
    /// The claim was written.
    Claimed(Box<Fresh>),
    /// The upstream's word on a claimed code.
    FreshProof(Box<Fresh>),
    /// Everything that the new device depends on, read again after the proof.
    Reread(Box<Fresh>, Vec<DeviceId>),
    /// The new device was written.
    Created(Box<Fresh>, DeviceId),
    /// The claim as it stands, to be released.
    Release(Box<Fresh>, Ending),
    /// The claim was released.
    Released(Box<Fresh>, Ending),
    /// The upstream's word on a password alone.
    AloneProof(Alone),
    /// The turn in the queue, before a refusal.
    Turn(Ending),
    /// The budget, read again after a conflict.
    Budget(Recording),
    /// Budget and blocks were written.
    Recorded(Recording),
    /// A restored budget was written; whatever became of it, the verdict stands.
    Restored(Refusal, Batch),
}

impl SignIn {
    /// Starts a sign-in.
    pub fn begin(attempt: Attempt, world: &mut World<'_>) -> Next {
        let settings = world.settings;
        if settings.denied.iter().any(|net| net.contains(&attempt.address)) {
            return refused(Refusal::unproven(Reason::DeniedNetwork));
        }
        if attempt.acts_as_other {
            return refused(Refusal::unproven(Reason::ActsAsOther));
        }
        let login = people::normalise(attempt.login.expose(), settings.default_domain.as_deref());
        let named = login
            .as_deref()
            .map_or(attempt.login.expose().as_slice(), str::as_bytes);
        let subject = world.memory.unknown(named);
        let case = Case {
            network: throttle::host_network(attempt.address),
            route: login.as_deref().and_then(|login| Route::of(settings, login)),
            login,
            attempt,
            person: None,
            subject,
            facts: Facts::default(),
            hashed: None,
            queued: false,
            conflicts: 0,
        };
        let sign_in = SignIn {
            case: Box::new(case),
            waiting: Waiting::Login,
            charge: None,
        };
        match &sign_in.case.login {
            Some(login) => {
                let keys = vec![Key::Login(login.clone())];
                sign_in.need(Waiting::Login, Need::Load(keys))
            }
            None => sign_in.load_facts(world),
        }
    }

    /// Goes on with the answer to what was needed. A store that fails, and an answer to another question, refuse the
    /// attempt until later: nothing is let in that was not decided.
    pub fn resume(mut self, answer: Answer, world: &mut World<'_>) -> Next {
        self.charge = None;
        let waiting = std::mem::replace(&mut self.waiting, Waiting::Login);
        match (waiting, answer) {
            (Waiting::Login, Answer::Loaded(records)) => self.login_loaded(records, world),
            (Waiting::Facts, Answer::Loaded(records)) => self.facts_loaded(records, world),
            (Waiting::EarlyHash(cost), Answer::Hashed(tag)) => self.early_hashed(cost, tag, world),
            (Waiting::EarlyTurn, Answer::Queued) => self.early_turn_came(world),
            (Waiting::DeviceUse(device), Answer::Loaded(records)) => self.use_loaded(device, records, world),
            (Waiting::Expiry, Answer::Committed(outcome)) => self.expired(outcome, world),
            (Waiting::KnownProof(known), Answer::Proved(proof)) => self.known_proved(known, proof, world),
            (Waiting::FreshHash(fresh), Answer::Hashed(tag)) => self.fresh_hashed(fresh, tag, world),
            (Waiting::Claim(fresh), Answer::Loaded(records)) => self.claim_loaded(fresh, records, world),
            (Waiting::Claimed(fresh), Answer::Committed(outcome)) => self.claimed(fresh, outcome, world),
            (Waiting::FreshProof(fresh), Answer::Proved(proof)) => self.fresh_proved(fresh, proof, world),
            (Waiting::Reread(fresh, asked), Answer::Loaded(records)) => {
                self.reread(fresh, &asked, records, world)
            }
            (Waiting::Created(fresh, device), Answer::Committed(outcome)) => {
                self.created(fresh, device, outcome, world)
            }
            (Waiting::Reread(..) | Waiting::Created(..), Answer::StoreFailed) => {
                refused(Refusal::proven(Reason::StoreUnavailable))
            }
            (Waiting::Release(fresh, ending), Answer::Loaded(records)) => {
                self.release(fresh, ending, records, world)
            }
            (Waiting::Released(fresh, ending), Answer::Committed(outcome)) => {
                self.released(fresh, ending, outcome, world)
            }
            // The claim stays with its literal until the code's time is over. The answer stands.
            (Waiting::Release(_, ending) | Waiting::Released(_, ending), Answer::StoreFailed) => {
                self.end(ending, world)
            }
            (Waiting::AloneProof(alone), Answer::Proved(proof)) => self.alone_proved(alone, proof, world),
            (Waiting::Turn(ending), Answer::Queued) => self.turn_came(ending, world),
            (Waiting::Budget(recording), Answer::Loaded(records)) => {
                self.budget_loaded(recording, records, world)
            }
            (Waiting::Recorded(recording), Answer::Committed(outcome)) => {
                self.recorded(recording, outcome, world)
            }
            (Waiting::Restored(refusal, lazy), Answer::Committed(_) | Answer::StoreFailed) => {
                Next::Done(Verdict::Refuse(refusal), lazy)
            }
            (
                Waiting::EarlyHash(_) | Waiting::EarlyTurn | Waiting::FreshHash(_) | Waiting::Turn(_),
                Answer::Busy,
            ) => refused(Refusal::unproven(Reason::Busy)),
            _ => refused(Refusal::unproven(Reason::StoreUnavailable)),
        }
    }

    /// The person, once the login was looked up.
    pub fn person(&self) -> Option<PersonId> {
        self.case.person
    }

    /// The route's name, once it is known: also for a login that is no person.
    pub fn route(&self) -> Option<&str> {
        self.case.route.as_ref().map(|route| &*route.name)
    }

    /// The attempt as it came.
    pub fn attempt(&self) -> &Attempt {
        &self.case.attempt
    }

    /// What it costs if the client vanishes now: something only while the upstream is being asked. For
    /// [`super::Memory::count_abandoned`].
    pub fn charge(&self) -> Option<Charge> {
        self.charge
    }

    // --- who is asking

    fn login_loaded(mut self, records: Vec<Option<Record>>, world: &mut World<'_>) -> Next {
        let mut records = records.into_iter();
        let person = read(records.next(), pick_login);
        // Without a route nobody serves her: like a login that nobody has.
        if let (Some(person), Some(_)) = (person, &self.case.route) {
            self.case.person = Some(person.value);
            self.case.subject = Subject::Person(person.value);
        }
        self.load_facts(world)
    }

    /// Asks for everything that the order needs, in one read; for a warm literal also how its device is used.
    fn load_facts(self, world: &mut World<'_>) -> Next {
        let warm = match self.case.print(world).and_then(|print| world.memory.warm(&print)) {
            Some(Warm::Alive { device, .. }) => Some(device),
            _ => None,
        };
        let keys = Facts::keys(self.case.person, self.case.attempt.address, warm);
        self.need(Waiting::Facts, Need::Load(keys))
    }

    fn facts_loaded(mut self, records: Vec<Option<Record>>, world: &mut World<'_>) -> Next {
        self.case.facts = Facts::from(self.case.person, self.case.attempt.address, records);
        match self.case.facts.person.as_ref() {
            Some(person) => {
                // An alias may have led here; the person's own login decides who serves her.
                self.case.route = Route::of(world.settings, &person.value.login);
                let (form, typed) = (
                    self.case.route.as_ref().map(|route| route.login),
                    &self.case.attempt.login,
                );
                if !form.is_some_and(|form| people::names_herself(form, &person.value.login, typed.expose()))
                {
                    self.case.nobody(world);
                }
            }
            None => self.case.nobody(world),
        }
        // A tag made with another salt says nothing.
        let cost = self.case.facts.cost();
        if cost.is_some() && self.case.hashed.as_ref().map(|(cost, _)| cost) != cost {
            self.case.hashed = None;
        }
        self.refused_lately(world)
    }

    // --- what is known of the literal

    fn refused_lately(self, world: &mut World<'_>) -> Next {
        let case = &self.case;
        let attempt = world
            .memory
            .attempt_print(case.subject, case.attempt.literal.expose());
        let epoch = case.epoch(world);
        let now = world.now.mono;
        if world
            .memory
            .refused_lately(case.subject, case.network, attempt, epoch, now)
        {
            return refused(Refusal::unproven(Reason::RefusedLately));
        }
        self.look_up_device(world)
    }

    fn look_up_device(self, world: &mut World<'_>) -> Next {
        let (Some(person), Some(print)) = (self.case.person, self.case.print(world)) else {
            return self.stand(world);
        };
        let Some(devices) = self.case.facts.devices.as_ref().map(|read| &read.value) else {
            return self.stand(world);
        };
        match world.memory.warm(&print) {
            Some(Warm::Dead) => return refused(Refusal::unproven(Reason::Revoked)),
            Some(Warm::Alive { device, tag, .. }) => match device::find(devices, &tag) {
                Found::Device(found) if found.id == device => return self.known(device, world),
                Found::Device(_) | Found::Nothing => {}
                Found::Tombstone => {
                    world.memory.remember_dead(person, print, tag);
                    return refused(Refusal::unproven(Reason::Revoked));
                }
            },
            None => {}
        }
        self.stand(world)
    }

    /// One slow hash, or one turn that looks like it, for everything that could hold a code: before blocks and waits are
    /// looked at, so that of many attempts at once the same number is judged after the first failures were counted,
    /// whatever is known of name, password and code. Where the password alone is enough the upstream tells right from
    /// wrong anyway, and a busy box need not keep those waiting.
    fn stand(self, world: &mut World<'_>) -> Next {
        if let Some((_, tag)) = self.case.hashed {
            return self.compare(tag, world, SignIn::unmatched);
        }
        if !literal::code_shaped(self.case.attempt.literal.expose()) {
            return self.unmatched(world);
        }
        if let Some(work) = self.case.early_hash(world) {
            return self.need(Waiting::EarlyHash(work.cost.clone()), Need::SlowHash(work));
        }
        if self.case.queued || self.case.without_code(world).is_some() {
            return self.unmatched(world);
        }
        let queue = self.case.queue(world);
        self.need(Waiting::EarlyTurn, queue)
    }

    fn early_hashed(mut self, cost: SlowHashCost, tag: Tag, world: &mut World<'_>) -> Next {
        self.case.hashed = Some((cost, tag));
        self.compare(tag, world, SignIn::unmatched)
    }

    fn early_turn_came(mut self, world: &mut World<'_>) -> Next {
        self.case.queued = true;
        self.unmatched(world)
    }

    /// Goes on with the device that the tag belongs to, dead or alive; where it is nobody's, as `stranger` says.
    fn compare(
        self,
        tag: Tag,
        world: &mut World<'_>,
        stranger: impl FnOnce(Self, &mut World<'_>) -> Next,
    ) -> Next {
        let devices = self.case.facts.devices.as_ref();
        match devices.map_or(Found::Nothing, |read| device::find(&read.value, &tag)) {
            Found::Device(found) => {
                let device = found.id;
                self.known(device, world)
            }
            Found::Tombstone => {
                self.case.remember_dead(tag, world);
                refused(Refusal::unproven(Reason::Revoked))
            }
            Found::Nothing => stranger(self, world),
        }
    }

    // --- no device: everything that refuses strangers, then the code

    fn unmatched(self, world: &mut World<'_>) -> Next {
        let case = &self.case;
        let familiar = case.familiar(world);
        if let Some(left) =
            world
                .memory
                .blocked(case.attempt.address, &case.facts.blocks, familiar, world.now)
        {
            return self.later(Reason::NetworkBlocked, left, world);
        }
        let counting = &world.settings.counting;
        let now = world.now.mono;
        if let Some(left) = world
            .memory
            .waits(case.subject, case.network, familiar, counting, now)
        {
            return self.later(Reason::PersonWaits, left, world);
        }
        if let Some(login) = &case.login
            && people::is_decoy(world.settings, login)
        {
            return self.refuse(Ending::counted(Reason::Decoy), world);
        }
        match case.facts.person.is_some() {
            true => self.person_without_device(world),
            false => self.nobody(world),
        }
    }

    /// A login that is no person: refused, unless its route is still learning. Where no route serves the domain, the box is
    /// not set up for it yet: that is nobody's wrong password, so no mail program should ask for a new one.
    fn nobody(self, world: &mut World<'_>) -> Next {
        if self.case.login.is_some() && self.case.route.is_none() {
            return refused(Refusal::unproven(Reason::NoRoute));
        }
        let learns = self.case.route.is_some() && self.case.mode(world.settings) == Mode::Learning;
        if learns && self.case.login.is_some() {
            let whole = self.case.attempt.literal.expose().len();
            return self.prove_alone(whole, Reason::Learning, Some(Reason::UnknownPerson), world);
        }
        self.refuse_by_clock(Ending::counted(Reason::UnknownPerson), world)
    }

    fn person_without_device(self, world: &mut World<'_>) -> Next {
        let case = &self.case;
        if case.facts.suspended() {
            return self.refuse_by_clock(Ending::counted(Reason::Suspended), world);
        }
        let alone = case.without_code(world);
        let whole = case.attempt.literal.expose().len();
        let lengths = factor::code_lengths(case.facts.enrolled_with());
        if lengths.is_empty() {
            return match alone {
                Some(reason) => self.prove_alone(whole, reason, Some(Reason::NotEnrolled), world),
                None => self.refuse_by_clock(Ending::counted(Reason::NotEnrolled), world),
            };
        }
        let Some(split) = literal::split(case.attempt.literal.expose(), &lengths) else {
            return match alone {
                Some(reason) => self.prove_alone(whole, reason, Some(Reason::NoCode), world),
                None => self.refuse_by_clock(Ending::counted(Reason::NoCode), world),
            };
        };
        if !world.now.clock_known {
            return self.refuse(Ending::free(Refusal::unproven(Reason::ClockUnknown)), world);
        }
        let spent = case.facts.spent();
        if spent && alone.is_none() {
            let miss = case.miss(split.password_len, world);
            return self.refuse(Ending::missed(Reason::BudgetSpent, miss), world);
        }
        let code = split.code.expose();
        let right = factor::check(
            case.facts.enrolled_with(),
            code,
            case.attempt.protocol,
            world.now.unix,
        );
        match (right, alone) {
            (Some(_), Some(reason)) if spent => {
                self.prove_alone(split.password_len, reason, Some(Reason::BudgetSpent), world)
            }
            (Some(right), _) => self.fresh(split.password_len, right, world),
            (None, Some(reason)) => {
                let would = if spent {
                    Reason::BudgetSpent
                } else {
                    Reason::WrongCode
                };
                self.prove_alone(whole, reason, Some(would), world)
            }
            (None, None) => {
                let miss = case.miss(split.password_len, world);
                self.refuse(Ending::missed(Reason::WrongCode, miss), world)
            }
        }
    }

    /// Refuses; where the literal could hold a code and the clock is not known, with "try later", for everybody alike.
    fn refuse_by_clock(self, ending: Ending, world: &mut World<'_>) -> Next {
        if !world.now.clock_known && literal::code_shaped(self.case.attempt.literal.expose()) {
            return self.refuse(Ending::free(Refusal::unproven(Reason::ClockUnknown)), world);
        }
        self.refuse(ending, world)
    }

    fn later(self, reason: Reason, retry_after: Duration, world: &mut World<'_>) -> Next {
        let mut refusal = Refusal::unproven(reason);
        refusal.retry_after = Some(retry_after);
        self.refuse(Ending::free(refusal), world)
    }

    // --- small change

    /// Asks the upstream; from here on the attempt is one guess, whatever becomes of its client.
    fn prove(mut self, trial: Trial, waiting: Waiting, world: &World<'_>) -> Next {
        let mut charge = self.case.charge(world);
        if let Waiting::KnownProof(known) = &waiting {
            charge.known = self.case.person.map(|person| (person, known.password));
        }
        self.charge = Some(charge);
        self.need(waiting, Need::Prove(trial))
    }

    fn need(mut self, waiting: Waiting, need: Need) -> Next {
        self.waiting = waiting;
        Next::Need(self, need)
    }

    /// Begins again with the records as they are now, unless that happened too often.
    fn again(mut self, world: &mut World<'_>) -> Next {
        self.case.conflicts += 1;
        if self.case.conflicts > MAX_CONFLICTS {
            return refused(Refusal::unproven(Reason::StoreUnavailable));
        }
        self.load_facts(world)
    }

    fn admit(
        &self,
        device: Option<DeviceId>,
        factor: Option<crate::store::records::FactorId>,
        reason: Reason,
        enforcing_would: Option<Reason>,
    ) -> Verdict {
        Verdict::Admit(Admission {
            person: self.case.person,
            account: self.case.account(),
            route: self.case.route_name(),
            device,
            factor,
            reason,
            enforcing_would,
        })
    }
}

impl Route {
    fn of(settings: &AccessSettings, login: &str) -> Option<Route> {
        people::route(settings, login).map(|route| Route {
            name: route.name.as_str().into(),
            login: route.login,
            mode: route.mode,
        })
    }
}

impl Case {
    /// There is no such person after all.
    fn nobody(&mut self, world: &World<'_>) {
        self.person = None;
        self.facts = Facts {
            blocks: std::mem::take(&mut self.facts.blocks),
            ..Facts::default()
        };
        let typed = self.attempt.login.expose().as_slice();
        self.subject = world
            .memory
            .unknown(self.login.as_deref().map_or(typed, str::as_bytes));
    }

    fn print(&self, world: &World<'_>) -> Option<LiteralPrint> {
        let person = self.person?;
        Some(world.memory.literal_print(person, self.attempt.literal.expose()))
    }

    fn mode(&self, settings: &AccessSettings) -> Mode {
        let person = self.facts.person.as_ref().and_then(|person| person.value.mode);
        let route = self.route.as_ref().and_then(|route| route.mode);
        person.or(route).unwrap_or(settings.mode)
    }

    /// As what the person may enter by password alone, if she may.
    fn without_code(&self, world: &World<'_>) -> Option<Reason> {
        if self.mode(world.settings) == Mode::Learning {
            return Some(Reason::Learning);
        }
        self.without_code_enforcing(world)
    }

    /// The same as if the mode were enforcing.
    fn without_code_enforcing(&self, world: &World<'_>) -> Option<Reason> {
        let trusted = &world.settings.trusted;
        if trusted.iter().any(|net| net.contains(&self.attempt.address)) {
            return Some(Reason::TrustedNetwork);
        }
        // A grace period whose end cannot be judged is none.
        let until = self
            .facts
            .person
            .as_ref()
            .and_then(|person| person.value.grace_until);
        let enrolled = !factor::code_lengths(self.facts.enrolled_with()).is_empty();
        let in_grace = world.now.clock_known && until.is_some_and(|until| world.now.unix < until);
        (in_grace && !enrolled).then_some(Reason::Grace)
    }

    fn familiar(&self, world: &World<'_>) -> Familiar {
        self.familiar_for(world.settings.counting.familiar_for, world)
    }

    fn familiar_for(&self, within: Duration, world: &World<'_>) -> Familiar {
        Familiar::of(self.facts.good.as_ref(), self.attempt.address, within, world.now)
    }

    /// The slow hash that is made before anything else is decided: the literal may be a device's that was not seen since
    /// start, or its code is right, so that the claim will want the tag.
    fn early_hash(&self, world: &mut World<'_>) -> Option<SlowHashWork> {
        let person = self.person?;
        let devices = self.facts.devices.as_ref().map(|read| &read.value);
        let cold = devices.is_some_and(|devices| world.memory.has_unseen(person, devices))
            && !self.password_known_wrong(world);
        if !cold && (self.without_code(world).is_some() || !self.code_is_right(world)) {
            return None;
        }
        let cost = self.facts.cost().cloned();
        Some(SlowHashWork {
            cost: cost.unwrap_or_else(|| device::new_cost(world.random)),
            person,
            familiar: self.familiar_for(POOL_FAMILIAR, world).host(),
        })
    }

    fn code_is_right(&self, world: &World<'_>) -> bool {
        let lengths = factor::code_lengths(self.facts.enrolled_with());
        let split = literal::split(self.attempt.literal.expose(), &lengths);
        split.filter(|_| world.now.clock_known).is_some_and(|split| {
            let (factors, protocol) = (self.facts.enrolled_with(), self.attempt.protocol);
            factor::check(factors, split.code.expose(), protocol, world.now.unix).is_some()
        })
    }

    /// Whether comparing the literal with remembered devices would be in vain: the upstream has taken another password
    /// since start. From a network where she signed in well it is compared all the same: some upstreams give every program
    /// its own password, and that of a device which has not come back yet is not known to be anything.
    fn password_known_wrong(&self, world: &World<'_>) -> bool {
        let Some(person) = self.person else { return false };
        let mut lengths = factor::code_lengths(self.facts.enrolled_with());
        if lengths.is_empty() {
            lengths.push(6);
        }
        let literal = self.attempt.literal.expose();
        let Some(split) = literal::split(literal, &lengths) else {
            return false;
        };
        let password = world
            .memory
            .password_print(person, &literal[..split.password_len]);
        world.memory.judge(person, password) == Judgement::Wrong && !self.familiar(world).host()
    }

    /// What a refusal depends on besides the literal; when it changes, what was refused lately is asked anew. The guessing
    /// budget is no part of it: an attacker would see by a changed answer that it was spent, and so that the password in
    /// the guesses is right. A restored budget forgets the person's refusals instead.
    fn epoch(&self, world: &World<'_>) -> u64 {
        let settings = world.settings;
        world.memory.epoch(&(
            self.facts.versions(),
            self.mode(settings),
            self.without_code(world),
            world.now.clock_known,
            &settings.counting,
            settings.max_devices,
        ))
    }

    fn charge(&self, world: &World<'_>) -> Charge {
        Charge {
            subject: self.subject,
            address: self.attempt.address,
            literal: world
                .memory
                .short_print(self.subject, self.attempt.literal.expose()),
            familiar: self.familiar(world),
            known: None,
        }
    }

    fn remember_dead(&self, tag: Tag, world: &mut World<'_>) {
        if let (Some(person), Some(print)) = (self.person, self.print(world)) {
            world.memory.remember_dead(person, print, tag);
        }
    }

    fn account(&self) -> Arc<str> {
        let person = self
            .facts
            .person
            .as_ref()
            .map(|person| person.value.login.as_str());
        person.or(self.login.as_deref()).unwrap_or_default().into()
    }

    fn route_name(&self) -> Arc<str> {
        self.route
            .as_ref()
            .map_or_else(|| "".into(), |route| route.name.clone())
    }

    fn trial(&self, password_len: usize, device: Option<DeviceId>) -> Trial {
        let account = self.account();
        let form = self
            .route
            .as_ref()
            .map_or(LoginForm::AsTyped, |route| route.login);
        Trial {
            person: self.person,
            upstream_login: people::upstream_login(form, &account, &self.attempt.login),
            account,
            route: self.route_name(),
            password: Secret::copy(self.password(password_len)),
            device,
        }
    }

    fn password(&self, len: usize) -> &[u8] {
        let literal = self.attempt.literal.expose();
        literal.get(..len).unwrap_or(literal)
    }
}

fn refused(refusal: Refusal) -> Next {
    Next::Done(Verdict::Refuse(refusal), Batch::default())
}

/// How often a conflict with another writer is tried again.
const MAX_CONFLICTS: u8 = 3;
/// Whoever signed in well within this time from a network has the reserved lane of the slow hash there.
const POOL_FAMILIAR: Duration = Duration::from_secs(30 * 24 * 3600);
