//! Everything that a scene needs.

use super::client::Client;
use super::gateway::{Phone, TestGateway};
use super::upstream::{FakeUpstream, Script, Transport};

/// A gateway in front of a scripted mail server, with alice enrolled.
pub struct Stage {
    pub gateway: TestGateway,
    pub upstream: FakeUpstream,
    pub alice: Phone,
}

impl Stage {
    pub fn new(script: Script) -> Stage {
        Stage::with(script, "")
    }

    pub fn with(script: Script, more: &str) -> Stage {
        let directory = tempfile::tempdir().unwrap();
        let transport = script.transport;
        let upstream = FakeUpstream::start(script, directory.path());
        let table = match transport {
            Transport::Clear => "tls = \"none\"\npasswords_in_clear = true",
            Transport::StartTls => "tls = \"starttls\"\nca_file = \"{dir}/ca.pem\"",
            Transport::Implicit => "tls = \"implicit\"\nca_file = \"{dir}/ca.pem\"",
        };
        let table = format!(
            "host = \"localhost\"\nport = {}\nlogin_timeout = \"1s\"\n{table}",
            upstream.port()
        );
        let gateway = TestGateway::with(directory, &table, more);
        let alice = gateway.enrol("alice@example.org");
        Stage {
            gateway,
            upstream,
            alice,
        }
    }

    /// Signs in on a fresh connection.
    pub fn signed_in(&self) -> Client {
        let mut client = self.gateway.client();
        let answer = client.command("a", &format!("LOGIN alice secret@{}", self.alice.code()));
        assert!(answer.starts_with("a OK"), "{answer}");
        client
    }
}
