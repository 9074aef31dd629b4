//! Each table of the file into the settings of its module, and the rules between tables.

use super::document::{Findings, Found, Place, Section};
use super::values::{
    choice, count, domain, flag, host, name, network, pin, show_span, socket_address, span, text, text_as,
};
use super::{Settings, Surroundings};
use crate::auth::people::{LoginForm, RouteSettings};
use crate::auth::{AccessSettings, CountingSettings, PaceSettings};
use crate::mail::upstream::UpstreamSettings;
use crate::net::{CertificateSource, ListenLimits, ListenTls, ListenerSettings, Roots, UpstreamTlsSettings};
use crate::reason::Protocol;
use crate::report::log::LogSettings;
use crate::store::records::Mode;
use crate::wire::{DIALECTS, UpstreamTls, dialect};
use ipnet::IpNet;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A path of a Unix socket fits into 108 bytes with its final zero (`unix(7)`).
const MAX_SOCKET_PATH: usize = 107;

/// IMAP programs idle for up to 29 minutes (RFC 2177); whoever cuts at 30 cuts all of them.
const LEAST_IDLE: Duration = Duration::from_secs(30 * 60 + 1);

const MODES: &[(&str, Mode)] = &[("learning", Mode::Learning), ("enforcing", Mode::Enforcing)];

/// Reads the whole document. `None` only when no data directory is known; whether the settings may be used, the findings
/// tell.
pub(super) fn settings(
    mut root: Section<'_, '_>,
    findings: &Findings<'_>,
    file: Option<&Path>,
    around: &Surroundings,
) -> Option<Settings> {
    let paths = Paths {
        base: file.and_then(Path::parent).unwrap_or(Path::new("")),
        findings,
    };
    let data_dir = root
        .optional("data_dir", text)
        .map(|found| paths.resolve(&found.value));
    let socket = root.optional("admin_socket", text);
    let hostname = root.optional("hostname", text_as(host)).map(|found| found.value);
    let mode = root
        .optional("mode", choice(MODES))
        .map_or(Mode::Enforcing, |found| found.value);
    let default_domain = root.optional("default_domain", text_as(domain));
    if let Some(found) = default_domain.as_ref().filter(|found| found.value == "*") {
        findings.error(
            &found.place,
            "accepted is one mail domain such as \"example.org\"",
        );
    }

    let hostname = hostname.unwrap_or_else(|| around.hostname.clone());
    let data_dir = data_dir.or_else(|| around.data_dir(file));
    let certificate = certificate(root.table("tls"), &paths, data_dir.as_deref(), &hostname);
    let listeners = listeners(root.tables("listener"), findings, around);
    let upstreams = upstreams(root.tables("upstream"), &paths);
    let routes = routes(root.tables("route"), findings, &upstreams);
    warn_about_unserved(findings, &listeners, &upstreams, &routes);
    let (limits, counting, pace) = limits(root.table("limits"), findings);
    let access = access(root.table("access"), findings, around, |access| AccessSettings {
        mode,
        default_domain: default_domain.map(|found| found.value),
        routes,
        counting,
        pace,
        ..access
    });
    let log = log_settings(root.table("log"));
    root.finish();

    let data_dir = data_dir?;
    let admin_socket = match socket {
        Some(found) => admin_socket(found, &paths),
        None => around.runtime_dir(&data_dir, file).join("admin.sock"),
    };
    Some(Settings {
        file: file.map(Path::to_path_buf),
        admin_socket,
        data_dir,
        hostname,
        log,
        listeners: listeners.into_iter().map(|found| found.value).collect(),
        limits,
        certificate: certificate?,
        upstreams: upstreams.into_iter().filter_map(|named| named.settings).collect(),
        access,
    })
}

/// Paths in the file, relative to the file.
struct Paths<'f, 't> {
    base: &'f Path,
    findings: &'f Findings<'t>,
}

impl Paths<'_, '_> {
    fn resolve(&self, path: &str) -> PathBuf {
        self.base.join(path)
    }

