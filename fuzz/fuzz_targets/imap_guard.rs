//! The guard: no command that leads back before the sign-in reaches the upstream, at any cut, with late answers too.
#![no_main]

use gatepost_fuzz::invariants::machines;

libfuzzer_sys::fuzz_target!(|input: &[u8]| machines::guard(input));
