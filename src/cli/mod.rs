//! Commands: each reads its arguments, asks for what it needs ([`reach`]), and prints the answer ([`show`]).
//!
//! `run` and `check` work on the configuration; all others are requests to the admin API, carried out by the running
//! gateway or, when none runs, in this process by the same functions.

mod args;
mod reach;
mod show;

pub use reach::Patience;

use crate::admin::api::person::{Done, ModeChange, NewPerson, Suspension};
use crate::admin::api::status::Status;
use crate::admin::api::token::{Enrolment, NewToken};
use crate::admin::api::{Failure, Method, Request};
use crate::admin::when;
use crate::config::{self, ConfigError, Loaded, Settings, Surroundings};
use crate::report::sign_in::SignInView;
use crate::report::{self, rfc3339};
use crate::store::records::{Mode, UnixTime};
use args::{Cli, Command, Cut, Device, Person, PersonMode, Session, SignIns, Token};
use clap::Parser;
use reach::{Reach, ReachError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Everything went well.
pub const DONE: u8 = 0;
/// It failed; the text says why.
pub const FAILED: u8 = 1;
/// The command line or the configuration is wrong.
pub const USAGE: u8 = 2;
/// There is no such person, token, device or session, or no running gateway.
pub const ABSENT: u8 = 3;

/// Where a command runs: its outputs and what it knows of the machine. A test has its own.
pub struct Console<'c> {
    /// For answers.
    pub out: &'c mut dyn Write,
    /// For everything else.
    pub err: &'c mut dyn Write,
    /// Whether `out` is a terminal, so that a QR code may set its colours.
    pub is_terminal: bool,
    /// The machine.
    pub around: Surroundings,
    /// How long to wait for a store in use.
    pub patience: Patience,
}

/// Runs one command and says with which code to exit: [`DONE`], [`FAILED`], [`USAGE`] or [`ABSENT`].
pub fn execute(arguments: impl IntoIterator<Item = OsString>, console: &mut Console<'_>) -> u8 {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return show_usage(&error, console),
    };
    let code = match carry_out(cli, console) {
        Ok(code) => code,
        // Whoever closed our output (`| head`) does not want to hear about it.
        Err(CommandError::Reach(ReachError::Output(cause))) if cause.kind() == io::ErrorKind::BrokenPipe => {
            DONE
        }
        Err(error) => {
            // Without a standard error there is nobody to tell.
            let _ = writeln!(console.err, "{}{error}", error.prefix());
            error.code()
        }
    };
    match console.out.flush() {
        Err(cause) if cause.kind() != io::ErrorKind::BrokenPipe => FAILED,
        _ => code,
    }
}

fn show_usage(error: &clap::Error, console: &mut Console<'_>) -> u8 {
    // Help and version come as errors too, but are answers.
    let text = error.render().to_string();
    let written = match error.use_stderr() {
        true => console.err.write_all(text.as_bytes()),
        false => console
            .out
            .write_all(text.as_bytes())
            .and_then(|()| console.out.flush()),
    };
    match (error.use_stderr(), written) {
        (true, _) => USAGE,
        (false, Ok(())) => DONE,
        (false, Err(_)) => FAILED,
    }
}

fn carry_out(cli: Cli, console: &mut Console<'_>) -> Result<u8, CommandError> {
    let Loaded {
        mut settings,
        warnings,
    } = config::find_and_load(cli.config.as_deref(), &console.around)?;
    if let Some(socket) = cli.socket {
        settings.admin_socket = socket;
    }
    let with_warnings = matches!(cli.command, Command::Run | Command::Check);
    for warning in warnings.iter().filter(|_| with_warnings) {
        writeln!(console.err, "warning: {warning}")?;
    }
    match cli.command {
        Command::Run => run(settings, console),
        Command::Check => check(&settings, console),
        command => {
            let may_create = matches!(command, Command::Person(Person::Add { .. }));
            let reach = Reach::find(&settings, may_create, console.patience)?;
            let code = request(command, &reach, console)?;
            reach.close()?;
            Ok(code)
        }
    }
}

fn run(settings: Settings, console: &mut Console<'_>) -> Result<u8, CommandError> {
    show::start(&settings, console.out)?;
    console.out.flush()?;
    let log = report::log::init(settings.log)?;
    let ran = crate::run::run(settings);
    drop(log);
    ran?;
    Ok(DONE)
}

fn check(settings: &Settings, console: &mut Console<'_>) -> Result<u8, CommandError> {
    show::checked(settings, console.out)?;
    Ok(DONE)
}

fn request(command: Command, reach: &Reach, console: &mut Console<'_>) -> Result<u8, CommandError> {
    match command {
        Command::Run | Command::Check => Ok(DONE),
        Command::Person(command) => person(command, reach, console),
        Command::Token(command) => token(command, reach, console),
        Command::Device(command) => device(command, reach, console),
        Command::Session(command) => session(command, reach, console),
        Command::SignIns(command) => sign_ins(command, reach, console),
        Command::Status(output) => status(output.json, reach, console),
    }
}

