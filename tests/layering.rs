//! The walls between the rooms: who may use whom, read from the text of `src/`.
//!
//! Two things are refused: a `crate::room` that the room of the file is not allowed to name, and words (sockets, clocks,
//! rustls, ...) outside the rooms that may say them. Comments, string literals and everything from a file's own test module
//! on are not looked at: tests may wire rooms together. A file that is not in a room of [`ROOMS`] fails: a new room comes with a line here.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A room and what of the crate it may name: a room whole, or one path of it.
///
/// Settings of a room are made in `config`, which knows all rooms and which no room knows; `secret` and `reason` are leaves
/// that everyone may name, and a room may name itself.
const ROOMS: &[(&str, &[&str])] = &[
    ("secret", &[]),
    ("reason", &[]),
    ("wire", &[]),
    ("auth", &["store::records"]),
    ("store", &[]),
    ("gate", &["auth", "store", "report"]),
    ("report", &["store"]),
    ("net", &[]),
    (
        "mail",
        &[
            "wire",
            "gate",
            "net",
            "report",
            "auth",
            "store::records",
            "store::BoxFuture",
        ],
    ),
    ("admin", &["gate", "store", "auth", "report"]),
    (
        "config",
        &["auth", "gate", "store", "report", "net", "mail", "wire", "admin"],
    ),
    ("cli", ALL),
    ("allocator", &[]),
    ("run", ALL),
    ("main", ALL),
    ("lib", ALL),
];

/// The rooms at the top put everything together.
const ALL: &[&str] = &[
    "wire", "auth", "store", "gate", "report", "net", "mail", "admin", "config", "cli", "run",
];

/// Leaves that everyone may name.
const LEAVES: &[&str] = &["secret", "reason"];

/// Words that only some files may say: the words, where they may stand (paths under `src/`, or everything but), and what
/// to do instead.
const WORDS: &[Rule] = &[
    Rule {
        words: &["unsafe {", "unsafe fn", "unsafe impl", "allow(unsafe_code"],
        place: Place::OnlyIn(&["allocator.rs"]),
        instead: "no unsafe code: find a crate that has a safe way",
    },
    Rule {
        words: &["tokio"],
        place: Place::NotIn(&["wire/", "auth/"]),
        instead: "this room is pure: take bytes and `now` as arguments and let the driving room wait",
    },
    Rule {
        words: &["async fn", "async move", "async {", ".await"],
        place: Place::NotIn(&["wire/", "auth/"]),
        instead: "this room is pure: return what is needed (a Step, a Need) and be resumed with the answer",
    },
    Rule {
        words: &[
            "TcpStream",
            "TcpListener",
            "UdpSocket",
            "ToSocketAddrs",
            "UnixStream",
            "UnixListener",
            "UnixDatagram",
        ],
        place: Place::NotIn(&["wire/", "auth/"]),
        instead: "this room is pure: sockets are opened in net/, which hands over bytes",
    },
    Rule {
        words: &[
            "std::fs",
            "fs::",
            "File::open",
            "File::create",
            "std::process",
            "std::env",
            "env::var",
            "thread::spawn",
            "thread::sleep",
        ],
        place: Place::NotIn(&["wire/", "auth/"]),
        instead: "this room is pure: take the contents as an argument; reading them is the caller's work",
    },
    Rule {
        words: &[
            "Instant::now",
            "SystemTime",
            "UtcDateTime",
            ".elapsed()",
            "SystemRandom",
        ],
        place: Place::NotIn(&["wire/", "auth/"]),
        instead: "this room is pure: time and randomness are arguments (`now`, `random`), so that tests choose them",
    },
    Rule {
        words: &[
            "log::",
            "trace!",
            "debug!",
            "info!",
            "warn!",
            "error!",
            "println!",
            "eprintln!",
            "print!",
        ],
        place: Place::NotIn(&["wire/", "auth/"]),
        instead: "this room is pure: put what happened into the event or the verdict; the driving room logs it",
    },
    Rule {
        words: &["sled", "redis"],
        place: Place::NotIn(&["wire/", "auth/", "gate/", "net/", "mail/", "admin/", "report/"]),
        instead: "only store/ knows which engine keeps the records: go through store::Store",
    },
    Rule {
        words: &["rustls", "rustls_pki_types", "webpki", "webpki_roots", "rcgen"],
        place: Place::OnlyIn(&["net/"]),
        instead: "only net/ knows which library does TLS: use net's own types, or add what is missing there",
    },
    Rule {
        words: &["tiny_http"],
        place: Place::OnlyIn(&["admin/server.rs"]),
        instead: "only admin/server.rs knows tiny_http: handlers are plain functions from Request to Response",
    },
    Rule {
        words: &["AsRawFd", "RawFd", "OwnedFd", "BorrowedFd", "AsFd"],
        place: Place::OnlyIn(&["net/", "store/", "admin/server.rs"]),
        instead: "file descriptors stay in net/ (in store/ for fdatasync, in admin/server.rs for its socket's directory): \
                  offer a function there",
    },
    Rule {
        words: &["process::exit", "process::abort"],
        place: Place::OnlyIn(&["main.rs"]),
        instead: "only main.rs ends the program: return an error, so that everything behind is dropped in order",
    },
];

