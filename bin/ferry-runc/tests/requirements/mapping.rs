//! The table of requirements and their tests can't rot: what it names exists, and every test here is
//! named.

use std::collections::BTreeSet;
use std::path::Path;

/// Names of the tests in the Rust files of a folder.
fn tests(folder: &Path, into: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            tests(&path, into);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            let source = std::fs::read_to_string(path).unwrap();
            let mut lines = source.lines();
            while let Some(line) = lines.next() {
                if line.trim() != "#[test]" {
                    continue;
                }
                let name = lines.find_map(|line| line.trim_start().strip_prefix("fn "));
                into.extend(name.and_then(|name| Some(name.split_once('(')?.0.to_owned())));
            }
        }
    }
}

#[test]
fn the_table_of_requirements_names_every_test_and_none_that_is_missing() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let table = workspace.join("docs/compatibility/runtime-spec-tests.md");
    let Ok(table) = std::fs::read_to_string(table) else {
        eprintln!("SKIPPED: the table of requirements: the sources are not here");
        return;
    };
    let named: BTreeSet<String> = table
        .lines()
        .filter_map(|line| line.trim_end().strip_suffix('|')?.rsplit_once('|'))
        .flat_map(|(_, cell)| cell.split('`').skip(1).step_by(2))
        .map(str::to_owned)
        .collect();
    let mut all = BTreeSet::new();
    for folder in
        ["bin/ferry-runc", "runtime/runtime/src", "system/cgroup/src", "tools/conformance"]
    {
        tests(&workspace.join(folder), &mut all);
    }
    let missing: Vec<_> = named.difference(&all).collect();
    assert!(missing.is_empty(), "named but not there: {missing:?}");
    let mut here = BTreeSet::new();
    tests(&workspace.join("bin/ferry-runc/tests/requirements"), &mut here);
    let unnamed: Vec<_> = here.difference(&named).collect();
    assert!(unnamed.is_empty(), "not in the table: {unnamed:?}");
}
