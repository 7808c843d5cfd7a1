//! Logs the output of a command line by line, with limits on line length and line count.

use reloader_util::{
    child_process::{Child, ChildStderr, ChildStdout},
    sanitize::sanitize,
    sync::Mutex,
    token_bucket::TokenBucket,
};
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};
use tokio::io::{AsyncRead, AsyncReadExt};
use tracing::{debug, info};

/// Maximum length of a line, in bytes. The rest of a longer line is dropped.
const MAX_LINE_BYTES: usize = 2 << 10;
/// Maximum number of lines that are logged in a burst. Further lines are only counted.
const BURST_LINES: u32 = 100;
/// Interval at which one further line is logged after a burst.
const LINE_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum number of last output lines in an error message.
const ERROR_LINES: usize = 5;
/// Size of the read buffer of a stream, in bytes.
const READ_BUFFER_BYTES: usize = 8 << 10;

/// Rate limit of the output lines that all runs of one command log: 100 lines in a burst, then one each second.
#[derive(Debug)]
pub struct OutputLimit(Mutex<TokenBucket>);

impl Default for OutputLimit {
    fn default() -> Self {
        Self(Mutex::new(TokenBucket::new(BURST_LINES, LINE_INTERVAL, Instant::now())))
    }
}

/// Output lines of one run of a command.
#[derive(Debug)]
struct OutputLog<'a> {
    label: &'a str,
    limit: &'a OutputLimit,
    logged_lines: usize,
    dropped_lines: usize,
    last_lines: VecDeque<String>,
}

impl<'a> OutputLog<'a> {
    fn new(label: &'a str, limit: &'a OutputLimit) -> Self {
        let (logged_lines, dropped_lines) = (0, 0);
        Self { label, limit, logged_lines, dropped_lines, last_lines: VecDeque::new() }
    }

    /// Logs a line, and keeps it for an error message. The message of the log event is the line itself.
    fn push(&mut self, bytes: &[u8]) {
        let line = sanitize(String::from_utf8_lossy(bytes).trim_end());
        if line.is_empty() {
            return;
        }
        if self.limit.0.lock().try_take(Instant::now()) {
            self.logged_lines += 1;
            info!(owner = self.label, "{line}");
        } else {
            self.dropped_lines += 1;
        }
        if self.last_lines.len() == ERROR_LINES {
            self.last_lines.pop_front();
        }
        self.last_lines.push_back(line);
    }

    /// Logs the number of dropped lines, and returns the last lines, joined by semicolons. The level is INFO if the
    /// rate limit has allowed a line of this run, and DEBUG otherwise. Therefore the limit of the lines also limits
    /// this event.
    fn finish(self) -> String {
        let Self { label, logged_lines, dropped_lines, .. } = self;
        match (logged_lines, dropped_lines) {
            (_, 0) => {}
            (0, _) => debug!(owner = label, dropped_lines, "command output truncated"),
            _ => info!(owner = label, dropped_lines, "command output truncated"),
        }
        Vec::from(self.last_lines).join("; ")
    }
}

/// Standard output and standard error of a command.
#[derive(Debug)]
pub(super) struct OutputStreams<'a> {
    stdout: LineReader<ChildStdout>,
    stderr: LineReader<ChildStderr>,
    log: OutputLog<'a>,
}

impl<'a> OutputStreams<'a> {
    pub(super) fn new(label: &'a str, limit: &'a OutputLimit, child: &mut Child) -> Self {
        let stdout = LineReader::new(child.stdout.take());
        let stderr = LineReader::new(child.stderr.take());
        Self { stdout, stderr, log: OutputLog::new(label, limit) }
    }

    /// Returns whether one of the streams is open.
    pub(super) fn is_open(&self) -> bool {
        self.stdout.stream.is_some() || self.stderr.stream.is_some()
    }

