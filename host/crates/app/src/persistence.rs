//! What of the sources survives a restart, if the configuration says so.

use crate::config::StateTable;
use crate::{change_histogram::Activity, commands::AnswerError};
use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use jiff::Timestamp;
use reloader_api_types::{HistoryEntry, RefusedValue};
use reloader_delivery::{self, Ledger};
use reloader_engine::types::{Revision, Snapshot, SourceName};
use reloader_source::{
    handle::RestoredState,
    persistence::{Persistence, Publication, Resumed},
};
use reloader_state::{Digest, Entry, Opened, ReadError, Record, Rejection, Saved, Settings, State};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::task::spawn_blocking;
use tracing::{error, warn};

/// What survives, or nothing. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Memory {
    state: Option<State>,
    pins: Arc<Pins>,
    /// The sources whose values are not stored.
    secret: Arc<Mutex<BTreeSet<SourceName>>>,
}

/// What people have gone back to.
#[derive(Debug, Default)]
struct Pins {
    /// The revision that each source was rolled back to.
    pinned: Mutex<BTreeMap<SourceName, Revision>>,
    /// That, and the value that is to be published next because of it.
    next: Mutex<BTreeMap<SourceName, (Revision, Bytes)>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Memory {
    /// Nothing survives.
    pub(crate) fn none() -> Self {
        Self { state: None, pins: Arc::default(), secret: Arc::default() }
    }

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

    /// Which sources and groups there are now, and whether their values are stored.
    pub(crate) fn configured(&self, names: impl IntoIterator<Item = (SourceName, bool)>) {
        let all: Vec<_> = names.into_iter().map(|(name, store)| (name, !store)).collect();
        let secret = all.iter().filter(|(_, secret)| *secret).map(|(name, _)| name.clone());
        *lock(&self.secret) = secret.collect();
        if let Some(state) = &self.state {
            state.configured(all);
        }
    }

    /// What a source goes on from, and what remembers it.
    pub(crate) fn past(&self, source: &SourceName) -> RestoredState {
        let Some(state) = &self.state else { return RestoredState::default() };
        let resumed = state.resume(source).unwrap_or_else(|error| {
            error!(%source, "what was remembered of it cannot be used, its revisions begin anew: {error}");
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
        let keep = Keeper {
            state: state.clone(),
            pins: Arc::clone(&self.pins),
            source: source.clone(),
            secret: Arc::clone(&self.secret),
        };
        RestoredState { resumed, keep: Some(Arc::new(keep)) }
    }

    /// What a sink has got.
    pub(crate) fn sink(&self, of: &str, name: &str) -> Box<dyn Ledger> {
        match &self.state {
            None => Box::new(reloader_delivery::Forgetful),
            Some(state) => Box::new(Remembered {
                state: state.clone(),
                of: SourceName::new(of),
                sink: name.into(),
            }),
        }
    }

    /// The revision that a source is held at, if it is.
    pub(crate) fn pinned(&self, source: &SourceName) -> Option<Revision> {
        lock(&self.pins.pinned).get(source).copied()
    }

    /// The values that a source had, the newest first.
    pub(crate) async fn history(
        &self,
        source: &SourceName,
    ) -> Result<Vec<HistoryEntry>, AnswerError> {
        let entries = self.entries(source).await?;
        let pinned = self.pinned(source);
        Ok(entries
            .into_iter()
            .map(|entry| HistoryEntry {
                revision: entry.revision.get(),
                at: entry.at,
                event: entry.what.to_string(),
                pinned: pinned == Some(entry.revision),
                sha256: entry.digest.map(|digest| digest.to_string()),
                size: Some(entry.size),
                media_type: entry.media_type.map(|media_type| media_type.to_string()),
                stored: entry.is_stored,
            })
            .collect())
    }

    /// Counts what has changed in the hour before the start, as far as it is remembered. Nobody waits.
    pub(crate) fn changes_before(&self, source: &SourceName, activity: Arc<Activity>) {
        let Some(state) = self.state.clone() else { return };
        let (source, start) = (source.clone(), Timestamp::now());
        spawn_blocking(move || {
            for entry in state.history(&source).unwrap_or_default() {
                let ago = start.duration_since(entry.at);
                if let Ok(ago) = Duration::try_from(ago) {
                    activity.add_past(ago, Instant::now());
                }
            }
        });
    }

    /// What was not let through last of a source.
    pub(crate) async fn refused(
        &self,
        source: &SourceName,
    ) -> Result<Option<RefusedValue>, AnswerError> {
        let source = source.clone();
        let refused = self.look_up(move |state| state.last_refused(&source)).await?;
        Ok(refused.map(|refused| RefusedValue {
            at: refused.at,
            reason: refused.reason,
            sha256: Some(refused.digest.to_string()),
            size: Some(refused.size),
            media_type: refused.media_type.map(|media_type| media_type.to_string()),
            content: refused.content.map(|content| STANDARD.encode(content)),
        }))
    }

    async fn entries(&self, source: &SourceName) -> Result<Vec<Entry>, AnswerError> {
        let source = source.clone();
        self.look_up(move |state| state.history(&source)).await
    }

    /// The last revision before this one that had another value, which can be gone back to. Of a source
    /// that is held at an earlier one: before that, so that whoever goes back again goes further back.
    pub(crate) async fn before(
        &self,
        source: &SourceName,
        present: Revision,
    ) -> Result<Revision, AnswerError> {
        let present = self.pinned(source).unwrap_or(present);
        let entries = self.entries(source).await?;
        let now = entries.iter().find(|entry| entry.revision == present);
        let now = now.and_then(|entry| entry.digest);
        let older = entries.iter().filter(|entry| entry.revision < present && entry.is_stored);
        let mut other = older.filter(|entry| entry.digest.is_some() && entry.digest != now);
        other.next().map(|entry| entry.revision).ok_or_else(|| {
            let why = match self.is_secret(source) {
                true => "keeps no values (`store = false`)".into(),
                false => format!("has no earlier value; `host history {source}` lists them"),
            };
            AnswerError::Conflict(format!("source `{source}` {why}"))
        })
    }

    /// The value of a revision.
    pub(crate) async fn value(
        &self,
        source: &SourceName,
        revision: Revision,
    ) -> Result<Snapshot, AnswerError> {
        let name = source.clone();
        let value = self.look_up(move |state| state.value(&name, revision)).await?;
        value.ok_or_else(|| {
            AnswerError::Unknown(match self.is_secret(source) {
                true => format!("the values of source `{source}` are not kept (`store = false`)"),
                false => format!(
                    "source `{source}` has no stored value of revision {revision}; `host history {source}` \
                     lists them"
                ),
            })
        })
    }

    /// Whether the values of a source are not stored.
    fn is_secret(&self, source: &SourceName) -> bool {
        lock(&self.secret).contains(source)
    }

    async fn look_up<T: Send + 'static>(
        &self,
        look: impl FnOnce(&State) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, AnswerError> {
        let state = self.state.clone();
        let nothing = "nothing is remembered: `[state]` has `enabled = false`";
        let state = state.ok_or_else(|| AnswerError::Conflict(nothing.into()))?;
        let looked = spawn_blocking(move || look(&state)).await;
        let looked = looked.map_err(|error| AnswerError::Failed(error.to_string()))?;
        looked.map_err(|error| AnswerError::Failed(error.to_string()))
    }

    /// From now on a source has this value of an earlier revision; `published`: and has it already.
    pub(crate) fn pin(&self, source: &SourceName, to: Revision, value: &Snapshot, published: bool) {
        lock(&self.pins.pinned).insert(source.clone(), to);
        if !published {
            // It is remembered together with what is published.
            lock(&self.pins.next).insert(source.clone(), (to, value.content.clone()));
        } else if let Some(state) = &self.state {
            state.pin(source, Some(to));
        }
    }

    pub(crate) fn unpin(&self, source: &SourceName) {
        lock(&self.pins.pinned).remove(source);
        lock(&self.pins.next).remove(source);
        if let Some(state) = &self.state {
            state.pin(source, None);
        }
    }

    /// Writes what is still to be written.
    pub(crate) async fn close(&self, within: Duration) {
        let Some(state) = self.state.clone() else { return };
        if let Ok(Err(error)) = spawn_blocking(move || state.close(within)).await {
            warn!("{error}");
        }
    }
}

/// Remembers one source.
struct Keeper {
    state: State,
    pins: Arc<Pins>,
    source: SourceName,
    secret: Arc<Mutex<BTreeSet<SourceName>>>,
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").field("source", &self.source).finish_non_exhaustive()
    }
}

impl Keeper {
    fn is_secret(&self) -> bool {
        lock(&self.secret).contains(&self.source)
    }
}

impl Persistence for Keeper {
    fn keep(&self, publication: Publication, then: Box<dyn FnOnce() + Send>) {
        let Publication { revision, value, at } = publication;
        let rolled_back_to = {
            let mut next = lock(&self.pins.next);
            let is_it = next
                .get(&self.source)
                .zip(value.as_ref())
                .is_some_and(|((_, content), value)| *content == value.content);
            if is_it { next.remove(&self.source).map(|(to, _)| to) } else { None }
        };
        let secret = self.is_secret();
        let record = Record { revision, value, at, rolled_back_to, secret };
        self.state.record(&self.source, record, move |saved| match saved {
            Saved::Durable | Saved::NotDurable(_) => then(),
            Saved::Replaced => {}
        });
    }

    fn refused(&self, value: &Snapshot, reason: &str) {
        let refusal = Rejection {
            value: value.clone(),
            reason: reason.into(),
            at: Timestamp::now(),
            secret: self.is_secret(),
        };
        self.state.refused(&self.source, refusal);
    }
}

/// Remembers what a sink has got.
struct Remembered {
    state: State,
    of: SourceName,
    sink: String,
}

/// What stands for "nobody knows".
const UNKNOWN: [u8; 32] = [0; 32];

#[async_trait]
impl Ledger for Remembered {
    async fn last(&self) -> Option<Digest> {
        let (state, of) = (self.state.clone(), self.of.clone());
        let sink = self.sink.clone();
        let digest = spawn_blocking(move || state.delivered_to(&of, &sink)).await.ok()?.ok()??;
        (digest != Digest::from(UNKNOWN)).then_some(digest)
    }

    async fn begin(&self) {
        self.state.delivered(&self.of, &self.sink, Revision::default(), Digest::from(UNKNOWN));
    }

    async fn record(&self, digest: Digest) {
        self.state.delivered(&self.of, &self.sink, Revision::default(), digest);
    }
}