    /// A PEM file that must be there and hold what its key says.
    fn pem(&self, section: &mut Section<'_, '_>, key: &'static str, holds: Pem) -> Option<Found<PathBuf>> {
        let found = section.optional(key, text)?;
        let path = self.resolve(&found.value);
        match std::fs::read(&path) {
            Err(cause) => self.findings.error(
                &found.place,
                format!("{} cannot be read: {cause}", path.display()),
            ),
            Ok(bytes) if !holds.is_in(&bytes) => {
                self.findings.error(
                    &found.place,
                    format!("{} holds no {} in PEM form", path.display(), holds.name()),
                );
            }
            Ok(_) if holds == Pem::PrivateKey && others_may_read(&path) => {
                let advice = format!(
                    "other users of this machine may read the key; chmod 600 {}",
                    path.display()
                );
                self.findings.warning(&found.place, advice);
            }
            Ok(_) => {}
        }
        Some(Found {
            value: path,
            place: found.place,
        })
    }

    /// A chain and its key: both or neither.
    fn chain_and_key(
        &self,
        section: &mut Section<'_, '_>,
        chain: &'static str,
        key: &'static str,
    ) -> Option<(PathBuf, PathBuf)> {
        match (
            self.pem(section, chain, Pem::Certificate),
            self.pem(section, key, Pem::PrivateKey),
        ) {
            (Some(chain), Some(key)) => Some((chain.value, key.value)),
            (Some(found), None) => {
                self.findings
                    .error(&found.place, format!("needs {key} beside it"));
                None
            }
            (None, Some(found)) => {
                self.findings
                    .error(&found.place, format!("needs {chain} beside it"));
                None
            }
            (None, None) => None,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Pem {
    Certificate,
    PrivateKey,
}

impl Pem {
    fn name(self) -> &'static str {
        match self {
            Pem::Certificate => "certificate",
            Pem::PrivateKey => "private key",
        }
    }

    fn is_in(self, bytes: &[u8]) -> bool {
        let marker: &[u8] = match self {
            Pem::Certificate => b"-----BEGIN CERTIFICATE-----",
            // PKCS#8, PKCS#1 and SEC1 differ in the words before these.
            Pem::PrivateKey => b"PRIVATE KEY-----",
        };
        memchr::memmem::find(bytes, marker).is_some()
    }
}

fn others_may_read(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0)
}

fn admin_socket(found: Found<String>, paths: &Paths<'_, '_>) -> PathBuf {
    let path = paths.resolve(&found.value);
    let length = path.as_os_str().len();
    if length > MAX_SOCKET_PATH {
        let what = format!("is {length} bytes long with its directory; accepted are {MAX_SOCKET_PATH}");
        paths.findings.error(&found.place, what);
    }
    path
}

fn certificate(
    section: Option<Section<'_, '_>>,
    paths: &Paths<'_, '_>,
    data_dir: Option<&Path>,
    hostname: &str,
) -> Option<CertificateSource> {
    let mut names = Vec::new();
    if let Some(mut section) = section {
        let files = paths.chain_and_key(&mut section, "certificate", "key");
        names = section.list("names", true, text_as(host));
        section.finish();
        if let Some((chain, key)) = files {
            if let Some(found) = names.first() {
                paths.findings.error(
                    &found.place,
                    "the certificate's file says its names; leave this key out",
                );
            }
            return Some(CertificateSource::Files { chain, key });
        }
    }
    let mut names: Vec<String> = names.into_iter().map(|found| found.value).collect();
    if names.is_empty() {
        names.push(hostname.to_string());
    }
    Some(CertificateSource::SelfSigned {
        directory: data_dir?.to_path_buf(),
        names,
    })
}

fn listeners(
    sections: Vec<Section<'_, '_>>,
    findings: &Findings<'_>,
    around: &Surroundings,
) -> Vec<Found<ListenerSettings>> {
    if sections.is_empty() {
        return default_listeners(around);
    }
    let listeners: Vec<_> = sections
        .into_iter()
        .filter_map(|section| listener(section, findings))
        .collect();
    refuse_twice(
        findings,
        listeners.iter().map(|found| (&found.value.name, &found.place)),
        "this listener's name",
    );
    for (index, later) in listeners.iter().enumerate() {
        let earlier = listeners[..index]
            .iter()
            .find(|earlier| overlap(earlier.value.address, later.value.address));
        if let Some(earlier) = earlier {
            let what = format!(
                "{} is already taken by \"{}\"",
                later.value.address, earlier.value.name
            );
            findings.error(&later.place, what);
        }
    }
    listeners
}

/// IMAP on its two ports; users who may not bind those get the same ports plus 10 000.
fn default_listeners(around: &Surroundings) -> Vec<Found<ListenerSettings>> {
    let any = if around.ipv6 {
        IpAddr::from(Ipv6Addr::UNSPECIFIED)
    } else {
        IpAddr::from(Ipv4Addr::UNSPECIFIED)
    };
    let offset = if around.root { 0 } else { 10_000 };
    let listener = |protocol: Protocol, suffix: &str, port: u16, tls| Found {
        value: ListenerSettings {
            name: format!("{protocol}{suffix}"),
            address: SocketAddr::new(any, port + offset),
            protocol,
            tls,
        },
        place: Place::nowhere(),
    };
    DIALECTS
        .iter()
        .flat_map(|row| {
            [
                listener(row.protocol, "s", row.implicit_port, ListenTls::Implicit),
                listener(row.protocol, "", row.starttls_port, ListenTls::StartTls),
            ]
        })
        .collect()
}

fn listener(mut section: Section<'_, '_>, findings: &Findings<'_>) -> Option<Found<ListenerSettings>> {
    let place = section.place();
    let name = section.required("name", "a name for the log, such as \"imaps\"", text_as(name));
    let address = section.required(
        "address",
        "an address and a port, such as \"0.0.0.0:993\"",
        text_as(socket_address),
    );
    let protocol = section.required("protocol", &protocol_words(), choice(&protocols()));
    let tls = section.required(
        "tls",
        "\"implicit\" or \"starttls\" or \"none\"",
        choice(&[
            ("implicit", ListenTls::Implicit),
            ("starttls", ListenTls::StartTls),
            ("none", ListenTls::None),
        ]),
    );
    let clear = section.optional("passwords_in_clear", flag);
    section.finish();

    let clear_allowed = clear.as_ref().is_some_and(|found| found.value);
    let is_clear = tls.as_ref().filter(|found| found.value == ListenTls::None);
    let on_loopback = address
        .as_ref()
        .is_some_and(|found| found.value.ip().is_loopback());
    match (is_clear, clear) {
        (Some(found), _) if !on_loopback && !clear_allowed => findings.error(
            &found.place,
            "passwords would travel in the clear; accepted is \"implicit\" or \"starttls\", or an address on loopback, \
             or passwords_in_clear = true if you mean it",
        ),
        (None, Some(found)) if clear_allowed => {
            findings.warning(&found.place, "has no effect: this listener uses TLS");
        }
        _ => {}
    }
    let (name, address, protocol, tls) = (name?, address?, protocol?, tls?);
    Some(Found {
        value: ListenerSettings {
            name: name.value,
            address: address.value,
            protocol: protocol.value,
            tls: tls.value,
        },
        place,
    })
}

/// Whether binding one address hinders binding the other. `[::]` takes IPv4 too.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let takes = |a: IpAddr, b: IpAddr| a == b || a.is_unspecified() && (a.is_ipv6() || b.is_ipv4());
    let same_port = one.port() == other.port() && one.port() != 0;
    same_port && (takes(one.ip(), other.ip()) || takes(other.ip(), one.ip()))
}

