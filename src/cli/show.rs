//! Answers for people: text and tables.
//!
//! What mail programs said about themselves, and every other text from outside, is printed without control characters: a
//! terminal would obey them.

use super::suggested_file;
use crate::admin::api::device::DeviceView;
use crate::admin::api::person::{Done, PersonDetail, PersonView};
use crate::admin::api::session::SessionView;
use crate::admin::api::status::Status;
use crate::admin::api::token::{Enrolment, TokenView};
use crate::config::{Settings, describe_listener, describe_upstream};
use crate::net::CertificateSource;
use crate::report::escape;
use crate::report::sign_in::SignInView;
use crate::store::records::Mode;
use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;
use std::io::{self, Write};

/// What was done.
pub(super) fn done(done: &Done, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}", escape(&done.done))?;
    notes(&done.notes, out)
}

/// Everybody.
pub(super) fn people(people: &Vec<PersonView>, out: &mut dyn Write) -> io::Result<()> {
    if people.is_empty() {
        return writeln!(out, "nobody yet; gatepost person add LOGIN");
    }
    let mut rows = vec![row(["LOGIN", "MODE", "TOKENS", "DEVICES", "ROUTE", "ALIASES"])];
    for person in people {
        let state = if person.suspended {
            "suspended"
        } else {
            mode(person.effective_mode)
        };
        rows.push(vec![
            person.login.clone(),
            state.into(),
            person.tokens.to_string(),
            person.devices.to_string(),
            or_dash(person.route.as_deref()),
            person.aliases.join(" "),
        ]);
    }
    table(&rows, out)
}

/// Everything about a person.
pub(super) fn person(detail: &PersonDetail, out: &mut dyn Write) -> io::Result<()> {
    let person = &detail.person;
    writeln!(out, "{}", escape(&person.login))?;
    let whose = if person.mode.is_some() {
        "her own"
    } else {
        "inherited"
    };
    writeln!(out, "  mode       {} ({whose})", mode(person.effective_mode))?;
    writeln!(
        out,
        "  suspended  {}",
        if person.suspended { "yes" } else { "no" }
    )?;
    writeln!(out, "  route      {}", or_dash(person.route.as_deref()))?;
    let aliases = person.aliases.join(" ");
    writeln!(
        out,
        "  aliases    {}",
        if aliases.is_empty() { "-" } else { &aliases }
    )?;
    writeln!(out, "  added      {}", person.created)?;
    writeln!(out, "  id         {}", person.id)?;
    if let Some(since) = &detail.budget_spent {
        writeln!(
            out,
            "  guessing   too many wrong codes, since {since}: no new devices; change her mail password, then gatepost person \
             restore {}",
            escape(&person.login)
        )?;
    }
    writeln!(out, "\nTokens")?;
    tokens(&detail.token_list, out)?;
    writeln!(out, "\nDevices")?;
    devices(&detail.device_list, out)
}

/// A person's tokens.
pub(super) fn tokens(tokens: &Vec<TokenView>, out: &mut dyn Write) -> io::Result<()> {
    if tokens.is_empty() {
        return writeln!(out, "no token; gatepost token enrol LOGIN");
    }
    let mut rows = vec![row([
        "TOKEN", "LABEL", "KIND", "DIGITS", "PERIOD", "HASH", "STATE", "ENROLLED",
    ])];
    for token in tokens {
        rows.push(vec![
            token.id.clone(),
            token.label.clone(),
            token.kind.clone(),
            token.digits.to_string(),
            format!("{}s", token.period),
            token.algorithm.clone(),
            if token.active { "active" } else { "pending" }.into(),
            token.created.clone(),
        ]);
    }
    table(&rows, out)
}

/// A new token: the only time that its seed is seen.
pub(super) fn enrolment(enrolment: &Enrolment, colours: bool, out: &mut dyn Write) -> io::Result<()> {
    let token = &enrolment.token;
    writeln!(
        out,
        "enrolled the token {} ({}) for {}",
        token.id,
        escape(&token.label),
        escape(&token.person)
    )?;
    writeln!(
        out,
        "Scan this with her authenticator now; it is not shown again.\n"
    )?;
    writeln!(out, "{}", qr_code(&enrolment.uri, colours)?)?;
    writeln!(out, "URI   {}", escape(&enrolment.uri))?;
    writeln!(
        out,
        "Seed  {}   ({}, {} digits, {}s)",
        enrolment.seed, token.algorithm, token.digits, token.period
    )?;
    writeln!(
        out,
        "\nIn her mail program she types password@code once; the mail program saves it."
    )?;
    notes(&enrolment.notes, out)
}

