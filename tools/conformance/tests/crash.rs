//! kill -9 of either daemon at any step while an image moves: what was acknowledged is there and
//! runs, the command can be given again, and nothing half-made stays behind.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lab::{Engine, Finished, Kind, Registry, RegistryKind, wait_until};
use supervisor::{Config, Context, State, gc};

const LONG: Duration = Duration::from_secs(60);
/// What the image that moves says of itself.
const SUM: &[&str] = &["sh", "-c", "cat /one /two | sha256sum"];
/// More steps than anything has.
const MANY: u32 = 400;

/// Who dies, and whose steps are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    /// ferry-containerd at a step of its own.
    Containerd,
    /// ferryd at a step of its own.
    Ferryd,
    /// ferryd at a step of ferry-containerd's.
    FerrydBelow,
}

/// Something that is done to an image while somebody dies.
struct Work {
    name: &'static str,
    before: &'static [&'static [&'static str]],
    command: &'static [&'static str],
    /// The image that is there afterwards; empty: the product is gone.
    product: &'static str,
    after: &'static [&'static [&'static str]],
}

const LOAD: &[&str] = &["load", "-qi", "ARCHIVE"];

const WORKS: [Work; 6] = [
    Work {
        name: "pull",
        before: &[],
        command: &["pull", "-q", "REG/x/product:1"],
        product: "REG/x/product:1",
        after: &[],
    },
    Work { name: "load", before: &[], command: LOAD, product: "product:1", after: &[] },
    Work {
        name: "push",
        before: &[LOAD, &["tag", "product:1", "REG/y/product:1"]],
        command: &["push", "-q", "REG/y/product:1"],
        product: "REG/y/product:1",
        // It is there for whoever comes.
        after: &[
            &["rmi", "product:1", "REG/y/product:1"],
            &["pull", "-q", "REG/y/product:1"],
            &["run", "--rm", "REG/y/product:1", "true"],
        ],
    },
    Work {
        name: "commit",
        before: &[],
        command: &["commit", "changed", "product:2"],
        product: "product:2",
        after: &[],
    },
    Work { name: "rmi", before: &[LOAD], command: &["rmi", "product:1"], product: "", after: &[] },
    Work {
        name: "prune",
        before: &[LOAD],
        command: &["image", "prune", "-af"],
        product: "",
        after: &[],
    },
];

struct Stage {
    engine: Engine,
    registry: Registry,
    archive: PathBuf,
    sum: String,
    /// What the store holds between two works.
    rest: BTreeSet<String>,
}

impl Stage {
    /// An engine with busybox and a container that changed it; a registry and an archive that have
    /// an image of three layers.
    fn new() -> Stage {
        let engine = Engine::start(Kind::Ferryd, &[]).unwrap();
        let registry =
            Registry::start_inside(engine.netns().unwrap(), RegistryKind::Ferry).unwrap();
        let archive = engine.scratch().join("product.tar");
        let (sum, rest) = (String::new(), BTreeSet::new());
        let mut stage = Stage { engine, registry, archive, sum, rest };
        let write = |name: &str| format!("head -c 300000 /dev/urandom > /{name}");
        stage.docker(&["run", "--name", "first", "busybox", "sh", "-c", &write("one")]);
        stage.docker(&["commit", "first", "base:1"]);
        stage.docker(&["run", "--name", "changed", "base:1", "sh", "-c", &write("two")]);
        stage.docker(&["commit", "changed", "product:1"]);
        stage.docker(&["save", "-o", "ARCHIVE", "product:1"]);
        stage.docker(&["tag", "product:1", "REG/x/product:1"]);
        stage.docker(&["push", "-q", "REG/x/product:1"]);
        stage.sum = stage.docker(&[&["run", "--rm", "product:1"], SUM].concat());
        stage.docker(&["rmi", "product:1", "REG/x/product:1"]);
        stage.rest = stage.held().unwrap();
        stage
    }

    fn words(&self, words: &[&str]) -> Finished {
        let (registry, archive) =
            (self.registry.address().to_string(), self.archive.display().to_string());
        let words: Vec<String> = words
            .iter()
            .map(|word| word.replace("REG", &registry).replace("ARCHIVE", &archive))
            .collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.engine.stock_cli(&words).unwrap()
    }

    fn docker(&self, words: &[&str]) -> String {
        self.words(words).success().unwrap()
    }