/// An upstream's name, known even when the rest of it is wrong, so that routes are judged all the same.
struct NamedUpstream {
    name: String,
    protocol: Option<Protocol>,
    place: Place,
    settings: Option<UpstreamSettings>,
}

fn upstreams(sections: Vec<Section<'_, '_>>, paths: &Paths<'_, '_>) -> Vec<NamedUpstream> {
    let upstreams: Vec<_> = sections
        .into_iter()
        .filter_map(|section| upstream(section, paths))
        .collect();
    refuse_twice(
        paths.findings,
        upstreams.iter().map(|named| (&named.name, &named.place)),
        "this upstream's name",
    );
    upstreams
}

fn upstream(mut section: Section<'_, '_>, paths: &Paths<'_, '_>) -> Option<NamedUpstream> {
    let place = section.place();
    let name = section.required(
        "name",
        "a name for routes and the log, such as \"office\"",
        text_as(name),
    );
    let protocol = section.required("protocol", &protocol_words(), choice(&protocols()));
    let host = section.required(
        "host",
        "the mail server's name, such as \"mail.example.org\"",
        text_as(host),
    );
    let port = section.optional("port", count(1..=65_535));
    let tls = section.required(
        "tls",
        "\"implicit\" or \"starttls\" or \"none\"",
        choice(&[
            ("implicit", UpstreamTls::Implicit),
            ("starttls", UpstreamTls::StartTls),
            ("none", UpstreamTls::ClearAllowed),
        ]),
    );
    let clear = section.optional("passwords_in_clear", flag);
    let verify = UpstreamTlsSettings {
        roots: paths
            .pem(&mut section, "ca_file", Pem::Certificate)
            .map_or(Roots::Public, |found| Roots::File(found.value)),
        pins: section
            .list("pin", true, text_as(pin))
            .into_iter()
            .map(|found| found.value)
            .collect(),
        client_certificate: paths.chain_and_key(&mut section, "client_certificate", "client_key"),
    };
    let seconds = |from, to| span(Duration::from_secs(from)..=Duration::from_secs(to));
    let connect_timeout = section.optional("connect_timeout", seconds(1, 120));
    let login_timeout = section.optional("login_timeout", seconds(1, 300));
    section.finish();

    if let Some(tls) = &tls {
        judge_clear_leg(paths.findings, tls, clear, &verify);
    }
    let name = name?;
    let protocol = protocol.map(|found| found.value);
    let settings = protocol.zip(tls).zip(host).map(|((protocol, tls), host)| {
        let row = dialect(protocol);
        let usual = if tls.value == UpstreamTls::Implicit {
            row.implicit_port
        } else {
            row.starttls_port
        };
        UpstreamSettings {
            name: name.value.clone(),
            protocol,
            host: host.value,
            port: port
                .and_then(|found| u16::try_from(found.value).ok())
                .unwrap_or(usual),
            tls: tls.value,
            verify,
            connect_timeout: connect_timeout.map_or(Duration::from_secs(10), |found| found.value),
            login_timeout: login_timeout.map_or(Duration::from_secs(30), |found| found.value),
        }
    });
    Some(NamedUpstream {
        name: name.value,
        protocol,
        place,
        settings,
    })
}

