//! What fuzzing found worth keeping, on a stable compiler: `fuzz/corpus/TARGET/*`.

use crate::invariants::TARGETS;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// Names in a folder, without the ending.
fn names(folder: &Path) -> BTreeSet<String> {
    let name = |path: PathBuf| path.file_stem().expect("a name").to_string_lossy().into_owned();
    fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| name(entry.expect("an entry").path()))
        .collect()
}

#[test]
fn every_invariant_holds_for_the_whole_corpus() {
    for (target, invariant) in TARGETS {
        let folder = fuzz().join("corpus").join(target);
        let mut replayed = 0;
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.expect("an entry").path();
            let input = fs::read(&path).expect("a file");
            let held = std::panic::catch_unwind(|| invariant(&input));
            assert!(held.is_ok(), "{} fails, see above", path.display());
            replayed += 1;
        }
        // A corpus that is not found would look just as green.
        assert!(
            replayed >= 2,
            "{target}: {replayed} files in {}",
            folder.display()
        );
    }
}

#[test]
fn every_invariant_has_its_target_its_corpus_and_its_row() {
    let expected: BTreeSet<String> = TARGETS.iter().map(|(name, _)| name.to_string()).collect();
    assert_eq!(names(&fuzz().join("fuzz_targets")), expected);
    assert_eq!(names(&fuzz().join("corpus")), expected);
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).expect("the manifest");
    let readme = fs::read_to_string(fuzz().join("README.md")).expect("the table");
    for name in &expected {
        assert!(
            manifest.contains(&format!("name = \"{name}\"")),
            "{name} is not built"
        );
        assert!(
            readme.contains(&format!("| `{name}` |")),
            "{name} is not in the table"
        );
    }
}
