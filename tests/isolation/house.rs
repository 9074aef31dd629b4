//! A front in this process that is put together by the test: its own protocol row, its own slow hash.

use crate::support::client::Client;
use crate::support::stage::Stage;
use gatepost::gate::clock::SystemClock;
use gatepost::gate::slow_hash::{PoolSettings, SlowHash};
use gatepost::gate::{Gate, Parts};
use gatepost::mail::Front;
use gatepost::mail::upstream::{UpstreamSettings, Upstreams};
use gatepost::net::{
    CertificateSource, ListenLimits, ListenTls, Listener, ListenerSettings, Places, Roots, ServerTls,
    Shutdown, UpstreamTlsSettings,
};
use gatepost::reason::Protocol;
use gatepost::wire::{Dialect, Limits, UpstreamTls};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;

/// A second front on a stage's store and mail server. It ends with its owner.
pub(crate) struct House {
    pub(crate) gate: Gate,
    address: SocketAddr,
    _runtime: Runtime,
}

impl House {
    pub(crate) fn build(
        stage: &Stage,
        name: &str,
        dialect: &'static Dialect,
        slow_hash: Arc<dyn SlowHash>,
        pool: PoolSettings,
    ) -> House {
        let context = stage.gateway.running().context();
        let access = context.gate.as_ref().unwrap().settings();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let entered = runtime.enter();
        let gate = Gate::start(Parts {
            store: context.store.clone(),
            settings: (*access).clone(),
            clock: Arc::new(SystemClock),
            slow_hash,
            pool,
        })
        .unwrap();
        let settings = ListenerSettings {
            name: name.to_owned(),
            address: "127.0.0.1:0".parse().unwrap(),
            protocol: Protocol::Imap,
            tls: ListenTls::None,
        };
        let limits = ListenLimits {
            max_unauthenticated: 500,
            max_unauthenticated_per_network: 50,
            login_deadline: Duration::from_secs(60),
            idle: Duration::from_secs(1860),
        };
        let certificate = CertificateSource::SelfSigned {
            directory: stage.gateway.directory.path().join("data"),
            names: vec!["localhost".to_owned()],
        };
        let listener = Listener::bind(&settings).unwrap();
        let address = listener.local_addr().unwrap();
        let front = Front {
            settings,
            dialect,
            places: Places::new(&limits),
            limits,
            wire_limits: Limits::default(),
            hostname: "localhost".to_owned(),
            tls: ServerTls::load(&certificate, &[]).unwrap(),
            gate: gate.clone(),
            upstreams: Arc::new(Upstreams::new(&[upstream(stage)], &access.routes).unwrap()),
            shutdown: Shutdown::new(),
        };
        tokio::spawn(Arc::new(front).serve(listener));
        drop(entered);
        House {
            gate,
            address,
            _runtime: runtime,
        }
    }

    /// A connection whose greeting was read.
    pub(crate) fn client(&self) -> Client {
        let mut client = Client::plain(self.address);
        assert!(client.line().starts_with("* OK"), "a greeting");
        client
    }

    /// Signs in and says what the answer was.
    pub(crate) fn sign_in(&self, login: &str, literal: &str) -> (Client, String) {
        let mut client = self.client();
        let answer = client.command("a", &format!("LOGIN {login} {literal}"));
        (client, answer)
    }
}

/// The stage's mail server.
fn upstream(stage: &Stage) -> UpstreamSettings {
    UpstreamSettings {
        name: "mail".to_owned(),
        protocol: Protocol::Imap,
        host: "127.0.0.1".to_owned(),
        port: stage.upstream.port(),
        tls: UpstreamTls::ClearAllowed,
        verify: UpstreamTlsSettings {
            roots: Roots::Public,
            pins: Vec::new(),
            client_certificate: None,
        },
        connect_timeout: Duration::from_secs(10),
        login_timeout: Duration::from_secs(10),
    }
}
