//! A plugin with its settings, as the origin of a source.

use crate::{
    Limits, Plugin,
    instance::Instance,
    plugin_watch::PluginWatch,
    source_context::{Configured, Surroundings, Written},
    value_rate_limit::Intake,
};
use async_trait::async_trait;
use reloader_engine::types::{Cursor, Failure, FailureKind, Outcome, Snapshot, SourceName};
use reloader_net::Reach;
use reloader_policy::{
    CredentialError, Decision, Grant, GrantError, Permission, plugin_settings::SettingError,
};
use reloader_source::{
    metrics::Counters,
    provider::{Confinement, Provider, Reader, Watcher},
};
use reloader_util::sanitize::sanitize;
use serde_json::{Map, Value};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout};
use tracing::{info, warn};

/// These settings cannot be used with this plugin.
#[derive(Debug, thiserror::Error)]
pub enum ConfigureError {
    /// They do not fit the plugin's schema.
    #[error("{}", lines(.0))]
    Settings(Vec<SettingError>),
    /// They name something that cannot be reached.
    #[error("{}", lines(.0))]
    Grants(Vec<GrantError>),
    /// A credential cannot be used.
    #[error("{0}")]
    Credential(CredentialError),
    /// A validator, where a source is wanted.
    #[error(
        "the plugin `{plugin}` is a validator: it judges values, and has none; name it in a source's \
         `validate`, and a plugin of the world `source` as that source's own"
    )]
    NotASource {
        /// The plugin's name.
        plugin: String,
    },
    /// A source, where a validator is wanted.
    #[error(
        "the plugin `{plugin}` is a source, not a validator: it cannot judge values; `host inspect` \
         shows a plugin's world"
    )]
    NotAValidator {
        /// The plugin's name.
        plugin: String,
    },
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
    /// What a source with these settings would ask for, and what it may reach.
    ///
    /// # Errors
    ///
    /// All that is wrong with the settings.
    pub fn decide(
        &self,
        settings: Map<String, Value>,
        permission: Permission,
    ) -> Result<Decision, ConfigureError> {
        let written = Written { settings, permission, credentials: Vec::new() };
        written.configure(&self.description().settings).map(|(_, decision)| decision)
    }

    /// The plugin as a source uses it: checked, and with the grants that follow.
    pub(crate) fn origin(
        &self,
        source: SourceName,
        written: Written,
        limits: Arc<Limits>,
        reach: Reach,
        counters: Arc<Counters>,
    ) -> Result<PluginProvider, ConfigureError> {
        let (configured, _) = written.configure(&self.description().settings)?;
        let intake = Intake::new(limits.value_rate());
        Ok(PluginProvider {
            parts: Arc::new(Parts {
                plugin: self.clone(),
                written,
                surroundings: Arc::new(self.surroundings(source, limits, reach, counters)),
                configured: Mutex::new(Arc::new(configured)),
                trouble: Mutex::default(),
                looking: Arc::new(Semaphore::new(1)),
                intake,
            }),
        })
    }
}

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct PluginProvider {
    parts: Arc<Parts>,
}

struct Parts {
    plugin: Plugin,
    written: Written,
    surroundings: Arc<Surroundings>,
    /// As the secrets were when they were looked at last.
    configured: Mutex<Arc<Configured>>,
    /// Why a secret cannot be looked up, if it cannot.
    trouble: Mutex<Option<String>>,
    /// For one who looks at the files with secrets.
    looking: Arc<Semaphore>,
    intake: Intake,
}

/// Whatever is left of its instances is cleared away elsewhere, later perhaps.
impl Drop for Parts {
    fn drop(&mut self) {
        self.surroundings.refusals.sum_up();
    }
}

/// A file with a secret is not waited for any longer.
pub(crate) const LOOK: Duration = Duration::from_secs(5);

impl PluginProvider {
    pub(crate) async fn open(&self, configured: &Arc<Configured>) -> Result<Instance, Failure> {
        Instance::open(self.parts.plugin.linked(), self.surroundings(), configured).await
    }

    pub(crate) fn surroundings(&self) -> &Arc<Surroundings> {
        &self.parts.surroundings
    }

    /// What an instance is made with, after a look at the files with secrets. If there is something
    /// wrong with what they hold now, the source goes on with what they held before.
    pub(crate) async fn configured(&self) -> Arc<Configured> {
        let present = Arc::clone(&self.parts.lock());
        if present.secrets.files().next().is_none() {
            return present;
        }
        let (parts, known) = (Arc::clone(&self.parts), Arc::clone(&present));
        // Whoever comes while somebody looks takes what is there: files that hang take one thread.
        let Ok(turn) = Arc::clone(&self.parts.looking).try_acquire_owned() else { return present };
        let looked = spawn_blocking(move || {
            let _turn = turn;
            let schema = &parts.plugin.description().settings;
            let made = || parts.written.configure(schema).map_err(|error| error.to_string());
            known.secrets.are_outdated().and_then(|outdated| outdated.then(made).transpose())
        });
        let source = &self.surroundings().source;
        let (now, trouble) = match timeout(LOOK, looked).await {
            Err(_) => (present, Some(format!("its file does not answer within {LOOK:?}"))),
            Ok(Ok(Ok(Some((new, _))))) => {
                info!(%source, "a secret has changed; the plugin is opened with the new one");
                let new = Arc::new(new);
                *self.parts.lock() = Arc::clone(&new);
                (new, None)
            }
            Ok(Ok(Err(why))) => (present, Some(why)),
            Ok(Ok(Ok(None)) | Err(_)) => (present, None),
        };
        // Once, until it is another one.
        let mut told = self.parts.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(why) = trouble.as_ref().filter(|_| *told != trouble) {
            warn!(%source, "a secret cannot be looked up, and the one before stays: {why}");
        }
        *told = trouble;
        drop(told);
        now
    }

