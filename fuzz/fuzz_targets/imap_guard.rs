//! The guard: no command that leads back before the sign-in reaches the upstream, at any cut, with late answers too.
#![no_main]
#![allow(dead_code, reason = "each target uses one of the shared invariants")]

#[path = "../../tests/wire/invariants.rs"]
mod invariants;
#[path = "../../tests/wire/relay.rs"]
mod relay;

libfuzzer_sys::fuzz_target!(|input: &[u8]| invariants::guard(input));
