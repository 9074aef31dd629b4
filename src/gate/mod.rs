//! tmp
pub mod sessions;