    /// Waits until another value may come.
    pub(crate) async fn turn(&self) {
        if self.parts.intake.turn().await {
            self.is_slowed_down("the values are too many bytes", "value-rate");
        }
    }

    /// It has more to say than this limit allows.
    pub(crate) fn is_slowed_down(&self, why: &str, limit: &str) {
        let Surroundings { limits, refusals, .. } = &**self.surroundings();
        let what = format!("{why}, and it is slowed down: {} a second", limits.cite(limit));
        refusals.count(&what);
        refusals.say(&what);
    }

    /// A value as it may be passed on: not larger than allowed, and its cursor and media type, which
    /// are shown, without what is secret.
    pub(crate) fn accept(
        &self,
        snapshot: Snapshot,
        made_with: &Configured,
    ) -> Result<Snapshot, Failure> {
        let Snapshot { content, media_type, cursor } = snapshot;
        let limits = &self.surroundings().limits;
        self.parts.intake.took(content.len());
        if content.len() > limits.value {
            let (bytes, limit) = (content.len(), limits.cite("value"));
            return Err(too_long("value", bytes, &limit));
        }
        let note = cursor.as_ref().map_or("", Cursor::as_str);
        for (what, text, most) in [
            ("cursor", note, CURSOR_MAX),
            ("media type", media_type.as_deref().unwrap_or_default(), MEDIA_TYPE_MAX),
        ] {
            if text.len() > most {
                return Err(too_long(what, text.len(), &format!("it may have {most}")));
            }
        }
        let secrets = &made_with.secrets;
        Ok(Snapshot {
            content,
            media_type: media_type.map(|text| sanitize(&secrets.redact(&text)).into()),
            cursor: cursor.map(|cursor| {
                let shown = secrets.redact(cursor.as_str()).into_owned();
                cursor.shown_as(&shown)
            }),
        })
    }
}

fn too_long(what: &str, bytes: usize, limit: &str) -> Failure {
    let message = format!("the plugin's {what} has {bytes} bytes; {limit}");
    Failure::new(FailureKind::Permanent, message)
}

impl Parts {
    fn lock(&self) -> MutexGuard<'_, Arc<Configured>> {
        self.configured.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A cursor is a note, not a value; in bytes.
const CURSOR_MAX: usize = 64 << 10;
/// In bytes. RFC 6838 allows 127 characters on each side of the slash; parameters may follow.
const MEDIA_TYPE_MAX: usize = 1 << 10;

#[async_trait]
impl Provider for PluginProvider {
    fn reader(&self) -> Box<dyn Reader> {
        Box::new(PluginReader { origin: self.clone(), open: None })
    }

    async fn arm(&self, known: Option<Cursor>) -> Result<Box<dyn Watcher>, Failure> {
        Ok(Box::new(PluginWatch::open(self, known).await?))
    }

    fn confinement(&self) -> Option<Confinement> {
        let configured = Arc::clone(&self.parts.lock());
        let surroundings = self.surroundings();
        let shown = |grant: &Grant| sanitize(&configured.secrets.redact(&grant.in_words()));
        Some(Confinement {
            granted: configured.granted.iter().map(shown).collect(),
            refused: surroundings.refusals.all(),
            memory: surroundings.limits.memory.saturating_sub(surroundings.memory.bytes()),
        })
    }
}

struct PluginReader {
    origin: PluginProvider,
    /// Kept for the next time, with its connections; and what it was made with.
    open: Option<(Arc<Configured>, Instance)>,
}

#[async_trait]
impl Reader for PluginReader {
    async fn read(&mut self, known: Option<Cursor>) -> Result<Outcome, Failure> {
        self.origin.turn().await;
        let configured = self.origin.configured().await;
        // One that was made with other secrets is gone before the next is opened: they share their memory.
        let kept = self.open.take().filter(|(made_with, _)| Arc::ptr_eq(made_with, &configured));
        let instance = match kept {
            Some((_, instance)) => instance,
            None => self.origin.open(&configured).await?,
        };
        let knows = known.is_some();
        let called = instance.reload(known).await;
        self.open = called.instance.map(|instance| (Arc::clone(&configured), instance));
        match called.result? {
            Outcome::Unchanged if !knows => Err(Failure::new(
                FailureKind::Permanent,
                "the plugin answered `unchanged` although it was not told what is known",
            )),
            Outcome::Changed(snapshot) => {
                Ok(Outcome::Changed(self.origin.accept(snapshot, &configured)?))
            }
            outcome => Ok(outcome),
        }
    }
}
