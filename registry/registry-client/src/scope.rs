//! Scopes: what a token is asked for (`repository:NAME:ACTIONS`), merged and compared.

use std::collections::BTreeSet;
use std::fmt;

/// Access to one resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope {
    /// `repository`, `repository(plugin)`, `registry`.
    kind: String,
    /// The resource.
    name: String,
    actions: BTreeSet<String>,
}

impl Scope {
    /// Access of a `kind` to `name`.
    pub fn new(kind: &str, name: &str, actions: &[&str]) -> Self {
        let actions = actions.iter().map(|action| (*action).to_owned()).collect();
        Self { kind: kind.into(), name: name.into(), actions }
    }

    /// `kind:name:action,action`; the name may hold colons.
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(':')?;
        let (name, actions) = rest.rsplit_once(':')?;
        if kind.is_empty() || name.is_empty() {
            return None;
        }
        let actions = actions.split(',').filter(|action| !action.is_empty());
        Some(Self {
            kind: kind.into(),
            name: name.into(),
            actions: actions.map(Into::into).collect(),
        })
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let actions: Vec<&str> = self.actions.iter().map(String::as_str).collect();
        write!(f, "{}:{}:{}", self.kind, self.name, actions.join(","))
    }
}

/// Several scopes, one for each resource, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Scopes(Vec<Scope>);

impl Scopes {
    /// The scopes of a challenge's `scope` parameter, separated by spaces.
    pub(crate) fn parse(text: &str) -> Self {
        let mut scopes = Self::default();
        text.split(' ').filter_map(Scope::parse).for_each(|scope| scopes.add(scope));
        scopes
    }

    /// Adds a scope; actions on the same resource are joined.
    pub fn add(&mut self, scope: Scope) {
        let same = |known: &&mut Scope| known.kind == scope.kind && known.name == scope.name;
        if let Some(known) = self.0.iter_mut().find(same) {
            known.actions.extend(scope.actions);
        } else {
            self.0.push(scope);
            self.0.sort();
        }
    }

    /// Both together.
    pub(crate) fn with(&self, other: &Self) -> Self {
        let mut joined = self.clone();
        other.0.iter().cloned().for_each(|scope| joined.add(scope));
        joined
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Scope> {
        self.0.iter()
    }
}

impl From<Scope> for Scopes {
    fn from(scope: Scope) -> Self {
        Self(vec![scope])
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&all.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_of_one_resource_are_joined() {
        let mut scopes = Scopes::parse("repository:a/b:pull repository(plugin):p:pull junk");
        scopes.add(Scope::new("repository", "a/b", &["push", "pull"]));
        scopes.add(Scope::new("registry", "catalog", &["*"]));
        assert_eq!(
            scopes.to_string(),
            "registry:catalog:* repository:a/b:pull,push repository(plugin):p:pull"
        );
    }

    #[test]
    fn a_name_may_hold_a_port() {
        let scope = Scope::parse("repository:host:5000/a:pull").unwrap();
        assert_eq!(scope, Scope::new("repository", "host:5000/a", &["pull"]));
        for text in ["", "a", "a:b", ":a:b", "a::b"] {
            assert_eq!(Scope::parse(text), None, "{text}");
        }
    }
}
