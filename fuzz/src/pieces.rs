//! What servers say, as a file that can be written by hand.
//!
//! The first byte chooses what is asked for, the second how many bytes arrive at a time (`0` for all
//! at once). Below that line are the connections or responses, with a line `--` between two of them;
//! a line `~~` is a time in which nothing arrives.

/// What comes before the first line's end is not said by anyone.
pub(crate) struct Conversation<'a> {
    pub(crate) choice: u8,
    /// How many bytes arrive at a time.
    pub(crate) step: usize,
    /// One for each connection or response.
    pub(crate) parts: Vec<&'a [u8]>,
}

impl<'a> Conversation<'a> {
    pub(crate) fn new(input: &'a [u8]) -> Option<Self> {
        let (&[choice, step], rest) = input.split_first_chunk()?;
        let rest = rest.strip_prefix(b"\n").unwrap_or(rest);
        let step = match step {
            0 | b'0' => usize::MAX,
            digit @ b'1'..=b'9' => usize::from(digit - b'0'),
            step => usize::from(step),
        };
        Some(Self { choice, step, parts: split(rest, b"--\n") })
    }
}

/// What arrives: pieces of at most `step` bytes, `None` where nothing does.
pub(crate) fn pieces(bytes: &[u8], step: usize) -> Vec<Option<&[u8]>> {
    let mut pieces = Vec::new();
    for (index, part) in split(bytes, b"~~\n").into_iter().enumerate() {
        if index > 0 {
            pieces.push(None);
        }
        pieces.extend(part.chunks(step).map(Some));
    }
    pieces
}

/// Whether the bytes contain this text.
pub(crate) fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

fn split<'a>(mut bytes: &'a [u8], mark: &[u8]) -> Vec<&'a [u8]> {
    let mut parts = Vec::new();
    while let Some(at) = bytes.windows(mark.len()).position(|window| window == mark) {
        parts.push(&bytes[..at]);
        bytes = &bytes[at + mark.len()..];
    }
    parts.push(bytes);
    parts
}
