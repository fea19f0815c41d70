//! Reads a metrics page in the text format of Prometheus. It keeps only the metrics of a closed
//! set, so its memory does not depend on the page.
//!
//! The reader accepts the page in parts, and the result does not depend on the split. A line that
//! is not valid has no effect.

#[cfg(test)]
mod tests;

use std::hash::{DefaultHasher, Hash, Hasher};

use memchr::{memchr, memchr2};

use super::catalog::{Catalog, Input, Metric, Selection, catalog, is_name};
use crate::plan::MetricsSource;

/// The longest line that is read, in bytes. Longer lines are skipped.
const MAX_LINE: usize = 16 << 10;
/// The most groups of time series of one metric. Further groups are skipped.
const MAX_SERIES: usize = 1024;
/// The highest value of a metric. It keeps every sum finite.
const MAX_VALUE: f64 = 1e30;

/// The values of a metric over all its time series.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reading {
    /// The number of time series. It is never 0.
    pub count: u32,
    pub sum: f64,
    pub max: f64,
}

impl Reading {
    fn add(&mut self, value: f64) {
        self.count = self.count.saturating_add(1);
        self.sum += value;
        self.max = self.max.max(value);
    }
}

/// The values of one metrics page. A value that is not on the page is `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page([Option<Reading>; Input::COUNT]);

impl Page {
    pub(super) fn get(&self, input: Input) -> Option<Reading> {
        self.0[input as usize]
    }

    /// Returns true if the page has none of the known metrics.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }
}

/// Reads one page.
#[derive(Debug)]
pub struct PageReader {
    catalog: &'static Catalog,
    /// One entry for each metric of the catalog.
    values: Vec<Values>,
    /// The start of a line whose end has not arrived.
    line: Vec<u8>,
    /// True if the rest of the line is skipped, because the line is too long.
    is_skipping: bool,
}

#[derive(Clone, Debug, Default)]
struct Values {
    reading: Reading,
    /// The highest value of each group of time series, for [`Selection::Same`].
    groups: Vec<(u64, f64)>,
}

impl PageReader {
    pub fn new(source: MetricsSource) -> PageReader {
        let catalog = catalog(source);
        let values = vec![Values::default(); catalog.metrics.len()];
        PageReader { catalog, values, line: Vec::new(), is_skipping: false }
    }

    /// Reads the next part of the page.
    pub fn push(&mut self, mut bytes: &[u8]) {
        while let Some(end) = memchr(b'\n', bytes) {
            let (part, rest) = (&bytes[..end], &bytes[end + 1..]);
            if self.line.is_empty() && !self.is_skipping {
                self.read(part);
            } else {
                self.extend(part);
                self.end_line();
            }
            bytes = rest;
        }
        self.extend(bytes);
    }

    /// Ends the page, and returns its values.
    pub fn finish(mut self) -> Page {
        self.end_line();
        let mut page = Page::default();
        for (metric, values) in self.catalog.metrics.iter().zip(self.values) {
            let mut reading = values.reading;
            for (_, value) in values.groups {
                reading.add(value);
            }
            let place = &mut page.0[metric.input as usize];
            if place.is_none() && reading.count > 0 {
                *place = Some(reading);
            }
        }
        page
    }

    fn extend(&mut self, part: &[u8]) {
        if self.is_skipping || self.line.len() + part.len() > MAX_LINE {
            self.line.clear();
            self.is_skipping = true;
        } else {
            self.line.extend_from_slice(part);
        }
    }

    fn end_line(&mut self) {
        let mut line = std::mem::take(&mut self.line);
        if !std::mem::take(&mut self.is_skipping) {
            self.read(&line);
        }
        line.clear();
        self.line = line;
    }

