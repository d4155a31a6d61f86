//! Users and groups by name or number, from the texts of a container's passwd and
//! group files. Reading the files is the caller's part.

/// Who a process runs as.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary groups, the primary first.
    pub groups: Vec<u32>,
    /// The home folder; `/` when unknown.
    pub home: String,
}

/// A name without an entry, or a number out of range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnknownUser {
    /// No such user.
    #[error("unable to find user {0}: no matching entries in passwd file")]
    User(String),
    /// No such group.
    #[error("unable to find group {0}: no matching entries in group file")]
    Group(String),
    /// A number outside what the kernel takes.
    #[error("uids and gids must be in range 0-2147483647")]
    Range,
}

struct Passwd<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

fn passwd(text: &str) -> impl Iterator<Item = Passwd<'_>> {
    text.lines().filter_map(|line| {
        let mut parts = line.split(':');
        let name = parts.next().filter(|n| !n.is_empty())?;
        let uid = parts.nth(1)?.parse().ok()?;
        let gid = parts.next()?.parse().ok()?;
        Some(Passwd { name, uid, gid, home: parts.nth(1).unwrap_or("") })
    })
}

fn groups(text: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    text.lines().filter_map(|line| {
        let mut parts = line.split(':');
        let name = parts.next().filter(|n| !n.is_empty())?;
        Some((name, parts.nth(1)?.parse().ok()?, parts.next().unwrap_or("")))
    })
}

fn number(text: &str) -> Option<Result<u32, UnknownUser>> {
    let n: u64 = text.parse().ok()?;
    Some(u32::try_from(n).ok().filter(|n| i32::try_from(*n).is_ok()).ok_or(UnknownUser::Range))
}

fn group_id(group: &str, text: &str) -> Result<u32, UnknownUser> {
    if let Some((_, gid, _)) = groups(text).find(|(name, _, _)| *name == group) {
        return Ok(gid);
    }
    number(group).unwrap_or_else(|| Err(UnknownUser::Group(group.to_owned())))
}

/// Resolves `user[:group]` (either may be a name or a number; empty means root) and
/// the further groups `add`.
pub fn resolve(
    spec: &str,
    add: &[String],
    passwd_text: &str,
    group_text: &str,
) -> Result<Identity, UnknownUser> {
    let (user, group) = spec.split_once(':').unwrap_or((spec, ""));
    let user = if user.is_empty() { "0" } else { user };
    let as_number = number(user).transpose()?;
    let entry = passwd(passwd_text)
        .find(|p| p.name == user)
        .or_else(|| as_number.and_then(|uid| passwd(passwd_text).find(|p| p.uid == uid)));
    let mut found = match (&entry, as_number) {
        (Some(p), _) => {
            Identity { uid: p.uid, gid: p.gid, home: p.home.to_owned(), ..Identity::default() }
        }
        (None, Some(uid)) => Identity { uid, ..Identity::default() },
        (None, None) => return Err(UnknownUser::User(user.to_owned())),
    };
    let mut supplementary = Vec::new();
    if group.is_empty() {
        if let Some(p) = &entry {
            let member = |list: &str| list.split(',').any(|m| m == p.name);
            supplementary.extend(
                groups(group_text).filter(|(_, _, list)| member(list)).map(|(_, gid, _)| gid),
            );
        }
    } else {
        found.gid = group_id(group, group_text)?;
    }
    for group in add {
        supplementary.push(group_id(group, group_text)?);
    }
    found.groups.push(found.gid);
    for gid in supplementary {
        if !found.groups.contains(&gid) {
            found.groups.push(gid);
        }
    }
    if found.home.is_empty() {
        "/".clone_into(&mut found.home);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\nweb:x:33:34::/srv:\nbad\n";
    const GROUP: &str = "root:x:0:\naudio:x:29:web,root\nweb:x:34:\n";

    fn ids(spec: &str, add: &[&str]) -> Result<(u32, u32, Vec<u32>), UnknownUser> {
        let add: Vec<String> = add.iter().map(|a| (*a).to_owned()).collect();
        resolve(spec, &add, PASSWD, GROUP).map(|i| (i.uid, i.gid, i.groups))
    }

    #[test]
    fn users_and_groups_resolve_by_name_and_number() {
        assert_eq!(ids("", &[]), Ok((0, 0, vec![0, 29])));
        assert_eq!(ids("web", &[]), Ok((33, 34, vec![34, 29])));
        assert_eq!(ids("33", &["10"]), Ok((33, 34, vec![34, 29, 10])));
        assert_eq!(ids("web:audio", &[]), Ok((33, 29, vec![29])));
        assert_eq!(ids("1000:1000", &[]), Ok((1000, 1000, vec![1000])));
        assert_eq!(ids("1000", &[]), Ok((1000, 0, vec![0])));
    }

    #[test]
    fn unknown_names_have_the_texts_that_tools_match() {
        let text = |spec: &str| ids(spec, &[]).unwrap_err().to_string();
        assert_eq!(text("nope"), "unable to find user nope: no matching entries in passwd file");
        assert_eq!(text("0:nope"), "unable to find group nope: no matching entries in group file");
        assert_eq!(ids("4294967296", &[]), Err(UnknownUser::Range));
    }
}
