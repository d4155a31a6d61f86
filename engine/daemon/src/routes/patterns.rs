//! Filters whose values are regular expressions, as dockerd matches names: in linear time, within
//! a bounded size, and a value that is none matches only itself.

use engine_api::filters::Filters;
use regex::bytes::{Regex, RegexBuilder};

/// What one expression may take when it is compiled.
const SIZE: usize = 1 << 20;

/// The values of one filter, ready to match.
pub(in crate::routes) struct Patterns<'a> {
    filters: &'a Filters,
    key: &'static str,
    compiled: Vec<Regex>,
}

impl<'a> Patterns<'a> {
    pub(in crate::routes) fn new(filters: &'a Filters, key: &'static str) -> Self {
        // Like Go's, classes such as \w are ASCII's.
        let compile = |pattern| RegexBuilder::new(pattern).unicode(false).size_limit(SIZE).build();
        let compiled = filters.get(key).filter_map(|pattern| compile(pattern).ok()).collect();
        Self { filters, key, compiled }
    }

    /// Whether the filter isn't used, or one of its values is `text` or matches a part of it.
    pub(in crate::routes) fn matches(&self, text: &str) -> bool {
        self.filters.exact(self.key, text)
            || self.compiled.iter().any(|pattern| pattern.is_match(text.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        Patterns::new(&Filters::default().with("name", pattern), "name").matches(text)
    }

    #[test]
    fn a_name_matches_in_part_unless_it_is_bound() {
        assert!(matches("eb", "web1") && matches("^we", "web1") && matches("^web[0-9]$", "web1"));
        assert!(matches("a|b1", "web1") && matches("(?i)WEB", "web1") && matches("", "web1"));
        assert!(!matches("^eb", "web1") && !matches("web$", "web1") && !matches("x*y", "web1"));
        assert!(Patterns::new(&Filters::default(), "name").matches("web1"));
    }

    #[test]
    fn what_is_no_expression_matches_itself_alone() {
        assert!(matches("[", "[") && !matches("[", "a["));
        let long = "(((a{99}){99}){99}){99}";
        assert!(matches(long, long) && !matches(long, &"a".repeat(200)));
    }
}
