//! A whole gateway in this process, on free ports, with an enrolled person.

use super::client::Client;
use gatepost::admin::api::person::NewPerson;
use gatepost::admin::api::token::NewToken;
use gatepost::admin::api::{self, Failure, Method, Request, Response};
use gatepost::config::{self, Surroundings};
use gatepost::run::Gateway;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

/// A running gateway. Dropping it drains it.
pub struct TestGateway {
    pub directory: TempDir,
    gateway: Option<Gateway>,
    runtime: tokio::runtime::Runtime,
}

/// Refusals leave after this in tests, instead of 2.5 s: tests are not to be slow, and the pace has tests of its own.
pub const PACE: Duration = Duration::from_millis(20);

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
            domains = ["example.org"]
            upstreams = ["mail"]
            "#,
            dir = path.display(),
            upstream = upstream.replace("{dir}", &path.display().to_string()),
        );
        let loaded = config::load_text(&text, Some(&path.join("gatepost.toml")), &nowhere());
        let mut settings = loaded.unwrap_or_else(|error| panic!("{error}")).settings;
        settings.access.pace.floor = PACE;
        settings.access.pace.ceiling = PACE;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let gateway = runtime
            .block_on(Gateway::start(settings))
            .unwrap_or_else(|error| panic!("{error}"));
        TestGateway {
            directory,
            gateway: Some(gateway),
            runtime,
        }
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
    pub fn admin(&self, request: &Request) -> Result<serde_json::Value, Failure> {
        match api::handle(request, self.running().context())? {
            Response::Json(body) => Ok(serde_json::from_slice(body.expose()).unwrap()),
            Response::Follow(_) => panic!("nothing is followed here"),
        }
    }

    /// Adds a person with a TOTP token and gives the token back.
    pub fn enrol(&self, login: &str) -> Phone {
        let person = NewPerson {
            login: login.to_owned(),
            aliases: Vec::new(),
        };
        self.admin(&Request::new(Method::Post, &["people"]).with_body(&person))
            .unwrap();
        let token = NewToken {
            label: "phone".to_owned(),
            digits: 6,
            period: 30,
            algorithm: "sha1".to_owned(),
        };
        let enrolment =
            self.admin(&Request::new(Method::Post, &["people", login, "tokens"]).with_body(&token));
        Phone::new(enrolment.unwrap()["seed"].as_str().unwrap())
    }

    /// The identifiers of a person's devices.
    pub fn devices(&self, login: &str) -> Vec<String> {
        let devices = self
            .admin(&Request::new(Method::Get, &["people", login, "devices"]))
            .unwrap();
        let id = |device: &serde_json::Value| device["id"].as_str().unwrap().to_owned();
        devices.as_array().unwrap().iter().map(id).collect()
    }

    /// Waits until the sign-in log, which is written lazily, has an entry with this reason.
    pub fn wait_for_reason(&self, reason: &str) {
        let asked = Request::new(Method::Get, &["sign-ins"]).with("reason", Some(reason));
        let found = (0..100).any(|_| {
            let entries = self.admin(&asked).unwrap();
            let found = !entries.as_array().unwrap().is_empty();
            if !found {
                std::thread::sleep(Duration::from_millis(50));
            }
            found
        });
        assert!(found, "nothing is {reason} in the sign-in log");
    }

    /// Revokes a device.
    pub fn revoke(&self, login: &str, device: &str) {
        self.admin(&Request::new(
            Method::Delete,
            &["people", login, "devices", device],
        ))
        .unwrap();
    }

    /// Ends it as SIGTERM would.
    pub fn drain(&mut self) {
        if let Some(gateway) = self.gateway.take() {
            self.runtime.block_on(gateway.drain()).unwrap();
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

/// A machine of which the loader knows nothing.
fn nowhere() -> Surroundings {
    Surroundings {
        root: false,
        home: None,
        xdg_data_home: None,
        xdg_runtime_dir: None,
        hostname: "localhost".into(),
        ipv6: false,
        gateways: Vec::new(),
    }
}

/// A person's authenticator app.
pub struct Phone {
    token: totp_rs::Totp,
}

impl Phone {
    /// Scans the seed.
    pub fn new(base32: &str) -> Phone {
        Phone::with_digits(base32, 6)
    }

    /// Scans the seed of a token whose codes have that many digits.
    pub fn with_digits(base32: &str, digits: u8) -> Phone {
        let seed = data_encoding::BASE32_NOPAD.decode(base32.as_bytes()).unwrap();
        let builder = totp_rs::Builder::new().with_secret(seed);
        Phone {
            token: builder.with_digits(digits).build().unwrap(),
        }
    }

    /// The code that it shows now.
    pub fn code(&self) -> String {
        self.code_at(0)
    }

    /// A code that it showed or will show, in steps of 30 s from now.
    pub fn code_at(&self, steps: i64) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        self.token
            .generate(now.saturating_add_signed(steps * 30))
            .to_string()
    }

    /// A code that is right at no step anywhere near now, and that stands nowhere by chance.
    pub fn wrong_code(&self) -> String {
        let near: Vec<String> = (-10..=10).map(|step| self.code_at(step)).collect();
        let digits = near[0].len();
        let codes = (1..).map(|n: u64| format!("{:0digits$}", n * 73_910_264 % 10_u64.pow(digits as u32)));
        codes.into_iter().find(|code| !near.contains(code)).unwrap()
    }
}
