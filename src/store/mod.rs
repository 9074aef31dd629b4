//! What survives a restart.
//!
//! [`Store`] is what the other rooms use: typed keys and values, sealed on the way down. An [`Engine`] below it sees only
//! opaque bytes.

pub mod records;

use std::future::Future;
use std::pin::Pin;

/// A boxed future, so that an engine can be chosen at run time. Never on the path of a warm sign-in.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
