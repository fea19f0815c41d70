//! Finds out which APIs an endpoint offers. Each request has an empty object as its body, so every
//! server refuses it before a model works on it, and it costs nothing.

use std::time::Duration;

use futures_util::future::join_all;

use crate::deadline;
use crate::endpoint::{Endpoint, HttpEndpoint, Request, Response};
use crate::protocol::Api;

/// The timeout of each request. All of them run at once.
const TIMEOUT: Duration = Duration::from_secs(5);
/// A path that no server has. Its status shows how the server refuses an unknown path.
const UNKNOWN_PATH: &str = "path-that-no-server-has";

/// The APIs of an endpoint, in the order of [`Api::ALL`]. An API is in neither list if the status
/// of its path proves nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OfferedApis {
    pub offered: Vec<Api>,
    pub absent: Vec<Api>,
}

impl OfferedApis {
    /// True if the endpoint offers the API, false if it does not, `None` if this is unknown.
    pub fn has(&self, api: Api) -> Option<bool> {
        let is_known = self.offered.contains(&api) || self.absent.contains(&api);
        is_known.then(|| self.offered.contains(&api))
    }
}

pub(super) async fn find(endpoint: &HttpEndpoint) -> OfferedApis {
    let paths = Api::ALL.map(Api::path).into_iter().chain([UNKNOWN_PATH]);
    let statuses = join_all(paths.map(|path| status(endpoint, path))).await;
    let mut apis = OfferedApis::default();
    let Some((Some(unknown_path), statuses)) = statuses.split_last() else { return apis };
    for (api, status) in Api::ALL.into_iter().zip(statuses) {
        match status.and_then(|status| is_offered(status, *unknown_path)) {
            Some(true) => apis.offered.push(api),
            Some(false) => apis.absent.push(api),
            None => {}
        }
    }
    apis
}

async fn status(endpoint: &HttpEndpoint, path: &'static str) -> Option<u16> {
    let request = Request { path, body: "{}".into(), stream: false, trace: None, session: None };
    let response = deadline::within(TIMEOUT, endpoint.send(request, |_| ())).await;
    Some(response?.ok()?.status())
}

/// Returns true if a path exists. `unknown_path` is the status of a path that does not exist.
fn is_offered(status: u16, unknown_path: u16) -> Option<bool> {
    match status {
        404 | 405 | 501 => Some(false),
        // The server or a proxy refuses every path in this way.
        status if status == unknown_path => None,
        // A refused key, a rate limit, or a server that is away.
        401 | 403 | 429 | 502..=504 => None,
        _ => Some(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_api_is_offered_if_its_path_is_not_refused_like_an_unknown_path() {
        for (status, unknown_path, expected) in [
            (400, 404, Some(true)),
            (422, 404, Some(true)),
            (500, 404, Some(true)),
            (404, 404, Some(false)),
            (405, 405, Some(false)),
            (404, 400, Some(false)),
            (400, 400, None),
            (401, 404, None),
            (401, 401, None),
            (503, 404, None),
            (200, 200, None),
        ] {
            assert_eq!(is_offered(status, unknown_path), expected, "{status} {unknown_path}");
        }
    }
}
