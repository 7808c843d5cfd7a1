//! Provider of a source whose values a plugin reads and watches.

use crate::{
    configured_plugin::ConfiguredPlugin, instance::Instance, resolved_settings::ResolvedSettings,
    source_watch::SourceWatch,
};
use async_trait::async_trait;
use reloader_engine::types::{Cursor, Failure, FailureKind, Outcome};
use reloader_source::provider::{Confinement, Provider, Reader, Watcher};
use std::sync::Arc;

/// Provider of one source, by a configured plugin.
pub(crate) struct PluginProvider(pub(crate) ConfiguredPlugin);

#[async_trait]
impl Provider for PluginProvider {
    fn reader(&self) -> Box<dyn Reader> {
        Box::new(PluginReader { plugin: self.0.clone(), open: None })
    }

    async fn arm(&self, known: Option<Cursor>) -> Result<Box<dyn Watcher>, Failure> {
        Ok(Box::new(SourceWatch::open(&self.0, known).await?))
    }

    fn confinement(&self) -> Option<Confinement> {
        Some(self.0.confinement())
    }
}

/// Reader that keeps its instance, with its connections, for the next read.
struct PluginReader {
    plugin: ConfiguredPlugin,
    /// Instance, and the settings with which it was opened.
    open: Option<(Arc<ResolvedSettings>, Instance)>,
}

#[async_trait]
impl Reader for PluginReader {
    async fn read(&mut self, known: Option<Cursor>) -> Result<Outcome, Failure> {
        self.plugin.wait_for_value_rate().await;
        let resolved = self.plugin.resolved_settings().await;
        // An instance with outdated secrets is dropped before the next one is opened, because both share the
        // source's memory budget.
        let kept = self.open.take().filter(|(opened_with, _)| Arc::ptr_eq(opened_with, &resolved));
        let instance = match kept {
            Some((_, instance)) => instance,
            None => self.plugin.open(&resolved).await?,
        };
        let has_cursor = known.is_some();
        let outcome = instance.reload(known).await;
        self.open = outcome.instance.map(|instance| (Arc::clone(&resolved), instance));
        match outcome.result? {
            Outcome::Unchanged if !has_cursor => Err(Failure::new(
                FailureKind::Permanent,
                "the plugin answered `unchanged` to a call without a cursor",
            )),
            Outcome::Changed(snapshot) => {
                Ok(Outcome::Changed(self.plugin.check_snapshot(snapshot, &resolved)?))
            }
            outcome => Ok(outcome),
        }
    }
}
