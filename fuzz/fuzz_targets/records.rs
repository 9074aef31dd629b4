//! Keys and records: refused, or written and read back.
#![no_main]

use gatepost_fuzz::invariants::records;

libfuzzer_sys::fuzz_target!(|input: &[u8]| records::records(input));