/// Where secrets are compared; in `wire/` a tag is a command's.
const SECRETS_ARE_COMPARED_IN: &[&str] = &["auth/", "gate/", "store/", "admin/", "secret.rs"];

/// Names of values whose comparison must take the same time whatever is equal. Passwords and literals are compared nowhere,
/// only their prints: hashes under a key that was made at start, of which no time tells anything.
const SECRETS: &[&str] = &["tag", "code", "mac", "seed"];

/// The functions that compare secrets, and with what: everything that there is, to the end.
const CONSTANT_TIME: &[(&str, &str, &str)] = &[
    ("secret.rs", "same", ".ct_eq("),
    ("store/records.rs", "same", ".ct_eq("),
    ("auth/device.rs", "find", ".tag.same("),
    ("auth/factor/mod.rs", "check", "totp::check("),
    ("auth/factor/totp.rs", "equal_step", ".ct_eq("),
];

struct Rule {
    words: &'static [&'static str],
    place: Place,
    instead: &'static str,
}

enum Place {
    OnlyIn(&'static [&'static str]),
    NotIn(&'static [&'static str]),
}

impl Place {
    fn allows(&self, file: &str) -> bool {
        // `auth.rs` beside `auth/` would be the same room.
        let within = |places: &[&str]| {
            places
                .iter()
                .any(|place| file.starts_with(place) || file.strip_suffix(".rs") == place.strip_suffix('/'))
        };
        match self {
            Place::OnlyIn(places) => within(places),
            Place::NotIn(places) => !within(places),
        }
    }
}

#[test]
fn rooms_use_only_whom_they_may() {
    let sources = sources();
    let refusals: Vec<String> = sources
        .iter()
        .flat_map(|(file, text)| room_refusals(file, text))
        .collect();
    assert!(refusals.is_empty(), "\n{}\n", refusals.join("\n"));
}

#[test]
fn words_stay_in_their_rooms() {
    let sources = sources();
    let refusals: Vec<String> = sources
        .iter()
        .flat_map(|(file, text)| word_refusals(file, text))
        .collect();
    assert!(refusals.is_empty(), "\n{}\n", refusals.join("\n"));
}

#[test]
fn secrets_are_compared_in_constant_time() {
    let sources = sources();
    let refusals: Vec<String> = sources
        .iter()
        .filter(|(file, _)| {
            SECRETS_ARE_COMPARED_IN
                .iter()
                .any(|place| file.starts_with(place))
        })
        .flat_map(|(file, text)| comparison_refusals(file, text))
        .collect();
    assert!(refusals.is_empty(), "\n{}\n", refusals.join("\n"));
    for (file, function, comparison) in CONSTANT_TIME {
        assert!(
            body_of(&sources[*file], function).contains(comparison),
            "src/{file}: {function} compares with `{comparison}`, in a time that tells nothing about what it compares"
        );
    }
}

