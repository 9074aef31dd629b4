//! Devices: literals that once held a right code and sign in since.
//!
//! `GET /devices`, `GET /people/{login}/devices`, `DELETE /people/{login}/devices` (all of them),
//! `DELETE /people/{login}/devices/{id}`. Revoking leaves a tombstone: that literal never becomes a device again.

use super::person::{self, Done};
use super::{Failure, Method, Request, Response, change, no_such};
use crate::admin::{Context, now};
use crate::report::rfc3339;
use crate::store::records::{
    Batch, Death, Device, DeviceId, DeviceUse, Devices, Expect, Factors, Key, KeyRange, Person, Tombstone,
    UnixTime, Value,
};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::time::Duration;

/// Dead devices that one person's record holds; the oldest makes room.
const MAX_TOMBSTONES: usize = 64;

/// How long a dead literal is known as such.
const TOMBSTONE_LIFE: Duration = Duration::from_secs(400 * 86_400);

/// A device.
#[derive(Debug, Serialize, Deserialize)]
pub struct DeviceView {
    /// Whose it is.
    pub person: String,
    /// Its identifier.
    pub id: String,
    /// What the mail program said about itself.
    pub client: Option<String>,
    /// Protocols that it signed in by.
    pub protocols: Vec<String>,
    /// The first sign-in.
    pub created: String,
    /// From where.
    pub first_network: String,
    /// The last sign-in.
    pub last_seen: Option<String>,
    /// From where.
    pub last_network: Option<String>,
    /// When the mail server last refused it, if that was after the last good sign-in.
    pub refused: Option<String>,
    /// The token whose code made it; its label where it still exists.
    pub token: String,
}

/// Answers for devices.
pub(super) fn handle(request: &Request, context: &Context) -> Result<Response, Failure> {
    let path: Vec<&str> = request.path.iter().map(String::as_str).collect();
    match (request.method, &path[..]) {
        (Method::Get, ["devices"]) => Response::json(&list_all(context)?),
        (Method::Get, ["people", login, "devices"]) => {
            Response::json(&list_of(&person::find(login, context)?, context)?)
        }
        (Method::Delete, ["people", login, "devices"]) => Response::json(&revoke(login, None, context)?),
        (Method::Delete, ["people", login, "devices", id]) => {
            Response::json(&revoke(login, Some(id), context)?)
        }
        _ => Err(no_such(request)),
    }
}

/// The devices of a person, oldest first.
pub(super) fn views(
    person: &Person,
    devices: Option<&Devices>,
    factors: Option<&Factors>,
    context: &Context,
) -> Result<Vec<DeviceView>, Failure> {
    let Some(devices) = devices else {
        return Ok(Vec::new());
    };
    let mut uses: HashMap<DeviceId, DeviceUse> = HashMap::new();
    person::scan(KeyRange::device_uses(person.id), context, |key, record| {
        if let (Key::DeviceUse(_, id), Value::DeviceUse(value)) = (key, record.value) {
            uses.insert(id, value);
        }
    })?;
    let label = |device: &Device| {
        let token = factors.and_then(|factors| factors.totp.iter().find(|totp| totp.id == device.factor));
        token.map_or_else(|| device.factor.to_string(), |totp| totp.label.clone())
    };
    Ok(devices
        .devices
        .iter()
        .map(|device| view(person, device, uses.get(&device.id), label(device)))
        .collect())
}

fn list_all(context: &Context) -> Result<Vec<DeviceView>, Failure> {
    let mut people = person::everyone(context)?;
    people.sort_by(|one, other| one.login.cmp(&other.login));
    let mut views = Vec::new();
    for person in people {
        views.extend(list_of(&person, context)?);
    }
    Ok(views)
}

fn list_of(person: &Person, context: &Context) -> Result<Vec<DeviceView>, Failure> {
    let records = context.wait(
        context
            .store
            .get(vec![Key::Devices(person.id), Key::Factors(person.id)]),
    )?;
    views(
        person,
        person::devices(&records[0]),
        person::factors(&records[1]),
        context,
    )
}

