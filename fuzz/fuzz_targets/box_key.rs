//! The box key's file.
#![no_main]

use gatepost_fuzz::invariants::records;

libfuzzer_sys::fuzz_target!(|input: &[u8]| records::box_key(input));
