//! The server machine: the same answers however the input is cut, bounded, no password looked at before TLS.
#![no_main]

use gatepost_fuzz::invariants::machines;

libfuzzer_sys::fuzz_target!(|input: &[u8]| machines::server(input));
