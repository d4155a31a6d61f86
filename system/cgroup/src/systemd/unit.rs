//! The names of a container's unit and where its cgroup lies. Pure.

use crate::{Cgroup, Error, Host};

/// The unit of one container.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Unit {
    /// Its name: `PREFIX-NAME.scope`, or a slice's own.
    pub name: String,
    /// The slice it lies in.
    pub slice: String,
    /// What it is called for people.
    pub description: String,
    /// Whether it belongs to the user's own service manager.
    pub user: bool,
}

impl Unit {
    /// Reads `slice:prefix:name`; an empty text takes the usual slice, and the id as name.
    ///
    /// # Errors
    /// When the text has another form.
    pub fn parse(text: &str, id: &str, user: bool) -> Result<Self, Error> {
        let parts: Vec<&str> = text.split(':').collect();
        let (slice, prefix, name) = match parts[..] {
            [""] => ("", "runc", id),
            [slice, prefix, name] => (slice, prefix, name),
            _ => {
                return Err(Error::Invalid(format!(
                    "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got {text:?} instead"
                )));
            }
        };
        let usual = if user { "user.slice" } else { "system.slice" };
        let unit = Self {
            name: if is_slice(name) { name.to_owned() } else { format!("{prefix}-{name}.scope") },
            slice: if slice.is_empty() { usual } else { slice }.to_owned(),
            description: format!("libcontainer container {name}"),
            user,
        };
        if unit.name.contains(['/', '\0']) {
            return Err(Error::Invalid(format!("Unit name {} is not valid.", unit.name)));
        }
        Ok(unit)
    }

    /// Whether the unit is itself a slice.
    pub(crate) fn is_slice(&self) -> bool {
        is_slice(&self.name)
    }

    /// The unit's folders; `above` is the cgroup of the user's own service manager.
    ///
    /// # Errors
    /// When the slice's name is wrong.
    pub fn cgroup(&self, host: &Host, above: &str) -> Result<Cgroup, Error> {
        let slice = expand(&self.slice)?;
        Ok(host.cgroup(&format!("/{above}/{slice}/{}", self.name), ""))
    }
}

fn is_slice(name: &str) -> bool {
    name.strip_suffix(".slice").is_some()
}

/// `a-b.slice` lies in `a.slice`.
fn expand(slice: &str) -> Result<String, Error> {
    let invalid = || Error::Invalid(format!("invalid slice name: {slice}"));
    let name = slice.strip_suffix(".slice").ok_or_else(invalid)?;
    if name == "-" {
        return Ok(String::new());
    }
    if name.contains(['/', '\0']) {
        return Err(invalid());
    }
    let (mut path, mut prefix) = (String::new(), String::new());
    for part in name.split('-') {
        if part.is_empty() {
            return Err(invalid());
        }
        path = format!("{path}/{prefix}{part}.slice");
        prefix = format!("{prefix}{part}-");
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_lies_in_those_its_name_tells() {
        assert_eq!(expand("a-b-c.slice").unwrap(), "/a.slice/a-b.slice/a-b-c.slice");
        assert_eq!(expand("-.slice").unwrap(), "");
        for bad in ["a", ".slice", "-a.slice", "a--b.slice", "a/b.slice", "a-.slice"] {
            assert!(expand(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_path_names_slice_prefix_and_container() {
        let unit = Unit::parse("machine.slice:libpod:abc", "id", false).unwrap();
        assert_eq!(
            (unit.name.as_str(), unit.slice.as_str()),
            ("libpod-abc.scope", "machine.slice")
        );
        let unit = Unit::parse("", "id", true).unwrap();
        assert_eq!((unit.name.as_str(), unit.slice.as_str()), ("runc-id.scope", "user.slice"));
        assert_eq!(Unit::parse(":x:y.slice", "id", false).unwrap().name, "y.slice");
        for bad in ["/a/b", "a:b", "a:b:c:d", ":x:a/b"] {
            assert!(Unit::parse(bad, "id", false).is_err(), "{bad}");
        }
    }
}
