//! The configuration.

use gatepost::auth::people::{LoginForm, RouteSettings};
use gatepost::config::{ConfigError, Finding, Settings, Surroundings, load_text, parse_span};
use gatepost::mail::upstream::UpstreamSettings;
use gatepost::net::{CertificateSource, ListenTls, ListenerSettings, Roots};
use gatepost::store::records::Mode;
use gatepost::wire::UpstreamTls;
use std::fmt::Write;
use std::time::Duration;

/// A text is refused with findings that point into it, or gives settings that, printed, are read as the same ones.
pub fn config(input: &[u8]) {
    // What a text names is opened, and devices have no end.
    let Some(text) = std::str::from_utf8(input)
        .ok()
        .filter(|text| !text.contains("/dev/"))
    else {
        return;
    };
    match load_text(text, None, &around()) {
        Ok(loaded) => {
            points_into(&loaded.warnings, text);
            reads_back(&loaded.settings);
        }
        Err(ConfigError::Mistakes { errors, warnings }) => {
            assert!(!errors.is_empty());
            points_into(&errors, text);
            points_into(&warnings, text);
        }
        Err(error) => panic!("a home is known, and nothing is read: {error}"),
    }
}

fn points_into(findings: &[Finding], text: &str) {
    // Each value may be wrong in a few ways, not in many.
    assert!(
        findings.len() <= 16 + 4 * text.len(),
        "{} findings",
        findings.len()
    );
    for finding in findings {
        assert!(
            (1..=text.matches('\n').count() + 1).contains(&finding.line),
            "{finding}"
        );
        let line = text.split('\n').nth(finding.line - 1).unwrap_or_default();
        assert!(
            (1..=line.chars().count() + 1).contains(&finding.column),
            "{finding}"
        );
        assert!(!finding.what.is_empty());
        let said = finding.to_string();
        assert!(
            !said.chars().any(char::is_control),
            "a finding is one line: {said}"
        );
    }
}

fn reads_back(settings: &Settings) {
    let printed = print(settings);
    let again = match load_text(&printed, None, &around()) {
        Ok(loaded) => loaded.settings,
        Err(error) => panic!("{error}\n{printed}"),
    };
    assert_eq!(format!("{again:?}"), format!("{settings:?}"), "{printed}");
}

fn around() -> Surroundings {
    Surroundings {
        root: true,
        home: Some("/home/somebody".into()),
        xdg_data_home: None,
        xdg_runtime_dir: None,
        hostname: "box".to_owned(),
        ipv6: true,
        gateways: vec!["192.0.2.129".parse().expect("an address")],
    }
}

/// Every key, none left to its default.
fn print(settings: &Settings) -> String {
    let access = &settings.access;
    let mut out = String::new();
    let mut line = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    line(format!("data_dir = {}", path(&settings.data_dir)));
    line(format!("admin_socket = {}", path(&settings.admin_socket)));
    line(format!("hostname = {}", quoted(&settings.hostname)));
    line(format!("mode = {}", mode(access.mode)));
    if let Some(domain) = &access.default_domain {
        line(format!("default_domain = {}", quoted(domain)));
    }
    line(format!(
        "log.level = {}",
        quoted(&settings.log.level.as_str().to_lowercase())
    ));
    line(certificate(&settings.certificate));
    settings.listeners.iter().for_each(|it| line(listener(it)));
    settings.upstreams.iter().for_each(|it| line(upstream(it)));
    access.routes.iter().for_each(|it| line(route(it)));
    line("[access]".to_owned());
    line(format!("denied = {}", list(&access.denied)));
    line(format!("trusted = {}", list(&access.trusted)));
    line(format!("decoys = {}", list(&access.decoys)));
    line(format!("max_devices = {}", access.max_devices));
    let idle = access.device_idle.map_or("\"never\"".to_owned(), span);
    line(format!("device_idle = {idle}"));
    line(limits(settings));
    out
}

fn certificate(source: &CertificateSource) -> String {
    match source {
        CertificateSource::Files { chain, key } => {
            format!("[tls]\ncertificate = {}\nkey = {}", path(chain), path(key))
        }
        CertificateSource::SelfSigned { names, .. } => format!("[tls]\nnames = {}", list(names)),
    }
}