fn judge_clear_leg(
    findings: &Findings<'_>,
    tls: &Found<UpstreamTls>,
    clear: Option<Found<bool>>,
    verify: &UpstreamTlsSettings,
) {
    let is_clear = tls.value == UpstreamTls::ClearAllowed;
    let clear_allowed = clear.as_ref().is_some_and(|found| found.value);
    if is_clear && !clear_allowed {
        findings.error(
            &tls.place,
            "passwords would travel in the clear; accepted is \"implicit\" or \"starttls\", or passwords_in_clear = true \
             if you mean it",
        );
    }
    if is_clear
        && (verify.roots != Roots::Public || !verify.pins.is_empty() || verify.client_certificate.is_some())
    {
        findings.warning(
            &tls.place,
            "ca_file, pin and client_certificate have no effect without TLS",
        );
    }
    if let Some(found) = clear.filter(|found| found.value && !is_clear) {
        findings.warning(&found.place, "has no effect: this upstream uses TLS");
    }
}

fn routes(
    sections: Vec<Section<'_, '_>>,
    findings: &Findings<'_>,
    upstreams: &[NamedUpstream],
) -> Vec<RouteSettings> {
    if sections.is_empty() {
        return default_route(findings, upstreams);
    }
    let mut claimed: HashMap<String, String> = HashMap::new();
    let mut named: Vec<(String, Place)> = Vec::new();
    let mut routes = Vec::new();
    for section in sections {
        let place = section.place();
        let Some(route) = route(section, findings, upstreams, &mut claimed) else {
            continue;
        };
        named.push((route.name.clone(), place));
        routes.push(route);
    }
    refuse_twice(
        findings,
        named.iter().map(|(name, place)| (name, place)),
        "this route's name",
    );
    routes
}

