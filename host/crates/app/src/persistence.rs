//! Persistence: restores sources and sinks from the state store after a restart, records published
//! values and deliveries, and answers queries about the history.

use crate::{change_histogram::ChangeHistogram, command_error::CommandError, config::StateTable};
use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use jiff::Timestamp;
use reloader_api_types::{HistoryEntry, RefusedValue};
use reloader_delivery::{self, DeliveryLog};
use reloader_engine::types::{Revision, Snapshot, SourceName};
use reloader_source::{
    handle::RestoredState,
    persistence::{Persistence, Publication, Resumed},
};
use reloader_state::{
    Digest, Opened, ReadError, Record, RejectedValue, RevisionEntry, Saved, Settings, State,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::task::spawn_blocking;
use tracing::{error, warn};

/// Digest that is recorded when a delivery begins. It marks the content of the sink as unknown, in case
/// the host crashes during the delivery.
const UNKNOWN_DIGEST: [u8; 32] = [0; 32];

/// Access to the state store, or nothing if the state is disabled. Cheap to clone.
#[derive(Clone)]
pub(crate) struct StatePersistence {
    state: Option<State>,
    pins: Arc<Pins>,
    /// Sources whose values are not stored (`store = false`).
    secret: Arc<Mutex<BTreeSet<SourceName>>>,
}

/// Sources that are pinned to an earlier revision by a rollback.
#[derive(Debug, Default)]
struct Pins {
    /// Revision that each source is pinned to.
    pinned: Mutex<BTreeMap<SourceName, Revision>>,
    /// Rollbacks whose value is not published yet: the revision and the content.
    unpublished: Mutex<BTreeMap<SourceName, (Revision, Bytes)>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl StatePersistence {
    /// Creates a persistence that stores nothing.
    pub(crate) fn disabled() -> Self {
        Self { state: None, pins: Arc::default(), secret: Arc::default() }
    }

    /// Opens or creates the state store in `directory`.
    pub(crate) async fn open(directory: &Path, table: &StateTable) -> anyhow::Result<Self> {
        let settings = Settings {
            history: table.history,
            history_size: table.history_size,
            ..Settings::default()
        };
        let directory = directory.to_owned();
        let opened = spawn_blocking(move || State::open(&directory, settings)).await??;
        let Opened { state, .. } = opened;
        Ok(Self { state: Some(state), pins: Arc::default(), secret: Arc::default() })
    }

    /// Sets the sources and groups of the configuration, each with `true` if its values are stored.
    pub(crate) fn configured(&self, names: impl IntoIterator<Item = (SourceName, bool)>) {
        let all: Vec<_> = names.into_iter().map(|(name, store)| (name, !store)).collect();
        let secret = all.iter().filter(|(_, secret)| *secret).map(|(name, _)| name.clone());
        *lock(&self.secret) = secret.collect();
        if let Some(state) = &self.state {
            state.set_configured(all);
        }
    }

    /// Returns the restored state of a source, together with the persistence that records its values.
    pub(crate) fn restore_source(&self, source: &SourceName) -> RestoredState {
        let Some(state) = &self.state else { return RestoredState::default() };
        let resumed = state.restore(source).unwrap_or_else(|error| {
            error!(%source, %error, "state restore failed, revisions restart at 1");
            None
        });
        if let Some(to) = resumed.as_ref().and_then(|resumed| resumed.pinned) {
            lock(&self.pins.pinned).insert(source.clone(), to);
        }
        let resumed = resumed.map(|resumed| Resumed {
            revision: resumed.revision,
            value: resumed.value,
            removed: resumed.removed,
            at: resumed.at,
            pinned: resumed.pinned.is_some(),
        });
        let keep = SourcePersistence {
            state: state.clone(),
            pins: Arc::clone(&self.pins),
            source: source.clone(),
            secret: Arc::clone(&self.secret),
        };
        RestoredState { resumed, persistence: Some(Arc::new(keep)) }
    }

    /// Returns the delivery record of the sink `key` of the source or group `owner`.
    pub(crate) fn delivery_record(&self, owner: &str, key: &str) -> Box<dyn DeliveryLog> {
        match &self.state {
            None => Box::new(reloader_delivery::NoDeliveryLog),
            Some(state) => Box::new(DeliveryRecord {
                state: state.clone(),
                owner: SourceName::new(owner),
                sink: key.into(),
            }),
        }
    }

    /// Returns the revision that a source is pinned to.
    pub(crate) fn pinned(&self, source: &SourceName) -> Option<Revision> {
        lock(&self.pins.pinned).get(source).copied()
    }

    /// Returns the stored revisions of a source, newest first.
    pub(crate) async fn history(
        &self,
        source: &SourceName,
    ) -> Result<Vec<HistoryEntry>, CommandError> {
        let entries = self.entries(source).await?;
        let pinned = self.pinned(source);
        Ok(entries
            .into_iter()
            .map(|entry| HistoryEntry {
                revision: entry.revision.get(),
                at: entry.at,
                event: entry.event.to_string(),
                pinned: pinned == Some(entry.revision),
                sha256: entry.digest.map(|digest| digest.to_string()),
                size: Some(entry.size),
                media_type: entry.media_type.map(|media_type| media_type.to_string()),
                stored: entry.is_stored,
            })
            .collect())
    }

    /// Adds the stored changes of the hour before the start to a histogram, in the background.
    pub(crate) fn load_histogram(&self, source: &SourceName, histogram: Arc<ChangeHistogram>) {
        let Some(state) = self.state.clone() else { return };
        let (source, start) = (source.clone(), Timestamp::now());
        spawn_blocking(move || {
            for entry in state.history(&source).unwrap_or_default() {
                let age = start.duration_since(entry.at);
                if let Ok(age) = Duration::try_from(age) {
                    histogram.add_past(age, Instant::now());
                }
            }
        });
    }

    /// Returns the last rejected value of a source.
    pub(crate) async fn last_rejected(
        &self,
        source: &SourceName,
    ) -> Result<Option<RefusedValue>, CommandError> {
        let source = source.clone();
        let rejected = self.query(move |state| state.last_rejection(&source)).await?;
        Ok(rejected.map(|rejected| RefusedValue {
            at: rejected.at,
            reason: rejected.reason,
            sha256: Some(rejected.digest.to_string()),
            size: Some(rejected.size),
            media_type: rejected.media_type.map(|media_type| media_type.to_string()),
            content: rejected.content.map(|content| STANDARD.encode(content)),
        }))
    }

    async fn entries(&self, source: &SourceName) -> Result<Vec<RevisionEntry>, CommandError> {
        let source = source.clone();
        self.query(move |state| state.history(&source)).await
    }

    /// Returns the newest stored revision before `current` that has a different value: the target of a
    /// rollback without an explicit revision. If the source is pinned, the search starts at the pinned
    /// revision, so that repeated rollbacks go further back.
    pub(crate) async fn previous_revision(
        &self,
        source: &SourceName,
        current: Revision,
    ) -> Result<Revision, CommandError> {
        let current = self.pinned(source).unwrap_or(current);
        let entries = self.entries(source).await?;
        let digest = entries.iter().find(|entry| entry.revision == current);
        let digest = digest.and_then(|entry| entry.digest);
        let older = entries.iter().filter(|entry| entry.revision < current && entry.is_stored);
        let mut other = older.filter(|entry| entry.digest.is_some() && entry.digest != digest);
        other.next().map(|entry| entry.revision).ok_or_else(|| {
            let why = match self.is_secret(source) {
                true => "stores no values (`store = false`)".into(),
                false => {
                    format!("has no earlier value; `host history {source}` lists its revisions")
                }
            };
            CommandError::Conflict(format!("source `{source}` {why}"))
        })
    }

    /// Returns the stored value of a revision.
    pub(crate) async fn value(
        &self,
        source: &SourceName,
        revision: Revision,
    ) -> Result<Snapshot, CommandError> {
        let name = source.clone();
        let value = self.query(move |state| state.value(&name, revision)).await?;
        value.ok_or_else(|| {
            CommandError::NotFound(match self.is_secret(source) {
                true => format!("source `{source}` stores no values (`store = false`)"),
                false => format!(
                    "source `{source}` has no stored value for revision {revision}; \
                     `host history {source}` lists its revisions"
                ),
            })
        })
    }

    /// Returns whether the values of a source are not stored.
    fn is_secret(&self, source: &SourceName) -> bool {
        lock(&self.secret).contains(source)
    }

    /// Runs a query of the state store on a thread where blocking is allowed.
    async fn query<T: Send + 'static>(
        &self,
        query: impl FnOnce(&State) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, CommandError> {
        let state = self.state.clone();
        let disabled = "no state is stored: `[state]` has `enabled = false`";
        let state = state.ok_or_else(|| CommandError::Conflict(disabled.into()))?;
        let result = spawn_blocking(move || query(&state)).await;
        let result = result.map_err(|error| CommandError::Failed(error.to_string()))?;
        result.map_err(|error| CommandError::Failed(error.to_string()))
    }

    /// Pins a source to the value of an earlier revision. `is_published` states whether this value is
    /// the published one already.
    pub(crate) fn pin(
        &self,
        source: &SourceName,
        to: Revision,
        value: &Snapshot,
        is_published: bool,
    ) {
        lock(&self.pins.pinned).insert(source.clone(), to);
        if !is_published {
            // The pin is recorded in the same write as the publication of the value.
            lock(&self.pins.unpublished).insert(source.clone(), (to, value.content.clone()));
        } else if let Some(state) = &self.state {
            state.pin(source, Some(to));
        }
    }

    /// Removes the pin of a source.
    pub(crate) fn unpin(&self, source: &SourceName) {
        lock(&self.pins.pinned).remove(source);
        lock(&self.pins.unpublished).remove(source);
        if let Some(state) = &self.state {
            state.pin(source, None);
        }
    }

    /// Closes the state store after its pending writes, or after `timeout`.
    pub(crate) async fn close(&self, timeout: Duration) {
        let Some(state) = self.state.clone() else { return };
        if let Ok(Err(error)) = spawn_blocking(move || state.close(timeout)).await {
            warn!(%error, "state store closed with unwritten changes");
        }
    }
}

/// Records the published and rejected values of one source.
struct SourcePersistence {
    state: State,
    pins: Arc<Pins>,
    source: SourceName,
    secret: Arc<Mutex<BTreeSet<SourceName>>>,
}

impl fmt::Debug for SourcePersistence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourcePersistence").field("source", &self.source).finish_non_exhaustive()
    }
}

