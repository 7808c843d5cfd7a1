//! A plugin with its settings, as the origin of a source.

use super::{
    Plugin,
    instance::{Instance, Linked},
    view::Surroundings,
};
use crate::{
    capability::{GrantError, Grants},
    config::{self, SettingError},
    model::{Cursor, Event, Failure, FailureKind, Outcome, SourceName},
    net::Reach,
    origin::{Origin, Read, Watch},
};
use async_trait::async_trait;
use serde_json::{Map, Value};
use std::sync::Arc;

/// These settings cannot be used with this plugin.
#[derive(Debug, thiserror::Error)]
pub enum ConfigureError {
    /// They do not fit the plugin's schema.
    #[error("{}", lines(.0))]
    Settings(Vec<SettingError>),
    /// They name something that cannot be reached.
    #[error("{}", lines(.0))]
    Grants(Vec<GrantError>),
    /// The strategy realtime needs a plugin that can watch.
    #[error(
        "the plugin `{plugin}` cannot watch, so its strategy cannot be `realtime`; use `polling`"
    )]
    CannotWatch {
        /// The plugin's name.
        plugin: String,
    },
}

fn lines<T: ToString>(errors: &[T]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

impl Plugin {
    /// What these settings would grant.
    ///
    /// # Errors
    ///
    /// All that is wrong with the settings.
    pub fn grants(&self, settings: &Map<String, Value>) -> Result<Grants, ConfigureError> {
        self.check(settings.clone()).map(|(_, grants)| grants)
    }

    fn check(&self, settings: Map<String, Value>) -> Result<(Value, Grants), ConfigureError> {
        let schema = &self.description().settings;
        let given = Value::Object(settings.clone());
        let settings = config::resolve(schema, settings).map_err(ConfigureError::Settings)?;
        // From what the operator wrote, not from the plugin's own defaults.
        let grants = Grants::implied(schema, &given).map_err(ConfigureError::Grants)?;
        Ok((settings, grants))
    }

    /// The plugin with its settings: checked, and with the grants that follow from them.
    ///
    /// # Errors
    ///
    /// All that is wrong with the settings.
    pub fn origin(
        &self,
        source: SourceName,
        settings: Map<String, Value>,
        reach: Reach,
    ) -> Result<Arc<dyn Origin>, ConfigureError> {
        let (settings, grants) = self.check(settings)?;
        let surroundings = Arc::new(self.surroundings(source, grants, reach));
        Ok(Arc::new(PluginOrigin {
            linked: self.linked().clone(),
            surroundings,
            settings: settings.to_string().into(),
        }))
    }
}

#[derive(Clone)]
struct PluginOrigin {
    linked: Linked,
    surroundings: Arc<Surroundings>,
    settings: Arc<str>,
}

impl PluginOrigin {
    async fn open(&self) -> Result<Instance, Failure> {
        Instance::open(&self.linked, &self.surroundings, &self.settings).await
    }

    /// A value that is larger than allowed is not taken.
    fn bounded(&self, bytes: usize) -> Result<(), Failure> {
        let limit = self.surroundings.limits.value;
        if bytes <= limit {
            return Ok(());
        }
        let message = format!("the value has {bytes} bytes; the limit is {limit}");
        Err(Failure::new(FailureKind::Permanent, message))
    }
}

#[async_trait]
impl Origin for PluginOrigin {
    fn reader(&self) -> Box<dyn Read> {
        Box::new(PluginReader { origin: self.clone(), instance: None })
    }

    async fn arm(&self, known: Option<Cursor>) -> Result<Box<dyn Watch>, Failure> {
        let called = self.open().await?.arm(known).await;
        called.result?;
        Ok(Box::new(PluginWatch { origin: self.clone(), instance: called.instance }))
    }
}

struct PluginReader {
    origin: PluginOrigin,
    /// Kept for the next time, with its connections.
    instance: Option<Instance>,
}

#[async_trait]
impl Read for PluginReader {
    async fn read(&mut self, known: Option<Cursor>) -> Result<Outcome, Failure> {
        let instance = match self.instance.take() {
            Some(instance) => instance,
            None => self.origin.open().await?,
        };
        let knows = known.is_some();
        let called = instance.reload(known).await;
        self.instance = called.instance;
        match called.result? {
            Outcome::Unchanged if !knows => Err(Failure::new(
                FailureKind::Permanent,
                "the plugin answered `unchanged` although it was not told what is known",
            )),
            Outcome::Changed(snapshot) => {
                self.origin.bounded(snapshot.content.len())?;
                Ok(Outcome::Changed(snapshot))
            }
            outcome => Ok(outcome),
        }
    }
}

struct PluginWatch {
    origin: PluginOrigin,
    instance: Option<Instance>,
}

#[async_trait]
impl Watch for PluginWatch {
    async fn next(&mut self) -> Result<Event, Failure> {
        let lost = || Failure::transient("the watch is gone");
        let called = self.instance.take().ok_or_else(lost)?.next().await;
        self.instance = called.instance;
        match called.result? {
            Event::Changed(snapshot) => {
                self.origin.bounded(snapshot.content.len())?;
                Ok(Event::Changed(snapshot))
            }
            event => Ok(event),
        }
    }
}
