//! Times, spans, identifiers, failures read back; a stranger's text steers no terminal.
#![no_main]

use gatepost_fuzz::invariants::texts;

libfuzzer_sys::fuzz_target!(|input: &[u8]| texts::texts(input));
