//! The protocol machines from outside: transcripts of dialogues, machines wired together in memory, and properties.
//! No sockets, no clock.

#[path = "../invariants/machines.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "shared with the fuzz targets and the other properties"
)]
mod machines;
mod properties;
#[path = "../invariants/relay.rs"]
#[allow(dead_code, unreachable_pub, reason = "as above")]
mod relay;
mod transcripts;
mod wired;
