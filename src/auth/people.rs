//! Logins, aliases, domains and modes: from what was typed to a person and a route.

use crate::store::records::Mode;

/// The form in which a route's upstream wants the login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginForm {
    /// `alice@example.org`.
    Address,
    /// `alice`.
    LocalPart,
    /// Byte for byte what the client sent.
    AsTyped,
}

/// Which upstreams serve a domain, and how strictly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteSettings {
    /// The configuration's name of it.
    pub name: String,
    /// Domains in lower case; `*` serves every other one.
    pub domains: Vec<String>,
    /// Names of upstreams, at most one a protocol.
    pub upstreams: Vec<String>,
    /// The login form.
    pub login: LoginForm,
    /// The route's mode, where it differs from the box's.
    pub mode: Option<Mode>,
}
