//! Tests of the detection of distortions: thresholds, begin, end and messages.

use super::*;

/// A reading without a distortion.
fn rest(at: Instant) -> Reading {
    Reading {
        at,
        used_at: at,
        arrivals: arrivals(0, 0, 0),
        probes: 50_000,
        delayed: 70,
        cpu: Some(Duration::from_secs(100)),
        cpus: Some(2.0),
        throttled: Some(40),
        period: Duration::from_millis(100),
        open_files: Some(100),
        max_files: Some(1000),
        memory: Some(MemoryUse { used: 100, limit: 1000 }),
        finished: FinishedCounts { total: 1_000_000, failed_by: [0; 7] },
    }
}

/// Counts that are higher by this than in [`rest`].
fn arrivals(total: u64, late: u64, late_for_streams: u64) -> ArrivalCounts {
    ArrivalCounts { total: 1_000_000 + total, late: 500 + late, late_for_streams }
}

/// Counts that are higher by this than in [`rest`].
fn finished(total: u64, failed_by: [u64; 7]) -> FinishedCounts {
    FinishedCounts { total: 1_000_000 + total, failed_by }
}

/// Returns the active distortions after a quiet window whose last reading is changed by `after`.
fn detected(after: impl Fn(&mut Reading)) -> Vec<Distortion> {
    let begin = Instant::now();
    let mut detector = DistortionDetector::default();
    detector.add(rest(begin));
    let mut last = rest(begin + WINDOW);
    last.probes += 300;
    after(&mut last);
    detector.add(last);
    detector.active_distortions().map(|active| active.kind).collect()
}

#[test]
fn the_list_of_all_kinds_has_the_order_of_the_enum() {
    for (i, kind) in Distortion::ALL.into_iter().enumerate() {
        assert_eq!(kind as usize, i);
    }
}

#[test]
fn each_distortion_is_detected_just_beyond_its_threshold() {
    type Case = (Option<Distortion>, fn(&mut Reading));
    let cases: [Case; 28] = [
        (None, |_| {}),
        (None, |r| r.arrivals = arrivals(1000, 10, 0)),
        (Some(Distortion::DispatchLag), |r| {
            r.arrivals = arrivals(1000, 11, 0);
        }),
        (Some(Distortion::DispatchLag), |r| {
            r.arrivals = arrivals(1, 1, 0);
        }),
        (None, |r| r.delayed += 3),
        (Some(Distortion::EventLoopDelay), |r| r.delayed += 4),
        (None, |r| (r.probes, r.delayed) = (r.probes + 300, r.delayed + 6)),
        (None, |r| r.cpu = Some(Duration::from_secs(100 + 54))),
        (Some(Distortion::Cpu), |r| r.cpu = Some(Duration::from_millis(154_010))),
        (Some(Distortion::Cpu), |r| {
            (r.cpu, r.cpus) = (Some(Duration::from_secs(114)), Some(0.5));
        }),
        (None, |r| (r.cpu, r.cpus) = (Some(Duration::from_secs(113)), Some(0.5))),
        (None, |r| (r.cpu, r.cpus) = (Some(Duration::from_secs(160)), None)),
        (None, |r| (r.cpu, r.cpus) = (None, Some(0.1))),
        (None, |r| r.throttled = Some(43)),
        (Some(Distortion::Throttled), |r| r.throttled = Some(44)),
        (None, |r| (r.throttled, r.period) = (Some(46), Duration::from_millis(50))),
        (Some(Distortion::Throttled), |r| {
            (r.throttled, r.period) = (Some(47), Duration::from_millis(50));
        }),
        (None, |r| r.throttled = None),
        (None, |r| r.memory = Some(MemoryUse { used: 900, limit: 1000 })),
        (Some(Distortion::Memory), |r| r.memory = Some(MemoryUse { used: 901, limit: 1000 })),
        (None, |r| r.memory = None),
        (None, |r| r.open_files = Some(900)),
        (Some(Distortion::Files), |r| r.open_files = Some(901)),
        (None, |r| (r.open_files, r.max_files) = (Some(901), None)),
        (None, |r| r.finished = finished(1_000, [10, 0, 0, 0, 0, 0, 0])),
        (Some(Distortion::ClientResource), |r| {
            r.finished = finished(1_000, [11, 0, 0, 0, 0, 0, 0]);
        }),
        (Some(Distortion::ClientResource), |r| r.finished = finished(1_000, [5, 0, 0, 0, 0, 6, 0])),
        (Some(Distortion::ClientResource), |r| r.finished = finished(1, [0, 0, 0, 0, 0, 0, 1])),
    ];
    for (i, (expected, after)) in cases.into_iter().enumerate() {
        assert_eq!(detected(after), Vec::from_iter(expected), "case {i}");
    }
}

#[test]
fn a_stop_causes_one_report_and_a_distortion_of_about_a_minute() {
    let begin = Instant::now();
    let mut detector = DistortionDetector::default();
    let reading = |second: u64, late: u64| {
        let mut reading = rest(begin + Duration::from_secs(second));
        reading.probes += second * 10;
        reading.arrivals = arrivals(second * 200, late, 0);
        reading
    };
    for second in 0..100 {
        assert_eq!(detector.add(reading(second, 0)), Change::default(), "{second}");
    }
    // llmload was stopped from second 99 to second 102, with 200 arrivals a second.
    let change = detector.add(reading(102, 580));
    assert!(!change.recovered);
    let [detected] = &change.began[..] else { panic!("{change:?}") };
    assert_eq!(detected.kind, Distortion::DispatchLag);
    assert_eq!(
        detected.message,
        "in the last 30 s, 580 of 6000 arrivals were sent more than 100 ms late or dropped as late; \
         find out what stopped llmload, which used only 0 % of its CPU time: a suspended machine, a \
         stopped process, or other load on this machine"
    );
    // The window contains the stop for 30 s. The distortion ends 30 s later.
    for second in 103..161 {
        assert_eq!(detector.add(reading(second, 580)), Change::default(), "{second}");
        assert_eq!(detector.active_distortions().count(), 1);
    }
    assert_eq!(detector.add(reading(161, 580)), Change { began: Vec::new(), recovered: true });
    assert_eq!(detector.active_distortions().count(), 0);
    assert_eq!(detector.add(reading(162, 580)), Change::default());
    assert_eq!(detector.add(reading(163, 700)).began.len(), 1, "a new stop is detected again");
}

