//! People: who may sign in at all.
//!
//! `GET /people`, `POST /people`, `GET|DELETE /people/{login}`, `POST /people/{login}/mode`,
//! `POST /people/{login}/suspended`, `DELETE /people/{login}/budget`. `{login}` is a login or an alias, as she would type
//! it.

use super::device::DeviceView;
use super::token::TokenView;
use super::{Failure, Method, Request, Response, change, device, no_such, random_id, token};
use crate::admin::{Context, now};
use crate::auth::AccessSettings;
use crate::auth::people;
use crate::report::rfc3339;
use crate::store::records::{
    Batch, Devices, Expect, Factors, Key, KeyRange, Mode, Person, PersonId, Record, Value,
};
use serde::{Deserialize, Serialize};

/// A new person.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewPerson {
    /// Her login.
    pub login: String,
    /// Further logins that mean her.
    #[serde(default)]
    pub aliases: Vec<String>,
}

/// A change of mode.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModeChange {
    /// Her own mode; without one she has that of her route.
    pub mode: Option<Mode>,
}

/// A change between suspended and not.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Suspension {
    /// Whether nothing may sign in for her.
    pub suspended: bool,
}

/// What was done, in words, and what the administrator should know about it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Done {
    /// One sentence.
    pub done: String,
    /// Consequences and advice.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// A person in a list.
#[derive(Debug, Serialize, Deserialize)]
pub struct PersonView {
    /// Her login.
    pub login: String,
    /// Her identifier.
    pub id: String,
    /// Further logins.
    pub aliases: Vec<String>,
    /// Her own mode, if she has one.
    pub mode: Option<Mode>,
    /// The mode that counts for her.
    pub effective_mode: Mode,
    /// The route of her domain, if one serves it.
    pub route: Option<String>,
    /// Whether she is suspended.
    pub suspended: bool,
    /// How many tokens she has.
    pub tokens: usize,
    /// How many devices she has.
    pub devices: usize,
    /// When she was added.
    pub created: String,
}

/// Everything about a person.
#[derive(Debug, Serialize, Deserialize)]
pub struct PersonDetail {
    /// As in the list.
    #[serde(flatten)]
    pub person: PersonView,
    /// Her tokens.
    pub token_list: Vec<TokenView>,
    /// Her devices.
    pub device_list: Vec<DeviceView>,
    /// Since when the guessing budget is spent, until it is restored.
    pub budget_spent: Option<String>,
}

/// Answers for people.
pub(super) fn handle(request: &Request, context: &Context) -> Result<Response, Failure> {
    let path: Vec<&str> = request.path.iter().map(String::as_str).collect();
    match (request.method, &path[..]) {
        (Method::Get, ["people"]) => Response::json(&list(context)?),
        (Method::Post, ["people"]) => Response::json(&add(request.body()?, context)?),
        (Method::Get, ["people", login]) => Response::json(&show(login, context)?),
        (Method::Delete, ["people", login]) => Response::json(&remove(login, context)?),
        (Method::Post, ["people", login, "mode"]) => {
            Response::json(&set_mode(login, request.body()?, context)?)
        }
        (Method::Post, ["people", login, "suspended"]) => {
            Response::json(&set_suspended(login, request.body()?, context)?)
        }
        (Method::Delete, ["people", login, "budget"]) => Response::json(&restore(login, context)?),
        _ => Err(no_such(request)),
    }
}

fn list(context: &Context) -> Result<Vec<PersonView>, Failure> {
    let mut views = Vec::new();
    for person in everyone(context)? {
        let records = context.wait(
            context
                .store
                .get(vec![Key::Factors(person.id), Key::Devices(person.id)]),
        )?;
        views.push(view(
            &person,
            factors(&records[0]),
            devices(&records[1]),
            &context.access(),
        ));
    }
    views.sort_by(|one, other| one.login.cmp(&other.login));
    Ok(views)
}

