//! Drives wire machines over sockets.

pub mod relay;
pub mod upstream;
