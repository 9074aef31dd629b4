//! The command line as it is written.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// A two-factor gateway for mail that already exists.
///
/// People type password@code once per device; the mail program saves it, and that very string stays good for that device
/// until it is revoked. Commands talk to the running gateway, or work on its store when none runs.
#[derive(Debug, Parser)]
#[command(
    name = "gatepost",
    version,
    propagate_version = true,
    after_help = "\
Examples:
  gatepost run                                start with safe defaults, and hear what to do next
  gatepost check --config gatepost.toml       every mistake in a configuration
  gatepost person add alice@example.org       add a person
  gatepost token enrol alice@example.org      give her a token; shows its QR code
  gatepost device revoke alice@example.org --all
  gatepost sign-ins --follow                  watch who gets in and why

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 there is no such person, token, device, session, or no
running gateway."
)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
    /// The configuration [default: /etc/gatepost/gatepost.toml, else gatepost.toml in the data directory, if there]
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// The running gateway's socket, if it is not where the configuration says
    #[arg(long, global = true, value_name = "PATH")]
    pub(super) socket: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the gateway until SIGTERM or Ctrl-C
    #[command(after_help = "\
Examples:
  gatepost run
  gatepost run --config /etc/gatepost/gatepost.toml")]
    Run,
    /// Read the configuration and report every mistake in it
    #[command(after_help = "\
Examples:
  gatepost check --config gatepost.toml

Exits with 2 when there is a mistake. Warnings do not count.")]
    Check,
    /// Add, list, show, change and remove people
    #[command(subcommand)]
    Person(Person),
    /// Enrol, list and remove tokens
    #[command(subcommand)]
    Token(Token),
    /// List and revoke remembered devices
    #[command(subcommand)]
    Device(Device),
    /// List and cut live sessions
    #[command(subcommand)]
    Session(Session),
    /// Show the sign-in log: who got in, who did not, and why
    #[command(after_help = "\
Examples:
  gatepost sign-ins -n 20
  gatepost sign-ins --follow --person alice@example.org
  gatepost sign-ins --reason wrong_code --since 2h
  gatepost sign-ins --address 192.0.2.0/24 --since 2026-11-23 --json")]
    SignIns(SignIns),
    /// Show what runs, where, and for how many people
    #[command(after_help = "\
Examples:
  gatepost status
  gatepost status --json

Exits with 3 when no gateway runs.")]
    Status(Output),
}