fn add(new: NewPerson, context: &Context) -> Result<Done, Failure> {
    let login = normalise(&new.login, context)?;
    let mut aliases = new
        .aliases
        .iter()
        .map(|alias| normalise(alias, context))
        .collect::<Result<Vec<_>, _>>()?;
    aliases.sort();
    aliases.dedup();
    aliases.retain(|alias| *alias != login);
    let person = Person {
        id: PersonId(random_id()?),
        login,
        aliases,
        mode: None,
        grace_until: None,
        suspended: false,
        created: now(),
    };
    let logins: Vec<Key> = logins(&person).cloned().map(Key::Login).collect();
    change(context, &logins, |records| {
        if let Some((Key::Login(login), Some(record))) =
            logins.iter().zip(records).find(|(_, record)| record.is_some())
        {
            return Err(Failure::Conflict(taken(login, record, context)));
        }
        let batch = logins.iter().cloned().fold(Batch::default(), |batch, key| {
            batch.put(key, Expect::Absent, Value::Login(person.id))
        });
        Ok((
            batch.put(
                Key::Person(person.id),
                Expect::Absent,
                Value::Person(person.clone()),
            ),
            (),
        ))
    })?;
    Ok(Done {
        done: format!("added {}", person.login),
        notes: unserved(&person, &context.access()),
    })
}

fn show(login: &str, context: &Context) -> Result<PersonDetail, Failure> {
    let person = find(login, context)?;
    let keys = vec![
        Key::Factors(person.id),
        Key::Devices(person.id),
        Key::Budget(person.id),
    ];
    let records = context.wait(context.store.get(keys))?;
    let (factors, devices) = (factors(&records[0]), devices(&records[1]));
    let spent = match records[2].as_ref().map(|record| &record.value) {
        Some(Value::Budget(budget)) => budget.spent,
        _ => None,
    };
    Ok(PersonDetail {
        person: view(&person, factors, devices, &context.access()),
        token_list: factors
            .map(|factors| token::views(&person, factors))
            .unwrap_or_default(),
        device_list: device::views(&person, devices, factors, context)?,
        budget_spent: spent.map(rfc3339),
    })
}

fn remove(login: &str, context: &Context) -> Result<Done, Failure> {
    let person = find(login, context)?;
    let keys = [
        Key::Person(person.id),
        Key::Factors(person.id),
        Key::Devices(person.id),
        Key::Budget(person.id),
        Key::GoodNetworks(person.id),
    ];
    change(context, &keys, |records| {
        let Some(person) = of(&records[0]) else {
            return Err(unknown(login));
        };
        let (tokens, devices) = (
            token_count(factors(&records[1])),
            device_count(devices(&records[2])),
        );
        let mut batch = keys
            .iter()
            .zip(records)
            .fold(Batch::default(), |batch, (key, record)| {
                batch.remove(key.clone(), Expect::unchanged(record.as_ref()))
            });
        for login in logins(person) {
            batch = batch.remove(Key::Login(login.clone()), Expect::Any);
        }
        for range in [KeyRange::device_uses(person.id), KeyRange::claims_of(person.id)] {
            for key in all_keys(range, context)? {
                batch = batch.remove(key, Expect::Any);
            }
        }
        let login = &person.login;
        let done = format!(
            "removed {login} with {} and {}",
            counted(tokens, "token"),
            counted(devices, "device")
        );
        Ok((
            batch,
            Done {
                done,
                notes: Vec::new(),
            },
        ))
    })
}

