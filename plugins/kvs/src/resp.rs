//! The wire format. RESP2 and RESP3 differ in the types they have, not in how those are read, so one
//! decoder takes both.
//!
//! It is a machine with a stack of its own, fed as bytes arrive: a long answer is looked at once, a
//! deeply nested one needs no deep recursion, and what a frame may take of memory is bounded. A long text
//! is handed out in the memory that it has arrived in: a plugin has little, and never gives any back.

use std::mem;

/// One answer or announcement, with no more types than anyone here tells apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    /// There is no such thing.
    Nil,
    /// A string, or the text of a number or boolean.
    Text(Vec<u8>),
    /// The request was refused: a code and a sentence.
    Error(String),
    /// An array or a set; or a map, as keys and values in turn.
    List(Vec<Frame>),
    /// Something that the server says of its own accord (RESP3 only).
    Push(Vec<Frame>),
}

/// The most memory that one frame may take: as much as a host takes for a value, and as much again for how
/// it is written.
pub(crate) const MAX_VALUE_FRAME_BYTES: usize = 16 * 1024 * 1024;
/// The same for what is no value: announcements, names, and answers that are a number or a word.
pub(crate) const MAX_NON_VALUE_FRAME_BYTES: usize = MAX_VALUE_FRAME_BYTES / 4;
/// No answer to what is asked here is nested deeper than three.
const MAX_NESTING_DEPTH: usize = 16;
/// A line is a number or a sentence.
const MAX_LINE_BYTES: usize = 64 * 1024;
/// A text from this length on is not copied out of the buffer.
const MIN_ZERO_COPY_BYTES: usize = 64 * 1024;
/// What a frame takes besides its text: three times its size while the list that it is in grows.
const FRAME_OVERHEAD_BYTES: usize = 3 * size_of::<Frame>();

/// Writes a command as the server wants it: an array of strings.
pub(crate) fn encode<A: AsRef<[u8]>>(command: &[A]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", command.len()).into_bytes();
    for argument in command.iter().map(AsRef::as_ref) {
        out.extend(format!("${}\r\n", argument.len()).into_bytes());
        out.extend(argument);
        out.extend(b"\r\n");
    }
    out
}

/// Bytes in, frames out.
#[derive(Debug)]
pub(crate) struct Decoder {
    /// The most memory that a frame may take.
    pub(crate) limit: usize,
    buffer: Vec<u8>,
    at: usize,
    /// The aggregates that are not complete, the innermost last.
    open: Vec<Aggregate>,
    /// What the frame that is being read takes so far.
    size: usize,
}

/// Why the bytes make no frame. Nothing after them can be made sense of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// Not the protocol.
    NotResp,
    /// Longer than it may be, or nested deeper than any answer.
    TooLarge,
}

#[derive(Debug)]
struct Aggregate {
    kind: Kind,
    missing: usize,
    items: Vec<Frame>,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    List,
    Push,
    /// Remarks about the frame that follows; nobody asked for any.
    Attribute,
}

enum Token {
    Leaf(Frame),
    Begin(Kind, usize),
}

/// Nobody waits for a value yet.
impl Default for Decoder {
    fn default() -> Self {
        Self { limit: MAX_NON_VALUE_FRAME_BYTES, buffer: Vec::new(), at: 0, open: Vec::new(), size: 0 }
    }
}

