//! Script of a fake server, parsed from the input of a fuzz target. Inputs can be written by hand.
//!
//! The first byte is the mode: a letter that selects the settings of the plugin. The module of each target lists its
//! letters. The second byte, usually a digit, is the number of bytes in each read (`0`: all at once). The following
//! lines are the connections or responses, separated by lines `--`. A line `~~` is a pause in which no data arrives.

/// Parsed input: the mode and the read size from the first line, and the bytes that the server sends.
pub(crate) struct ServerScript<'a> {
    /// ASCII letter that selects the settings of the plugin.
    pub(crate) mode: u8,
    /// Maximum number of bytes that the plugin gets in one read.
    pub(crate) read_bytes: usize,
    /// Bytes that the server sends: one item for each connection or response.
    pub(crate) parts: Vec<&'a [u8]>,
}

impl<'a> ServerScript<'a> {
    pub(crate) fn parse(input: &'a [u8]) -> Option<Self> {
        let (&[mode, read_bytes], rest) = input.split_first_chunk()?;
        let rest = rest.strip_prefix(b"\n").unwrap_or(rest);
        let read_bytes = match read_bytes {
            0 | b'0' => usize::MAX,
            digit @ b'1'..=b'9' => usize::from(digit - b'0'),
            bytes => usize::from(bytes),
        };
        Some(Self { mode, read_bytes, parts: split(rest, b"--\n") })
    }

    /// Returns whether one of the connections or responses contains this text.
    pub(crate) fn contains(&self, text: &str) -> bool {
        let is_in = |part: &&[u8]| part.windows(text.len()).any(|window| window == text.as_bytes());
        self.parts.iter().any(is_in)
    }
}

/// Splits the bytes of a connection or response into reads of at most `read_bytes`. `None` is a
/// pause.
pub(crate) fn split_reads(bytes: &[u8], read_bytes: usize) -> Vec<Option<&[u8]>> {
    let mut reads = Vec::new();
    for (index, part) in split(bytes, b"~~\n").into_iter().enumerate() {
        if index > 0 {
            reads.push(None);
        }
        reads.extend(part.chunks(read_bytes).map(Some));
    }
    reads
}

fn split<'a>(mut bytes: &'a [u8], separator: &[u8]) -> Vec<&'a [u8]> {
    let mut parts = Vec::new();
    while let Some(at) = bytes.windows(separator.len()).position(|window| window == separator) {
        parts.push(&bytes[..at]);
        bytes = &bytes[at + separator.len()..];
    }
    parts.push(bytes);
    parts
}
