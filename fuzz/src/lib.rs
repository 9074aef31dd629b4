//! The invariants of `tests/invariants`, compiled once for all targets.

#[path = "../../tests/invariants/mod.rs"]
pub mod invariants;
