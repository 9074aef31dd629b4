//! One suite for every engine: what the rest of the program relies on, whatever keeps the records.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use gatepost::store::records::{
    Batch, Durability, Expect, FactorId, Factors, GoodNetworks, Key, KeyRange, Kind, Order, Outcome,
    PersonId, Record, Totp, TotpHash, UnixTime, Value, Version,
};
use gatepost::store::seal::BoxKey;
use gatepost::store::{Change, EngineKind, MAX_RECORD, Settings, Store, StoreError, open};
use std::time::Duration;

/// Runs each named check against a fresh store of each engine.
macro_rules! conformance {
    ($($check:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $check() {
                super::$check(super::Store::memory(super::BoxKey::generate().unwrap())).await;
            })*
        }
        mod sled {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $check() {
                let dir = tempfile::tempdir().unwrap();
                let settings = super::Settings {
                    path: dir.path().join("data"),
                    engine: super::EngineKind::Sled,
                };
                super::$check(super::open(&settings).unwrap().store).await;
            })*
        }
    };
}

conformance!(
    reads_nothing_where_nothing_is,
    writes_only_what_is_expected,
    a_conflict_leaves_nothing_behind,
    every_write_changes_the_version,
    readers_see_a_batch_whole_or_not_at_all,
    scans_in_order_and_page_by_page,
    scans_sign_ins_by_time,
    scans_see_lazy_writes,
    a_range_holds_only_its_own_kind_and_person,
    tells_changes_in_order,
    tells_a_slow_listener_that_it_missed_something,
    lazy_writes_are_seen_at_once,
    a_synced_write_never_overtakes_an_earlier_lazy_one,
    takes_more_lazy_writes_than_may_wait,
    one_of_a_hundred_rivals_wins,
    counts_right_with_a_hundred_conditional_increments,
    refuses_batches_that_break_a_rule,
    removes_records,
);

fn login(name: impl Into<String>) -> Key {
    Key::Login(name.into())
}

/// A small value that tells itself from others.
fn number(n: u64) -> Value {
    Value::Login(PersonId(n.to_be_bytes()))
}

fn as_number(record: &Record) -> u64 {
    match record.value {
        Value::Login(PersonId(bytes)) => u64::from_be_bytes(bytes),
        ref other => panic!("not a number: {other:?}"),
    }
}

async fn read(store: &Store, key: &Key) -> Option<Record> {
    store.get(vec![key.clone()]).await.unwrap().remove(0)
}

async fn read_number(store: &Store, key: &Key) -> Option<u64> {
    read(store, key).await.as_ref().map(as_number)
}

async fn put(store: &Store, key: &Key, expect: Expect, n: u64) -> Outcome {
    let batch = Batch::default().put(key.clone(), expect, number(n));
    store.commit(batch, Durability::Synced).await.unwrap()
}

async fn put_lazily(store: &Store, key: &Key, n: u64) {
    let batch = Batch::default().put(key.clone(), Expect::Any, number(n));
    assert_eq!(store.commit(batch, Durability::Lazy).await, Ok(Outcome::Done));
}

async fn reads_nothing_where_nothing_is(store: Store) {
    put(&store, &login("b"), Expect::Any, 2).await;
    let found = store
        .get(vec![
            login("a"),
            login("b"),
            login("bb"),
            Key::Person(PersonId([0; 8])),
        ])
        .await
        .unwrap();
    let found: Vec<_> = found
        .iter()
        .map(|record| record.as_ref().map(as_number))
        .collect();
    assert_eq!(found, [None, Some(2), None, None]);
    assert!(store.get(Vec::new()).await.unwrap().is_empty());
}

async fn writes_only_what_is_expected(store: Store) {
    let key = login("a");
    let conflict = Outcome::Conflict(key.clone());
    assert_eq!(put(&store, &key, Expect::Equals(Version(0)), 1).await, conflict);
    assert_eq!(put(&store, &key, Expect::Absent, 2).await, Outcome::Done);
    assert_eq!(put(&store, &key, Expect::Absent, 3).await, conflict);
    let second = read(&store, &key).await.unwrap();
    assert_eq!(as_number(&second), 2);
    assert_eq!(
        put(&store, &key, Expect::unchanged(Some(&second)), 4).await,
        Outcome::Done
    );
    assert_eq!(
        put(&store, &key, Expect::unchanged(Some(&second)), 5).await,
        conflict
    );
    assert_eq!(read_number(&store, &key).await, Some(4));
    assert_eq!(put(&store, &key, Expect::Any, 6).await, Outcome::Done);
    assert_eq!(read_number(&store, &key).await, Some(6));
}

