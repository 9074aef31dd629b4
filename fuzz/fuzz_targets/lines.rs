//! The buffer of received bytes against a queue.
#![no_main]

use gatepost_fuzz::invariants::lines;

libfuzzer_sys::fuzz_target!(|input: &[u8]| lines::lines(input));
