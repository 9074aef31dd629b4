//! Gatepost: a two-factor gateway for mail that already exists.

pub mod auth;
pub mod gate;
pub mod mail;
pub mod net;
pub mod reason;
pub mod report;
pub mod secret;
pub mod store;
pub mod wire;
