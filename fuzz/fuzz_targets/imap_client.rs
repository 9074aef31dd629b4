//! The client machine: the same reports however the upstream's bytes are cut, no password in the clear.
#![no_main]
#![allow(dead_code, reason = "each target uses one of the shared invariants")]

#[path = "../../tests/wire/invariants.rs"]
mod invariants;
#[path = "../../tests/wire/relay.rs"]
mod relay;

libfuzzer_sys::fuzz_target!(|input: &[u8]| invariants::client(input));