impl SourcePersistence {
    fn is_secret(&self) -> bool {
        lock(&self.secret).contains(&self.source)
    }
}

impl Persistence for SourcePersistence {
    fn keep(&self, publication: Publication, then: Box<dyn FnOnce() + Send>) {
        let Publication { revision, value, at } = publication;
        let rolled_back_to = {
            let mut unpublished = lock(&self.pins.unpublished);
            let is_rollback = unpublished
                .get(&self.source)
                .zip(value.as_ref())
                .is_some_and(|((_, content), value)| *content == value.content);
            if is_rollback { unpublished.remove(&self.source).map(|(to, _)| to) } else { None }
        };
        let secret = self.is_secret();
        let record = Record { revision, value, at, rolled_back_to, secret };
        self.state.record(&self.source, record, move |saved| match saved {
            Saved::Durable | Saved::NotDurable(_) => then(),
            Saved::Replaced => {}
        });
    }

    fn refused(&self, value: &Snapshot, reason: &str) {
        let rejection = RejectedValue {
            value: value.clone(),
            reason: reason.into(),
            at: Timestamp::now(),
            secret: self.is_secret(),
        };
        self.state.record_rejection(&self.source, rejection);
    }
}

/// Delivery record of one sink: the digest of its last delivery.
struct DeliveryRecord {
    state: State,
    owner: SourceName,
    sink: String,
}

#[async_trait]
impl DeliveryLog for DeliveryRecord {
    async fn last(&self) -> Option<Digest> {
        let (state, owner) = (self.state.clone(), self.owner.clone());
        let sink = self.sink.clone();
        let digest =
            spawn_blocking(move || state.last_delivery(&owner, &sink)).await.ok()?.ok()??;
        (digest != Digest::from(UNKNOWN_DIGEST)).then_some(digest)
    }

    async fn begin(&self) {
        let digest = Digest::from(UNKNOWN_DIGEST);
        self.state.record_delivery(&self.owner, &self.sink, Revision::default(), digest);
    }

    async fn record(&self, digest: Digest) {
        self.state.record_delivery(&self.owner, &self.sink, Revision::default(), digest);
    }
}
