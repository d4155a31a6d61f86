//! The grammar: what the parser makes of words, whatever they are, and what the help pages
//! look like.

use cli::args::{self, Refusal};
use cli::table::ROOT;
use proptest::prelude::*;

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(ToOwned::to_owned).collect()
}

fn parse(line: &str) -> args::Matches {
    args::command(&ROOT, &words(line)).expect(line)
}

#[test]
fn shorthands_combine_and_take_their_value_in_any_form() {
    let m = parse("run -itd -p80:80 -e=B=2 --rm=false --name x -c 0x10 busybox sh -c ls");
    assert!(m.on("interactive") && m.on("tty") && m.on("detach") && !m.on("rm"));
    assert_eq!(m.texts("publish"), ["80:80"]);
    assert_eq!(m.texts("env"), ["B=2"]);
    assert_eq!((m.text("name"), m.number("cpu-shares")), ("x", 16));
    assert_eq!(m.args, ["busybox", "sh", "-c", "ls"]);
}

#[test]
fn flags_end_at_the_image_but_not_at_a_containers_name() {
    assert_eq!(parse("run busybox --rm").args, ["busybox", "--rm"]);
    assert!(!parse("run busybox --rm").on("rm"));
    assert!(parse("rm a -f").on("force"));
    assert_eq!(parse("rm a -- -f").args, ["a", "-f"]);
    assert_eq!(parse("run -- busybox ls").args, ["busybox", "ls"]);
}

#[test]
fn hidden_names_mean_the_flag_that_they_stand_for() {
    assert_eq!(parse("run --net host --net-alias a busybox").texts("network"), ["host"]);
    assert_eq!(parse("stop --time 3 x").number("timeout"), 3);
    assert_eq!(parse("container ps -a").path, ["container", "ls"]);
}

#[test]
fn the_first_mistake_is_the_one_that_is_told() {
    let Err(Refusal::Flag { message, .. }) = args::command(&ROOT, &words("run -m abc -e= busybox"))
    else {
        panic!("accepted");
    };
    assert_eq!(message, "invalid argument \"abc\" for \"-m, --memory\" flag: invalid size: 'abc'");
    assert!(matches!(args::command(&ROOT, &words("rm")), Err(Refusal::Arity(_))));
    assert!(matches!(args::command(&ROOT, &words("container x")), Err(Refusal::Unknown { .. })));
}

#[test]
fn every_flag_of_the_table_has_a_name_of_its_own_and_a_purpose() {
    fn walk(command: &'static cli::spec::Command, path: &str) {
        let mut names: Vec<&str> = command.flags.iter().map(|f| f.long).collect();
        let mut shorts: Vec<char> =
            command.flags.iter().map(|f| f.short).filter(|c| *c != '\0').collect();
        let (count, letters) = (names.len(), shorts.len());
        names.sort_unstable();
        names.dedup();
        shorts.sort_unstable();
        shorts.dedup();
        assert_eq!((names.len(), shorts.len()), (count, letters), "{path} has a flag twice");
        for flag in command.flags.iter().filter(|f| !f.hidden) {
            assert!(!flag.help.is_empty(), "{path} --{} says nothing", flag.long);
        }
        for child in command.children() {
            walk(child, &format!("{path} {}", child.name));
        }
    }
    walk(&ROOT, "");
}

proptest! {
    #[test]
    fn no_words_make_the_parser_panic(
        line in proptest::collection::vec("(run|ps|rm|-[a-z]{0,3}|--[a-z-]{0,9}(=.{0,4})?|.{0,6})", 0..8)
    ) {
        let _ = args::command(&ROOT, &line);
        let _ = args::globals(&ROOT, &line);
    }

    #[test]
    fn what_follows_the_image_stays_as_it_was(tail in proptest::collection::vec(".{1,8}", 0..5)) {
        let mut line = words("run busybox");
        line.extend(tail.iter().cloned());
        let matches = args::command(&ROOT, &line).expect("flags end at the image");
        prop_assert_eq!(&matches.args[1..], &tail[..]);
    }
}
