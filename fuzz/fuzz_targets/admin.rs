//! The admin API: targets, bodies, and what they do to a store.
#![no_main]

use gatepost_fuzz::invariants::admin;

libfuzzer_sys::fuzz_target!(|input: &[u8]| admin::admin(input));
