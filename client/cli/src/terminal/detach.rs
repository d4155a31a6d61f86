//! The keys that detach: found in what is typed, and kept back until they are
//! surely something else.

/// Ctrl-P Ctrl-Q.
const DEFAULT: [u8; 2] = [16, 17];

/// Watches typed bytes for the sequence.
pub(crate) struct Watch {
    keys: Vec<u8>,
    matched: usize,
}

/// What typed bytes mean.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Typed {
    /// To be passed on.
    Bytes(Vec<u8>),
    /// The sequence was complete; what came before it is to be passed on.
    Detach(Vec<u8>),
}

/// Reads keys such as `ctrl-p,ctrl-q` or `a,b`.
pub(crate) fn parse(text: &str) -> Result<Vec<u8>, String> {
    let mut keys = Vec::new();
    for part in text.split(',') {
        let byte = match (part.strip_prefix("ctrl-"), part.as_bytes()) {
            (Some(letter), _) if letter.len() == 1 => match letter.as_bytes()[0] {
                b'@' => 0,
                b @ b'a'..=b'z' => b - b'a' + 1,
                b'[' => 27,
                b'\\' => 28,
                b']' => 29,
                b'^' => 30,
                b'_' => 31,
                _ => return Err(format!("Unknown character: '{part}'")),
            },
            (None, [byte]) => *byte,
            _ => return Err(format!("Unknown character: '{part}'")),
        };
        keys.push(byte);
    }
    Ok(keys)
}

impl Watch {
    /// Watches for these keys, or for the usual ones when they are empty or unknown.
    pub(crate) fn new(text: &str) -> Self {
        let keys = if text.is_empty() { None } else { parse(text).ok() };
        Self { keys: keys.unwrap_or_else(|| DEFAULT.to_vec()), matched: 0 }
    }

    /// What these bytes mean.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Typed {
        let mut out = Vec::with_capacity(bytes.len());
        for byte in bytes {
            if *byte == self.keys[self.matched] {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    return Typed::Detach(out);
                }
                continue;
            }
            out.extend_from_slice(&self.keys[..self.matched]);
            self.matched = 0;
            if *byte == self.keys[0] {
                self.matched = 1;
                if self.keys.len() == 1 {
                    return Typed::Detach(out);
                }
            } else {
                out.push(*byte);
            }
        }
        Typed::Bytes(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_detaches_and_half_of_it_is_passed_on() {
        let mut watch = Watch::new("");
        assert_eq!(watch.feed(&[b'a', 16]), Typed::Bytes(vec![b'a']));
        assert_eq!(watch.feed(b"b"), Typed::Bytes(vec![16, b'b']));
        assert_eq!(watch.feed(&[b'c', 16, 17]), Typed::Detach(vec![b'c']));
    }

    #[test]
    fn keys_are_read_by_their_names() {
        assert_eq!(parse("ctrl-p,ctrl-q"), Ok(vec![16, 17]));
        assert_eq!(parse("a,ctrl-\\"), Ok(vec![b'a', 28]));
        assert!(parse("ctrl-foo").is_err());
    }
}
