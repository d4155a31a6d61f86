//! Readers see what was committed at once, whatever is folded meanwhile.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use metastore::{Batch, Class, Format, Store, Table};
use proptest::prelude::*;

const T: Table = Table::new("t");
const U: Table = Table::new("u");
const FORMAT: Format = Format { version: 1, min_reader: 1 };

#[derive(Clone, Debug)]
enum Op {
    Write(Vec<(u8, Option<u8>)>, bool),
    Reopen,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let writes = proptest::collection::vec((0u8..6, proptest::option::of(any::<u8>())), 1..4);
    let op = prop_oneof![
        8 => (writes, any::<bool>()).prop_map(|(w, power)| Op::Write(w, power)),
        1 => Just(Op::Reopen),
    ];
    proptest::collection::vec(op, 1..20)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn a_store_is_a_sorted_map(ops in ops()) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("meta.redb");
        let mut store = Store::open(&path, FORMAT).unwrap();
        let mut model: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        for op in ops {
            match op {
                Op::Write(writes, power) => {
                    let mut batch = Batch::default();
                    for (key, value) in writes {
                        let key = vec![b'k', key];
                        if let Some(v) = value {
                                model.insert(key.clone(), vec![v]);
                                batch = batch.put(T, key, vec![v]);
} else {
                                model.remove(&key);
                                batch = batch.delete(T, key);
}
                    }
                    store.commit(if power { Class::Power } else { Class::Crash }, batch).unwrap();
                }
                Op::Reopen => {
                    drop(store);
                    store = Store::open(&path, FORMAT).unwrap();
                }
            }
            let rows: BTreeMap<_, _> = store.scan(T, b"k").unwrap().into_iter().collect();
            prop_assert_eq!(&rows, &model);
            for key in 0u8..6 {
                prop_assert_eq!(store.get(T, &[b'k', key]).unwrap(), model.get(&vec![b'k', key]).cloned());
            }
            prop_assert!(store.scan(U, b"").unwrap().is_empty());
        }
    }
}

#[test]
fn many_writers_share_commits_and_all_are_seen() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("meta.redb"), FORMAT).unwrap();
    std::thread::scope(|scope| {
        for writer in 0..4u8 {
            let store = store.clone();
            scope.spawn(move || {
                for n in 0..50u8 {
                    let class = if n % 10 == 0 { Class::Power } else { Class::Crash };
                    store.commit(class, Batch::default().put(T, [writer, n], [n])).unwrap();
                    assert_eq!(store.get(T, &[writer, n]).unwrap().unwrap(), [n]);
                }
            });
        }
    });
    assert_eq!(store.scan(T, b"").unwrap().len(), 200);
}