#[test]
fn no_comparison_of_secrets_ends_early() {
    let sources = sources();
    for (file, function, _) in CONSTANT_TIME {
        let refusals = early_exits(body_of(&sources[*file], function));
        assert!(
            refusals.is_empty(),
            "src/{file}: {function} must look at everything, so that its time does not tell what was equal: {refusals:?}"
        );
    }
}

/// The two readers above, on texts that are wrong: a wall that lets everything through would look just as green.
#[test]
fn refuses_what_it_is_there_for() {
    let check = |file: &str, text: &str, expected: usize| {
        let text = looked_at(text);
        let found = [room_refusals(file, &text), word_refusals(file, &text)].concat();
        assert_eq!(found.len(), expected, "{file}: {text}\n{}", found.join("\n"));
    };
    check(
        "wire/imap/server.rs",
        "use crate::reason::Reason;\nuse crate::wire::Step;",
        0,
    );
    check("wire/imap/server.rs", "use crate::store::records::Mode;", 1);
    check(
        "wire/imap/server.rs",
        "use crate::{\n    secret::Secret,\n    net::{Listener, tls::X},\n};",
        2,
    );
    check(
        "auth/mod.rs",
        "use crate::store::records::{Key, Mode};\nuse crate::store::records;",
        0,
    );
    check("auth/mod.rs", "use crate::store::{records::Key, Engine};", 1);
    check("auth/mod.rs", "use crate::store;", 1);
    check("auth/mod.rs", "use crate as whole;\nuse crate::*;", 2);
    check("gate/mod.rs", "fn f() { crate::mail::upstream::dial() }", 1);
    check("net/mod.rs", "pub protocol: crate::reason::Protocol,", 0);
    check("mail/mod.rs", "use crate::store::Store;", 1);
    check(
        "cli/person.rs",
        "use crate::store::{self, Store};\nuse gatepost::mail;",
        0,
    );
    check(
        "wire/imap/server.rs",
        "use super::super::{line, sasl};\nuse super::super::super::store::Store;",
        1,
    );
    check(
        "wire/imap/mod.rs",
        "use super::super::{net, secret, store as s,};",
        2,
    );
    check("wire/mod.rs", "use super::gate::Gate;", 1);
    check("dance/mod.rs", "", 1);
    check("wire/line.rs", "let t = Instant::now();", 1);
    check(
        "wire/line.rs",
        "// Instant::now() would be wrong here\nlet s = \"tokio\";\nlet c = '\"'; let l: &'static str = r#\"a \" log::\"#;",
        0,
    );
    check("wire/line.rs", "/* tokio /* nested */ async fn */ let x = 1;", 0);
    check("auth/factor.rs", "async fn f() {}", 1);
    check(
        "auth/mod.rs",
        "std::net::IpAddr; let login = catalog::new(); tokiox();",
        0,
    );
    check("mail/relay.rs", "use rustls::ServerConfig;", 1);
    check("net/tls.rs", "use rustls::ServerConfig;", 0);
    check("admin/api/people.rs", "use tiny_http::Response;", 1);
    check("admin/server.rs", "use tiny_http::Response;", 0);
    check(
        "wire/line.rs",
        "fn f() {}\n#[cfg(test)]\nmod tests {\n    use crate::net;\n    use tokio::time;\n}",
        0,
    );
    check("wire/line.rs", "#[cfg(test)]\nfn helper() {}\nuse crate::net;", 1);
}

