//! Time series and their lifetime.
//!
//! A subsystem declares its families once, with [`handles!`], and gets one handle for each series.
//! The handles are bare: an increment costs no lookup. A [`SeriesSet`] owns the lifetime of the
//! series: a series is exposed while at least one set holds it. Before and after a reload, two sets
//! of a route may hold the same series for a moment, and the series keeps its value.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use prometheus::core::Collector;
use prometheus::{
    Counter, CounterVec, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter,
    IntCounterVec, Opts, Registry,
};

use super::table::Family;
use crate::buckets::Buckets;

/// Declares the families of a subsystem, one line for each: the field, the type of its handle and
/// the family in the table.
///
/// It makes two structs of these fields. The first registers the families, the second has the
/// handles for one set of label values.
macro_rules! handles {
    (
        $(#[$families_doc:meta])* $families:ident,
        $(#[$handles_doc:meta])* $handles:ident {
            $($field:ident: $handle:ty = $family:ident;)+
        }
    ) => {
        $(#[$families_doc])*
        #[derive(Debug)]
        pub(super) struct $families {
            $($field: $crate::metrics::series::SeriesVec<
                <$handle as $crate::metrics::series::Handle>::Child
            >,)+
        }

        impl $families {
            pub(super) fn register(
                registrar: &$crate::metrics::series::Registrar<'_>,
            ) -> prometheus::Result<$families> {
                Ok($families {
                    $($field: registrar.register(&$crate::metrics::table::$family)?,)+
                })
            }

            fn bind(
                &self,
                labels: &[&str],
                series: &mut $crate::metrics::series::SeriesSet,
            ) -> $handles {
                use $crate::metrics::series::Handle as _;
                $handles { $($field: <$handle>::bind(&self.$field, labels, series),)+ }
            }
        }

        $(#[$handles_doc])*
        #[derive(Debug)]
        struct $handles {
            $($field: $handle,)+
        }
    };
}
pub(super) use handles;

/// Registers families of the table.
#[derive(Debug)]
pub(super) struct Registrar<'a> {
    pub(super) registry: &'a Registry,
    pub(super) buckets: &'a Buckets,
}

impl Registrar<'_> {
    pub(super) fn register<C: Child>(&self, family: &Family) -> prometheus::Result<SeriesVec<C>> {
        let vec = C::new_vec(family, self.buckets)?;
        self.registry.register(Box::new(vec.clone()))?;
        let holders = Mutex::default();
        Ok(SeriesVec(Arc::new(Inner { family: *family, vec, holders })))
    }
}

/// A handle on one series, with the collector of all series of its family.
pub(super) trait Child: Clone + Debug + Send + Sync + 'static {
    type Vec: Collector + Clone + Debug + Send + Sync + 'static;

    fn new_vec(family: &Family, buckets: &Buckets) -> prometheus::Result<Self::Vec>;

    /// Returns the series with these label values, and makes it if it does not exist.
    fn get(vec: &Self::Vec, values: &[&str]) -> Self;

    fn remove(vec: &Self::Vec, values: &[String]);
}

macro_rules! child {
    ($child:ident, $vec:ident, $new:expr) => {
        impl Child for $child {
            type Vec = $vec;

            fn new_vec(family: &Family, buckets: &Buckets) -> prometheus::Result<$vec> {
                let new: fn(&Family, &Buckets) -> prometheus::Result<$vec> = $new;
                new(family, buckets)
            }

            fn get(vec: &$vec, values: &[&str]) -> $child {
                vec.with_label_values(values)
            }

            fn remove(vec: &$vec, values: &[String]) {
                // A late gauge that was never set does not exist.
                let _absent = vec.remove_label_values(values);
            }
        }
    };
}

