//! The sign-in log: every decided attempt and why.
//!
//! `GET /sign-ins` gives the last ones, oldest first; `GET /sign-ins/follow` gives the last ones and then each new one as
//! it is decided. Parameters of both: `limit`, `person`, `reason`, `since` (RFC 3339), `address` (a network).

use super::{Failure, Method, Request, Response, no_such, person};
use crate::admin::{Context, when};
use crate::reason::Reason;
use crate::report::sign_in::{Filter, SignInView};
use crate::store::records::{Key, KeyRange, Order, SignInEntry, Value};
use crate::store::{Change, Watch};
use ipnet::IpNet;
use std::collections::{HashSet, VecDeque};
use std::time::Duration;

/// Entries when nobody says how many.
const DEFAULT_LIMIT: usize = 50;

/// The most entries of one answer: about 3 MiB.
const MAX_LIMIT: usize = 10_000;

/// Answers for the log.
pub(super) fn handle(request: &Request, context: &Context) -> Result<Response, Failure> {
    let (limit, filter) = read(request, context)?;
    match (request.method, request.path.len()) {
        (Method::Get, 1) => {
            let entries = last(limit, &filter, context)?;
            let views: Vec<SignInView> = entries.iter().map(|(_, entry)| entry.into()).collect();
            Response::json(&views)
        }
        (Method::Get, _) => Ok(Response::Follow(Box::new(Follow::start(limit, filter, context)?))),
        _ => Err(no_such(request)),
    }
}

/// How many entries are wanted at most, and which.
fn read(request: &Request, context: &Context) -> Result<(usize, Filter), Failure> {
    let limit = request.parsed("limit", |text| {
        let limit = text.parse().ok().filter(|limit| (0..=MAX_LIMIT).contains(limit));
        limit.ok_or_else(|| format!("accepted is a number from 0 to {MAX_LIMIT}"))
    })?;
    let person = request
        .parameter("person")
        .map(|login| person::find(login, context))
        .transpose()?;
    let filter = Filter {
        person: person.map(|found| found.id),
        reason: request.parsed("reason", reason)?,
        since: request.parsed("since", |text| {
            when::parse(text).ok_or_else(|| "accepted is a time such as 2026-11-23T21:06:00Z".to_string())
        })?,
        network: request.parsed("address", network)?,
    };
    Ok((limit.unwrap_or(DEFAULT_LIMIT), filter))
}

/// New entries as they are decided.
pub struct Follow {
    filter: Filter,
    context: Context,
    watch: Watch,
    ready: VecDeque<SignInEntry>,
    /// Entries of the start that the watch may name once more.
    seen: HashSet<Key>,
    /// Where to begin again after the watch missed something.
    newest: u64,
}

/// What [`Follow::next`] has.
#[derive(Debug)]
pub enum Followed {
    /// An entry.
    Entry(Box<SignInView>),
    /// Nothing happened for as long as the caller wanted to wait.
    Nothing,
    /// There will be no more: the store is closing, or cannot be read.
    End,
}

impl Follow {
    fn start(limit: usize, filter: Filter, context: &Context) -> Result<Follow, Failure> {
        // The watch comes first, so that nothing falls between the last entries and the next one.
        let watch = context.store.watch();
        let entries = last(limit, &filter, context)?;
        let mut follow = Follow {
            filter,
            context: context.clone(),
            watch,
            ready: VecDeque::new(),
            seen: HashSet::new(),
            newest: newest(context)?,
        };
        for (key, entry) in entries {
            follow.seen.insert(key);
            follow.ready.push_back(entry);
        }
        Ok(follow)
    }

    /// The next entry, waiting for at most `patience`. Blocks: for plain threads.
    pub fn next(&mut self, patience: Duration) -> Followed {
        if let Some(entry) = self.ready.pop_front() {
            return Followed::Entry(Box::new((&entry).into()));
        }
        let watch = &mut self.watch;
        let change = self
            .context
            .runtime
            .block_on(async { tokio::time::timeout(patience, watch.next()).await });
        let taken = match change {
            Err(_) => return Followed::Nothing,
            Ok(None) => return Followed::End,
            Ok(Some(Change::Keys(keys))) => self.take(keys),
            Ok(Some(Change::Lagged)) => self.take_missed(),
        };
        match (taken, self.ready.pop_front()) {
            (Err(_), _) => Followed::End,
            (Ok(()), Some(entry)) => Followed::Entry(Box::new((&entry).into())),
            (Ok(()), None) => Followed::Nothing,
        }
    }

    fn take(&mut self, keys: Vec<Key>) -> Result<(), Failure> {
        let new: Vec<Key> = keys
            .into_iter()
            .filter(|key| matches!(key, Key::SignIn(..)) && !self.seen.remove(key))
            .collect();
        if new.is_empty() {
            return Ok(());
        }
        let records = self.context.wait(self.context.store.get(new.clone()))?;
        for (key, record) in new.into_iter().zip(records) {
            if let (Key::SignIn(millis, _), Some(Value::SignIn(entry))) =
                (key, record.map(|record| record.value))
            {
                self.newest = self.newest.max(millis);
                self.ready
                    .extend(Some(entry).filter(|entry| self.filter.wants(entry)));
            }
        }
        Ok(())
    }

    /// Reads again from the newest known millisecond on; its own entries come twice at most.
    fn take_missed(&mut self) -> Result<(), Failure> {
        let mut keys = Vec::new();
        let range = KeyRange::sign_ins(self.newest.saturating_add(1), u64::MAX, Order::Ascending);
        person::scan(range, &self.context, |key, _| keys.push(key))?;
        self.take(keys)
    }
}

/// The last wanted entries, oldest first.
fn last(limit: usize, filter: &Filter, context: &Context) -> Result<Vec<(Key, SignInEntry)>, Failure> {
    const PAGE: usize = 500;
    let mut range = match filter.since {
        Some(since) => KeyRange::sign_ins(since.0.saturating_mul(1000), u64::MAX, Order::Descending),
        None => KeyRange::all_sign_ins(Order::Descending),
    };
    let mut found = VecDeque::new();
    while found.len() < limit {
        let page = context.wait(context.store.scan(range.clone(), PAGE))?;
        let Some(last) = page.records.last().map(|(key, _)| key.clone()) else {
            break;
        };
        for (key, record) in page.records {
            if let Value::SignIn(entry) = record.value
                && found.len() < limit
                && filter.wants(&entry)
            {
                found.push_front((key, entry));
            }
        }
        if !page.more {
            break;
        }
        range = range.after(&last);
    }
    Ok(found.into())
}

/// The millisecond of the newest entry.
fn newest(context: &Context) -> Result<u64, Failure> {
    let page = context.wait(context.store.scan(KeyRange::all_sign_ins(Order::Descending), 1))?;
    match page.records.first() {
        Some((Key::SignIn(millis, _), _)) => Ok(*millis),
        _ => Ok(0),
    }
}

fn reason(text: &str) -> Result<Reason, String> {
    let wanted = text.replace('-', "_");
    let accepted = || {
        Reason::ALL
            .iter()
            .map(|reason| reason.name())
            .collect::<Vec<_>>()
            .join(", ")
    };
    let found = Reason::ALL.iter().find(|reason| reason.name() == wanted);
    found
        .copied()
        .ok_or_else(|| format!("accepted is one of {}", accepted()))
}

fn network(text: &str) -> Result<IpNet, String> {
    let network = text
        .parse::<IpNet>()
        .or_else(|_| text.parse().map(|address: std::net::IpAddr| address.into()));
    network.map_err(|_| "accepted is an address or a network such as 192.0.2.0/24".into())
}
