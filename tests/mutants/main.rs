//! Keeps the table of mutants (`*.toml` beside this file) from rotting: quick, and without applying any of them. That each
//! is noticed is `scripts/mutants`' to show.
//!
//! ```toml
//! [[mutant]]
//! removes = "UNAUTHENTICATE is refused"       # the rule that is gone, in words
//! file = "src/wire/imap/guard.rs"
//! old = '("UNAUTHENTICATE", "BAD'             # stands there exactly once; short, so that it survives changes around it
//! new = '("X-UNAUTHENTICATE", "BAD'
//! fails = ["wire properties::no_refused_verb_passes"]     # the target ("lib", or a file or folder of tests/), the test
//! holds = ["policy claims::only_one_gets_it"] # optional: must not fail, because another rule is enough for that
//! may_hang = true                             # optional: a test that never ends has noticed as well
//! ```

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use serde::Deserialize;
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    mutant: Vec<Mutant>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mutant {
    removes: String,
    file: String,
    old: String,
    new: String,
    fails: Vec<String>,
    #[serde(default)]
    holds: Vec<String>,
    #[serde(default)]
    #[expect(dead_code, reason = "only the script waits for tests")]
    may_hang: bool,
}

#[test]
fn no_entry_is_stale() {
    let mutants = table();
    let complaints: Vec<String> = mutants
        .iter()
        .flat_map(|mutant| {
            complaints(mutant)
                .into_iter()
                .map(|complaint| format!("{}: {}: {complaint}", mutant.file, mutant.removes))
        })
        .collect();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn every_entry_is_there_once() {
    let (mut descriptions, mut changes) = (HashSet::new(), HashSet::new());
    for mutant in table() {
        let change = (mutant.file, mutant.old, mutant.new);
        assert!(
            changes.insert(change),
            "{}: the same change twice",
            mutant.removes
        );
        assert!(
            descriptions.insert(mutant.removes.clone()),
            "{} twice",
            mutant.removes
        );
    }
}

/// The readers above, on entries that are wrong.
#[test]
fn complains_about_what_it_is_there_for() {
    let check = |change: fn(&mut Mutant), expected: &str| {
        let mut mutant = Mutant {
            removes: "every attempt is counted".to_owned(),
            file: "tests/mutants/main.rs".to_owned(),
            old: "#[test]\nfn no_entry_is_stale() {".to_owned(),
            new: String::new(),
            fails: vec!["mutants no_entry_is_stale".to_owned()],
            holds: Vec::new(),
            may_hang: false,
        };
        change(&mut mutant);
        assert_eq!(complaints(&mutant).join("; "), expected);
    };
    check(|_| {}, "");
    check(
        |mutant| mutant.old = "#[test]\nfn gone() {".into(),
        "its old text stands there 0 times, not once",
    );
    check(|mutant| mutant.new = mutant.old.clone(), "it changes nothing");
    check(
        |mutant| mutant.file = "src/gone.rs".into(),
        "there is no such file",
    );
    check(|mutant| mutant.fails.clear(), "no test is named");
    check(
        |mutant| mutant.fails[0] = "mutants".into(),
        "`mutants` is not a target and a test",
    );
    check(
        |mutant| mutant.fails[0] = "gone it_works".into(),
        "there is no test `gone it_works`",
    );
    check(
        |mutant| mutant.fails[0] = "mutants table".into(),
        "there is no test `mutants table`",
    );
    check(
        |mutant| mutant.holds = vec!["lib wire::imap::tests::gone".into()],
        "there is no test `lib wire::imap::tests::gone`",
    );
    check(
        |mutant| mutant.holds = vec!["lib wire::imap::tests::tags".into()],
        "",
    );
}

fn table() -> Vec<Mutant> {
    let folder = root().join("tests/mutants");
    let mut mutants = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let read: Result<Table, _> = toml::from_str(&fs::read_to_string(&path).unwrap());
            mutants.extend(
                read.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
                    .mutant,
            );
        }
    }
    assert!(mutants.len() >= 40, "the tables were found");
    mutants
}

fn complaints(mutant: &Mutant) -> Vec<String> {
    let mut complaints = Vec::new();
    match fs::read_to_string(root().join(&mutant.file)) {
        Err(_) => complaints.push("there is no such file".to_owned()),
        Ok(text) => match text.matches(&mutant.old).count() {
            1 if mutant.old == mutant.new => complaints.push("it changes nothing".to_owned()),
            1 => {}
            count => complaints.push(format!("its old text stands there {count} times, not once")),
        },
    }
    if mutant.fails.is_empty() {
        complaints.push("no test is named".to_owned());
    }
    for test in mutant.fails.iter().chain(&mutant.holds) {
        match test.split_once(' ') {
            None => complaints.push(format!("`{test}` is not a target and a test")),
            Some((target, name)) if !is_test(target, name) => {
                complaints.push(format!("there is no test `{test}`"));
            }
            Some(_) => {}
        }
    }
    complaints
}

/// Whether the file that a test's name leads to has a test of that name. Names that a macro makes are only listed there.
fn is_test(target: &str, name: &str) -> bool {
    let (modules, function) = name.rsplit_once("::").unwrap_or(("", name));
    let texts: Vec<String> = places(target, modules)
        .into_iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .collect();
    let listed = format!("    {function},\n");
    texts
        .iter()
        .any(|text| text.contains(&listed) || is_test_in(text, function))
}

fn is_test_in(text: &str, function: &str) -> bool {
    text.match_indices(&format!("fn {function}(")).any(|(at, _)| {
        // A blank line stands before each function with its attributes.
        let before = text[..at].rsplit("\n\n").next().unwrap_or_default();
        before.contains("#[test]") || before.contains("#[tokio::test")
    })
}

/// The files in which the module may stand: itself, or one around it where its own is the test module at the end of a file.
fn places(target: &str, modules: &str) -> Vec<PathBuf> {
    let parts: Vec<&str> = modules.split("::").filter(|part| !part.is_empty()).collect();
    let (folder, head) = match target {
        "lib" => (root().join("src"), root().join("src/lib.rs")),
        _ => (
            root().join("tests").join(target),
            root().join(format!("tests/{target}.rs")),
        ),
    };
    let mut places = vec![head, folder.join("main.rs")];
    for depth in 1..=parts.len() {
        let module = folder.join(parts[..depth].join("/"));
        places.extend([module.with_extension("rs"), module.join("mod.rs")]);
    }
    places
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
