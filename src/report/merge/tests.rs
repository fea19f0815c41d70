//! Tests of the conditions under which reports can be joined, and of the validity of the result.

use super::*;

/// The report of a run on one machine, without sums.
const REPORT: &str = include_str!("../../../tests/messages/base.json");

/// The reports of all shards of a run without routes.
fn shards(of: u32) -> Vec<ShardRun> {
    let shard = |index| {
        let mut report: Report = serde_json::from_str(REPORT).unwrap();
        report.routes.clear();
        report.verdict.reasons.clear();
        report.shard = Some(ShardReport {
            index,
            of,
            start_at: "2026-12-24T18:00:00Z".to_owned(),
            time_limit_seconds: None,
            config_file: None,
            sums: Vec::new(),
        });
        report.tested.host = Some(format!("host-{index}"));
        ShardRun { argument: format!("{index}.json"), report }
    };
    (0..of).map(shard).collect()
}

fn error(runs: &[ShardRun]) -> String {
    merge(runs).unwrap_err().to_string()
}

#[test]
fn each_shard_of_one_run_is_necessary_once() {
    let all = shards(4);
    let merged = merge(&[&all[2..], &all[..2]].concat()).unwrap();
    assert_eq!((merged.shards, merged.shard.is_none()), (Some(4), true));
    assert_eq!(merged.tested.host.as_deref(), Some("host-0, host-1, host-2, host-3"));
    assert_eq!(error(&all[..2]), "shards 2 and 3 of 4 are missing; pass the report of each shard");
    assert_eq!(error(&all[1..]), "shard 0 of 4 is missing; pass the report of each shard");
    assert_eq!(
        error(&[&all[..], &all[1..2]].concat()),
        "1.json and 1.json are both of shard 1; pass the report of each shard once"
    );
    assert_eq!(
        error(&shards(40)[..10]),
        "shards 10, 11, 12, 13, 14, 15, 16, 17 and 22 more of 40 are missing; pass the report of \
         each shard"
    );
    let mut others = all.clone();
    others[3].report.shard = None;
    assert_eq!(
        error(&others),
        "3.json: this is not the report of a shard; pass reports of `llmload run --shard I/N`"
    );
}

#[test]
fn reports_of_different_runs_cannot_be_joined() {
    let change = |change: &dyn Fn(&mut Report)| {
        let mut all = shards(2);
        change(&mut all[1].report);
        error(&all)
    };
    let of_shard = |change: fn(&mut ShardReport)| {
        move |report: &mut Report| change(report.shard.as_mut().unwrap())
    };
    for (what, text) in [
        ("versions of llmload", change(&|report| report.version.push('x'))),
        ("numbers of shards", change(&of_shard(|shard| shard.of = 3))),
        ("starts (--start-at)", change(&of_shard(|shard| shard.start_at.push('x')))),
        ("configurations", change(&|report| report.tested.config_hash.push('x'))),
        ("seeds", change(&|report| report.seed += 1)),
        ("lengths (--for)", change(&of_shard(|shard| shard.time_limit_seconds = Some(1.0)))),
        ("schedules", change(&|report| report.routes.push(RouteReport::default()))),
    ] {
        let expected =
            format!("0.json and 1.json have different {what}; pass the reports of one run");
        assert_eq!(text, expected);
    }
}

#[test]
fn a_run_is_only_as_valid_as_each_of_its_shards() {
    let with = |change: &dyn Fn(&mut [ShardRun])| {
        let mut all = shards(12);
        change(&mut all);
        let merged = merge(&all).unwrap();
        let reasons = merged.verdict.reasons.into_iter();
        let texts = reasons.map(|reason| (reason.code, reason.text));
        (merged.verdict.result, texts.collect::<Vec<_>>())
    };
    assert_eq!(with(&|_| {}), (Outcome::Passed, vec![]));
    let distorted = with(&|all| {
        let distortion =
            |text: &str| Distortion { kind: "cpu".to_owned(), message: text.to_owned() };
        all[3].report.distortions.push(distortion("the CPU was busy"));
        all[7].report.distortions.push(distortion("the CPU was full"));
    });
    let text = "llmload distorted the measurement: shards 3 and 7: the CPU was busy".to_owned();
    assert_eq!(distorted, (Outcome::Invalid, vec![(ReasonCode::Distorted, text)]));
    for (code, route, text) in [
        (ReasonCode::NotReady, None, "shard 5: why"),
        (ReasonCode::ClientFailures, Some("a → b".to_owned()), "shard 5: why"),
    ] {
        let reason = Reason { route, ..Reason::new(code, "why") };
        let found = with(&|all| all[5].report.verdict.reasons.push(reason.clone()));
        assert_eq!(found, (Outcome::Invalid, vec![(code, text.to_owned())]));
    }
    let interrupted = with(&|all| all[0].report.interrupted = true);
    assert_eq!(interrupted.1[0].0, ReasonCode::Interrupted);
}
