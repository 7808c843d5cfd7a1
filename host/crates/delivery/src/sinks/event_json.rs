//! JSON object of an event: the lines of the sink `stdout`, the body of a webhook, and the standard
//! input of a command with several sources.

use crate::delivery_values::{Part, Update};
use base64::{display::Base64Display, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use reloader_engine::types::{Revision, Snapshot, SourceName};
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

/// JSON object of an event of one source.
#[derive(Debug, Serialize)]
pub(super) struct EventJson<'a> {
    source: &'a str,
    event: &'static str,
    revision: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_base64: Option<Base64<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    media_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cursor: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) stale: bool,
    at: String,
}

impl<'a> EventJson<'a> {
    /// Returns the object with `value` as text, or as base64 if it is not UTF-8.
    pub(super) fn new(
        source: &'a SourceName,
        event: &'static str,
        revision: Revision,
        value: Option<&'a Snapshot>,
        at: Timestamp,
    ) -> Self {
        let (content, content_base64) = match value.map(|value| &*value.content) {
            None => (None, None),
            Some(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => (Some(text), None),
                Err(_) => (None, Some(Base64(bytes))),
            },
        };
        Self {
            source: source.as_str(),
            event,
            revision: revision.get(),
            content,
            content_base64,
            media_type: value.and_then(|value| value.media_type.as_deref()),
            cursor: None,
            reason: None,
            stale: false,
            at: format!("{at:.6}"),
        }
    }
}

/// Bytes that are serialized as base64 without an intermediate string.
#[derive(Debug)]
struct Base64<'a>(&'a [u8]);

impl Serialize for Base64<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&Base64Display::new(self.0, &STANDARD))
    }
}

/// Returns the object of the only source, or an object with the list `sources` for several sources.
pub(super) fn update_json(update: &Update) -> Value {
    let object = |part| json!(part_json(part));
    match update.single() {
        Some(part) => object(part),
        None => json!({ "event": update.event(),
            "sources": update.parts().iter().map(object).collect::<Vec<_>>() }),
    }
}

fn part_json(part: &Part) -> EventJson<'_> {
    let Part { source, revision, at, stale, value } = part;
    EventJson {
        stale: stale.is_some(),
        ..EventJson::new(source, part.event(), *revision, value.as_ref(), *at)
    }
}
