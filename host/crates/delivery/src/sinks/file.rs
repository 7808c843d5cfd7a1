//! Sink that writes a value to a file.

use super::{file_settings::TargetSettings, sink_file::Target};
use crate::{
    delivery_values::Update,
    serial_blocking_jobs::BlockingOperation,
    sink::{Delivered, ExternalChange, FileContent, Sink, SinkError},
    sink_settings::DEFAULT_TIMEOUT,
};
use async_trait::async_trait;
use bytes::Bytes;
use std::time::Duration;

/// Settings of a file that holds the value of one source.
pub type FileSettings = TargetSettings;

/// Sink that writes the value of one source to a file.
///
/// The write is atomic unless [`in_place`](TargetSettings::in_place) is set.
#[derive(Debug)]
pub struct File {
    target: Target,
}

impl File {
    /// Returns a sink with these settings. Does not access the file system.
    #[must_use]
    pub fn new(settings: FileSettings) -> Self {
        Self::named("file", settings, DEFAULT_TIMEOUT)
    }

    /// Returns a sink. `label` is its name in the log of its check, and `timeout` is the timeout of the check.
    pub(crate) fn named(label: &str, settings: FileSettings, timeout: Duration) -> Self {
        Self { target: Target::new(settings, label, timeout) }
    }
}

#[async_trait]
impl Sink for File {
    async fn deliver(&self, update: &Update) -> Result<Delivered, SinkError> {
        self.target.write(self.preview(update).await?).await
    }

    async fn prepare(&self, update: &Update) -> Result<(), SinkError> {
        self.target.prepare(self.preview(update).await?).await
    }

    async fn preview(&self, update: &Update) -> Result<Option<Bytes>, SinkError> {
        let Some(part) = update.single() else {
            return Err(SinkError::permanent(
                "a file sink supports one source only; hint: use `type = \"template\"` for several",
            ));
        };
        Ok(part.value.as_ref().map(|value| value.content.clone()))
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
