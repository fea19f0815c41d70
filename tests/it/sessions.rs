//! Sessions: conversations of several turns. The first tests have a paused clock, the others run
//! the daemon against real sockets.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use llmload::event::{AbortReason, DropReason, SessionEnd};
use llmload::ledger::SessionCounts;
use llmload::plan::{History, Sessions};
use llmload::prompts::Synthetic;
use llmload::prompts::{LengthDistribution, PromptOrder, Prompts, RowFormat, ThinkTime, load_rows};
use llmload::schedule::{ArrivalSpec, Load, Repeat};
use serde_json::{Value, json};

use crate::open_loop::{Bench, ONCE, constant, dropped, phase};
use crate::upstream::{BodyStep, DONE, FINISH, InMemory, USAGE, data, token};

const TURNS: u32 = 4;

fn settings() -> Sessions {
    let max = NonZeroU32::new(1000).unwrap();
    Sessions { max, history: History::Live, max_history: 1 << 20, header: None }
}

/// Sessions of four turns, with a think time of one second.
fn talks() -> Prompts {
    let prompts = Synthetic {
        input: LengthDistribution::fixed(12),
        output: None,
        shared_prefix: 0,
        shared_prefixes: NonZeroU32::MIN,
        template: 0,
        ignore_eos: false,
    };
    let think_time = ThinkTime { mean: Duration::from_secs(1), stddev: Duration::ZERO };
    Prompts::synthetic_sessions("talks", prompts, LengthDistribution::fixed(TURNS), think_time)
}

fn recorded(row: &Value) -> Prompts {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), row.to_string()).unwrap();
    let rows = load_rows(file.path(), RowFormat::Conversations).unwrap();
    Prompts::conversations("talks", rows, ThinkTime::default(), PromptOrder::Sequential)
}

