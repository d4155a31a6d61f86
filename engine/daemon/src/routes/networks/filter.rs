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

/// The time, in nanoseconds of the epoch, before which a network must have been made.
pub(super) fn until(filters: &Filters) -> Result<Option<i64>, ApiError> {
    let mut values = filters.get("until");
    let Some(text) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(ApiError::bad_request("more than one until filter specified"));
    }
    let bad =
        || ApiError::bad_request(format!("failed to parse value as time or duration: {text:?}"));
    if let Some(ago) = duration(text) {
        let now = jiff::Timestamp::now().as_nanosecond();
        return Ok(i64::try_from(now - i128::from(ago)).ok());
    }
    if let Ok(seconds) = text.parse::<f64>() {
        return Ok(Some((seconds * 1e9) as i64));
    }
    let time: jiff::Timestamp = text.parse().map_err(|_| bad())?;
    Ok(i64::try_from(time.as_nanosecond()).ok())
}

/// A duration as Go writes it (`1h30m`), in nanoseconds.
fn duration(text: &str) -> Option<i64> {
    let mut rest = text;
    let mut total = 0.0f64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        total += number
            * match &rest[..unit] {
                "h" => 3600e9,
                "m" => 60e9,
                "s" => 1e9,
                "ms" => 1e6,
                "us" | "µs" => 1e3,
                "ns" => 1.0,
                _ => return None,
            };
        rest = &rest[unit..];
    }
    Some(total as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_matches_in_part_unless_it_is_bound() {
        assert!(part_of("ri", "bridge") && part_of("^br", "bridge") && part_of("ge$", "bridge"));
        assert!(part_of("^bridge$", "bridge") && !part_of("^ri", "bridge"));
    }

    #[test]
    fn until_is_a_duration_a_number_or_a_time() {
        let parse = |text: &str| until(&Filters::default().with("until", text));
        assert_eq!(parse("5").unwrap(), Some(5_000_000_000));
        assert_eq!(parse("1970-01-01T00:00:01Z").unwrap(), Some(1_000_000_000));
        assert_eq!(duration("1h30m"), Some(5_400_000_000_000));
        let error = parse("zz").unwrap_err();
        assert_eq!(error.message, "failed to parse value as time or duration: \"zz\"");
        assert_eq!(error.status, http::StatusCode::BAD_REQUEST);
        assert_eq!(until(&Filters::default()).unwrap(), None);
    }
}
