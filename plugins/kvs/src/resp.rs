//! Redis serialization protocol (RESP): encoder of commands and incremental decoder of frames.
//!
//! One decoder handles RESP2 and RESP3. RESP3 only adds types.
//!
//! The decoder keeps an explicit stack of incomplete aggregates and resumes when more bytes arrive. It
//! therefore does not rescan completed elements, and deep nesting does not recurse. The memory of a frame is
//! bounded. A long bulk string is returned in the receive buffer itself, without a copy: the memory of a
//! plugin is small, and WebAssembly memory cannot shrink.

use std::mem;

/// Decoded reply or push message. RESP types with the same use are merged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    /// Null.
    Nil,
    /// String, or the textual form of a number or boolean.
    Text(Vec<u8>),
    /// Error reply: a code and usually a message.
    Error(String),
    /// Array or set, or a map as alternating keys and values.
    List(Vec<Frame>),
    /// Push message (RESP3 only).
    Push(Vec<Frame>),
}

/// Maximum memory of a frame with values, in bytes: twice the host's default limit for a value, because the
/// encoding needs additional memory.
pub(crate) const MAX_VALUE_FRAME_BYTES: usize = 16 * 1024 * 1024;
/// Maximum memory of any other frame, in bytes: push messages, key names, statuses and numbers.
pub(crate) const MAX_NON_VALUE_FRAME_BYTES: usize = MAX_VALUE_FRAME_BYTES / 4;
/// Maximum depth of nested aggregates. Replies to the commands of this plugin have at most 3 levels.
pub(crate) const MAX_NESTING_DEPTH: usize = 16;
/// Maximum length of a line, in bytes: a simple string, an error, a number or a length.
pub(crate) const MAX_LINE_BYTES: usize = 64 * 1024;
/// Minimum length of a bulk string that is returned without copying, in bytes.
const MIN_ZERO_COPY_BYTES: usize = 64 * 1024;
/// Memory of a frame in addition to its text, in bytes. The factor 3 accounts for the growth of the `Vec`
/// that contains the frame.
const FRAME_OVERHEAD_BYTES: usize = 3 * size_of::<Frame>();

/// Encodes a command as an array of bulk strings.
pub(crate) fn encode<A: AsRef<[u8]>>(command: &[A]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", command.len()).into_bytes();
    for argument in command.iter().map(AsRef::as_ref) {
        out.extend(format!("${}\r\n", argument.len()).into_bytes());
        out.extend(argument);
        out.extend(b"\r\n");
    }
    out
}

/// Incremental decoder of frames.
#[derive(Debug)]
pub(crate) struct Decoder {
    /// Maximum memory of a frame, in bytes.
    pub(crate) limit: usize,
    buffer: Vec<u8>,
    /// Position of the next unread byte in `buffer`.
    at: usize,
    /// Stack of incomplete aggregates, the innermost last.
    open: Vec<Aggregate>,
    /// Memory of the current frame so far, in bytes.
    size: usize,
}

/// Decoding error. The decoder cannot resynchronize after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// The data is not RESP.
    NotResp,
    /// A frame exceeds the limit of its memory, its line length or its nesting depth.
    TooLarge,
}

/// Incomplete aggregate.
#[derive(Debug)]
struct Aggregate {
    kind: Kind,
    missing: usize,
    items: Vec<Frame>,
}

/// Type of an aggregate.
#[derive(Debug, Clone, Copy)]
enum Kind {
    List,
    Push,
    /// RESP3 attribute: metadata of the following frame. Discarded.
    Attribute,
}

/// Token of the byte stream: a complete simple frame, or the header of an aggregate.
enum Token {
    /// Complete frame without elements.
    Leaf(Frame),
    /// Start of an aggregate with its number of elements.
    Begin(Kind, usize),
}

/// Creates a decoder with the limit of frames without values.
impl Default for Decoder {
    fn default() -> Self {
        Self {
            limit: MAX_NON_VALUE_FRAME_BYTES,
            buffer: Vec::new(),
            at: 0,
            open: Vec::new(),
            size: 0,
        }
    }
}

