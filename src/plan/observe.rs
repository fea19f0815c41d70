//! The metrics pages of the server of a target. `llmload run` reads them during the run.

use std::fmt;

use url::Url;

use super::BasicCredentials;

/// The program that serves a metrics page. It determines the names of the metrics on the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricsSource {
    Vllm,
    Sglang,
    /// The server of llama.cpp.
    Llamacpp,
    /// Text Generation Inference.
    Tgi,
    /// dcgm-exporter, which shows the GPUs of a machine.
    Dcgm,
    /// `node_exporter`, which shows the CPUs and the memory of a machine.
    Node,
}

impl MetricsSource {
    pub const ALL: [MetricsSource; 6] = [
        MetricsSource::Vllm,
        MetricsSource::Sglang,
        MetricsSource::Llamacpp,
        MetricsSource::Tgi,
        MetricsSource::Dcgm,
        MetricsSource::Node,
    ];

    /// Returns the key of `observe` in the file, which is also the name in a report.
    pub fn as_str(self) -> &'static str {
        match self {
            MetricsSource::Vllm => "vllm",
            MetricsSource::Sglang => "sglang",
            MetricsSource::Llamacpp => "llamacpp",
            MetricsSource::Tgi => "tgi",
            MetricsSource::Dcgm => "dcgm",
            MetricsSource::Node => "node",
        }
    }

    /// Returns true if the program is an inference engine.
    pub fn is_engine(self) -> bool {
        !matches!(self, MetricsSource::Dcgm | MetricsSource::Node)
    }
}

/// The name of the program, for a message.
impl fmt::Display for MetricsSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MetricsSource::Vllm => "vLLM",
            MetricsSource::Sglang => "SGLang",
            MetricsSource::Llamacpp => "llama.cpp",
            MetricsSource::Tgi => "TGI",
            MetricsSource::Dcgm => "dcgm-exporter",
            MetricsSource::Node => "node_exporter",
        })
    }
}

/// A metrics page and the program that serves it.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricsPage {
    pub source: MetricsSource,
    pub location: PageLocation,
}

/// The location of a metrics page.
#[derive(Clone, Debug, PartialEq)]
pub enum PageLocation {
    /// A path on the server of the target. It begins with a slash and can have a query.
    Path(String),
    /// The URL, without user and password.
    Url {
        url: Url,
        /// The user and the password that llmload sends to the page.
        credentials: Option<BasicCredentials>,
    },
}

impl PageLocation {
    /// Returns the URL of the page. `base` is the base URL of the target.
    pub fn url(&self, base: &Url) -> Url {
        match self {
            // The configuration accepts only paths that can be joined with every base URL.
            PageLocation::Path(path) => base.join(path).unwrap_or_else(|_| base.clone()),
            PageLocation::Url { url, .. } => url.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_on_the_server_of_the_target_and_not_below_its_base_url() {
        let base = Url::parse("http://host:8000/v1").unwrap();
        let url = |path: &str| PageLocation::Path(path.to_owned()).url(&base).to_string();
        assert_eq!(url("/metrics"), "http://host:8000/metrics");
        assert_eq!(url("/metrics?model=m"), "http://host:8000/metrics?model=m");
    }
}
