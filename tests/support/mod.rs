//! What whole-product tests share: a gateway on ports of its own, a mail program, and a mail server that misbehaves.
#![allow(dead_code, unreachable_pub, reason = "each test crate uses its part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

pub mod client;
pub mod gateway;
pub mod log;
pub mod program;
pub mod segments;
pub mod stage;
pub mod upstream;