async fn a_conflict_leaves_nothing_behind(store: Store) {
    put(&store, &login("b"), Expect::Any, 1).await;
    let batch = Batch::default()
        .put(login("a"), Expect::Absent, number(7))
        .remove(login("b"), Expect::Any)
        .put(login("c"), Expect::Equals(Version(3)), number(7))
        .put(login("d"), Expect::Absent, number(7));
    assert_eq!(
        store.commit(batch, Durability::Synced).await,
        Ok(Outcome::Conflict(login("c")))
    );
    for (name, left) in [("a", None), ("b", Some(1)), ("c", None), ("d", None)] {
        assert_eq!(read_number(&store, &login(name)).await, left, "{name}");
    }
}

async fn every_write_changes_the_version(store: Store) {
    let key = login("a");
    let mut seen = std::collections::HashSet::new();
    for durability in [
        Durability::Synced,
        Durability::Lazy,
        Durability::Synced,
        Durability::Lazy,
    ] {
        let batch = Batch::default().put(key.clone(), Expect::Any, number(1));
        store.commit(batch, durability).await.unwrap();
        assert!(
            seen.insert(read(&store, &key).await.unwrap().version),
            "the same value has a new version"
        );
    }
    store
        .commit(
            Batch::default().remove(key.clone(), Expect::Any),
            Durability::Synced,
        )
        .await
        .unwrap();
    put(&store, &key, Expect::Absent, 1).await;
    assert!(
        seen.insert(read(&store, &key).await.unwrap().version),
        "removed and made again is another record"
    );
}

async fn readers_see_a_batch_whole_or_not_at_all(store: Store) {
    let keys = vec![login("left"), login("right")];
    let write = |n| {
        let batch = keys.iter().fold(Batch::default(), |batch, key| {
            batch.put(key.clone(), Expect::Any, number(n))
        });
        store.commit(
            batch,
            if n % 2 == 0 {
                Durability::Synced
            } else {
                Durability::Lazy
            },
        )
    };
    write(0).await.unwrap();
    let reader = tokio::spawn({
        let (store, keys) = (store.clone(), keys.clone());
        async move {
            loop {
                let pair = store.get(keys.clone()).await.unwrap();
                let pair: Vec<u64> = pair.iter().flatten().map(as_number).collect();
                assert_eq!(pair[0], pair[1]);
                let page = store.scan(KeyRange::logins(), 10).await.unwrap();
                let page: Vec<u64> = page.records.iter().map(|(_, record)| as_number(record)).collect();
                assert_eq!(page[0], page[1]);
                assert!(page[0] >= pair[0], "a later read sees at least as much");
                if page[0] == 200 {
                    return;
                }
                tokio::task::yield_now().await;
            }
        }
    });
    for n in 1..=200 {
        write(n).await.unwrap();
    }
    reader.await.unwrap();
}

async fn scans_in_order_and_page_by_page(store: Store) {
    for n in [5, 3, 9, 1, 7] {
        put(&store, &login(format!("name{n}")), Expect::Any, n).await;
    }
    let mut range = KeyRange::logins();
    let mut pages = Vec::new();
    loop {
        let page = store.scan(range.clone(), 2).await.unwrap();
        pages.push(
            page.records
                .iter()
                .map(|(_, record)| as_number(record))
                .collect::<Vec<_>>(),
        );
        if !page.more {
            break;
        }
        range = range.after(&page.records.last().unwrap().0);
    }
    assert_eq!(pages, [vec![1, 3], vec![5, 7], vec![9]]);

    let all = store.scan(KeyRange::logins(), 5).await.unwrap();
    assert_eq!((all.records.len(), all.more), (5, false));
    assert_eq!(all.records[0].0, login("name1"));
    let none = store.scan(KeyRange::logins(), 0).await.unwrap();
    assert_eq!((none.records.len(), none.more), (0, true));
}

