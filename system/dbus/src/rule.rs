//! Match rules: which signals the bus is to hand on.

/// A rule for [`Connection::subscribe`](crate::Connection::subscribe).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule(String);

impl Rule {
    /// All signals; narrow it down with the methods that follow.
    pub fn signals() -> Self {
        Self("type='signal'".to_owned())
    }

    /// Only from who owns this name.
    #[must_use]
    pub fn from(self, name: &str) -> Self {
        self.part("sender", name)
    }

    /// Only of this object.
    #[must_use]
    pub fn of(self, path: &str) -> Self {
        self.part("path", path)
    }

    /// Only of this interface.
    #[must_use]
    pub fn on(self, interface: &str) -> Self {
        self.part("interface", interface)
    }

    /// Only this signal.
    #[must_use]
    pub fn member(self, member: &str) -> Self {
        self.part("member", member)
    }

    /// Only where the first argument is this string.
    #[must_use]
    pub fn first_argument(self, text: &str) -> Self {
        self.part("arg0", text)
    }

    /// The rule as the bus reads it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    // Inside quotes nothing is special, so a quote itself stands outside them.
    fn part(mut self, key: &str, value: &str) -> Self {
        self.0.push(',');
        self.0.push_str(key);
        self.0.push_str("='");
        self.0.push_str(&value.replace('\'', "'\\''"));
        self.0.push('\'');
        self
    }
}
