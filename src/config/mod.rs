//! The configuration: one TOML file into the settings of every module.
//!
//! Every mistake of a file is reported at once, each with file, line, key, value, and what is accepted; unknown keys are
//! mistakes. Inside the program there is nothing left to check. The file holds *paths* of secrets, never secrets.
//! Modules own their settings types; this room knows them all, and none of them knows this room.

mod document;
mod sections;
mod values;

use crate::admin::Facts;
use crate::auth::AccessSettings;
use crate::mail::upstream::UpstreamSettings;
use crate::net::{CertificateSource, ListenLimits, ListenTls, ListenerSettings};
use crate::report::escape;
use crate::report::log::LogSettings;
use crate::store;
use crate::store::records::UnixTime;
use crate::wire::UpstreamTls;
use document::{Findings, Section};
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use toml::de::DeTable;

pub use values::parse_span;

/// Where the configuration of an installed gateway lies.
pub const SYSTEM_FILE: &str = "/etc/gatepost/gatepost.toml";

/// The data directory of an installed gateway.
pub const SYSTEM_DATA_DIR: &str = "/var/lib/gatepost";

/// The name of the file inside a data directory.
const FILE_NAME: &str = "gatepost.toml";

/// The settings of every module: what `gatepost run` starts with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The file they came from; `None` when all are defaults.
    pub file: Option<PathBuf>,
    /// Where everything lives that survives a restart.
    pub data_dir: PathBuf,
    /// The Unix socket of the running gateway, in a directory of its own that only its user may enter.
    pub admin_socket: PathBuf,
    /// This host's name, for greetings and the self-made certificate.
    pub hostname: String,
    /// What is logged.
    pub log: LogSettings,
    /// Where mail programs connect.
    pub listeners: Vec<ListenerSettings>,
    /// Limits of every listener.
    pub limits: ListenLimits,
    /// What listeners show.
    pub certificate: CertificateSource,
    /// The mail servers behind.
    pub upstreams: Vec<UpstreamSettings>,
    /// Who gets in.
    pub access: AccessSettings,
}

/// What the loader knows of the machine and its user; an argument, so that tests choose it.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// Whether the program runs as root.
    pub root: bool,
    /// The user's home directory.
    pub home: Option<PathBuf>,
    /// `$XDG_DATA_HOME`.
    pub xdg_data_home: Option<PathBuf>,
    /// `$XDG_RUNTIME_DIR`.
    pub xdg_runtime_dir: Option<PathBuf>,
    /// The machine's name.
    pub hostname: String,
    /// Whether the machine has IPv6.
    pub ipv6: bool,
    /// Default gateways of the machine; they must not count as trusted clients.
    pub gateways: Vec<IpAddr>,
}

/// Settings together with what is allowed but doubtful in them.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// Warnings, in the order of the file.
    pub warnings: Vec<Finding>,
}

/// One mistake or doubt, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// The key with its tables, as in `listener.address`.
    pub key: String,
    /// The value as it stands there, where showing it helps.
    pub value: Option<String>,
    /// What is wrong or what is accepted.
    pub what: String,
}

/// One line, whatever stands in keys, values and paths.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file.display(), self.line, self.column)?;
        if !self.key.is_empty() {
            f.write_str(&escape(&self.key))?;
        }
        if let Some(value) = &self.value {
            write!(f, " = {}", escape(value))?;
        }
        if !self.key.is_empty() {
            f.write_str(": ")?;
        }
        f.write_str(&escape(&self.what))
    }
}

/// Why there are no settings.
#[derive(Debug)]
pub enum ConfigError {
    /// The file cannot be read.
    Unreadable {
        /// Which.
        file: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// Neither a home nor a data directory is known.
    NoDataDirectory,
    /// The file has mistakes: all of them.
    Mistakes {
        /// In the order of the file.
        errors: Vec<Finding>,
        /// Warnings besides.
        warnings: Vec<Finding>,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::Unreadable { file, cause } => {
                write!(f, "the configuration {} cannot be read: {cause}", file.display())
            }
            ConfigError::NoDataDirectory => f.write_str(
                "no place for data is known: set HOME, or write data_dir in a file and name it with --config",
            ),
            ConfigError::Mistakes { errors, .. } => {
                for error in errors {
                    writeln!(f, "{error}")?;
                }
                match errors.len() {
                    1 => f.write_str("1 mistake in the configuration"),
                    count => write!(f, "{count} mistakes in the configuration"),
                }
            }
        }
    }
}

impl std::error::Error for ConfigError {}