    /// Reads the next bytes of one of the streams, and logs the lines that are complete. Cancel-safe.
    pub(super) async fn read(&mut self) {
        let Self { stdout, stderr, log } = self;
        tokio::select! {
            read = stdout.read(), if stdout.stream.is_some() => stdout.consume(read, log),
            read = stderr.read(), if stderr.stream.is_some() => stderr.consume(read, log),
            else => {}
        }
    }

    /// Logs the last line of each stream, if it has no line feed. Returns the last lines of both streams, for an error
    /// message.
    pub(super) fn finish(mut self) -> String {
        self.stdout.finish(&mut self.log);
        self.stderr.finish(&mut self.log);
        self.log.finish()
    }
}

/// Reader that splits one output stream of a process into lines.
#[derive(Debug)]
struct LineReader<R> {
    /// Output stream of the process; `None` after its end.
    stream: Option<R>,
    buffer: Vec<u8>,
    line: Vec<u8>,
}

impl<R: AsyncRead + Unpin> LineReader<R> {
    fn new(stream: Option<R>) -> Self {
        Self { stream, buffer: vec![0; READ_BUFFER_BYTES], line: Vec::new() }
    }

    /// Reads into the buffer. Returns the number of bytes, which is 0 at the end of the stream.
    async fn read(&mut self) -> usize {
        match &mut self.stream {
            Some(stream) => stream.read(&mut self.buffer).await.unwrap_or(0),
            None => 0,
        }
    }

    /// Splits the first `read` bytes of the buffer into lines, and logs the complete ones.
    fn consume(&mut self, read: usize, log: &mut OutputLog<'_>) {
        if read == 0 {
            self.stream = None;
        }
        for part in self.buffer[..read].split_inclusive(|&byte| byte == b'\n') {
            let remaining = MAX_LINE_BYTES.saturating_sub(self.line.len());
            self.line.extend_from_slice(&part[..part.len().min(remaining)]);
            if part.ends_with(b"\n") {
                log.push(&self.line);
                self.line.clear();
            }
        }
    }

    /// Logs the last line if it has no line feed.
    fn finish(&mut self, log: &mut OutputLog<'_>) {
        log.push(&std::mem::take(&mut self.line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn last_lines(text: &[u8]) -> String {
        let limit = OutputLimit::default();
        let mut log = OutputLog::new("test", &limit);
        let mut reader = LineReader::new(Some(text));
        while reader.stream.is_some() {
            let read = reader.read().await;
            reader.consume(read, &mut log);
        }
        reader.finish(&mut log);
        log.finish()
    }

    #[tokio::test]
    async fn last_line_without_line_feed_is_kept() {
        assert_eq!(last_lines(b"one\ntwo\n\nthree").await, "one; two; three");
    }

    #[tokio::test]
    async fn long_line_is_truncated() {
        let mut flood = vec![b'x'; 1 << 20];
        flood.extend_from_slice(b"\nafter\n");
        let last_lines = last_lines(&flood).await;
        assert!(last_lines.len() < MAX_LINE_BYTES + 20 && last_lines.ends_with("x; after"));
    }

    /// The runs of one command share a rate limit. In addition to the burst of 100 lines, it allows one line for each
    /// second that the test takes.
    #[test]
    fn lines_of_many_runs_are_rate_limited() {
        let limit = OutputLimit::default();
        let run = |_| {
            let mut log = OutputLog::new("test", &limit);
            (0..10).for_each(|_| log.push(b"line"));
            assert_eq!(log.logged_lines + log.dropped_lines, 10);
            log.logged_lines
        };
        let logged_lines: usize = (0..1000).map(run).sum();
        assert!((100..200).contains(&logged_lines), "{logged_lines}");
    }

    #[tokio::test]
    async fn last_lines_are_kept_without_control_characters() {
        let many: String = (0..1000).map(|number| format!("{number}\x1b[2J\n")).collect();
        let last_lines = last_lines(many.as_bytes()).await;
        assert!(last_lines.starts_with("995\\u{1b}[2J; 996"), "{last_lines}");
    }
}
