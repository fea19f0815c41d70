//! The archive of failed requests, as a file writes it.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::field::Field;
use crate::config::scalar::Size;

/// The archive of failed requests.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields, extend("required" = ["dir"]))]
pub struct Failures {
    /// The folder of the archive, relative to the configuration file. llmload creates it. Required.
    /// Example: `failures`.
    pub dir: Field<String>,
    /// The highest size of the archive, 1MiB to 1TiB. If it is full, llmload deletes the oldest
    /// records. Default: 256MiB.
    #[schemars(extend("default" = "256MiB"))]
    pub max_bytes: Field<Size>,
    /// The part of each request that the archive keeps: `full` for the complete request body,
    /// `hash` for its size and a hash, or `none`. Only a request with its complete body can be sent
    /// again with `llmload failures`. Default: `none`.
    #[schemars(extend("default" = "none"))]
    pub prompts: Field<KeptPrompts>,
}

/// The part of each request that the archive keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum KeptPrompts {
    /// The complete request body.
    Full,
    /// The size and a hash of the request body.
    Hash,
    /// Nothing of the request body.
    None,
}