impl Decoder {
    /// Appends received bytes.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.at);
        self.at = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// Returns whether the buffer contains no part of a frame.
    pub(crate) fn is_empty(&self) -> bool {
        self.at == self.buffer.len() && self.open.is_empty()
    }

    /// Decodes the next frame. Returns `None` if the frame is incomplete.
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

    /// Adds a frame to the innermost aggregate and closes each completed aggregate. Returns the outermost
    /// frame once it is complete.
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

    /// Reads the next token. Returns `None` if it is incomplete.
    fn token(&mut self) -> Result<Option<Token>, Malformed> {
        let rest = &self.buffer[self.at..];
        let Some(end) = rest.windows(2).take(MAX_LINE_BYTES).position(|pair| pair == b"\r\n")
        else {
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
                // Rejects the string before it is received and buffered.
                Some(length) if length > self.limit.saturating_sub(self.size) => {
                    return Err(Malformed::TooLarge);
                }
                Some(length) => {
                    let end = used + length;
                    let Some(after) = rest.get(end..end + 2) else {
                        // Reserves the exact length: amortized growth would over-allocate.
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

    /// Consumes a bulk string of `length` bytes that starts `before` bytes after the current position.
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
    /// Returns the memory of the frame, in bytes.
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
    /// Converts a completed aggregate to a frame; `None` for an attribute.
    fn close(self, items: Vec<Frame>) -> Option<Frame> {
        match self {
            Kind::List => Some(Frame::List(items)),
            Kind::Push => Some(Frame::Push(items)),
            Kind::Attribute => None,
        }
    }
}

impl Token {
    /// Starts an aggregate with `length` entries of `times` elements each. A null aggregate is a leaf.
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

/// Parses a length. Returns `None` for -1, the null of RESP2.
fn parse_length(line: &[u8]) -> Result<Option<usize>, Malformed> {
    if line == b"-1" {
        return Ok(None);
    }
    let digits = str::from_utf8(line).map_err(|_| Malformed::NotResp)?;
    digits.parse().map(Some).map_err(|_| Malformed::NotResp)
}

/// Converts the content of a bulk string, verbatim string or bulk error to a frame.
fn bulk_frame(sigil: u8, mut text: Vec<u8>) -> Result<Frame, Malformed> {
    Ok(match sigil {
        b'!' => {
            text.truncate(MAX_LINE_BYTES);
            Frame::Error(String::from_utf8_lossy(&text).into_owned())
        }
        // A verbatim string starts with a three-letter format and a colon.
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

    /// Returns a decoder with the limit of frames with values.
    fn decoder() -> Decoder {
        Decoder { limit: MAX_VALUE_FRAME_BYTES, ..Decoder::default() }
    }

    fn decode(bytes: impl AsRef<[u8]>) -> Result<Option<Frame>, Malformed> {
        let mut decoder = decoder();
        decoder.feed(bytes.as_ref());
        decoder.next()
    }

    #[test]
    fn decoder_supports_resp2_and_resp3() {
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
    fn decoder_is_incremental() {
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
    fn malformed_or_large_frame_is_rejected() {
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
    fn large_string_is_rejected_before_arrival() {
        let half = MAX_VALUE_FRAME_BYTES / 2;
        let first = format!("*2\r\n${half}\r\n{}\r\n", "a".repeat(half));
        assert_eq!(decode(format!("{first}${half}\r\n")), Err(Malformed::TooLarge));
    }

    #[test]
    fn non_value_frame_has_smaller_limit() {
        let mut decoder = Decoder::default();
        decoder.feed(format!("${}\r\n", MAX_NON_VALUE_FRAME_BYTES + 1).as_bytes());
        assert_eq!(decoder.next(), Err(Malformed::TooLarge));
    }

    #[test]
    fn long_string_is_not_copied() {
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
        assert!(decoder.buffer.capacity() < MIN_ZERO_COPY_BYTES, "the string takes the buffer");
        assert_eq!(decoder.next(), Ok(Some(text("next"))));
        assert!(decoder.is_empty());
    }

    #[test]
    fn command_is_encoded_as_array() {
        assert_eq!(encode(&["GET", "a b"]), b"*2\r\n$3\r\nGET\r\n$3\r\na b\r\n");
    }
}
