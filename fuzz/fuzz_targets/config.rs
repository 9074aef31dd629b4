//! The configuration: refused with findings, or printed and read back.
#![no_main]

use gatepost_fuzz::invariants::config;

libfuzzer_sys::fuzz_target!(|input: &[u8]| config::config(input));
