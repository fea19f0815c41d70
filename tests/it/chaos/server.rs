//! A server that chooses a fault for each request. The seed and the number of the request determine
//! the fault.

use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::upstream::{
    Act, DONE, FINISH, USAGE, chunk, good, head, last_chunk, plain, stream_head, token,
};

/// Every kind of response of this server. `Good` is the most frequent one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Good,
    SlowStream,
    SplitStream,
    LongStream,
    GoodThenClose,
    GoodThenReset,
    GoodThenSilence,
    StatusWithQuote,
    Redirect,
    NoContent,
    HugeErrorBody,
    NewLabels,
    Reset,
    Close,
    HalfHead,
    Silence,
    HeadThenSilence,
    TokenThenSilence,
    TokenThenClose,
    TokenThenReset,
    NoFinish,
    ErrorInStream,
    BrokenJson,
    BadUtf8,
    BadChunkSize,
    NotHttp,
    EmptyBody,
    HugeUsage,
    Comments,
    EndlessLine,
    Interim,
    HugeHead,
    Encoded,
    ResponseBeforeRequestEnds,
}

impl Kind {
    pub const FAULTS: [Kind; 33] = [
        Kind::SlowStream,
        Kind::SplitStream,
        Kind::LongStream,
        Kind::GoodThenClose,
        Kind::GoodThenReset,
        Kind::GoodThenSilence,
        Kind::StatusWithQuote,
        Kind::Redirect,
        Kind::NoContent,
        Kind::HugeErrorBody,
        Kind::NewLabels,
        Kind::Reset,
        Kind::Close,
        Kind::HalfHead,
        Kind::Silence,
        Kind::HeadThenSilence,
        Kind::TokenThenSilence,
        Kind::TokenThenClose,
        Kind::TokenThenReset,
        Kind::NoFinish,
        Kind::ErrorInStream,
        Kind::BrokenJson,
        Kind::BadUtf8,
        Kind::BadChunkSize,
        Kind::NotHttp,
        Kind::EmptyBody,
        Kind::HugeUsage,
        Kind::Comments,
        Kind::EndlessLine,
        Kind::Interim,
        Kind::HugeHead,
        Kind::Encoded,
        Kind::ResponseBeforeRequestEnds,
    ];

    /// Chooses the kind of the response to request `number`.
    pub fn choose(seed: u64, number: u64) -> Kind {
        let mut random = ChaCha8Rng::seed_from_u64(seed ^ number.rotate_left(32));
        if random.random_bool(0.5) {
            Kind::Good
        } else {
            Kind::FAULTS[random.random_range(0..Kind::FAULTS.len())]
        }
    }

    /// Returns the response to a request. An error message quotes `quote`.
    pub fn script(self, number: u64, quote: &str) -> Vec<Act> {
        self.complete_stream()
            .or_else(|| self.other_status(number, quote))
            .or_else(|| self.broken_stream(quote))
            .unwrap_or_else(|| self.broken_http(number, quote))
    }

    /// Returns a response that is a success.
    fn complete_stream(self) -> Option<Vec<Act>> {
        let stream = |tokens: &[Act]| {
            let end = [chunk(FINISH), chunk(USAGE), chunk(DONE), last_chunk()];
            [&[stream_head()], tokens, &end].concat()
        };
        Some(match self {
            Kind::Good => good(),
            Kind::SlowStream => {
                let moment = Act::Pause(Duration::from_millis(20));
                stream(&vec![[chunk(&token("slow ")), moment]; 10].concat())
            }
            Kind::SplitStream => good()
                .into_iter()
                .flat_map(|act| match act {
                    Act::Write(bytes) => {
                        bytes.chunks(7).map(|part| Act::Write(part.to_vec())).collect()
                    }
                    act => vec![act],
                })
                .collect(),
            Kind::LongStream => stream(&vec![chunk(&token("long ")); 500]),
            Kind::GoodThenClose => [good(), vec![Act::CloseOnNext]].concat(),
            Kind::GoodThenReset => [good(), vec![Act::Reset]].concat(),
            // llmload reads the rest of the body for a moment, and then gives up.
            Kind::GoodThenSilence => {
                let mut acts = good();
                acts.pop();
                [acts, vec![Act::Silence]].concat()
            }
            Kind::HugeUsage => vec![
                stream_head(),
                chunk(&token("a")),
                chunk(&format!(
                    "{FINISH}data: {{\"choices\":[],\"usage\":{{\"prompt_tokens\":{0},\
                     \"completion_tokens\":{0},\"total_tokens\":{0}}}}}\n\n",
                    u64::MAX
                )),
                last_chunk(),
            ],
            _ => return None,
        })
    }

