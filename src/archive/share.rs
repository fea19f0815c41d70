//! The share of the archive that each class of failure can use. One class, such as a rate limit
//! that refuses half of all requests, must not push out the rare failures of the other classes.
//!
//! Each class has its own allowance. An allowance grows with time, up to its capacity. A class that
//! has used up its allowance can use the common allowance, if there is one.

use tokio::time::Instant;

use crate::measurement::Failure;

/// The smallest record, in bytes. A class with less room cannot archive any record.
const SMALLEST_RECORD: u64 = 256;

/// The limits of an archive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Limits {
    /// The capacity of the allowance of each class.
    pub(super) class: Amount,
    /// The bytes that each class can use in addition in each second, up to the capacity.
    pub(super) bytes_per_second: f64,
    /// The amount that all classes share. It does not grow.
    pub(super) common: Amount,
}

/// A number of records and their size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Amount {
    pub(super) records: u64,
    pub(super) bytes: u64,
}

impl Amount {
    pub(super) const NOTHING: Amount = Amount { records: 0, bytes: 0 };

    fn has_room(self, bytes: u64) -> bool {
        self.records > 0 && self.bytes >= bytes
    }

    fn take(&mut self, bytes: u64) {
        self.records -= 1;
        self.bytes -= bytes;
    }
}

/// The allowances that are left.
#[derive(Debug)]
pub(super) struct Shares {
    limits: Limits,
    /// The allowance of each class, in the order of [`Failure::ALL`], and the instant up to which
    /// it has grown.
    classes: [(Amount, Instant); Failure::ALL.len()],
    common: Amount,
}

impl Shares {
    pub(super) fn new(limits: Limits, now: Instant) -> Shares {
        let classes = [(limits.class, now); Failure::ALL.len()];
        Shares { limits, classes, common: limits.common }
    }

    /// Returns true if the class can possibly archive a record. The size of the record is not known
    /// yet.
    pub(super) fn has_room(&mut self, class: Failure, now: Instant) -> bool {
        self.grow(class, now);
        let own = self.classes[class as usize].0;
        [own, self.common].into_iter().any(|amount| amount.has_room(SMALLEST_RECORD))
    }

    /// Takes a record of this size from the allowance of the class, or from the common allowance.
    /// Returns false if both have too little room.
    pub(super) fn take(&mut self, class: Failure, bytes: u64, now: Instant) -> bool {
        self.grow(class, now);
        let own = &mut self.classes[class as usize].0;
        for amount in [own, &mut self.common] {
            if amount.has_room(bytes) {
                amount.take(bytes);
                return true;
            }
        }
        false
    }

    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn grow(&mut self, class: Failure, now: Instant) {
        let Limits { class: capacity, bytes_per_second, .. } = self.limits;
        let (amount, since) = &mut self.classes[class as usize];
        let elapsed = now.saturating_duration_since(*since).as_secs_f64();
        let bytes = (elapsed * bytes_per_second) as u64;
        // A fraction of a byte stays for the next call.
        if bytes > 0 {
            amount.bytes = amount.bytes.saturating_add(bytes).min(capacity.bytes);
            *since = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const LIMITS: Limits = Limits {
        class: Amount { records: 3, bytes: 3000 },
        bytes_per_second: 0.0,
        common: Amount { records: 2, bytes: 5000 },
    };

    #[test]
    fn one_class_cannot_use_the_share_of_another() {
        let now = Instant::now();
        let mut shares = Shares::new(LIMITS, now);
        let taken = (0..100).filter(|_| shares.take(Failure::RateLimited, 500, now)).count();
        assert_eq!(taken, 5, "three records of its own, and two common records");
        assert!(!shares.has_room(Failure::RateLimited, now));
        for class in Failure::ALL.into_iter().filter(|class| *class != Failure::RateLimited) {
            assert!(shares.has_room(class, now) && shares.take(class, 3000, now), "{class}");
            assert!(!shares.take(class, 1, now), "{class}");
        }
    }

    #[test]
    fn an_allowance_grows_up_to_its_capacity() {
        let start = Instant::now();
        let class = Amount { records: u64::MAX, bytes: 1000 };
        let limits = Limits { class, bytes_per_second: 10.0, common: Amount::NOTHING };
        let mut shares = Shares::new(limits, start);
        assert!(shares.take(Failure::Dns, 1000, start) && !shares.take(Failure::Dns, 300, start));
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(!shares.take(Failure::Dns, 300, at(29)));
        assert!(shares.take(Failure::Dns, 300, at(30)));
        assert!(shares.take(Failure::Dns, 1000, at(10_000)));
        assert!(!shares.take(Failure::Dns, 1, at(10_000)), "not above the capacity");
    }

    proptest! {
        #[test]
        fn all_records_together_stay_within_the_limits(
            records in proptest::collection::vec((0..Failure::ALL.len(), 1u64..4000), 0..300),
        ) {
            let now = Instant::now();
            let mut shares = Shares::new(LIMITS, now);
            let mut total = 0;
            for (class, bytes) in records {
                if shares.take(Failure::ALL[class], bytes, now) {
                    total += bytes;
                }
            }
            let classes = Failure::ALL.len() as u64;
            prop_assert!(total <= LIMITS.class.bytes * classes + LIMITS.common.bytes);
        }
    }
}
