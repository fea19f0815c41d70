//! The lines that wait for stderr, and the bytes that show them on a terminal.

use std::collections::VecDeque;

/// The bytes that can wait: about 2,500 log lines.
const CAPACITY: usize = 512 * 1024;
/// The memory of a waiting output in addition to its text.
const OVERHEAD: usize = 64;
/// Switches the wrapping of long lines off and on. A wrapped line would need two lines of the
/// screen, so the next block would not replace the complete block.
const WRAPPING_OFF: &str = "\x1b[?7l";
const WRAPPING_ON: &str = "\x1b[?7h";

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Output {
    /// A line of the log, or an error message.
    Line(Vec<u8>),
    /// A block of lines, without a line break at the end. Replaces the previous block.
    Progress(String),
    EndOfProgress,
}

impl Output {
    fn size(&self) -> usize {
        OVERHEAD
            + match self {
                Output::Line(line) => line.len(),
                Output::Progress(block) => block.len(),
                Output::EndOfProgress => 0,
            }
    }
}

/// The waiting output, from the oldest to the newest.
#[derive(Debug)]
pub(super) struct Backlog {
    waiting: VecDeque<Output>,
    size: usize,
    /// The lost lines that the log has not reported yet.
    unreported: u64,
    dropped: u64,
}

impl Backlog {
    pub(super) const fn new() -> Backlog {
        Backlog { waiting: VecDeque::new(), size: 0, unreported: 0, dropped: 0 }
    }

    /// Adds output. Without room, the oldest output is lost, because the latest lines explain the
    /// present.
    pub(super) fn push(&mut self, output: Output) {
        // A progress block that nobody has seen is out of date.
        if !matches!(output, Output::Line(_))
            && matches!(self.waiting.back(), Some(Output::Progress(_)))
        {
            self.size -= self.waiting.pop_back().map_or(0, |stale| stale.size());
        }
        self.size += output.size();
        self.waiting.push_back(output);
        while self.size > CAPACITY && self.waiting.len() > 1 {
            let Some(oldest) = self.waiting.pop_front() else { break };
            self.size -= oldest.size();
            self.lose(u64::from(matches!(oldest, Output::Line(_))));
        }
    }

    /// Returns the oldest output, and the number of lines that were lost just before it.
    pub(super) fn take(&mut self) -> Option<(u64, Output)> {
        let output = self.waiting.pop_front()?;
        self.size -= output.size();
        Some((std::mem::take(&mut self.unreported), output))
    }

    /// Records that the last output was not written. `counted` of its `lines` are already counted
    /// as lost.
    pub(super) fn writing_failed(&mut self, counted: u64, lines: u64) {
        self.unreported += counted;
        self.lose(lines - counted);
    }

    fn lose(&mut self, lines: u64) {
        self.unreported += lines;
        self.dropped += lines;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Returns the number of lost lines since the start.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[derive(Debug, Default)]
pub(super) struct Screen {
    /// The number of lines of the progress block at the end of the screen.
    progress_lines: usize,
    /// True if an error cut the last line.
    is_torn: bool,
}

impl Screen {
    /// Returns the bytes that show `notice` and then the output.
    pub(super) fn render(&mut self, notice: Option<String>, output: Output) -> Vec<u8> {
        let mut bytes = Vec::new();
        if self.is_torn {
            bytes.push(b'\n');
        }
        bytes.extend(erasure(std::mem::take(&mut self.progress_lines)).into_bytes());
        bytes.extend(notice.into_iter().flat_map(String::into_bytes));
        match output {
            Output::Line(line) => bytes.extend(line),
            Output::Progress(block) => {
                self.progress_lines = block.split('\n').count();
                bytes.extend(format!("{WRAPPING_OFF}{block}{WRAPPING_ON}").into_bytes());
            }
            Output::EndOfProgress => {}
        }
        bytes
    }

    /// The error is true if some bytes were written.
    pub(super) fn record(&mut self, result: Result<(), bool>) {
        self.is_torn = result.map_or_else(|in_part| in_part || self.is_torn, |()| false);
    }
}

/// Returns the bytes that move the cursor to the start of the last lines of the screen, and erase
/// everything from there.
fn erasure(lines: usize) -> String {
    match lines {
        0 => String::new(),
        1 => "\r\x1b[J".to_owned(),
        _ => format!("\r\x1b[{}A\x1b[J", lines - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Output {
        Output::Line(text.into())
    }

    #[test]
    fn a_full_backlog_loses_its_oldest_lines_and_counts_them() {
        let mut backlog = Backlog::new();
        let text = |number: u64| format!("{number:>1000}\n");
        for number in 0..10_000 {
            backlog.push(line(&text(number)));
            assert!(backlog.size <= CAPACITY);
        }
        let dropped = backlog.dropped();
        assert!(dropped > 9_000, "{dropped}");
        assert_eq!(backlog.take(), Some((dropped, line(&text(dropped)))));
        for number in dropped + 1..10_000 {
            assert_eq!(backlog.take(), Some((0, line(&text(number)))));
        }
        assert_eq!((backlog.take(), backlog.size, backlog.dropped()), (None, 0, dropped));
    }

    /// An error message longer than the backlog is in memory already, so it is kept.
    #[test]
    fn a_single_line_of_any_length_is_kept() {
        let mut backlog = Backlog::new();
        let long = "x".repeat(2 * CAPACITY);
        backlog.push(line("short"));
        backlog.push(line(&long));
        assert_eq!(backlog.take(), Some((1, line(&long))));
    }

    #[test]
    fn only_the_latest_progress_block_waits_and_it_is_not_counted_as_lost() {
        let mut backlog = Backlog::new();
        for second in 0..100_000 {
            backlog.push(Output::Progress(second.to_string()));
        }
        assert_eq!(backlog.waiting, [Output::Progress("99999".to_owned())]);
        backlog.push(line("a"));
        backlog.push(Output::Progress("b".to_owned()));
        backlog.push(Output::EndOfProgress);
        let order = [Output::Progress("99999".to_owned()), line("a"), Output::EndOfProgress];
        assert_eq!((Vec::from(backlog.waiting), backlog.dropped), (order.into(), 0));
    }

    #[test]
    fn a_log_line_erases_the_progress_block_before_it() {
        let mut screen = Screen::default();
        let mut shown = Vec::new();
        for output in [
            line("a\n"),
            Output::Progress("1 sent".to_owned()),
            Output::Progress("phase 1\n2 sent\n0 failed".to_owned()),
            line("b\n"),
            line("c\n"),
            Output::Progress("phase 2\n3 sent".to_owned()),
            Output::EndOfProgress,
            Output::EndOfProgress,
        ] {
            shown.extend(screen.render(None, output));
        }
        let shown = String::from_utf8(shown).unwrap();
        let shown = shown.replace(WRAPPING_OFF, "<").replace(WRAPPING_ON, ">");
        let shown = shown.replace(&erasure(1), "^1").replace(&erasure(2), "^2");
        let expected = "a\n<1 sent>^1<phase 1\n2 sent\n0 failed>^3b\nc\n<phase 2\n3 sent>^2";
        assert_eq!(shown.replace(&erasure(3), "^3"), expected);
    }
}
