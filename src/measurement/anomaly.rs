//! Deviations from the protocol in a successful response. They make some of its values missing or
//! misleading.

macro_rules! anomalies {
    ($($(#[doc = $doc:literal])+ $variant:ident $label:literal,)+) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Anomaly {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Anomaly {
            /// Every value, in the order in which the documentation lists them.
            pub const ALL: [Anomaly; [$(Anomaly::$variant),+].len()] = [$(Anomaly::$variant),+];

            pub fn as_str(self) -> &'static str {
                match self { $(Anomaly::$variant => $label,)+ }
            }

            pub fn meaning(self) -> &'static str {
                match self { $(Anomaly::$variant => concat!($($doc),+),)+ }
            }
        }
    };
}

anomalies! {
    /// The response contains no valid count of output tokens, although llmload requested usage
    /// (`include_usage`). The metrics of output tokens do not count this response.
    MissingUsage "missing_usage",
    /// The stream ended without the end marker of its API, such as `[DONE]`.
    MissingDone "missing_done",
    /// The response contains no finish reason.
    MissingFinishReason "missing_finish_reason",
    /// The response names another model than the request.
    ModelMismatch "model_mismatch",
    /// The response has at least two visible tokens, but they arrived at once: within 1 ms, or at
    /// more than 100,000 tokens per second. So the response has no TPOT and no TPS. A proxy that
    /// buffers the stream causes this.
    Coalesced "coalesced",
    /// The endpoint counted output tokens, but no text arrived. The tokens are hidden reasoning, or
    /// llmload does not know the field that contains the text. So the response has no TTFT.
    MissingText "missing_text",
    /// The response is an event stream, but its content-type is absent or is not text/event-stream.
    UnexpectedContentType "unexpected_content_type",
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Anomalies(u8);

impl Anomalies {
    pub fn add_if(&mut self, anomaly: Anomaly, condition: bool) {
        self.0 |= u8::from(condition) << anomaly as u8;
    }

    pub fn contains(self, anomaly: Anomaly) -> bool {
        self.0 & (1 << anomaly as u8) != 0
    }

    pub fn iter(self) -> impl Iterator<Item = Anomaly> {
        Anomaly::ALL.into_iter().filter(move |anomaly| self.contains(*anomaly))
    }
}