#[derive(Debug, Args)]
pub(super) struct Output {
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum Person {
    /// Add a person
    #[command(after_help = "\
Examples:
  gatepost person add alice@example.org
  gatepost person add alice@example.org --alias a.smith@example.org --alias alice@example.net")]
    Add {
        /// Her login; the default domain is added where it has none
        login: String,
        /// A further login that means her; may be given several times
        #[arg(long = "alias", value_name = "LOGIN")]
        aliases: Vec<String>,
    },
    /// List everybody
    #[command(after_help = "\
Examples:
  gatepost person list
  gatepost person list --json")]
    List(Output),
    /// Show everything about a person
    #[command(after_help = "\
Examples:
  gatepost person show alice@example.org")]
    Show {
        /// Her login or an alias
        login: String,
        #[command(flatten)]
        output: Output,
    },
    /// Remove a person with her tokens and devices; her sessions are cut
    #[command(after_help = "\
Examples:
  gatepost person remove alice@example.org")]
    Remove {
        /// Her login or an alias
        login: String,
    },
    /// Set a person's mode
    #[command(after_help = "\
Examples:
  gatepost person mode alice@example.org learning     she signs in as before; the log says what enforcing would do
  gatepost person mode alice@example.org enforcing    she needs a code or a known device
  gatepost person mode alice@example.org inherit      whatever her route says")]
    Mode {
        /// Her login or an alias
        login: String,
        /// The mode
        mode: PersonMode,
    },
    /// Let nothing sign in for a person any more; her sessions are cut
    #[command(after_help = "\
Examples:
  gatepost person suspend alice@example.org")]
    Suspend {
        /// Her login or an alias
        login: String,
    },
    /// End a suspension
    #[command(after_help = "\
Examples:
  gatepost person resume alice@example.org")]
    Resume {
        /// Her login or an alias
        login: String,
    },
    /// Let her enrol devices again after too many wrong codes: her guessing budget is whole again
    #[command(after_help = "\
Examples:
  gatepost person restore alice@example.org

Somebody may know her mail password: change it first.")]
    Restore {
        /// Her login or an alias
        login: String,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum PersonMode {
    /// Signs in as before
    Learning,
    /// Needs a code or a known device
    Enforcing,
    /// Whatever her route says
    Inherit,
}

#[derive(Debug, Subcommand)]
pub(super) enum Token {
    /// Enrol a token and show it once: QR code, otpauth URI, seed in base32
    #[command(after_help = "\
Examples:
  gatepost token enrol alice@example.org
  gatepost token enrol alice@example.org --label phone
  gatepost token enrol alice@example.org --label fob --digits 8 --period 60 --algorithm sha256")]
    Enrol {
        /// The person's login or an alias
        person: String,
        /// What to call it
        #[arg(long, default_value = "authenticator")]
        label: String,
        /// Digits of a code: 6, 7 or 8
        #[arg(long, default_value_t = 6)]
        digits: u8,
        /// Seconds of a step: 30 or 60
        #[arg(long, default_value_t = 30)]
        period: u32,
        /// The hash; some authenticators know sha1 only
        #[arg(long, default_value = "sha1")]
        algorithm: Algorithm,
        #[command(flatten)]
        output: Output,
    },
    /// List a person's tokens
    #[command(after_help = "\
Examples:
  gatepost token list alice@example.org")]
    List {
        /// The person's login or an alias
        person: String,
        #[command(flatten)]
        output: Output,
    },
    /// Remove a token
    #[command(after_help = "\
Examples:
  gatepost token remove alice@example.org xeyo2n2qgtbee")]
    Remove {
        /// The person's login or an alias
        person: String,
        /// The token, as `list` shows it
        token: String,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Algorithm {
    Sha1,
    Sha256,
    Sha512,
}

impl Algorithm {
    pub(super) fn name(self) -> &'static str {
        match self {
            Algorithm::Sha1 => "sha1",
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        }
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Device {
    /// List remembered devices
    #[command(after_help = "\
Examples:
  gatepost device list
  gatepost device list alice@example.org --json")]
    List {
        /// Of this person only: her login or an alias
        person: Option<String>,
        #[command(flatten)]
        output: Output,
    },
    /// Revoke a device: its saved password is refused from now on, its sessions are cut
    #[command(after_help = "\
Examples:
  gatepost device revoke alice@example.org 4hq2xk3mzt6ba
  gatepost device revoke alice@example.org --all")]
    Revoke {
        /// The person's login or an alias
        person: String,
        /// The device, as `list` shows it
        #[arg(required_unless_present = "all")]
        device: Option<String>,
        /// All of her devices
        #[arg(long, conflicts_with = "device")]
        all: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum Session {
    /// List live sessions
    #[command(after_help = "\
Examples:
  gatepost session list
  gatepost session list --person alice@example.org")]
    List {
        /// Of this person only: her login or an alias
        #[arg(long, value_name = "LOGIN")]
        person: Option<String>,
        #[command(flatten)]
        output: Output,
    },
    /// Cut live sessions; their devices may sign in again
    #[command(after_help = "\
Examples:
  gatepost session cut 17
  gatepost session cut --person alice@example.org
  gatepost session cut --device 4hq2xk3mzt6ba
  gatepost session cut --all

To keep a device out, revoke it: gatepost device revoke.")]
    Cut(Cut),
}

#[derive(Debug, Args)]
pub(super) struct Cut {
    /// The session, as `list` shows it
    #[arg(required_unless_present_any = ["person", "device", "all"], conflicts_with_all = ["person", "device", "all"])]
    pub(super) id: Option<String>,
    /// All sessions of a person: her login or an alias
    #[arg(long, value_name = "LOGIN", conflicts_with = "device")]
    pub(super) person: Option<String>,
    /// All sessions of a device, as `gatepost device list` shows it
    #[arg(long, value_name = "DEVICE")]
    pub(super) device: Option<String>,
    /// All sessions of everybody
    #[arg(long, conflicts_with_all = ["person", "device"])]
    pub(super) all: bool,
}

#[derive(Debug, Args)]
pub(super) struct SignIns {
    /// How many of the last ones
    #[arg(short = 'n', long = "last", value_name = "COUNT", default_value_t = 50)]
    pub(super) last: usize,
    /// Then go on with each new one, until Ctrl-C
    #[arg(long)]
    pub(super) follow: bool,
    /// Of this person only: her login or an alias
    #[arg(long, value_name = "LOGIN")]
    pub(super) person: Option<String>,
    /// With this reason only, such as wrong_code
    #[arg(long)]
    pub(super) reason: Option<String>,
    /// Not before this time: 2026-11-23, 2026-11-23T21:06Z, or how long ago: 2h, 7d
    #[arg(long, value_name = "TIME")]
    pub(super) since: Option<String>,
    /// From this address or network only
    #[arg(long, value_name = "NETWORK")]
    pub(super) address: Option<String>,
    /// Print one JSON object a line
    #[arg(long)]
    pub(super) json: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn every_command_has_examples_and_they_are_understood() {
        fn look(command: &clap::Command) {
            let (mut commands, mut examples) = (0, 0);
            for inner in command.get_subcommands() {
                commands += 1;
                look(inner);
            }
            let help = command
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            for line in help.lines().filter_map(|line| line.strip_prefix("  gatepost ")) {
                examples += 1;
                // What it does stands behind it.
                let words = line.split("    ").next().unwrap_or_default();
                let words = std::iter::once("gatepost").chain(words.split_whitespace());
                assert!(Cli::try_parse_from(words).is_ok(), "{line}");
            }
            assert!(
                commands > 0 || examples > 0,
                "{} has no example",
                command.get_name()
            );
        }
        look(&Cli::command());
    }
}