child!(IntCounter, IntCounterVec, |family, _| IntCounterVec::new(options(family), family.labels));
child!(Counter, CounterVec, |family, _| CounterVec::new(options(family), family.labels));
child!(Gauge, GaugeVec, |family, _| GaugeVec::new(options(family), family.labels));
child!(Histogram, HistogramVec, |family, buckets| {
    let bounds = buckets.bounds(family.short_name()).to_vec();
    let options = HistogramOpts::from(options(family)).buckets(bounds);
    HistogramVec::new(options, family.labels)
});

fn options(family: &Family) -> Opts {
    Opts::new(family.name, family.help)
}

/// A registered family and the number of sets that hold each of its series.
#[derive(Debug)]
pub(super) struct SeriesVec<C: Child>(Arc<Inner<C>>);

#[derive(Debug)]
struct Inner<C: Child> {
    family: Family,
    vec: C::Vec,
    /// By label values. A series is made and removed only under this lock, so that the removal by
    /// one holder cannot overtake the creation by the next.
    holders: Mutex<HashMap<Vec<String>, usize>>,
}

impl<C: Child> SeriesVec<C> {
    /// Returns a series that exists as long as the process.
    pub(super) fn permanent(&self, values: &[&str]) -> C {
        C::get(&self.0.vec, values)
    }

    /// Returns the series if a set holds it: a handle that outlives its set must not bring the
    /// series back.
    fn get_if_held(&self, values: &[String]) -> Option<C> {
        let holders = self.holders();
        let values_as_str: Vec<&str> = values.iter().map(String::as_str).collect();
        holders.contains_key(values).then(|| C::get(&self.0.vec, &values_as_str))
    }

    fn release(&self, values: &[String]) {
        let mut holders = self.holders();
        let Some(count) = holders.get_mut(values) else { return };
        *count -= 1;
        if *count == 0 {
            holders.remove(values);
            C::remove(&self.0.vec, values);
        }
    }

    fn holders(&self) -> MutexGuard<'_, HashMap<Vec<String>, usize>> {
        self.0.holders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C: Child> Clone for SeriesVec<C> {
    fn clone(&self) -> SeriesVec<C> {
        SeriesVec(Arc::clone(&self.0))
    }
}

/// Holds series: dropping it removes those that no other set holds.
#[derive(Debug, Default)]
#[must_use]
pub(super) struct SeriesSet(Vec<Box<dyn Held>>);

impl SeriesSet {
    /// Holds the series with these label values, makes it if it does not exist, and returns its
    /// handle.
    pub(super) fn hold<C: Child>(&mut self, vec: &SeriesVec<C>, values: &[&str]) -> C {
        let mut holders = vec.holders();
        *holders.entry(owned(values)).or_default() += 1;
        let child = C::get(&vec.0.vec, values);
        drop(holders);
        self.0.push(Box::new(Hold { vec: vec.clone(), values: owned(values) }));
        child
    }