impl Decoder {
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.at);
        self.at = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// Whether nothing of a next frame has arrived.
    pub(crate) fn is_empty(&self) -> bool {
        self.at == self.buffer.len() && self.open.is_empty()
    }

    /// The next frame, if all of it has arrived.
    pub(crate) fn next(&mut self) -> Result<Option<Frame>, Malformed> {
        while let Some(token) = self.token()? {
            let done = match token {
                Token::Leaf(frame) => Some(frame),
                Token::Begin(kind, 0) => kind.close(Vec::new()),
                Token::Begin(_, _) if self.open.len() == MAX_NESTING_DEPTH => {
                    return Err(Malformed::TooLarge);
                }
                Token::Begin(kind, missing) => {
                    self.open.push(Aggregate { kind, missing, items: Vec::new() });
                    None
                }
            };
            if let Some(whole) = done.and_then(|frame| self.complete(frame)) {
                self.size = 0;
                return Ok(Some(whole));
            }
        }
        Ok(None)
    }

    /// Puts a frame where it belongs, and hands out the outermost when that completes it.
    fn complete(&mut self, mut frame: Frame) -> Option<Frame> {
        while let Some(mut parent) = self.open.pop() {
            parent.items.push(frame);
            parent.missing -= 1;
            if parent.missing > 0 {
                self.open.push(parent);
                return None;
            }
            frame = parent.kind.close(parent.items)?;
        }
        Some(frame)
    }

    fn token(&mut self) -> Result<Option<Token>, Malformed> {
        let rest = &self.buffer[self.at..];
        let Some(end) = rest.windows(2).take(MAX_LINE_BYTES).position(|pair| pair == b"\r\n") else {
            return if rest.len() > MAX_LINE_BYTES { Err(Malformed::TooLarge) } else { Ok(None) };
        };
        let (&sigil, line) = rest[..end].split_first().ok_or(Malformed::NotResp)?;
        let mut used = end + 2;
        let token = match sigil {
            b'+' | b':' | b',' | b'#' | b'(' => Token::Leaf(Frame::Text(line.to_vec())),
            b'-' => Token::Leaf(Frame::Error(String::from_utf8_lossy(line).into_owned())),
            b'_' => Token::Leaf(Frame::Nil),
            b'$' | b'=' | b'!' => match parse_length(line)? {
                None => Token::Leaf(Frame::Nil),
                // Before it arrives: what comes after this need not be kept.
                Some(length) if length > self.limit.saturating_sub(self.size) => {
                    return Err(Malformed::TooLarge);
                }
                Some(length) => {
                    let end = used + length;
                    let Some(after) = rest.get(end..end + 2) else {
                        // No more than that, where growing would take half as much again.
                        let missing = end + 2 - rest.len();
                        self.buffer.reserve_exact(missing);
                        return Ok(None);
                    };
                    if after != b"\r\n" {
                        return Err(Malformed::NotResp);
                    }
                    self.size += used + length;
                    let text = self.take_bulk(used, length);
                    used = 2;
                    Token::Leaf(bulk_frame(sigil, text)?)
                }
            },
            b'*' | b'~' => Token::begin(Kind::List, parse_length(line)?, 1)?,
            b'%' => Token::begin(Kind::List, parse_length(line)?, 2)?,
            b'|' => Token::begin(Kind::Attribute, parse_length(line)?, 2)?,
            b'>' => Token::begin(Kind::Push, parse_length(line)?, 1)?,
            _ => return Err(Malformed::NotResp),
        };
        self.at += used;
        self.size += used + FRAME_OVERHEAD_BYTES;
        if self.size > self.limit { Err(Malformed::TooLarge) } else { Ok(Some(token)) }
    }

    /// Takes a text out of the buffer, with what stands before it.
    fn take_bulk(&mut self, before: usize, length: usize) -> Vec<u8> {
        let start = self.at + before;
        let end = start + length;
        self.at = end;
        if length < MIN_ZERO_COPY_BYTES {
            return self.buffer[start..end].to_vec();
        }
        let rest = self.buffer.split_off(end);
        let mut text = mem::replace(&mut self.buffer, rest);
        self.at = 0;
        text.drain(..start);
        text
    }
}

impl Frame {
    /// What it takes of memory.
    pub(crate) fn size(&self) -> usize {
        FRAME_OVERHEAD_BYTES
            + match self {
                Frame::Nil => 0,
                Frame::Text(text) => text.len(),
                Frame::Error(line) => line.len(),
                Frame::List(items) | Frame::Push(items) => items.iter().map(Frame::size).sum(),
            }
    }
}

impl Kind {
    fn close(self, items: Vec<Frame>) -> Option<Frame> {
        match self {
            Kind::List => Some(Frame::List(items)),
            Kind::Push => Some(Frame::Push(items)),
            Kind::Attribute => None,
        }
    }
}

impl Token {
    fn begin(kind: Kind, length: Option<usize>, times: usize) -> Result<Self, Malformed> {
        match length {
            None => Ok(Token::Leaf(Frame::Nil)),
            Some(length) => {
                let count = length.checked_mul(times).ok_or(Malformed::TooLarge)?;
                Ok(Token::Begin(kind, count))
            }
        }
    }
}

/// A length; -1 is how RESP2 says that there is nothing.
fn parse_length(line: &[u8]) -> Result<Option<usize>, Malformed> {
    if line == b"-1" {
        return Ok(None);
    }
    let digits = str::from_utf8(line).map_err(|_| Malformed::NotResp)?;
    digits.parse().map(Some).map_err(|_| Malformed::NotResp)
}

