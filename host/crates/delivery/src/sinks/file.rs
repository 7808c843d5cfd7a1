//! Sink that writes a value to a file.

use super::{file_settings::file_sink_settings, sink_file::Target};
use crate::{
    delivery_values::Update,
    serial_blocking_jobs::BlockingOperation,
    sink::{Delivered, ExternalChange, FileContent, Sink, SinkError},
    worker_settings::DEFAULT_TIMEOUT,
};
use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use reloader_engine::types::Snapshot;
use reloader_source::decode::Format;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{path::PathBuf, time::Duration};

file_sink_settings! {
    /// Settings of a file that holds the value of one source, or a part of it.
    pub struct FileSettings {
        /// JSON Pointer of the part of the value that is written, such as `/tls/cert`. A text is written as it is, and
        /// another part as JSON. The value is JSON, TOML or YAML, according to its media type. Default: the whole value.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub at: Option<String> = None,
        /// Encoding of the text, which is decoded before it is written: `base64`. Default: none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub encoding: Option<Encoding> = None,
        /// Appends a line feed to content that does not end with one. Default: `false`.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        pub append_newline: bool = false,
    }
}

/// Encoding of the text that a file sink decodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// Base64 with the standard alphabet. Line breaks and spaces are ignored.
    Base64,
}

impl FileSettings {
    /// Returns the default settings for the file at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self::at_path(path.into())
    }
}

/// Sink that writes the value of one source to a file.
///
/// The write is atomic unless [`in_place`](FileSettings::in_place) is set.
#[derive(Debug)]
pub struct File {
    content: ContentSettings,
    target: Target,
}

/// Settings that derive the content of the file from the value.
#[derive(Debug, Clone)]
struct ContentSettings {
    at: Option<String>,
    encoding: Option<Encoding>,
    append_newline: bool,
}

impl ContentSettings {
    fn content(&self, value: &Snapshot) -> Result<Bytes, String> {
        let mut content = match &self.at {
            None => value.content.clone(),
            Some(at) => part(value, at)?,
        };
        if self.encoding == Some(Encoding::Base64) {
            let text: Vec<u8> =
                content.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
            let decoded = STANDARD.decode(text);
            content = decoded.map_err(|error| format!("invalid Base64: {error}"))?.into();
        }
        if self.append_newline && !content.ends_with(b"\n") {
            content = [&content, &b"\n"[..]].concat().into();
        }
        Ok(content)
    }
}

/// Returns the part of a document at a JSON Pointer.
fn part(value: &Snapshot, at: &str) -> Result<Bytes, String> {
    let format = value.media_type.as_deref().and_then(Format::of).ok_or_else(|| {
        let media_type = value.media_type.as_deref().unwrap_or("missing");
        format!("`at` needs JSON, TOML or YAML, but the media type is {media_type}")
    })?;
    let document = value.decode_document(format).map_err(|error| {
        // Further lines of the error may quote the value.
        error.to_string().lines().next().unwrap_or_default().to_owned()
    })?;
    match document.pointer(at) {
        Some(serde_json::Value::String(text)) => Ok(text.clone().into()),
        Some(part) => Ok(part.to_string().into()),
        None => Err(format!("the value has nothing at `{at}` (`at`)")),
    }
}

impl File {
    /// Returns a sink with these settings. Does not access the file system.
    #[must_use]
    pub fn new(settings: FileSettings) -> Self {
        Self::named("file", settings, DEFAULT_TIMEOUT)
    }

    /// Returns a sink. `label` is its name in the log of its check, and `timeout` is the timeout of the check.
    pub(crate) fn named(label: &str, settings: FileSettings, timeout: Duration) -> Self {
        let target = Target::new(settings.target(), label, timeout);
        let FileSettings { at, encoding, append_newline, .. } = settings;
        Self { content: ContentSettings { at, encoding, append_newline }, target }
    }
}

#[async_trait]
impl Sink for File {
    async fn deliver(&self, update: &Update) -> Result<Delivered, SinkError> {
        self.target.write(self.preview(update).await?).await
    }

    async fn preview(&self, update: &Update) -> Result<Option<Bytes>, SinkError> {
        let Some(part) = update.single() else {
            return Err(SinkError::permanent(
                "a file sink supports one source only; hint: use `type = \"template\"` for several",
            ));
        };
        let content = part.value.as_ref().map(|value| self.content.content(value)).transpose();
        content
            .map_err(|reason| SinkError::permanent(format!("source `{}`: {reason}", part.source)))
    }

    fn detects_unchanged(&self) -> bool {
        true
    }

    fn file_content(&self) -> Option<FileContent> {
        self.target.content()
    }

    fn blocking_operation(&self) -> Option<BlockingOperation> {
        self.target.blocking_operation()
    }

    fn repair_interval(&self) -> Option<Duration> {
        self.target.repair_interval()
    }

    async fn external_change(&self) -> Option<ExternalChange> {
        self.target.external_change().await
    }
}