async fn scans_sign_ins_by_time(store: Store) {
    let at = |millis, n| (Key::SignIn(millis, n), Value::SignIn(sign_in(millis)));
    for (key, value) in [
        at(2000, 0),
        at(1000, 1),
        at(1000, 0),
        at(3000, 0),
        at(256, 0),
        at(1 << 40, 0),
    ] {
        store
            .commit(Batch::default().put(key, Expect::Any, value), Durability::Lazy)
            .await
            .unwrap();
    }
    let scan = async |range| {
        let page = store.scan(range, 10).await.unwrap();
        page.records
            .iter()
            .map(|(key, _)| key.clone())
            .collect::<Vec<_>>()
    };
    let keys = |list: &[(u64, u32)]| list.iter().map(|(m, n)| Key::SignIn(*m, *n)).collect::<Vec<_>>();
    assert_eq!(
        scan(KeyRange::sign_ins(1000, 3000, Order::Ascending)).await,
        keys(&[(1000, 0), (1000, 1), (2000, 0)])
    );
    assert_eq!(
        scan(KeyRange::sign_ins(1000, 3000, Order::Descending)).await,
        keys(&[(2000, 0), (1000, 1), (1000, 0)])
    );
    assert_eq!(scan(KeyRange::sign_ins(3000, 1000, Order::Ascending)).await, []);
    let newest = store
        .scan(KeyRange::all_sign_ins(Order::Descending), 2)
        .await
        .unwrap();
    assert!(newest.more);
    let last = newest.records.last().unwrap().0.clone();
    assert_eq!(last, Key::SignIn(3000, 0));
    let rest = scan(KeyRange::all_sign_ins(Order::Descending).after(&last)).await;
    assert_eq!(rest, keys(&[(2000, 0), (1000, 1), (1000, 0), (256, 0)]));
}

fn sign_in(millis: u64) -> gatepost::store::records::SignInEntry {
    gatepost::store::records::SignInEntry {
        at: UnixTime(millis / 1000),
        protocol: gatepost::reason::Protocol::Imap,
        address: "192.0.2.1".parse().unwrap(),
        person: None,
        login: "somebody".to_owned(),
        device: None,
        reason: gatepost::reason::Reason::UnknownPerson,
        enforcing_would: None,
        client_hint: None,
    }
}

async fn scans_see_lazy_writes(store: Store) {
    for n in [1, 3, 5, 7] {
        put(&store, &login(format!("name{n}")), Expect::Any, n).await;
    }
    for n in [2, 4] {
        put_lazily(&store, &login(format!("name{n}")), n).await;
    }
    put_lazily(&store, &login("name5"), 50).await;
    store
        .commit(
            Batch::default().remove(login("name1"), Expect::Any),
            Durability::Lazy,
        )
        .await
        .unwrap();
    for flushed in [false, true] {
        let page = store.scan(KeyRange::logins(), 3).await.unwrap();
        let found: Vec<u64> = page.records.iter().map(|(_, record)| as_number(record)).collect();
        assert_eq!((found, page.more), (vec![2, 3, 4], true), "flushed: {flushed}");
        let rest = store
            .scan(KeyRange::logins().after(&login("name4")), 3)
            .await
            .unwrap();
        let found: Vec<u64> = rest.records.iter().map(|(_, record)| as_number(record)).collect();
        assert_eq!((found, rest.more), (vec![50, 7], false), "flushed: {flushed}");
        store.flush().await.unwrap();
    }
}

async fn a_range_holds_only_its_own_kind_and_person(store: Store) {
    let (alice, bob) = (
        PersonId([1, 255, 255, 255, 255, 255, 255, 255]),
        PersonId([2, 0, 0, 0, 0, 0, 0, 0]),
    );
    let factor = FactorId([255; 8]);
    let claim = |tag| {
        Value::Claim(gatepost::store::records::Claim {
            tag: gatepost::store::records::Tag([tag; 32]),
            state: gatepost::store::records::ClaimState::Claimed,
            rejected: 0,
            expires: UnixTime(9),
        })
    };
    let batch = Batch::default()
        .put(Key::Claim(alice, factor, u64::MAX), Expect::Any, claim(1))
        .put(Key::Claim(bob, factor, 0), Expect::Any, claim(2))
        .put(
            Key::GoodNetworks(alice),
            Expect::Any,
            Value::GoodNetworks(GoodNetworks::default()),
        )
        .put(Key::Factors(bob), Expect::Any, Value::Factors(Factors::default()));
    store.commit(batch, Durability::Synced).await.unwrap();
    let keys = async |range| {
        let page = store.scan(range, 10).await.unwrap();
        page.records
            .iter()
            .map(|(key, _)| key.clone())
            .filter(|key| *key != Key::Meta)
            .collect::<Vec<_>>()
    };
    let (hers, his) = (Key::Claim(alice, factor, u64::MAX), Key::Claim(bob, factor, 0));
    assert_eq!(
        keys(KeyRange::claims_of(alice)).await,
        std::slice::from_ref(&hers)
    );
    assert_eq!(keys(KeyRange::claims()).await, [hers.clone(), his.clone()]);
    assert_eq!(keys(KeyRange::people()).await, []);
    assert_eq!(keys(KeyRange::device_uses(alice)).await, []);
    assert_eq!(keys(KeyRange::blocks()).await, []);
    assert_eq!(
        keys(KeyRange::all()).await,
        [Key::Factors(bob), hers, his, Key::GoodNetworks(alice)]
    );
}