fn listener(it: &ListenerSettings) -> String {
    let tls = match it.tls {
        ListenTls::Implicit => "implicit",
        ListenTls::StartTls => "starttls",
        ListenTls::None => "none",
    };
    format!(
        "[[listener]]\nname = {}\naddress = \"{}\"\nprotocol = \"{}\"\ntls = \"{tls}\"\npasswords_in_clear = {}",
        quoted(&it.name),
        it.address,
        it.protocol,
        it.tls == ListenTls::None
    )
}

fn upstream(it: &UpstreamSettings) -> String {
    let tls = match it.tls {
        UpstreamTls::Implicit => "implicit",
        UpstreamTls::StartTls => "starttls",
        UpstreamTls::ClearAllowed => "none",
    };
    let pins: Vec<String> = it.verify.pins.iter().map(|pin| hex(pin)).collect();
    let mut text = format!(
        "[[upstream]]\nname = {}\nprotocol = \"{}\"\nhost = {}\nport = {}\ntls = \"{tls}\"\npasswords_in_clear = {}\n\
         connect_timeout = {}\nlogin_timeout = {}",
        quoted(&it.name),
        it.protocol,
        quoted(&it.host),
        it.port,
        it.tls == UpstreamTls::ClearAllowed,
        span(it.connect_timeout),
        span(it.login_timeout)
    );
    // An empty list is a mistake there.
    if !pins.is_empty() {
        text.push_str(&format!("\npin = {}", list(&pins)));
    }
    if let Roots::File(file) = &it.verify.roots {
        text.push_str(&format!("\nca_file = {}", path(file)));
    }
    if let Some((chain, key)) = &it.verify.client_certificate {
        text.push_str(&format!(
            "\nclient_certificate = {}\nclient_key = {}",
            path(chain),
            path(key)
        ));
    }
    text
}

fn route(it: &RouteSettings) -> String {
    let login = match it.login {
        LoginForm::Address => "address",
        LoginForm::LocalPart => "local-part",
        LoginForm::AsTyped => "as-typed",
    };
    let own_mode = it
        .mode
        .map_or(String::new(), |own| format!("\nmode = {}", mode(own)));
    format!(
        "[[route]]\nname = {}\ndomains = {}\nupstreams = {}\nlogin = \"{login}\"{own_mode}",
        quoted(&it.name),
        list(&it.domains),
        list(&it.upstreams)
    )
}

fn limits(settings: &Settings) -> String {
    let (limits, counting, pace) = (&settings.limits, &settings.access.counting, &settings.access.pace);
    format!(
        "[limits]\nconnections = {}\nconnections_per_network = {}\nlogin_deadline = {}\nidle = {}\n\
         [limits.counting]\nwindow = {}\nper_person = {}\nper_network = {}\nfamiliar_factor = {}\nfamiliar_for = {}\n\
         blocks = [{}]\nmisses_a_day = {}\nmisses_a_month = {}\nunverified_a_day = {}\nunverified_a_month = {}\n\
         [limits.refusals]\nfloor = {}\nceiling = {}",
        limits.max_unauthenticated,
        limits.max_unauthenticated_per_network,
        span(limits.login_deadline),
        span(limits.idle),
        span(counting.window),
        counting.per_person,
        counting.per_network,
        counting.familiar_factor,
        span(counting.familiar_for),
        counting.blocks.map(span).join(", "),
        counting.misses_a_day,
        counting.misses_a_month,
        counting.unverified_a_day,
        counting.unverified_a_month,
        span(pace.floor),
        span(pace.ceiling)
    )
}

fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Learning => "\"learning\"",
        Mode::Enforcing => "\"enforcing\"",
    }
}

fn span(span: Duration) -> String {
    let text = format!("{}ms", span.as_millis());
    assert_eq!(parse_span(&text), Some(span));
    quoted(&text)
}

fn path(path: &std::path::Path) -> String {
    quoted(path.to_str().expect("it came from a text"))
}

fn list(items: &[impl ToString]) -> String {
    let items: Vec<String> = items.iter().map(|item| quoted(&item.to_string())).collect();
    format!("[{}]", items.join(", "))
}

/// `basic-string` of TOML 1.0, with everything but letters and digits of ASCII escaped.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for char in text.chars() {
        match char.is_ascii_alphanumeric() {
            true => out.push(char),
            // Writing to a string cannot fail.
            false => drop(write!(out, "\\U{:08x}", u32::from(char))),
        }
    }
    out + "\""
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