fn person(command: Person, reach: &Reach, console: &mut Console<'_>) -> Result<u8, CommandError> {
    let post = |login: &str, what: &str| Request::new(Method::Post, &["people", login, what]);
    match command {
        Person::Add { login, aliases } => {
            let new = NewPerson { login, aliases };
            done(
                Request::new(Method::Post, &["people"]).with_body(&new),
                reach,
                console,
            )
        }
        Person::List(output) => {
            let request = Request::new(Method::Get, &["people"]);
            answer(request, output.json, reach, console, show::people)
        }
        Person::Show { login, output } => {
            let request = Request::new(Method::Get, &["people", &login]);
            answer(request, output.json, reach, console, show::person)
        }
        Person::Remove { login } => done(Request::new(Method::Delete, &["people", &login]), reach, console),
        Person::Mode { login, mode } => {
            let mode = match mode {
                PersonMode::Learning => Some(Mode::Learning),
                PersonMode::Enforcing => Some(Mode::Enforcing),
                PersonMode::Inherit => None,
            };
            done(
                post(&login, "mode").with_body(&ModeChange { mode }),
                reach,
                console,
            )
        }
        Person::Suspend { login } => done(
            post(&login, "suspended").with_body(&Suspension { suspended: true }),
            reach,
            console,
        ),
        Person::Resume { login } => done(
            post(&login, "suspended").with_body(&Suspension { suspended: false }),
            reach,
            console,
        ),
        Person::Restore { login } => done(
            Request::new(Method::Delete, &["people", &login, "budget"]),
            reach,
            console,
        ),
    }
}

fn token(command: Token, reach: &Reach, console: &mut Console<'_>) -> Result<u8, CommandError> {
    match command {
        Token::Enrol {
            person,
            label,
            digits,
            period,
            algorithm,
            output,
        } => {
            let new = NewToken {
                label,
                digits,
                period,
                algorithm: algorithm.name().into(),
            };
            let request = Request::new(Method::Post, &["people", &person, "tokens"]).with_body(&new);
            let colours = console.is_terminal;
            answer(
                request,
                output.json,
                reach,
                console,
                |enrolment: &Enrolment, out: &mut dyn Write| show::enrolment(enrolment, colours, out),
            )
        }
        Token::List { person, output } => {
            let request = Request::new(Method::Get, &["people", &person, "tokens"]);
            answer(request, output.json, reach, console, show::tokens)
        }
        Token::Remove { person, token } => done(
            Request::new(Method::Delete, &["people", &person, "tokens", &token]),
            reach,
            console,
        ),
    }
}

fn device(command: Device, reach: &Reach, console: &mut Console<'_>) -> Result<u8, CommandError> {
    match command {
        Device::List { person, output } => {
            let request = match &person {
                Some(person) => Request::new(Method::Get, &["people", person, "devices"]),
                None => Request::new(Method::Get, &["devices"]),
            };
            answer(request, output.json, reach, console, show::devices)
        }
        Device::Revoke {
            person,
            device,
            all: _,
        } => {
            let path = ["people", &person, "devices"]
                .into_iter()
                .chain(device.as_deref())
                .collect::<Vec<_>>();
            done(Request::new(Method::Delete, &path), reach, console)
        }
    }
}

fn session(command: Session, reach: &Reach, console: &mut Console<'_>) -> Result<u8, CommandError> {
    match command {
        Session::List { person, output } => {
            let request = Request::new(Method::Get, &["sessions"]).with("person", person);
            answer(request, output.json, reach, console, show::sessions)
        }
        Session::Cut(Cut {
            id,
            person,
            device,
            all: _,
        }) => {
            let path = ["sessions"].into_iter().chain(id.as_deref()).collect::<Vec<_>>();
            let request = Request::new(Method::Delete, &path)
                .with("person", person)
                .with("device", device);
            done(request, reach, console)
        }
    }
}

fn sign_ins(command: SignIns, reach: &Reach, console: &mut Console<'_>) -> Result<u8, CommandError> {
    let since = command.since.as_deref().map(since).transpose()?;
    let request = |path: &[&str]| {
        Request::new(Method::Get, path)
            .with("limit", Some(command.last))
            .with("person", command.person.as_deref())
            .with("reason", command.reason.as_deref())
            .with("since", since.as_deref())
            .with("address", command.address.as_deref())
    };
    let mut each = |entry: &SignInView| -> io::Result<()> {
        match command.json {
            true => writeln!(console.out, "{}", serde_json::to_string(entry)?)?,
            false => show::sign_in(entry, console.out)?,
        }
        console.out.flush()
    };
    if command.follow && reach.is_gateway() {
        reach.follow(&request(&["sign-ins", "follow"]), &mut |entry| each(&entry))?;
        return Ok(DONE);
    }
    let entries: Vec<SignInView> = asked(&request(&["sign-ins"]), reach)?;
    entries.iter().try_for_each(&mut each)?;
    if entries.is_empty() && !command.json {
        writeln!(console.err, "no sign-in")?;
    }
    if command.follow {
        writeln!(console.err, "no gateway runs: there is nothing to follow")?;
        return Ok(ABSENT);
    }
    Ok(DONE)
}

