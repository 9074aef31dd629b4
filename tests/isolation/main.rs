//! What goes wrong in one place is noticed by nobody else: each kind of trouble, what the others notice, and what the log
//! says about it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../support/mod.rs"]
mod support;

mod crowd;
mod descriptors;
mod disk;
mod fault;
mod hashes;
mod house;
mod stalled;