    fn says(&self, words: &[&str]) -> Result<String, String> {
        self.words(words).success().map_err(|e| format!("{e:#}"))
    }

    fn arm(&self, victim: Victim, passage: u32) {
        let text = match victim {
            Victim::Containerd => format!("ferry-containerd any:{passage}"),
            Victim::Ferryd => format!("ferryd any:{passage}"),
            Victim::FerrydBelow => format!("ferry-containerd any:{passage} {}", self.engine.pid()),
        };
        let file = self.engine.fault_file();
        let fresh = file.with_extension("new");
        fs::write(&fresh, text).unwrap();
        fs::rename(fresh, file).unwrap();
    }

    /// Ends the watch; brings back who died. Whether somebody did.
    fn disarm(&mut self, victim: Victim) -> Result<bool, String> {
        let file = self.engine.fault_file();
        let died = fs::remove_file(&file).is_err();
        if died {
            fs::remove_file(file.with_extension("done")).map_err(|e| e.to_string())?;
        }
        if died && victim != Victim::Containerd {
            let gone = || self.engine.api("GET", "/_ping", &[], b"").is_err();
            wait_until("ferryd's end", LONG, gone).map_err(|e| e.to_string())?;
            self.engine.kill();
            self.engine.restart().map_err(|e| format!("{e:#}"))?;
        }
        // ferryd starts its ferry-containerd again by itself.
        let works = || self.words(&["run", "--rm", "busybox", "true"]).code == 0;
        wait_until("the daemons' return", LONG, works).map_err(|e| e.to_string())?;
        Ok(died)
    }

    /// Does the work with a kill in it. Whether there was one.
    fn cut(&mut self, work: &Work, victim: Victim, passage: u32) -> Result<bool, String> {
        if work.name == "push" {
            let netns = self.engine.netns().unwrap();
            self.registry = Registry::start_inside(netns, RegistryKind::Ferry).unwrap();
        }
        for words in work.before {
            self.says(words)?;
        }
        self.arm(victim, passage);
        let done = self.words(work.command);
        let died = self.disarm(victim)?;
        if !died && done.code != 0 {
            return Err(format!("nobody died: {done:?}"));
        }
        if done.code == 0 {
            self.look(work).map_err(|e| format!("acknowledged, and yet: {e}"))?;
        }
        self.look_at_rest()?;
        let again = self.words(work.command);
        let was_done = work.product.is_empty() && again.stderr.contains("No such image");
        if again.code != 0 && !was_done {
            return Err(format!("again: {again:?}"));
        }
        self.look(work).map_err(|e| format!("again: {e}"))?;
        for words in work.after {
            self.says(words)?;
        }
        self.clear()?;
        Ok(died)
    }

    /// Nothing is left of the works so far, and nothing else is gone.
    fn settled(&mut self) -> Result<(), String> {
        let held = self.held()?;
        if held == self.rest {
            return Ok(());
        }
        let more: Vec<_> = held.difference(&self.rest).collect();
        let less: Vec<_> = self.rest.difference(&held).collect();
        Err(format!("left behind: {more:?}, lost: {less:?}"))
    }

    /// The product is there and runs, or is gone.
    fn look(&self, work: &Work) -> Result<(), String> {
        if work.product.is_empty() {
            let found = self.words(&["image", "inspect", "product:1"]);
            return if found.code == 0 { Err(found.stdout) } else { Ok(()) };
        }
        let sum = self.says(&[&["run", "--rm", work.product], SUM].concat())?;
        if sum == self.sum { Ok(()) } else { Err(format!("{} says {sum}", work.product)) }
    }

    /// What was there before is there still.
    fn look_at_rest(&self) -> Result<(), String> {
        let said = self.says(&["run", "--rm", "busybox", "echo", "alive"])?;
        if said == "alive\n" { Ok(()) } else { Err(format!("busybox says {said}")) }
    }

    fn clear(&self) -> Result<(), String> {
        let listed = self.says(&["images", "-q", "--filter", "reference=*product*"])?;
        let more = self.says(&["images", "-q", "--filter", "reference=*/*/product*"])?;
        let dangling = self.says(&["images", "-q", "--filter", "dangling=true"])?;
        let all: BTreeSet<&str> = [&listed, &more, &dangling]
            .into_iter()
            .flat_map(|ids| ids.split_whitespace())
            .collect();
        if all.is_empty() {
            return Ok(());
        }
        let words: Vec<&str> = ["rmi", "-f"].into_iter().chain(all).collect();
        self.says(&words).map(drop)
    }