fn bench(endpoint: Arc<InMemory>) -> Bench {
    Bench::with_sessions(endpoint, 100, talks(), Some(settings()))
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn sessions(bench: &Bench) -> SessionCounts {
    let counts = bench.route.state.session_state.ledger.counts();
    assert_eq!(counts.broken_equation(), None);
    counts
}

fn ended(counts: &SessionCounts, reason: SessionEnd) -> u64 {
    counts.ended_early().find(|end| end.0 == reason).map_or(0, |end| end.1)
}

/// The body of each request.
fn bodies(endpoint: &InMemory) -> Vec<Value> {
    let bodies = endpoint.bodies.lock().unwrap();
    bodies.iter().map(|body| serde_json::from_slice(body).unwrap()).collect()
}

/// The instants of the requests of one session, which all begin with the same message.
fn instants_by_session(bench: &Bench) -> Vec<Vec<Duration>> {
    let mut by_session: Vec<(Value, Vec<Duration>)> = Vec::new();
    for (body, at) in bodies(&bench.endpoint).into_iter().zip(bench.sent()) {
        let first = body["messages"][0].clone();
        match by_session.iter_mut().find(|(known, _)| *known == first) {
            Some((_, instants)) => instants.push(at),
            None => by_session.push((first, vec![at])),
        }
    }
    by_session.into_iter().map(|(_, instants)| instants).collect()
}

#[tokio::test(start_paused = true)]
async fn each_turn_is_due_a_think_time_after_the_end_of_the_turn_before() {
    let bench = bench(InMemory::responding_after(millis(300)));
    let schedule = vec![constant("2/s", 5), phase(Load::Pause, Duration::from_secs(10))];
    let counts = bench.run(schedule).await;
    assert_eq!((counts.arrivals, counts.succeeded), (40, 40));
    let all = instants_by_session(&bench);
    assert_eq!(all.len(), 10);
    for (k, turns) in (0..).zip(all) {
        assert_eq!(turns.len(), 4);
        for (turn, at) in (0..).zip(turns) {
            let due = millis(250 + 500 * k + 1300 * turn);
            // tokio's timer rounds up to the next millisecond, for the pause of the response too.
            assert!(at >= due && at < due + millis(2 + 2 * turn), "{k} {turn}: {at:?}");
        }
    }
    let sessions = sessions(&bench);
    assert_eq!((sessions.started, sessions.completed, sessions.in_progress), (10, 10, 0));
}

#[tokio::test(start_paused = true)]
async fn a_later_turn_sends_the_answers_of_the_model_without_its_reasoning() {
    let thought =
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"reasoning_content\":\"Hm.\"}}]}\n\n";
    let body = vec![data(&[thought, &token("a"), &token("b"), FINISH, USAGE, DONE])];
    let bench = bench(InMemory::with_body(millis(1), body));
    bench.run(vec![constant("1/s", 1), phase(Load::Pause, Duration::from_secs(9))]).await;
    let bodies = bodies(&bench.endpoint);
    let roles = |body: &Value| -> Vec<String> {
        let messages = body["messages"].as_array().unwrap();
        messages.iter().map(|message| message["role"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(roles(&bodies[0]), ["user"]);
    assert_eq!(roles(&bodies[2]), ["user", "assistant", "user", "assistant", "user"]);
    assert_eq!(bodies[2]["messages"][1], json!({"role": "assistant", "content": "ab"}));
    assert_eq!(bodies[1]["messages"][0], bodies[0]["messages"][0]);
    assert_eq!(
        bodies[3]["messages"].as_array().unwrap()[..5],
        *bodies[2]["messages"].as_array().unwrap()
    );
}

#[tokio::test(start_paused = true)]
async fn a_recorded_history_contains_the_recorded_answers_and_calls() {
    let call = json!({"id": "c1", "type": "function",
        "function": {"name": "get", "arguments": "{\"x\":1}"}});
    let messages = json!([
        {"role": "user", "content": "Look."},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "2"},
        {"role": "assistant", "content": "It is 2."},
        {"role": "user", "content": "Thanks."},
    ]);
    let prompts = recorded(&json!({"messages": messages}));
    let settings = Sessions { history: History::Recorded, ..settings() };
    let endpoint = InMemory::responding_after(millis(1));
    let bench = Bench::with_sessions(endpoint, 100, prompts, Some(settings));
    bench.run(vec![constant("1/s", 1)]).await;
    let bodies = bodies(&bench.endpoint);
    let sent: Vec<_> = bodies.iter().map(|body| body["messages"].clone()).collect();
    let first = |count: usize| Value::from(messages.as_array().unwrap()[..count].to_vec());
    assert_eq!(sent, [first(1), first(3), first(5)]);
}

#[tokio::test(start_paused = true)]
async fn a_live_history_follows_the_tool_calls_that_the_model_made() {
    let part = |delta: &str| {
        format!(
            "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"tool_calls\":[{delta}]}}}}]}}\n\n"
        )
    };
    let body = vec![data(&[
        &part(r#"{"index":0,"id":"live","function":{"name":"find","arguments":""}}"#),
        &part(r#"{"index":0,"function":{"arguments":"{\"y\":"}}"#),
        &part(r#"{"index":0,"function":{"arguments":"2}"}}"#),
        FINISH,
        USAGE,
        DONE,
    ])];
    let prompts = recorded(&json!({"messages": [
        {"role": "user", "content": "Look."},
        {"role": "assistant", "content": "Fine."},
        {"role": "user", "content": "And?"},
    ]}));
    let endpoint = InMemory::with_body(millis(1), body);
    let bench = Bench::with_sessions(endpoint, 100, prompts, Some(settings()));
    bench.run(vec![constant("1/s", 1)]).await;
    let call = json!({"id": "live", "type": "function",
        "function": {"name": "find", "arguments": "{\"y\":2}"}});
    let expected = json!([
        {"role": "user", "content": "Look."},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "live", "content": "{}"},
        {"role": "user", "content": "And?"},
    ]);
    assert_eq!(bodies(&bench.endpoint)[1]["messages"], expected);
}

#[tokio::test(start_paused = true)]
async fn a_failed_turn_ends_its_session() {
    let broken = vec![data(&[&token("a")]), BodyStep::Break];
    let bench = bench(InMemory::with_body(millis(10), broken));
    let counts = bench.run(vec![constant("5/s", 2)]).await;
    assert_eq!((counts.arrivals, counts.finished, counts.succeeded), (10, 10, 0));
    let sessions = sessions(&bench);
    assert_eq!((sessions.started, ended(&sessions, SessionEnd::Failed)), (10, 10));
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_a_guard_drops_ends_its_session() {
    let bench = bench(InMemory::responding_after(millis(100)));
    let mut driver = bench.driver(vec![constant("10/s", 3)], ONCE);
    tokio::join!(bench.drive(&mut driver), async {
        tokio::time::sleep(millis(1000)).await;
        bench.paused.set(true);
        tokio::time::sleep(millis(1000)).await;
        bench.paused.set(false);
    });
    let counts = bench.settle().await;
    let sessions = sessions(&bench);
    let ended_dropped = ended(&sessions, SessionEnd::Dropped);
    assert!(ended_dropped >= 8, "{sessions:?}");
    // Each other dropped arrival is a session that never started.
    assert_eq!(dropped(&counts, DropReason::Paused), ended_dropped + 30 - sessions.started);
}

#[tokio::test(start_paused = true)]
async fn a_session_above_the_limit_is_dropped_and_later_turns_are_not() {
    let limit = Sessions { max: NonZeroU32::new(3).unwrap(), ..settings() };
    let endpoint = InMemory::responding_after(millis(100));
    let bench = Bench::with_sessions(endpoint, 100, talks(), Some(limit));
    let counts = bench.run(vec![constant("10/s", 4)]).await;
    let sessions = sessions(&bench);
    assert_eq!(dropped(&counts, DropReason::MaxSessions), 40 - sessions.started);
    // A session lasts 3.4 s, so three sessions start at once and the next three after 3.4 s.
    assert_eq!((sessions.started, sessions.completed), (6, 3));
    assert_eq!(ended(&sessions, SessionEnd::ScheduleEnd), 3);
    assert_eq!(ended(&sessions, SessionEnd::Dropped), 0);
}

#[tokio::test(start_paused = true)]
async fn turns_that_are_due_after_the_schedule_are_not_sent() {
    let bench = bench(InMemory::responding_after(millis(100)));
    let counts = bench.run(vec![constant("1/s", 3)]).await;
    // Sessions start at 0.5, 1.5 and 2.5 s. Their second turns are due at 1.6, 2.6 and 3.6 s.
    assert_eq!(counts.arrivals, 3 + 2 + 1);
    let sessions = sessions(&bench);
    assert_eq!((sessions.started, ended(&sessions, SessionEnd::ScheduleEnd)), (3, 3));
}

#[tokio::test(start_paused = true)]
async fn a_session_continues_in_the_next_phase_and_the_next_cycle() {
    let bench = bench(InMemory::responding_after(millis(100)));
    let twice = Repeat::Times(NonZeroU32::new(5).unwrap());
    let mut driver =
        bench.driver(vec![constant("1/s", 1), phase(Load::Pause, millis(1000))], twice);
    bench.drive(&mut driver).await;
    bench.settle().await;
    let sessions = sessions(&bench);
    // Each session lasts 3.4 s, and starts at 0.5 s of a cycle of 2 s.
    assert_eq!((sessions.started, sessions.completed), (5, 4));
}

#[tokio::test(start_paused = true)]
async fn a_slot_of_a_closed_loop_holds_a_complete_session() {
    let bench = bench(InMemory::responding_after(millis(250)));
    let slots = NonZeroU32::new(2).unwrap();
    let counts = bench.run(vec![phase(Load::Concurrency(slots), Duration::from_secs(20))]).await;
    let all = instants_by_session(&bench);
    // A session lasts 4 s, so each slot holds five sessions, one after the other.
    let sessions = sessions(&bench);
    assert!((9..=10).contains(&sessions.completed), "{sessions:?}");
    assert_eq!(counts.arrivals, counts.succeeded);
    for (earlier, later) in all.iter().zip(all.iter().skip(2)) {
        assert!(later[0] >= earlier[3] + millis(250), "{earlier:?} {later:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_phase_of_n_requests_counts_sessions() {
    let bench = bench(InMemory::responding_after(millis(100)));
    let load = Load::Requests {
        slots: NonZeroU32::new(3).unwrap(),
        count: std::num::NonZeroU64::new(7).unwrap(),
    };
    let counts = bench.run(vec![phase(load, Duration::ZERO)]).await;
    let sessions = sessions(&bench);
    assert_eq!((counts.succeeded, sessions.completed, sessions.started), (28, 7, 7));
}

#[tokio::test(start_paused = true)]
async fn a_changed_schedule_ends_the_sessions_of_the_old_one() {
    let bench = bench(InMemory::responding_after(millis(100)));
    let mut driver = bench.driver(vec![constant("10/s", 100)], ONCE);
    let mailbox = driver.mailbox();
    let timetable = |phases| {
        let schedule = Arc::new(llmload::schedule::Schedule::new(phases));
        let cycles = llmload::timetable::Cycles::BackToBack { repeat: ONCE, when_ready: true };
        llmload::timetable::Timetable::new(schedule, cycles, None)
    };
    tokio::join!(bench.drive(&mut driver), async {
        // One request is in flight at this instant.
        tokio::time::sleep(millis(1020)).await;
        assert_eq!(bench.counts().in_flight, 1);
        let pause = vec![phase(Load::Pause, Duration::from_secs(5))];
        mailbox.replace_schedule(timetable(pause), ArrivalSpec::default());
    });
    let counts = bench.settle().await;
    let sessions = sessions(&bench);
    assert_eq!(counts.arrivals, sessions.started);
    assert_eq!(ended(&sessions, SessionEnd::Reload), sessions.started);
}

#[tokio::test(start_paused = true)]
async fn sessions_end_if_their_histories_become_too_long() {
    let long = "x".repeat(300_000);
    let body = vec![data(&[&token(&long), FINISH, USAGE, DONE])];
    let one = bench(InMemory::with_body(millis(1), body.clone()));
    one.run(vec![constant("1/s", 1), phase(Load::Pause, Duration::from_secs(9))]).await;
    assert_eq!(sessions(&one).completed, 1);
    let bench = bench(InMemory::with_body(millis(1), body));
    bench.run(vec![constant("2/s", 1), phase(Load::Pause, Duration::from_secs(9))]).await;
    let sessions = sessions(&bench);
    assert_eq!(ended(&sessions, SessionEnd::TooLarge), 1, "{sessions:?}");
    assert_eq!(sessions.completed, 1);
}

#[tokio::test(start_paused = true)]
async fn an_aborted_turn_ends_its_session() {
    let bench = bench(InMemory::silent());
    let mut driver = bench.driver(vec![constant("2/s", 1)], ONCE);
    bench.drive(&mut driver).await;
    bench.route.state.cancellation.cancel(AbortReason::Shutdown);
    bench.settle().await;
    let sessions = sessions(&bench);
    assert_eq!((sessions.started, ended(&sessions, SessionEnd::Aborted)), (2, 2));
}
