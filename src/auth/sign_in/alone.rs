//! A password alone, where mode or network ask for no code. Nothing of it is remembered but what counting needs.

use super::refuse::Ending;
use super::{SignIn, Waiting, refused};
use crate::auth::{Next, Proof, World};
use crate::reason::{Reason, Refusal, Rejection};
use crate::store::records::Batch;

/// A password alone on trial.
#[derive(Debug)]
pub(super) struct Alone {
    password_len: usize,
    reason: Reason,
    would: Option<Reason>,
}

impl SignIn {
    /// Asks the upstream about the first `password_len` octets of the literal; `would` is what enforcing would have said
    /// to it.
    pub(super) fn prove_alone(
        self,
        password_len: usize,
        reason: Reason,
        would: Option<Reason>,
        world: &World<'_>,
    ) -> Next {
        let trial = self.case.trial(password_len, None);
        let alone = Alone {
            password_len,
            reason,
            would: self.case.alone_would(reason, would, world),
        };
        self.prove(trial, Waiting::AloneProof(alone), world)
    }

    pub(super) fn alone_proved(self, alone: Alone, proof: Proof, world: &mut World<'_>) -> Next {
        let password = self.case.password(alone.password_len);
        let known = self
            .case
            .person
            .map(|person| (person, world.memory.password_print(person, password)));
        match proof {
            Proof::Accepted => {
                if let Some((person, password)) = known {
                    world.memory.password_right(person, password);
                }
                let literal = self.case.charge(world).literal;
                let address = self.case.attempt.address;
                world.memory.forgive(self.case.subject, address, literal);
                Next::Done(
                    self.admit(None, None, alone.reason, alone.would),
                    Batch::default(),
                )
            }
            Proof::Rejected(Rejection::Password) => {
                if let Some((person, password)) = known {
                    world.memory.password_wrong(person, password);
                }
                // Not remembered as refused lately: the same password may be right in a minute, as before Gatepost.
                self.end(Ending::counted(Reason::WrongPassword).not_cached(), world)
            }
            Proof::Rejected(Rejection::Expired) => refused(Refusal::proven(Reason::PasswordExpired)),
            Proof::Rejected(Rejection::Disabled) => refused(Refusal::proven(Reason::AccountDisabled)),
            Proof::Unavailable(outage) => refused(Refusal::unproven(outage.into())),
        }
    }
}

impl super::Case {
    pub(super) fn alone_would(
        &self,
        reason: Reason,
        would: Option<Reason>,
        world: &World<'_>,
    ) -> Option<Reason> {
        match reason {
            Reason::Learning => self.without_code_enforcing(world).or(would),
            _ => None,
        }
    }
}
