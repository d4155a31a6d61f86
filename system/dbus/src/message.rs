//! Messages: calls, replies, errors, signals; building them, and their two-way encoding.

use crate::decode::{MAX_MESSAGE, Reader};
use crate::encode::Writer;
use crate::error::Invalid;
use crate::name;
use crate::value::Value;

const NO_REPLY: u8 = 1;
const NO_AUTO_START: u8 = 2;
/// The fixed part of the header, with the length of the fields behind it.
const HEAD: usize = 16;

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A method call.
    Call,
    /// The reply to one.
    Reply,
    /// The failure of one.
    Error,
    /// A signal.
    Signal,
}

/// A message. Build one with [`Message::call`] or [`Message::signal`] and the methods that follow;
/// the texts of a received one are checked names, an absent field being `None`.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// What it is.
    pub kind: Kind,
    /// Its number on its sender's connection; 0 until it is sent.
    pub serial: u32,
    /// The object.
    pub path: Option<String>,
    /// The interface.
    pub interface: Option<String>,
    /// The method or signal.
    pub member: Option<String>,
    /// The error's name.
    pub error: Option<String>,
    /// The number of the call that this answers.
    pub reply_to: Option<u32>,
    /// For whom.
    pub destination: Option<String>,
    /// From whom; the bus sees to it that it is true.
    pub sender: Option<String>,
    /// The arguments.
    pub body: Vec<Value>,
    flags: u8,
}

impl Message {
    fn new(kind: Kind) -> Self {
        Self {
            kind,
            serial: 0,
            path: None,
            interface: None,
            member: None,
            error: None,
            reply_to: None,
            destination: None,
            sender: None,
            body: Vec::new(),
            flags: 0,
        }
    }

    /// A call of a method of an object.
    pub fn call(path: &str, member: &str) -> Self {
        let mut message = Self::new(Kind::Call);
        message.path = Some(path.to_owned());
        message.member = Some(member.to_owned());
        message
    }

    /// A signal of an object.
    pub fn signal(path: &str, interface: &str, member: &str) -> Self {
        let mut message = Self::call(path, member).on(interface);
        message.kind = Kind::Signal;
        message
    }

    /// The reply to this call.
    pub fn reply(&self) -> Self {
        let mut message = Self::new(Kind::Reply);
        message.reply_to = Some(self.serial);
        message.destination.clone_from(&self.sender);
        message
    }

    /// The refusal of this call.
    pub fn refuse(&self, error: &str, text: &str) -> Self {
        let mut message = self.reply().with(text);
        message.kind = Kind::Error;
        message.error = Some(error.to_owned());
        message
    }

    /// Addresses it to a name on the bus.
    #[must_use]
    pub fn to(mut self, name: &str) -> Self {
        self.destination = Some(name.to_owned());
        self
    }

    /// Names the interface.
    #[must_use]
    pub fn on(mut self, interface: &str) -> Self {
        self.interface = Some(interface.to_owned());
        self
    }

    /// Appends an argument.
    #[must_use]
    pub fn with(mut self, value: impl Into<Value>) -> Self {
        self.body.push(value.into());
        self
    }

    /// Asks for no reply.
    #[must_use]
    pub fn without_reply(mut self) -> Self {
        self.flags |= NO_REPLY;
        self
    }

    /// Does not have the bus start the service when it is not running.
    #[must_use]
    pub fn without_start(mut self) -> Self {
        self.flags |= NO_AUTO_START;
        self
    }

    /// Whether the caller waits for a reply.
    pub fn wants_reply(&self) -> bool {
        self.kind == Kind::Call && self.flags & NO_REPLY == 0
    }

    /// Whether this is that signal.
    pub fn is_signal(&self, interface: &str, member: &str) -> bool {
        self.kind == Kind::Signal
            && self.interface.as_deref() == Some(interface)
            && self.member.as_deref() == Some(member)
    }

    /// `interface.member`, for texts.
    pub(crate) fn title(&self) -> String {
        let member = self.member.as_deref().unwrap_or("message");
        match self.interface.as_deref() {
            Some(interface) => format!("{interface}.{member}"),
            None => member.to_owned(),
        }
    }

    /// The bytes of the message under this number, which is not 0.
    pub fn encode(&self, serial: u32) -> Result<Vec<u8>, Invalid> {
        self.check()?;
        let signature = Value::signature_of(&self.body)?;
        let mut body = Writer::default();
        for value in &self.body {
            body.value(value)?;
        }
        let kind = match self.kind {
            Kind::Call => 1,
            Kind::Reply => 2,
            Kind::Error => 3,
            Kind::Signal => 4,
        };
        let mut out = Writer(vec![b'l', kind, self.flags, 1]);
        out.u32(u32::try_from(body.0.len()).unwrap_or(u32::MAX));
        out.u32(serial);
        let text = |code: u8, text: &Option<String>| {
            text.as_ref().map(|text| field(code, Value::text(text.as_str())))
        };
        let fields = [
            self.path.as_ref().map(|path| field(1, Value::Path(path.clone()))),
            text(2, &self.interface),
            text(3, &self.member),
            text(4, &self.error),
            self.reply_to.map(|number| field(5, Value::U32(number))),
            text(6, &self.destination),
            text(7, &self.sender),
            (!signature.is_empty()).then(|| field(8, Value::Signature(signature))),
        ];
        out.value(&Value::array("(yv)", fields.into_iter().flatten()))?;
        out.align(8);
        out.0.extend_from_slice(&body.0);
        if out.0.len() > MAX_MESSAGE {
            return Err(Invalid::new(format!("{}: the message is too long", self.title())));
        }
        Ok(out.0)
    }