/// Without a route, every domain goes to the only upstream of each protocol.
fn default_route(findings: &Findings<'_>, upstreams: &[NamedUpstream]) -> Vec<RouteSettings> {
    for (index, later) in upstreams.iter().enumerate() {
        if upstreams[..index]
            .iter()
            .any(|earlier| earlier.protocol == later.protocol)
        {
            findings.error(
                &later.place,
                format!(
                    "with two upstreams of one protocol, a [[route]] must say which domains go to \"{}\"",
                    later.name
                ),
            );
        }
    }
    let names: Vec<String> = upstreams.iter().map(|upstream| upstream.name.clone()).collect();
    if names.is_empty() {
        return Vec::new();
    }
    vec![RouteSettings {
        name: "default".into(),
        domains: vec!["*".into()],
        upstreams: names,
        login: LoginForm::Address,
        mode: None,
    }]
}

fn route(
    mut section: Section<'_, '_>,
    findings: &Findings<'_>,
    upstreams: &[NamedUpstream],
    claimed: &mut HashMap<String, String>,
) -> Option<RouteSettings> {
    let place = section.place();
    let (no_domains, no_upstreams) = (section.lacks("domains"), section.lacks("upstreams"));
    let name = section.required("name", "a name for the log, such as \"office\"", text_as(name));
    let domains = section.list("domains", true, text_as(domain));
    let wanted = section.list("upstreams", true, text);
    let login = section.optional(
        "login",
        choice(&[
            ("address", LoginForm::Address),
            ("local-part", LoginForm::LocalPart),
            ("as-typed", LoginForm::AsTyped),
        ]),
    );
    let mode = section.optional("mode", choice(MODES));
    section.finish();

    if no_domains {
        findings.error(
            &place,
            "needs domains; accepted is a list such as [\"example.org\"], or [\"*\"]",
        );
    }
    if no_upstreams {
        findings.error(
            &place,
            "needs upstreams; accepted is a list of names of [[upstream]] tables",
        );
    }
    let name = name?.value;
    for found in &domains {
        if let Some(owner) = claimed.insert(found.value.clone(), name.clone()) {
            findings.error(
                &found.place,
                format!("the route \"{owner}\" already serves this domain"),
            );
        }
    }
    judge_upstreams(findings, &wanted, upstreams);
    Some(RouteSettings {
        name,
        domains: plain(domains),
        upstreams: plain(wanted),
        login: login.map_or(LoginForm::Address, |found| found.value),
        mode: mode.map(|found| found.value),
    })
}

fn judge_upstreams(findings: &Findings<'_>, wanted: &[Found<String>], upstreams: &[NamedUpstream]) {
    let mut seen: Vec<Protocol> = Vec::new();
    for found in wanted {
        let Some(upstream) = upstreams.iter().find(|upstream| upstream.name == found.value) else {
            let names: Vec<String> = upstreams
                .iter()
                .map(|upstream| format!("\"{}\"", upstream.name))
                .collect();
            let accepted = match names.is_empty() {
                true => "no [[upstream]] is configured".to_string(),
                false => format!("accepted is {}", names.join(" or ")),
            };
            findings.error(&found.place, format!("no upstream has this name; {accepted}"));
            continue;
        };
        let Some(protocol) = upstream.protocol else {
            continue;
        };
        if seen.contains(&protocol) {
            findings.error(
                &found.place,
                format!("this route already has an upstream for {protocol}"),
            );
        }
        seen.push(protocol);
    }
}

