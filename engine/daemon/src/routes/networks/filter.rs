//! Which networks a list or a prune means. Pure, but for the clock that `until` counts from.

use engine_api::filters::{FilterError, Filters};
use network::Network;

use crate::http::ApiError;
use crate::routes::patterns::Patterns;

/// The filters of a list, checked.
pub(super) struct Wanted<'a> {
    filters: &'a Filters,
    name: Patterns<'a>,
    id: Patterns<'a>,
    dangling: Option<bool>,
    builtin: Option<bool>,
}

impl<'a> Wanted<'a> {
    /// Checks the values.
    pub(super) fn new(filters: &'a Filters) -> Result<Self, ApiError> {
        let dangling = dangling(filters)?;
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
        let (name, id) = (Patterns::new(filters, "name"), Patterns::new(filters, "id"));
        Ok(Self { filters, name, id, dangling, builtin })
    }

    /// Whether the list shows the network.
    pub(super) fn matches(&self, network: &Network, endpoints: usize) -> bool {
        let f = self.filters;
        f.exact("driver", &network.driver)
            && f.exact("scope", &network.scope)
            && f.labels("label", &network.labels)
            && self.name.matches(&network.name)
            && self.id.matches(network.id.as_str())
            && self.builtin.is_none_or(|b| b == network.predefined())
            && self.dangling.is_none_or(|d| d == (endpoints == 0 && !network.predefined()))
    }
}

fn dangling(filters: &Filters) -> Result<Option<bool>, ApiError> {
    match filters.get("dangling").count() {
        0 => Ok(None),
        1 => filters.boolean("dangling").map_err(|_: FilterError| {
            ApiError::bad_request(
                "invalid value for filter 'dangling', must be \"true\" (or \"1\"), or \"false\" (or \"0\")",
            )
        }),
        _ => Err(ApiError::bad_request("got more than one value for filter key \"dangling\"")),
    }
}
