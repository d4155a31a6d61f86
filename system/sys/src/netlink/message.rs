//! Building and reading netlink messages and attributes (linux/netlink.h). Pure bytes: lengths are
//! checked on the way in, a reader never reads past its slice. No sockets here.

/// Acknowledge; on dumps: all entries.
pub const F_REQUEST: u16 = 0x1;
/// More messages of this answer follow.
pub const F_MULTI: u16 = 0x2;
/// Acknowledge.
pub const F_ACK: u16 = 0x4;
/// The state changed while dumping: the dump may be inconsistent.
pub const F_DUMP_INTR: u16 = 0x10;
/// All entries.
pub const F_DUMP: u16 = 0x300;
/// Replace an existing object.
pub const F_REPLACE: u16 = 0x100;
/// Fail when the object exists.
pub const F_EXCL: u16 = 0x200;
/// Create the object.
pub const F_CREATE: u16 = 0x400;
/// Put a rule at the end of its chain.
pub const F_APPEND: u16 = 0x800;

/// An answer's or acknowledgement's error code.
pub const MSG_ERROR: u16 = 2;
/// End of a dump.
pub const MSG_DONE: u16 = 3;
/// The kernel dropped messages.
pub const MSG_OVERRUN: u16 = 4;

const NESTED: u16 = 0x8000;
const TYPE_MASK: u16 = 0x3fff;
const HEADER_LEN: usize = 16;

/// The fixed header of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The length, header included.
    pub len: u32,
    /// The type.
    pub kind: u16,
    /// Flags.
    pub flags: u16,
    /// The request's sequence number.
    pub seq: u32,
    /// The port of the requester.
    pub port: u32,
}

/// Messages that are sent together, each with the name of what it is about.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    /// Offset of each message's header and what it is about.
    parts: Vec<(usize, String)>,
}

impl Batch {
    /// Starts a message of type `kind`; `about` names the object and what is attempted, for
    /// errors. Requests are always marked as such; `flags` adds to that.
    pub fn message(
        &mut self,
        kind: u16,
        flags: u16,
        about: impl Into<String>,
    ) -> MessageBuilder<'_> {
        self.align();
        let start = self.bytes.len();
        self.parts.push((start, about.into()));
        self.bytes.extend_from_slice(&[0; HEADER_LEN]);
        self.bytes[start + 4..start + 6].copy_from_slice(&kind.to_ne_bytes());
        self.bytes[start + 6..start + 8].copy_from_slice(&(flags | F_REQUEST).to_ne_bytes());
        MessageBuilder { batch: &mut self.bytes, start }
    }

    /// How many messages there are.
    pub fn len(&self) -> usize {
        self.parts.len()
    }

    /// Whether there is no message.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// What the `index`-th message is about.
    pub fn about(&self, index: usize) -> &str {
        self.parts.get(index).map_or("", |p| p.1.as_str())
    }

    /// Adds what messages are about `other`'s, in order.
    pub fn append(&mut self, other: Batch) {
        self.align();
        let base = self.bytes.len();
        self.parts.extend(other.parts.into_iter().map(|(at, about)| (base + at, about)));
        self.bytes.extend_from_slice(&other.bytes);
    }

    /// The flags of the `index`-th message.
    pub(crate) fn flags(&self, index: usize) -> u16 {
        let at = self.parts[index].0 + 6;
        u16::from_ne_bytes([self.bytes[at], self.bytes[at + 1]])
    }

    /// Numbers the messages from `seq` on and gives the bytes to send.
    pub(crate) fn seal(&mut self, seq: u32) -> &[u8] {
        self.align();
        for (index, (at, _)) in self.parts.iter().enumerate() {
            let number = seq.wrapping_add(index as u32);
            self.bytes[at + 8..at + 12].copy_from_slice(&number.to_ne_bytes());
        }
        &self.bytes
    }

    fn align(&mut self) {
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
    }
}

/// Writes one message; its length is kept right at every step.
#[derive(Debug)]
pub struct MessageBuilder<'a> {
    batch: &'a mut Vec<u8>,
    start: usize,
}

