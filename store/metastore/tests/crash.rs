//! Kills a writer at every step of the store and reads what is left.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use metastore::{Batch, Class, Format, Store, StoreError, Table, fault};

const COUNT: Table = Table::new("count");
const FORMAT: Format = Format { version: 1, min_reader: 1 };

fn open(dir: &Path) -> Store {
    Store::open(&dir.join("meta.redb"), FORMAT).unwrap()
}

fn key(n: u32) -> [u8; 4] {
    n.to_be_bytes()
}

// The child: counts, two keys a batch, and says each number once its commit has returned.
#[test]
fn child_writer() {
    let Ok(dir) = std::env::var("FERRY_TEST_DIR") else { return };
    let class = match std::env::var("FERRY_TEST_CLASS").as_deref() {
        Ok("power") => Class::Power,
        _ => Class::Crash,
    };
    let store = open(Path::new(&dir));
    let first = store.scan(COUNT, b"").unwrap().len() as u32;
    for n in first.. {
        let batch = Batch::default().put(COUNT, key(n), vec![7; 100]).put(
            Table::new("last"),
            "last",
            n.to_string(),
        );
        store.commit(class, batch).unwrap();
        println!("said {n}");
        // Few rows are enough; a fold happens every 40 ms.
        std::thread::sleep(std::time::Duration::from_micros(500));
    }
}

fn run_until_killed(dir: &Path, fault: &str, class: &str) -> Option<u32> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_writer", "--nocapture"])
        .env("FERRY_TEST_DIR", dir)
        .env("FERRY_TEST_CLASS", class)
        .env("FERRY_FAULT", fault)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let last = lines
        .map_while(Result::ok)
        .filter_map(|line| line.rsplit_once("said ").and_then(|(_, n)| n.parse().ok()))
        .last();
    assert!(!child.wait().unwrap().success(), "{fault}: the child was to be killed");
    last
}

fn check(dir: &Path, said: Option<u32>, context: &str) {
    let store = open(dir);
    let rows = store.scan(COUNT, b"").unwrap();
    let said = said.map_or(0, |n| n + 1);
    let kept = rows.len() as u32;
    assert!(kept == said || kept == said + 1, "{context}: said {said}, kept {kept}");
    for (n, (k, _)) in rows.iter().enumerate() {
        assert_eq!(k, &key(n as u32), "{context}: a gap");
    }
    let last = store.get(Table::new("last"), b"last").unwrap();
    assert_eq!(
        last.map(|v| String::from_utf8(v).unwrap()),
        (kept > 0).then(|| (kept - 1).to_string())
    );
}

#[test]
fn a_kill_at_any_step_loses_nothing_that_was_said() {
    if cfg!(not(debug_assertions)) {
        eprintln!("SKIPPED: a_kill_at_any_step_loses_nothing_that_was_said: an optimised build");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for class in ["crash", "power"] {
        for step in fault::STEPS {
            for nth in [1, 3] {
                let dir = dir.path().join(format!("{class}-{step}-{nth}"));
                std::fs::create_dir(&dir).unwrap();
                let context = format!("{class} {step}:{nth}");
                let said = run_until_killed(&dir, &format!("{step}:{nth}"), class);
                check(&dir, said, &context);
                // And once more on what is left, so that a replayed store is killed too.
                let said = run_until_killed(&dir, &format!("{step}:{nth}"), class).or(said);
                let rows = open(&dir).scan(COUNT, b"").unwrap().len() as u32;
                assert!(rows > said.unwrap_or(0) || said.is_none(), "{context}, again");
            }
        }
    }
}

#[test]
fn a_newer_store_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("meta.redb");
    drop(Store::open(&path, Format { version: 5, min_reader: 4 }).unwrap());
    let error = Store::open(&path, Format { version: 3, min_reader: 1 }).err().unwrap();
    assert!(matches!(error, StoreError::TooNew { .. }), "{error}");
    assert!(error.to_string().contains("format 5, which needs a program that reads format 4"));
    // One that is new enough to read leaves the newer format in place.
    drop(Store::open(&path, Format { version: 4, min_reader: 4 }).unwrap());
    assert!(Store::open(&path, Format { version: 3, min_reader: 1 }).is_err());
}

#[test]
fn an_older_store_is_copied_before_it_is_marked_newer() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("meta.redb");
    let store = Store::open(&path, FORMAT).unwrap();
    store.commit(Class::Power, Batch::default().put(COUNT, "a", "1")).unwrap();
    drop(store);
    let store = Store::open(&path, Format { version: 2, min_reader: 1 }).unwrap();
    assert_eq!(store.get(COUNT, b"a").unwrap().unwrap(), b"1");
    assert!(dir.path().join("meta.format1").exists());
}
