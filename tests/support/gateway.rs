//! A whole gateway in this process, on free ports, with an enrolled person.

use super::client::Client;
use gatepost::admin::api::{Request, Response};
use gatepost::config;
use gatepost::run::Gateway;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

/// A running gateway. Dropping it drains it.
pub struct TestGateway {
    pub directory: TempDir,
    gateway: Option<Gateway>,
    runtime: tokio::runtime::Runtime,
}

/// Refusals leave after this in tests, instead of 2.5 s: tests are not to be slow, and the pace has tests of its own.
const PACE: Duration = Duration::from_millis(20);

impl TestGateway {
    /// Starts a gateway in front of one IMAP upstream. `upstream` is the body of its `[[upstream]]` table after the
    /// protocol; `{dir}` in it is replaced by the test's directory.
    pub fn start(directory: TempDir, upstream: &str) -> TestGateway {
        TestGateway::with(directory, upstream, "")
    }

    /// The same with more top-level configuration.
    pub fn with(directory: TempDir, upstream: &str, more: &str) -> TestGateway {
        let path = directory.path();
        let text = format!(
            r#"
            data_dir = "{dir}/data"
            admin_socket = "{dir}/run/admin.sock"
            hostname = "localhost"
            default_domain = "example.org"
            {more}
            [[listener]]
            name = "imaps"
            address = "127.0.0.1:0"
            protocol = "imap"
            tls = "implicit"
            [[listener]]
            name = "imap"
            address = "127.0.0.1:0"
            protocol = "imap"
            tls = "starttls"
            [[listener]]
            name = "clear"
            address = "127.0.0.1:0"
            protocol = "imap"
            tls = "none"
            [[upstream]]
            name = "mail"
            protocol = "imap"
            {upstream}
            [[route]]
            name = "all"
            domains = ["*"]
            upstreams = ["mail"]
            "#,
            dir = path.display(),
            upstream = upstream.replace("{dir}", &path.display().to_string()),
        );
        let mut settings = config::parse(&text, Path::new("test.toml")).unwrap_or_else(|errors| panic!("{errors}"));
        settings.access.pace.floor = PACE;
        settings.access.pace.ceiling = PACE;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let gateway = runtime.block_on(Gateway::start(settings)).unwrap_or_else(|error| panic!("{error}"));
        TestGateway { directory, gateway: Some(gateway), runtime }
    }

    pub fn address(&self, listener: &str) -> SocketAddr {
        self.running().address(listener).unwrap()
    }

    /// The self-signed certificate of the listeners.
    pub fn certificate(&self) -> PathBuf {
        self.directory.path().join("data/tls.crt")
    }

    /// A mail program on the listener without TLS, greeting read.
    pub fn client(&self) -> Client {
        let mut client = Client::plain(self.address("clear"));
        assert!(client.line().starts_with("* OK"), "a greeting");
        client
    }

    /// Asks the admin API what the command line would ask.
    pub fn admin(&self, method: &str, path: &str, body: serde_json::Value) -> Response {
        let context = self.running().context();
        gatepost::admin::api::handle(&Request::new(method, path, body), &context)
    }

    /// Adds a person with a TOTP token and gives the token back.
    pub fn enrol(&self, login: &str) -> Phone {
        let added = self.admin("POST", "/persons", serde_json::json!({ "login": login }));
        assert!(added.is_ok(), "{added:?}");
        let token = self.admin("POST", &format!("/persons/{login}/tokens"), serde_json::json!({}));
        assert!(token.is_ok(), "{token:?}");
        Phone::new(token.body()["base32"].as_str().unwrap())
    }

    /// Ends it as SIGTERM would.
    pub fn drain(&mut self) {
        if let Some(gateway) = self.gateway.take() {
            self.runtime.block_on(gateway.drain());
        }
    }

    pub fn running(&self) -> &Gateway {
        self.gateway.as_ref().expect("not drained")
    }
}

impl Drop for TestGateway {
    fn drop(&mut self) {
        self.drain();
    }
}

/// A person's authenticator app.
pub struct Phone {
    token: totp_rs::Totp,
}

impl Phone {
    fn new(base32: &str) -> Phone {
        let seed = data_encoding::BASE32_NOPAD.decode(base32.as_bytes()).unwrap();
        Phone { token: totp_rs::Builder::new().with_secret(seed).build().unwrap() }
    }

    /// The code that it shows now.
    pub fn code(&self) -> String {
        self.code_at(0)
    }

    /// A code that it showed or will show, in steps of 30 s from now.
    pub fn code_at(&self, steps: i64) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        self.token.generate(now.saturating_add_signed(steps * 30)).to_string()
    }

    /// A code that is right at no step anywhere near now.
    pub fn wrong_code(&self) -> String {
        let near: Vec<String> = (-10..=10).map(|step| self.code_at(step)).collect();
        (0..).map(|n| format!("{n:06}")).find(|code| !near.contains(code)).unwrap()
    }
}
