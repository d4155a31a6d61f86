//! The state table, and what must hold whatever happens in whatever order.

use proptest::prelude::*;

use super::*;
use crate::lifecycle::restart::Policy;

type M = Machine<u32>;

fn machine(policy: Policy, auto_remove: bool) -> M {
    let rules =
        Rules { auto_remove, policy, stop_signal: 0, stop_timeout: Some(Duration::from_secs(10)) };
    Machine::new(State::default(), rules)
}

fn say(m: &mut M, message: Message<u32>) -> Outputs<u32> {
    m.on(Input::Message(message), 1)
}

fn replies(out: &[Output<u32>]) -> Vec<(u32, Answer)> {
    let pick = |o: &Output<u32>| match o {
        Output::Reply(token, answer) => Some((*token, answer.clone())),
        _ => None,
    };
    out.iter().filter_map(pick).collect()
}

fn events(out: &[Output<u32>]) -> Vec<Event> {
    let pick = |o: &Output<u32>| match o {
        Output::Event(event) => Some(event.clone()),
        _ => None,
    };
    out.iter().filter_map(pick).collect()
}

fn run(m: &mut M, pid: u32) -> Outputs<u32> {
    let mut out = say(m, Message::Start(1));
    if m.start_held {
        out.extend(m.on(Input::TornDown(m.state.generation), 1));
    }
    let generation = m.state.generation;
    out.extend(m.on(Input::Created { generation, pid, detached_sink: false }, 1));
    out.extend(m.on(Input::Started { generation, at: 1 }, 1));
    out
}

fn exit(m: &mut M, pid: u32, code: i64) -> Outputs<u32> {
    m.on(Input::Exited { pid, code, at: 2, oom: false }, 2)
}

#[test]
fn a_run_with_auto_remove_tells_start_disconnect_die_destroy() {
    let mut m = machine(Policy::No, true);
    assert_eq!(events(&run(&mut m, 7)), [Event::Start]);
    say(&mut m, Message::Wait(Condition::Removed, 9));
    let out = exit(&mut m, 7, 3);
    assert_eq!(events(&out), [Event::Disconnect, Event::Die(3, 0), Event::Destroy]);
    assert_eq!(replies(&out), [(9, Ok(3))]);
    assert_eq!(replies(&say(&mut m, Message::Start(2))), [(2, Err(Refusal::Gone))]);
}

#[test]
fn stop_sends_its_signal_then_kills_and_answers_after_die() {
    let mut m = machine(Policy::Always, false);
    run(&mut m, 7);
    let out = say(&mut m, Message::Stop(None, Some(Some(Duration::ZERO)), 2));
    assert_eq!(events(&out), [Event::Kill(15)]);
    let timer = m.timer;
    assert_eq!(events(&m.on(Input::StopExpired(timer), 1)), [Event::Kill(9)]);
    assert_eq!(replies(&say(&mut m, Message::Stop(None, None, 3))), []);
    let out = exit(&mut m, 7, 137);
    assert_eq!(events(&out), [Event::Disconnect, Event::Stop, Event::Die(137, 0)]);
    assert_eq!(replies(&out), [(2, Ok(0)), (3, Ok(0))]);
    assert_eq!(m.state.phase, Phase::Exited);
}

#[test]
fn restart_stops_and_starts_and_tells_it_last() {
    let mut m = machine(Policy::No, false);
    run(&mut m, 7);
    say(&mut m, Message::Restart(None, None, 2));
    let out = exit(&mut m, 7, 0);
    assert!(replies(&out).is_empty() && m.start_held);
    let generation = m.state.generation;
    let out = m.on(Input::TornDown(generation), 2);
    assert!(matches!(out[..], [Output::Start(g)] if g == generation));
    m.on(Input::Created { generation, pid: 8, detached_sink: false }, 2);
    let out = m.on(Input::Started { generation, at: 3 }, 3);
    assert_eq!(events(&out), [Event::Start, Event::Restart]);
    assert_eq!(replies(&out), [(2, Ok(0))]);
}

#[test]
fn an_exit_before_the_start_was_answered_is_told_after_it() {
    let mut m = machine(Policy::No, false);
    say(&mut m, Message::Start(1));
    let generation = m.state.generation;
    m.on(Input::Created { generation, pid: 7, detached_sink: false }, 1);
    assert!(exit(&mut m, 7, 5).is_empty());
    let out = m.on(Input::Started { generation, at: 1 }, 1);
    assert_eq!(events(&out), [Event::Start, Event::Disconnect, Event::Die(5, 0)]);
}

#[test]
fn an_exit_of_another_pid_changes_nothing() {
    let mut m = machine(Policy::No, false);
    run(&mut m, 7);
    assert!(exit(&mut m, 6, 1).is_empty());
    assert_eq!(m.state.phase, Phase::Running);
}

