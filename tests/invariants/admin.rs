//! The admin API: request targets, bodies, and what they do to a store.

use gatepost::admin::Context;
use gatepost::admin::api::person::PersonView;
use gatepost::admin::api::{Failure, Method, Request, Response, handle};
use gatepost::config::{Surroundings, load_text};
use gatepost::store::Store;
use gatepost::store::seal::BoxKey;
use std::sync::LazyLock;
use tokio::runtime::{Builder, Runtime};

/// Requests, one a line: the first letter of a method, a target, a body. Each is answered with JSON or with words, a target
/// reads back as it is written, and whatever was done, everybody can be listed, shown and removed.
pub fn admin(input: &[u8]) {
    let context = context();
    for line in input.split(|octet| *octet == b'\n').take(16) {
        if let Some(request) = request(line) {
            reads_back(&request);
            answer(&request, &context);
        }
    }
    everybody_can_be_removed(&context);
}

fn request(line: &[u8]) -> Option<Request> {
    let mut words = line.splitn(3, |octet| *octet == b' ');
    let method = match words.next()?.first()? {
        b'P' | b'p' => Method::Post,
        b'D' | b'd' => Method::Delete,
        _ => Method::Get,
    };
    let target = std::str::from_utf8(words.next()?).ok()?;
    let body = words.next().unwrap_or_default().to_vec();
    Request::from_target(method, target, body)
}

fn reads_back(request: &Request) {
    let target = request.target();
    assert!(target.bytes().all(|octet| octet.is_ascii_graphic()), "{target}");
    let again = Request::from_target(request.method, &target, Vec::new()).expect("what we write is read");
    // An empty segment has no place in a target.
    assert_eq!((&again.path, &again.query), (&request.path, &request.query));
}

/// The answer's JSON; nothing for a failure.
fn answer(request: &Request, context: &Context) -> Option<serde_json::Value> {
    match handle(request, context) {
        Ok(Response::Json(body)) => {
            let body = serde_json::from_slice(body.expose());
            Some(body.unwrap_or_else(|error| panic!("{}: {error}", request.target())))
        }
        Ok(Response::Follow(_)) => None,
        Err(failure) => {
            assert!(!failure.to_string().is_empty());
            // Nothing else is in the way of a store in memory.
            let without_gateway = request.path.first().is_some_and(|first| first == "sessions");
            let unavailable = matches!(failure, Failure::Unavailable(_));
            assert!(!unavailable || without_gateway, "{}: {failure}", request.target());
            None
        }
    }
}

fn everybody_can_be_removed(context: &Context) {
    let list = |context| answer(&Request::new(Method::Get, &["people"]), context).expect("a list");
    let people: Vec<PersonView> = serde_json::from_value(list(context)).expect("people");
    for person in &people {
        for method in [Method::Get, Method::Delete] {
            let request = Request::new(method, &["people", &person.login]);
            assert!(answer(&request, context).is_some(), "{}", person.login);
        }
    }
    assert_eq!(list(context), serde_json::json!([]));
}

fn context() -> Context {
    static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
        Builder::new_current_thread()
            .build()
            .expect("a runtime without sockets")
    });
    let around = Surroundings {
        root: true,
        home: None,
        xdg_data_home: None,
        xdg_runtime_dir: None,
        hostname: "box".to_owned(),
        ipv6: false,
        gateways: Vec::new(),
    };
    let loaded = load_text("default_domain = 'example.org'", None, &around).expect("a sound text");
    Context {
        store: Store::memory(BoxKey::generate().expect("randomness")),
        gate: None,
        facts: loaded.settings.facts(None),
        runtime: RUNTIME.handle().clone(),
    }
}
