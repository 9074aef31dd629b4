//! Our client machine to our server machine: what one writes, the other reads.
#![no_main]

use gatepost_fuzz::invariants::both_machines;

libfuzzer_sys::fuzz_target!(|input: &[u8]| both_machines::both_machines(input));
