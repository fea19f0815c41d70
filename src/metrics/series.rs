//! Prometheus time series and their lifetime.
//!
//! A module declares its metric families with [`metric_structs!`]. The macro makes a struct with
//! one counter, gauge or histogram for each series, so an increment needs no lookup by labels.
//!
//! A series exists while at least one [`SeriesSet`] contains it. During a reload, the old and the
//! new set of a route both contain it, so it keeps its value.

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

/// Declares the metric families of a module. Each line has the name of a field, its type (a
/// [`MetricField`]), and the name of the family in [`table`](super::table).
///
/// The macro makes two structs with these fields: the registered families, and the metrics for one
/// set of label values.
macro_rules! metric_structs {
    (
        $(#[$families_doc:meta])* $families:ident,
        $(#[$metrics_doc:meta])* $metrics:ident {
            $($field:ident: $metric:ty = $family:ident;)+
        }
    ) => {
        $(#[$families_doc])*
        #[derive(Debug)]
        pub(super) struct $families {
            $($field: $crate::metrics::series::SeriesVec<
                <$metric as $crate::metrics::series::MetricField>::Metric
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
            ) -> $metrics {
                use $crate::metrics::series::MetricField as _;
                $metrics { $($field: <$metric>::bind(&self.$field, labels, series),)+ }
            }
        }

        $(#[$metrics_doc])*
        #[derive(Debug)]
        struct $metrics {
            $($field: $metric,)+
        }
    };
}
pub(super) use metric_structs;

#[derive(Debug)]
pub(super) struct Registrar<'a> {
    pub(super) registry: &'a Registry,
    pub(super) buckets: &'a Buckets,
}

impl Registrar<'_> {
    pub(super) fn register<M: Metric>(&self, family: &Family) -> prometheus::Result<SeriesVec<M>> {
        let vec = M::new_vec(family, self.buckets)?;
        self.registry.register(Box::new(vec.clone()))?;
        let guard_counts = Mutex::default();
        Ok(SeriesVec(Arc::new(Inner { family: *family, vec, guard_counts })))
    }
}

/// One series of a family: a counter, a gauge or a histogram.
pub(super) trait Metric: Clone + Debug + Send + Sync + 'static {
    /// All series of the family.
    type Vec: Collector + Clone + Debug + Send + Sync + 'static;

    fn new_vec(family: &Family, buckets: &Buckets) -> prometheus::Result<Self::Vec>;

    /// Returns the series with these label values, and creates it if necessary.
    fn get(vec: &Self::Vec, values: &[&str]) -> Self;

    fn remove(vec: &Self::Vec, values: &[String]);
}

macro_rules! impl_metric {
    ($metric:ident, $vec:ident, $new:expr) => {
        impl Metric for $metric {
            type Vec = $vec;

            fn new_vec(family: &Family, buckets: &Buckets) -> prometheus::Result<$vec> {
                let new: fn(&Family, &Buckets) -> prometheus::Result<$vec> = $new;
                new(family, buckets)
            }

            fn get(vec: &$vec, values: &[&str]) -> $metric {
                vec.with_label_values(values)
            }

            fn remove(vec: &$vec, values: &[String]) {
                // A `LazyGauge` that was never set has no series.
                let _absent = vec.remove_label_values(values);
            }
        }
    };
}

impl_metric!(IntCounter, IntCounterVec, |family, _| IntCounterVec::new(
    options(family),
    family.labels
));
impl_metric!(Counter, CounterVec, |family, _| CounterVec::new(options(family), family.labels));
impl_metric!(Gauge, GaugeVec, |family, _| GaugeVec::new(options(family), family.labels));
impl_metric!(Histogram, HistogramVec, |family, buckets| {
    let bounds = buckets.bounds(family.short_name()).to_vec();
    let options = HistogramOpts::from(options(family)).buckets(bounds);
    HistogramVec::new(options, family.labels)
});

fn options(family: &Family) -> Opts {
    Opts::new(family.name, family.help)
}

/// A registered family, and for each of its series the number of [`SeriesSet`]s that contain it.
#[derive(Debug)]
pub(super) struct SeriesVec<M: Metric>(Arc<Inner<M>>);

#[derive(Debug)]
struct Inner<M: Metric> {
    family: Family,
    vec: M::Vec,
    /// The number of [`SeriesGuard`]s of each series, by label values. Series are created and
    /// removed under this lock. Otherwise a thread could remove a series that another thread has
    /// just added.
    guard_counts: Mutex<HashMap<Vec<String>, usize>>,
}

impl<M: Metric> SeriesVec<M> {
    /// Returns a series that is never removed.
    pub(super) fn permanent(&self, values: &[&str]) -> M {
        M::get(&self.0.vec, values)
    }

    /// Returns the series if a [`SeriesSet`] contains it. A removed series must not be created
    /// again.
    fn get_if_exposed(&self, values: &[String]) -> Option<M> {
        let guard_counts = self.guard_counts();
        let values_as_str: Vec<&str> = values.iter().map(String::as_str).collect();
        guard_counts.contains_key(values).then(|| M::get(&self.0.vec, &values_as_str))
    }

    fn release(&self, values: &[String]) {
        let mut guard_counts = self.guard_counts();
        let Some(count) = guard_counts.get_mut(values) else { return };
        *count -= 1;
        if *count == 0 {
            guard_counts.remove(values);
            M::remove(&self.0.vec, values);
        }
    }

