//! Parser of server-sent events, as defined by the HTML standard (section 9.2.6). It counts events and
//! discards their content, because each event only triggers a read of the value.

use std::time::Duration;

/// Incremental parser that counts the events of a stream.
///
/// The parser buffers only the start of each line, which identifies the field. Its memory is therefore
/// bounded.
#[derive(Default)]
pub(crate) struct SseParser {
    /// Part of the current line that has arrived so far.
    line: Vec<u8>,
    /// `true` if the previous byte was a CR. A following LF belongs to the same line ending.
    after_cr: bool,
    /// `true` after the first line. A byte order mark is valid only before the first line.
    started: bool,
    /// `true` if the current event has a `data` field. Events without `data` are not dispatched.
    has_data: bool,
    retry: Option<Duration>,
}

/// Maximum number of buffered bytes of a line: enough for `retry:` with any valid `u64`.
const MAX_BUFFERED_LINE_BYTES: usize = 64;

impl SseParser {
    /// Parses the next bytes of the stream and returns the number of completed events.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> usize {
        let mut events = 0;
        for &byte in bytes {
            let after_cr = std::mem::replace(&mut self.after_cr, byte == b'\r');
            match byte {
                b'\n' if after_cr => {}
                b'\n' | b'\r' => events += usize::from(self.end_line()),
                _ if self.line.len() < MAX_BUFFERED_LINE_BYTES => self.line.push(byte),
                _ => {}
            }
        }
        events
    }

    /// Returns the reconnect delay of the last `retry` field, if any.
    pub(crate) fn retry(&self) -> Option<Duration> {
        self.retry
    }

    /// Processes the current line. Returns `true` if the line completes an event.
    fn end_line(&mut self) -> bool {
        let line = std::mem::take(&mut self.line);
        let mut line = line.as_slice();
        if !std::mem::replace(&mut self.started, true) {
            line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        }
        if line.is_empty() {
            return std::mem::take(&mut self.has_data);
        }
        // A comment is a field with an empty name.
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let value = line.get(colon + 1..).unwrap_or_default();
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match &line[..colon] {
            b"data" => self.has_data = true,
            b"retry" if value.iter().all(u8::is_ascii_digit) => {
                let number = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                self.retry = number.map(Duration::from_millis).or(self.retry);
            }
            _ => {}
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the number of events and the `retry` delay in milliseconds. Asserts that the result does not
    /// depend on the chunk boundaries.
    fn parse(stream: &[u8]) -> (usize, Option<u64>) {
        let parse = |pieces: &[&[u8]]| {
            let mut parser = SseParser::default();
            let events = pieces.iter().map(|piece| parser.feed(piece)).sum::<usize>();
            (events, parser.retry().map(|retry| retry.as_millis() as u64))
        };
        let whole = parse(&[stream]);
        for at in 0..=stream.len() {
            let (left, right) = stream.split_at(at);
            assert_eq!(parse(&[left, right]), whole, "cut at {at}");
        }
        let bytes: Vec<_> = stream.chunks(1).collect();
        assert_eq!(parse(&bytes), whole, "byte by byte");
        whole
    }

    fn events(stream: &str) -> usize {
        parse(stream.as_bytes()).0
    }

    #[test]
    fn empty_line_completes_event() {
        for end in ["\n", "\r", "\r\n"] {
            let stream = "data: YHOO\ndata: +2\ndata: 10\n\ndata: x\n\n".replace('\n', end);
            assert_eq!(events(&stream), 2, "{end:?}");
        }
        assert_eq!(events("data: a\r\r\ndata: b\n\r"), 2);
    }

    #[test]
    fn event_without_data_is_ignored() {
        assert_eq!(events("event: ping\nid: 1\n\n: comment\n\n\n\n"), 0);
        assert_eq!(
            events(": stream\n\ndata: first\nid: 1\n\ndata:second\nid\n\ndata:  third\n\n"),
            3
        );
    }

    #[test]
    fn empty_data_field_counts() {
        assert_eq!(events("data\n\ndata\ndata\n\ndata:"), 2);
    }

    #[test]
    fn incomplete_event_is_not_counted() {
        assert_eq!(events("data: x\n"), 0);
        assert_eq!(events("data: x"), 0);
    }

    #[test]
    fn field_names_are_case_sensitive() {
        assert_eq!(events("Data: x\n\n data: x\n\ndata : x\n\ndatum: x\n\n"), 0);
    }

    #[test]
    fn leading_byte_order_mark_is_skipped() {
        assert_eq!(parse(b"\xef\xbb\xbfdata: x\n\n").0, 1);
        assert_eq!(parse(b"\xef\xbb\xbf\xef\xbb\xbfdata: x\n\n").0, 0);
        assert_eq!(parse(b"\n\xef\xbb\xbfdata: x\n\n").0, 0);
    }

    #[test]
    fn last_valid_retry_applies() {
        assert_eq!(parse(b"retry: 10\nretry:250\n").1, Some(250));
        assert_eq!(parse(b"retry: 10\nretry: 1s\nretry:\nretry: -1\n").1, Some(10));
        let huge = format!("retry: {}\n", "9".repeat(100));
        assert_eq!(parse(huge.as_bytes()).1, None);
    }

    #[test]
    fn line_buffer_is_bounded() {
        let mut parser = SseParser::default();
        assert_eq!(parser.feed(b"data: "), 0);
        for _ in 0..100 {
            assert_eq!(parser.feed(&[0xff; 1000]), 0);
        }
        assert!(parser.line.len() <= MAX_BUFFERED_LINE_BYTES);
        assert_eq!(parser.feed(b"\n\n"), 1);
    }
}
