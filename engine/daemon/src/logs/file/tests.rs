//! Reading across files, from the end, and while they rotate.

use std::io::Write;

use super::*;

fn line(n: usize) -> String {
    format!("{{\"log\":\"{n}\\n\",\"stream\":\"stdout\",\"time\":\"2026-01-01T00:00:00Z\"}}\n")
}

fn write(path: &Path, lines: std::ops::Range<usize>) {
    let mut file = File::options().create(true).append(true).open(path).unwrap();
    for n in lines {
        file.write_all(line(n).as_bytes()).unwrap();
    }
}

fn drain(reader: &mut Reader) -> Vec<usize> {
    let mut out = Vec::new();
    while reader.next_chunk(&mut out).unwrap() {}
    String::from_utf8(out).unwrap().lines().map(|l| l.parse().unwrap()).collect()
}

fn options(tail: Option<usize>) -> Options {
    Options { stdout: true, raw: true, tail, ..Options::default() }
}

#[test]
fn rotated_files_come_before_the_one_that_grows() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("log");
    write(&rotated(&path, 2), 0..10);
    write(&rotated(&path, 1), 10..20);
    write(&path, 20..25);
    assert_eq!(
        drain(&mut Reader::open(&path, &options(None)).unwrap()),
        (0..25).collect::<Vec<_>>()
    );
    for tail in [0, 1, 5, 6, 15, 24, 25, 99] {
        let got = drain(&mut Reader::open(&path, &options(Some(tail))).unwrap());
        assert_eq!(got, (25_usize.saturating_sub(tail)..25).collect::<Vec<_>>(), "tail {tail}");
    }
}

#[test]
fn a_reader_goes_on_over_rotations_without_losing_a_line() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("log");
    write(&path, 0..3);
    let mut reader = Reader::open(&path, &options(None)).unwrap();
    assert_eq!(drain(&mut reader), [0, 1, 2]);
    write(&path, 3..5);
    std::fs::rename(&path, rotated(&path, 1)).unwrap();
    write(&path, 5..7);
    std::fs::rename(rotated(&path, 1), rotated(&path, 2)).unwrap();
    std::fs::rename(&path, rotated(&path, 1)).unwrap();
    write(&path, 7..9);
    assert_eq!(drain(&mut reader), [3, 4, 5, 6, 7, 8]);
}

#[test]
fn half_a_line_is_shown_once_it_is_whole() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("log");
    let (text, mut file) = (line(1), File::create(&path).unwrap());
    file.write_all(&text.as_bytes()[..20]).unwrap();
    let mut reader = Reader::open(&path, &options(None)).unwrap();
    assert!(drain(&mut reader).is_empty());
    file.write_all(&text.as_bytes()[20..]).unwrap();
    assert_eq!(drain(&mut reader), [1]);
}
