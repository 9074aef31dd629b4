//! IMAP (RFC 3501, RFC 9051): grammar, words and machines.

use super::{Dialect, OutBuf};
use crate::reason::Protocol;

/// IMAP's row in the table of protocols.
pub(super) const DIALECT: Dialect = Dialect {
    protocol: Protocol::Imap,
    alpn: b"imap",
    implicit_port: 993,
    starttls_port: 143,
    server: |_| unimplemented!(),
    client: |_| unimplemented!(),
    guard: || unimplemented!(),
    turned_away: |_| OutBuf::new(),
};
