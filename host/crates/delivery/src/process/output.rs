//! What a command writes: into the log, line by line, and not more than a log should take.

use reloader_util::sanitize::sanitize;
use std::collections::VecDeque;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::{Child, ChildStderr, ChildStdout},
};
use tracing::info;

/// The rest of a longer line is left out, in bytes.
const LINE_MAX: usize = 2 << 10;
/// So many lines of a run are logged; the rest is counted.
const LINES_MAX: usize = 100;
/// So many of the last lines are told with a failure.
const LAST_WORDS: usize = 5;

/// The output of one run.
#[derive(Debug)]
struct Output<'a> {
    label: &'a str,
    lines: usize,
    last: VecDeque<String>,
}

impl<'a> Output<'a> {
    fn new(label: &'a str) -> Self {
        Self { label, lines: 0, last: VecDeque::new() }
    }

    /// A line of it.
    fn line(&mut self, bytes: &[u8]) {
        let line = sanitize(String::from_utf8_lossy(bytes).trim_end());
        if line.is_empty() {
            return;
        }
        self.lines += 1;
        if self.lines <= LINES_MAX {
            info!(of = self.label, "{line}");
        }
        if self.last.len() == LAST_WORDS {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }

    /// What it has said last, on one line.
    fn last_words(self) -> String {
        if self.lines > LINES_MAX {
            info!(of = self.label, lines = self.lines - LINES_MAX, "more lines have been left out");
        }
        Vec::from(self.last).join("; ")
    }
}

/// What a command writes on its two streams.
#[derive(Debug)]
pub(super) struct Streams<'a> {
    out: Lines<ChildStdout>,
    err: Lines<ChildStderr>,
    said: Output<'a>,
}

impl<'a> Streams<'a> {
    pub(super) fn new(label: &'a str, child: &mut Child) -> Self {
        let (out, err) = (Lines::new(child.stdout.take()), Lines::new(child.stderr.take()));
        Self { out, err, said: Output::new(label) }
    }

    /// Whether there may be more.
    pub(super) fn is_open(&self) -> bool {
        self.out.stream.is_some() || self.err.stream.is_some()
    }

    /// Reads what is there next. When this is dropped instead, nothing is lost.
    pub(super) async fn read(&mut self) {
        tokio::select! {
            read = self.out.read(), if self.out.stream.is_some() => self.out.take(read, &mut self.said),
            read = self.err.read(), if self.err.stream.is_some() => self.err.take(read, &mut self.said),
            else => {}
        }
    }

    /// Nothing more is wanted: what it has said last.
    pub(super) fn end(mut self) -> String {
        self.out.end(&mut self.said);
        self.err.end(&mut self.said);
        self.said.last_words()
    }
}

/// One stream, as lines.
#[derive(Debug)]
struct Lines<R> {
    stream: Option<R>,
    buffer: Vec<u8>,
    line: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    fn new(stream: Option<R>) -> Self {
        Self { stream, buffer: vec![0; 8 << 10], line: Vec::new() }
    }

    /// So many bytes are in the buffer now; 0 at the end.
    async fn read(&mut self) -> usize {
        match &mut self.stream {
            Some(stream) => stream.read(&mut self.buffer).await.unwrap_or(0),
            None => 0,
        }
    }

    fn take(&mut self, read: usize, said: &mut Output<'_>) {
        if read == 0 {
            self.stream = None;
        }
        for part in self.buffer[..read].split_inclusive(|&byte| byte == b'\n') {
            let room = LINE_MAX.saturating_sub(self.line.len());
            self.line.extend_from_slice(&part[..part.len().min(room)]);
            if part.ends_with(b"\n") {
                said.line(&self.line);
                self.line.clear();
            }
        }
    }

    /// Nothing will come any more: what has no line end is a line, too.
    fn end(&mut self, said: &mut Output<'_>) {
        said.line(&std::mem::take(&mut self.line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn last_words(text: &[u8]) -> String {
        let mut output = Output::new("test");
        let mut lines = Lines::new(Some(text));
        while lines.stream.is_some() {
            let read = lines.read().await;
            lines.take(read, &mut output);
        }
        lines.end(&mut output);
        output.last_words()
    }

    #[tokio::test]
    async fn lines_are_told_also_the_last_one_without_an_end() {
        assert_eq!(last_words(b"one\ntwo\n\nthree").await, "one; two; three");
    }

    #[tokio::test]
    async fn a_line_without_end_takes_no_more_memory_than_any() {
        let mut flood = vec![b'x'; 1 << 20];
        flood.extend_from_slice(b"\nafter\n");
        let told = last_words(&flood).await;
        assert!(told.len() < LINE_MAX + 20 && told.ends_with("x; after"));
    }

    #[tokio::test]
    async fn the_last_lines_are_told_and_a_terminal_obeys_none() {
        let many: String = (0..1000).map(|number| format!("{number}\x1b[2J\n")).collect();
        let told = last_words(many.as_bytes()).await;
        assert!(told.starts_with("995\\u{1b}[2J; 996"), "{told}");
    }
}