#[test]
fn a_policy_restarts_and_a_kill_by_the_user_ends_it() {
    let mut m = machine(Policy::Always, false);
    run(&mut m, 7);
    let out = exit(&mut m, 7, 1);
    assert_eq!(m.state.phase, Phase::Restarting);
    assert!(
        out.iter()
            .any(|o| matches!(o, Output::RestartTimer(_, d) if *d == Duration::from_millis(100)))
    );
    assert_eq!(replies(&say(&mut m, Message::Start(2))), [(2, Err(Refusal::NotModified))]);
    assert_eq!(
        replies(&say(&mut m, Message::Remove(false, false, 3))),
        [(3, Err(Refusal::RemoveRestarting))]
    );
    assert_eq!(replies(&say(&mut m, Message::Kill(9, 4))), [(4, Ok(0))]);
    assert_eq!(m.state.phase, Phase::Exited);
}

#[test]
fn refusals_follow_the_state_table() {
    let mut m = machine(Policy::No, false);
    assert_eq!(
        replies(&say(&mut m, Message::Stop(None, None, 1))),
        [(1, Err(Refusal::NotModified))]
    );
    assert_eq!(replies(&say(&mut m, Message::Kill(9, 1))), [(1, Err(Refusal::NotRunning))]);
    assert_eq!(replies(&say(&mut m, Message::Pause(1))), [(1, Err(Refusal::NotRunning))]);
    assert_eq!(replies(&say(&mut m, Message::Wait(Condition::NotRunning, 1))), [(1, Ok(0))]);
    run(&mut m, 7);
    assert_eq!(replies(&say(&mut m, Message::Unpause(1))), [(1, Err(Refusal::NotPaused))]);
    say(&mut m, Message::Pause(1));
    m.on(Input::Frozen(true, Ok(()), 1), 1);
    assert_eq!(replies(&say(&mut m, Message::Start(1))), [(1, Err(Refusal::StartPaused))]);
    assert_eq!(
        replies(&say(&mut m, Message::Remove(false, false, 1))),
        [(1, Err(Refusal::RemovePaused))]
    );
    let out = say(&mut m, Message::Stop(None, None, 2));
    assert!(out.iter().any(|o| matches!(o, Output::Thaw)));
}

#[test]
fn of_parallel_forced_removals_one_wins() {
    let mut m = machine(Policy::No, false);
    run(&mut m, 7);
    assert!(replies(&say(&mut m, Message::Remove(true, false, 1))).is_empty());
    for token in 2..5 {
        assert_eq!(
            replies(&say(&mut m, Message::Remove(true, false, token))),
            [(token, Err(Refusal::RemovalInProgress))]
        );
    }
    let out = exit(&mut m, 7, 137);
    assert_eq!(replies(&out), [(1, Ok(0))]);
}

#[test]
fn a_forced_removal_during_a_start_cancels_it_and_both_are_answered() {
    let mut m = machine(Policy::No, false);
    say(&mut m, Message::Start(1));
    let out = say(&mut m, Message::Remove(true, false, 2));
    assert!(matches!(out[..], [Output::CancelStart]));
    let generation = m.state.generation;
    let out = m.on(Input::StartFailed { generation, status: 409, code: 128, error: "x".into() }, 1);
    assert_eq!(replies(&out).len(), 2);
    assert!(m.is_gone());
}

#[test]
fn at_the_daemons_end_everything_stops_and_the_policies_count_at_the_next_start() {
    let policy = Policy::UnlessStopped;
    // One that runs is stopped, and is not a user's stop.
    let mut m = machine(policy, false);
    run(&mut m, 7);
    assert_eq!(events(&say(&mut m, Message::Shutdown(2))), [Event::Kill(15)]);
    assert_eq!(replies(&exit(&mut m, 7, 143)), [(2, Ok(0))]);
    assert_eq!((m.state.phase, m.state.stopped_by_user), (Phase::Exited, false));
    let refused = Err(Refusal::Failed(503, CLOSING.into()));
    assert_eq!(replies(&say(&mut m, Message::Start(3))), [(3, refused.clone())]);
    assert_eq!(replies(&say(&mut m, Message::Restart(None, None, 4))), [(4, refused)]);
    // One that a user stops meanwhile stays stopped.
    let mut m = machine(policy, false);
    run(&mut m, 7);
    say(&mut m, Message::Stop(None, None, 2));
    say(&mut m, Message::Shutdown(3));
    assert_eq!(replies(&exit(&mut m, 7, 143)), [(2, Ok(0)), (3, Ok(0))]);
    assert!(m.state.stopped_by_user);
    // One that waits for its next start waits on.
    let mut m = machine(policy, false);
    run(&mut m, 7);
    exit(&mut m, 7, 1);
    let timer = m.timer;
    assert_eq!(replies(&say(&mut m, Message::Shutdown(2))), [(2, Ok(0))]);
    assert!(m.on(Input::RestartDue(timer), 1).is_empty());
    assert_eq!((m.state.phase, m.state.stopped_by_user), (Phase::Restarting, false));
}

