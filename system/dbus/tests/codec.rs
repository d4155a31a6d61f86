//! The codec alone: what is written is read again, what others wrote is understood, and no bytes
//! make it panic or take more than their share.
#![allow(missing_docs, clippy::unwrap_used)]

use dbus::{Decoder, Kind, MAX_MESSAGE, Message, Value};
use proptest::prelude::*;

fn decode(bytes: &[u8]) -> Result<Option<Message>, dbus::Invalid> {
    let mut decoder = Decoder::default();
    decoder.push(bytes);
    decoder.next_message()
}

/// A call of `a.B.C` with one argument, by hand.
fn by_hand(little: bool) -> Vec<u8> {
    let word = |n: u32| if little { n.to_le_bytes() } else { n.to_be_bytes() };
    let mut fields = Vec::new();
    for (code, kind, text) in [(1u8, b'o', "/x"), (2, b's', "a.B"), (3, b's', "C")] {
        while fields.len() % 8 != 0 {
            fields.push(0);
        }
        fields.extend([code, 1, kind, 0]);
        fields.extend(word(text.len() as u32));
        fields.extend(text.bytes());
        fields.push(0);
    }
    while fields.len() % 8 != 0 {
        fields.push(0);
    }
    fields.extend([8, 1, b'g', 0, 6]);
    fields.extend(*b"ya{sv}\0");
    let mut body = vec![7, 0, 0, 0];
    let mut entries = Vec::new();
    entries.extend(word(1));
    entries.extend(*b"k\0");
    entries.extend([1, b't', 0]);
    while entries.len() % 8 != 0 {
        entries.push(0);
    }
    let number = 5_000_000_000u64;
    entries.extend(if little { number.to_le_bytes() } else { number.to_be_bytes() });
    body.extend(word(entries.len() as u32));
    body.extend(entries);
    let mut out = vec![if little { b'l' } else { b'B' }, 1, 0, 1];
    out.extend(word(body.len() as u32));
    out.extend(word(9));
    out.extend(word(fields.len() as u32));
    out.extend(fields);
    while out.len() % 8 != 0 {
        out.push(0);
    }
    out.extend(body);
    out
}

#[test]
fn both_byte_orders_are_read() {
    for little in [true, false] {
        let message = decode(&by_hand(little)).unwrap().unwrap();
        assert_eq!((message.kind, message.serial), (Kind::Call, 9));
        assert_eq!(message.path.as_deref(), Some("/x"));
        assert_eq!(message.interface.as_deref(), Some("a.B"));
        assert_eq!(message.body[0], Value::Byte(7));
        assert_eq!(message.body[1].get("k").unwrap().as_u64(), Some(5_000_000_000));
    }
}

#[test]
fn what_we_write_is_what_was_written_by_hand() {
    let entry = Value::entry(Value::text("k"), Value::variant(Value::U64(5_000_000_000)));
    let message = Message::call("/x", "C").on("a.B").with(7u8).with(Value::array("{sv}", [entry]));
    assert_eq!(message.encode(9).unwrap(), by_hand(true));
}

#[test]
fn messages_come_whole_however_the_stream_is_cut_and_unknown_types_are_passed_over() {
    let first = Message::signal("/a", "b.C", "D").with("x").encode(1).unwrap();
    let mut unknown = first.clone();
    unknown[1] = 9;
    let second = Message::signal("/a", "b.C", "E").encode(3).unwrap();
    let stream = [first, unknown, second].concat();
    for cut in 0..stream.len() {
        let mut decoder = Decoder::default();
        let mut members = Vec::new();
        for part in [&stream[..cut], &stream[cut..]] {
            decoder.push(part);
            while let Some(message) = decoder.next_message().unwrap() {
                members.push(message.member.unwrap());
            }
        }
        assert_eq!(members, ["D", "E"]);
    }
}

