//! Tests of the lookups, with a function instead of the resolver of the system.

use std::sync::mpsc;

use super::*;

fn address(port: u16) -> Vec<SocketAddr> {
    vec![SocketAddr::from(([192, 0, 2, 1], port))]
}

fn failed(text: &str) -> Answer {
    let source = Arc::new(io::Error::other(text.to_owned()));
    Err(LookupError::Failed { name: "a".into(), source })
}

fn text(answer: &watch::Receiver<Option<Answer>>) -> String {
    match &*answer.borrow() {
        None => "waits".to_owned(),
        Some(Ok(addresses)) => format!("{addresses:?}"),
        Some(Err(error)) => error.to_string(),
    }
}

#[test]
fn a_name_without_an_answer_gets_four_threads_and_never_more() {
    let (mut names, start) = (Names::default(), Instant::now());
    let mut begun = Vec::new();
    for millis in (0..60_000).step_by(10) {
        let now = start + Duration::from_millis(millis);
        if names.join("a", now).unwrap().1 {
            begun.push(millis);
        }
    }
    assert_eq!(begun, [0, 1_000, 2_000, 3_000]);
    assert_eq!(names.threads, 4);
    // Another name is not affected.
    assert!(names.join("b", start).unwrap().1);
    // A thread that ends is replaced, even if three threads never end.
    names.end("a", start, failed("late"));
    assert!(names.join("a", start + Duration::from_mins(1)).unwrap().1);
    assert!(!names.join("a", start + Duration::from_mins(2)).unwrap().1);
}

#[test]
fn the_process_has_a_limit_of_threads_and_then_new_names_fail_at_once() {
    let (mut names, now) = (Names::default(), Instant::now());
    for number in 0..MAX_THREADS {
        assert!(names.join(&number.to_string(), now).unwrap().1);
    }
    assert!(names.join("new", now).is_none());
    assert!(!names.join("0", now + STUCK_AFTER).unwrap().1, "an old name waits");
    names.end("0", now, Ok(address(0)));
    assert!(names.join("new", now).unwrap().1);
    for number in 1..MAX_THREADS {
        names.end(&number.to_string(), now, Ok(address(0)));
    }
    names.end("new", now, Ok(address(0)));
    assert_eq!((names.threads, names.by_name.len()), (0, 0), "nothing is left");
}

#[test]
fn the_first_address_ends_the_wait_and_an_early_error_does_not() {
    let (mut names, start) = (Names::default(), Instant::now());
    let second = start + STUCK_AFTER;
    let (early, _) = names.join("a", start).unwrap();
    let (late, _) = names.join("a", second).unwrap();
    names.end("a", start, failed("lost"));
    assert_eq!((text(&early), text(&late)), ("waits".into(), "waits".into()));
    names.end("a", second, Ok(address(2)));
    assert_eq!((text(&early), text(&late)), ("[192.0.2.1:2]".into(), "[192.0.2.1:2]".into()));

    let (early, _) = names.join("a", start).unwrap();
    let (late, _) = names.join("a", second).unwrap();
    names.end("a", second, failed("last"));
    let last = "the name `a` was not resolved: last";
    assert_eq!((text(&early), text(&late)), (last.into(), last.into()));
    // The answer of a lookup that was stuck is good for the connections that wait now.
    let (next, starts) = names.join("a", second + STUCK_AFTER).unwrap();
    assert!(starts);
    names.end("a", start, Ok(address(1)));
    assert_eq!((text(&late), text(&next)), (last.into(), "[192.0.2.1:1]".into()));
}

/// The lookup waits until the test sends the addresses.
fn controlled() -> (Arc<Lookups>, mpsc::Sender<u16>, mpsc::Receiver<String>) {
    let (answers, next_answer) = mpsc::channel();
    let (asked, questions) = mpsc::channel();
    let next_answer = Mutex::new(next_answer);
    let lookups = Lookups::new(move |name| {
        asked.send(name.to_owned()).unwrap();
        let next = next_answer.lock().unwrap().recv();
        next.map(address).map_err(io::Error::other)
    });
    (Arc::new(lookups), answers, questions)
}

#[tokio::test]
async fn connections_to_one_name_share_one_lookup() {
    let (lookups, answers, questions) = controlled();
    let waiting: Vec<_> = (0..100).map(|_| lookups.resolve("a")).collect();
    let all = futures_util::future::join_all(waiting);
    let answer = async {
        // The first poll of `join_all` has started the lookup.
        tokio::task::yield_now().await;
        answers.send(7).unwrap();
    };
    let (all, ()) = tokio::join!(all, answer);
    assert!(all.iter().all(|found| found.as_ref().unwrap() == &address(7)));
    assert_eq!(questions.try_iter().collect::<Vec<_>>(), ["a"]);
    // The next connection needs a new lookup, because the address can have changed.
    answers.send(8).unwrap();
    assert_eq!(lookups.resolve("a").await.unwrap(), address(8));
    assert_eq!(questions.try_iter().count(), 1);
}

#[tokio::test]
async fn a_lookup_that_nobody_waits_for_ends_and_frees_its_thread() {
    let (lookups, answers, questions) = controlled();
    let lookup = lookups.resolve("a");
    drop(futures_util::future::select(Box::pin(lookup), std::future::ready(())).await);
    assert_eq!(questions.recv().unwrap(), "a");
    assert_eq!(lookups.names().threads, 1);
    drop(answers);
    while lookups.names().threads > 0 {
        std::thread::yield_now();
    }
}

#[test]
fn the_text_of_the_system_decides_whether_the_name_is_unknown() {
    for (system, fault) in [
        ("Name or service not known", LookupFault::UnknownName),
        ("No address associated with hostname", LookupFault::UnknownName),
        ("Name does not resolve", LookupFault::UnknownName),
        ("Temporary failure in name resolution", LookupFault::NoAnswer),
        ("Try again", LookupFault::NoAnswer),
    ] {
        let text = format!("failed to lookup address information: {system}");
        let Err(error) = failed(&text) else { unreachable!() };
        assert_eq!(error.to_string(), format!("the name `a` was not resolved: {system}"));
        assert_eq!(error.fault(), fault, "{system}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_ends_in_time_and_the_error_names_the_reason() {
    let limit = Duration::from_secs(5);
    let ended = |name: Option<&'static str>, time| async move {
        let connecting = async move {
            if let Some(name) = name {
                record(name, time);
            }
            std::future::pending().await
        };
        connect_within::<()>(limit, connecting).await.unwrap_err()
    };
    let unresolved = ended(Some("host.example"), None).await;
    assert_eq!(unresolved.to_string(), "the name `host.example` was not resolved within 5s");
    let unresolved = unresolved.downcast::<LookupError>().unwrap();
    assert_eq!(unresolved.fault(), LookupFault::NoAnswer);
    for resolved in [ended(None, None).await, ended(Some("a"), Some(Duration::ZERO)).await] {
        assert_eq!(resolved.to_string(), "no connection was established within 5s");
        assert!(!resolved.is::<LookupError>());
    }
}
