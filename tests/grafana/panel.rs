//! Builds one Grafana panel.

use serde_json::{Value, json};

#[derive(Clone, Copy)]
pub enum Unit {
    Seconds,
    PerSecond,
    TokensPerSecond,
    /// A fraction from 0 to 1, shown as a percentage.
    Percent,
    Count,
    Bytes,
    /// A Unix time in milliseconds, shown as an age such as "2 hours ago".
    TimeAgo,
    /// No unit, for states and names.
    Plain,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Unit::Seconds => "s",
            Unit::PerSecond => "reqps",
            Unit::TokensPerSecond => "suffix: tok/s",
            Unit::Percent => "percentunit",
            Unit::Count => "short",
            Unit::Bytes => "bytes",
            Unit::TimeAgo => "dateTimeFromNow",
            Unit::Plain => "none",
        }
    }
}

/// The text of most panels without data.
const NO_TRAFFIC: &str = "No traffic";

/// The colours of lines, the same on all dashboards.
const COLOURS: &[(&str, &str)] = &[
    ("p50", "green"),
    ("p90", "orange"),
    ("p99", "red"),
    ("mean", "blue"),
    ("scheduled", "text"),
    ("offered", "blue"),
    ("started", "purple"),
    ("finished", "orange"),
    ("succeeded", "green"),
    ("server", "purple"),
    ("client", "blue"),
];

#[derive(Clone)]
pub struct Panel {
    pub width: u64,
    pub height: u64,
    kind: &'static str,
    title: String,
    about: String,
    unit: Unit,
    empty_text: &'static str,
    bounds: (Option<f64>, Option<f64>),
    queries: Vec<(String, String)>,
    overrides: Vec<Value>,
    steps: Vec<Value>,
    mappings: Vec<Value>,
    stacked: bool,
    transformations: Vec<Value>,
}

impl Panel {
    fn new(kind: &'static str, title: &str, unit: Unit, (width, height): (u64, u64)) -> Panel {
        Panel {
            width,
            height,
            kind,
            title: title.to_owned(),
            about: String::new(),
            unit,
            empty_text: NO_TRAFFIC,
            bounds: (Some(0.0), None),
            queries: Vec::new(),
            overrides: Vec::new(),
            steps: vec![json!({"color": "text", "value": null})],
            mappings: Vec::new(),
            stacked: false,
            transformations: Vec::new(),
        }
    }

    /// Creates a panel with lines over time. Two panels fit into a row.
    pub fn lines(title: &str, unit: Unit) -> Panel {
        Panel::new("timeseries", title, unit, (12, 8))
    }

    /// Creates a panel with one number. Eight panels fit into a row.
    pub fn number(title: &str, unit: Unit) -> Panel {
        Panel::new("stat", title, unit, (3, 4))
    }

    /// Creates a panel that shows a histogram over time.
    pub fn heatmap(title: &str, unit: Unit) -> Panel {
        Panel::new("heatmap", title, unit, (12, 8))
    }

    pub fn states(title: &str) -> Panel {
        Panel::new("state-timeline", title, Unit::Plain, (24, 6))
    }

    /// A table of current values, with one row for each time series.
    pub fn table(title: &str, unit: Unit) -> Panel {
        Panel::new("table", title, unit, (24, 6))
    }

    pub fn about(mut self, about: &str) -> Panel {
        about.clone_into(&mut self.about);
        self
    }

    pub fn query(mut self, legend: &str, expression: impl Into<String>) -> Panel {
        self.queries.push((legend.to_owned(), expression.into()));
        self
    }

    pub fn with_width(mut self, width: u64) -> Panel {
        self.width = width;
        self
    }

    /// Sets the text of the panel without data.
    pub fn empty_text(mut self, text: &'static str) -> Panel {
        self.empty_text = text;
        self
    }

    pub fn allow_negative(mut self) -> Panel {
        self.bounds.0 = None;
        self
    }

    /// Limits the axis to 100 %.
    pub fn at_most_one(mut self) -> Panel {
        self.bounds.1 = Some(1.0);
        self
    }

