//! Drives wire machines over sockets.

pub mod upstream;