    fn guard_counts(&self) -> MutexGuard<'_, HashMap<Vec<String>, usize>> {
        self.0.guard_counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M: Metric> Clone for SeriesVec<M> {
    fn clone(&self) -> SeriesVec<M> {
        SeriesVec(Arc::clone(&self.0))
    }
}

/// A set of series. Dropping it removes its series, unless another set contains them.
#[derive(Debug, Default)]
#[must_use]
pub(super) struct SeriesSet(Vec<Box<dyn AnySeriesGuard>>);

impl SeriesSet {
    /// Adds the series with these label values and returns it.
    pub(super) fn add<M: Metric>(&mut self, vec: &SeriesVec<M>, values: &[&str]) -> M {
        let mut guard_counts = vec.guard_counts();
        *guard_counts.entry(owned(values)).or_default() += 1;
        let metric = M::get(&vec.0.vec, values);
        drop(guard_counts);
        self.0.push(Box::new(SeriesGuard { vec: vec.clone(), values: owned(values) }));
        metric
    }

    /// Adds a series that does not exist before its gauge is first set.
    fn add_lazy(&mut self, vec: &SeriesVec<Gauge>, values: &[&str]) -> LazyGauge {
        *vec.guard_counts().entry(owned(values)).or_default() += 1;
        self.0.push(Box::new(SeriesGuard { vec: vec.clone(), values: owned(values) }));
        LazyGauge { vec: vec.clone(), values: owned(values), gauge: OnceLock::new() }
    }
}

fn owned(values: &[&str]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

/// A [`SeriesGuard`] of any metric type.
trait AnySeriesGuard: Debug + Send {}

/// Keeps one series exposed, until the last guard is dropped.
#[derive(Debug)]
struct SeriesGuard<M: Metric> {
    vec: SeriesVec<M>,
    values: Vec<String>,
}

impl<M: Metric> AnySeriesGuard for SeriesGuard<M> {}

impl<M: Metric> Drop for SeriesGuard<M> {
    fn drop(&mut self) {
        self.vec.release(&self.values);
    }
}

/// The type of a field in [`metric_structs!`].
pub(super) trait MetricField: Sized {
    type Metric: Metric;

    fn bind(vec: &SeriesVec<Self::Metric>, labels: &[&str], series: &mut SeriesSet) -> Self;
}

impl<M: Metric> MetricField for M {
    type Metric = M;

    fn bind(vec: &SeriesVec<M>, labels: &[&str], series: &mut SeriesSet) -> M {
        series.add(vec, labels)
    }
}

/// One series for each value of the last label, in the order of
/// [`Family::values`](super::table::Family::values).
impl<M: Metric> MetricField for Vec<M> {
    type Metric = M;

    fn bind(vec: &SeriesVec<M>, labels: &[&str], series: &mut SeriesSet) -> Vec<M> {
        let family = vec.0.family;
        let values = family.labels.last().and_then(|label| family.values(label));
        let add = |value: String| series.add(vec, &[labels, &[value.as_str()]].concat());
        values.unwrap_or_default().into_iter().map(add).collect()
    }
}

/// A gauge without a series before it is first set, for metrics that must not be 0 then.
#[derive(Debug)]
pub(super) struct LazyGauge {
    vec: SeriesVec<Gauge>,
    values: Vec<String>,
    gauge: OnceLock<Gauge>,
}

impl LazyGauge {
    pub(super) fn set(&self, value: f64) {
        if self.gauge.get().is_none()
            && let Some(gauge) = self.vec.get_if_exposed(&self.values)
        {
            let _set_by_another_thread = self.gauge.set(gauge);
        }
        if let Some(gauge) = self.gauge.get() {
            gauge.set(value);
        }
    }
}

impl MetricField for LazyGauge {
    type Metric = Gauge;

    fn bind(vec: &SeriesVec<Gauge>, labels: &[&str], series: &mut SeriesSet) -> LazyGauge {
        series.add_lazy(vec, labels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::table;

    metric_structs! {
        Families,
        TestMetrics {
            tokens: IntCounter = INPUT_TOKENS;
            failures: Vec<Histogram> = REQUEST_FAILURE_DURATION;
            retry_after: LazyGauge = RETRY_AFTER;
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
    fn dropping_a_series_set_removes_all_its_series() {
        let (registry, families) = registered();
        let mut series = SeriesSet::default();
        let metrics = families.bind(&LABELS, &mut series);
        let failures = (table::REQUEST_FAILURE_DURATION.name.to_owned(), metrics.failures.len());
        let tokens = (table::INPUT_TOKENS.name.to_owned(), 1);
        assert_eq!(exposed(&registry), [tokens.clone(), failures.clone()]);
        metrics.retry_after.set(3.0);
        let retry_after = (table::RETRY_AFTER.name.to_owned(), 1);
        assert_eq!(exposed(&registry), [tokens, failures, retry_after]);
        drop(series);
        assert_eq!(exposed(&registry), []);
    }

    #[test]
    fn a_series_in_two_sets_keeps_its_value_until_both_are_dropped() {
        let (registry, families) = registered();
        let (mut first, mut second) = (SeriesSet::default(), SeriesSet::default());
        families.bind(&LABELS, &mut first).tokens.inc_by(7);
        let metrics = families.bind(&LABELS, &mut second);
        drop(first);
        assert_eq!(metrics.tokens.get(), 7);
        drop(second);
        assert_eq!(exposed(&registry), []);
    }

    #[test]
    fn setting_a_gauge_after_its_removal_exposes_nothing() {
        let (registry, families) = registered();
        let mut series = SeriesSet::default();
        let metrics = families.bind(&LABELS, &mut series);
        drop(series);
        metrics.retry_after.set(3.0);
        metrics.tokens.inc();
        assert_eq!(exposed(&registry), []);
    }
}
