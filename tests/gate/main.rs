//! The gate with the real policy, in virtual time.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so")]

mod flights;
mod revoking;
mod sign_ins;
mod world;
