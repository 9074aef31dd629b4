//! One log line per session and one per decided attempt: `event=session` and `event=sign-in`, with fields whose names do
//! not change.

use crate::reason::{Protocol, Reason};
use crate::store::records::{DeviceId, FactorId, PersonId, SignInEntry};
use log::{Level, Record};
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
    pub duration: Duration,
    /// The stable word for which side ended it, and why.
    pub end: &'a str,
}

impl SessionLine<'_> {
    /// Writes the line.
    pub fn log(&self) {
        write("gatepost::session", "session ended", || self.fields());
    }

    fn fields(&self) -> Fields {
        let mut fields = vec![
            ("event", "session".to_owned()),
            ("session", self.session.to_string()),
            ("protocol", self.protocol.to_string()),
            ("listener", self.listener.to_owned()),
            ("account", self.account.to_owned()),
        ];
        fields.extend(self.person.map(|person| ("person", person.to_string())));
        fields.extend(self.device.map(|device| ("device", device.to_string())));
        fields.extend(self.factor.map(|factor| ("factor", factor.to_string())));
        fields.extend([
            ("reason", self.reason.name().to_owned()),
            ("address", self.address.to_string()),
            ("tls", self.tls.unwrap_or("none").to_owned()),
            ("upstream", self.upstream.to_owned()),
            ("up", self.up.to_string()),
            ("down", self.down.to_string()),
            ("seconds", format!("{:.3}", self.duration.as_secs_f64())),
            ("end", self.end.to_owned()),
        ]);
        fields
    }
}

/// Writes the line of a decided attempt.
pub fn sign_in(entry: &SignInEntry, listener: &str) {
    write("gatepost::sign_in", "sign-in decided", || {
        let mut fields = vec![
            ("event", "sign-in".to_owned()),
            ("protocol", entry.protocol.to_string()),
            ("listener", listener.to_owned()),
            ("account", entry.login.clone()),
        ];
        fields.extend(entry.person.map(|person| ("person", person.to_string())));
        fields.extend(entry.device.map(|device| ("device", device.to_string())));
        fields.extend([
            ("reason", entry.reason.name().to_owned()),
            ("address", entry.address.to_string()),
        ]);
        fields.extend(
            entry
                .enforcing_would
                .map(|reason| ("enforcing_would", reason.name().to_owned())),
        );
        fields.extend(entry.client_hint.clone().map(|hint| ("client", hint)));
        fields
    });
}

type Fields = Vec<(&'static str, String)>;

fn write(target: &str, message: &str, fields: impl FnOnce() -> Fields) {
    if log::log_enabled!(target: target, Level::Info) {
        let fields = fields();
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

    fn text(fields: &Fields) -> String {
        fields
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect::<Vec<_>>()
            .join(" ")
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
            duration: Duration::from_millis(1500),
            end: "client-quit",
        };
        assert_eq!(
            text(&line.fields()),
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
            text(&nobody.fields()),
            "event=session session=7 protocol=imap listener=imaps account=alice@example.org reason=new_device \
             address=192.0.2.1 tls=none upstream=dovecot up=10 down=2000 seconds=1.500 end=client-quit"
        );
    }
}
