//! Bytes → `Value`, or the words that Go's decoder uses for what is wrong.
//!
//! Tokenising is our own since no library's messages can be turned into Go's,
//! and clients show these texts to people. What values mean is not said here.

use super::{Number, Value};

/// Nesting beyond this is refused (Go's own bound is 10,000; nothing real
/// comes near either).
const MAX_DEPTH: usize = 500;

/// Why bytes are no JSON, in Go's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SyntaxError {
    /// Nothing but white space.
    #[error("EOF")]
    Empty,
    /// The end came inside a value.
    #[error("unexpected EOF")]
    Truncated,
    /// Anything else: `invalid character 'x' looking for beginning of value`.
    #[error("{0}")]
    Invalid(String),
}

/// Reads one value and leaves what follows it: the value, and where it ended.
///
/// # Errors
/// Go's text for the first thing that is wrong.
pub fn parse_prefix(bytes: &[u8]) -> Result<(Value, usize), SyntaxError> {
    let mut p = Parser { bytes, at: 0, depth: 0 };
    p.space();
    if p.at == bytes.len() {
        return Err(SyntaxError::Empty);
    }
    let value = p.value()?;
    Ok((value, p.at))
}

/// Reads bytes that hold exactly one value.
///
/// # Errors
/// Go's text for the first thing that is wrong.
pub fn parse(bytes: &[u8]) -> Result<Value, SyntaxError> {
    let (value, end) = parse_prefix(bytes)?;
    let mut p = Parser { bytes, at: end, depth: 0 };
    p.space();
    if p.at < bytes.len() {
        return Err(p.invalid("after top-level value"));
    }
    Ok(value)
}

struct Parser<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    /// "invalid character 'x' …" for what stands at the current place, or the
    /// error for the end of input.
    fn invalid(&self, context: &str) -> SyntaxError {
        let rest = &self.bytes[self.at.min(self.bytes.len())..];
        if rest.is_empty() {
            return SyntaxError::Truncated;
        }
        SyntaxError::Invalid(format!("invalid character {} {context}", quote_first(rest)))
    }

    fn value(&mut self) -> Result<Value, SyntaxError> {
        self.space();
        match self.peek() {
            Some(b'{') => self.nested(Self::object),
            Some(b'[') => self.nested(Self::array),
            Some(b'"') => Ok(Value::String(self.string()?)),
            Some(b't') => self.literal("true", Value::Bool(true)),
            Some(b'f') => self.literal("false", Value::Bool(false)),
            Some(b'n') => self.literal("null", Value::Null),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => Err(self.invalid("looking for beginning of value")),
        }
    }

    fn nested(
        &mut self,
        read: fn(&mut Self) -> Result<Value, SyntaxError>,
    ) -> Result<Value, SyntaxError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(SyntaxError::Invalid("exceeded max depth".into()));
        }
        self.at += 1;
        let value = read(self)?;
        self.depth -= 1;
        Ok(value)
    }

    fn object(&mut self) -> Result<Value, SyntaxError> {
        let mut members = Vec::new();
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Value::Object(members));
        }
        loop {
            self.space();
            if self.peek() != Some(b'"') {
                return Err(self.invalid("looking for beginning of object key string"));
            }
            let key = self.string()?;
            self.space();
            if self.peek() != Some(b':') {
                return Err(self.invalid("after object key"));
            }
            self.at += 1;
            members.push((key, self.value()?));
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(Value::Object(members));
                }
                _ => return Err(self.invalid("after object key:value pair")),
            }
        }
    }

    fn array(&mut self) -> Result<Value, SyntaxError> {
        let mut items = Vec::new();
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Value::Array(items));
        }
        loop {
            items.push(self.value()?);
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(Value::Array(items));
                }
                _ => return Err(self.invalid("after array element")),
            }
        }
    }

    fn literal(&mut self, word: &str, value: Value) -> Result<Value, SyntaxError> {
        for expected in word.bytes() {
            if self.peek() != Some(expected) {
                let context = format!("in literal {word} (expecting '{}')", expected as char);
                return Err(self.invalid(&context));
            }
            self.at += 1;
        }
        Ok(value)
    }

    fn digits(&mut self) -> Result<(), SyntaxError> {
        if !matches!(self.peek(), Some(b'0'..=b'9')) {
            return Err(self.invalid("in numeric literal"));
        }
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Result<Value, SyntaxError> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        let text = String::from_utf8_lossy(&self.bytes[start..self.at]).into_owned();
        Ok(Value::Number(Number(text)))
    }

    fn string(&mut self) -> Result<String, SyntaxError> {
        self.at += 1;
        let mut out: Vec<u8> = Vec::new();
        loop {
            let start = self.at;
            while matches!(self.peek(), Some(b) if b != b'"' && b != b'\\' && b >= 0x20) {
                self.at += 1;
            }
            out.extend_from_slice(&self.bytes[start..self.at]);
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(match String::from_utf8(out) {
                        Ok(text) => text,
                        Err(e) => String::from_utf8_lossy(e.as_bytes()).into_owned(),
                    });
                }
                Some(b'\\') => {
                    let c = self.escape()?;
                    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                }
                _ => return Err(self.invalid("in string")),
            }
        }
    }

    fn escape(&mut self) -> Result<char, SyntaxError> {
        let start = self.at;
        let Some(&c) = self.bytes.get(start + 1) else { return Err(SyntaxError::Truncated) };
        self.at += 2;
        Ok(match c {
            b'"' | b'\\' | b'/' => c as char,
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = self.hex4(start)?;
                if (0xd800..0xdc00).contains(&first) && self.bytes[self.at..].starts_with(b"\\u") {
                    let (back, second_start) = (self.at, self.at);
                    self.at += 2;
                    let second = self.hex4(second_start)?;
                    if (0xdc00..0xe000).contains(&second) {
                        let code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                        return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
                    }
                    self.at = back;
                }
                char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER)
            }
            _ => return Err(self.bad_escape(start, start + 2)),
        })
    }

    fn hex4(&mut self, start: usize) -> Result<u32, SyntaxError> {
        let Some(digits) = self.bytes.get(self.at..self.at + 4) else {
            return Err(SyntaxError::Truncated);
        };
        let text = std::str::from_utf8(digits).unwrap_or("");
        let code = u32::from_str_radix(text, 16).ok().filter(|_| !text.starts_with('+'));
        let Some(code) = code else { return Err(self.bad_escape(start, self.at + 4)) };
        self.at += 4;
        Ok(code)
    }

    fn bad_escape(&self, start: usize, end: usize) -> SyntaxError {
        let text = String::from_utf8_lossy(&self.bytes[start..end.min(self.bytes.len())]);
        SyntaxError::Invalid(format!("invalid escape sequence `{text}` in string"))
    }
}