    /// Reads one line.
    fn read(&mut self, line: &[u8]) {
        // The limit applies to the complete line, so it does not depend on the split of the page.
        let is_too_long = line.len() > MAX_LINE;
        let line = line.trim_ascii();
        if is_too_long || line.first().is_none_or(|first| *first == b'#') {
            return;
        }
        let end = line.iter().position(|byte| matches!(byte, b'{' | b' ' | b'\t'));
        let (name, rest) = line.split_at(end.unwrap_or(line.len()));
        let mut sample = None;
        for (metric, values) in self.catalog.metrics.iter().zip(&mut self.values) {
            if is_name(name, metric.name) {
                // Most lines have other names, so only a line with this name is parsed.
                let Some((labels, value)) = *sample.get_or_insert_with(|| parse(rest)) else {
                    return;
                };
                values.add(metric, labels, value * metric.scale);
            }
        }
    }
}

impl Values {
    fn add(&mut self, metric: &Metric, labels: &[u8], value: f64) {
        match metric.selection {
            Selection::All => self.reading.add(value),
            Selection::Where(name, allowed) => {
                let is_selected = Labels(labels).any(|(label, text)| {
                    label == name.as_bytes() && allowed.iter().any(|one| one.as_bytes() == text)
                });
                if is_selected {
                    self.reading.add(value);
                }
            }
            Selection::Same(names) => {
                let group = group(labels, names);
                let known = self.groups.iter_mut().find(|(known, _)| *known == group);
                if let Some((_, highest)) = known {
                    *highest = highest.max(value);
                } else if self.groups.len() < MAX_SERIES {
                    self.groups.push((group, value));
                }
            }
        }
    }
}

/// Returns a hash of the values of these labels. The order of the labels has no effect.
fn group(labels: &[u8], names: &[&str]) -> u64 {
    let hashes = Labels(labels)
        .filter(|(label, _)| names.iter().any(|name| name.as_bytes() == *label))
        .map(|pair| {
            let mut hasher = DefaultHasher::new();
            pair.hash(&mut hasher);
            hasher.finish()
        });
    hashes.fold(0, u64::wrapping_add)
}

/// Parses the part of a line after the name. Returns the text between the braces, and the value. A
/// timestamp after the value is ignored. Returns `None` if the part is not valid, or if the value
/// is negative or not finite.
fn parse(rest: &[u8]) -> Option<(&[u8], f64)> {
    let rest = rest.trim_ascii_start();
    let (labels, rest) = match rest.strip_prefix(b"{") {
        None => (&[][..], rest),
        Some(inner) => {
            let end = end_of_labels(inner)?;
            (&inner[..end], &inner[end + 1..])
        }
    };
    let value = rest.trim_ascii_start();
    let end = memchr2(b' ', b'\t', value).unwrap_or(value.len());
    let value: f64 = std::str::from_utf8(&value[..end]).ok()?.parse().ok()?;
    (0.0..=MAX_VALUE).contains(&value).then_some((labels, value))
}

/// Returns the position of the closing brace. A brace in a value does not count.
fn end_of_labels(inner: &[u8]) -> Option<usize> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    inner.iter().position(|byte| {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            b'}' if !is_quoted => return true,
            _ => {}
        }
        false
    })
}

/// The labels in a text such as `a="b",c="d"`. The escapes in the values stay.
struct Labels<'a>(&'a [u8]);

impl<'a> Iterator for Labels<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<(&'a [u8], &'a [u8])> {
        let equals = memchr(b'=', self.0)?;
        let name = self.0[..equals].trim_ascii();
        let value = self.0[equals + 1..].trim_ascii_start().strip_prefix(b"\"")?;
        let mut is_escaped = false;
        let end = value.iter().position(|byte| {
            let is_end = *byte == b'"' && !is_escaped;
            is_escaped = *byte == b'\\' && !is_escaped;
            is_end
        })?;
        let rest = value[end + 1..].trim_ascii_start();
        self.0 = rest.strip_prefix(b",").unwrap_or(rest).trim_ascii_start();
        Some((name, &value[..end]))
    }
}
