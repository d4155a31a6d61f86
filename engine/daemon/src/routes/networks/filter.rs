//! Which networks a list or a prune means. Pure, but for the clock that `until` counts from.

use engine_api::filters::{FilterError, Filters};
use network::Network;

use crate::http::ApiError;

/// The filters of a list, checked.
pub(super) struct Wanted<'a> {
    filters: &'a Filters,
    dangling: Option<bool>,
    builtin: Option<bool>,
}

impl<'a> Wanted<'a> {
    /// Checks the values.
    pub(super) fn new(filters: &'a Filters) -> Result<Self, ApiError> {
        let dangling = filters.boolean("dangling").map_err(|_: FilterError| {
            ApiError::bad_request(
                "invalid value for filter 'dangling', must be \"true\" (or \"1\"), or \"false\" (or \"0\")",
            )
        })?;
        let mut builtin = None;
        for value in filters.get("type") {
            builtin = match value {
                "builtin" => Some(true),
                "custom" => Some(false),
                other => {
                    return Err(ApiError::internal(format!("invalid filter: 'type'='{other}'")));
                }
            };
        }
        if filters.get("type").count() > 1 {
            builtin = None;
        }
        Ok(Self { filters, dangling, builtin })
    }

    /// Whether the list shows the network.
    pub(super) fn matches(&self, network: &Network, endpoints: usize) -> bool {
        let f = self.filters;
        f.exact("driver", &network.driver)
            && f.exact("scope", &network.scope)
            && f.labels("label", &network.labels)
            && any(f, "name", &network.name)
            && any(f, "id", network.id.as_str())
            && self.builtin.is_none_or(|b| b == network.predefined())
            && self.dangling.is_none_or(|d| d == (endpoints == 0 && !network.predefined()))
    }
}

/// Whether the key isn't used or one of its values is part of `text`; `^` and `$` bind it to the
/// start and the end.
fn any(filters: &Filters, key: &str, text: &str) -> bool {
    !filters.contains(key) || filters.get(key).any(|pattern| part_of(pattern, text))
}

fn part_of(pattern: &str, text: &str) -> bool {
    let (start, pattern) = pattern.strip_prefix('^').map_or((false, pattern), |p| (true, p));
    let (end, pattern) = pattern.strip_suffix('$').map_or((false, pattern), |p| (true, p));
    match (start, end) {
        (true, true) => text == pattern,
        (true, false) => text.starts_with(pattern),
        (false, true) => text.ends_with(pattern),
        (false, false) => text.contains(pattern),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_matches_in_part_unless_it_is_bound() {
        assert!(part_of("ri", "bridge") && part_of("^br", "bridge") && part_of("ge$", "bridge"));
        assert!(part_of("^bridge$", "bridge") && !part_of("^ri", "bridge"));
    }
}
