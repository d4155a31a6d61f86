//! Shell completion: cobra's protocol, names asked live, and the scripts that
//! speak it.

use crate::args::{self, Refusal};
use crate::error::Result;
use crate::plugin;
use crate::session::{load_config, target, write_out};
use crate::spec::{Action, Command, Completes, Kind};
use crate::table::ROOT;
use engine_api::filters::Filters;
use engine_api::{ContainerSummary, ImageSummary, NetworkInspect};
use engine_client::{Client, ContextStore, Query};

/// What shells shall do beside the offered words.
const NO_FILES: u8 = 4;
const FILES: u8 = 0;

/// Answers `__complete WORD...`, the last word being what is typed now.
pub(crate) async fn run(_program: &str, words: &[String], described: bool) -> Result<()> {
    let (typed, before) = match words.split_last() {
        Some((typed, before)) => (typed.as_str(), before),
        None => ("", &[] as &[String]),
    };
    let (offers, directive) = offers(typed, before).await;
    let mut out = String::new();
    for (name, about) in offers.into_iter().filter(|(n, _)| n.starts_with(typed)) {
        let first = about.lines().next().unwrap_or_default();
        if described && !first.is_empty() {
            out.push_str(&format!("{name}\t{first}\n"));
        } else {
            out.push_str(&format!("{name}\n"));
        }
    }
    write_out(format!("{out}:{directive}\n").as_bytes());
    Ok(())
}

/// The plugin whose words are being typed, and the global flags before it: it completes them.
pub(crate) fn plugin(words: &[String]) -> Option<(plugin::Plugin, args::Matches)> {
    let (_, before) = words.split_last()?;
    let globals = args::globals(&ROOT, before).ok()?;
    let word = globals.rest.first().filter(|word| ROOT.child(word).is_none())?;
    Some((plugin::find(&globals.matches, word)?, globals.matches))
}

type Offers = (Vec<(String, String)>, u8);

async fn offers(typed: &str, before: &[String]) -> Offers {
    let Ok(globals) = args::globals(&ROOT, before) else { return (Vec::new(), NO_FILES) };
    let flags = globals.matches;
    // Follow the words to the command they name.
    let mut command: &'static Command = &ROOT;
    let mut at = 0;
    while let (Action::Group(_), Some(word)) = (command.action, globals.rest.get(at)) {
        match command.child(word) {
            Some(found) => command = found,
            None => return (Vec::new(), NO_FILES),
        }
        at += 1;
    }
    let rest = &globals.rest[at..];
    if typed.starts_with('-') && !rest.iter().any(|w| w == "--") {
        return (flag_names(command, typed), NO_FILES);
    }
    if let Some(previous) = rest.last().filter(|w| w.starts_with('-') && !w.contains('=')) {
        let taken = command.flags.iter().find(|f| {
            f.kind != Kind::Bool
                && (previous.strip_prefix("--") == Some(f.long)
                    || !previous.starts_with("--")
                        && f.short != '\0'
                        && previous.ends_with(f.short))
        });
        if let Some(flag) = taken {
            return flag_values(flag.long, &flags).await;
        }
    }
    if let Action::Group(commands) = command.action {
        let mut found: Vec<(String, String)> = commands
            .iter()
            .filter(|c| !c.hidden)
            .map(|c| (c.name.to_owned(), c.short.to_owned()))
            .collect();
        if command.name.is_empty() {
            found.extend(plugin::list(&flags));
            found.sort();
        }
        return (found, NO_FILES);
    }
    let count = match args::command(&ROOT, &globals.rest) {
        Ok(matches) => matches.args.len(),
        Err(Refusal::Arity(matches)) => matches.args.len(),
        Err(_) => rest.iter().filter(|w| !w.starts_with('-')).count(),
    };
    arguments(command.completes, count, &flags).await
}

fn flag_names(command: &Command, typed: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for flag in command.flags.iter().filter(|f| !f.hidden) {
        found.push((format!("--{}", flag.long), flag.help.to_owned()));
        if flag.short != '\0' && !typed.starts_with("--") {
            found.push((format!("-{}", flag.short), flag.help.to_owned()));
        }
    }
    found
}

