//! One log line per session and one per decided attempt: `event=session` and `event=sign-in`, with fields whose names do
//! not change.

use crate::reason::{Protocol, Reason};
use crate::store::records::{DeviceId, FactorId, PersonId, SignInEntry};
use log::kv::{self, Key, Source, Value, VisitSource};
use log::{Level, Record};
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

/// All there is to say about a session that has ended.
#[derive(Clone, Debug)]
pub struct SessionLine<'a> {
    /// Its number, as `session list` showed it.
    pub session: u64,
    /// By which protocol.
    pub protocol: Protocol,
    /// The listener's name.
    pub listener: &'a str,
    /// Who; `None` for a login that is no person yet.
    pub person: Option<PersonId>,
    /// Her normalised login.
    pub account: &'a str,
    /// Which device.
    pub device: Option<DeviceId>,
    /// The factor whose code let her in just now.
    pub factor: Option<FactorId>,
    /// Why she was let in.
    pub reason: Reason,
    /// From where.
    pub address: IpAddr,
    /// TLS version and cipher of the client's leg; `None` in the clear.
    pub tls: Option<&'a str>,
    /// The upstream's name.
    pub upstream: &'a str,
    /// Bytes from client to upstream.
    pub up: u64,
    /// Bytes from upstream to client.
    pub down: u64,
    /// From sign-in to close.
    pub duration: Seconds,
    /// The stable word for which side ended it, and why.
    pub end: &'a str,
}

impl SessionLine<'_> {
    /// Writes the line.
    pub fn log(&self) {
        write("gatepost::session", "session ended", self);
    }
}

impl Source for SessionLine<'_> {
    fn visit<'kvs>(&'kvs self, to: &mut dyn VisitSource<'kvs>) -> Result<(), kv::Error> {
        let mut pair = |key, value| to.visit_pair(Key::from_str(key), value);
        pair("event", "session".into())?;
        pair("session", self.session.into())?;
        pair("protocol", Value::from_display(&self.protocol))?;
        pair("listener", self.listener.into())?;
        pair("account", self.account.into())?;
        if let Some(person) = &self.person {
            pair("person", Value::from_display(person))?;
        }
        if let Some(device) = &self.device {
            pair("device", Value::from_display(device))?;
        }
        if let Some(factor) = &self.factor {
            pair("factor", Value::from_display(factor))?;
        }
        pair("reason", self.reason.name().into())?;
        pair("address", Value::from_display(&self.address))?;
        pair("tls", self.tls.unwrap_or("none").into())?;
        pair("upstream", self.upstream.into())?;
        pair("up", self.up.into())?;
        pair("down", self.down.into())?;
        pair("seconds", Value::from_display(&self.duration))?;
        pair("end", self.end.into())
    }
}

/// A duration in seconds, to the millisecond.
#[derive(Clone, Copy, Debug)]
pub struct Seconds(pub Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0.as_secs(), self.0.subsec_millis())
    }
}

/// Writes the line of a decided attempt.
pub fn sign_in(entry: &SignInEntry, listener: &str) {
    write(
        "gatepost::sign_in",
        "sign-in decided",
        &SignInLine { entry, listener },
    );
}

struct SignInLine<'a> {
    entry: &'a SignInEntry,
    listener: &'a str,
}

impl Source for SignInLine<'_> {
    fn visit<'kvs>(&'kvs self, to: &mut dyn VisitSource<'kvs>) -> Result<(), kv::Error> {
        let mut pair = |key, value| to.visit_pair(Key::from_str(key), value);
        let entry = self.entry;
        pair("event", "sign-in".into())?;
        pair("protocol", Value::from_display(&entry.protocol))?;
        pair("listener", self.listener.into())?;
        pair("account", entry.login.as_str().into())?;
        if let Some(person) = &entry.person {
            pair("person", Value::from_display(person))?;
        }
        if let Some(device) = &entry.device {
            pair("device", Value::from_display(device))?;
        }
        pair("reason", entry.reason.name().into())?;
        pair("address", Value::from_display(&entry.address))?;
        if let Some(reason) = entry.enforcing_would {
            pair("enforcing_would", reason.name().into())?;
        }
        match &entry.client_hint {
            Some(hint) => pair("client", hint.as_str().into()),
            None => Ok(()),
        }
    }
}

fn write(target: &str, message: &str, fields: &dyn Source) {
    if log::log_enabled!(target: target, Level::Info) {
        log::logger().log(
            &Record::builder()
                .level(Level::Info)
                .target(target)
                .module_path_static(Some(module_path!()))
                .args(format_args!("{message}"))
                .key_values(&fields)
                .build(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Pairs(Vec<String>);

    impl<'kvs> VisitSource<'kvs> for Pairs {
        fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
            self.0.push(format!("{key}={value}"));
            Ok(())
        }
    }

    fn text(line: &SessionLine<'_>) -> String {
        let mut pairs = Pairs(Vec::new());
        line.visit(&mut pairs).unwrap();
        pairs.0.join(" ")
    }

    #[test]
    fn a_session_says_who_how_and_how_it_ended() {
        let line = SessionLine {
            session: 7,
            protocol: Protocol::Imap,
            listener: "imaps",
            person: Some(PersonId([1; 8])),
            account: "alice@example.org",
            device: Some(DeviceId([2; 8])),
            factor: Some(FactorId([3; 8])),
            reason: Reason::NewDevice,
            address: "192.0.2.1".parse().unwrap(),
            tls: Some("TLSv1.3"),
            upstream: "dovecot",
            up: 10,
            down: 2000,
            duration: Seconds(Duration::from_millis(1500)),
            end: "client-quit",
        };
        assert_eq!(
            text(&line),
            "event=session session=7 protocol=imap listener=imaps account=alice@example.org person=aeaqcaibaeaqc \
             device=aibaeaqcaibae factor=ambqgaydambqg reason=new_device address=192.0.2.1 tls=TLSv1.3 \
             upstream=dovecot up=10 down=2000 seconds=1.500 end=client-quit"
        );
        let nobody = SessionLine {
            person: None,
            device: None,
            factor: None,
            tls: None,
            ..line
        };
        assert_eq!(
            text(&nobody),
            "event=session session=7 protocol=imap listener=imaps account=alice@example.org reason=new_device \
             address=192.0.2.1 tls=none upstream=dovecot up=10 down=2000 seconds=1.500 end=client-quit"
        );
    }
}
