//! Routes and upstreams: where a person's mail server is and how to reach it.

use crate::net::UpstreamTlsSettings;
use crate::reason::Protocol;
use crate::wire::UpstreamTls;
use std::time::Duration;

/// One mail server for one protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamSettings {
    /// The configuration's name of it.
    pub name: String,
    /// The protocol it speaks.
    pub protocol: Protocol,
    /// DNS name (or address); also the reference identifier of its certificate and the SNI (P22).
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// How TLS is started.
    pub tls: UpstreamTls,
    /// How its certificate is verified.
    pub verify: UpstreamTlsSettings,
    /// TCP connect, over all addresses together.
    pub connect_timeout: Duration,
    /// From connected to ready or refused.
    pub login_timeout: Duration,
}