    /// Stops both daemons.
    fn stop(&mut self) -> Result<(), String> {
        self.engine.stop().map_err(|e| format!("{e:#}"))?;
        let gone = || self.engine.supervisor_pids().is_empty();
        wait_until("ferry-containerd's end", LONG, gone).map_err(|e| e.to_string())
    }

    /// Stops both daemons, looks at all that the store holds after a collection, and starts them.
    fn held(&mut self) -> Result<BTreeSet<String>, String> {
        let failed = |e: &dyn std::fmt::Display| format!("{e:#}");
        self.stop()?;
        let root = self.engine.scratch().join("data/containerd");
        let config = Config {
            root: root.clone(),
            state: self.engine.scratch().join("exec/containerd"),
            address: self.engine.scratch().join("none.sock"),
            ..Config::default()
        };
        let state = Arc::new(State::open(&config).map_err(|e| failed(&e))?);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(gc::collect(&state)).map_err(|e| failed(&e))?;
        let mut held: BTreeSet<String> =
            state.inconsistencies().map_err(|e| failed(&e))?.into_iter().collect();
        for (namespace, _) in state.namespaces().map_err(|e| failed(&e))? {
            let leases = state.leases(&Context::new(namespace)).map_err(|e| failed(&e))?;
            held.extend(leases.into_iter().map(|(id, _)| format!("lease {id}")));
        }
        drop((runtime, state));
        for folder in ["content/blobs/sha256", "content/ingest", "snapshots"] {
            let names = fs::read_dir(root.join(folder)).into_iter().flatten().flatten();
            held.extend(names.map(|n| format!("{folder}/{}", n.file_name().to_string_lossy())));
        }
        let own = fs::read_dir(self.engine.scratch().join("data")).into_iter().flatten().flatten();
        held.extend(own.map(|n| format!("data/{}", n.file_name().to_string_lossy())));
        self.engine.restart().map_err(|e| failed(&e))?;
        Ok(held)
    }
}

fn cut_at(
    stage: &mut Stage,
    work: &Work,
    (victim, passage): (Victim, u32),
    thorough: bool,
) -> Option<bool> {
    let (name, log) = (work.name, stage.engine.log().len());
    let cut = stage.cut(work, victim, passage);
    match cut.and_then(|died| if thorough { stage.settled().map(|()| died) } else { Ok(died) }) {
        Ok(died) => Some(died),
        Err(why) => {
            let said = stage.engine.log().get(log..).unwrap_or_default().to_owned();
            eprintln!("{name}, {victim:?} at {passage}: {why}\n{said}");
            None
        }
    }
}

#[test]
fn a_daemon_may_die_while_an_image_moves() {
    lab::require!("docker");
    let mut stage = Stage::new();
    let kills = [(Victim::Containerd, 4), (Victim::FerrydBelow, 7)];
    for (work, (victim, passage)) in WORKS.iter().zip(kills.into_iter().cycle()) {
        // Passages are counted from a daemon's start.
        stage.stop().and_then(|()| stage.engine.restart().map_err(|e| e.to_string())).unwrap();
        let done = cut_at(&mut stage, work, (victim, passage), false);
        assert_eq!(done, Some(true), "{} {victim:?} at {passage}", work.name);
    }
    assert_eq!(stage.settled(), Ok(()));
}

#[test]
#[ignore = "every step there is: most of an hour; its sample runs always"]
fn a_daemon_may_die_at_every_step_while_an_image_moves() {
    lab::require!("docker");
    let only = std::env::var("FERRY_CRASH").unwrap_or_default();
    let (mut kills, mut broken) = (0, Vec::new());
    for work in WORKS.iter().filter(|work| work.name.contains(only.as_str())) {
        for victim in [Victim::Containerd, Victim::FerrydBelow, Victim::Ferryd] {
            let mut stage = Stage::new();
            for passage in 1..MANY {
                match cut_at(&mut stage, work, (victim, passage), true) {
                    Some(true) => kills += 1,
                    Some(false) => {
                        eprintln!("{}: {victim:?} has {} steps", work.name, passage - 1);
                        break;
                    }
                    None => {
                        broken.push((work.name, victim, passage));
                        stage = Stage::new();
                    }
                }
            }
        }
    }
    eprintln!("{kills} kills");
    assert!(broken.is_empty(), "{broken:?}");
}
