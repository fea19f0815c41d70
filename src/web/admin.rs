//! Orders over HTTP: who may give them, what they are, and what is answered. The rate that an order may
//! set is told to anybody.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, ORIGIN};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;

use super::{HEAD_TIMEOUT, Site, json, text, wrong_method};
use crate::config::read_duration;
use crate::control::{AdminCommand, CommandError};
use crate::schedule::Rate;
use crate::status::RateNow;

/// Room for a rate and a duration, many times over.
const BODY: usize = 4096;
/// How long a rate that was set by hand may hold.
const LONGEST: Duration = Duration::from_hours(24 * 30);

/// What a path asks for.
pub(super) enum Route {
    Reload,
    Pause,
    Resume,
    Quit,
    /// Of the scenario of this name.
    Rate(String),
}

impl Route {
    pub(super) fn of(path: &str) -> Option<Route> {
        match path {
            "/-/reload" => Some(Route::Reload),
            "/-/pause" => Some(Route::Pause),
            "/-/resume" => Some(Route::Resume),
            "/-/quit" => Some(Route::Quit),
            path => {
                let name = path.strip_prefix("/api/v1/scenarios/")?.strip_suffix("/rate")?;
                (!name.contains('/')).then(|| Route::Rate(name.to_owned()))
            }
        }
    }
}

impl Site {
    pub(super) async fn apply(
        &self,
        asked: Route,
        request: Request<Incoming>,
        peer: IpAddr,
    ) -> Response<Full<Bytes>> {
        if let (Route::Rate(scenario), &Method::GET | &Method::HEAD) = (&asked, request.method()) {
            return match RateNow::of(&self.board, scenario) {
                Some(rate) => json(&rate),
                None => text(StatusCode::NOT_FOUND, format!("there is no scenario `{scenario}`\n")),
            };
        }
        let back = *request.method() == Method::DELETE && matches!(asked, Route::Rate(_));
        if *request.method() != Method::POST && !back {
            return wrong_method(if matches!(asked, Route::Rate(_)) {
                "GET, HEAD, POST, DELETE"
            } else {
                "POST"
            });
        }
        if let Err(why) = self.may_order(request.headers(), peer) {
            return text(StatusCode::FORBIDDEN, format!("{why}\n"));
        }
        let command = match asked {
            Route::Reload => AdminCommand::Reload,
            Route::Pause => AdminCommand::Pause(true),
            Route::Resume => AdminCommand::Pause(false),
            Route::Quit => AdminCommand::Quit,
            Route::Rate(scenario) if back => AdminCommand::SetRate { scenario, rate: None },
            Route::Rate(scenario) => match rate(request).await {
                Ok(rate) => AdminCommand::SetRate { scenario, rate: Some(rate) },
                Err(why) => return text(StatusCode::BAD_REQUEST, format!("{why}\n")),
            },
        };
        match self.control.ask(command).await {
            Ok(done) => text(StatusCode::OK, format!("{done}\n")),
            Err(refused) => {
                let status = match refused {
                    CommandError::Unknown(_) => StatusCode::NOT_FOUND,
                    CommandError::NotNow(_) => StatusCode::CONFLICT,
                    // As Prometheus answers a reload that failed.
                    CommandError::Wrong(_) => StatusCode::INTERNAL_SERVER_ERROR,
                };
                text(status, format!("{refused}\n"))
            }
        }
    }

    fn may_order(&self, headers: &HeaderMap, peer: IpAddr) -> Result<(), &'static str> {
        if !self.lifecycle && !peer.to_canonical().is_loopback() {
            return Err(
                "Orders are taken from this machine only; start llmload with --web.enable-lifecycle \
                        to take them from others.",
            );
        }
        // A page from elsewhere, open in a browser on this machine, comes from loopback too.
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        let foreign = headers.get(ORIGIN).is_some_and(|origin| {
            let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
            origin.map(|origin| origin.1) != host
                || !self.lifecycle && !host.is_some_and(is_this_machine)
        });
        if foreign { Err("A page of another site may not give orders.") } else { Ok(()) }
    }
}

/// Whether a host is named as only this machine is: any other name may have been pointed here.
fn is_this_machine(host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    name == "localhost" || name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
}

/// The rate and for how long, from a form in the body or from the query.
async fn rate(request: Request<Incoming>) -> Result<(Rate, Duration), String> {
    let query = request.uri().query().unwrap_or_default().to_owned();
    let body =
        tokio::time::timeout(HEAD_TIMEOUT, Limited::new(request.into_body(), BODY).collect()).await;
    let body = body.map_err(|_| "The body did not come in time.".to_owned())?;
    let body =
        body.map_err(|_| "The body could not be read, or is too long.".to_owned())?.to_bytes();
    let (mut rate, mut length) = (None, None);
    let fields =
        url::form_urlencoded::parse(query.as_bytes()).chain(url::form_urlencoded::parse(&body));
    for (name, value) in fields {
        match &*name {
            "rate" => rate = Some(value.parse::<Rate>().map_err(|error| error.to_string())?),
            "for" => length = Some(read_duration(&value).map_err(|error| error.to_string())?),
            _ => return Err(format!("`{name}` is not known here; write `rate=20/s` and `for=5m`")),
        }
    }
    let usage = "write both, such as `curl -d rate=20/s -d for=5m`";
    let rate = rate.ok_or_else(|| format!("`rate` is missing; {usage}"))?;
    let length = length.ok_or_else(|| format!("`for` is missing; {usage}"))?;
    if rate.is_zero() {
        return Err(
            "a rate of 0 sends nothing and counts nothing; POST to /-/pause instead".to_owned()
        );
    }
    if !(Duration::from_secs(1)..=LONGEST).contains(&length) {
        return Err("`for` is out of range; write a duration from 1s to 30d".to_owned());
    }
    Ok((rate, length))
}

#[cfg(test)]
mod tests {
    use super::Route;

    #[test]
    fn a_path_names_an_order_or_none() {
        assert!(
            matches!(Route::of("/api/v1/scenarios/a.b/rate"), Some(Route::Rate(name)) if name == "a.b")
        );
        for none in [
            "/-/",
            "/-/reload/",
            "/api/v1/scenarios/a/b/rate",
            "/api/v1/scenarios/rate",
            "/metrics",
        ] {
            assert!(Route::of(none).is_none(), "{none}");
        }
    }
}
