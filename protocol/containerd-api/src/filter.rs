//! containerd's filter language, parsed and evaluated.
//!
//! ```text
//! filter   := selector ( "," selector )*      all must hold
//! selector := path ( operator value )?        without operator: the field is present
//! path     := field ( "." field )*
//! operator := "==" | "!=" | "~="
//! value    := word | quoted | |regex| | /regex/
//! ```
//! A list of filters holds when one of them does; an empty list always does.

use std::borrow::Cow;

use regex::bytes::{Regex, RegexBuilder};

/// Something whose fields a filter can ask for.
pub trait Fields {
    /// The value at `path`, and `None` when there is no such field or it is unset.
    fn field(&self, path: &[&str]) -> Option<Cow<'_, str>>;
}

impl<F: Fn(&[&str]) -> Option<String>> Fields for F {
    fn field(&self, path: &[&str]) -> Option<Cow<'_, str>> {
        self(path).map(Cow::Owned)
    }
}

/// A wrong filter. The text is containerd's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("[{marked}]: {what}")]
pub struct InvalidFilter {
    marked: String,
    what: String,
}

/// Filters of one request.
#[derive(Debug, Default)]
pub struct Filters(Vec<Vec<Selector>>);

#[derive(Debug)]
struct Selector {
    path: Vec<String>,
    test: Test,
}

#[derive(Debug)]
enum Test {
    Present,
    Equal(String),
    NotEqual(String),
    Matches(Regex),
}

impl Filters {
    /// Parses all filters of a request.
    pub fn parse<S: AsRef<str>>(filters: &[S]) -> Result<Self, InvalidFilter> {
        filters.iter().map(|f| parse_one(f.as_ref())).collect::<Result<_, _>>().map(Self)
    }

    /// Whether there is no filter, so that everything matches.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of the filters holds for `object`.
    pub fn matches(&self, object: &(impl Fields + ?Sized)) -> bool {
        self.0.is_empty() || self.0.iter().any(|all| all.iter().all(|s| s.matches(object)))
    }
}

impl Selector {
    fn matches(&self, object: &(impl Fields + ?Sized)) -> bool {
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        let value = object.field(&path);
        match &self.test {
            Test::Present => value.is_some(),
            Test::Equal(wanted) => value.is_some_and(|v| v == wanted.as_str()),
            Test::NotEqual(other) => value.unwrap_or_default() != other.as_str(),
            Test::Matches(regex) => value.is_some_and(|v| regex.is_match(v.as_bytes())),
        }
    }
}

/// The field of a label map: the rest of the path, joined by dots, is the label's name.
pub fn label<'a, S: std::hash::BuildHasher>(
    labels: &'a std::collections::HashMap<String, String, S>,
    path: &[&str],
) -> Option<Cow<'a, str>> {
    labels.get(&path.join(".")).map(|v| Cow::Borrowed(v.as_str()))
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

