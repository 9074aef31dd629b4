//! Commands, greetings and responses that imap-codec reads, read alike.
#![no_main]

use gatepost_fuzz::invariants::oracle;

libfuzzer_sys::fuzz_target!(|input: &[u8]| oracle::oracle(input));