fn status(json: bool, reach: &Reach, console: &mut Console<'_>) -> Result<u8, CommandError> {
    let status: Status = asked(&Request::new(Method::Get, &["status"]), reach)?;
    match json {
        true => print_json(&status, console.out)?,
        false => show::status(&status, console.out)?,
    }
    Ok(if status.gateway.is_some() { DONE } else { ABSENT })
}

/// A request whose answer says what was done.
fn done(request: Request, reach: &Reach, console: &mut Console<'_>) -> Result<u8, CommandError> {
    let done: Done = asked(&request, reach)?;
    show::done(&done, console.out)?;
    Ok(DONE)
}

/// A request whose answer is shown, as JSON or for people.
fn answer<T: DeserializeOwned + Serialize>(
    request: Request,
    json: bool,
    reach: &Reach,
    console: &mut Console<'_>,
    show: impl FnOnce(&T, &mut dyn Write) -> io::Result<()>,
) -> Result<u8, CommandError> {
    let view: T = asked(&request, reach)?;
    match json {
        true => print_json(&view, console.out)?,
        false => show(&view, console.out)?,
    }
    Ok(DONE)
}

fn asked<T: DeserializeOwned>(request: &Request, reach: &Reach) -> Result<T, CommandError> {
    let answer = reach.ask(request)?;
    let unreadable = |error: serde_json::Error| {
        // Not the answer itself: it may hold a seed.
        ReachError::Broken(format!(
            "its answer is not understood ({error}); is it another version of gatepost?"
        ))
    };
    Ok(serde_json::from_slice(answer.expose()).map_err(unreadable)?)
}

fn print_json(view: &impl Serialize, out: &mut dyn Write) -> Result<(), CommandError> {
    let text = serde_json::to_string_pretty(view).map_err(io::Error::from)?;
    Ok(writeln!(out, "{text}")?)
}

/// A point in time, or how long ago it was, as RFC 3339.
fn since(text: &str) -> Result<String, CommandError> {
    let ago = config::parse_span(text).map(|span| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        UnixTime(now.saturating_sub(span).as_secs())
    });
    let time = ago.or_else(|| when::parse(text)).ok_or_else(|| {
        let accepted =
            "accepted is a time such as 2026-11-23 or 2026-11-23T21:06Z, or how long ago, such as 2h or 7d";
        ReachError::Refused(Failure::Bad(format!("--since \"{text}\": {accepted}")))
    })?;
    Ok(rfc3339(time))
}

/// Why a command did not do what it should.
enum CommandError {
    Config(ConfigError),
    Reach(ReachError),
    Run(crate::run::RunError),
    Log(report::log::LogError),
}

impl CommandError {
    fn code(&self) -> u8 {
        match self {
            CommandError::Config(_) | CommandError::Reach(ReachError::Refused(Failure::Bad(_))) => USAGE,
            CommandError::Reach(ReachError::Refused(Failure::NotFound(_))) => ABSENT,
            CommandError::Reach(_) | CommandError::Run(_) | CommandError::Log(_) => FAILED,
        }
    }

    /// Mistakes of a configuration begin with their file and line, as editors expect it.
    fn prefix(&self) -> &'static str {
        match self {
            CommandError::Config(ConfigError::Mistakes { .. }) => "",
            _ => "gatepost: ",
        }
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CommandError::Config(error) => {
                if let ConfigError::Mistakes { warnings, .. } = error {
                    for warning in warnings {
                        writeln!(f, "warning: {warning}")?;
                    }
                }
                error.fmt(f)
            }
            CommandError::Reach(error) => error.fmt(f),
            CommandError::Run(error) => error.fmt(f),
            CommandError::Log(error) => error.fmt(f),
        }
    }
}

impl From<ConfigError> for CommandError {
    fn from(error: ConfigError) -> CommandError {
        CommandError::Config(error)
    }
}

impl From<ReachError> for CommandError {
    fn from(error: ReachError) -> CommandError {
        CommandError::Reach(error)
    }
}

impl From<crate::run::RunError> for CommandError {
    fn from(error: crate::run::RunError) -> CommandError {
        CommandError::Run(error)
    }
}

impl From<report::log::LogError> for CommandError {
    fn from(error: report::log::LogError) -> CommandError {
        CommandError::Log(error)
    }
}

impl From<io::Error> for CommandError {
    fn from(cause: io::Error) -> CommandError {
        CommandError::Reach(ReachError::Output(cause))
    }
}

/// Where a beginner should write her configuration.
fn suggested_file(settings: &Settings) -> std::path::PathBuf {
    match &settings.file {
        Some(file) => file.clone(),
        None if settings.data_dir == Path::new(config::SYSTEM_DATA_DIR) => config::SYSTEM_FILE.into(),
        None => settings.data_dir.join("gatepost.toml"),
    }
}
