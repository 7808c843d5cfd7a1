//! JSON object of the fields of a hash, or of the keys with a prefix.

use crate::error::Error;
use guest_sdk::Snapshot;
use std::{
    collections::BTreeMap,
    io::{self, Write},
};

/// Map of names to values, sorted by name.
pub(crate) type Entries = BTreeMap<String, String>;

/// Serializes the entries to a JSON object, sorted by name. Returns `None` without entries.
pub(crate) fn to_json(entries: &Entries) -> Result<Option<Snapshot>, Error> {
    if entries.is_empty() {
        return Ok(None);
    }
    // Determines the exact length first: a growing buffer can take up to three times as much memory.
    let mut counter = ByteCounter(0);
    serde_json::to_writer(&mut counter, entries).map_err(Error::unusable)?;
    let mut content = Vec::with_capacity(counter.0);
    serde_json::to_writer(&mut content, entries).map_err(Error::unusable)?;
    Ok(Some(Snapshot::new(content).media_type("application/json")))
}

/// Writer that counts and discards bytes.
struct ByteCounter(usize);

impl Write for ByteCounter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Converts bytes to UTF-8 text. `what` describes the bytes in the error message.
pub(crate) fn require_utf8(bytes: Vec<u8>, what: impl FnOnce() -> String) -> Result<String, Error> {
    String::from_utf8(bytes).map_err(|_| {
        Error::unusable(format_args!("{} is not UTF-8 and cannot be converted to JSON", what()))
    })
}
