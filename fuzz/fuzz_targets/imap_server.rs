//! The server machine: the same answers however the input is cut, bounded memory, no password looked at before TLS.
#![no_main]
#![allow(dead_code, reason = "each target uses one of the shared invariants")]

#[path = "../../tests/wire/invariants.rs"]
mod invariants;
#[path = "../../tests/wire/relay.rs"]
mod relay;

libfuzzer_sys::fuzz_target!(|input: &[u8]| invariants::server(input));