/// Finds and loads the configuration: the file that was named, else [`SYSTEM_FILE`], else `gatepost.toml` in the user's
/// data directory, else nothing but defaults.
///
/// # Errors
/// As [`load_file`]; [`ConfigError::NoDataDirectory`] when there is no place to look for.
pub fn find_and_load(named: Option<&Path>, around: &Surroundings) -> Result<Loaded, ConfigError> {
    if let Some(file) = named {
        return load_file(file, around);
    }
    if exists(Path::new(SYSTEM_FILE)) {
        return load_file(Path::new(SYSTEM_FILE), around);
    }
    let data_dir = around.data_dir(None).ok_or(ConfigError::NoDataDirectory)?;
    let file = data_dir.join(FILE_NAME);
    if exists(&file) {
        load_file(&file, around)
    } else {
        load_text("", None, around)
    }
}

/// Loads one file.
///
/// # Errors
/// [`ConfigError::Unreadable`], or [`ConfigError::Mistakes`] with every mistake of the file.
pub fn load_file(file: &Path, around: &Surroundings) -> Result<Loaded, ConfigError> {
    let text = std::fs::read_to_string(file).map_err(|cause| ConfigError::Unreadable {
        file: file.to_path_buf(),
        cause,
    })?;
    load_text(&text, Some(file), around)
}

/// Loads a text as if it stood in `file`: relative paths in it start at the file's directory. The files that it names are
/// looked at.
///
/// # Errors
/// [`ConfigError::Mistakes`] with every mistake of the text, [`ConfigError::NoDataDirectory`].
pub fn load_text(text: &str, file: Option<&Path>, around: &Surroundings) -> Result<Loaded, ConfigError> {
    let findings = Findings::new(file.unwrap_or(Path::new(FILE_NAME)), text);
    // The recovering parser hands over what it understood, so that mistakes of meaning show in the same run as slips of
    // the pen.
    let (table, syntax): (toml::Spanned<DeTable<'_>>, _) = DeTable::parse_recoverable(text);
    for error in &syntax {
        findings.syntax(error);
    }
    let settings = sections::settings(Section::root(table.get_ref(), &findings), &findings, file, around);
    let (errors, warnings) = findings.into_sorted();
    if !errors.is_empty() {
        return Err(ConfigError::Mistakes { errors, warnings });
    }
    Ok(Loaded {
        settings: settings.ok_or(ConfigError::NoDataDirectory)?,
        warnings,
    })
}

impl Settings {
    /// Where the store is.
    pub fn store(&self) -> store::Settings {
        store::Settings {
            path: self.data_dir.clone(),
            engine: store::EngineKind::Sled,
        }
    }

    /// What the admin API may know; `started` is when the gateway started, if one runs.
    pub fn facts(&self, started: Option<UnixTime>) -> Facts {
        Facts {
            access: Arc::new(self.access.clone()),
            data_dir: self.data_dir.clone(),
            hostname: self.hostname.clone(),
            listeners: self.listeners.iter().map(describe_listener).collect(),
            upstreams: self.upstreams.iter().map(describe_upstream).collect(),
            started,
        }
    }
}

/// A listener on one line.
pub fn describe_listener(listener: &ListenerSettings) -> String {
    let tls = match listener.tls {
        ListenTls::Implicit => "TLS",
        ListenTls::StartTls => "STARTTLS",
        ListenTls::None => "no TLS: passwords in the clear",
    };
    format!(
        "{}: {} on {}, {tls}",
        listener.name, listener.protocol, listener.address
    )
}

/// An upstream on one line.
pub fn describe_upstream(upstream: &UpstreamSettings) -> String {
    let tls = match upstream.tls {
        UpstreamTls::Implicit => "TLS",
        UpstreamTls::StartTls => "STARTTLS",
        UpstreamTls::ClearAllowed => "no TLS: passwords in the clear",
    };
    format!(
        "{}: {} at {}:{}, {tls}",
        upstream.name, upstream.protocol, upstream.host, upstream.port
    )
}

impl Surroundings {
    /// Asks the running system.
    pub fn of_this_machine() -> Surroundings {
        let variable = |name| {
            std::env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let hostname = read("/proc/sys/kernel/hostname").trim().to_string();
        Surroundings {
            root: rustix::process::geteuid().is_root(),
            home: variable("HOME"),
            xdg_data_home: variable("XDG_DATA_HOME"),
            xdg_runtime_dir: variable("XDG_RUNTIME_DIR"),
            hostname: if hostname.is_empty() {
                "localhost".into()
            } else {
                hostname
            },
            ipv6: !read("/proc/net/if_inet6").trim().is_empty(),
            gateways: gateways_v4(&read("/proc/net/route"))
                .into_iter()
                .chain(gateways_v6(&read("/proc/net/ipv6_route")))
                .collect(),
        }
    }

    /// The data directory when the configuration, found in `file`, names none.
    fn data_dir(&self, file: Option<&Path>) -> Option<PathBuf> {
        // A user who asks an installed gateway reads its configuration, so she must find its data and its socket too.
        if self.root || file == Some(Path::new(SYSTEM_FILE)) {
            return Some(PathBuf::from(SYSTEM_DATA_DIR));
        }
        let share = self
            .xdg_data_home
            .clone()
            .or_else(|| Some(self.home.as_ref()?.join(".local/share")))?;
        Some(share.join("gatepost"))
    }

    /// The directory of the admin socket. A data directory that somebody chose has its own, so that two gateways of one
    /// user never answer each other's commands.
    fn runtime_dir(&self, data_dir: &Path, file: Option<&Path>) -> PathBuf {
        if data_dir == Path::new(SYSTEM_DATA_DIR) {
            return PathBuf::from("/run/gatepost");
        }
        match &self.xdg_runtime_dir {
            Some(runtime) if self.data_dir(file).as_deref() == Some(data_dir) => runtime.join("gatepost"),
            _ => data_dir.join("run"),
        }
    }
}

/// Gateways of default routes in the kernel's table: addresses are hex in host order of a little-endian word.
fn gateways_v4(table: &str) -> Vec<IpAddr> {
    let gateway = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let word = u32::from_str_radix(fields.get(2)?, 16).ok()?;
        let is_default = fields.get(1)? == &"00000000" && word != 0;
        is_default.then(|| IpAddr::from(word.to_ne_bytes()))
    };
    table.lines().filter_map(gateway).collect()
}

/// The same of IPv6: destination, its length, source, its length, next hop.
fn gateways_v6(table: &str) -> Vec<IpAddr> {
    let gateway = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let hop = u128::from_str_radix(fields.get(4)?, 16).ok()?;
        let is_default = fields.get(1)? == &"00" && hop != 0;
        is_default.then(|| IpAddr::from(hop.to_be_bytes()))
    };
    table.lines().filter_map(gateway).collect()
}

