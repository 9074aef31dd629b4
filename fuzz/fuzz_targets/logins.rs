//! What was typed as login or password: one normal form, one reading.
#![no_main]

use gatepost_fuzz::invariants::texts;

libfuzzer_sys::fuzz_target!(|input: &[u8]| texts::logins(input));