    pub fn stacked(mut self) -> Panel {
        self.stacked = true;
        self
    }

    /// Sets the colour of all values from `value` upwards. A colour means good or bad, so neutral
    /// values have none.
    pub fn colour_from(mut self, value: f64, colour: &str) -> Panel {
        self.steps.push(json!({"color": colour, "value": value}));
        self
    }

    /// Sets the colour of the values below the first [`Panel::colour_from`].
    pub fn base_colour(mut self, colour: &str) -> Panel {
        self.steps[0] = json!({"color": colour, "value": null});
        self
    }

    /// Shows a value as this text in this colour.
    pub fn map_value(mut self, value: &str, text: &str, colour: &str) -> Panel {
        let mut options = serde_json::Map::new();
        options.insert(
            value.to_owned(),
            json!({"text": text, "color": colour, "index": self.mappings.len()}),
        );
        self.mappings.push(json!({"type": "value", "options": options}));
        self
    }

    /// Draws a limit or a scheduled value as a dashed line.
    pub fn dashed(self, legend: &str) -> Panel {
        self.with(legend, &[("custom.lineStyle", json!({"fill": "dash", "dash": [8, 6]}))])
    }

    /// Like [`Panel::dashed`], for every line that matches a regular expression.
    pub fn dashed_where(mut self, names: &str) -> Panel {
        self.overrides.push(json!({
            "matcher": {"id": "byRegexp", "options": names},
            "properties": [{"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [8, 6]}}],
        }));
        self
    }

    /// Draws counts as bars in the background, on a separate axis.
    pub fn background_bars(self, legend: &str) -> Panel {
        self.with(
            legend,
            &[
                ("unit", json!("short")),
                ("custom.drawStyle", json!("bars")),
                ("custom.axisPlacement", json!("right")),
                ("custom.fillOpacity", json!(10)),
                ("custom.lineWidth", json!(0)),
                ("color", json!({"mode": "fixed", "fixedColor": "text"})),
            ],
        )
    }

    /// Fills the area between two lines, the bounds of a confidence interval.
    pub fn band(self, low: &str, high: &str, colour: &str) -> Panel {
        let edge = |more: Option<Value>| {
            let mut properties = vec![
                ("custom.lineWidth", json!(0)),
                ("color", json!({"mode": "fixed", "fixedColor": colour})),
                ("custom.hideFrom", json!({"legend": true, "tooltip": false, "viz": false})),
            ];
            properties.extend(more.map(|low| ("custom.fillBelowTo", low)));
            properties
        };
        self.with(low, &edge(None)).with(high, &edge(Some(json!(low))))
    }

    /// Sets properties of the line with this legend.
    fn with(mut self, legend: &str, properties: &[(&str, Value)]) -> Panel {
        let properties: Vec<Value> =
            properties.iter().map(|(id, value)| json!({"id": id, "value": value})).collect();
        self.overrides.push(json!({
            "matcher": {"id": "byName", "options": legend},
            "properties": properties,
        }));
        self
    }

    /// Sets the columns of a table: each label with its heading. All other columns are hidden.
    pub fn columns(mut self, columns: &[(&str, &str)]) -> Panel {
        let order: serde_json::Map<String, Value> = columns
            .iter()
            .enumerate()
            .map(|(at, (name, _))| ((*name).to_owned(), json!(at)))
            .collect();
        let names: serde_json::Map<String, Value> =
            columns.iter().map(|(name, shown)| ((*name).to_owned(), json!(shown))).collect();
        let kept: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
        if self.queries.len() > 1 {
            self.transformations.push(json!({"id": "merge", "options": {}}));
        }
        self.transformations
            .push(json!({"id": "filterFieldsByName", "options": {"include": {"names": kept}}}));
        self.transformations.push(
            json!({"id": "organize", "options": {"indexByName": order, "renameByName": names}}),
        );
        self
    }

    pub fn column_unit(self, shown: &str, unit: Unit) -> Panel {
        self.with(shown, &[("unit", json!(unit.name()))])
    }

    pub fn json(&self, id: usize, x: u64, y: u64) -> Value {
        let mut defaults = json!({
            "unit": self.unit.name(),
            "noValue": self.empty_text,
            "color": {"mode": if self.kind == "timeseries" { "palette-classic" } else { "thresholds" }},
            "thresholds": {"mode": "absolute", "steps": self.steps},
            "mappings": self.mappings,
            "custom": self.custom(),
        });
        for (name, bound) in [("min", self.bounds.0), ("max", self.bounds.1)] {
            if let Some(bound) = bound.filter(|_| self.kind == "timeseries") {
                defaults[name] = json!(bound);
            }
        }
        let mut panel = json!({
            "id": id,
            "type": self.kind,
            "title": self.title,
            "description": self.about,
            "datasource": datasource(),
            "gridPos": {"x": x, "y": y, "w": self.width, "h": self.height},
            "fieldConfig": {"defaults": defaults, "overrides": self.overrides()},
            "options": self.options(),
            "targets": self.targets(),
        });
        if !self.transformations.is_empty() {
            panel["transformations"] = json!(self.transformations);
        }
        panel
    }

    fn overrides(&self) -> Vec<Value> {
        let coloured = |(legend, _): &(String, String)| {
            let colour = COLOURS.iter().find(|(name, _)| name == legend)?.1;
            Some(json!({
                "matcher": {"id": "byName", "options": legend},
                "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}],
            }))
        };
        self.queries.iter().filter_map(coloured).chain(self.overrides.iter().cloned()).collect()
    }

    fn custom(&self) -> Value {
        match self.kind {
            "timeseries" => json!({
                "drawStyle": "line",
                "lineWidth": 1,
                "fillOpacity": if self.stacked { 40 } else { 0 },
                "showPoints": "auto",
                "spanNulls": false,
                "stacking": {"mode": if self.stacked { "normal" } else { "none" }, "group": "A"},
            }),
            "state-timeline" => json!({"fillOpacity": 70, "lineWidth": 0}),
            "heatmap" => json!({"scaleDistribution": {"type": "linear"}}),
            "table" => json!({"align": "auto", "cellOptions": {"type": "auto"}}),
            _ => json!({}),
        }
    }

    fn options(&self) -> Value {
        match self.kind {
            "timeseries" => json!({
                "legend": {"displayMode": "table", "placement": "bottom", "showLegend": true, "calcs": ["lastNotNull", "max"]},
                "tooltip": {"mode": "multi", "sort": "desc"},
            }),
            "stat" => json!({
                "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": false},
                "colorMode": "value",
                "graphMode": "area",
                "textMode": "auto",
            }),
            "heatmap" => json!({
                "calculate": false,
                "color": {"mode": "scheme", "scheme": "Oranges", "exponent": 0.5, "steps": 64},
                "filterValues": {"le": 1e-9},
                "yAxis": {"unit": self.unit.name()},
                "cellValues": {"unit": "short"},
                "tooltip": {"mode": "single", "yHistogram": true},
                "legend": {"show": true},
            }),
            "state-timeline" => json!({
                "mergeValues": true,
                "showValue": "never",
                "legend": {"displayMode": "list", "placement": "bottom", "showLegend": false},
            }),
            _ => json!({"showHeader": true, "cellHeight": "sm"}),
        }
    }

    fn targets(&self) -> Vec<Value> {
        let at_once = self.kind == "table";
        let target = |(at, (legend, expression)): (usize, &(String, String))| {
            let letter = char::from(b'A' + u8::try_from(at).unwrap());
            json!({
                "refId": letter.to_string(),
                "datasource": datasource(),
                "expr": expression,
                "legendFormat": legend,
                "instant": at_once,
                "range": !at_once,
                "format": match self.kind { "heatmap" => "heatmap", "table" => "table", _ => "time_series" },
            })
        };
        self.queries.iter().enumerate().map(target).collect()
    }
}

/// The data source is a variable, because its id differs in each Grafana.
pub fn datasource() -> Value {
    json!({"type": "prometheus", "uid": "${datasource}"})
}
