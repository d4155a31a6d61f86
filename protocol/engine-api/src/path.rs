//! Paths inside a container, as both ends of the API spell them.

/// A path from the root without `.`, `..` and double slashes, as Go's `filepath.Clean` makes it of
/// an absolute one; a relative one is taken from the root. Looks at names only, never at files.
pub fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned() {
        assert_eq!(clean("//a/./b/../c/"), "/a/c");
        assert_eq!(clean("/.."), "/");
    }
}
