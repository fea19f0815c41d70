//! Admin requests: their conversion to commands, and the responses. Reading the rate of a scenario
//! is no admin request.

use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;

use super::connections::{Content, HEAD_TIMEOUT};
use super::origin::Peer;
use super::{Site, json, refused, text, wrong_method};
use crate::config::read_duration;
use crate::control::{AdminCommand, CommandError};
use crate::schedule::Rate;
use crate::schedule_state::RateOverride;
use crate::status::CurrentRate;

/// In bytes. A rate and a duration need much less.
const MAX_BODY: usize = 4096;
const MAX_OVERRIDE: Duration = Duration::from_hours(24 * 30);

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

impl Site {
    pub(super) async fn handle_admin(
        &self,
        path: AdminPath,
        request: Request<Incoming>,
        peer: Peer,
    ) -> Response<Content> {
        let allowed = match &path {
            AdminPath::Rate(_) => "GET, HEAD, POST, DELETE",
            _ => "POST",
        };
        let is_delete = match (&path, request.method()) {
            (AdminPath::Rate(scenario), &Method::GET | &Method::HEAD) => {
                return match self.access.check_read(request.headers(), peer) {
                    Ok(()) => self.rate(scenario),
                    Err(refusal) => refused(refusal),
                };
            }
            (AdminPath::Rate(_), &Method::DELETE) => true,
            (_, &Method::POST) => false,
            _ => return wrong_method(allowed),
        };
        if let Err(refusal) = self.access.check_admin(request.headers(), peer) {
            return refused(refusal);
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
        match self.state.control.execute(command).await {
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

    fn rate(&self, scenario: &str) -> Response<Content> {
        match CurrentRate::find(&self.state.board, scenario) {
            Some(rate) => json(&rate),
            None => text(StatusCode::NOT_FOUND, format!("there is no scenario `{scenario}`\n")),
        }
    }
}

/// Reads the rate and its duration from a form in the body, or from the query.
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
