//! The protocol machines from outside: transcripts of dialogues, machines wired together in memory, and properties.
//! No sockets, no clock.

mod invariants;
mod oracle;
mod properties;
mod relay;
mod transcripts;
mod wired;
