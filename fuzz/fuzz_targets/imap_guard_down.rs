//! The guard against an upstream that says anything, and both sides in any order.
#![no_main]

use gatepost_fuzz::invariants::machines;

libfuzzer_sys::fuzz_target!(|input: &[u8]| machines::guard_down(input));
