//! Admin requests: the check that the client is allowed to send them, their conversion to commands,
//! and the responses. Every client is allowed to read the rate of a scenario.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, ORIGIN};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;

use super::{HEAD_TIMEOUT, WebState, json, text, wrong_method};
use crate::config::read_duration;
use crate::control::{AdminCommand, CommandError};
use crate::schedule::Rate;
use crate::schedule_state::RateOverride;
use crate::status::CurrentRate;

/// The longest request body, in bytes. A rate and a duration need much less.
const MAX_BODY: usize = 4096;
/// The longest manual rate override.
const MAX_OVERRIDE: Duration = Duration::from_hours(24 * 30);

const OTHER_MACHINE: &str = "admin requests are accepted from this machine only; to accept them \
    from other machines, start llmload with --web.enable-lifecycle";
const OTHER_SITE: &str = "a page of another site must not send admin requests; open llmload at \
    localhost or at its IP address";

/// A path that accepts admin requests.
pub(super) enum AdminPath {
    Reload,
    Pause,
    Resume,
    Quit,
    /// The rate of the scenario with this name.
    Rate(String),
}

impl AdminPath {
    pub(super) fn parse(path: &str) -> Option<AdminPath> {
        match path {
            "/-/reload" => Some(AdminPath::Reload),
            "/-/pause" => Some(AdminPath::Pause),
            "/-/resume" => Some(AdminPath::Resume),
            "/-/quit" => Some(AdminPath::Quit),
            path => {
                let name = path.strip_prefix("/api/v1/scenarios/")?.strip_suffix("/rate")?;
                (!name.contains('/')).then(|| AdminPath::Rate(name.to_owned()))
            }
        }
    }
}

impl WebState {
    pub(super) async fn handle_admin(
        &self,
        path: AdminPath,
        request: Request<Incoming>,
        peer: IpAddr,
    ) -> Response<Full<Bytes>> {
        let allowed = match &path {
            AdminPath::Rate(_) => "GET, HEAD, POST, DELETE",
            _ => "POST",
        };
        let is_delete = match (&path, request.method()) {
            (AdminPath::Rate(scenario), &Method::GET | &Method::HEAD) => {
                return self.rate(scenario);
            }
            (AdminPath::Rate(_), &Method::DELETE) => true,
            (_, &Method::POST) => false,
            _ => return wrong_method(allowed),
        };
        if let Err(reason) = self.check_origin(request.headers(), peer) {
            return text(StatusCode::FORBIDDEN, format!("{reason}\n"));
        }
        let command = match path {
            AdminPath::Reload => AdminCommand::Reload,
            AdminPath::Pause => AdminCommand::Pause,
            AdminPath::Resume => AdminCommand::Resume,
            AdminPath::Quit => AdminCommand::Quit,
            AdminPath::Rate(scenario) if is_delete => {
                AdminCommand::SetRate { scenario, rate: RateOverride::Clear }
            }
            AdminPath::Rate(scenario) => match parse_rate(request).await {
                Ok((rate, length)) => {
                    AdminCommand::SetRate { scenario, rate: RateOverride::Set { rate, length } }
                }
                Err(reason) => return text(StatusCode::BAD_REQUEST, format!("{reason}\n")),
            },
        };
        match self.control.execute(command).await {
            Ok(done) => text(StatusCode::OK, format!("{done}\n")),
            Err(refused) => {
                let status = match refused {
                    CommandError::NotFound(_) => StatusCode::NOT_FOUND,
                    CommandError::Unavailable(_) => StatusCode::CONFLICT,
                    // Prometheus responds to a failed reload with the same status.
                    CommandError::Invalid(_) => StatusCode::INTERNAL_SERVER_ERROR,
                };
                text(status, format!("{refused}\n"))
            }
        }
    }

    fn rate(&self, scenario: &str) -> Response<Full<Bytes>> {
        match CurrentRate::find(&self.board, scenario) {
            Some(rate) => json(&rate),
            None => text(StatusCode::NOT_FOUND, format!("there is no scenario `{scenario}`\n")),
        }
    }

    /// Rejects requests from web pages of other sites. Rejects requests from other machines, unless
    /// `--web.enable-lifecycle` allows them.
    fn check_origin(&self, headers: &HeaderMap, peer: IpAddr) -> Result<(), &'static str> {
        if !self.lifecycle && !peer.to_canonical().is_loopback() {
            return Err(OTHER_MACHINE);
        }
        // A browser on this machine can show a page of another site. Requests from this page come
        // from a loopback address too, so the address alone is not enough.
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        let foreign = headers.get(ORIGIN).is_some_and(|origin| {
            let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
            origin.map(|origin| origin.1) != host
                || !self.lifecycle && !host.is_some_and(is_this_machine)
        });
        if foreign { Err(OTHER_SITE) } else { Ok(()) }
    }
}

/// Returns true if a host is `localhost` or an IP address. All other names are rejected: an
/// attacker can make DNS resolve the name of a web page to this machine, and the page could then
/// send admin requests.
fn is_this_machine(host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    name == "localhost" || name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
}

/// Reads the rate and its duration from a form in the request body, or from the query of the URL.
async fn parse_rate(request: Request<Incoming>) -> Result<(Rate, Duration), String> {
    let query = request.uri().query().unwrap_or_default().to_owned();
    let body =
        tokio::time::timeout(HEAD_TIMEOUT, Limited::new(request.into_body(), MAX_BODY).collect())
            .await;
    let body = body.map_err(|_| "the request body did not arrive in time".to_owned())?;
    let body = body
        .map_err(|_| {
            "the request body could not be read or is too long; send at most 4 KiB".to_owned()
        })?
        .to_bytes();
    let (mut rate, mut length) = (None, None);
    let fields =
        url::form_urlencoded::parse(query.as_bytes()).chain(url::form_urlencoded::parse(&body));
    for (name, value) in fields {
        match &*name {
            "rate" => rate = Some(value.parse::<Rate>().map_err(|error| error.to_string())?),
            "for" => length = Some(read_duration(&value).map_err(|error| error.to_string())?),
            _ => return Err(format!("unknown parameter `{name}`; send `rate=20/s` and `for=5m`")),
        }
    }
    let usage = "send both, such as `curl -d rate=20/s -d for=5m`";
    let rate = rate.ok_or_else(|| format!("`rate` is missing; {usage}"))?;
    let length = length.ok_or_else(|| format!("`for` is missing; {usage}"))?;
    if rate.is_zero() {
        return Err("a rate of 0 sends nothing; to stop the load, POST to /-/pause".to_owned());
    }
    if !(Duration::from_secs(1)..=MAX_OVERRIDE).contains(&length) {
        return Err("`for` is out of range; send a duration from 1s to 30d".to_owned());
    }
    Ok((rate, length))
}

#[cfg(test)]
mod tests {
    use super::AdminPath;

    #[test]
    fn only_the_exact_paths_are_admin_requests() {
        let rate = AdminPath::parse("/api/v1/scenarios/a.b/rate");
        assert!(matches!(rate, Some(AdminPath::Rate(name)) if name == "a.b"));
        for none in [
            "/-/",
            "/-/reload/",
            "/api/v1/scenarios/a/b/rate",
            "/api/v1/scenarios/rate",
            "/metrics",
        ] {
            assert!(AdminPath::parse(none).is_none(), "{none}");
        }
    }
}
