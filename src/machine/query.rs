//! Runs `nvidia-smi` from time to time.
//!
//! With a broken driver, the program can hang, and even a kill can have no effect. So the reader
//! never waits: it looks at the program again and again, and starts the next one only after the
//! last one has ended. It reads a limited number of bytes.

use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use tokio::time::Instant;

use super::gpu::{self, Gpu};

const PROGRAM: &str = "nvidia-smi";
/// The time between two starts of the program.
const INTERVAL: Duration = Duration::from_secs(5);
/// The longest time for one program.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The most output of the program, in bytes.
const MAX_OUTPUT: u64 = 64 << 10;
/// The longest part of the output in a message, in characters.
const MAX_QUOTE: usize = 120;

#[derive(Debug, Default)]
pub(super) struct GpuReader {
    query: Option<Query>,
    next: Option<Instant>,
    /// The last logged problem. llmload logs a problem once, until the program succeeds.
    problem: Option<String>,
    is_missing: bool,
}

/// A program that runs.
#[derive(Debug)]
struct Query {
    child: Child,
    /// The output, after the program has closed it.
    output: Receiver<Vec<u8>>,
    read: Option<Vec<u8>>,
    deadline: Instant,
    /// True after a kill. Then the output does not matter.
    is_late: bool,
}

impl GpuReader {
    /// Starts the program if it is due. Returns the GPUs if the program has ended, and no GPU if it
    /// fails.
    pub(super) fn poll(&mut self, now: Instant) -> Option<Vec<Gpu>> {
        let result = match &mut self.query {
            Some(query) => query.poll(now)?,
            None if self.is_missing || self.next.is_some_and(|next| now < next) => return None,
            None => {
                self.next = Some(now + INTERVAL);
                match Query::start(now) {
                    Ok(query) => {
                        self.query = Some(query);
                        return None;
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                        self.is_missing = true;
                        tracing::info!(
                            "no GPU metrics, because this machine has no program {PROGRAM}"
                        );
                        return None;
                    }
                    Err(error) => Poll::Ended(Err(format!("it cannot start: {error}"))),
                }
            }
        };
        let result = match result {
            Poll::Late(problem) => Err(problem),
            Poll::Ended(result) => {
                self.query = None;
                result
            }
            Poll::EndedLate => {
                self.query = None;
                return None;
            }
        };
        Some(self.report(result))
    }

    fn report(&mut self, result: Result<Vec<Gpu>, String>) -> Vec<Gpu> {
        match result {
            Ok(gpus) => {
                self.problem = None;
                gpus
            }
            Err(problem) => {
                if self.problem.is_none() {
                    tracing::warn!("no GPU metrics, because {PROGRAM} fails: {problem}");
                }
                self.problem = Some(problem);
                Vec::new()
            }
        }
    }

    /// Ends the program and forgets its problems. The program can need some time to end, so the
    /// caller calls this function until `is_busy` returns false.
    pub(super) fn stop(&mut self, now: Instant) {
        let query = self.query.take().and_then(|mut query| {
            query.kill();
            query.poll(now).is_none().then_some(query)
        });
        *self = GpuReader { query, ..GpuReader::default() };
    }

    /// Returns true until the program has ended.
    pub(super) fn is_busy(&self) -> bool {
        self.query.is_some()
    }
}

enum Poll {
    Ended(Result<Vec<Gpu>, String>),
    /// The time is over, and the program possibly still runs.
    Late(String),
    /// A killed program has ended.
    EndedLate,
}

impl Query {
    fn start(now: Instant) -> std::io::Result<Query> {
        let columns = format!("--query-gpu={}", gpu::COLUMNS);
        let mut child = Command::new(PROGRAM)
            .args([&columns, "--format=csv,noheader,nounits"])
            // The environment of llmload can contain API keys.
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let (sender, output) = mpsc::sync_channel(1);
        let pipe = child.stdout.take();
        let read = move || {
            let mut bytes = Vec::new();
            if let Some(pipe) = pipe {
                // A failed read gives a part of the output, which has another form.
                let _part = pipe.take(MAX_OUTPUT).read_to_end(&mut bytes);
            }
            let _gone = sender.send(bytes);
        };
        let query = Query { child, output, read: None, deadline: now + TIMEOUT, is_late: false };
        // If no thread starts, `query` is dropped, and its program ends.
        thread::Builder::new().name("gpu-query".to_owned()).spawn(read)?;
        Ok(query)
    }

    /// A program can end later, or never, if the driver of the GPU hangs.
    fn kill(&mut self) {
        self.is_late = true;
        let _gone = self.child.kill();
    }

    /// Returns `None` while the program runs.
    fn poll(&mut self, now: Instant) -> Option<Poll> {
        if self.read.is_none() {
            self.read = self.output.try_recv().ok();
        }
        let ended = self.child.try_wait();
        match (ended, self.read.take()) {
            (Ok(Some(_)), Some(_)) if self.is_late => Some(Poll::EndedLate),
            (Ok(Some(status)), Some(output)) => Some(Poll::Ended(evaluate(status, &output))),
            (Err(error), _) => Some(Poll::Ended(Err(error.to_string()))),
            (_, read) => {
                self.read = read;
                if self.is_late || now < self.deadline {
                    return None;
                }
                self.kill();
                let seconds = TIMEOUT.as_secs();
                Some(Poll::Late(format!("it did not end within {seconds} s")))
            }
        }
    }
}

impl Drop for Query {
    fn drop(&mut self) {
        let _gone = self.child.kill();
    }
}

fn evaluate(status: std::process::ExitStatus, output: &[u8]) -> Result<Vec<Gpu>, String> {
    let text = String::from_utf8_lossy(output);
    let first = text.lines().next().unwrap_or_default();
    let quote: String = first.chars().take(MAX_QUOTE).collect();
    let quote = quote.escape_debug();
    if !status.success() {
        return Err(format!("{status}, and its output is \"{quote}\""));
    }
    gpu::parse(&text).ok_or_else(|| format!("its output is \"{quote}\""))
}
