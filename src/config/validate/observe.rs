//! Validates the metrics pages of the server behind a target.

use super::Validator;
use super::secret::is_sensitive;
use crate::config::document::Observe;
use crate::config::field::{Field, Located};
use crate::config::problem::Mistake;
use crate::config::user_info::parse_http_url;
use crate::plan::{MetricsPage, MetricsSource, PageLocation};

const REMEDY: &str = "write a URL such as `http://localhost:9400/metrics`, or a path on the server of the target, \
     such as `/metrics`";

impl Validator<'_> {
    /// Reads the metrics pages. Returns `None` if one of them has a mistake.
    pub(super) fn observe(&self, field: &Field<Observe>) -> Option<Vec<MetricsPage>> {
        let Located { node, value: keys } = match field {
            Field::Absent => return Some(Vec::new()),
            Field::Invalid(_) => return None,
            Field::Present(located) => located,
        };
        let fields = MetricsSource::ALL.map(|source| (source, of_source(keys, source)));
        if fields.iter().all(|(_, field)| field.is_absent()) {
            let example = "add one, such as `vllm: /metrics`, or remove `observe`";
            self.missing(*node, "`observe` names no metrics page", example);
            return None;
        }
        let mut engine: Option<MetricsSource> = None;
        let mut pages = Vec::new();
        let mut is_valid = true;
        for (source, field) in fields {
            if let (Some(first), Some(node), true) = (engine, field.node(), source.is_engine()) {
                let (first, second) = (first.as_str(), source.as_str());
                self.problem(
                    node,
                    format!("`{first}` and `{second}` exclude each other"),
                    "keep only the engine that serves the target",
                );
                is_valid = false;
                continue;
            }
            match field {
                Field::Absent => continue,
                Field::Invalid(_) => is_valid = false,
                Field::Present(located) => match self.page_location(located) {
                    Some(location) => pages.push(MetricsPage { source, location }),
                    None => is_valid = false,
                },
            }
            engine = engine.or(Some(source).filter(|source| source.is_engine()));
        }
        is_valid.then_some(pages)
    }

    fn page_location(&self, located: &Located<String>) -> Option<PageLocation> {
        let text = located.value.trim();
        let location =
            parse_location(text).map_err(|mistake| self.report(located.node, mistake)).ok()?;
        // The report shows the configuration. It shows a variable by its name.
        let text_of_file = self.tree.text(located.node);
        let substituted = text_of_file.and_then(|text| text.substituted.as_ref());
        if has_sensitive_query(text) && !substituted.is_some_and(|new| new.from_variable) {
            self.problem(
                located.node,
                "a secret never belongs in the configuration",
                "put it into a variable, such as `/metrics?token=${NAME}`",
            );
            return None;
        }
        if let PageLocation::Url { url, .. } = &location
            && url.path() == "/"
        {
            self.warn(
                located.node,
                "the URL has no path",
                "add `/metrics`, which most servers expect",
            );
        }
        Some(location)
    }
}

fn of_source(keys: &Observe, source: MetricsSource) -> &Field<String> {
    match source {
        MetricsSource::Vllm => &keys.vllm,
        MetricsSource::Sglang => &keys.sglang,
        MetricsSource::Llamacpp => &keys.llamacpp,
        MetricsSource::Tgi => &keys.tgi,
        MetricsSource::Dcgm => &keys.dcgm,
        MetricsSource::Node => &keys.node,
    }
}

/// Parses the location of a metrics page. No message quotes a URL that can contain a password.
fn parse_location(text: &str) -> Result<PageLocation, Mistake> {
    if text.starts_with('/') {
        return path_location(text);
    }
    let (url, credentials) = parse_http_url(text, "the text is neither a URL nor a path", REMEDY)?;
    if url.fragment().is_some() {
        return Err(Mistake::new("the URL has a fragment", "remove the `#` and the text after it"));
    }
    Ok(PageLocation::Url { url, credentials })
}

/// Returns true if the query of a URL or of a path has a parameter whose name sounds secret.
fn has_sensitive_query(text: &str) -> bool {
    let query = text.split_once('?').map_or("", |(_, query)| query);
    url::form_urlencoded::parse(query.as_bytes()).any(|(name, _)| is_sensitive(&name))
}

fn path_location(text: &str) -> Result<PageLocation, Mistake> {
    // Two slashes, or a slash and a backslash, would begin the name of another host.
    let is_path = !text[1..].starts_with(['/', '\\'])
        && text.bytes().all(|byte| byte.is_ascii_graphic())
        && !text.contains('#');
    if !is_path {
        return Err(Mistake::new("the path is not valid", REMEDY));
    }
    Ok(PageLocation::Path(text.to_owned()))
}
