//! Certificates as pinning reads them, and rustls as an oracle.
#![no_main]

use gatepost_fuzz::invariants::certificates;

libfuzzer_sys::fuzz_target!(|input: &[u8]| certificates::certificates(input));