/// The readers of comparisons, on texts that are right and wrong.
#[test]
fn tells_comparisons_of_secrets_from_others() {
    let check = |text: &str, expected: usize| {
        assert_eq!(comparison_refusals("auth/x.rs", text).len(), expected, "{text}");
    };
    check("if device.tag == *tag {", 1);
    check("if *tag != device.tag {", 1);
    check("found = expected == code;", 1);
    check("self.0 == self.code.expose()", 1);
    check("tags.contains(&tag)", 1);
    check("tags.contains(tag)", 1);
    check("device.id == id && code_lengths == lengths", 0);
    check("device.tag.same(tag) && state == ClaimState::Used", 0);
    check("tagged == stage; fn code() {}", 0);
    for (body, expected) in [
        ("for x in y {\n    found |= x.same(z);\n}", 0),
        ("for x in y {\n    if x.same(z) {\n        break;\n    }\n}", 1),
        ("y.iter().any(|x| x.same(z))", 1),
        ("return true;", 1),
        ("y.find(|x| x.same(z))?", 2),
    ] {
        assert_eq!(early_exits(body).len(), expected, "{body}");
    }
    let text = "fn a() -> u8 {\n    1\n}\n\nimpl X {\n    fn b<'a>() {\n        2;\n    }\n}\n";
    assert_eq!(body_of(text, "a").trim(), "1");
    assert_eq!(body_of(text, "b").trim(), "2;");
}

/// Complains about `==`, `!=` and `contains` on what a stranger might find out piece by piece from the time they take.
fn comparison_refusals(file: &str, text: &str) -> Vec<String> {
    let mut refusals = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let compares = [" == ", " != "].into_iter().any(|sign| {
            line.match_indices(sign).any(|(at, _)| {
                SECRETS.contains(&last_name(&line[..at]))
                    || SECRETS.contains(&first_path(&line[at + sign.len()..]))
            })
        });
        let searches = line
            .match_indices(".contains(")
            .any(|(at, mark)| SECRETS.contains(&first_path(&line[at + mark.len()..])));
        if compares || searches {
            refusals.push(format!(
                "src/{file}:{}: `{}`: its time tells how much is equal; use `same` or subtle's `ct_eq`",
                number + 1,
                line.trim()
            ));
        }
    }
    refusals
}

/// The last name before an operator: `tag` of `if device.tag`.
fn last_name(text: &str) -> &str {
    let text = text.trim_end_matches(".expose()");
    let start = text.rfind(|c: char| !c.is_alphanumeric() && c != '_');
    &text[start.map_or(0, |at| at + 1)..]
}

/// The last name of the path behind an operator: `tag` of `*device.tag {`.
fn first_path(text: &str) -> &str {
    let text = text.trim_start_matches(['*', '&']);
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '.');
    last_name(text[..end.unwrap_or(text.len())].trim_end_matches(".expose"))
}

/// What may end a loop, or keep an iterator from going on to the end.
fn early_exits(body: &str) -> Vec<&'static str> {
    const EXITS: [&str; 9] = [
        "return",
        "break",
        "?",
        ".any(",
        ".all(",
        ".find(",
        ".position(",
        ".take_while(",
        "&&",
    ];
    EXITS.into_iter().filter(|exit| body.contains(exit)).collect()
}

/// The body of the first function of this name; where a function ends is said by its indentation.
fn body_of<'a>(text: &'a str, function: &str) -> &'a str {
    let at = find_word(text, &format!("fn {function}"))
        .unwrap_or_else(|| panic!("{function} was not found; the walls must be told where it is now"));
    let indentation = at - text[..at].rfind('\n').map_or(0, |end| end + 1);
    let indentation = &text[at - indentation..at];
    let indentation = &indentation[..indentation.len() - indentation.trim_start().len()];
    let body = at + text[at..].find("{\n").expect("a function has a body") + 2;
    let end = text[body..].find(&format!("\n{indentation}}}"));
    &text[body..body + end.expect("a function has an end")]
}

