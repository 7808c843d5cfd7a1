//! JSON representation of an update, for webhooks and commands.

use super::{Part, Update};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Serialize;
use serde_json::{Value, json};

/// JSON object for the value of one source, with the field names that the `stdout` sink uses.
#[derive(Debug, Serialize)]
pub(crate) struct Payload<'a> {
    source: &'a str,
    event: &'static str,
    revision: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    media_type: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stale: bool,
    at: String,
}

impl<'a> Payload<'a> {
    pub(crate) fn new(part: &'a Part) -> Self {
        let value = part.value.as_ref();
        let text = value.map(|value| std::str::from_utf8(&value.content));
        Self {
            source: part.source.as_str(),
            event: event(part),
            revision: part.revision.get(),
            content: text.and_then(Result::ok),
            content_base64: match (text, value) {
                (Some(Err(_)), Some(value)) => Some(STANDARD.encode(&value.content)),
                _ => None,
            },
            media_type: value.and_then(|value| value.media_type.as_deref()),
            stale: part.stale.is_some(),
            at: format!("{:.6}", part.at),
        }
    }
}

/// Returns the object of the only source, or an object with the list `sources` for several sources.
pub(crate) fn json(update: &Update) -> Value {
    match update.single() {
        Some(part) => json!(Payload::new(part)),
        None => json!({ "event": update.event(),
            "sources": update.parts().iter().map(Payload::new).collect::<Vec<_>>() }),
    }
}

/// Returns the event of one source: `changed`, or `removed` if it has no value.
pub(crate) fn event(part: &Part) -> &'static str {
    if part.value.is_some() { "changed" } else { "removed" }
}