/// Whether something is there, even if it may not be read: then reading it says why, instead of silently using defaults.
fn exists(file: &Path) -> bool {
    !matches!(std::fs::symlink_metadata(file), Err(error) if error.kind() == io::ErrorKind::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn somebody() -> Surroundings {
        Surroundings {
            root: false,
            home: Some("/home/u".into()),
            xdg_data_home: None,
            xdg_runtime_dir: Some("/run/user/7".into()),
            hostname: "box".into(),
            ipv6: true,
            gateways: Vec::new(),
        }
    }

    #[test]
    fn places_follow_the_user() {
        let root = Surroundings {
            root: true,
            ..somebody()
        };
        let system = Path::new(SYSTEM_FILE);
        let check = |around: &Surroundings, text: &str, file: Option<&Path>, data: &str, socket: &str| {
            let settings = load_text(text, file, around).unwrap().settings;
            assert_eq!(settings.data_dir, Path::new(data));
            assert_eq!(settings.admin_socket, Path::new(socket));
        };
        check(&root, "", None, "/var/lib/gatepost", "/run/gatepost/admin.sock");
        check(
            &somebody(),
            "",
            None,
            "/home/u/.local/share/gatepost",
            "/run/user/7/gatepost/admin.sock",
        );
        check(
            &somebody(),
            "",
            Some(system),
            "/var/lib/gatepost",
            "/run/gatepost/admin.sock",
        );
        check(&somebody(), "data_dir = '/d'", None, "/d", "/d/run/admin.sock");
        check(
            &somebody(),
            "data_dir = 'd'",
            Some(Path::new("/c/g.toml")),
            "/c/d",
            "/c/d/run/admin.sock",
        );
        let without = Surroundings {
            xdg_runtime_dir: None,
            xdg_data_home: Some("/x".into()),
            ..somebody()
        };
        check(&without, "", None, "/x/gatepost", "/x/gatepost/run/admin.sock");
    }

    #[test]
    fn without_a_home_it_says_what_to_do() {
        let nobody = Surroundings {
            home: None,
            ..somebody()
        };
        assert!(matches!(
            load_text("", None, &nobody),
            Err(ConfigError::NoDataDirectory)
        ));
        assert!(load_text("data_dir = '/d'", None, &nobody).is_ok());
    }

    proptest! {
        #[test]
        fn any_table_of_the_kernel_is_read(table in "([0-9a-f]{0,33}[ \t\n]?){0,12}|\\PC*") {
            let gateways = [gateways_v4(&table), gateways_v6(&table)].concat();
            prop_assert!(gateways.len() <= 2 * table.lines().count());
            prop_assert!(gateways.iter().all(|gateway| !gateway.is_unspecified()));
        }
    }

    #[test]
    fn reads_default_gateways() {
        let v4 = "Iface\tDestination\tGateway\tFlags\neth0\t00000000\t010200C0\t0003\neth0\t000200C0\t00000000\t0001\n";
        assert_eq!(gateways_v4(v4), [IpAddr::from([192, 0, 2, 1])]);
        let v6 = "00000000000000000000000000000000 00 00000000000000000000000000000000 00 \
                  fe800000000000000000000000000001 00000400 00000001 00000000 00000003 eth0\n";
        assert_eq!(gateways_v6(v6), ["fe80::1".parse::<IpAddr>().unwrap()]);
    }
}