impl MessageBuilder<'_> {
    /// Appends fixed fields (the family's header).
    pub fn fixed(self, bytes: &[u8]) -> Self {
        self.batch.extend_from_slice(bytes);
        pad(self.batch, self.start);
        self.finish()
    }

    /// Appends an attribute with these bytes.
    pub fn attr(self, kind: u16, value: &[u8]) -> Self {
        put(self.batch, kind, value);
        self.finish()
    }

    /// Appends a string attribute, with its terminating zero.
    pub fn text(self, kind: u16, value: &str) -> Self {
        put_text(self.batch, kind, value);
        self.finish()
    }

    /// Appends a 32-bit attribute in the machine's order.
    pub fn u32(self, kind: u16, value: u32) -> Self {
        self.attr(kind, &value.to_ne_bytes())
    }

    /// Appends a 32-bit attribute in network order (nfnetlink).
    pub fn be32(self, kind: u16, value: u32) -> Self {
        self.attr(kind, &value.to_be_bytes())
    }

    /// Appends an attribute whose content are attributes.
    pub fn nest(self, kind: u16, fill: impl FnOnce(&mut Nest<'_>)) -> Self {
        nested(self.batch, kind, fill);
        self.finish()
    }

    fn finish(self) -> Self {
        let len = (self.batch.len() - self.start) as u32;
        self.batch[self.start..self.start + 4].copy_from_slice(&len.to_ne_bytes());
        self
    }
}

/// Writes the content of a nested attribute.
#[derive(Debug)]
pub struct Nest<'a>(&'a mut Vec<u8>);

impl Nest<'_> {
    /// Appends fixed fields, as some nested attributes begin with.
    pub fn fixed(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Appends an attribute with these bytes.
    pub fn attr(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        put(self.0, kind, value);
        self
    }

    /// Appends a string attribute, with its terminating zero.
    pub fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        put_text(self.0, kind, value);
        self
    }

    /// Appends a 32-bit attribute in the machine's order.
    pub fn u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.attr(kind, &value.to_ne_bytes())
    }

    /// Appends a 32-bit attribute in network order.
    pub fn be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.attr(kind, &value.to_be_bytes())
    }

    /// Appends an attribute whose content are attributes.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Nest<'_>)) -> &mut Self {
        nested(self.0, kind, fill);
        self
    }
}

fn pad(out: &mut Vec<u8>, start: usize) {
    while !(out.len() - start).is_multiple_of(4) {
        out.push(0);
    }
}

fn put(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let start = out.len();
    out.extend_from_slice(&((value.len() + 4) as u16).to_ne_bytes());
    out.extend_from_slice(&kind.to_ne_bytes());
    out.extend_from_slice(value);
    pad(out, start);
}

fn put_text(out: &mut Vec<u8>, kind: u16, value: &str) {
    let mut bytes = Vec::with_capacity(value.len() + 1);
    bytes.extend_from_slice(value.as_bytes());
    bytes.push(0);
    put(out, kind, &bytes);
}

fn nested(out: &mut Vec<u8>, kind: u16, fill: impl FnOnce(&mut Nest<'_>)) {
    let start = out.len();
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&(kind | NESTED).to_ne_bytes());
    fill(&mut Nest(out));
    let len = (out.len() - start) as u16;
    out[start..start + 2].copy_from_slice(&len.to_ne_bytes());
    pad(out, start);
}

/// Reads attributes one by one; ends at the first that does not fit.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    /// Reads from `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The value of the first attribute of type `kind`.
    pub fn get(self, kind: u16) -> Option<&'a [u8]> {
        let mut all = self;
        all.find(|(k, _)| *k == kind).map(|(_, v)| v)
    }

    /// The attributes inside the first attribute of type `kind`.
    pub fn nested(self, kind: u16) -> Option<Attributes<'a>> {
        self.get(kind).map(Attributes)
    }

    /// A string attribute, without its terminating zero.
    pub fn text(self, kind: u16) -> Option<&'a str> {
        let bytes = self.get(kind)?;
        let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
        std::str::from_utf8(&bytes[..end]).ok()
    }

    /// A 32-bit attribute in the machine's order.
    pub fn u32(self, kind: u16) -> Option<u32> {
        Some(u32::from_ne_bytes(self.get(kind)?.try_into().ok()?))
    }

    /// A 32-bit attribute in network order.
    pub fn be32(self, kind: u16) -> Option<u32> {
        Some(u32::from_be_bytes(self.get(kind)?.try_into().ok()?))
    }
}