/// Complains about each `crate::...` that the file's room may not name.
fn room_refusals(file: &str, text: &str) -> Vec<String> {
    let room = room_of(file);
    let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == room) else {
        return vec![format!(
            "src/{file}: the room \"{room}\" is not in the table of tests/layering.rs: say there whom it may use"
        )];
    };
    let mut refusals = Vec::new();
    for (line, path) in crate_paths(file, text) {
        let inside = |place: &str| {
            path == place
                || path
                    .strip_prefix(place)
                    .is_some_and(|rest| rest.starts_with("::"))
        };
        if !LEAVES
            .iter()
            .chain([&room.as_str()])
            .chain(allowed.iter())
            .any(|place| inside(place))
        {
            let may = [LEAVES, allowed].concat().join(", ");
            refusals.push(format!(
                "src/{file}:{line}: {room} may not use crate::{path} (it may use {may}): pass the value in as an argument, \
                 or move the code to a room above both"
            ));
        }
    }
    refusals
}

/// Complains about each word that this file may not say.
fn word_refusals(file: &str, text: &str) -> Vec<String> {
    let mut refusals = Vec::new();
    for rule in WORDS.iter().filter(|rule| !rule.place.allows(file)) {
        for word in rule.words {
            if let Some(offset) = find_word(text, word) {
                refusals.push(format!(
                    "src/{file}:{}: `{word}` does not belong here: {}",
                    line_of(text, offset),
                    rule.instead
                ));
            }
        }
    }
    refusals
}

/// Where a word stands by itself: `log::` is not in `catalog::`.
fn find_word(text: &str, word: &str) -> Option<usize> {
    let in_name = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    // Both sides of an end of the word are of one name only where both are of some name.
    let (first, last) = (in_name(word.chars().next()), in_name(word.chars().next_back()));
    text.match_indices(word)
        .map(|(offset, _)| offset)
        .find(|&offset| {
            let before = in_name(text[..offset].chars().next_back());
            let after = in_name(text[offset + word.len()..].chars().next());
            !(first && before || last && after)
        })
}

/// Each path from the crate's root with its line: behind `crate::`, `gatepost::` or as many `super::` as lead there, with
/// the braces of a `use` multiplied out.
fn crate_paths(file: &str, text: &str) -> Vec<(usize, String)> {
    // A file of a module inside its room needs one `super` for each module around it.
    let depth = file
        .trim_end_matches("mod.rs")
        .split('/')
        .filter(|part| !part.is_empty())
        .count();
    let supers = vec!["super"; depth].join("::");
    let mut paths = Vec::new();
    for root in ["crate", "gatepost", supers.as_str()] {
        let mut start = 0;
        while let Some(offset) = find_word(&text[start..], root).map(|found| start + found) {
            start = offset + root.len();
            let rest = &text[start..];
            let tree = match rest.strip_prefix("::") {
                Some(tree) => tree,
                // `pub(crate)` names nothing; `use crate as x` and `use {crate}` name everything.
                None if rest.starts_with(')') => continue,
                None => "*",
            };
            let mut found = Vec::new();
            expand(tree, "", &mut found);
            paths.extend(found.into_iter().map(|path| (line_of(text, offset), path)));
        }
    }
    paths
}

/// Multiplies one use tree out into `paths`; returns how many bytes of it were read.
fn expand(tree: &str, prefix: &str, paths: &mut Vec<String>) -> usize {
    let skip_space = |at: usize| tree.len() - tree[at..].trim_start().len();
    let mut path = prefix.to_string();
    let mut at = skip_space(0);
    loop {
        if tree[at..].starts_with('{') {
            at = skip_space(at + 1);
            while at < tree.len() && !tree[at..].starts_with('}') {
                at += expand(&tree[at..], &path, paths);
                // What is left here is ` as name` at most.
                at += tree[at..].find([',', '}']).unwrap_or(tree.len() - at);
                at = skip_space(if tree[at..].starts_with(',') { at + 1 } else { at });
            }
            return (at + 1).min(tree.len());
        }
        let end = tree[at..]
            .find(|c: char| !c.is_alphanumeric() && c != '_')
            .map_or(tree.len(), |n| at + n);
        let name = if tree[at..].starts_with('*') {
            "*"
        } else {
            &tree[at..end]
        };
        at += name.len();
        // `a::self` is `a`, and so is `a::*`; a bare `*` is everything.
        if !(name == "self" || name.is_empty() || name == "*" && !path.is_empty()) {
            path = if path.is_empty() {
                name.to_string()
            } else {
                format!("{path}::{name}")
            };
        }
        match tree[at..].strip_prefix("::") {
            Some(_) => at += 2,
            None => {
                paths.push(path);
                return at;
            }
        }
    }
}

