//! The machine of one sign-in.

use super::memory::Charge;
use super::{Answer, Attempt, Next, Verdict, World};
use crate::reason::{Reason, Refusal};
use crate::store::records::{Batch, PersonId};

/// A sign-in on its way to a verdict.
#[derive(Debug)]
pub struct SignIn {
    attempt: Box<Attempt>,
}

impl SignIn {
    /// Starts a sign-in.
    pub fn begin(attempt: Attempt, world: &mut World<'_>) -> Next {
        let _ = world;
        drop(SignIn {
            attempt: Box::new(attempt),
        });
        Next::Done(Verdict::Refuse(Refusal::unproven(Reason::Busy)), Batch::default())
    }

    /// Goes on with the answer to what was needed.
    pub fn resume(self, answer: Answer, world: &mut World<'_>) -> Next {
        let _ = (answer, world);
        Next::Done(Verdict::Refuse(Refusal::unproven(Reason::Busy)), Batch::default())
    }

    /// The person, once the login was looked up.
    pub fn person(&self) -> Option<PersonId> {
        None
    }

    /// The route's name, once it is known: also for a login that is no person.
    pub fn route(&self) -> Option<&str> {
        None
    }

    /// The attempt as it came.
    pub fn attempt(&self) -> &Attempt {
        &self.attempt
    }

    /// What it costs if the client vanishes now: something only while the upstream is being asked.
    pub fn charge(&self) -> Option<Charge> {
        None
    }
}
