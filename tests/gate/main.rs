//! The gate with the real policy, in virtual time.

mod flights;
mod revoking;
mod sign_ins;
mod world;
