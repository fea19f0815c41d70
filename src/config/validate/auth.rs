//! Validates the credentials of a target: an API key, or the user and the password in its URL.

use super::Validator;
use crate::config::document::{self, Target};
use crate::config::field::{Field, Located};
use crate::config::tree::NodeId;
use crate::plan::{Auth, BasicCredentials, Secret};
use crate::protocol::Api;

impl Validator<'_> {
    /// Reads the credentials. `credentials` are the user and the password in the base URL.
    pub(super) fn auth(
        &self,
        target: &Target,
        node: NodeId,
        credentials: Option<BasicCredentials>,
    ) -> Option<Auth> {
        if let Some(credentials) = credentials {
            let others = [&target.api_key_env, &target.api_key_file].map(Field::node);
            if let Some(other) = others.into_iter().flatten().chain(target.auth.node()).next() {
                self.problem(
                    other,
                    "the URL has a user already, and llmload sends it as basic auth",
                    "remove one of them",
                );
                return None;
            }
            return Some(Auth::Basic(credentials));
        }
        let scheme = match &target.auth {
            Field::Absent => None,
            Field::Invalid(_) => return None,
            Field::Present(located) => Some(located),
        };
        let secret: Secret = match (&target.api_key_env, &target.api_key_file) {
            (Field::Absent, Field::Absent) => {
                return match scheme {
                    None | Some(Located { value: document::Auth::None, .. }) => Some(Auth::None),
                    Some(located) => {
                        self.problem(
                            located.node,
                            "the target has no API key to send",
                            "write `api_key_env` or `api_key_file`",
                        );
                        None
                    }
                };
            }
            (Field::Present(name), Field::Absent) => self.secret_from_variable(name)?,
            (Field::Absent, Field::Present(file)) => self.secret_from_file(file)?,
            (Field::Invalid(_), Field::Absent) | (Field::Absent, Field::Invalid(_)) => return None,
            (_, file) => {
                let located = file.node().unwrap_or(node);
                self.problem(
                    located,
                    "`api_key_file` and `api_key_env` exclude each other",
                    "remove one of them",
                );
                return None;
            }
        };
        // Every client of Anthropic's API sends the key in `x-api-key`.
        let usual = match super::dialect::api(target) {
            Api::Messages => document::Auth::XApiKey,
            Api::Chat | Api::Completions | Api::Responses | Api::Embeddings => {
                document::Auth::Bearer
            }
        };
        match scheme.map_or(usual, |located| located.value) {
            document::Auth::Bearer => Some(Auth::Bearer(secret)),
            document::Auth::ApiKey => Some(Auth::ApiKey(secret)),
            document::Auth::XApiKey => Some(Auth::XApiKey(secret)),
            document::Auth::None => {
                let located = scheme.map_or(node, |located| located.node);
                self.problem(located, "`none` contradicts the API key", "remove one of them");
                None
            }
        }
    }
}