/// The QR code in half blocks. Its colours are set where they can be: a code in the terminal's own is light on dark, or
/// the reverse, and many scanners read only one of them.
fn qr_code(uri: &str, colours: bool) -> io::Result<String> {
    let code = QrCode::new(uri.as_bytes()).map_err(io::Error::other)?;
    let mut picture = code.render::<Dense1x2>();
    if !colours {
        // Most terminals are dark: what is printed shines.
        return Ok(picture
            .dark_color(Dense1x2::Light)
            .light_color(Dense1x2::Dark)
            .build());
    }
    let lines = picture.build();
    Ok(lines
        .lines()
        .map(|line| format!("\x1b[38;5;16;48;5;231m{line}\x1b[0m"))
        .collect::<Vec<_>>()
        .join("\n"))
}

/// Devices.
pub(super) fn devices(devices: &Vec<DeviceView>, out: &mut dyn Write) -> io::Result<()> {
    if devices.is_empty() {
        return writeln!(out, "no device");
    }
    let mut rows = vec![row([
        "DEVICE",
        "PERSON",
        "PROGRAM",
        "PROTOCOLS",
        "TOKEN",
        "SINCE",
        "LAST SEEN",
        "FROM",
    ])];
    for device in devices {
        let seen = match &device.refused {
            Some(refused) => format!("refused {refused}"),
            None => or_dash(device.last_seen.as_deref()),
        };
        rows.push(vec![
            device.id.clone(),
            device.person.clone(),
            or_dash(device.client.as_deref()),
            device.protocols.join(" "),
            device.token.clone(),
            device.created.clone(),
            seen,
            device
                .last_network
                .clone()
                .unwrap_or_else(|| device.first_network.clone()),
        ]);
    }
    table(&rows, out)
}

/// Live sessions.
pub(super) fn sessions(sessions: &Vec<SessionView>, out: &mut dyn Write) -> io::Result<()> {
    if sessions.is_empty() {
        return writeln!(out, "no session");
    }
    let mut rows = vec![row(["SESSION", "PERSON", "DEVICE", "PROTOCOL", "FROM", "SINCE"])];
    for session in sessions {
        rows.push(vec![
            session.id.to_string(),
            session.account.clone(),
            or_dash(session.device.as_deref()),
            session.protocol.clone(),
            session.address.clone(),
            session.since.clone(),
        ]);
    }
    table(&rows, out)
}

/// One decided attempt, on one line.
pub(super) fn sign_in(entry: &SignInView, out: &mut dyn Write) -> io::Result<()> {
    let mut line = format!(
        "{}  {:<9}  {:<20}  {}  {}  {}",
        entry.at,
        entry.outcome.replace('_', " "),
        entry.reason.name(),
        entry.login,
        entry.address,
        entry.protocol
    );
    if let Some(reason) = entry.enforcing_would {
        line.push_str(&format!("  enforcing: {}", reason.name()));
    }
    if let Some(device) = &entry.device {
        line.push_str(&format!("  device {device}"));
    }
    if let Some(client) = &entry.client {
        line.push_str(&format!("  \"{client}\""));
    }
    writeln!(out, "{}", escape(&line))?;
    match &entry.remedy {
        Some(remedy) => writeln!(out, "{:22}{} {remedy}", "", entry.meaning),
        None => Ok(()),
    }
}

/// The state of gateway and store.
pub(super) fn status(status: &Status, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "gatepost {} on {}", status.version, escape(&status.hostname))?;
    match &status.gateway {
        Some(gateway) => {
            let (pid, started) = (gateway.pid, &gateway.started);
            writeln!(
                out,
                "  gateway    running since {started}, process {pid}, {} live sessions",
                gateway.sessions
            )?;
            writeln!(out, "  clock      {}", gateway.clock)?;
        }
        None => writeln!(out, "  gateway    not running")?,
    }
    writeln!(out, "  mode       {}", mode(status.mode))?;
    writeln!(out, "  people     {}", status.people)?;
    writeln!(out, "  data       {}", escape(&status.data_dir))?;
    for (title, lines) in [
        ("listens", &status.listeners),
        ("upstream", &status.upstreams),
        ("route", &status.routes),
    ] {
        if lines.is_empty() {
            writeln!(out, "  {title:<9}  none")?;
        }
        for line in lines {
            writeln!(out, "  {title:<9}  {}", escape(line))?;
        }
    }
    Ok(())
}

/// What `run` starts with, and what to do next where something is missing.
pub(super) fn start(settings: &Settings, out: &mut dyn Write) -> io::Result<()> {
    checked(settings, out)?;
    if settings.upstreams.is_empty() {
        let file = suggested_file(settings);
        writeln!(
            out,
            "\nNo mail server is configured, so nobody can sign in. Next:\n\
             1. Write into {}:\n\n\
             \x20  [[upstream]]\n\
             \x20  name = \"office\"\n\
             \x20  protocol = \"imap\"\n\
             \x20  host = \"mail.example.org\"\n\
             \x20  tls = \"implicit\"\n\n\
             2. Start again, then add a person and give her a token:\n\n\
             \x20  gatepost person add alice@example.org\n\
             \x20  gatepost token enrol alice@example.org\n\n\
             3. In her mail program she sets this gateway as the server and types password@code as the password.\n",
            file.display()
        )?;
    }
    Ok(())
}

