//! Every parser and machine against its invariant (`tests/invariants`), with generated inputs and with the corpus of the fuzz
//! targets. The properties of IMAP's machines are in `tests/wire`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod corpus;
#[path = "../invariants/mod.rs"]
mod invariants;
mod oracle;
mod parsers;
