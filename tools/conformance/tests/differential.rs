//! The same session, word for word, by the stock CLI and by `ferry`, on the stock dockerd
//! and on ferryd: outputs and exit codes are equal but for ids and times.

use lab::{Engine, Finished, Kind};

/// Every line is one command; the state that it leaves is what the next one finds.
const SESSION: &[&str] = &[
    "images",
    "images -q --no-trunc",
    "image inspect -f {{.Os}}/{{.Architecture}} busybox",
    "history busybox",
    "history --no-trunc --human=false busybox",
    "image inspect -f {{.Size}} busybox",
    "tag busybox other:1",
    "images --format {{.Repository}}:{{.Tag}} other",
    "rmi other:1",
    "run --rm busybox echo hello",
    "run --rm -e A=b --entrypoint env busybox",
    "run --rm -w /tmp busybox pwd",
    "run --rm -u nobody busybox id",
    "run --rm --hostname h1 busybox hostname",
    "run --rm --uts host busybox sh -c echo\\ $HOSTNAME\\ |\\ wc\\ -c",
    "run --rm --mac-address 02:42:ac:11:00:99 busybox cat /sys/class/net/eth0/address",
    "run --rm --mac-address x busybox true",
    "run --rm --ip 172.17.0.50 busybox true",
    "run --rm --ip6 fd00::5 busybox true",
    "run --rm --network-alias x busybox true",
    "network create --subnet 10.60.0.0/24 n60",
    "run --rm --network n60 --ip 10.60.0.9 busybox hostname -i",
    "run --rm --network n60 --ip 10.61.0.9 busybox true",
    "run --rm --network name=n60,ip=10.60.0.9,mac-address=02:42:ac:11:00:98 busybox cat /sys/class/net/eth0/address",
    "network rm n60",
    "run --rm busybox sh -c exit\\ 3",
    "run --rm busybox nope",
    "run --rm busybox /etc",
    "run --rm -v /nope/x:relative busybox true",
    "run --name c1 -d busybox sleep 1000",
    "run --name c1 busybox true",
    "ps",
    "ps -q --no-trunc",
    "ps --format {{.Names}}\\ {{.Image}}\\ {{.Command}}\\ {{.State}}",
    "inspect -f {{.State.Status}}\\ {{.Config.Image}}\\ {{.HostConfig.NetworkMode}} c1",
    "inspect -f {{json\\ .Config.Cmd}} c1",
    "inspect nope",
    "top c1 -o args",
    "exec c1 echo in",
    "exec c1 nope",
    "exec -w /tmp -e X=y c1 sh -c pwd;echo\\ $X",
    "exec nope true",
    "pause c1",
    "ps --format {{.Status}} --filter status=paused",
    "exec c1 true",
    "unpause c1",
    "unpause c1",
    "rename c1 c2",
    "rename nope x",
    "rm c2",
    "stop -t 1 c2",
    "start c2",
    "restart -t 0 c2",
    "kill c2",
    "kill c2",
    "wait c2",
    "inspect -f {{.State.ExitCode}}\\ {{.State.Running}} c2",
    "ps -a --format {{.Names}}\\ {{.State}}",
    "ps -as",
    "inspect -s -f {{.SizeRw}}\\ {{.SizeRootFs}} c2",
    "rm c2",
    "rm c2",
    "create --name c3 busybox sh -c echo\\ one;sleep\\ 0.2;echo\\ two\\ >&2",
    "start -a c3",
    "logs c3",
    "logs --tail 1 c3",
    "logs nope",
    "container prune -f --filter label=none",
    "run --name c4 busybox sh -c head\\ -c\\ 100000\\ /dev/zero\\ >/a;\\ ln\\ /a\\ /b;\\ ln\\ -s\\ a\\ c;\\ rm\\ /etc/group",
    "ps -as --format {{.Names}}\\ {{.Size}}",
    "rm -f c3 c4",
    "run --gpus all busybox true",
    "run --tmpfs /t:x busybox true",
    "run --log-opt max-size=x busybox true",
    "run --log-driver nope busybox true",
    "run --pull never --platform linux/arm64 busybox true",
    "run --memory 3m busybox true",
    "run --cpus abc busybox true",
    "run --nope busybox",
    "run",
    "run -p abc busybox true",
    "run --name a/b busybox true",
    "run --network nope busybox true",
    "run --restart always --rm busybox true",
    "ps --filter nope=1",
    "inspect --nope x",
    "network ls --format {{.Name}}\\ {{.Driver}}",
    "network inspect nope",
    "run --pull never missing:1",
    "image rm missing:1",
    "tag missing:1 x",
    "save missing:1 -o /dev/null",
    "container ls -aq",
];