async fn tells_changes_in_order(store: Store) {
    put(&store, &login("before"), Expect::Any, 0).await;
    let mut watch = store.watch();
    put(&store, &login("a"), Expect::Any, 1).await;
    put_lazily(&store, &login("b"), 2).await;
    put(&store, &login("a"), Expect::Absent, 3).await;
    let both = Batch::default()
        .remove(login("b"), Expect::Any)
        .put(login("c"), Expect::Any, number(4));
    store.commit(both, Durability::Synced).await.unwrap();
    assert_eq!(watch.next().await, Some(Change::Keys(vec![login("a")])));
    assert_eq!(watch.next().await, Some(Change::Keys(vec![login("b")])));
    assert_eq!(
        watch.next().await,
        Some(Change::Keys(vec![login("b"), login("c")])),
        "no word of the conflict"
    );
    drop(store);
    assert_eq!(watch.next().await, None);
}

async fn tells_a_slow_listener_that_it_missed_something(store: Store) {
    let mut watch = store.watch();
    for n in 0..3000 {
        put_lazily(&store, &login(format!("{}", n % 10)), n).await;
    }
    assert_eq!(watch.next().await, Some(Change::Lagged));
    assert!(
        matches!(watch.next().await, Some(Change::Keys(_))),
        "it goes on with what is still known"
    );
}

async fn lazy_writes_are_seen_at_once(store: Store) {
    let key = login("a");
    put(&store, &key, Expect::Any, 0).await;
    for n in 1..100 {
        put_lazily(&store, &key, n).await;
        assert_eq!(read_number(&store, &key).await, Some(n));
    }
    store
        .commit(
            Batch::default().remove(key.clone(), Expect::Any),
            Durability::Lazy,
        )
        .await
        .unwrap();
    assert_eq!(read_number(&store, &key).await, None);
    store.flush().await.unwrap();
    assert_eq!(read_number(&store, &key).await, None);
}

async fn a_synced_write_never_overtakes_an_earlier_lazy_one(store: Store) {
    let key = login("a");
    for n in 0..50 {
        put_lazily(&store, &key, n * 10).await;
        let lazy = read(&store, &key).await;
        assert_eq!(
            put(&store, &key, Expect::unchanged(lazy.as_ref()), n * 10 + 1).await,
            Outcome::Done
        );
        assert_eq!(read_number(&store, &key).await, Some(n * 10 + 1));
    }
    store.flush().await.unwrap();
    assert_eq!(read_number(&store, &key).await, Some(491));
}

async fn takes_more_lazy_writes_than_may_wait(store: Store) {
    for n in 0..5000 {
        put_lazily(&store, &login(format!("name{n:04}")), n).await;
    }
    let page = store.scan(KeyRange::logins(), 10_000).await.unwrap();
    let found: Vec<u64> = page.records.iter().map(|(_, record)| as_number(record)).collect();
    assert_eq!(found, (0..5000).collect::<Vec<u64>>());
}

async fn one_of_a_hundred_rivals_wins(store: Store) {
    let key = login("a");
    put(&store, &key, Expect::Absent, 1000).await;
    for round in 0..3 {
        let seen = read(&store, &key).await;
        let rivals: Vec<_> = (0..100)
            .map(|n| {
                let (store, key, expect) = (store.clone(), key.clone(), Expect::unchanged(seen.as_ref()));
                tokio::spawn(async move { (n, put(&store, &key, expect, n).await) })
            })
            .collect();
        let mut winners = Vec::new();
        for rival in rivals {
            match rival.await.unwrap() {
                (n, Outcome::Done) => winners.push(n),
                (_, conflict) => assert_eq!(conflict, Outcome::Conflict(key.clone())),
            }
        }
        assert_eq!(winners.len(), 1, "round {round}");
        assert_eq!(read_number(&store, &key).await, Some(winners[0]));
    }
}

