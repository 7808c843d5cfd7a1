//! Input format of the scripted servers. Inputs can be written by hand.
//!
//! The first byte selects the mode of the plugin. The second byte is the number of bytes in each
//! read (`0`: all at once). The following lines are the connections or responses, separated by
//! lines `--`. A line `~~` is a pause in which no data arrives.

/// Parsed input. The first line is the header; the server sends the rest.
pub(crate) struct Conversation<'a> {
    pub(crate) choice: u8,
    /// Number of bytes in each read.
    pub(crate) step: usize,
    /// Bytes of each connection or response.
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

/// Splits bytes into reads of at most `step` bytes. `None` is a pause.
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

/// Returns whether the bytes contain a text.
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