    /// Returns a response whose status is not 200.
    fn other_status(self, number: u64, quote: &str) -> Option<Vec<Act>> {
        Some(match self {
            Kind::StatusWithQuote => {
                let status = [
                    "400 Bad Request",
                    "401 Unauthorized",
                    "402 Payment Required",
                    "404 Not Found",
                    "422 Unprocessable Entity",
                    "429 Too Many Requests",
                    "500 Oops",
                    "503 Service Unavailable",
                    "529 Overloaded",
                ];
                let status = status[usize::try_from(number).unwrap() % status.len()];
                plain(status, "application/json", &error(&format!("cannot process: {quote}")))
            }
            Kind::Redirect => vec![head(
                "307 Temporary Redirect",
                &["location: http://127.0.0.1:1/", "content-length: 0"],
            )],
            Kind::NoContent => vec![head("204 No Content", &[])],
            Kind::HugeErrorBody => plain("500 Oops", "text/plain", &"x".repeat(1 << 20)),
            // Text of a server must not create a series.
            Kind::NewLabels => {
                let body = serde_json::json!({"error": {"message": format!("message {number}"),
                    "type": format!("type_{number}"), "code": format!("code_{number}")}});
                let status = format!("{} Status{number}", 400 + number % 200);
                plain(&status, "application/json", &body.to_string())
            }
            Kind::ResponseBeforeRequestEnds => {
                [plain("413 Content Too Large", "text/plain", "too large"), vec![Act::Reset]]
                    .concat()
            }
            _ => return None,
        })
    }

    /// Returns an event stream that fails.
    fn broken_stream(self, quote: &str) -> Option<Vec<Act>> {
        let started = |rest: Act| vec![stream_head(), chunk(&token("a")), rest];
        let started_and_ended =
            |event: Act| vec![stream_head(), chunk(&token("a")), event, last_chunk()];
        Some(match self {
            Kind::HeadThenSilence => vec![stream_head(), Act::Silence],
            Kind::TokenThenSilence => started(Act::Silence),
            Kind::TokenThenClose => started(Act::Close),
            Kind::TokenThenReset => started(Act::Reset),
            Kind::NoFinish => started(last_chunk()),
            Kind::ErrorInStream => started_and_ended(chunk(&format!("data: {}\n\n", error(quote)))),
            Kind::BrokenJson => started_and_ended(chunk(&format!("data: {{\"key\": {quote}\n\n"))),
            Kind::BadUtf8 => started_and_ended(Act::Write(b"9\r\ndata: \xff\n\n\r\n".to_vec())),
            Kind::EmptyBody => vec![stream_head(), last_chunk()],
            Kind::Comments => {
                let Act::Write(comment) = chunk(": keep-alive\n\n") else { unreachable!() };
                vec![stream_head(), Act::Trickle(comment, Duration::from_millis(50))]
            }
            Kind::EndlessLine => {
                let Act::Write(piece) = chunk(&"x".repeat(1 << 16)) else { unreachable!() };
                let pause = Duration::from_millis(1);
                vec![stream_head(), chunk("data: "), Act::Trickle(piece, pause)]
            }
            _ => return None,
        })
    }

    /// Returns a response that breaks the rules of HTTP, or none at all.
    fn broken_http(self, number: u64, quote: &str) -> Vec<Act> {
        let write = |text: &str| Act::Write(text.as_bytes().to_vec());
        match self {
            Kind::Reset => vec![Act::Reset],
            Kind::Close => vec![Act::Close],
            Kind::HalfHead => vec![write("HTTP/1.1 200 OK\r\nconte"), Act::Close],
            Kind::Silence => vec![Act::Silence],
            Kind::BadChunkSize => vec![stream_head(), write("zz\r\nxx\r\n")],
            Kind::NotHttp => vec![write(&format!("SSH-2.0-{quote}\r\n\r\n")), Act::Close],
            Kind::Interim => {
                let interim = "HTTP/1.1 103 Early Hints\r\nlink: </style.css>\r\n\r\n";
                if number.is_multiple_of(2) {
                    [vec![write(&interim.repeat(50))], good()].concat()
                } else {
                    vec![Act::Trickle(interim.repeat(50).into(), Duration::from_millis(1))]
                }
            }
            Kind::HugeHead => {
                let line = format!("x-long: {}", "y".repeat(8000));
                vec![head("200 OK", &[line.as_str(); 100]), Act::Close]
            }
            Kind::Encoded => vec![
                head("200 OK", &["content-encoding: gzip", "content-length: 4"]),
                Act::Write(vec![0x1f, 0x8b, 8, 0]),
            ],
            complete => unreachable!("{complete:?} has a script"),
        }
    }
}

fn error(message: &str) -> String {
    serde_json::json!({"error": {"message": message}}).to_string()
}
