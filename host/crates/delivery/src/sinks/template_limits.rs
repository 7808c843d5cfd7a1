//! Limits of templates on steps and memory, and the operations that observe them.

use crate::document_node_count_and_emptiness::DocumentScan;
use minijinja::{Error, ErrorKind, State, Value};
use serde::{Serialize, de::DeserializeSeed};
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};
use std::io::{self, Write};

/// Maximum number of steps (fuel of minijinja) of one rendering. A rendering with this number of steps takes less
/// than a second. 64 bytes of data cost one step, so a rendering allocates at most 256 MiB in addition to its
/// values and to the JSON that `fromjson` parses ([`MAX_JSON_NODES`] for each call).
pub(crate) const MAX_STEPS: u64 = 4_000_000;
/// Number of bytes whose processing by a filter costs one of the [`MAX_STEPS`] steps.
pub(super) const BYTES_PER_STEP: usize = 64;
/// Maximum number of values and keys of a JSON value. Each takes up to 230 bytes in total: in the parsed JSON and
/// in its copy in the engine.
pub(super) const MAX_JSON_NODES: usize = 1_000_000;
/// Bytes of `tojson` output that cost one step.
pub(super) const JSON_BYTES_PER_STEP: usize = 4;
/// Maximum size of `tojson` output, in bytes. Output of this size costs all steps of a rendering.
pub(super) const MAX_JSON_BYTES: usize = MAX_STEPS as usize * JSON_BYTES_PER_STEP;

/// Consumes the steps for `bytes` of data. Called before the data is allocated.
pub(super) fn charge(state: &State<'_, '_>, bytes: usize) -> Result<(), Error> {
    state.consume_fuel((bytes / BYTES_PER_STEP) as u64)
}

/// Checks the syntax of a JSON text and its number of values, without building the values.
pub(crate) fn check_json(text: &[u8]) -> Result<(), serde_json::Error> {
    let mut nodes = MAX_JSON_NODES;
    let mut json = serde_json::Deserializer::from_slice(text);
    DocumentScan { nodes: &mut nodes }.deserialize(&mut json).map(drop)
}

/// Returns a value as JSON text, with `indent` spaces for each level, or on one line with spaces after `,` and `:`.
pub(super) fn to_json(
    state: &State<'_, '_>,
    value: &Value,
    indent: Option<usize>,
) -> Result<String, Error> {
    let mut output = JsonText::default();
    let serialized = match indent {
        Some(spaces) => {
            let spaces = " ".repeat(spaces);
            let formatter = PrettyFormatter::with_indent(spaces.as_bytes());
            value.serialize(&mut Serializer::with_formatter(&mut output, formatter))
        }
        None => value.serialize(&mut Serializer::with_formatter(&mut output, OneLine)),
    };
    if output.is_full {
        let limit = MAX_JSON_BYTES >> 20;
        return Err(invalid(format!("the output of `tojson` is larger than {limit} MiB")));
    }
    state.consume_fuel((output.text.len() / JSON_BYTES_PER_STEP) as u64)?;
    serialized.map_err(|error| invalid(format!("cannot convert the value to JSON: {error}")))?;
    String::from_utf8(output.text).map_err(|error| invalid(error.to_string()))
}

/// JSON on one line, with a space after `,` and `:`, as Python writes it.
struct OneLine;

impl Formatter for OneLine {
    fn begin_array_value<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        writer.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_key<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        writer.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

pub(super) fn invalid(reason: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, reason)
}

/// Buffer for the result of the filter `tojson`. A write beyond [`MAX_JSON_BYTES`] fails.
#[derive(Default)]
struct JsonText {
    text: Vec<u8>,
    /// `true` after a write failed because the text would exceed the limit.
    is_full: bool,
}

impl Write for JsonText {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.text.len() + bytes.len() > MAX_JSON_BYTES {
            self.is_full = true;
            return Err(io::Error::other("too large"));
        }
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
