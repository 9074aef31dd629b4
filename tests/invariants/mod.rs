//! What holds for every input of every parser and machine. One function each, which panics where it does not hold: properties
//! call them with generated inputs (`tests/properties`, `tests/wire`), the targets in `fuzz/` with whatever a fuzzer
//! finds, and `tests/properties/corpus.rs` with everything that was ever worth keeping.
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "each crate that has this uses its part of it"
)]
#![allow(clippy::unwrap_used, reason = "whatever cannot go on has found something")]

pub mod admin;
pub mod both_machines;
pub mod certificates;
pub mod config;
#[path = "../policy/lab.rs"]
mod lab;
pub mod lines;
pub mod machines;
pub mod oracle;
pub mod records;
pub mod relay;
pub mod sasl;
pub mod sign_in;
pub mod texts;

/// What panics where something does not hold for an input.
pub type Invariant = fn(&[u8]);

/// Every fuzz target with its invariant.
pub const TARGETS: [(&str, Invariant); 17] = [
    ("admin", admin::admin),
    ("box_key", records::box_key),
    ("certificates", certificates::certificates),
    ("config", config::config),
    ("imap_both_machines", both_machines::both_machines),
    ("imap_client", machines::client),
    ("imap_guard", machines::guard),
    ("imap_guard_down", machines::guard_down),
    ("imap_oracle", oracle::oracle),
    ("imap_server", machines::server),
    ("lines", lines::lines),
    ("logins", texts::logins),
    ("records", records::records),
    ("sasl", sasl::sasl),
    ("sealed", records::sealed),
    ("sign_in", sign_in::sign_in),
    ("texts", texts::texts),
];
