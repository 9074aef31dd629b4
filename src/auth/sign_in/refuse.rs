//! The way to a refusal: the queue that everybody stands in, counting, blocks, the budget.

use super::facts::{pick_budget, read, unchanged};
use super::{Case, MAX_CONFLICTS, SignIn, Waiting, refused};
use crate::auth::memory::{Judgement, Print};
use crate::auth::throttle::{self, Miss, NewBlock};
use crate::auth::{Need, Next, World, literal};
use crate::reason::{Reason, Refusal};
use crate::store::records::{Batch, Block, Durability, Expect, Key, Outcome, Record, Value};

/// A refusal and what it costs.
#[derive(Debug)]
pub(super) struct Ending {
    refusal: Refusal,
    /// Whether the literal counts as failed.
    counts: bool,
    /// Whether the same attempt is answered from memory for a while.
    cached: bool,
    miss: Option<Missed>,
}

/// A wrong code that the budget counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Missed {
    miss: Miss,
    password: Print,
}

impl Ending {
    /// An unproven refusal that counts.
    pub(super) fn counted(reason: Reason) -> Ending {
        Ending {
            refusal: Refusal::unproven(reason),
            counts: true,
            cached: true,
            miss: None,
        }
    }

    /// The same, and perhaps the budget's business.
    pub(super) fn missed(reason: Reason, miss: Option<Missed>) -> Ending {
        Ending {
            miss,
            ..Ending::counted(reason)
        }
    }

    /// A refusal that counts for nothing.
    pub(super) fn free(refusal: Refusal) -> Ending {
        Ending {
            refusal,
            counts: false,
            cached: false,
            miss: None,
        }
    }

    /// It may be otherwise the next time.
    pub(super) fn not_cached(self) -> Ending {
        Ending {
            cached: false,
            ..self
        }
    }

    pub(super) fn counts(&self) -> bool {
        self.counts
    }

    /// It will be the same the next time, though it counts for nothing.
    pub(super) fn cached(self) -> Ending {
        Ending { cached: true, ..self }
    }
}

/// A refusal whose price is being written down.
#[derive(Debug)]
pub(super) struct Recording {
    ending: Ending,
    blocks: Vec<NewBlock>,
    conflicts: u8,
}

impl SignIn {
    /// Refuses before any proof. Whoever brings something like a code has stood in the slow hash's queue by then, whether
    /// there was something to hash or not, or does so now: time must not tell what was known of name and password.
    pub(super) fn refuse(self, ending: Ending, world: &mut World<'_>) -> Next {
        let stood = self.case.queued || self.case.hashed.is_some();
        if !stood && literal::code_shaped(self.case.attempt.literal.expose()) {
            let queue = self.case.queue(world);
            return self.need(Waiting::Turn(ending), queue);
        }
        self.end(ending, world)
    }

    pub(super) fn turn_came(mut self, ending: Ending, world: &mut World<'_>) -> Next {
        self.case.queued = true;
        self.end(ending, world)
    }

    /// Refuses, and counts what is to be counted first.
    pub(super) fn end(self, ending: Ending, world: &mut World<'_>) -> Next {
        let mut blocks = Vec::new();
        if ending.counts {
            let charge = self.case.charge(world);
            let settings = &world.settings.counting;
            let level = |place: usize| self.case.next_level(place, world);
            let now = world.now;
            let levels: Vec<u8> = (0..self.case.facts.blocks.len()).map(level).collect();
            blocks = world.memory.count_failure(&charge, settings, now, |place| {
                levels.get(place).copied().unwrap_or(1)
            });
        }
        if ending.refusal.reason == Reason::Decoy {
            blocks.extend(self.case.decoy_block(world));
        }
        self.record(
            Recording {
                ending,
                blocks,
                conflicts: 0,
            },
            world,
        )
    }

    /// Writes blocks and budget, if there is anything to write, before the refusal is given.
    fn record(self, recording: Recording, world: &mut World<'_>) -> Next {
        let mut batch = Batch::default();
        if world.now.clock_known {
            for block in &recording.blocks {
                let value = Block {
                    reason: recording.ending.refusal.reason,
                    until: world.now.unix.plus(block.lasts),
                    level: block.level,
                };
                batch = batch.put(Key::Block(block.network), Expect::Any, Value::Block(value));
            }
        }
        if let (Some(person), Some(miss)) = (self.case.person, recording.ending.miss) {
            let read = self.case.facts.budget.as_ref();
            let budget = read.map(|read| read.value.clone()).unwrap_or_default();
            let settings = &world.settings.counting;
            let after = throttle::after_miss(&budget, miss.miss, self.case.network, settings, world.now.unix);
            batch = batch.put(Key::Budget(person), unchanged(read), Value::Budget(after));
        }
        if batch.0.is_empty() {
            return self.done(&recording.ending, world);
        }
        self.need(
            Waiting::Recorded(recording),
            Need::Commit(batch, Durability::Synced),
        )
    }