#[test]
fn the_generator_recovers_when_its_last_distortion_ends() {
    let begin = Instant::now();
    let mut detector = DistortionDetector::default();
    let mut reading = rest(begin);
    reading.open_files = Some(950);
    assert_eq!(detector.add(reading).began.len(), 1);
    reading.at += Duration::from_secs(20);
    reading.throttled = Some(400);
    assert_eq!(detector.add(reading).began.len(), 1);
    reading.open_files = Some(10);
    for second in 21..100 {
        reading.at = begin + Duration::from_secs(second);
        let change = detector.add(reading);
        let expected = match second {
            ..50 => 2,
            50..79 => 1,
            _ => 0,
        };
        assert_eq!(detector.active_distortions().count(), expected, "{second}");
        assert_eq!(change.recovered, second == 79, "{second}");
    }
}

#[test]
fn load_just_after_the_start_is_not_a_distortion() {
    let begin = Instant::now();
    let mut detector = DistortionDetector::default();
    detector.add(rest(begin));
    for second in 1..=10 {
        let mut reading = rest(begin + Duration::from_secs(second));
        reading.probes += second * 10;
        reading.delayed += 3;
        reading.cpu = reading.cpu.map(|cpu| cpu + Duration::from_secs(2 * second));
        let began = detector.add(reading).began;
        assert_eq!(began.len(), usize::from(second == 10), "{began:?}");
    }
}

#[test]
fn the_number_of_stored_readings_is_bounded() {
    let begin = Instant::now();
    let mut detector = DistortionDetector::default();
    for k in 0..10_000 {
        detector.add(rest(begin + Duration::from_millis(k * 137)));
    }
    assert!(detector.readings.len() <= READINGS);
}

#[test]
fn every_message_ends_with_a_remedy() {
    let first = rest(Instant::now());
    let mut last = rest(first.at + WINDOW);
    (last.arrivals, last.probes, last.delayed) = (arrivals(10, 10, 0), 50_300, 300);
    (last.cpu, last.throttled) = (Some(Duration::from_secs(160)), Some(50));
    last.open_files = Some(1000);
    last.memory = Some(MemoryUse { used: 1000, limit: 1000 });
    last.finished = finished(100, [0, 0, 0, 0, 0, 3, 0]);
    for kind in Distortion::ALL {
        let message = kind.detect(&first, &last).unwrap();
        assert!(
            message.split_once("; ").is_some_and(|(_, remedy)| !remedy.is_empty()),
            "{message}"
        );
        assert!(kind.effect().ends_with('.'));
    }
}

/// A wait for an HTTP/2 stream is no stop of llmload.
#[test]
fn the_message_of_a_dispatch_lag_names_http_2_streams_if_most_late_arrivals_waited_for_one() {
    let first = rest(Instant::now());
    let mut last = rest(first.at + WINDOW);
    for (for_streams, is_named) in [(10, true), (6, true), (5, false), (0, false)] {
        last.arrivals = arrivals(10, 10, for_streams);
        let message = Distortion::DispatchLag.detect(&first, &last).unwrap();
        for words in ["no HTTP/2 stream was free", "`http2: false`"] {
            assert_eq!(message.contains(words), is_named, "{message}");
        }
        assert_eq!(message.contains("stopped llmload"), !is_named, "{message}");
    }
}

/// If llmload did not use its CPU, more CPU does not help.
#[test]
fn more_cpu_is_a_remedy_for_delays_only_if_llmload_used_its_cpu() {
    let first = rest(Instant::now());
    let mut last = rest(first.at + WINDOW);
    (last.arrivals, last.probes, last.delayed) = (arrivals(10, 10, 0), 50_300, 300);
    for kind in [Distortion::DispatchLag, Distortion::EventLoopDelay] {
        for (used, cpus, advises_cpu) in [
            (Some(3), Some(2.0), false),
            (Some(29), Some(2.0), false),
            (Some(30), Some(2.0), true),
            (None, Some(2.0), true),
            (Some(3), None, true),
            (Some(3), Some(0.1), true),
        ] {
            last.cpu = used.map(|seconds| Duration::from_secs(100 + seconds));
            last.cpus = cpus;
            let message = kind.detect(&first, &last).unwrap();
            assert_eq!(message.contains("more CPU"), advises_cpu, "{message}");
        }
    }
}

#[test]
fn requests_that_fail_in_llmload_have_the_remedy_for_their_most_frequent_cause() {
    let first = rest(Instant::now());
    let mut last = rest(first.at + WINDOW);
    last.finished = finished(224, [100, 3, 0, 0, 0, 10, 0]);
    assert_eq!(
        Distortion::ClientResource.detect(&first, &last).unwrap(),
        "in the last 30 s, 113 of 224 requests failed because of llmload or its machine, most \
         often because no local port was free; widen the range of local ports (`sysctl \
         net.ipv4.ip_local_port_range`), lower `max_concurrency`, or spread the load over several \
         machines"
    );
}
