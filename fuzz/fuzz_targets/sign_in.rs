//! The policy: the promises about codes, devices and passwords, whatever happens.
#![no_main]

use gatepost_fuzz::invariants::sign_in;

libfuzzer_sys::fuzz_target!(|input: &[u8]| sign_in::sign_in(input));