/// Values of the flags that take one of a few words.
async fn flag_values(flag: &str, flags: &args::Matches) -> Offers {
    let words: &[&str] = match flag {
        "pull" => &["always", "missing", "never"],
        "restart" => &["always", "no", "on-failure", "unless-stopped"],
        "attach" => &["stdin", "stdout", "stderr"],
        "cgroupns" => &["host", "private"],
        "log-level" => &["debug", "info", "warn", "error", "fatal"],
        "signal" | "stop-signal" => {
            &["SIGHUP", "SIGINT", "SIGKILL", "SIGQUIT", "SIGSTOP", "SIGTERM", "SIGUSR1", "SIGUSR2"]
        }
        "env-file" | "label-file" | "cidfile" | "input" | "output" | "volume" | "mount" => {
            return (Vec::new(), FILES);
        }
        "network" | "net" => {
            let (mut found, directive) = arguments(Completes::Networks, 0, flags).await;
            found.extend([("host".into(), String::new()), ("none".into(), String::new())]);
            found.sort();
            found.dedup();
            return (found, directive);
        }
        "volumes-from" | "link" => return arguments(Completes::Containers, 0, flags).await,
        _ => &[],
    };
    (words.iter().map(|w| ((*w).to_owned(), String::new())).collect(), NO_FILES)
}

async fn arguments(kind: Completes, count: usize, flags: &args::Matches) -> Offers {
    let config = load_config(flags);
    let plain = |names: Vec<String>| names.into_iter().map(|n| (n, String::new())).collect();
    match kind {
        Completes::Files => return (Vec::new(), FILES),
        Completes::ImageThenFiles if count > 0 => return (Vec::new(), FILES),
        Completes::Shells => {
            return (plain(["bash", "zsh", "fish"].map(Into::into).to_vec()), NO_FILES);
        }
        Completes::Contexts => {
            let mut names: Vec<String> =
                ContextStore::new(config.folder()).list().into_iter().map(|c| c.name).collect();
            names.push("default".into());
            names.sort();
            return (plain(names), NO_FILES);
        }
        Completes::OneContainer | Completes::OneRunning | Completes::OneImage if count > 0 => {
            return (Vec::new(), NO_FILES);
        }
        _ => {}
    }
    // The daemon is asked if it answers; it is never started for this.
    let client = target(flags, &config).ok().and_then(|t| Client::new(&t.host, None).ok());
    let Some(client) = client else { return (Vec::new(), NO_FILES) };
    let names = match (kind, count) {
        (Completes::Networks, _) | (Completes::NetworkThenContainer, 0) => networks(&client).await,
        (Completes::NetworkThenContainer, 1) => containers(&client, &[]).await,
        (Completes::Images | Completes::OneImage | Completes::ImageThenFiles, _) => {
            images(&client).await
        }
        (Completes::Containers | Completes::OneContainer, _) => containers(&client, &[]).await,
        (Completes::Running | Completes::OneRunning, _) => containers(&client, &["running"]).await,
        (Completes::Stopped, _) => containers(&client, &["created", "exited"]).await,
        (Completes::Paused, _) => containers(&client, &["paused"]).await,
        (Completes::Anything, _) => {
            let mut all = containers(&client, &[]).await;
            all.extend(images(&client).await);
            all.extend(networks(&client).await);
            all
        }
        _ => Vec::new(),
    };
    (plain(names), NO_FILES)
}

async fn containers(client: &Client, states: &[&str]) -> Vec<String> {
    let filters = states.iter().fold(Filters::default(), |f, s| f.with("status", s));
    let query = Query::new().with("all", "1").with("filters", &filters.to_json());
    let found: Vec<ContainerSummary> =
        client.get("/containers/json", &query).await.unwrap_or_default();
    let name = |n: &String| n.trim_start_matches('/').to_owned();
    found.iter().filter_map(|c| c.names.first().map(name)).collect()
}

async fn images(client: &Client) -> Vec<String> {
    let found: Vec<ImageSummary> =
        client.get("/images/json", &Query::new()).await.unwrap_or_default();
    found.into_iter().flat_map(|i| i.repo_tags.unwrap_or_default()).collect()
}

async fn networks(client: &Client) -> Vec<String> {
    let found: Vec<NetworkInspect> =
        client.get("/networks", &Query::new()).await.unwrap_or_default();
    found.into_iter().map(|n| n.name).collect()
}

/// The script of a shell.
pub(crate) fn script(shell: &str, program: &str) -> Option<String> {
    let text = match shell {
        "bash" => include_str!("complete/bash.sh"),
        "zsh" => include_str!("complete/zsh.sh"),
        "fish" => include_str!("complete/fish.fish"),
        _ => return None,
    };
    Some(text.replace("PROGRAM", program))
}
