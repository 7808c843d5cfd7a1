//! Values as files.

use super::{Delivered, Sink, SinkError, Update};
use crate::{atomic_write::Target, file_settings::TargetSettings};
use async_trait::async_trait;

/// A file that holds the value of a source.
pub type FileSettings = TargetSettings;

/// A file that holds the value of a source. Nobody ever sees half of it, unless it is written in place.
#[derive(Debug)]
pub struct File {
    target: Target,
}

impl File {
    /// With these settings; nothing is looked at yet.
    #[must_use]
    pub fn new(settings: FileSettings) -> Self {
        Self { target: Target::new(settings) }
    }
}

#[async_trait]
impl Sink for File {
    async fn deliver(&self, update: &Update) -> Result<Delivered, SinkError> {
        let Some(part) = update.single() else {
            return Err(SinkError::lasting(
                "a file holds the value of one source; for several, use `type = \"template\"`",
            ));
        };
        self.target.write(part.value.as_ref().map(|value| value.content.clone())).await
    }

    fn looks_itself(&self) -> bool {
        true
    }
}