/// Revokes one device, or all of a person's. The gate hears of the write and cuts their sessions.
fn revoke(login: &str, id: Option<&str>, context: &Context) -> Result<Done, Failure> {
    let person = person::find(login, context)?;
    let wanted: Option<DeviceId> = id
        .map(|id| {
            id.parse()
                .map_err(|error| Failure::Bad(format!("\"{id}\" is no device: {error}")))
        })
        .transpose()?;
    let key = Key::Devices(person.id);
    change(context, std::slice::from_ref(&key), |records| {
        let is_meant = |device: &Device| wanted.is_none_or(|wanted| device.id == wanted);
        let found = person::devices(&records[0]);
        let Some(devices) = found.filter(|devices| devices.devices.iter().any(is_meant)) else {
            let which = id.map_or(String::new(), |id| format!(" {id}"));
            let text = format!(
                "{} has no device{which}; `gatepost device list {}`",
                person.login, person.login
            );
            return Err(Failure::NotFound(text));
        };
        let (dead, alive): (Vec<Device>, Vec<Device>) = devices.devices.iter().cloned().partition(is_meant);
        let kept = Devices {
            cost: devices.cost.clone(),
            devices: alive,
            tombstones: bury(&devices.tombstones, &dead, now()),
        };
        let mut batch = Batch::default().put(
            key.clone(),
            Expect::unchanged(records[0].as_ref()),
            Value::Devices(kept),
        );
        for device in &dead {
            batch = batch.remove(Key::DeviceUse(person.id, device.id), Expect::Any);
        }
        let what = match &dead[..] {
            [device] => format!("the device {}", device.id),
            several => person::counted(several.len(), "device"),
        };
        let notes = vec!["to sign in again, its mail program needs the password with a new code".to_string()];
        Ok((
            batch,
            Done {
                done: format!("revoked {what} of {}", person.login),
                notes,
            },
        ))
    })
}

/// Tombstones with those of newly dead devices: none too old, the newest last, at most [`MAX_TOMBSTONES`].
fn bury(tombstones: &[Tombstone], dead: &[Device], now: UnixTime) -> Vec<Tombstone> {
    let fresh = dead.iter().map(|device| Tombstone {
        tag: device.tag,
        death: Death::Revoked,
        died: now,
    });
    let known = tombstones
        .iter()
        .filter(|tombstone| now.since(tombstone.died) < TOMBSTONE_LIFE)
        .cloned();
    let all: Vec<Tombstone> = known.chain(fresh).collect();
    let surplus = all.len().saturating_sub(MAX_TOMBSTONES);
    all.into_iter().skip(surplus).collect()
}

fn view(person: &Person, device: &Device, used: Option<&DeviceUse>, token: String) -> DeviceView {
    let protocols = used.map_or_else(|| vec![device.first_protocol], |used| used.protocols.clone());
    DeviceView {
        person: person.login.clone(),
        id: device.id.to_string(),
        client: device.client_hint.clone(),
        protocols: protocols.iter().map(ToString::to_string).collect(),
        created: rfc3339(device.created),
        first_network: device.first_network.to_string(),
        last_seen: used.map(|used| rfc3339(used.last_seen)),
        last_network: used.map(|used| used.last_network.to_string()),
        refused: used.and_then(|used| used.refused).map(rfc3339),
        token,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::records::Tag;

    fn tombstone(number: u8, died: u64) -> Tombstone {
        Tombstone {
            tag: Tag([number; 32]),
            death: Death::Replaced,
            died: UnixTime(died),
        }
    }

    #[test]
    fn tombstones_are_bounded_in_number_and_age() {
        let day = 86_400;
        let old: Vec<Tombstone> = (0..70)
            .map(|number| tombstone(number, u64::from(number) * day))
            .collect();
        let buried = bury(&old, &[], UnixTime(405 * day));
        assert_eq!(buried.len(), MAX_TOMBSTONES);
        // 0 to 5 are 400 days old or older.
        assert_eq!(buried[0], old[6]);
        assert_eq!(buried.last(), old.last());
        assert!(bury(&old, &[], UnixTime(1000 * day)).is_empty());
    }
}
