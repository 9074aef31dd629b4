//! A listener while the process is out of file descriptors. A program of its own, because the limit is the process's.

#![allow(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

use gatepost::net::{ListenTls, Listener, ListenerSettings, raise_nofile};
use gatepost::reason::Protocol;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs::File;
use std::net::TcpStream;
use std::time::Duration;
use tokio::time::timeout;

#[tokio::test]
async fn accepting_goes_on_when_descriptors_are_free_again() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let settings = ListenerSettings {
        name: "imap".into(),
        address: "127.0.0.1:0".parse().unwrap(),
        protocol: Protocol::Imap,
        tls: ListenTls::None,
    };
    let listener = Listener::bind(&settings).unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(64),
            maximum,
        },
    )
    .unwrap();
    let mut all = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        all.push(file);
    }
    assert!(
        timeout(Duration::from_millis(200), listener.accept())
            .await
            .is_err(),
        "there was none left"
    );
    all.clear();
    let (_stream, peer) = timeout(Duration::from_secs(20), listener.accept()).await.unwrap();
    assert_eq!(peer, client.local_addr().unwrap());

    assert_eq!(raise_nofile().unwrap(), maximum);
    assert_eq!(getrlimit(Resource::Nofile).current, maximum);
}
