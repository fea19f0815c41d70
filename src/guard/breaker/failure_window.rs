//! The requests that ended in the last seconds, and the failures among them.
//!
//! The window slides in steps of a twentieth of its length, so its memory does not depend on the
//! number of requests.

use std::time::Duration;

use tokio::time::Instant;

const PARTS: usize = 20;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) failed: u64,
    pub(super) finished: u64,
}

#[derive(Debug)]
pub(super) struct FailureWindow {
    /// The length of a part.
    part: Duration,
    parts: [Counts; PARTS],
    /// The number of the newest part, counted from `start`.
    newest: u64,
    /// The first request.
    start: Option<Instant>,
}

impl FailureWindow {
    pub(super) fn new(length: Duration) -> FailureWindow {
        let part = (length / u32::try_from(PARTS).unwrap_or(u32::MAX)).max(Duration::from_nanos(1));
        FailureWindow { part, parts: [Counts::default(); PARTS], newest: 0, start: None }
    }

    pub(super) fn clear(&mut self) {
        (self.parts, self.newest, self.start) = ([Counts::default(); PARTS], 0, None);
    }

    pub(super) fn record(&mut self, is_failure: bool, now: Instant) {
        let start = *self.start.get_or_insert(now);
        let elapsed = now.saturating_duration_since(start).as_nanos();
        let number = u64::try_from(elapsed / self.part.as_nanos()).unwrap_or(u64::MAX);
        let passed = number.saturating_sub(self.newest);
        for skipped in 0..passed.min(PARTS as u64) {
            self.parts[index(number - skipped)] = Counts::default();
        }
        // Two tasks can report their ends some microseconds out of order.
        self.newest = self.newest.max(number);
        let counts = &mut self.parts[index(self.newest)];
        counts.finished += 1;
        counts.failed += u64::from(is_failure);
    }

    /// The counts of the window that ends with the last record.
    pub(super) fn counts(&self) -> Counts {
        self.parts.iter().fold(Counts::default(), |sum, part| Counts {
            failed: sum.failed + part.failed,
            finished: sum.finished + part.finished,
        })
    }
}

#[allow(clippy::cast_possible_truncation)]
fn index(number: u64) -> usize {
    (number % PARTS as u64) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The reference keeps every record.
        #[test]
        fn the_window_has_exactly_the_records_of_its_last_twenty_parts(
            records in prop::collection::vec((0_u64..400, any::<bool>()), 1..300),
        ) {
            let start = Instant::now();
            let mut window = FailureWindow::new(Duration::from_millis(20 * 10));
            // The parts begin with the first record.
            window.record(false, start);
            let (mut millis, mut all) = (0, vec![(0, false)]);
            for (step, is_failure) in records {
                // Half of the steps are short, so a part has several records.
                millis += if step < 200 { step / 40 } else { step - 200 };
                window.record(is_failure, start + Duration::from_millis(millis));
                all.push((millis / 10, is_failure));
                let newest = millis / 10;
                let kept = || all.iter().filter(|(part, _)| part + 20 > newest);
                let failed = kept().filter(|(_, is_failure)| *is_failure).count() as u64;
                prop_assert_eq!(window.counts(), Counts { failed, finished: kept().count() as u64 });
            }
        }
    }

    #[test]
    fn an_end_out_of_order_counts_in_the_newest_part() {
        let start = Instant::now();
        let mut window = FailureWindow::new(Duration::from_secs(20));
        window.record(true, start + Duration::from_secs(5));
        window.record(true, start + Duration::from_secs(9));
        window.record(false, start);
        assert_eq!(window.counts(), Counts { failed: 2, finished: 3 });
    }
}