/// What a configuration means, in short.
pub(super) fn checked(settings: &Settings, out: &mut dyn Write) -> io::Result<()> {
    match &settings.file {
        Some(file) => writeln!(out, "configuration  {}", file.display())?,
        None => writeln!(out, "configuration  none: defaults")?,
    }
    writeln!(out, "data           {}", settings.data_dir.display())?;
    writeln!(out, "admin socket   {}", settings.admin_socket.display())?;
    match &settings.certificate {
        CertificateSource::Files { chain, .. } => writeln!(out, "certificate    {}", chain.display())?,
        CertificateSource::SelfSigned { names, .. } => {
            writeln!(out, "certificate    self-signed for {}", names.join(", "))?;
        }
    }
    writeln!(out, "mode           {}", mode(settings.access.mode))?;
    for listener in &settings.listeners {
        writeln!(out, "listener       {}", describe_listener(listener))?;
    }
    for upstream in &settings.upstreams {
        writeln!(out, "upstream       {}", describe_upstream(upstream))?;
    }
    for route in &settings.access.routes {
        let (domains, upstreams) = (route.domains.join(", "), route.upstreams.join(", "));
        writeln!(out, "route          {}: {domains} -> {upstreams}", route.name)?;
    }
    Ok(())
}

fn notes(notes: &[String], out: &mut dyn Write) -> io::Result<()> {
    notes
        .iter()
        .try_for_each(|note| writeln!(out, "note: {}", escape(note)))
}

fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Learning => "learning",
        Mode::Enforcing => "enforcing",
    }
}

fn or_dash(text: Option<&str>) -> String {
    text.unwrap_or("-").to_string()
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.iter().map(|cell| cell.to_string()).collect()
}

/// Columns as wide as their widest cell; the last one is not padded.
fn table(rows: &[Vec<String>], out: &mut dyn Write) -> io::Result<()> {
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| row.iter().map(|cell| escape(cell).into_owned()).collect())
        .collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
    };
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    for row in &rows {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        writeln!(out, "{}", cells.join("  ").trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_line_up() {
        let mut out = Vec::new();
        table(&[row(["A", "LONG", "C"]), row(["wide cell", "x", ""])], &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "A          LONG  C\nwide cell  x\n"
        );
    }

    #[test]
    fn a_start_without_a_mail_server_says_what_to_do_next() {
        let around = crate::config::Surroundings {
            root: true,
            home: None,
            xdg_data_home: None,
            xdg_runtime_dir: None,
            hostname: "box".into(),
            ipv6: true,
            gateways: Vec::new(),
        };
        let said = |text: &str| {
            let settings = crate::config::load_text(text, None, &around).unwrap().settings;
            let mut out = Vec::new();
            start(&settings, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        let bare = said("");
        for expected in [
            "configuration  none: defaults\n",
            "listener       imaps: imap on [::]:993, TLS\n",
            "listener       imap: imap on [::]:143, STARTTLS\n",
            "Write into /etc/gatepost/gatepost.toml:",
            "gatepost token enrol alice@example.org",
        ] {
            assert!(bare.contains(expected), "{expected}: {bare}");
        }
        // What is suggested is right.
        let suggested: String = bare
            .lines()
            .skip_while(|line| !line.contains("[[upstream]]"))
            .take(5)
            .collect::<Vec<_>>()
            .join("\n");
        let ready = said(&suggested);
        assert!(
            ready.contains("upstream       office: imap at mail.example.org:993, TLS\n"),
            "{ready}"
        );
        assert!(!ready.contains("Next:"), "{ready}");
    }

    /// Reads the picture back, module by module, and compares it with the code itself.
    #[test]
    fn the_picture_is_the_code() {
        let uri = "otpauth://totp/Gatepost:alice%40example.org?secret=GEZDGNBVGY3TQOJQ&issuer=Gatepost";
        let picture = qr_code(uri, false).unwrap();
        let mut modules: Vec<Vec<bool>> = Vec::new();
        for line in picture.lines() {
            // Light modules are printed.
            let halves: Vec<(bool, bool)> = line
                .chars()
                .map(|c| match c {
                    ' ' => (true, true),
                    '▀' => (false, true),
                    '▄' => (true, false),
                    '█' => (false, false),
                    other => panic!("{other:?}"),
                })
                .collect();
            modules.push(halves.iter().map(|half| half.0).collect());
            modules.push(halves.iter().map(|half| half.1).collect());
        }
        const QUIET: usize = 4;
        let code = QrCode::new(uri.as_bytes()).unwrap();
        for y in 0..code.width() {
            for x in 0..code.width() {
                let dark = code[(x, y)] == qrcode::Color::Dark;
                assert_eq!(modules[y + QUIET][x + QUIET], dark, "{x},{y}");
            }
        }
        let coloured = qr_code(uri, true).unwrap();
        assert!(
            coloured
                .lines()
                .all(|line| line.starts_with("\x1b[38;5;16;48;5;231m") && line.ends_with("\x1b[0m"))
        );
    }
}