#[test]
fn a_start_under_way_at_the_daemons_end_is_given_up() {
    let mut m = machine(Policy::Always, false);
    say(&mut m, Message::Start(1));
    let out = say(&mut m, Message::Shutdown(2));
    assert!(matches!(out[..], [Output::CancelStart]));
    // Too late to give it up: it is killed instead.
    let generation = m.state.generation;
    m.on(Input::Created { generation, pid: 7, detached_sink: false }, 1);
    let out = m.on(Input::Started { generation, at: 1 }, 1);
    assert_eq!(events(&out), [Event::Start, Event::Kill(9)]);
    assert_eq!(replies(&out), [(1, Ok(0))]);
    assert_eq!(replies(&exit(&mut m, 7, 137)), [(2, Ok(137))]);
    // One that waits for the last run's remains is given up at once.
    let mut m = machine(Policy::Always, false);
    run(&mut m, 7);
    say(&mut m, Message::Stop(None, None, 2));
    exit(&mut m, 7, 0);
    say(&mut m, Message::Start(3));
    let answers = replies(&say(&mut m, Message::Shutdown(4)));
    assert_eq!(answers.len(), 2, "{answers:?}");
}

#[derive(Debug, Clone)]
enum Step {
    Message(u8),
    Progress,
    Fail,
    Exit,
    Timers,
    TornDown,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        20 => (0_u8..9).prop_map(Step::Message),
        1 => Just(Step::Message(9)),
        20 => Just(Step::Progress),
        20 => Just(Step::Fail),
        20 => Just(Step::Exit),
        20 => Just(Step::Timers),
        20 => Just(Step::TornDown),
    ];
    prop::collection::vec(step, 1..60)
}

fn message(kind: u8, token: u32) -> Message<u32> {
    match kind {
        0 => Message::Start(token),
        1 => Message::Stop(None, None, token),
        2 => Message::Restart(None, None, token),
        3 => Message::Kill(9, token),
        4 => Message::Pause(token),
        5 => Message::Unpause(token),
        6 => Message::Remove(true, true, token),
        7 => Message::Remove(false, true, token),
        8 => Message::Wait(Condition::NotRunning, token),
        _ => Message::Shutdown(token),
    }
}

proptest! {
    #[test]
    fn every_token_is_answered_once_and_the_state_stays_consistent(plan in steps(), policy in 0..3) {
        let policy = [Policy::No, Policy::Always, Policy::OnFailure(2)][policy as usize];
        let mut m = machine(policy, false);
        let (mut asked, mut answered, mut pid) = (0_u32, std::collections::BTreeSet::new(), 10);
        let mut starts_in_flight = 0_i32;
        let mut freezing: Vec<(bool, u32)> = Vec::new();
        let mut check = |m: &M, out: Outputs<u32>, freezing: &mut Vec<(bool, u32)>, in_flight: &mut i32| {
            for output in out {
                match output {
                    Output::Reply(token, _) | Output::Signal(_, Some(token)) => assert!(answered.insert(token)),
                    Output::Freeze(frozen, token) => freezing.push((frozen, token)),
                    Output::Start(_) => *in_flight += 1,
                    _ => {}
                }
            }
            assert!(*in_flight <= 1, "two starts at once");
            assert!(!m.state.phase.has_task() || m.state.pid != 0);
        };
        for step in plan {
            let (generation, closing) = (m.state.generation, m.closing);
            let out = match step {
                Step::Message(kind) => {
                    asked += 1;
                    m.on(Input::Message(message(kind, asked)), 1)
                }
                Step::Progress if starts_in_flight > 0 => {
                    pid += 1;
                    let mut out = m.on(Input::Created { generation, pid, detached_sink: false }, 1);
                    starts_in_flight -= 1;
                    out.extend(m.on(Input::Started { generation, at: 1 }, 1));
                    out
                }
                Step::Fail if starts_in_flight > 0 => {
                    starts_in_flight -= 1;
                    m.on(Input::StartFailed { generation, status: 500, code: 127, error: "x".into() }, 1)
                }
                Step::Exit => exit(&mut m, pid, 1),
                Step::Timers => {
                    let timer = m.timer;
                    let mut out = m.on(Input::StopExpired(timer), 1);
                    out.extend(m.on(Input::RestartDue(timer), 1));
                    out
                }
                Step::TornDown => {
                    let mut out = m.on(Input::TornDown(generation), 1);
                    for (frozen, token) in std::mem::take(&mut freezing) {
                        out.extend(m.on(Input::Frozen(frozen, Ok(()), token), 1));
                    }
                    out
                }
                _ => Vec::new(),
            };
            assert!(!closing || !out.iter().any(|o| matches!(o, Output::Start(_))), "a late start");
            check(&m, out, &mut freezing, &mut starts_in_flight);
        }
    }
}
