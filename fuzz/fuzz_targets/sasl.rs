//! SASL answers: no panic, and no identity with an empty field or a NUL.
#![no_main]
#![allow(dead_code, reason = "each target uses one of the shared invariants")]

#[path = "../../tests/wire/invariants.rs"]
mod invariants;
#[path = "../../tests/wire/relay.rs"]
mod relay;

libfuzzer_sys::fuzz_target!(|input: &[u8]| invariants::sasl(input));