    pub(super) fn recorded(self, mut recording: Recording, outcome: Outcome, world: &mut World<'_>) -> Next {
        match (outcome, self.case.person) {
            (Outcome::Conflict(_), Some(person)) if recording.conflicts < MAX_CONFLICTS => {
                recording.conflicts += 1;
                let keys = vec![Key::Budget(person)];
                self.need(Waiting::Budget(recording), Need::Load(keys))
            }
            (Outcome::Conflict(_), _) => refused(Refusal::unproven(Reason::StoreUnavailable)),
            (Outcome::Done, _) => self.done(&recording.ending, world),
        }
    }

    pub(super) fn budget_loaded(
        mut self,
        recording: Recording,
        records: Vec<Option<Record>>,
        world: &mut World<'_>,
    ) -> Next {
        self.case.facts.budget = read(records.into_iter().next(), pick_budget);
        self.record(recording, world)
    }

    fn done(self, ending: &Ending, world: &mut World<'_>) -> Next {
        let case = &self.case;
        let now = world.now.mono;
        if let (Some(person), Some(miss)) = (case.person, ending.miss) {
            let literal = case.charge(world).literal;
            let password = (miss.miss == Miss::RightPassword).then_some(miss.password);
            world.memory.counted(person, literal, password, now);
        }
        if ending.cached {
            let literal = case.attempt.literal.expose();
            let attempt = world.memory.attempt_print(case.subject, literal);
            let epoch = case.epoch(world);
            world
                .memory
                .remember_refused(case.subject, case.network, attempt, epoch, now);
        }
        refused(ending.refusal)
    }
}

impl Case {
    /// A turn in the slow hash's queue, in the name of whoever the login belongs to.
    pub(super) fn queue(&self, world: &World<'_>) -> Need {
        Need::Queue {
            person: self.subject.stands_as(),
            familiar: self.familiar_for(super::POOL_FAMILIAR, world).host(),
        }
    }

    /// Whether a wrong code behind this password part is the budget's business. Each literal is, once a day.
    pub(super) fn miss(&self, password_len: usize, world: &mut World<'_>) -> Option<Missed> {
        let person = self.person?;
        let literal = self.charge(world).literal;
        if world.memory.was_counted(person, literal, world.now.mono) {
            return None;
        }
        let password = world.memory.password_print(person, self.password(password_len));
        let spent = self.facts.spent();
        let miss = match world.memory.judge(person, password) {
            // Once it is spent, a miss matters only where a device of hers may still match.
            Judgement::Right if spent && !self.ever_good_here() => return None,
            Judgement::Right => Miss::RightPassword,
            Judgement::Unknown if !spent && !self.familiar(world).host() => Miss::Unverified,
            Judgement::Unknown | Judgement::Wrong => return None,
        };
        Some(Missed { miss, password })
    }

    fn ever_good_here(&self) -> bool {
        let good = self.facts.good.as_ref();
        good.is_some_and(|good| good.networks.iter().any(|(held, _)| *held == self.network))
    }

    /// Which block of its row one of the address's networks would get now.
    fn next_level(&self, place: usize, world: &World<'_>) -> u8 {
        let last = self.facts.blocks.get(place).and_then(Option::as_ref);
        throttle::next_level(last, &world.settings.counting, world.now)
    }

    /// A decoy blocks its network at once, unless somebody signed in well from there: then a person of the office tried
    /// something, or her machine did, and the log says so.
    fn decoy_block(&self, world: &mut World<'_>) -> Option<NewBlock> {
        let address = self.attempt.address;
        let counting = &world.settings.counting;
        let now = world.now;
        let good = world
            .memory
            .had_good_sign_in(address, counting.familiar_for, now.mono);
        if good || self.familiar(world).host() {
            return None;
        }
        let level = self.next_level(0, world);
        let lasts = throttle::block_length(level, counting);
        world.memory.block(self.network, lasts, now.mono);
        Some(NewBlock {
            network: self.network,
            level,
            lasts,
        })
    }
}