/// The session, then everything that is refused.
fn lines() -> impl Iterator<Item = &'static str> {
    let bad = include_str!("differential/bad.txt").lines().filter(|line| !line.starts_with('#'));
    SESSION.iter().copied().chain(bad)
}

fn words(line: &str) -> Vec<String> {
    let line = line.replace("\\ ", "\u{1}");
    line.split(' ').map(|word| word.replace('\u{1}', " ")).collect()
}

fn play(engine: &Engine, with_ferry: bool) -> Vec<Finished> {
    // Where the engine's files are is its own: as it is, and as part of an address.
    let scratch = engine.scratch().path().display().to_string();
    let encoded = scratch.replace('/', "%2F");
    let played = lines()
        .map(|line| {
            let words = words(line);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let done = if with_ferry { engine.ferry(&words) } else { engine.stock_cli(&words) };
            let mut done = done.unwrap();
            for text in [&mut done.stdout, &mut done.stderr] {
                *text = text.replace(&scratch, "<scratch>").replace(&encoded, "<scratch>");
            }
            done
        })
        .collect();
    // Failed runs leave a created container; the next player begins without.
    let left = engine.stock_cli(&["ps", "-aq"]).unwrap().stdout;
    let ids: Vec<&str> = left.split_whitespace().collect();
    engine.stock_cli(&[&["rm", "-f"], ids.as_slice()].concat()).unwrap();
    played
}

fn comparable(done: &Finished) -> (i32, String, String) {
    let own_name = |text: &str| {
        conformance::normal(text)
            .replace("ferry: ", "docker: ")
            .replace("ferry ", "docker ")
            .replace("'ferry", "'docker")
    };
    (done.code, own_name(&done.stdout), own_name(&done.stderr))
}

fn compare(what: &str, reference: &[Finished], seen: &[Finished]) -> Vec<String> {
    let mut different = Vec::new();
    for ((line, reference), seen) in lines().zip(reference).zip(seen) {
        let (expected, got) = (comparable(reference), comparable(seen));
        if expected != got {
            different.push(format!("{what}: {line}\n  expected {expected:?}\n  got      {got:?}"));
        }
    }
    different
}

fn assert_same(different: &[String]) {
    assert!(different.is_empty(), "{} differences:\n{}", different.len(), different.join("\n"));
}

#[test]
fn ferry_reads_as_the_stock_cli_on_a_stock_dockerd() {
    lab::require!("dockerd", "docker", "containerd", "runc");
    let dockerd = Engine::start(Kind::Dockerd, &[]).unwrap();
    let reference = play(&dockerd, false);
    assert_same(&compare("ferry on dockerd", &reference, &play(&dockerd, true)));
}

#[test]
fn ferryd_reads_as_a_stock_dockerd_to_both_clients() {
    lab::require!("dockerd", "docker", "containerd", "runc");
    let dockerd = Engine::start(Kind::Dockerd, &[]).unwrap();
    let reference = play(&dockerd, false);
    drop(dockerd);
    let ferryd = Engine::start(Kind::Ferryd, &[]).unwrap();
    let mut different = compare("docker on ferryd", &reference, &play(&ferryd, false));
    different.extend(compare("ferry on ferryd", &reference, &play(&ferryd, true)));
    assert_same(&different);
}