/// What nobody can use is probably forgotten somewhere else.
fn warn_about_unserved(
    findings: &Findings<'_>,
    listeners: &[Found<ListenerSettings>],
    upstreams: &[NamedUpstream],
    routes: &[RouteSettings],
) {
    for upstream in upstreams {
        if !routes
            .iter()
            .any(|route| route.upstreams.contains(&upstream.name))
        {
            findings.warning(
                &upstream.place,
                format!("no route uses the upstream \"{}\"", upstream.name),
            );
        }
    }
    for listener in listeners.iter().filter(|_| !upstreams.is_empty()) {
        let protocol = listener.value.protocol;
        if !upstreams
            .iter()
            .any(|upstream| upstream.protocol == Some(protocol))
        {
            let what = format!("no upstream speaks {protocol}: nobody can sign in here");
            findings.warning(&listener.place, what);
        }
    }
}

fn access(
    section: Option<Section<'_, '_>>,
    findings: &Findings<'_>,
    around: &Surroundings,
    complete: impl FnOnce(AccessSettings) -> AccessSettings,
) -> AccessSettings {
    let mut access = AccessSettings {
        mode: Mode::Enforcing,
        default_domain: None,
        routes: Vec::new(),
        denied: Vec::new(),
        trusted: Vec::new(),
        decoys: Vec::new(),
        max_devices: 10,
        device_idle: Some(Duration::from_secs(90 * 86_400)),
        counting: default_counting(),
        pace: default_pace(),
    };
    if let Some(mut section) = section {
        access.denied = plain(section.list("denied", false, text_as(network)));
        let trusted = section.list("trusted", false, text_as(network));
        trusted
            .iter()
            .for_each(|found| judge_trusted(findings, found, around));
        access.trusted = plain(trusted);
        access.decoys = plain(section.list("decoys", false, |value| Ok(text(value)?.trim().to_lowercase())));
        if let Some(found) = section.optional("max_devices", count(1..=100)) {
            access.max_devices = usize::try_from(found.value).unwrap_or(access.max_devices);
        }
        let idle = section.optional("device_idle", |value| match value.as_str() {
            Some("never") => Ok(None),
            _ => span(Duration::from_secs(86_400)..=Duration::from_secs(3650 * 86_400))(value)
                .map(Some)
                .map_err(|accepted| format!("{accepted}; or \"never\"")),
        });
        access.device_idle = idle.map_or(access.device_idle, |found| found.value);
        section.finish();
    }
    complete(access)
}

/// From a trusted network the password alone is enough: nothing that other people's connections seem to come from may be
/// in it.
fn judge_trusted(findings: &Findings<'_>, found: &Found<IpNet>, around: &Surroundings) {
    if found.value.prefix_len() == 0 {
        findings.error(
            &found.place,
            "this is everybody; accepted are networks of your own, such as \"192.0.2.0/24\"",
        );
        return;
    }
    let loopback = [
        IpAddr::from(Ipv4Addr::LOCALHOST),
        IpAddr::from(Ipv6Addr::LOCALHOST),
    ];
    if loopback.iter().any(|address| found.value.contains(address)) {
        findings.warning(
            &found.place,
            "trusts this machine itself: whatever is forwarded to Gatepost by a program here needs no code",
        );
    }
    for gateway in around
        .gateways
        .iter()
        .filter(|gateway| found.value.contains(*gateway))
    {
        findings.warning(
            &found.place,
            format!("contains the default gateway {gateway}: where it rewrites addresses, the whole internet needs no code"),
        );
    }
}