/// The first part of a file's path: its room.
fn room_of(file: &str) -> String {
    let first = file.split('/').next().unwrap_or(file);
    first.strip_suffix(".rs").unwrap_or(first).to_string()
}

fn line_of(text: &str, offset: usize) -> usize {
    text[..offset].matches('\n').count() + 1
}

/// Every source file by its path under `src/`, reduced to what is looked at.
fn sources() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    let sources: BTreeMap<String, String> = files
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).expect("a source file is readable text");
            let name = path
                .strip_prefix(&root)
                .expect("it was found below src")
                .to_string_lossy()
                .replace('\\', "/");
            (name, looked_at(&text))
        })
        .collect();
    // What was looked for in the wrong place would pass all walls.
    for room in [
        "wire/mod.rs",
        "auth/mod.rs",
        "store/mod.rs",
        "net/mod.rs",
        "main.rs",
        "lib.rs",
    ] {
        assert!(
            sources.contains_key(room),
            "src/{room} was not found; the walls must be told where the rooms are now"
        );
    }
    let names_another = |(file, text): (&String, &String)| !crate_paths(file, text).is_empty();
    assert!(
        sources.iter().any(names_another),
        "no file names another room: nothing was read"
    );
    sources
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("src can be listed") {
        let path = entry.expect("src can be listed").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The text without comments, the contents of literals, and the test module at its end. Lines keep their numbers.
fn looked_at(text: &str) -> String {
    let bare = without_comments_and_literals(text);
    match bare.match_indices("#[cfg(test)]").find(|(offset, mark)| {
        let next = bare[offset + mark.len()..].trim_start();
        next.starts_with("mod ") && next.contains('{')
    }) {
        Some((offset, _)) => bare[..offset].to_string(),
        None => bare,
    }
}

fn without_comments_and_literals(text: &str) -> String {
    let mut bare = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if first == '"' {
            string(rest)
        } else if let Some(length) = raw_string(rest, bare.chars().next_back()) {
            length
        } else if first == '\'' {
            character(rest)
        } else {
            bare.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        };
        bare.push(' ');
        bare.extend(rest[..skipped].chars().filter(|c| *c == '\n'));
        rest = &rest[skipped..];
    }
    bare
}

/// The length of a block comment with those inside it.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        if text[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if text[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                break;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    at
}

/// The length of a string literal with its quotes.
fn string(text: &str) -> usize {
    let mut escaped = false;
    for (offset, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return offset + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of `r"..."`, `r#"..."#`, also with `b` or `c` before, when one starts here.
fn raw_string(text: &str, before: Option<char>) -> Option<usize> {
    if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
        return None;
    }
    let inner = text.strip_prefix(['b', 'c']).unwrap_or(text).strip_prefix('r')?;
    let hashes = inner.len() - inner.trim_start_matches('#').len();
    let body = inner[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = body.find(&end).map_or(body.len(), |offset| offset + end.len());
    Some(text.len() - body.len() + length)
}

/// The length of a character literal, or of the mark of a lifetime.
fn character(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match chars.next() {
        Some((_, '\\')) => {
            // The escaped character may itself be a quote.
            let after = chars
                .next()
                .map_or(text.len(), |(offset, c)| offset + c.len_utf8());
            text[after..]
                .find('\'')
                .map_or(text.len(), |offset| after + offset + 1)
        }
        Some(_) => match chars.next() {
            Some((offset, '\'')) => offset + 1,
            _ => 1,
        },
        None => 1,
    }
}
