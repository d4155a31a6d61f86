//! Beside an administrator's firewall: containers reach each other, `info` names what can't be
//! mended, and a daemon that ended in order leaves no rule behind unless a container still runs.

use std::time::Duration;

use lab::{Engine, Kind, wait_until};

fn rules(engine: &Engine) -> String {
    engine.netns().unwrap().run("nft", &["list", "ruleset"]).unwrap()
}

fn warnings(engine: &Engine) -> String {
    let words = ["info", "--format", "{{json .Warnings}}"];
    engine.stock_cli(&words).unwrap().success().unwrap()
}

fn fetches(engine: &Engine, address: &str) -> bool {
    // Not wget: a static one may fail at looking up even an address.
    let ask =
        format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 5 {address} 80 | grep -q HTTP/1");
    engine.stock_cli(&["run", "--rm", "busybox", "sh", "-c", &ask]).unwrap().code == 0
}

#[test]
fn containers_talk_and_an_orderly_end_leaves_no_rule_unless_a_container_runs() {
    lab::require!("docker");
    let mut engine = Engine::start(Kind::Ferryd, &[]).unwrap();
    let nft = |engine: &Engine, line: &str| {
        engine.netns().unwrap().run("nft", &[line]).unwrap();
    };
    engine.netns().unwrap().run("iptables-nft", &["-P", "FORWARD", "DROP"]).unwrap();
    let server = ["run", "-d", "--name", "server", "busybox", "httpd", "-f", "-p", "80", "-h", "/"];
    engine.stock_cli(&server).unwrap().success().unwrap();
    let address = ["inspect", "-f", "{{.NetworkSettings.IPAddress}}", "server"];
    let address = engine.stock_cli(&address).unwrap().success().unwrap().trim().to_owned();
    let beside = |engine: &Engine| {
        wait_until("a connection", Duration::from_secs(60), || fetches(engine, &address)).unwrap();
    };
    beside(&engine);

    let drops =
        "table inet mine { chain fw { type filter hook forward priority 0; policy drop; }; }";
    nft(&engine, drops);
    let limit = Duration::from_secs(60);
    wait_until("a warning", limit, || warnings(&engine).contains("nft 'insert rule inet mine fw"))
        .unwrap();
    let text: Vec<String> = serde_json::from_str(&warnings(&engine)).unwrap();
    let line = text.iter().find_map(|one| one.split('\'').nth(1)).unwrap();
    nft(&engine, line);
    wait_until("no warning", limit, || !warnings(&engine).contains("insert rule")).unwrap();
    beside(&engine);

    // The container lives on, and nothing is taken from it.
    engine.stop().unwrap();
    assert!(rules(&engine).contains("chain FORWARD") && rules(&engine).contains("\"ferry*\""));
    engine.restart().unwrap();
    beside(&engine);
    nft(&engine, "delete table inet mine");
    engine.stock_cli(&["rm", "-f", "server"]).unwrap().success().unwrap();
    wait_until("an end without rules", limit, || {
        engine.stop().unwrap();
        let left = rules(&engine);
        let none = !left.contains("\"ferry*\"") && !left.contains("masquerade");
        if !none {
            // The removal was still under way.
            engine.restart().unwrap();
        }
        none
    })
    .unwrap();
    engine.restart().unwrap();
    // It answers once its networks are there.
    assert_eq!(warnings(&engine).trim(), "null");
    assert!(rules(&engine).contains("masquerade"));
}

#[test]
fn without_iptables_no_rule_is_kept() {
    lab::require!("docker");
    let engine = Engine::start(Kind::Ferryd, &["--iptables=false"]).unwrap();
    engine.stock_cli(&["run", "--rm", "busybox", "true"]).unwrap().success().unwrap();
    assert!(!rules(&engine).contains("ferry"));
}
