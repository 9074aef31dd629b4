//! Gatepost: a two-factor gateway for mail that already exists.
//!
//! It stands in front of an organisation's mail server and adds a one-time code to unchanged mail programs: a person types
//! `password@123456` once per device, the program saves that string, and it stays good for that device until it is revoked.
//!
//! # The way of one connection
//!
//! ```text
//! accept (places)          net::places        when all are taken, the oldest that has not signed in makes room
//!   │ TLS if implicit      net::stream        the only room that names rustls
//!   ▼
//! server machine           wire::imap::server pure: bytes in, `Credentials` out
//!   │ Credentials          mail::login        the driver; names no protocol
//!   ▼
//! gate.sign_in             gate               carries out what the policy asks for:
//!   │   ├─ records         store              cached; warm sign-ins read nothing
//!   │   ├─ slow hash       gate::slow_hash    bounded pool
//!   │   └─ proof           mail::upstream     dial, client machine, *this connection is the session*
//!   │        policy        auth               pure: what is needed next, and at last the verdict
//!   ▼
//! the upstream's own success line to the client; the login task ends and is dropped whole
//!   ▼
//! relay                    mail::relay        two streams, a guard, no buffer while idle
//!   │ guard                wire::imap::guard  nobody becomes somebody else on a signed-in connection
//!   ▼
//! close                    report             one line: who, device, bytes, duration, which side ended it
//! ```
//!
//! # The rooms
//!
//! | room | what lives there | may use |
//! |---|---|---|
//! | [`secret`], [`reason`] | leaves: redacted values; why somebody was let in or not | nothing |
//! | [`wire`] | **pure** protocol machines and guards | leaves |
//! | [`auth`] | **pure** policy: attempt → need → verdict | `store::records`, leaves |
//! | [`gate`] | carries out what the policy needs; live sessions; slow hashes | `auth`, `store`, `report` |
//! | [`store`] | records, sealing, engines | leaves |
//! | [`net`] | sockets, TLS, caps, shutdown | leaves |
//! | [`mail`] | drives machines over sockets; upstreams; the splice | `wire`, `gate`, `net`, `report`, types of `auth` |
//! | [`admin`] | the admin API on its Unix socket | `gate`, `store`, `report`, types of `auth` |
//! | [`report`] | the sign-in log, the session line, the log itself | `store` |
//! | [`config`] | TOML text → every module's settings | settings types |
//! | [`run`], [`cli`] | put it together; commands | everything |
//!
//! `tests/layering.rs` keeps these walls. Beside the library, `main.rs` holds the program's allocator, `allocator.rs`.
//!
//! # Invariants
//!
//! * A splice begins only after the upstream's own success for exactly this person and password (P1).
//! * Without a right code or a known device no byte of a password reaches an upstream, outside learning mode.
//! * A right code is tied to one literal by a conditional, synced write before the upstream is asked. This alone makes
//!   replay safe; single flight only saves work.
//! * Whatever the reason, an unproven client hears one of three answers, and hears it at the same instant.
//! * A secret lives in [`secret::Secret`] from the socket to its last use, and no copy of it is left in memory after that.
//!   What is left all the same stands in `tests/secrets/main.rs`.
//! * Nothing that a peer sends reaches a panic; a panic in one connection ends that connection only.

#![forbid(unsafe_code)]

pub mod admin;
pub mod auth;
pub mod cli;
pub mod config;
pub mod gate;
pub mod mail;
pub mod net;
pub mod reason;
pub mod report;
pub mod run;
pub mod secret;
pub mod store;
pub mod wire;
