//! The records that a decision is made from, as they were read.

use crate::auth::throttle;
use crate::store::records::{
    Block, Budget, DeviceId, DeviceUse, Devices, Expect, Factors, GoodNetworks, Key, Person, PersonId,
    Record, SlowHashCost, Value, Version,
};
use std::net::IpAddr;

/// A value and the version it was read at.
#[derive(Debug)]
pub(super) struct Read<T> {
    pub(super) version: Version,
    pub(super) value: T,
}

/// Takes the value out of a record. A record of another kind counts as none.
pub(super) fn read<T>(record: Option<Option<Record>>, pick: fn(Value) -> Option<T>) -> Option<Read<T>> {
    let record = record.flatten()?;
    Some(Read {
        version: record.version,
        value: pick(record.value)?,
    })
}

/// Expects what was read.
pub(super) fn unchanged<T>(read: Option<&Read<T>>) -> Expect {
    read.map_or(Expect::Absent, |read| Expect::Equals(read.version))
}

/// Everything about a person and the attempt's networks; empty for a login that nobody has.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) person: Option<Read<Person>>,
    pub(super) factors: Option<Read<Factors>>,
    pub(super) devices: Option<Read<Devices>>,
    pub(super) budget: Option<Read<Budget>>,
    pub(super) good: Option<GoodNetworks>,
    /// In the order of [`throttle::networks`].
    pub(super) blocks: Vec<Option<Block>>,
    /// Of the device that is warm under this literal.
    pub(super) device_use: Option<DeviceUse>,
}

impl Facts {
    /// What is to be read, in the order that [`Facts::from`] takes it.
    pub(super) fn keys(person: Option<PersonId>, address: IpAddr, warm: Option<DeviceId>) -> Vec<Key> {
        let networks = throttle::networks(address);
        let mut keys: Vec<Key> = networks.map(|(net, _)| Key::Block(net)).collect();
        if let Some(person) = person {
            keys.extend([
                Key::Person(person),
                Key::Factors(person),
                Key::Devices(person),
                Key::Budget(person),
                Key::GoodNetworks(person),
            ]);
            keys.extend(warm.map(|device| Key::DeviceUse(person, device)));
        }
        keys
    }

    /// Puts the records in their places.
    pub(super) fn from(person: Option<PersonId>, address: IpAddr, records: Vec<Option<Record>>) -> Facts {
        let mut records = records.into_iter();
        let networks = throttle::networks(address).count();
        let blocks = (0..networks)
            .map(|_| read(records.next(), pick_block).map(|read| read.value))
            .collect();
        if person.is_none() {
            return Facts {
                blocks,
                ..Facts::default()
            };
        }
        Facts {
            blocks,
            person: read(records.next(), pick_person),
            factors: read(records.next(), pick_factors),
            devices: read(records.next(), pick_devices),
            budget: read(records.next(), pick_budget),
            good: read(records.next(), pick_good).map(|read| read.value),
            device_use: read(records.next(), pick_use).map(|read| read.value),
        }
    }

    pub(super) fn enrolled_with(&self) -> Option<&Factors> {
        self.factors.as_ref().map(|read| &read.value)
    }

    pub(super) fn budget(&self) -> Option<&Budget> {
        self.budget.as_ref().map(|read| &read.value)
    }

    /// How the person's literals are hashed, once that is fixed.
    pub(super) fn cost(&self) -> Option<&SlowHashCost> {
        self.devices.as_ref().map(|read| &read.value.cost)
    }

    pub(super) fn suspended(&self) -> bool {
        self.person.as_ref().is_some_and(|person| person.value.suspended)
    }

    /// Whether the guessing budget is spent.
    pub(super) fn spent(&self) -> bool {
        self.budget().is_some_and(|budget| budget.spent.is_some())
    }

    /// Versions of all that makes a refusal what it is.
    pub(super) fn versions(&self) -> [Option<Version>; 3] {
        [
            self.person.as_ref().map(|read| read.version),
            self.factors.as_ref().map(|read| read.version),
            self.devices.as_ref().map(|read| read.version),
        ]
    }
}

macro_rules! pick {
    ($($name:ident: $variant:ident($type:ty);)*) => {$(
        pub(super) fn $name(value: Value) -> Option<$type> {
            match value {
                Value::$variant(inner) => Some(inner),
                _ => None,
            }
        }
    )*};
}

pick! {
    pick_block: Block(Block);
    pick_person: Person(Person);
    pick_factors: Factors(Factors);
    pick_devices: Devices(Devices);
    pick_budget: Budget(Budget);
    pick_good: GoodNetworks(GoodNetworks);
    pick_use: DeviceUse(DeviceUse);
    pick_claim: Claim(crate::store::records::Claim);
    pick_login: Login(PersonId);
}
