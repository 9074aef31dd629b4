//! SASL answers: no empty field, no NUL, read as they are written.
#![no_main]

use gatepost_fuzz::invariants::sasl;

libfuzzer_sys::fuzz_target!(|input: &[u8]| sasl::sasl(input));
