//! CRIU's messages: the few types of its protobuf schema that are needed here, written and read by
//! hand. Pure; what the fields mean to CRIU is in criu/images/rpc.proto of its source.

/// A message being written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// A number, truth value or choice.
    pub(super) fn number(&mut self, field: u64, value: u64) -> &mut Self {
        self.varint(field << 3);
        self.varint(value);
        self
    }

    /// A truth value that is only written when it holds.
    pub(super) fn flag(&mut self, field: u64, value: bool) -> &mut Self {
        if value { self.number(field, 1) } else { self }
    }

    /// Text.
    pub(super) fn text(&mut self, field: u64, text: &str) -> &mut Self {
        self.bytes(field, text.as_bytes())
    }

    /// A message inside.
    pub(super) fn message(&mut self, field: u64, message: &Message) -> &mut Self {
        self.bytes(field, &message.0)
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) -> &mut Self {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    /// What goes over the socket.
    pub(super) fn encoded(&self) -> &[u8] {
        &self.0
    }
}

/// A field that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        if count > self.0.len() {
            return None;
        }
        let (bytes, rest) = self.0.split_at(count);
        self.0 = rest;
        Some(bytes)
    }
}

/// The fields of a message by number; `None` when it is no message.
fn fields(bytes: &[u8]) -> Option<Vec<(u64, Field<'_>)>> {
    let mut reader = Reader(bytes);
    let mut all = Vec::new();
    while !reader.0.is_empty() {
        let key = reader.varint()?;
        let value = match key & 7 {
            0 => Field::Number(reader.varint()?),
            1 => Field::Bytes(reader.take(8)?),
            2 => {
                let count = usize::try_from(reader.varint()?).ok()?;
                Field::Bytes(reader.take(count)?)
            }
            5 => Field::Bytes(reader.take(4)?),
            _ => return None,
        };
        all.push((key >> 3, value));
    }
    Some(all)
}

/// Kinds of requests and answers.
pub(super) mod kind {
    /// Save the processes.
    pub(crate) const DUMP: u64 = 1;
    /// Bring them back.
    pub(crate) const RESTORE: u64 = 2;
    /// Save memory beforehand.
    pub(crate) const PRE_DUMP: u64 = 4;
    /// Tell of a step; wait for leave to go on.
    pub(crate) const NOTIFY: u64 = 6;
    /// Tell what this machine can do.
    pub(crate) const FEATURES: u64 = 9;
    /// Tell the version.
    pub(crate) const VERSION: u64 = 10;
}

/// An answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// Its kind.
    pub(super) kind: u64,
    /// Whether it worked.
    pub(super) success: bool,
    /// The step that it tells of.
    pub(super) script: String,
    /// The first process, of a step or a restore.
    pub(super) pid: i32,
    /// The error number.
    pub(super) errno: i32,
    /// The error.
    pub(super) message: String,
    /// The version as one number: 31701 for 3.17.1.
    pub(super) version: u64,
    /// Whether changes of memory can be tracked; absent when it does not say.
    pub(super) tracks_memory: Option<bool>,
    /// Whether memory can be restored lazily.
    pub(super) lazy_pages: Option<bool>,
}

impl Answer {
    /// Reads one; `None` when it is none.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut answer = Self::default();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        for (number, field) in fields(bytes)? {
            match (number, field) {
                (1, Field::Number(kind)) => answer.kind = kind,
                (2, Field::Number(success)) => answer.success = success != 0,
                (4, Field::Bytes(restored)) => {
                    for (number, field) in fields(restored)? {
                        if let (1, Field::Number(pid)) = (number, field) {
                            answer.pid = pid as i32;
                        }
                    }
                }
                (5, Field::Bytes(step)) => {
                    for (number, field) in fields(step)? {
                        match (number, field) {
                            (1, Field::Bytes(script)) => answer.script = text(script),
                            (2, Field::Number(pid)) => answer.pid = pid as i32,
                            _ => {}
                        }
                    }
                }
                (7, Field::Number(errno)) => answer.errno = errno as i32,
                (8, Field::Bytes(features)) => {
                    for (number, field) in fields(features)? {
                        match (number, field) {
                            (1, Field::Number(n)) => answer.tracks_memory = Some(n != 0),
                            (2, Field::Number(n)) => answer.lazy_pages = Some(n != 0),
                            _ => {}
                        }
                    }
                }
                (9, Field::Bytes(message)) => answer.message = text(message),
                (10, Field::Bytes(version)) => {
                    for (number, field) in fields(version)? {
                        let factor = match number {
                            1 => 10_000,
                            2 => 100,
                            4 => 1,
                            _ => continue,
                        };
                        if let Field::Number(n) = field {
                            answer.version += n.min(99) * factor;
                        }
                    }
                }
                _ => {}
            }
        }
        Some(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn answers_are_read_field_by_field() {
        let mut version = Message::default();
        version.number(1, 3).number(2, 17).text(3, "git").number(4, 1);
        let mut step = Message::default();
        step.text(1, "post-restore").number(2, 4711);
        let mut message = Message::default();
        message.number(1, kind::NOTIFY).number(2, 1).message(5, &step).message(10, &version);
        let answer = Answer::decode(message.encoded()).unwrap();
        assert_eq!((answer.kind, answer.success), (kind::NOTIFY, true));
        assert_eq!((answer.script.as_str(), answer.pid), ("post-restore", 4711));
        assert_eq!(answer.version, 31_701);
    }

    #[test]
    fn numbers_take_as_many_bytes_as_they_need() {
        let mut message = Message::default();
        message.number(1, 300).flag(2, false).text(3, "a");
        assert_eq!(message.encoded(), [8, 0xac, 2, 26, 1, b'a']);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = Answer::decode(&bytes);
        }
    }
}
