//! Builds a Grafana dashboard, with variables, rows of panels, annotations for phases, and links to
//! the other dashboards.

use llmload::metrics::table;
use serde_json::{Value, json};

use crate::panel::{Panel, datasource};

/// The newest version of the dashboard schema that Grafana 10 can read.
const SCHEMA: u32 = 39;
/// The tag of all dashboards, by which they link to each other.
const TAG: &str = "llmload";
/// The width of a dashboard in Grafana's units.
const COLUMNS: u64 = 24;

pub struct Dashboard {
    /// The file name without `.json`.
    pub name: &'static str,
    title: &'static str,
    about: &'static str,
    since: &'static str,
    variables: Vec<Value>,
    panels: Vec<Value>,
    y: u64,
}

impl Dashboard {
    pub fn new(name: &'static str, title: &'static str, about: &'static str) -> Dashboard {
        let (scenario, job) = (table::SCENARIO_INFO.name, "job=~\"$job\"");
        let instance = format!("{job},instance=~\"$instance\"");
        let target = format!("{instance},target=~\"$target\"");
        let model = format!("{target},model=~\"$model\"");
        let variables = vec![
            json!({"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "refresh": 1, "hide": 0}),
            query_variable("job", &format!("label_values({scenario}, job)")),
            query_variable("instance", &format!("label_values({scenario}{{{job}}}, instance)")),
            query_variable("target", &format!("label_values({scenario}{{{instance}}}, target)")),
            query_variable("model", &format!("label_values({scenario}{{{target}}}, model)")),
            query_variable("scenario", &format!("label_values({scenario}{{{model}}}, scenario)")),
            list_variable(
                "window",
                "The time over which rates and quantiles are computed. Use at least four scrape \
                 intervals. A quantile of few samples is noise.",
                &["30s", "1m", "5m", "15m", "1h", "6h"],
                "1m",
            ),
        ];
        Dashboard { name, title, about, since: "now-30m", variables, panels: Vec::new(), y: 0 }
    }

    pub fn variable(mut self, variable: Value) -> Dashboard {
        self.variables.push(variable);
        self
    }

    /// Sets the first time range.
    pub fn since(mut self, since: &'static str) -> Dashboard {
        self.since = since;
        self
    }

    /// Adds a heading, and below it panels from left to right in as many lines as necessary.
    pub fn row<const N: usize>(mut self, title: &str, panels: [Panel; N]) -> Dashboard {
        self.panels.push(json!({
            "id": self.panels.len() + 1,
            "type": "row",
            "title": title,
            "collapsed": false,
            "gridPos": {"x": 0, "y": self.y, "w": COLUMNS, "h": 1},
            "panels": [],
        }));
        self.y += 1;
        let (mut x, mut highest) = (0, 0);
        for panel in panels {
            if x + panel.width > COLUMNS {
                self.y += highest;
                (x, highest) = (0, 0);
            }
            self.panels.push(panel.json(self.panels.len() + 1, x, self.y));
            x += panel.width;
            highest = highest.max(panel.height);
        }
        self.y += highest;
        self
    }

    pub fn json(&self) -> Value {
        let marks = |name: &str, colour: &str, expression: String, title: &str, of_value: bool| {
            json!({
                "name": name,
                "datasource": datasource(),
                "enable": true,
                "iconColor": colour,
                "expr": expression,
                "step": "5s",
                "titleFormat": title,
                "useValueForTime": of_value,
            })
        };
        let here = "job=~\"$job\",instance=~\"$instance\"";
        let phase = format!(
            "max by (scenario, phase) ({}{{{here},scenario=~\"$scenario\"}}) == 1",
            table::SCHEDULE_PHASE_ACTIVE.name
        );
        // Grafana needs milliseconds.
        let loaded = format!(
            "max by (job, instance) ({}{{{here}}}) * 1000",
            table::CONFIG_LAST_RELOAD_SUCCESS_TIMESTAMP.name
        );
        json!({
            "uid": format!("llmload-{}", self.name),
            "id": null,
            "title": format!("llmload / {}", self.title),
            "description": self.about,
            "tags": [TAG],
            "schemaVersion": SCHEMA,
            "version": 1,
            "editable": false,
            "graphTooltip": 1,
            "refresh": "10s",
            "time": {"from": self.since, "to": "now"},
            "timezone": "browser",
            "templating": {"list": self.variables},
            "annotations": {"list": [
                marks("Active phases", "blue", phase, "{{scenario}}: {{phase}}", false),
                marks("Configuration loaded", "purple", loaded, "configuration loaded by {{instance}}", true),
            ]},
            "links": [{
                "type": "dashboards",
                "title": "llmload",
                "tags": [TAG],
                "asDropdown": true,
                "includeVars": true,
                "keepTime": true,
                "targetBlank": false,
                "icon": "external link",
                "tooltip": "",
                "url": "",
            }],
            "panels": self.panels,
        })
    }
}

/// Returns a variable whose options are the result of a query. At first, all are selected.
pub fn query_variable(name: &str, query: &str) -> Value {
    json!({
        "name": name,
        "label": name,
        "type": "query",
        "datasource": datasource(),
        "query": {"query": query, "refId": "Variable"},
        "definition": query,
        "refresh": 2,
        "sort": 1,
        "multi": true,
        "includeAll": true,
        "allValue": ".+",
        "current": {"selected": true, "text": ["All"], "value": ["$__all"]},
        "hide": 0,
    })
}

/// Returns a variable with a fixed list of options.
pub fn list_variable(name: &str, about: &str, values: &[&str], current: &str) -> Value {
    let option =
        |value: &&str| json!({"text": value, "value": value, "selected": *value == current});
    let options: Vec<Value> = values.iter().map(option).collect();
    assert!(values.contains(&current));
    json!({
        "name": name,
        "label": name.replace('_', " "),
        "description": about,
        "type": "custom",
        "query": values.join(","),
        "options": options,
        "current": {"text": current, "value": current, "selected": true},
        "multi": false,
        "includeAll": false,
        "hide": 0,
    })
}
