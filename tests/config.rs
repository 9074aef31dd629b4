//! Configuration files, right and wrong: `tests/fixtures/config/`.
//!
//! A file in `invalid/` stands beside an `.expected` with exactly what `gatepost check` says about it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use gatepost::auth::people::LoginForm;
use gatepost::config::{self, ConfigError, Loaded, Surroundings};
use gatepost::net::{CertificateSource, ListenTls, Roots};
use gatepost::store::records::Mode;
use gatepost::wire::UpstreamTls;
use std::path::{Path, PathBuf};
use std::time::Duration;

fn around() -> Surroundings {
    Surroundings {
        root: false,
        home: Some("/home/somebody".into()),
        xdg_data_home: None,
        xdg_runtime_dir: None,
        hostname: "box".into(),
        ipv6: false,
        gateways: vec!["192.0.2.129".parse().unwrap()],
    }
}

/// Relative to the package, where cargo runs tests, so that the expected messages hold no path of one machine.
fn fixtures(kind: &str) -> Vec<PathBuf> {
    let directory = Path::new("tests/fixtures/config").join(kind);
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    files.sort();
    assert!(files.len() >= 2, "no {kind} fixtures found");
    files
}

fn load(path: &str) -> Loaded {
    config::load_file(Path::new(path), &around()).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn reports_every_mistake_of_each_invalid_file() {
    for file in fixtures("invalid") {
        let error = config::load_file(&file, &around()).expect_err(&file.display().to_string());
        let ConfigError::Mistakes { warnings, .. } = &error else {
            panic!("{error}")
        };
        let mut said = format!("{error}\n");
        for warning in warnings {
            said.push_str(&format!("warning: {warning}\n"));
        }
        let expected = std::fs::read_to_string(file.with_extension("expected")).unwrap_or_default();
        assert_eq!(said, expected, "{}", file.display());
    }
}

#[test]
fn accepts_each_valid_file() {
    for file in fixtures("valid") {
        load(file.to_str().unwrap());
    }
}

#[test]
fn the_documented_example_loads_without_a_warning() {
    let loaded = load("examples/gatepost.toml");
    assert_eq!(loaded.warnings, []);
    assert_eq!(loaded.settings.listeners.len(), 3);
    assert_eq!(loaded.settings.upstreams.len(), 2);
    assert_eq!(loaded.settings.access.routes.len(), 2);
}

/// The example shows defaults as comments: uncommented they must change nothing.
#[test]
fn the_defaults_shown_in_the_example_are_the_defaults() {
    let text = std::fs::read_to_string("examples/gatepost.toml").unwrap();
    let shown: String = text
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(bare) if is_shown_default(bare) => format!("{bare}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let load = |text: &str| {
        config::load_text(
            text,
            None,
            &Surroundings {
                root: true,
                ..around()
            },
        )
        .unwrap()
        .settings
    };
    assert_eq!(format!("{:?}", load(&shown)), format!("{:?}", load(&text)));
    assert!(shown.contains("\nidle = \"35m\"") && shown.contains("\ndata_dir = "));
}

/// Keys whose comment shows an example instead of a default: files that are not there, and what is off.
fn is_shown_default(line: &str) -> bool {
    let key = line.split(" = ").next().unwrap_or_default();
    let examples = [
        "certificate",
        "key",
        "passwords_in_clear",
        "ca_file",
        "pin",
        "client_certificate",
        "client_key",
    ];
    line.contains(" = ") && !key.contains(' ') && !examples.contains(&key)
}

#[test]
fn the_smallest_file_gets_safe_defaults() {
    let settings = load("tests/fixtures/config/valid/small.toml").settings;
    assert_eq!(settings.access.mode, Mode::Enforcing);
    assert_eq!(settings.access.routes[0].domains, ["*"]);
    assert_eq!(settings.access.routes[0].upstreams, ["office"]);
    assert_eq!(settings.access.routes[0].login, LoginForm::Address);
    assert_eq!(settings.upstreams[0].port, 993);
    assert_eq!(settings.upstreams[0].verify.roots, Roots::Public);
    assert_eq!(settings.limits.idle, Duration::from_secs(35 * 60));
    let listeners: Vec<String> = settings
        .listeners
        .iter()
        .map(|listener| format!("{} {}", listener.name, listener.address))
        .collect();
    assert_eq!(listeners, ["imaps 0.0.0.0:10993", "imap 0.0.0.0:10143"]);
    assert!(
        settings
            .listeners
            .iter()
            .all(|listener| listener.tls != ListenTls::None)
    );
    let data_dir = PathBuf::from("/home/somebody/.local/share/gatepost");
    let certificate = CertificateSource::SelfSigned {
        directory: data_dir.clone(),
        names: vec!["box".into()],
    };
    assert_eq!((settings.certificate, settings.data_dir), (certificate, data_dir));
}

#[test]
fn every_key_reaches_its_setting() {
    let Loaded { settings, warnings } = load("tests/fixtures/config/valid/everything.toml");
    let here = Path::new("tests/fixtures/config/valid");
    assert_eq!(settings.data_dir, here.join("data"));
    assert_eq!(settings.admin_socket, here.join("data/run/other.sock"));
    assert_eq!(settings.hostname, "gate.example.org");
    assert_eq!(settings.log.level, log::LevelFilter::Debug);
    assert_eq!(settings.log.libraries, log::LevelFilter::Info);
    assert_eq!(settings.listeners[1].tls, ListenTls::None);
    let CertificateSource::Files { chain, key } = &settings.certificate else {
        panic!("{:?}", settings.certificate)
    };
    assert_eq!(
        (chain, key),
        (
            &here.join("../pem/chain.pem"),
            &here.join("../pem/not-a-real.key")
        )
    );

    let limits = &settings.limits;
    assert_eq!(
        (limits.max_unauthenticated, limits.max_unauthenticated_per_network),
        (70, 7)
    );
    assert_eq!(
        (limits.login_deadline, limits.idle),
        (Duration::from_secs(45), Duration::from_secs(1860))
    );

    let upstream = &settings.upstreams[0];
    assert_eq!(
        (upstream.host.as_str(), upstream.port, upstream.tls),
        ("a.example.org", 1993, UpstreamTls::StartTls)
    );
    assert_eq!(upstream.verify.roots, Roots::File(here.join("../pem/chain.pem")));
    assert_eq!(upstream.verify.pins.len(), 2);
    assert_eq!(upstream.verify.pins[1], [0; 32]);
    assert!(upstream.verify.client_certificate.is_some());
    assert_eq!(
        (upstream.connect_timeout, upstream.login_timeout),
        (Duration::from_secs(3), Duration::from_secs(90))
    );
    assert_eq!(
        (settings.upstreams[1].tls, settings.upstreams[1].port),
        (UpstreamTls::ClearAllowed, 143)
    );

    let access = &settings.access;
    assert_eq!(
        (access.mode, access.default_domain.as_deref()),
        (Mode::Learning, Some("example.org"))
    );
    assert_eq!(access.routes[0].domains, ["example.org", "example.net"]);
    assert_eq!(
        (access.routes[0].login, access.routes[0].mode),
        (LoginForm::AsTyped, Some(Mode::Enforcing))
    );
    assert_eq!(
        (access.routes[1].login, access.routes[1].mode),
        (LoginForm::LocalPart, None)
    );
    assert_eq!(access.denied[0].to_string(), "198.51.100.7/32");
    assert_eq!(access.trusted[0].to_string(), "192.0.2.0/25");
    assert_eq!(access.decoys, ["admin"]);
    assert_eq!((access.max_devices, access.device_idle), (4, None));
    let counting = &access.counting;
    assert_eq!(
        (counting.window, counting.per_person, counting.per_network),
        (Duration::from_secs(1800), 10, 60)
    );
    assert_eq!(
        (counting.familiar_factor, counting.familiar_for),
        (2, Duration::from_secs(86_400))
    );
    assert_eq!(counting.blocks, [Duration::from_secs(3600); 3]);
    assert_eq!((counting.misses_a_day, counting.misses_a_month), (1, 2));
    assert_eq!((counting.unverified_a_day, counting.unverified_a_month), (3, 4));
    assert_eq!(
        (access.pace.floor, access.pace.ceiling),
        (Duration::from_secs(3), Duration::from_secs(9))
    );
    // A checkout cannot say that the fixture is private.
    assert!(
        warnings
            .iter()
            .all(|warning| warning.what.starts_with("other users")),
        "{warnings:?}"
    );
}

#[test]
fn warns_about_what_is_allowed_but_doubtful() {
    let check = |text: &str, expected: &str| {
        let warnings = config::load_text(text, None, &around()).unwrap().warnings;
        let said: Vec<String> = warnings.iter().map(ToString::to_string).collect();
        assert!(
            said.iter().any(|warning| warning.contains(expected)),
            "{expected}: {said:?}"
        );
    };
    check(
        "[access]\ntrusted = ['127.0.0.0/8']",
        "gatepost.toml:2:12: access.trusted = '127.0.0.0/8': trusts this machine",
    );
    check(
        "[[listener]]\nname='a'\naddress='127.0.0.1:1'\nprotocol='imap'\ntls='starttls'\npasswords_in_clear=true",
        "gatepost.toml:6:20: listener.passwords_in_clear = true: has no effect",
    );
    check(
        "[access]\ntrusted = ['192.0.2.0/24']",
        "contains the default gateway 192.0.2.129: where it rewrites",
    );
    let upstream = |name| format!("[[upstream]]\nname='{name}'\nprotocol='imap'\nhost='h'\ntls='implicit'\n");
    let route = "[[route]]\nname='r'\ndomains='*'\nupstreams='b'\n";
    check(
        &format!("{}{}{route}", upstream("a"), upstream("b")),
        "no route uses the upstream \"a\"",
    );
}

#[test]
fn a_world_readable_key_is_a_warning_and_swapped_files_are_a_mistake() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let (chain, key) = (
        directory.path().join("chain.pem"),
        directory.path().join("key.pem"),
    );
    std::fs::copy("tests/fixtures/config/pem/chain.pem", &chain).unwrap();
    std::fs::copy("tests/fixtures/config/pem/not-a-real.key", &key).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let file = directory.path().join("gatepost.toml");

    std::fs::write(&file, "[tls]\ncertificate = 'chain.pem'\nkey = 'key.pem'\n").unwrap();
    let loaded = config::load_file(&file, &around()).unwrap();
    assert!(
        loaded.warnings[0]
            .what
            .starts_with("other users of this machine may read the key")
    );
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert!(config::load_file(&file, &around()).unwrap().warnings.is_empty());

    std::fs::write(&file, "[tls]\ncertificate = 'key.pem'\nkey = 'chain.pem'\n").unwrap();
    let error = config::load_file(&file, &around()).unwrap_err().to_string();
    assert!(
        error.contains("holds no certificate in PEM form")
            && error.contains("holds no private key in PEM form")
    );
}

#[test]
fn a_socket_path_that_the_system_cannot_bind_is_a_mistake() {
    let text = format!("admin_socket = '/{}'", "a".repeat(107));
    let error = config::load_text(&text, None, &around()).unwrap_err().to_string();
    assert!(error.contains("is 108 bytes long"), "{error}");
}

#[test]
fn a_finding_is_one_line_whatever_a_key_holds() {
    let error = config::load_text("\"a\\nb\\u001b\" = 1", None, &around())
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("gatepost.toml:1:1: a\\nb\\u{1b}: unknown key"),
        "{error}"
    );
}
