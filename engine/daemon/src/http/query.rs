//! Query parameters by Go's rules: `&` separates, `+` is a space, a bad escape
//! or a semicolon fails the request.

use super::ApiError;

/// The parameters of a request, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads what stands after the `?`.
    ///
    /// # Errors
    /// 400 with Go's text.
    pub fn parse(text: &str) -> Result<Self, ApiError> {
        let mut out = Vec::new();
        for part in text.split('&').filter(|part| !part.is_empty()) {
            if part.contains(';') {
                return Err(ApiError::bad_request("invalid semicolon separator in query"));
            }
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            let decode = |text: &str| unescape(text, true).map_err(ApiError::bad_request);
            out.push((decode(key)?, decode(value)?));
        }
        Ok(Self(out))
    }

    /// The first value of `key`, or nothing.
    pub fn get(&self, key: &str) -> &str {
        self.0.iter().find(|(k, _)| k == key).map_or("", |(_, v)| v)
    }

    /// Whether `key` is there at all.
    pub fn has(&self, key: &str) -> bool {
        self.0.iter().any(|(k, _)| k == key)
    }

    /// All values of `key`.
    pub fn all(&self, key: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// A boolean: true for anything but empty, 0, no, false and none.
    pub fn bool(&self, key: &str) -> bool {
        let value = self.get(key).trim().to_lowercase();
        !matches!(value.as_str(), "" | "0" | "no" | "false" | "none")
    }

    /// A boolean with a default for when `key` is absent.
    pub fn bool_or(&self, key: &str, default: bool) -> bool {
        if self.has(key) { self.bool(key) } else { default }
    }

    /// An integer; `None` when empty or absent.
    ///
    /// # Errors
    /// 500 with Go's text, as dockerd answers in most places; callers that
    /// answer 400 change the status.
    pub fn integer(&self, key: &str) -> Result<Option<i64>, ApiError> {
        let text = self.get(key);
        if text.is_empty() {
            return Ok(None);
        }
        // Go takes a leading sign and digits only.
        let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
        let what = if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            "invalid syntax"
        } else {
            match text.parse() {
                Ok(n) => return Ok(Some(n)),
                Err(_) => "value out of range",
            }
        };
        Err(ApiError::internal(format!("strconv.Atoi: parsing {text:?}: {what}")))
    }
}

/// Undoes percent escapes; `plus` for queries, where `+` is a space.
///
/// # Errors
/// Go's text for the first bad escape.
pub(super) fn unescape(text: &str, plus: bool) -> Result<String, String> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'%' => {
                let digits = text.get(at + 1..at + 3);
                let byte = digits
                    .filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))
                    .and_then(|d| u8::from_str_radix(d, 16).ok());
                let Some(byte) = byte else {
                    let bad = String::from_utf8_lossy(&bytes[at..(at + 3).min(bytes.len())]);
                    return Err(format!("invalid URL escape \"{bad}\""));
                };
                out.push(byte);
                at += 2;
            }
            b'+' if plus => out.push(b' '),
            other => out.push(other),
        }
        at += 1;
    }
    Ok(String::from_utf8(out).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn booleans_are_true_unless_they_say_no() {
        let q = Query::parse("a=1&b=no&c=&d=False&e=x&f&a=0").unwrap();
        let bools: Vec<bool> = ["a", "b", "c", "d", "e", "f"].iter().map(|k| q.bool(k)).collect();
        assert_eq!(bools, [true, false, false, false, true, false]);
        assert_eq!(q.all("a").collect::<Vec<_>>(), ["1", "0"]);
    }

    #[test]
    fn bad_queries_have_the_texts_of_go() {
        let error = |text: &str| Query::parse(text).unwrap_err().message;
        assert_eq!(error("a=%zz"), "invalid URL escape \"%zz\"");
        assert_eq!(error("a;b"), "invalid semicolon separator in query");
        let q = Query::parse("n=abc&m=99999999999999999999&o=-5").unwrap();
        let text = q.integer("n").unwrap_err().message;
        assert_eq!(text, "strconv.Atoi: parsing \"abc\": invalid syntax");
        assert!(q.integer("m").unwrap_err().message.ends_with("value out of range"));
        assert_eq!(q.integer("o").unwrap(), Some(-5));
    }
}