    /// Names are names, and what the kind needs is there.
    fn check(&self) -> Result<(), Invalid> {
        if let Some(path) = &self.path {
            name::check_path(path)?;
        }
        for interface in [&self.interface, &self.error].into_iter().flatten() {
            name::check_interface(interface)?;
        }
        if let Some(member) = &self.member {
            name::check_member(member)?;
        }
        for bus in [&self.destination, &self.sender].into_iter().flatten() {
            name::check_bus(bus)?;
        }
        let whole = match self.kind {
            Kind::Call => self.path.is_some() && self.member.is_some(),
            Kind::Reply => self.reply_to.is_some(),
            Kind::Error => self.reply_to.is_some() && self.error.is_some(),
            Kind::Signal => {
                self.path.is_some() && self.interface.is_some() && self.member.is_some()
            }
        };
        if whole { Ok(()) } else { Err(Invalid::new("a message lacks a field that it must have")) }
    }

    /// The length of the message that begins here; `None`: too few bytes to tell.
    pub(crate) fn length(bytes: &[u8]) -> Result<Option<usize>, Invalid> {
        let Some(head) = bytes.get(..HEAD) else { return Ok(None) };
        let little = match head[0] {
            b'l' => true,
            b'B' => false,
            _ => return Err(Invalid::new("a message begins with no byte order")),
        };
        if head[3] != 1 {
            return Err(Invalid::new(format!("a message of protocol version {}", head[3])));
        }
        let word = |at: usize| Reader::new(&head[at..], little).u32().map(|n| n as usize);
        let (body, fields) = (word(4)?, word(12)?);
        Ok(Some((HEAD + fields).next_multiple_of(8) + body))
    }

    /// Reads a whole message; `None` for one of a type that is not known.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Option<Self>, Invalid> {
        let short = || Invalid::new("a message is too short");
        let head = bytes.get(..HEAD).ok_or_else(short)?;
        let little = head[0] == b'l';
        let kind = match head[1] {
            0 => return Err(Invalid::new("a message of the invalid type")),
            1 => Kind::Call,
            2 => Kind::Reply,
            3 => Kind::Error,
            4 => Kind::Signal,
            _ => return Ok(None),
        };
        let mut reader = Reader::new(&head[4..], little);
        let (body_len, serial, fields_len) = (reader.u32()?, reader.u32()?, reader.u32()?);
        let start = (HEAD + fields_len as usize).next_multiple_of(8);
        let header = bytes.get(..HEAD + fields_len as usize).ok_or_else(short)?;
        let mut message = Self { serial, flags: head[2], ..Self::new(kind) };
        let signature = message.fields(header, little)?;
        message.check()?;
        if serial == 0 || message.reply_to == Some(0) {
            return Err(Invalid::new("a message has the number 0"));
        }
        let body = bytes.get(start..start + body_len as usize).ok_or_else(short)?;
        let mut reader = Reader::new(body, little);
        message.body = reader.values(&signature)?;
        if !reader.is_empty() {
            return Err(Invalid::new("a message's body is longer than its signature"));
        }
        Ok(Some(message))
    }

    /// Takes the header's fields over; gives the body's signature. Unknown ones are ignored.
    fn fields(&mut self, header: &[u8], little: bool) -> Result<String, Invalid> {
        let mut reader = Reader::new(header, little);
        let mut signature = String::new();
        let found = reader.values("yyyyuua(yv)")?;
        for field in found.last().map(Value::items).unwrap_or_default() {
            let [Value::Byte(code), Value::Variant(value)] = field.items() else { continue };
            match (code, &**value) {
                (1, Value::Path(path)) => self.path = Some(path.clone()),
                (2, Value::Text(text)) => self.interface = Some(text.clone()),
                (3, Value::Text(text)) => self.member = Some(text.clone()),
                (4, Value::Text(text)) => self.error = Some(text.clone()),
                (5, Value::U32(number)) => self.reply_to = Some(*number),
                (6, Value::Text(text)) => self.destination = Some(text.clone()),
                (7, Value::Text(text)) => self.sender = Some(text.clone()),
                (8, Value::Signature(text)) => signature.clone_from(text),
                (9, _) => return Err(Invalid::new("descriptors in messages are not supported")),
                (0..=8, _) => return Err(Invalid::new(format!("header field {code} is wrong"))),
                _ => {}
            }
        }
        Ok(signature)
    }
}

fn field(code: u8, value: Value) -> Value {
    Value::Struct(vec![Value::Byte(code), Value::variant(value)])
}
