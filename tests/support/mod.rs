//! What whole-product tests share: a gateway on ports of its own, a mail program, and a mail server that misbehaves.
#![allow(dead_code, unreachable_pub, reason = "each test crate uses its part of it")]
#![allow(
    clippy::unwrap_used,
    reason = "clippy allows it in tests, and this is a part of them"
)]

pub mod client;
pub mod gateway;
pub mod upstream;
