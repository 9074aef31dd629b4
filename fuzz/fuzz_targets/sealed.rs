//! Sealed records: open in their own place as they were sealed, nowhere else.
#![no_main]

use gatepost_fuzz::invariants::records;

libfuzzer_sys::fuzz_target!(|input: &[u8]| records::sealed(input));
