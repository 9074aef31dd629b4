//! The client machine: the same reports however the upstream's bytes are cut, no password in the clear.
#![no_main]

use gatepost_fuzz::invariants::machines;

libfuzzer_sys::fuzz_target!(|input: &[u8]| machines::client(input));