fn set_mode(login: &str, mode: ModeChange, context: &Context) -> Result<Done, Failure> {
    let access = context.access();
    let person = update(login, context, |person| person.mode = mode.mode)?;
    let effective = mode_name(effective_mode(&person, &access));
    let done = match mode.mode {
        Some(_) => format!("{} is {effective} now", person.login),
        None => format!("{} follows her route now: {effective}", person.login),
    };
    let factors = context.wait(context.store.get(vec![Key::Factors(person.id)]))?;
    let mut notes = Vec::new();
    if effective_mode(&person, &access) == Mode::Enforcing && token_count(self::factors(&factors[0])) == 0 {
        notes.push(format!(
            "she has no token and cannot sign in; enrol one: gatepost token enrol {}",
            person.login
        ));
    }
    Ok(Done { done, notes })
}

fn set_suspended(login: &str, change: Suspension, context: &Context) -> Result<Done, Failure> {
    let person = update(login, context, |person| person.suspended = change.suspended)?;
    let state = if change.suspended {
        "suspended: nothing signs in for her"
    } else {
        "not suspended any more"
    };
    Ok(Done {
        done: format!("{} is {state}", person.login),
        notes: Vec::new(),
    })
}

/// Makes the guessing budget whole again. Misses that are remembered go with it, so that her devices may come from new
/// networks once more.
fn restore(login: &str, context: &Context) -> Result<Done, Failure> {
    let person = find(login, context)?;
    change(context, &[Key::Budget(person.id)], |records| {
        let spent = match records[0].as_ref().map(|record| &record.value) {
            Some(Value::Budget(budget)) => budget.spent.is_some(),
            _ => false,
        };
        let notes = if spent {
            vec!["somebody may know her mail password: change it, if that was not done yet".into()]
        } else {
            vec!["it was not spent".into()]
        };
        let expect = Expect::unchanged(records[0].as_ref());
        let done = Done {
            done: format!("{} has her whole guessing budget again", person.login),
            notes,
        };
        Ok((Batch::default().remove(Key::Budget(person.id), expect), done))
    })
}

fn update(login: &str, context: &Context, edit: impl Fn(&mut Person)) -> Result<Person, Failure> {
    let id = find(login, context)?.id;
    change(context, &[Key::Person(id)], |records| {
        let Some(person) = of(&records[0]) else {
            return Err(unknown(login));
        };
        let mut edited = person.clone();
        edit(&mut edited);
        let expect = Expect::unchanged(records[0].as_ref());
        Ok((
            Batch::default().put(Key::Person(id), expect, Value::Person(edited.clone())),
            edited,
        ))
    })
}

/// The person whom a login or alias means.
pub(super) fn find(login: &str, context: &Context) -> Result<Person, Failure> {
    let key = Key::Login(normalise(login, context)?);
    let found = context.wait(context.store.get(vec![key]))?;
    let Some(Value::Login(id)) = found[0].as_ref().map(|record| &record.value) else {
        return Err(unknown(login));
    };
    let found = context.wait(context.store.get(vec![Key::Person(*id)]))?;
    of(&found[0]).cloned().ok_or_else(|| unknown(login))
}

/// All people, in the order of their identifiers.
pub(super) fn everyone(context: &Context) -> Result<Vec<Person>, Failure> {
    let mut people = Vec::new();
    scan(KeyRange::people(), context, |_, record| {
        if let Value::Person(person) = record.value {
            people.push(person);
        }
    })?;
    Ok(people)
}

/// The mode that counts for a person: her own, her route's, the box's.
pub(super) fn effective_mode(person: &Person, access: &AccessSettings) -> Mode {
    let of_route = || people::route(access, &person.login).and_then(|route| route.mode);
    person.mode.or_else(of_route).unwrap_or(access.mode)
}

/// A mode in words.
pub(super) fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Learning => "learning",
        Mode::Enforcing => "enforcing",
    }
}

/// The person in a record.
pub(super) fn of(record: &Option<Record>) -> Option<&Person> {
    match record.as_ref().map(|record| &record.value) {
        Some(Value::Person(person)) => Some(person),
        _ => None,
    }
}

