//! Variables of a template: the values of the sources, parsed.

use super::template_limits::check_json;
use crate::delivery_values::{Part, Update};
use base64::{Engine, engine::general_purpose::STANDARD};
use minijinja::{Value, context, value::Serde};
use reloader_source::decode::{self, Format};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt::Display};

/// Format in which a template sees a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Parse {
    /// Selected by the media type; text if it is absent or unknown.
    #[default]
    Auto,
    /// JSON.
    Json,
    /// TOML.
    Toml,
    /// YAML.
    Yaml,
    /// Text, not parsed.
    Text,
}

/// Names of the variables that a template can use without a source name if its sink has only one source.
pub(super) const SINGLE_SOURCE_VARIABLES: [&str; 6] =
    ["value", "text", "base64", "revision", "media_type", "at"];

/// Returns the variables that a template can use.
pub(super) fn variables(parse: Parse, update: &Update) -> Result<Value, String> {
    let mut names: BTreeMap<String, Value> = BTreeMap::new();
    let mut sources: BTreeMap<String, Value> = BTreeMap::new();
    for part in update.parts() {
        let value = parsed(parse, part)?;
        let content = part.value.as_ref().map(|value| std::str::from_utf8(&value.content));
        let name = part.source.to_string();
        names.insert(name.clone(), value.clone());
        let attributes = context! {
            value,
            // Undefined for binary content, so that only templates that use `text` fail.
            text => content.and_then(Result::ok).map_or(Value::UNDEFINED, Value::from),
            base64 => part.value.as_ref().map(|value| STANDARD.encode(&value.content)),
            revision => part.revision.get(),
            media_type => part.value.as_ref().and_then(|value| value.media_type.as_deref()),
            at => part.at.to_string(),
        };
        if update.single().is_some() {
            for name in SINGLE_SOURCE_VARIABLES {
                names.insert(name.into(), attributes.get_attr(name).unwrap_or(Value::UNDEFINED));
            }
        }
        sources.insert(name, attributes);
    }
    names.insert("sources".into(), Value::from(sources));
    Ok(Value::from(names))
}

/// Returns the value of a source for the variable `value`: parsed, or as text; none if the source has no value.
fn parsed(parse: Parse, part: &Part) -> Result<Value, String> {
    let Some(value) = &part.value else { return Ok(Value::from(())) };
    let format = match parse {
        Parse::Auto => value.media_type.as_deref().and_then(Format::of),
        Parse::Json => Some(Format::Json),
        Parse::Toml => Some(Format::Toml),
        Parse::Yaml => Some(Format::Yaml),
        Parse::Text => None,
    };
    let Some(format) = format else {
        let text = std::str::from_utf8(&value.content);
        return Ok(text.map_or(Value::UNDEFINED, Value::from));
    };
    let failed = |error: &dyn Display| {
        // Further lines of the error may quote the value.
        let error = error.to_string();
        format!("source `{}`: {}", part.source, error.lines().next().unwrap_or_default())
    };
    if format == Format::Json {
        let text = decode::text(&value.content).map_err(|error| failed(&error))?;
        check_json(text.as_bytes()).map_err(|error| failed(&error))?;
    }
    let decoded = value.decode_document(format).map_err(|error| failed(&error))?;
    Ok(Value::from(Serde(decoded)))
}