/// What stands behind a length.
fn bulk_frame(sigil: u8, mut text: Vec<u8>) -> Result<Frame, Malformed> {
    Ok(match sigil {
        b'!' => {
            text.truncate(MAX_LINE_BYTES);
            Frame::Error(String::from_utf8_lossy(&text).into_owned())
        }
        // Three letters and a colon say what the text is.
        b'=' if text.len() < 4 => return Err(Malformed::NotResp),
        b'=' => {
            text.drain(..4);
            Frame::Text(text)
        }
        _ => Frame::Text(text),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Frame {
        Frame::Text(text.into())
    }

    /// A value is waited for.
    fn decoder() -> Decoder {
        Decoder { limit: MAX_VALUE_FRAME_BYTES, ..Decoder::default() }
    }

    fn decode(bytes: impl AsRef<[u8]>) -> Result<Option<Frame>, Malformed> {
        let mut decoder = decoder();
        decoder.feed(bytes.as_ref());
        decoder.next()
    }

    #[test]
    fn both_versions_of_the_protocol_are_read_alike() {
        let cases = [
            ("+OK\r\n", text("OK")),
            (":42\r\n", text("42")),
            ("$3\r\na\r\n\r\n", text("a\r\n")),
            ("=5\r\ntxt:a\r\n", text("a")),
            ("$-1\r\n", Frame::Nil),
            ("*-1\r\n", Frame::Nil),
            ("_\r\n", Frame::Nil),
            ("-ERR no\r\n", Frame::Error("ERR no".into())),
            ("!6\r\nERR no\r\n", Frame::Error("ERR no".into())),
            ("*0\r\n", Frame::List(vec![])),
            ("*2\r\n$1\r\na\r\n$-1\r\n", Frame::List(vec![text("a"), Frame::Nil])),
            (
                "%1\r\n+a\r\n*1\r\n+b\r\n",
                Frame::List(vec![text("a"), Frame::List(vec![text("b")])]),
            ),
            ("|1\r\n+a\r\n+b\r\n~1\r\n+c\r\n", Frame::List(vec![text("c")])),
            (">1\r\n+x\r\n", Frame::Push(vec![text("x")])),
        ];
        for (bytes, frame) in cases {
            assert_eq!(decode(bytes), Ok(Some(frame)), "{bytes:?}");
        }
    }

    #[test]
    fn a_frame_may_arrive_byte_by_byte_and_with_the_next_one_behind_it() {
        let mut decoder = Decoder::default();
        let bytes = b"*2\r\n$3\r\nabc\r\n*1\r\n:1\r\n";
        for byte in &bytes[..bytes.len() - 1] {
            decoder.feed(&[*byte]);
            assert_eq!(decoder.next(), Ok(None));
            assert!(!decoder.is_empty());
        }
        decoder.feed(b"\n+next\r\n");
        let whole = Frame::List(vec![text("abc"), Frame::List(vec![text("1")])]);
        assert_eq!(decoder.next(), Ok(Some(whole)));
        assert_eq!(decoder.next(), Ok(Some(text("next"))));
        assert!(decoder.is_empty());
    }

    #[test]
    fn what_is_no_frame_is_refused_and_so_is_one_that_would_take_too_much() {
        for bytes in ["HTTP/1.1 400\r\n", "\r\n", "$x\r\n", "$-2\r\n", "$1\r\nabc", "=1\r\na\r\n"] {
            assert_eq!(decode(bytes), Err(Malformed::NotResp), "{bytes:?}");
        }
        assert_eq!(decode("$99999999999\r\n"), Err(Malformed::TooLarge));
        assert_eq!(decode(format!("%{}\r\n", usize::MAX)), Err(Malformed::TooLarge));
        assert_eq!(decode("*1\r\n".repeat(1_000_000)), Err(Malformed::TooLarge));
        assert_eq!(
            decode(format!("*99999999\r\n{}", "_\r\n".repeat(2_000_000))),
            Err(Malformed::TooLarge)
        );
        assert_eq!(decode(vec![b'+'; MAX_LINE_BYTES + 1]), Err(Malformed::TooLarge));
    }

    #[test]
    fn what_is_too_large_with_what_came_before_is_refused_before_it_arrives() {
        let half = MAX_VALUE_FRAME_BYTES / 2;
        let first = format!("*2\r\n${half}\r\n{}\r\n", "a".repeat(half));
        assert_eq!(decode(format!("{first}${half}\r\n")), Err(Malformed::TooLarge));
    }

    #[test]
    fn what_is_no_value_may_take_less() {
        let mut decoder = Decoder::default();
        decoder.feed(format!("${}\r\n", MAX_NON_VALUE_FRAME_BYTES + 1).as_bytes());
        assert_eq!(decoder.next(), Err(Malformed::TooLarge));
    }

    #[test]
    fn a_long_text_takes_as_much_room_as_it_is_long() {
        let mut decoder = decoder();
        let length = MAX_VALUE_FRAME_BYTES - 1024;
        decoder.feed(format!("${length}\r\n").as_bytes());
        for piece in vec![b'a'; length].chunks(64 * 1024) {
            decoder.feed(piece);
            assert_eq!(decoder.next(), Ok(None));
        }
        assert!(decoder.buffer.capacity() < length + 1024);
        decoder.feed(b"\r\n+next\r\n");
        assert!(matches!(decoder.next(), Ok(Some(Frame::Text(text))) if text.len() == length));
        assert!(decoder.buffer.capacity() < MIN_ZERO_COPY_BYTES, "it went with the text");
        assert_eq!(decoder.next(), Ok(Some(text("next"))));
        assert!(decoder.is_empty());
    }

    #[test]
    fn a_command_is_an_array_of_strings() {
        assert_eq!(encode(&["GET", "a b"]), b"*2\r\n$3\r\nGET\r\n$3\r\na b\r\n");
    }
}
