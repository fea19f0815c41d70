//! A simulated server with a number of slots and one queue, in simulated time. The time to the
//! first token is the wait for a slot.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use crate::capacity::{Batch, Batches, Level, StepPlan, StepResult};
use crate::slo::{Criterion, Objective};

/// The distribution of the time that a request holds its slot, in seconds.
#[derive(Clone, Copy)]
pub enum Service {
    Fixed(f64),
    Uniform(f64, f64),
    Exponential(f64),
}

/// The distribution of the gaps between arrivals at a rate.
#[derive(Clone, Copy)]
pub enum Load {
    Even,
    Random,
}

pub struct Server {
    random: Random,
    slots: usize,
    service: Service,
    load: Load,
    /// The length of a stall in each step, at a random time.
    stall: f64,
}

/// The most requests in flight. A further arrival is dropped.
const LIMIT: usize = 256;

/// The generator `SplitMix64` of Steele, Lea and Flood (OOPSLA 2014).
struct Random(u64);

impl Random {
    /// Returns a number from 0 to 1, without 1.
    #[allow(clippy::cast_precision_loss)]
    fn fraction(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// A time in simulated nanoseconds, which a heap can compare.
type Nanos = u64;

impl Server {
    pub fn new(seed: u64, slots: usize, service: Service, load: Load) -> Server {
        Server { random: Random(seed), slots, service, load, stall: 0.0 }
    }

    pub fn with_stall(self, stall: Duration) -> Server {
        Server { stall: stall.as_secs_f64(), ..self }
    }

    /// Runs one step as the driver does: the server is empty at its start, and the step ends when
    /// the last request has ended.
    pub fn run(&mut self, plan: &StepPlan, objectives: &[Objective]) -> StepResult {
        let settle = nanos(plan.settle.as_secs_f64());
        let measured = plan.measured_time().unwrap_or(plan.shortest).as_secs_f64();
        let (mut end, longest) =
            (settle + nanos(measured), settle + nanos(plan.longest.as_secs_f64()));
        let planned = match plan.level {
            Level::Rate(rate) => Some(whole(rate.per_second() * measured)),
            Level::Concurrency(_) => None,
        };
        let stall_at = settle + nanos(measured * self.random.fraction());
        let stall = (stall_at, stall_at + nanos(self.stall));
        let mut ready = self.first_arrivals(plan.level);
        let mut free: BinaryHeap<Reverse<Nanos>> = (0..self.slots).map(|_| Reverse(0)).collect();
        let mut judged: Vec<Batches> = vec![Batches::new(); objectives.len()];
        // The requests that have not ended yet: their end, the time at which they were due, and
        // their wait.
        let mut open: BinaryHeap<Reverse<(Nanos, Nanos, Nanos)>> = BinaryHeap::new();
        let (mut requests, mut last_end, mut cut) = (0, 0, false);
        let (mut durations, mut ends) = (Vec::new(), Vec::new());
        while let Some(Reverse(due)) = ready.pop() {
            if due >= end && requests < plan.requests && end < longest && planned.is_none() {
                end = (end + nanos(1.0)).min(longest);
            }
            if due >= end {
                break;
            }
            while open.peek().is_some_and(|Reverse((ended, ..))| *ended <= due) {
                if let Some(Reverse((_, of, wait))) = open.pop()
                    && of >= settle
                {
                    judge(objectives, &mut judged, plan, of - settle, wait);
                }
            }
            if let Level::Rate(rate) = plan.level {
                ready.push(Reverse(due + self.gap(rate.per_second())));
            }
            if open.len() >= LIMIT {
                if due >= settle {
                    requests += 1;
                    judge(objectives, &mut judged, plan, due - settle, Nanos::MAX);
                }
                continue;
            }
            if let Some(planned) = planned
                && plan.is_hopeless(objectives, &judged, planned)
            {
                (cut, end) = (true, due);
                break;
            }
            let Reverse(slot) = free.pop().unwrap();
            let mut start = due.max(slot);
            if (stall.0..stall.1).contains(&start) {
                start = stall.1;
            }
            let finish = start + nanos(self.service_time());
            free.push(Reverse(finish));
            last_end = last_end.max(finish);
            durations.push(seconds(finish - due));
            ends.push(finish);
            requests += u64::from(due >= settle);
            open.push(Reverse((finish, due, start - due)));
            if planned.is_none() {
                ready.push(Reverse(finish));
            }
        }
        for Reverse((_, of, wait)) in open {
            if of >= settle {
                judge(objectives, &mut judged, plan, of - settle, wait);
            }
        }
        if let (true, Some(planned)) = (cut, planned) {
            judged = judged.iter().map(|batches| plan.filled(batches, planned)).collect();
        }
        durations.sort_by(f64::total_cmp);
        let p90 = durations.get(durations.len() * 9 / 10).copied();
        let ended = ends.iter().filter(|ended| (settle..=end).contains(ended)).count();
        #[allow(clippy::cast_precision_loss)]
        let ended_per_second = ended as f64 / seconds(end.saturating_sub(settle)).max(1e-9);
        StepResult {
            elapsed: Duration::from_nanos(last_end.max(end)),
            measured: Duration::from_nanos(end.saturating_sub(settle)),
            requests,
            judged,
            is_cut_short: cut,
            ended_per_second,
            latency: p90,
            ..StepResult::default()
        }
    }

    fn first_arrivals(&mut self, level: Level) -> BinaryHeap<Reverse<Nanos>> {
        match level {
            Level::Rate(rate) => [Reverse(self.gap(rate.per_second()))].into_iter().collect(),
            Level::Concurrency(slots) => (0..slots.get()).map(|_| Reverse(0)).collect(),
        }
    }

    fn gap(&mut self, rate: f64) -> Nanos {
        match self.load {
            Load::Even => nanos(1.0 / rate),
            Load::Random => nanos(self.exponential(1.0 / rate)),
        }
    }

    fn service_time(&mut self) -> f64 {
        match self.service {
            Service::Fixed(time) => time,
            Service::Uniform(low, high) => low + (high - low) * self.random.fraction(),
            Service::Exponential(mean) => self.exponential(mean),
        }
    }

    fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.random.fraction()).ln()
    }
}

fn judge(
    objectives: &[Objective],
    judged: &mut [Batches],
    plan: &StepPlan,
    since_settled: Nanos,
    wait: Nanos,
) {
    let batch = usize::try_from(since_settled / nanos(plan.batch().as_secs_f64())).unwrap();
    for (objective, batches) in objectives.iter().zip(judged) {
        let Criterion::Latency(_, threshold) = objective.criterion else { continue };
        if batches.len() <= batch {
            batches.resize(batch + 1, Batch::default());
        }
        let latency = (wait < Nanos::MAX).then(|| seconds(wait));
        batches[batch].record(u128::from(wait) <= threshold.as_nanos(), latency);
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn nanos(seconds: f64) -> Nanos {
    (seconds * 1e9) as u64
}

#[allow(clippy::cast_precision_loss)]
fn seconds(nanos: Nanos) -> f64 {
    nanos as f64 / 1e9
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn whole(number: f64) -> u64 {
    number.round() as u64
}