fn limits(
    section: Option<Section<'_, '_>>,
    findings: &Findings<'_>,
) -> (ListenLimits, CountingSettings, PaceSettings) {
    let mut limits = ListenLimits {
        max_unauthenticated: 500,
        max_unauthenticated_per_network: 50,
        login_deadline: Duration::from_secs(60),
        idle: Duration::from_secs(35 * 60),
    };
    let (mut counts, mut pace) = (default_counting(), default_pace());
    let Some(mut section) = section else {
        return (limits, counts, pace);
    };

    set_size(
        &mut limits.max_unauthenticated,
        &mut section,
        "connections",
        1..=100_000,
    );
    set_size(
        &mut limits.max_unauthenticated_per_network,
        &mut section,
        "connections_per_network",
        1..=100_000,
    );
    let deadline = Duration::from_secs(10)..=Duration::from_secs(600);
    set_span(
        &mut limits.login_deadline,
        &mut section,
        "login_deadline",
        deadline,
    );
    idle(&mut limits.idle, &mut section, findings);
    if let Some(section) = section.table("counting") {
        counting(&mut counts, section);
    }
    if let Some(section) = section.table("refusals") {
        refusals(&mut pace, section, findings);
    }
    section.finish();
    (limits, counts, pace)
}

fn idle(idle: &mut Duration, section: &mut Section<'_, '_>, findings: &Findings<'_>) {
    let Some(found) = section.optional("idle", span(Duration::ZERO..=Duration::from_secs(7 * 86_400))) else {
        return;
    };
    if found.value < LEAST_IDLE {
        findings.error(
            &found.place,
            "mail programs that wait for new mail are silent for 29 minutes; accepted is more than \"30m\"",
        );
    }
    *idle = found.value;
}

fn counting(counts: &mut CountingSettings, mut section: Section<'_, '_>) {
    let minutes = |from: u64, to: u64| Duration::from_secs(from * 60)..=Duration::from_secs(to * 60);
    set_span(&mut counts.window, &mut section, "window", minutes(1, 24 * 60));
    set_count(&mut counts.per_person, &mut section, "per_person");
    set_count(&mut counts.per_network, &mut section, "per_network");
    set_count(&mut counts.familiar_factor, &mut section, "familiar_factor");
    set_span(
        &mut counts.familiar_for,
        &mut section,
        "familiar_for",
        minutes(60, 90 * 24 * 60),
    );
    set_count(&mut counts.misses_a_day, &mut section, "misses_a_day");
    set_count(&mut counts.misses_a_month, &mut section, "misses_a_month");
    set_count(&mut counts.unverified_a_day, &mut section, "unverified_a_day");
    set_count(&mut counts.unverified_a_month, &mut section, "unverified_a_month");
    let blocks = section.optional("blocks", |value| {
        let read = span(minutes(1, 30 * 24 * 60));
        let accepted =
            |cause: String| format!("accepted are three times, as in [\"5m\", \"1h\", \"24h\"]; {cause}");
        let items = value
            .as_array()
            .filter(|items| items.len() == 3)
            .ok_or_else(|| accepted("each counts once".into()))?;
        let mut blocks = [Duration::ZERO; 3];
        for (block, item) in blocks.iter_mut().zip(items.iter()) {
            *block = read(item.get_ref()).map_err(accepted)?;
        }
        Ok(blocks)
    });
    counts.blocks = blocks.map_or(counts.blocks, |found| found.value);
    section.finish();
}

fn refusals(pace: &mut PaceSettings, mut section: Section<'_, '_>, findings: &Findings<'_>) {
    let range = || Duration::from_millis(100)..=Duration::from_secs(60);
    set_span(&mut pace.floor, &mut section, "floor", range());
    set_span(&mut pace.ceiling, &mut section, "ceiling", range());
    if pace.ceiling < pace.floor {
        let (floor, ceiling) = (show_span(pace.floor), show_span(pace.ceiling));
        findings.error(
            &section.place(),
            format!("the ceiling ({ceiling}) must not be below the floor ({floor})"),
        );
    }
    section.finish();
}

