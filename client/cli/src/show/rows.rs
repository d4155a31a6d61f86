//! The rows of each list: which cells, and what they hold.

use super::list::{Cell, Row};
use super::units::{ago, ellipsis, human_size, human_size_3, local_time, short_id};
use engine_api::{
    ContainerSummary, ImageHistoryItem, ImageSummary, NetworkInspect, Port, SearchResult,
    StringMap, Volume,
};

fn text(name: &'static str, value: impl Into<String>) -> (&'static str, Cell) {
    (name, Cell::Text(value.into()))
}

fn label_text(labels: &StringMap) -> String {
    labels.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(",")
}

/// Columns of `ps`.
pub(crate) const CONTAINER: &[(&str, &str)] = &[
    ("ID", "CONTAINER ID"),
    ("Names", "NAMES"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("CreatedAt", "CREATED AT"),
    ("RunningFor", "CREATED"),
    ("Ports", "PORTS"),
    ("State", "STATE"),
    ("Status", "STATUS"),
    ("Size", "SIZE"),
    ("Labels", "LABELS"),
    ("Mounts", "MOUNTS"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("Networks", "NETWORKS"),
    ("Platform", "PLATFORM"),
];

/// A row of `ps`.
pub(crate) fn container(c: &ContainerSummary, full: bool) -> Row {
    let id = if full { c.id.clone() } else { short_id(&c.id) };
    let names: Vec<&str> = c
        .names
        .iter()
        .map(|n| n.strip_prefix('/').unwrap_or(n))
        .filter(|n| full || !n.contains('/'))
        .collect();
    let image = match c.image.as_str() {
        "" => "<no image>".to_owned(),
        image if !full && image == c.image_id => short_id(image),
        image => image.to_owned(),
    };
    let command = if full { c.command.clone() } else { ellipsis(&c.command, 20) };
    let mounts: Vec<String> = c
        .mounts
        .iter()
        .map(|m| if m.name.is_empty() { m.source.clone() } else { m.name.clone() })
        .map(|m| if full { m } else { ellipsis(&m, 15) })
        .collect();
    let local = c.mounts.iter().filter(|m| m.driver == "local").count();
    let networks: Vec<&str> = c.network_settings.networks.keys().map(String::as_str).collect();
    let size = match c.size_root_fs {
        0 => human_size_3(c.size_rw as f64),
        whole => {
            format!("{} (virtual {})", human_size_3(c.size_rw as f64), human_size_3(whole as f64))
        }
    };
    Row {
        kind: "*formatter.ContainerContext",
        cells: vec![
            text("Command", crate::args::golang::quote(&command)),
            text("CreatedAt", local_time(c.created)),
            text("ID", id),
            text("Image", image),
            text("Labels", label_text(&c.labels)),
            text("LocalVolumes", local.to_string()),
            text("Mounts", mounts.join(",")),
            text("Names", names.join(",")),
            text("Networks", networks.join(",")),
            text("Ports", ports(&c.ports)),
            text("RunningFor", ago(c.created)),
            text("Size", size),
            text("State", c.state.clone()),
            text("Status", c.status.clone()),
        ],
        labels: c.labels.clone(),
    }
}

/// Ports as `ps` prints them: ranges joined, published ones with where.
pub(crate) fn ports(ports: &[Port]) -> String {
    let mut sorted: Vec<&Port> = ports.iter().collect();
    sorted.sort_by(|a, b| {
        let key = |p: &Port| (p.private_port, p.ip.clone(), p.public_port, p.kind.clone());
        key(a).cmp(&key(b))
    });
    let mut groups: Vec<(String, u16, u16, String)> = Vec::new();
    let mut single = Vec::new();
    for port in sorted {
        let mut key = port.kind.clone();
        if !port.ip.is_empty() {
            if port.public_port != port.private_port {
                let address = join_host(&port.ip, port.public_port);
                single.push(format!("{address}->{}/{}", port.private_port, port.kind));
                continue;
            }
            key = format!("{}/{}", port.ip, port.kind);
        }
        match groups.iter_mut().find(|g| g.3 == key && g.2 + 1 == port.private_port) {
            Some(group) => group.2 = port.private_port,
            None => groups.push((port.ip.clone(), port.private_port, port.private_port, key)),
        }
    }
    let mut all: Vec<String> = groups
        .into_iter()
        .map(|(ip, first, last, key)| {
            let kind = key.rsplit('/').next().unwrap_or_default().to_owned();
            let range = if first == last { first.to_string() } else { format!("{first}-{last}") };
            let published = if ip.is_empty() {
                String::new()
            } else {
                let ip = if ip.contains(':') { format!("[{ip}]") } else { ip };
                format!("{ip}:{range}->")
            };
            format!("{published}{range}/{kind}")
        })
        .collect();
    let number = |t: &str| {
        let inner = t.rsplit("->").next().unwrap_or(t);
        inner.split(['-', '/']).next().and_then(|n| n.parse::<u32>().ok()).unwrap_or(0)
    };
    all.extend(single);
    all.sort_by_key(|t| number(t));
    all.join(", ")
}

fn join_host(ip: &str, port: u16) -> String {
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

/// Columns of `images`.
pub(crate) const IMAGE: &[(&str, &str)] = &[
    ("ID", "IMAGE ID"),
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("Digest", "DIGEST"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("Size", "SIZE"),
    ("Containers", "CONTAINERS"),
    ("VirtualSize", "SIZE"),
    ("SharedSize", "SHARED SIZE"),
    ("UniqueSize", "UNIQUE SIZE"),
];

/// The rows of one image: one for each of its names.
pub(crate) fn images(image: &ImageSummary, full: bool, digests: bool) -> Vec<Row> {
    let none = || "<none>".to_owned();
    let mut names: Vec<(String, String, String)> = Vec::new();
    let by_digest: Vec<(String, String)> = image
        .repo_digests
        .iter()
        .flatten()
        .filter_map(|n| n.split_once('@'))
        .map(|(r, d)| (r.to_owned(), d.to_owned()))
        .collect();
    for name in image.repo_tags.iter().flatten().filter(|n| *n != "<none>:<none>") {
        let (repository, tag) = match name.rsplit_once(':') {
            Some((r, t)) if !t.contains('/') => (r.to_owned(), t.to_owned()),
            _ => (name.clone(), none()),
        };
        let found: Vec<String> =
            by_digest.iter().filter(|(r, _)| *r == repository).map(|(_, d)| d.clone()).collect();
        if digests && !found.is_empty() {
            names.extend(found.into_iter().map(|d| (repository.clone(), tag.clone(), d)));
        } else {
            names.push((repository, tag, none()));
        }
    }
    if names.is_empty() {
        names.extend(
            by_digest.into_iter().map(|(r, d)| (r, none(), if digests { d } else { none() })),
        );
    }
    if names.is_empty() {
        names.push((none(), none(), none()));
    }
    names.into_iter().map(|(r, t, d)| image_row(image, full, (r, t, d))).collect()
}

fn image_row(image: &ImageSummary, full: bool, name: (String, String, String)) -> Row {
    let id = if full { image.id.clone() } else { short_id(&image.id) };
    let known = |n: i64| if n == -1 { "N/A".to_owned() } else { n.to_string() };
    let size = image.size as f64;
    let (shared, unique) = match image.shared_size {
        -1 => ("N/A".to_owned(), "N/A".to_owned()),
        shared => (human_size(shared as f64), human_size(size - shared as f64)),
    };
    let since = ago(image.created);
    Row {
        kind: "*formatter.imageContext",
        cells: vec![
            text("Containers", known(image.containers)),
            text("CreatedAt", local_time(image.created)),
            text("CreatedSince", since),
            text("Digest", name.2),
            text("ID", id),
            text("Repository", name.0),
            text("SharedSize", shared),
            text("Size", human_size_3(size)),
            text("Tag", name.1),
            text("UniqueSize", unique),
            text("VirtualSize", human_size(size)),
        ],
        labels: image.labels.clone().unwrap_or_default(),
    }
}

/// Columns of `history`.
pub(crate) const HISTORY: &[(&str, &str)] = &[
    ("ID", "IMAGE"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedBy", "CREATED BY"),
    ("Size", "SIZE"),
    ("Comment", "COMMENT"),
];

/// A row of `history`.
pub(crate) fn history(item: &ImageHistoryItem, full: bool, human: bool) -> Row {
    let id = if full { item.id.clone() } else { short_id(&item.id) };
    let by = item.created_by.replace('\t', " ");
    let at = jiff::Timestamp::from_second(item.created).unwrap_or_default();
    let at = at.to_zoned(crate::show::units::zone());
    let stamp = at.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string().replace("+00:00", "Z");
    let since = match (human, item.created) {
        (false, _) => stamp.clone(),
        (true, second) if second <= 0 => "N/A".to_owned(),
        (true, second) => ago(second),
    };
    let size = if human { human_size_3(item.size as f64) } else { item.size.to_string() };
    Row {
        kind: "*image.historyContext",
        cells: vec![
            text("Comment", item.comment.clone()),
            text("CreatedAt", stamp),
            text("CreatedBy", if full { by } else { ellipsis(&by, 45) }),
            text("CreatedSince", since),
            text("ID", id),
            text("Size", size),
        ],
        labels: StringMap::new(),
    }
}

/// Columns of `network ls`.
pub(crate) const NETWORK: &[(&str, &str)] = &[
    ("ID", "NETWORK ID"),
    ("Name", "NAME"),
    ("Driver", "DRIVER"),
    ("Scope", "SCOPE"),
    ("IPv4", "IPV4"),
    ("IPv6", "IPV6"),
    ("Internal", "INTERNAL"),
    ("Labels", "LABELS"),
    ("CreatedAt", "CREATED AT"),
];

/// A row of `network ls`.
pub(crate) fn network(n: &NetworkInspect, full: bool) -> Row {
    let id = if full { n.id.clone() } else { short_id(&n.id) };
    let labels = n.labels.clone().unwrap_or_default();
    Row {
        kind: "*network.networkContext",
        cells: vec![
            text("CreatedAt", n.created.rfc3339().replace('T', " ").replace('Z', " +0000 UTC")),
            text("Driver", n.driver.clone()),
            text("ID", id),
            text("IPv4", n.enable_ipv4.to_string()),
            text("IPv6", n.enable_ipv6.to_string()),
            text("Internal", n.internal.to_string()),
            text("Labels", label_text(&labels)),
            text("Name", n.name.clone()),
            text("Scope", n.scope.clone()),
        ],
        labels,
    }
}

/// Columns of volumes.
pub(crate) const VOLUME: &[(&str, &str)] = &[
    ("Name", "VOLUME NAME"),
    ("Driver", "DRIVER"),
    ("Scope", "SCOPE"),
    ("Availability", "AVAILABILITY"),
    ("Group", "GROUP"),
    ("Links", "LINKS"),
    ("Mountpoint", "MOUNTPOINT"),
    ("Size", "SIZE"),
    ("Status", "STATUS"),
    ("Labels", "LABELS"),
];

/// A row of volumes.
pub(crate) fn volume(v: &Volume) -> Row {
    // Those are told of volumes of a cluster alone.
    let none = || "N/A".to_owned();
    let labels = v.labels.clone().unwrap_or_default();
    let usage = v.usage_data.as_ref();
    Row {
        kind: "*formatter.volumeContext",
        cells: vec![
            text("Availability", none()),
            text("Driver", v.driver.clone()),
            text("Group", none()),
            text("Labels", label_text(&labels)),
            text("Links", usage.map_or_else(none, |usage| usage.ref_count.to_string())),
            text("Mountpoint", v.mountpoint.clone()),
            text("Name", v.name.clone()),
            text("Scope", v.scope.clone()),
            text("Size", usage.map_or_else(none, |usage| human_size(usage.size as f64))),
            text("Status", none()),
        ],
        labels,
    }
}

/// Columns of `search`.
pub(crate) const HIT: &[(&str, &str)] = &[
    ("Name", "NAME"),
    ("Description", "DESCRIPTION"),
    ("StarCount", "STARS"),
    ("IsOfficial", "OFFICIAL"),
];

/// A row of `search`.
pub(crate) fn hit(hit: &SearchResult, full: bool, is_json: bool) -> Row {
    let description = hit.description.replace(['\n', '\r'], " ");
    let official = match (hit.is_official, is_json) {
        (official, true) => official.to_string(),
        (true, false) => "[OK]".to_owned(),
        (false, false) => String::new(),
    };
    Row {
        kind: "*registry.searchContext",
        cells: vec![
            text("Description", if full { description } else { ellipsis(&description, 45) }),
            text("IsOfficial", official),
            text("Name", hit.name.clone()),
            text("StarCount", hit.star_count.to_string()),
        ],
        labels: StringMap::new(),
    }
}