/// The factors in a record.
pub(super) fn factors(record: &Option<Record>) -> Option<&Factors> {
    match record.as_ref().map(|record| &record.value) {
        Some(Value::Factors(factors)) => Some(factors),
        _ => None,
    }
}

/// The devices in a record.
pub(super) fn devices(record: &Option<Record>) -> Option<&Devices> {
    match record.as_ref().map(|record| &record.value) {
        Some(Value::Devices(devices)) => Some(devices),
        _ => None,
    }
}

/// The answer where a login means nobody.
pub(super) fn unknown(login: &str) -> Failure {
    Failure::NotFound(format!(
        "nobody has the login \"{login}\"; `gatepost person list` shows everybody"
    ))
}

/// "1 token", "2 tokens".
pub(super) fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Every record of a range, page by page.
pub(super) fn scan(
    mut range: KeyRange,
    context: &Context,
    mut each: impl FnMut(Key, Record),
) -> Result<(), Failure> {
    const PAGE: usize = 256;
    loop {
        let page = context.wait(context.store.scan(range.clone(), PAGE))?;
        let last = page.records.last().map(|(key, _)| key.clone());
        page.records
            .into_iter()
            .for_each(|(key, record)| each(key, record));
        match last.filter(|_| page.more) {
            Some(last) => range = range.after(&last),
            None => return Ok(()),
        }
    }
}

fn all_keys(range: KeyRange, context: &Context) -> Result<Vec<Key>, Failure> {
    let mut keys = Vec::new();
    scan(range, context, |key, _| keys.push(key))?;
    Ok(keys)
}

fn view(
    person: &Person,
    factors: Option<&Factors>,
    devices: Option<&Devices>,
    access: &AccessSettings,
) -> PersonView {
    PersonView {
        login: person.login.clone(),
        id: person.id.to_string(),
        aliases: person.aliases.clone(),
        mode: person.mode,
        effective_mode: effective_mode(person, access),
        route: people::route(access, &person.login).map(|route| route.name.clone()),
        suspended: person.suspended,
        tokens: token_count(factors),
        devices: device_count(devices),
        created: rfc3339(person.created),
    }
}

/// A login as sign-in normalises it.
fn normalise(login: &str, context: &Context) -> Result<String, Failure> {
    let unusable = || {
        Failure::Bad(format!(
            "\"{login}\" is no login: accepted is an address such as alice@example.org"
        ))
    };
    people::normalise(login.as_bytes(), context.access().default_domain.as_deref()).ok_or_else(unusable)
}

fn token_count(factors: Option<&Factors>) -> usize {
    factors.map_or(0, |factors| factors.totp.len())
}

fn device_count(devices: Option<&Devices>) -> usize {
    devices.map_or(0, |devices| devices.devices.len())
}

fn logins(person: &Person) -> impl Iterator<Item = &String> {
    std::iter::once(&person.login).chain(&person.aliases)
}

fn taken(login: &str, record: &Record, context: &Context) -> String {
    let Value::Login(id) = record.value else {
        return format!("\"{login}\" is taken");
    };
    let owner = context.wait(context.store.get(vec![Key::Person(id)])).ok();
    match owner.as_ref().and_then(|records| of(&records[0])) {
        Some(owner) if owner.login == login => format!("there is a person with the login {login} already"),
        Some(owner) => format!("{login} is an alias of {} already", owner.login),
        None => format!("\"{login}\" is taken"),
    }
}

fn unserved(person: &Person, access: &AccessSettings) -> Vec<String> {
    if people::route(access, &person.login).is_some() {
        return Vec::new();
    }
    let domain = person.login.rsplit_once('@').map(|(_, domain)| domain);
    let what = match domain {
        _ if access.routes.is_empty() => "no mail server is configured".to_owned(),
        Some(domain) => format!("no route serves the domain {domain}"),
        None => "no route serves a login without a domain".to_owned(),
    };
    vec![format!(
        "{what}: she cannot sign in until the configuration has one"
    )]
}
