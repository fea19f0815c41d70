//! Validates the times at which a scenario runs: the start of its schedule and its active windows.

use std::time::Duration;

use super::Validator;
use crate::calendar::{Anchor, Cron, Days, Hours, ParseError, Window, Windows, Zone};
use crate::config::document::{self, Active, Scenario, Start};
use crate::config::duration::HumanDuration;
use crate::config::field::{Field, FieldList, Located};
use crate::config::hints;
use crate::config::tree::{NodeId, excerpt};
use crate::plan;
use crate::schedule::{Repeat, Schedule};

impl Validator<'_> {
    pub(super) fn start(&self, field: &Field<Start>) -> Option<plan::Start> {
        let (node, keys) = match field {
            Field::Invalid(_) => return None,
            Field::Absent => return Some(plan::Start::WhenReady),
            Field::Present(Located { node, value: Start::Text(name) }) => {
                return self.start_by_name(*node, name);
            }
            Field::Present(Located { node, value: Start::Map(keys) }) => (*node, keys),
        };
        match (keys.wall_clock.node(), keys.cron.node()) {
            (None, None) => {
                self.missing(
                    node,
                    "`start` has neither `wall_clock` nor `cron`",
                    "write `{cron: \"0 2 * * *\", timezone: Europe/Berlin}`",
                );
                None
            }
            (Some(_), Some(cron)) => {
                self.problem(
                    cron,
                    "`cron` and `wall_clock` exclude each other",
                    "remove one of them",
                );
                None
            }
            (None, Some(_)) => {
                let zone = self.zone(&keys.timezone);
                let cron = keys.cron.present()?;
                // Checks the expression even if the time zone has a mistake.
                let read = Cron::new(&cron.value, zone.clone().unwrap_or(Zone::UTC));
                let read = self.read(cron, read);
                zone.and(read).map(plan::Start::Cron)
            }
            (Some(wall_clock), None) => {
                let remedy = "write `wall_clock: {timezone: Europe/Berlin}`";
                if let Some(misplaced) = keys.timezone.node() {
                    let message = "`timezone` is not allowed next to `wall_clock`";
                    self.problem(misplaced, message, remedy);
                    return None;
                }
                let timezone = &keys.wall_clock.present()?.value.timezone;
                if timezone.is_absent() {
                    self.missing(
                        wall_clock,
                        "`timezone` is missing",
                        format!(
                            "{remedy}, or `start: wall_clock` to count cycles from the Unix epoch"
                        ),
                    );
                    return None;
                }
                self.zone(timezone).map(|zone| plan::Start::WallClock(Anchor::Midnight(zone)))
            }
        }
    }

    fn start_by_name(&self, node: NodeId, name: &str) -> Option<plan::Start> {
        match name.trim() {
            "when_ready" => Some(plan::Start::WhenReady),
            "now" => Some(plan::Start::Now),
            "wall_clock" => Some(plan::Start::WallClock(Anchor::Epoch)),
            _ => {
                let name = excerpt(name);
                self.problem(
                    node,
                    format!("`{name}` is not a valid choice"),
                    "write `when_ready`, `now`, `wall_clock` or \
                     `{cron: \"0 2 * * *\", timezone: Europe/Berlin}`",
                );
                None
            }
        }
    }

    /// Checks that the schedule fits its start. If the schedule is longer than a day, or than the
    /// time to the next cron firing, the result is a warning: llmload ends it at midnight, or skips
    /// the next firing.
    pub(super) fn check_start(
        &self,
        scenario: &Scenario,
        start: &plan::Start,
        schedule: &Schedule,
        repeat: Repeat,
    ) {
        const DAY: Duration = Duration::from_hours(24);
        let Some(node) = scenario.start.node() else { return };
        let length = schedule.length();
        match (start, repeat) {
            (plan::Start::WallClock(_), _) if !schedule.is_timed() => self.problem(
                node,
                "a phase that counts `requests` or searches has no fixed length, so the wall clock \
                 cannot give the position in its cycle",
                "write a phase with a fixed length, or `start: when_ready`",
            ),
            (plan::Start::WallClock(Anchor::Midnight(_)), _) if length > DAY => self.warn(
                node,
                format!(
                    "the schedule lasts {}, but starts again at each midnight",
                    HumanDuration(length)
                ),
                "shorten it to a day, or write `start: wall_clock`",
            ),
            (plan::Start::Cron(cron), Repeat::Times(times))
                if cron.has_interval_below(length.saturating_mul(times.get())) =>
            {
                let length = HumanDuration(length.saturating_mul(times.get()));
                self.warn(
                    node,
                    format!(
                        "the cron can fire while the schedule, which lasts {length}, still runs, \
                         and llmload skips such a firing"
                    ),
                    "fire less often, or shorten the schedule",
                );
            }
            _ => {}
        }
    }

    /// Returns `None` for a mistake, and `Some(None)` without windows: the scenario is always
    /// active.
    #[allow(clippy::option_option)]
    pub(super) fn active(&self, field: &Field<Active>) -> Option<Option<Windows>> {
        let windows = match field {
            Field::Invalid(_) => return None,
            Field::Absent => return Some(None),
            Field::Present(Located { node, value: Active::Map(window) }) => {
                vec![self.window(*node, window)]
            }
            Field::Present(Located { node, value: Active::List(FieldList(list)) }) => {
                if list.is_empty() || list.len() > Windows::MAX_COUNT {
                    self.problem(
                        *node,
                        format!("`active` has {} windows", list.len()),
                        format!("write 1 to {}, or remove `active`", Windows::MAX_COUNT),
                    );
                }
                let read = |entry: &Field<_>| {
                    entry.present().and_then(|located| self.window(located.node, &located.value))
                };
                list.iter().map(read).collect()
            }
        };
        windows.into_iter().collect::<Option<_>>().map(|windows| Some(Windows::new(windows)))
    }

    fn window(&self, node: NodeId, window: &document::Window) -> Option<Window> {
        if window.days.is_absent() && window.hours.is_absent() {
            self.missing(
                node,
                "the window has neither `days` nor `hours`",
                "write `{days: mon-fri, hours: \"08:00-20:00\"}`, or remove `active` to be always \
                 active",
            );
            return None;
        }
        let days = match &window.days {
            Field::Invalid(_) => None,
            Field::Absent => Some(Days::ALL),
            Field::Present(Located { node, value: document::Days::Text(text) }) => {
                let days = Located { node: *node, value: text.clone() };
                self.read(&days, days.value.trim().parse())
            }
            Field::Present(Located { node, value: document::Days::List(FieldList(list)) }) => {
                if list.is_empty() {
                    self.problem(
                        *node,
                        "the list of days is empty",
                        "write at least one day, or remove `days` for all days",
                    );
                }
                let day = |entry: &Field<String>| {
                    entry.present().and_then(|day| self.read(day, day.value.trim().parse()))
                };
                let days: Vec<Option<Days>> = list.iter().map(day).collect();
                days.into_iter()
                    .collect::<Option<Vec<_>>>()
                    .and_then(|days| days.into_iter().reduce(Days::union))
            }
        };
        let hours = match &window.hours {
            Field::Invalid(_) => None,
            Field::Absent => Some(Hours::ALL),
            Field::Present(hours) => self.read(hours, hours.value.trim().parse()),
        };
        let zone = self.zone(&window.timezone);
        Some(Window { days: days?, hours: hours?, zone: zone? })
    }

    pub(super) fn zone(&self, field: &Field<String>) -> Option<Zone> {
        match field {
            Field::Invalid(_) => None,
            Field::Absent => Some(Zone::UTC),
            Field::Present(Located { node, value }) => {
                let zone = Zone::by_name(value.trim());
                if zone.is_none() {
                    let zones: Vec<_> = Zone::names().collect();
                    self.report(*node, hints::unknown_zone(value, &zones));
                }
                zone
            }
        }
    }

    /// Returns a parsed value, or records the error of the parser.
    fn read<T>(&self, located: &Located<String>, read: Result<T, ParseError>) -> Option<T> {
        read.map_err(|ParseError { problem, remedy }| {
            let message = format!("`{}` is {problem}", excerpt(&located.value));
            self.problem(located.node, message, remedy);
        })
        .ok()
    }
}
