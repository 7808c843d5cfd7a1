//! The format of server-sent events, as the HTML standard defines it (section 9.2.6), without keeping
//! what they say: here an event only means that something happened.

use std::time::Duration;

/// Finds the events in a stream that arrives in pieces.
///
/// Of each line only the beginning is kept, which is all it takes to know the field: no server can
/// make this grow.
#[derive(Default)]
pub(crate) struct Parser {
    /// The beginning of the current line.
    line: Vec<u8>,
    /// A line ended with CR, so an LF that comes next belongs to it.
    after_cr: bool,
    /// The first line is behind us, so a byte order mark would be content.
    started: bool,
    /// The current event has data. An event without any is not one.
    has_data: bool,
    retry: Option<Duration>,
}

/// Enough for `retry:` and more digits than a number has.
const LINE: usize = 64;

impl Parser {
    /// Takes the next piece, and says how many events ended in it.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> usize {
        let mut events = 0;
        for &byte in bytes {
            let after_cr = std::mem::replace(&mut self.after_cr, byte == b'\r');
            match byte {
                b'\n' if after_cr => {}
                b'\n' | b'\r' => events += usize::from(self.end_line()),
                _ if self.line.len() < LINE => self.line.push(byte),
                _ => {}
            }
        }
        events
    }

    /// How long the server wants to be left alone before somebody reconnects, if it said so.
    pub(crate) fn retry(&self) -> Option<Duration> {
        self.retry
    }

    /// True when the line ends an event.
    fn end_line(&mut self) -> bool {
        let line = std::mem::take(&mut self.line);
        let mut line = line.as_slice();
        if !std::mem::replace(&mut self.started, true) {
            line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        }
        if line.is_empty() {
            return std::mem::take(&mut self.has_data);
        }
        // A comment has an empty name.
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

    /// Events and `retry` of a stream; the same however it is cut into two pieces.
    fn parse(stream: &[u8]) -> (usize, Option<u64>) {
        let parse = |pieces: &[&[u8]]| {
            let mut parser = Parser::default();
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
    fn an_empty_line_ends_an_event_whatever_ends_the_lines() {
        for end in ["\n", "\r", "\r\n"] {
            let stream = "data: YHOO\ndata: +2\ndata: 10\n\ndata: x\n\n".replace('\n', end);
            assert_eq!(events(&stream), 2, "{end:?}");
        }
        assert_eq!(events("data: a\r\r\ndata: b\n\r"), 2);
    }

    #[test]
    fn an_event_without_data_is_none() {
        assert_eq!(events("event: ping\nid: 1\n\n: comment\n\n\n\n"), 0);
        assert_eq!(
            events(": stream\n\ndata: first\nid: 1\n\ndata:second\nid\n\ndata:  third\n\n"),
            3
        );
    }

    #[test]
    fn empty_data_is_data() {
        assert_eq!(events("data\n\ndata\ndata\n\ndata:"), 2);
    }

    #[test]
    fn an_event_counts_once_it_is_complete() {
        assert_eq!(events("data: x\n"), 0);
        assert_eq!(events("data: x"), 0);
    }

    #[test]
    fn names_are_exact() {
        assert_eq!(events("Data: x\n\n data: x\n\ndata : x\n\ndatum: x\n\n"), 0);
    }

    #[test]
    fn one_byte_order_mark_may_come_first() {
        assert_eq!(parse(b"\xef\xbb\xbfdata: x\n\n").0, 1);
        assert_eq!(parse(b"\xef\xbb\xbf\xef\xbb\xbfdata: x\n\n").0, 0);
        assert_eq!(parse(b"\n\xef\xbb\xbfdata: x\n\n").0, 0);
    }

    #[test]
    fn retry_is_digits_only_and_the_last_one_holds() {
        assert_eq!(parse(b"retry: 10\nretry:250\n").1, Some(250));
        assert_eq!(parse(b"retry: 10\nretry: 1s\nretry:\nretry: -1\n").1, Some(10));
        let huge = format!("retry: {}\n", "9".repeat(100));
        assert_eq!(parse(huge.as_bytes()).1, None);
    }

    #[test]
    fn long_lines_and_bytes_that_are_no_text_take_no_room() {
        let mut parser = Parser::default();
        assert_eq!(parser.feed(b"data: "), 0);
        for _ in 0..100 {
            assert_eq!(parser.feed(&[0xff; 1000]), 0);
        }
        assert!(parser.line.len() <= LINE);
        assert_eq!(parser.feed(b"\n\n"), 1);
    }
}