/// The first character of `rest` as Go quotes a rune.
fn quote_first(rest: &[u8]) -> String {
    let head = &rest[..rest.len().min(4)];
    let c = match std::str::from_utf8(head) {
        Ok(text) => text.chars().next(),
        Err(e) => std::str::from_utf8(&head[..e.valid_up_to()]).ok().and_then(|t| t.chars().next()),
    };
    match c {
        None => format!("'\\x{:02x}'", rest[0]),
        Some('\'') => r"'\''".into(),
        Some('\\') => r"'\\'".into(),
        Some('\n') => r"'\n'".into(),
        Some('\r') => r"'\r'".into(),
        Some('\t') => r"'\t'".into(),
        Some('\u{8}') => r"'\b'".into(),
        Some('\u{c}') => r"'\f'".into(),
        Some('\u{b}') => r"'\v'".into(),
        Some('\u{7}') => r"'\a'".into(),
        Some(c) if c.is_control() => format!("'\\x{:02x}'", c as u32),
        Some(c) => format!("'{c}'"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        parse_prefix(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn syntax_errors_have_the_words_of_go() {
        for (text, want) in [
            ("", "EOF"),
            (" ", "EOF"),
            ("{", "unexpected EOF"),
            ("{\"a\"", "unexpected EOF"),
            ("nope", "invalid character 'o' in literal null (expecting 'u')"),
            ("{\"a\":1,}", "invalid character '}' looking for beginning of object key string"),
            ("{'a':1}", r"invalid character '\'' looking for beginning of object key string"),
            ("{\"a\":\"bu\\qsy\"}", r"invalid escape sequence `\q` in string"),
            ("{\"a\" \"b\"}", "invalid character '\"' after object key"),
            ("{\"a\":tru}", "invalid character '}' in literal true (expecting 'e')"),
            ("{\"a\":01}", "invalid character '1' after object key:value pair"),
            ("{\"a\":1.}", "invalid character '}' in numeric literal"),
            ("{\"a\":-}", "invalid character '}' in numeric literal"),
            ("{\"a\":\"a\nb\"}", r"invalid character '\n' in string"),
            ("[\"a\" \"b\"]", "invalid character '\"' after array element"),
            ("[\"a\",]", "invalid character ']' looking for beginning of value"),
        ] {
            assert_eq!(error(text), want, "{text}");
        }
    }

    #[test]
    fn values_keep_order_duplicates_and_number_texts() {
        let v = parse(br#"{"b":1.50,"a":[true,null],"b":"\u00e9\ud83d\ude00\ud800"}"#).unwrap();
        assert_eq!(
            v.to_string(),
            "{\"b\":1.50,\"a\":[true,null],\"b\":\"\u{e9}\u{1f600}\u{fffd}\"}"
        );
    }

    #[test]
    fn deep_nesting_is_refused_and_not_a_crash() {
        assert_eq!(error(&"[".repeat(100_000)), "exceeded max depth");
    }
}
