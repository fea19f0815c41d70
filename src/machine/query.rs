//! Runs `nvidia-smi` from time to time.
//!
//! With a broken driver, the program can hang, and even a kill can have no effect. So the reader
//! never waits: it looks at the program again and again, and starts the next one only after the
//! last one has ended. It reads a limited number of bytes.

use std::io::{ErrorKind, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::time::Instant;

use super::gpu::{self, Gpu};

const PROGRAM: &str = "nvidia-smi";
/// The time between two starts of the program.
const INTERVAL: Duration = Duration::from_secs(5);
/// The longest time for one program.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The most output of the program, in bytes.
const MAX_OUTPUT: usize = 64 << 10;
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
    /// The source of the output, until its end or the limit.
    pipe: Option<UnixStream>,
    output: Vec<u8>,
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
                    Err(error) if error.kind() == ErrorKind::NotFound => {
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
        // A read from a socket, unlike a read from the pipe of `Stdio::piped`, can return at once.
        let (pipe, stdout) = UnixStream::pair()?;
        pipe.set_nonblocking(true)?;
        let child = Command::new(PROGRAM)
            .args([&columns, "--format=csv,noheader,nounits"])
            // The environment of llmload can contain API keys.
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .stdin(Stdio::null())
            .stdout(OwnedFd::from(stdout))
            .stderr(Stdio::null())
            // A kill of the group also ends the programs that this program has started.
            .process_group(0)
            .spawn()?;
        let (pipe, deadline) = (Some(pipe), now + TIMEOUT);
        Ok(Query { child, pipe, output: Vec::new(), deadline, is_late: false })
    }

    /// A program can end later, or never, if the driver of the GPU hangs.
    fn kill(&mut self) {
        self.is_late = true;
        // Nobody has waited for the program, so no other group has its number.
        #[cfg(target_os = "linux")]
        if let Ok(number) = i32::try_from(self.child.id())
            && let Some(group) = rustix::process::Pid::from_raw(number)
        {
            let _gone = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let _gone = self.child.kill();
    }

    /// Reads the available output.
    fn read(&mut self) {
        let Some(pipe) = &mut self.pipe else { return };
        let room = (MAX_OUTPUT - self.output.len()) as u64;
        match pipe.take(room).read_to_end(&mut self.output) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            // After a failed read, the output is incomplete, and `gpu::parse` rejects it.
            _ => self.pipe = None,
        }
    }

    /// Returns `None` while the program runs, or another program has its output. After a kill, only
    /// the end of the program matters.
    fn poll(&mut self, now: Instant) -> Option<Poll> {
        self.read();
        if self.pipe.is_none() || self.is_late {
            match self.child.try_wait() {
                Ok(Some(_)) if self.is_late => return Some(Poll::EndedLate),
                Ok(Some(status)) => return Some(Poll::Ended(evaluate(status, &self.output))),
                Err(error) => return Some(Poll::Ended(Err(error.to_string()))),
                Ok(None) => {}
            }
        }
        if self.is_late || now < self.deadline {
            return None;
        }
        self.kill();
        let seconds = TIMEOUT.as_secs();
        Some(Poll::Late(format!("it did not end within {seconds} s")))
    }
}

impl Drop for Query {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            self.kill();
        }
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