fn log_settings(section: Option<Section<'_, '_>>) -> LogSettings {
    use log::LevelFilter::{Debug, Error, Info, Trace, Warn};
    let mut log = LogSettings::default();
    let Some(mut section) = section else { return log };
    let levels = [
        ("error", Error),
        ("warn", Warn),
        ("info", Info),
        ("debug", Debug),
        ("trace", Trace),
    ];
    for (target, key) in [(&mut log.level, "level"), (&mut log.libraries, "libraries")] {
        if let Some(found) = section.optional(key, choice(&levels)) {
            *target = found.value;
        }
    }
    section.finish();
    log
}

fn set_span(
    target: &mut Duration,
    section: &mut Section<'_, '_>,
    key: &'static str,
    range: std::ops::RangeInclusive<Duration>,
) {
    if let Some(found) = section.optional(key, span(range)) {
        *target = found.value;
    }
}

fn set_size(
    target: &mut usize,
    section: &mut Section<'_, '_>,
    key: &'static str,
    range: std::ops::RangeInclusive<u64>,
) {
    if let Some(size) = section
        .optional(key, count(range))
        .and_then(|found| usize::try_from(found.value).ok())
    {
        *target = size;
    }
}

fn set_count(target: &mut u32, section: &mut Section<'_, '_>, key: &'static str) {
    let read = section.optional(key, count(1..=1_000_000));
    if let Some(number) = read.and_then(|found| u32::try_from(found.value).ok()) {
        *target = number;
    }
}

/// The numbers of the access document, "Counting failures".
fn default_counting() -> CountingSettings {
    CountingSettings {
        window: Duration::from_secs(600),
        per_person: 3,
        per_network: 10,
        familiar_factor: 5,
        familiar_for: Duration::from_secs(7 * 86_400),
        blocks: [
            Duration::from_secs(300),
            Duration::from_secs(3_600),
            Duration::from_secs(86_400),
        ],
        misses_a_day: 10,
        misses_a_month: 30,
        unverified_a_day: 100,
        unverified_a_month: 300,
    }
}

/// The numbers of the access document, "No oracle".
fn default_pace() -> PaceSettings {
    PaceSettings {
        floor: Duration::from_millis(2_500),
        ceiling: Duration::from_secs(8),
    }
}

fn protocols() -> Vec<(&'static str, Protocol)> {
    DIALECTS
        .iter()
        .map(|row| (row.protocol.name(), row.protocol))
        .collect()
}

fn protocol_words() -> String {
    let words: Vec<String> = DIALECTS
        .iter()
        .map(|row| format!("\"{}\"", row.protocol))
        .collect();
    words.join(" or ")
}

fn refuse_twice<'p>(
    findings: &Findings<'_>,
    named: impl Iterator<Item = (&'p String, &'p Place)>,
    what: &str,
) {
    let mut seen: Vec<&String> = Vec::new();
    for (name, place) in named {
        if seen.contains(&name) {
            findings.error(place, format!("{what}, \"{name}\", is taken; each needs its own"));
        }
        seen.push(name);
    }
}

fn plain<T>(found: Vec<Found<T>>) -> Vec<T> {
    found.into_iter().map(|found| found.value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_cannot_both_be_bound() {
        let check = |one: &str, other: &str, expected: bool| {
            let (one, other) = (one.parse().unwrap(), other.parse().unwrap());
            assert_eq!(
                (overlap(one, other), overlap(other, one)),
                (expected, expected),
                "{one} {other}"
            );
        };
        check("127.0.0.1:1", "127.0.0.1:1", true);
        check("127.0.0.1:1", "127.0.0.1:2", false);
        check("127.0.0.1:0", "127.0.0.1:0", false);
        check("127.0.0.1:1", "127.0.0.2:1", false);
        check("0.0.0.0:1", "127.0.0.2:1", true);
        check("0.0.0.0:1", "[::1]:1", false);
        check("[::]:1", "[::1]:1", true);
        check("[::]:1", "127.0.0.1:1", true);
        check("[::]:1", "0.0.0.0:1", true);
    }
}