async fn counts_right_with_a_hundred_conditional_increments(store: Store) {
    let key = login("counter");
    put(&store, &key, Expect::Absent, 0).await;
    let workers: Vec<_> = (0..10)
        .map(|_| {
            let (store, key) = (store.clone(), key.clone());
            tokio::spawn(async move {
                for _ in 0..10 {
                    loop {
                        let seen = read(&store, &key).await;
                        let next = as_number(seen.as_ref().unwrap()) + 1;
                        if put(&store, &key, Expect::unchanged(seen.as_ref()), next).await == Outcome::Done {
                            break;
                        }
                    }
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.unwrap();
    }
    assert_eq!(read_number(&store, &key).await, Some(100));
}

async fn refuses_batches_that_break_a_rule(store: Store) {
    let person = PersonId([7; 8]);
    let factors = |bytes| {
        let totp = Totp {
            id: FactorId([1; 8]),
            label: "x".repeat(bytes),
            seed: vec![0; 20].into(),
            digits: 6,
            period: 30,
            hash: TotpHash::Sha1,
            state: gatepost::store::records::FactorState::Active,
            created: UnixTime(0),
        };
        Batch::default().put(login("beside"), Expect::Any, number(1)).put(
            Key::Factors(person),
            Expect::Any,
            Value::Factors(Factors { totp: vec![totp] }),
        )
    };
    let twice = Batch::default()
        .put(login("beside"), Expect::Any, number(1))
        .remove(login("beside"), Expect::Any);
    let mismatch = Batch::default().put(login("beside"), Expect::Any, Value::Factors(Factors::default()));
    let condition = Batch::default().put(login("beside"), Expect::Absent, number(1));
    let commit = async |batch, durability| store.commit(batch, durability).await;
    assert!(matches!(
        commit(factors(MAX_RECORD), Durability::Synced).await,
        Err(StoreError::TooBig { kind: Kind::Factors, size }) if size > MAX_RECORD
    ));
    assert_eq!(
        commit(twice, Durability::Synced).await,
        Err(StoreError::TwiceInBatch(Kind::Login))
    );
    assert_eq!(
        commit(mismatch, Durability::Synced).await,
        Err(StoreError::Mismatch {
            key: Kind::Login,
            value: Kind::Factors
        })
    );
    assert_eq!(
        commit(condition, Durability::Lazy).await,
        Err(StoreError::LazyCondition(Kind::Login))
    );
    assert_eq!(
        read_number(&store, &login("beside")).await,
        None,
        "nothing of a refused batch is written"
    );
    assert_eq!(
        commit(factors(MAX_RECORD - 200), Durability::Synced).await,
        Ok(Outcome::Done)
    );
    let long = "x".repeat(MAX_RECORD - 200);
    match read(&store, &Key::Factors(person)).await.unwrap().value {
        Value::Factors(factors) => assert!(factors.totp[0].label == long),
        other => panic!("{other:?}"),
    }
}

async fn removes_records(store: Store) {
    let key = login("a");
    let remove = async |expect| {
        store
            .commit(Batch::default().remove(key.clone(), expect), Durability::Synced)
            .await
            .unwrap()
    };
    assert_eq!(
        remove(Expect::Any).await,
        Outcome::Done,
        "removing nothing is fine"
    );
    put(&store, &key, Expect::Absent, 1).await;
    assert_eq!(remove(Expect::Absent).await, Outcome::Conflict(key.clone()));
    assert_eq!(
        remove(Expect::Equals(Version(1))).await,
        Outcome::Conflict(key.clone())
    );
    let record = read(&store, &key).await;
    assert_eq!(remove(Expect::unchanged(record.as_ref())).await, Outcome::Done);
    assert_eq!(read_number(&store, &key).await, None);
    assert!(
        store
            .scan(KeyRange::logins(), 10)
            .await
            .unwrap()
            .records
            .is_empty()
    );
    assert_eq!(put(&store, &key, Expect::Absent, 2).await, Outcome::Done);
}

/// A commit that nobody waits for any more is not lost half way, and frees its place.
#[tokio::test]
async fn abandoned_commits_do_not_block_others() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&Settings {
        path: dir.path().to_owned(),
        engine: EngineKind::Sled,
    })
    .unwrap()
    .store;
    for n in 0..1000 {
        let key = login("a");
        let commit = put(&store, &key, Expect::Any, n);
        let _ = tokio::time::timeout(Duration::ZERO, commit).await;
    }
    assert_eq!(put(&store, &login("a"), Expect::Any, 5000).await, Outcome::Done);
    assert_eq!(read_number(&store, &login("a")).await, Some(5000));
}
