//! The table of endpoints: method, pattern, and the version that brought each.
//! Who serves them is the daemon's business; the CLI reads it to know what a
//! daemon of some version lacks.

/// One endpoint. A pattern's `{x}` holds one segment, `{x...}` any number of
/// them (names of images contain slashes).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint {
    /// What handlers are registered under.
    pub name: &'static str,
    /// The HTTP method.
    pub method: &'static str,
    /// The path below the version.
    pub pattern: &'static str,
    /// The minor version (of major 1) from which on it is served.
    pub since: u16,
}

macro_rules! endpoints {
    ($($name:ident $method:ident $pattern:literal $since:literal;)*) => {
        /// Every endpoint, by the name of its operation.
        pub const ENDPOINTS: &[Endpoint] = &[$(Endpoint {
            name: stringify!($name),
            method: stringify!($method),
            pattern: $pattern,
            since: $since,
        }),*];
    };
}

endpoints! {
    SystemPing GET "/_ping" 0;
    SystemPingHead HEAD "/_ping" 0;
    SystemVersion GET "/version" 0;
    SystemInfo GET "/info" 0;
    SystemEvents GET "/events" 0;
    SystemDataUsage GET "/system/df" 0;
    SystemAuth POST "/auth" 0;

    ContainerList GET "/containers/json" 0;
    ContainerCreate POST "/containers/create" 0;
    ContainerPrune POST "/containers/prune" 25;
    ContainerInspect GET "/containers/{name}/json" 0;
    ContainerTop GET "/containers/{name}/top" 0;
    ContainerLogs GET "/containers/{name}/logs" 0;
    ContainerChanges GET "/containers/{name}/changes" 0;
    ContainerExport GET "/containers/{name}/export" 0;
    ContainerStats GET "/containers/{name}/stats" 0;
    ContainerResize POST "/containers/{name}/resize" 0;
    ContainerStart POST "/containers/{name}/start" 0;
    ContainerStop POST "/containers/{name}/stop" 0;
    ContainerRestart POST "/containers/{name}/restart" 0;
    ContainerKill POST "/containers/{name}/kill" 0;
    ContainerPause POST "/containers/{name}/pause" 0;
    ContainerUnpause POST "/containers/{name}/unpause" 0;
    ContainerUpdate POST "/containers/{name}/update" 0;
    ContainerRename POST "/containers/{name}/rename" 0;
    ContainerWait POST "/containers/{name}/wait" 0;
    ContainerAttach POST "/containers/{name}/attach" 0;
    ContainerArchive GET "/containers/{name}/archive" 0;
    ContainerArchiveInfo HEAD "/containers/{name}/archive" 0;
    PutContainerArchive PUT "/containers/{name}/archive" 0;
    ContainerDelete DELETE "/containers/{name}" 0;

    ContainerExec POST "/containers/{name}/exec" 0;
    ExecStart POST "/exec/{name}/start" 0;
    ExecResize POST "/exec/{name}/resize" 0;
    ExecInspect GET "/exec/{name}/json" 0;

    ImageList GET "/images/json" 0;
    ImageCreate POST "/images/create" 0;
    ImageLoad POST "/images/load" 0;
    ImagePrune POST "/images/prune" 25;
    ImageGetAll GET "/images/get" 0;
    ImageSearch GET "/images/search" 0;
    ImageInspect GET "/images/{name...}/json" 0;
    ImageHistory GET "/images/{name...}/history" 0;
    ImageGet GET "/images/{name...}/get" 0;
    ImagePush POST "/images/{name...}/push" 0;
    ImageTag POST "/images/{name...}/tag" 0;
    ImageDelete DELETE "/images/{name...}" 0;
    ImageCommit POST "/commit" 0;
    DistributionInspect GET "/distribution/{name...}/json" 0;

    BuildPrune POST "/build/prune" 31;

    NetworkList GET "/networks" 0;
    NetworkListSlash GET "/networks/" 0;
    NetworkInspect GET "/networks/{id...}" 0;
    NetworkCreate POST "/networks/create" 0;
    NetworkConnect POST "/networks/{id...}/connect" 0;
    NetworkDisconnect POST "/networks/{id...}/disconnect" 0;
    NetworkPrune POST "/networks/prune" 25;
    NetworkDelete DELETE "/networks/{id...}" 0;

    VolumeList GET "/volumes" 0;
    VolumeInspect GET "/volumes/{name...}" 0;
    VolumeCreate POST "/volumes/create" 0;
    VolumePrune POST "/volumes/prune" 25;
    VolumeDelete DELETE "/volumes/{name...}" 0;
}

/// The endpoint with this operation name.
pub fn endpoint(name: &str) -> Option<&'static Endpoint> {
    ENDPOINTS.iter().find(|e| e.name == name)
}

/// Matches `path` (decoded, version removed) with `pattern`; the values of its
/// placeholders in order.
pub fn matches(pattern: &str, path: &str) -> Option<Vec<String>> {
    let mut values = Vec::new();
    match_from(pattern, path, &mut values).then_some(values)
}

fn match_from(pattern: &str, path: &str, values: &mut Vec<String>) -> bool {
    let Some(open) = pattern.find('{') else { return pattern == path };
    let Some(close) = pattern[open..].find('}').map(|at| open + at) else { return false };
    let Some(rest) = path.strip_prefix(&pattern[..open]) else { return false };
    let tail = &pattern[close + 1..];
    let many = pattern[open..close].ends_with("...");
    // The longest value that lets the tail match: names may themselves end in
    // what the tail begins with.
    let limit = if many { rest.len() } else { rest.find('/').unwrap_or(rest.len()) };
    for end in (1..=limit).rev() {
        if !rest.is_char_boundary(end) || (!tail.is_empty() && !rest[end..].starts_with('/')) {
            continue;
        }
        let depth = values.len();
        values.push(rest[..end].to_owned());
        if match_from(tail, &rest[end..], values) {
            return true;
        }
        values.truncate(depth);
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_slashes_match_inside_a_path() {
        let m = |p, s| matches(p, s).map(|v| v.join("|"));
        assert_eq!(m("/images/{name...}/json", "/images/a/b/c/json"), Some("a/b/c".into()));
        assert_eq!(m("/images/{name...}/json", "/images/json/json"), Some("json".into()));
        assert_eq!(m("/images/{name...}/json", "/images/json"), None);
        assert_eq!(m("/images/{name...}", "/images/a/b:c"), Some("a/b:c".into()));
        assert_eq!(m("/containers/{name}/json", "/containers/a/b/json"), None);
        assert_eq!(m("/containers/{name}/json", "/containers/a/json"), Some("a".into()));
        assert_eq!(m("/containers/{name}", "/containers/"), None);
    }

    #[test]
    fn every_operation_has_its_own_name() {
        for (at, e) in ENDPOINTS.iter().enumerate() {
            assert!(ENDPOINTS[at + 1..].iter().all(|other| other.name != e.name), "{}", e.name);
        }
    }
}
