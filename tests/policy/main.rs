//! The policy from attempt to verdict, in virtual time, through its public face only.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so")]

mod budget;
mod claims;
mod counting;
mod devices;
mod known_devices;
mod lab;
mod memory;
mod modes;
mod refused_lately;
mod silence;
mod way_in;
