//! Two layers out of few names that meet each other often: links, whiteouts, `..`, replaced folders.
//! The reader reads what the writer wrote; nothing gets outside the root.

#![no_main]

mod yard;

use arbitrary::Arbitrary;
use archive::{Header, Kind, Limits, Reader, Time, Writer};
use libfuzzer_sys::fuzz_target;
use std::io::Read as _;

const PARTS: [&[u8]; 16] = [
    b"a",
    b"b",
    b"c",
    b"..",
    b".",
    b"",
    b".wh.a",
    b".wh.b",
    b".wh..wh..opq",
    b"root",
    b"secret",
    b"lower",
    b"base",
    b".wh..",
    b"\xff\n",
    b"proc",
];
const ATTRIBUTES: [&[u8]; 5] = [
    b"user.a",
    b"trusted.overlay.opaque",
    b"trusted.overlay.redirect",
    b"user.overlay.whiteout",
    b"security.capability",
];

#[derive(Arbitrary, Debug)]
struct Name {
    absolute: bool,
    parts: [u8; 3],
    /// Long enough for an extension header.
    long: bool,
}

#[derive(Arbitrary, Debug)]
struct Item {
    kind: u8,
    name: Name,
    target: Name,
    mode: u16,
    owner: Option<(u32, u32)>,
    time: Option<(i64, u32)>,
    data: u8,
    attribute: Option<(u8, u8)>,
}

#[derive(Arbitrary, Debug)]
struct Layers {
    how: u8,
    lower: Vec<Item>,
    upper: Vec<Item>,
}

impl Name {
    fn bytes(&self) -> Vec<u8> {
        let part = |n: &u8| PARTS[usize::from(n & 15)];
        let number = 1 + usize::from(self.parts[0] >> 6) % 3;
        let mut name = self.parts[..number].iter().map(part).collect::<Vec<_>>().join(&b'/');
        if self.absolute {
            name.insert(0, b'/');
        }
        if self.long {
            name.extend([b'l'; 120]);
        }
        name
    }
}

impl Item {
    fn header(&self) -> (Header, Vec<u8>) {
        let device = (u32::from(self.mode & 3), u32::from(self.mode >> 2 & 3));
        let kind = match self.kind % 10 {
            0..3 => Kind::File,
            3 => Kind::HardLink,
            4 | 5 => Kind::Symlink,
            6 => Kind::Char(device.0, device.1),
            7 => Kind::Fifo,
            8 => Kind::Block(device.0, device.1),
            _ => Kind::Dir,
        };
        let mut header =
            Header { kind, mode: u32::from(self.mode & 0o7777), ..Header::dir(self.name.bytes()) };
        if matches!(kind, Kind::HardLink | Kind::Symlink) {
            header.link = self.target.bytes();
        }
        (header.uid, header.gid) = self.owner.unwrap_or_default();
        if let Some((secs, nanos)) = self.time {
            header.mtime = Time { secs, nanos: nanos % 1_000_000_000 };
        }
        if let Some((name, value)) = self.attribute {
            let name = ATTRIBUTES[usize::from(name) % ATTRIBUTES.len()];
            header.xattrs.push((name.to_vec(), vec![value; usize::from(value)]));
        }
        let data = if kind == Kind::File {
            vec![self.data; usize::from(self.data) * 4]
        } else {
            Vec::new()
        };
        (header, data)
    }
}

fn written(items: &[Item]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for item in items {
        let (header, data) = item.header();
        writer.entry(header, &data).expect("into memory");
    }
    writer.finish().expect("into memory")
}

/// The reader gives back what the writer was given.
fn read_back(items: &[Item], tar: &[u8]) {
    let mut reader = Reader::new(tar, Limits::default());
    for item in items {
        let (header, data) = item.header();
        let entry = reader.next_entry().expect("our own archive").expect("as many as were written");
        let (mut path, mut kind) = (header.path, header.kind);
        match (kind, path.ends_with(b"/")) {
            (Kind::Dir, false) => path.push(b'/'),
            // As all readers have it, since the first tar.
            (Kind::File, true) => kind = Kind::Dir,
            _ => {}
        }
        assert_eq!((entry.path, entry.link, entry.kind), (path, header.link, kind));
        assert_eq!((entry.mode, entry.uid, entry.gid), (header.mode, header.uid, header.gid));
        assert_eq!(entry.mtime, header.mtime);
        assert_eq!(entry.xattrs, header.xattrs);
        let mut held = Vec::new();
        reader.read_to_end(&mut held).expect("its data");
        assert_eq!(held, data);
    }
    assert!(reader.next_entry().expect("the end").is_none());
}

fuzz_target!(|layers: Layers| {
    let Layers { how, lower, upper } = layers;
    if lower.len() + upper.len() > 40 {
        return;
    }
    let (below, above) = (written(&lower), written(&upper));
    read_back(&lower, &below);
    read_back(&upper, &above);
    yard::inside(move || yard::unpack(how, &below, &above));
});