// Every look-up begins anew from the same slice, so a copy is what is wanted.
#[allow(clippy::copy_iterator)]
impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let head: [u8; 4] = self.0.get(..4)?.try_into().ok()?;
        let len = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let kind = u16::from_ne_bytes([head[2], head[3]]) & TYPE_MASK;
        if len < 4 || len > self.0.len() {
            self.0 = &[];
            return None;
        }
        let value = &self.0[4..len];
        self.0 = self.0.get(len.next_multiple_of(4)..).unwrap_or(&[]);
        Some((kind, value))
    }
}

/// Splits a datagram into messages; ends at the first that does not fit.
#[derive(Clone, Debug)]
pub struct Messages<'a>(&'a [u8]);

impl<'a> Messages<'a> {
    /// Reads from `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = (Header, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let raw = self.0.get(..HEADER_LEN)?;
        let word = |at: usize| u32::from_ne_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]]);
        let half = |at: usize| u16::from_ne_bytes([raw[at], raw[at + 1]]);
        let header =
            Header { len: word(0), kind: half(4), flags: half(6), seq: word(8), port: word(12) };
        let len = header.len as usize;
        if len < HEADER_LEN || len > self.0.len() {
            self.0 = &[];
            return None;
        }
        let body = &self.0[HEADER_LEN..len];
        self.0 = self.0.get(len.next_multiple_of(4)..).unwrap_or(&[]);
        Some((header, body))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_again() {
        let mut batch = Batch::default();
        batch
            .message(16, F_CREATE, "link a")
            .fixed(&[7; 16])
            .text(3, "eth0")
            .nest(18, |n| {
                n.text(1, "veth").nest(2, |n| {
                    n.attr(9, &[1, 2, 3]);
                });
            })
            .be32(5, 0x0102_0304);
        batch.message(17, 0, "link b").fixed(&[1]).u32(4, 9);
        let bytes = batch.seal(40).to_vec();
        let all: Vec<_> = Messages::new(&bytes).collect();
        assert_eq!(all.len(), 2);
        let (header, body) = all[0];
        assert_eq!((header.kind, header.flags, header.seq), (16, F_CREATE | F_REQUEST, 40));
        let attrs = Attributes::new(&body[16..]);
        assert_eq!(attrs.text(3), Some("eth0"));
        let info = attrs.nested(18).unwrap();
        assert_eq!(info.text(1), Some("veth"));
        assert_eq!(info.nested(2).unwrap().get(9), Some(&[1, 2, 3][..]));
        assert_eq!(attrs.be32(5), Some(0x0102_0304));
        assert_eq!(all[1].0.seq, 41);
        assert_eq!(Attributes::new(&all[1].1[4..]).u32(4), Some(9));
        assert_eq!(batch.about(1), "link b");
    }

    #[test]
    fn cut_or_lying_bytes_end_the_reading() {
        let mut batch = Batch::default();
        batch.message(16, 0, "x").fixed(&[0; 16]).text(3, "eth0");
        let bytes = batch.seal(1).to_vec();
        for cut in 0..bytes.len() {
            for (_, body) in Messages::new(&bytes[..cut]) {
                let _ = Attributes::new(body).count();
            }
        }
        for at in 0..bytes.len() {
            for value in [0u8, 1, 3, 0x7f, 0xff] {
                let mut bad = bytes.clone();
                bad[at] = value;
                for (_, body) in Messages::new(&bad) {
                    let _ = Attributes::new(body.get(16..).unwrap_or(&[])).count();
                }
            }
        }
    }
}
