//! Factors: what a code is checked against. A new kind of factor is a file and a row here.

mod totp;

use crate::reason::Protocol;
use crate::store::records::{FactorId, FactorState, Factors, UnixTime};

/// A code that is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Match {
    /// Whose code it is.
    pub(super) factor: FactorId,
    /// RFC 6238's T: what is claimed.
    pub(super) step: u64,
    /// When the code stops being right.
    pub(super) window_ends: UnixTime,
}

/// The lengths of the codes of a person's active factors; empty when she is not enrolled.
pub(super) fn code_lengths(factors: Option<&Factors>) -> Vec<u8> {
    active(factors).map(|totp| totp.digits).collect()
}

/// Whether this factor still counts.
pub(super) fn is_active(factors: &Factors, factor: FactorId) -> bool {
    active(Some(factors)).any(|totp| totp.id == factor)
}

/// Checks a code against all active factors and all steps of the window, without early exit: the time tells neither
/// which factor nor which step.
pub(super) fn check(
    factors: Option<&Factors>,
    code: &[u8],
    protocol: Protocol,
    now: UnixTime,
) -> Option<Match> {
    let mut right = None;
    for totp in active(factors) {
        let found = totp::check(totp, code, skew(protocol), now);
        right = right.or(found);
    }
    right
}

fn active(factors: Option<&Factors>) -> impl Iterator<Item = &crate::store::records::Totp> {
    factors
        .into_iter()
        .flat_map(|factors| &factors.totp)
        .filter(|totp| totp.state == FactorState::Active)
}

/// Steps that a code may be early or late. A code is typed once for each device, and a mail program probes ports and TLS
/// variants for up to two minutes before it arrives here.
fn skew(protocol: Protocol) -> u64 {
    match protocol {
        Protocol::Imap => 2,
    }
}