    /// Holds a series that does not exist before its first value.
    fn hold_late(&mut self, vec: &SeriesVec<Gauge>, values: &[&str]) -> LateGauge {
        *vec.holders().entry(owned(values)).or_default() += 1;
        self.0.push(Box::new(Hold { vec: vec.clone(), values: owned(values) }));
        LateGauge { vec: vec.clone(), values: owned(values), gauge: OnceLock::new() }
    }
}

fn owned(values: &[&str]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

/// A series that a set holds, of any type.
trait Held: Debug + Send {}

#[derive(Debug)]
struct Hold<C: Child> {
    vec: SeriesVec<C>,
    values: Vec<String>,
}

impl<C: Child> Held for Hold<C> {}

impl<C: Child> Drop for Hold<C> {
    fn drop(&mut self) {
        self.vec.release(&self.values);
    }
}

/// Everything that `handles!` can make for one set of label values.
pub(super) trait Handle: Sized {
    type Child: Child;

    fn bind(vec: &SeriesVec<Self::Child>, labels: &[&str], series: &mut SeriesSet) -> Self;
}

impl<C: Child> Handle for C {
    type Child = C;

    fn bind(vec: &SeriesVec<C>, labels: &[&str], series: &mut SeriesSet) -> C {
        series.hold(vec, labels)
    }
}

/// One series for each value that the table lists for the family's last label, in that order.
impl<C: Child> Handle for Vec<C> {
    type Child = C;

    fn bind(vec: &SeriesVec<C>, labels: &[&str], series: &mut SeriesSet) -> Vec<C> {
        let family = vec.0.family;
        let values = family.labels.last().and_then(|label| family.values(label));
        let hold = |value: String| series.hold(vec, &[labels, &[value.as_str()]].concat());
        values.unwrap_or_default().into_iter().map(hold).collect()
    }
}

/// A gauge without a series before its first value, if a 0 would be wrong.
#[derive(Debug)]
pub(super) struct LateGauge {
    vec: SeriesVec<Gauge>,
    values: Vec<String>,
    gauge: OnceLock<Gauge>,
}

impl LateGauge {
    pub(super) fn set(&self, value: f64) {
        if self.gauge.get().is_none()
            && let Some(gauge) = self.vec.get_if_held(&self.values)
        {
            let _set_by_another_thread = self.gauge.set(gauge);
        }
        if let Some(gauge) = self.gauge.get() {
            gauge.set(value);
        }
    }
}

impl Handle for LateGauge {
    type Child = Gauge;

    fn bind(vec: &SeriesVec<Gauge>, labels: &[&str], series: &mut SeriesSet) -> LateGauge {
        series.hold_late(vec, labels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::table;

    handles! {
        Families,
        Handles {
            tokens: IntCounter = INPUT_TOKENS;
            failures: Vec<Histogram> = REQUEST_FAILURE_DURATION;
            retry_after: LateGauge = RETRY_AFTER;
        }
    }

    const LABELS: [&str; 3] = ["t", "m", "s"];

    fn registered() -> (Registry, Families) {
        let (registry, buckets) = (Registry::new(), Buckets::default());
        let registrar = Registrar { registry: &registry, buckets: &buckets };
        let families = Families::register(&registrar).unwrap();
        (registry, families)
    }

    fn exposed(registry: &Registry) -> Vec<(String, usize)> {
        let families = registry.gather().into_iter();
        families.map(|family| (family.name().to_owned(), family.get_metric().len())).collect()
    }

    #[test]
    fn dropping_the_set_removes_every_series_of_it() {
        let (registry, families) = registered();
        let mut series = SeriesSet::default();
        let handles = families.bind(&LABELS, &mut series);
        let failures = (table::REQUEST_FAILURE_DURATION.name.to_owned(), handles.failures.len());
        let tokens = (table::INPUT_TOKENS.name.to_owned(), 1);
        assert_eq!(exposed(&registry), [tokens.clone(), failures.clone()]);
        handles.retry_after.set(3.0);
        let retry_after = (table::RETRY_AFTER.name.to_owned(), 1);
        assert_eq!(exposed(&registry), [tokens, failures, retry_after]);
        drop(series);
        assert_eq!(exposed(&registry), []);
    }

    #[test]
    fn a_series_keeps_its_value_while_any_set_holds_it() {
        let (registry, families) = registered();
        let (mut first, mut second) = (SeriesSet::default(), SeriesSet::default());
        families.bind(&LABELS, &mut first).tokens.inc_by(7);
        let handles = families.bind(&LABELS, &mut second);
        drop(first);
        assert_eq!(handles.tokens.get(), 7);
        drop(second);
        assert_eq!(exposed(&registry), []);
    }

    #[test]
    fn a_late_gauge_that_outlives_its_set_exposes_nothing() {
        let (registry, families) = registered();
        let mut series = SeriesSet::default();
        let handles = families.bind(&LABELS, &mut series);
        drop(series);
        handles.retry_after.set(3.0);
        handles.tokens.inc();
        assert_eq!(exposed(&registry), []);
    }
}