#[test]
fn what_the_bus_would_refuse_is_not_sent() {
    let base = || Message::call("/a", "B");
    let deep = |levels: usize| (0..levels).fold(Value::Byte(0), |value, _| Value::variant(value));
    assert!(base().with(deep(64)).encode(1).is_ok());
    for bad in [
        Message::call("a", "B"),
        Message::call("/a", "B.C"),
        base().on("B"),
        base().to("nobody"),
        base().with("a\0b"),
        base().with(Value::Path("x".into())),
        base().with(Value::Signature("a".into())),
        base().with(Value::Struct(vec![])),
        base().with(Value::array("u", [Value::I32(1)])),
        base().with(Value::array("", [])),
        base().with(Value::entry(Value::text("k"), Value::Byte(1))),
        base().with(Value::array("{vs}", [])),
        base().with(deep(66)),
        base().with(vec![0u8; MAX_MESSAGE]),
        Message::signal("/a", "b.C", ""),
    ] {
        assert!(bad.encode(1).is_err(), "{bad:?}");
    }
}

#[test]
fn lies_about_lengths_end_the_reading_early() {
    let mut long = by_hand(true);
    long[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(decode(&long).is_err());
    long[4..8].copy_from_slice(&(MAX_MESSAGE as u32).to_le_bytes());
    assert!(decode(&long).unwrap_err().to_string().contains("too long"));
    let mut version = by_hand(true);
    version[3] = 2;
    assert!(decode(&version).is_err());
    assert!(decode(b"GET / HTTP/1.1\r\n").is_err());
    // A descriptor's index without descriptors.
    let mut fd = Message::call("/a", "B").with(1u32).encode(1).unwrap();
    let at = fd.windows(3).position(|w| w == b"\x01u\0").unwrap();
    fd[at + 1] = b'h';
    assert!(decode(&fd).unwrap_err().to_string().contains("descriptors"));
}

fn value() -> impl Strategy<Value = Value> {
    let basic = prop_oneof![
        any::<u8>().prop_map(Value::Byte),
        any::<bool>().prop_map(Value::Bool),
        any::<i16>().prop_map(Value::I16),
        any::<u16>().prop_map(Value::U16),
        any::<i32>().prop_map(Value::I32),
        any::<u32>().prop_map(Value::U32),
        any::<i64>().prop_map(Value::I64),
        any::<u64>().prop_map(Value::U64),
        (-1e9..1e9f64).prop_map(Value::F64),
        "[^\0]{0,12}".prop_map(Value::Text),
        Just(Value::Path("/a/b_1".into())),
        Just(Value::Signature("a{sv}u".into())),
        proptest::collection::vec(any::<u8>(), 0..20).prop_map(Value::Bytes),
    ];
    basic.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            inner.clone().prop_map(Value::variant),
            proptest::collection::vec(inner.clone(), 1..4).prop_map(Value::Struct),
            proptest::collection::vec(any::<u32>(), 0..5)
                .prop_map(|all| Value::array("u", all.into_iter().map(Value::U32))),
            proptest::collection::vec(("[a-z]{1,4}", inner.clone()), 0..4).prop_map(|all| {
                let entry = |(k, v): (String, Value)| Value::entry(k.into(), Value::variant(v));
                Value::array("{sv}", all.into_iter().map(entry))
            }),
            proptest::collection::vec(inner.prop_map(Value::variant), 0..4)
                .prop_map(|all| Value::array("v", all)),
        ]
    })
}

proptest! {
    #[test]
    fn every_value_comes_back(body in proptest::collection::vec(value(), 0..5), serial in 1u32..) {
        let mut message = Message::signal("/a/b", "c.D", "E");
        message.body = body;
        let bytes = message.encode(serial).unwrap();
        message.serial = serial;
        prop_assert_eq!(decode(&bytes).unwrap().unwrap(), message);
    }

    #[test]
    fn bent_messages_are_refused_or_read_but_never_crash(
        body in proptest::collection::vec(value(), 1..4),
        bends in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut message = Message::call("/a/b", "E").on("c.D").to("e.F");
        message.body = body;
        let mut bytes = message.encode(7).unwrap();
        for (at, byte) in bends {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = decode(&bytes);
        let _ = decode(&bytes[..cut.index(bytes.len())]);
    }

    #[test]
    fn noise_is_refused_or_awaits_more(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes);
        let _ = decode(&[b"l\x01\0\x01".to_vec(), bytes].concat());
    }
}