fn parse_one(text: &str) -> Result<Vec<Selector>, InvalidFilter> {
    let mut parser = Parser { text, at: 0 };
    let mut selectors = Vec::new();
    if text.is_empty() {
        return Ok(selectors);
    }
    loop {
        parser.skip_spaces();
        selectors.push(parser.selector()?);
        parser.skip_spaces();
        match parser.peek() {
            None => return Ok(selectors),
            Some(',') => parser.at += 1,
            Some(other) => return Err(parser.error(format!("expected ',' but found {other:?}"))),
        }
    }
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    // Go's scanner drops white space between tokens; clients write ", " between selectors.
    fn skip_spaces(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn error(&self, what: impl Into<String>) -> InvalidFilter {
        let (before, after) = self.text.split_at(self.at.min(self.text.len()));
        InvalidFilter { marked: format!("{before} >|{after}|< "), what: what.into() }
    }

    fn selector(&mut self) -> Result<Selector, InvalidFilter> {
        let mut path = vec![self.field()?];
        while self.peek() == Some('.') {
            self.at += 1;
            path.push(self.field()?);
        }
        if matches!(self.peek(), None | Some(',')) {
            return Ok(Selector { path, test: Test::Present });
        }
        let operator = self.rest().get(..2).unwrap_or_default();
        if !matches!(operator, "==" | "!=" | "~=") {
            return Err(self.error("expected an operator: ==, != or ~="));
        }
        self.at += 2;
        let start = self.at;
        let value = self.value(operator == "~=")?;
        let test = match operator {
            "==" => Test::Equal(value),
            "!=" => Test::NotEqual(value),
            // Go's \w, \d and \b are ASCII.
            _ => match RegexBuilder::new(&value).unicode(false).size_limit(1 << 20).build() {
                Ok(regex) => Test::Matches(regex),
                Err(error) => {
                    self.at = start;
                    return Err(self.error(format!("invalid regular expression: {error}")));
                }
            },
        };
        Ok(Selector { path, test })
    }

    fn field(&mut self) -> Result<String, InvalidFilter> {
        if self.peek() == Some('"') {
            return self.quoted();
        }
        let rest = self.rest();
        let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
        if end == 0 {
            return Err(self.error("expected field or quoted"));
        }
        self.at += end;
        Ok(rest[..end].to_owned())
    }

    fn value(&mut self, alternatives: bool) -> Result<String, InvalidFilter> {
        match self.peek() {
            Some('"') => self.quoted(),
            Some(mark @ ('|' | '/')) if alternatives => {
                let body = &self.rest()[1..];
                let Some(end) = find_end(body, mark) else {
                    return Err(self.error("literal not terminated"));
                };
                self.at += end + 2;
                Ok(body[..end].replace(&format!("\\{mark}"), &mark.to_string()))
            }
            _ => {
                let rest = self.rest();
                let end = rest.find([',', ' ', '\t', '\n']).unwrap_or(rest.len());
                if end == 0 {
                    return Err(self.error("expected value or quoted"));
                }
                self.at += end;
                Ok(rest[..end].to_owned())
            }
        }
    }

    // A Go string literal; its escapes are JSON's but for \a \v \x \ooo, which nobody sends.
    fn quoted(&mut self) -> Result<String, InvalidFilter> {
        let body = &self.rest()[1..];
        let Some(end) = find_end(body, '"') else {
            return Err(self.error("quoted literal not terminated"));
        };
        let literal = &self.rest()[..end + 2];
        let Ok(value) = serde_json::from_str::<String>(literal) else {
            return Err(self.error("unquoting failed"));
        };
        self.at += end + 2;
        Ok(value)
    }
}

// Where the closing `mark` is, not counting those after a backslash.
fn find_end(body: &str, mark: char) -> Option<usize> {
    let mut escaped = false;
    body.char_indices().find_map(|(at, c)| {
        let found = !escaped && c == mark;
        escaped = !escaped && c == '\\';
        found.then_some(at)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn white_space_between_selectors_means_nothing() {
        assert!(holds(&["namespace==moby, topic==/tasks/exit "]));
        assert!(!holds(&[" namespace==moby, topic==/x"]));
    }

    fn holds(filters: &[&str]) -> bool {
        let object = |path: &[&str]| match path {
            ["namespace"] => Some("moby".to_owned()),
            ["topic"] => Some("/tasks/exit".to_owned()),
            ["labels", rest @ ..] if rest.join(".") == "a.b/c" => Some("x y".to_owned()),
            _ => None,
        };
        Filters::parse(filters).unwrap().matches(&object)
    }

    #[test]
    fn selectors_compare_match_and_ask_for_presence() {
        assert!(holds(&[]));
        assert!(holds(&[""]));
        assert!(holds(&["namespace==moby,topic~=|^/tasks/|"]));
        assert!(holds(&["namespace==moby,topic~=/^.tasks/"]));
        assert!(!holds(&["namespace==moby,topic~=|^/images/|"]));
        assert!(holds(&["namespace==other", "namespace==moby"]));
        assert!(holds(&["labels.\"a.b/c\"==\"x y\""]));
        assert!(holds(&["labels.\"a.b/c\""]));
        assert!(!holds(&["labels.other"]));
        assert!(holds(&["labels.other!=1"]));
        assert!(!holds(&["namespace!=moby"]));
        assert!(holds(&[r"topic~=|\w+/exit$|"]));
    }

    #[test]
    fn wrong_filters_say_where() {
        for wrong in ["=", "a=", "a=b", "a==", "a==b,", "a~=|x", "a~=(", "\"x", "a b", "a>b"] {
            assert!(Filters::parse(&[wrong]).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_filter_panics(text in "[a-z.,=~!|/\"\\\\ ()ä]{0,24}") {
            if let Ok(filters) = Filters::parse(&[text]) {
                filters.matches(&|_: &[&str]| Some("x".to_owned()));
            }
        }
    }
}
