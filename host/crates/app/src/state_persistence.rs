//! Access to the state store: restores sources and sinks after a restart, and records published and rejected
//! values, pins and deliveries.

use crate::{
    changes_per_minute::ChangesPerMinute, config::StateTable, config_read_pool::FILE_ACCESS_TIMEOUT,
};
use anyhow::anyhow;
use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use reloader_delivery::{DeliveryRecordStore, NoDeliveryRecords};
use reloader_engine::types::{Revision, Snapshot, SourceName};
use reloader_fs_watch::{FileAccessError, access_within};
use reloader_source::{
    persistence::{Persistence, Publication, Resumed},
    running_source::RestoredState,
};
use reloader_state::{
    Digest, LockedDirectory, ReadError, Record, RejectedValue, Retention, Saved, State,
};
use reloader_util::{blocking_pool::BlockingPool, sync::Mutex};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::time::timeout;
use tracing::{error, warn};

/// Threads that open and close the state store.
static POOL: BlockingPool = BlockingPool::new("reloader-store", 2).with_stack_bytes(2 << 20);

/// Time limit for the check of the database at the start, in addition to [`FILE_ACCESS_TIMEOUT`]. The check of a large
/// database takes long.
const DATABASE_CHECK_TIMEOUT: Duration = Duration::from_secs(600);

/// Digest that is recorded when a delivery begins. It marks the content of the sink as unknown, in case
/// the host crashes during the delivery.
const UNKNOWN_DIGEST: [u8; 32] = [0; 32];

/// Reason why the state store cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateReadError {
    /// The file system of the state directory does not answer.
    #[error("state directory {}: {error}", directory.display())]
    Access {
        /// Directory of the state store.
        directory: Arc<Path>,
        /// Error of the file access.
        error: FileAccessError,
    },
    /// The store cannot be read, or a record is damaged.
    #[error(transparent)]
    Store(#[from] ReadError),
}

/// Access to the state store. Stores nothing if the state is disabled. Cheap to clone.
#[derive(Clone)]
pub(crate) struct StatePersistence {
    pub(crate) state: Option<State>,
    /// Directory of the state store.
    directory: Arc<Path>,
    pins: Arc<Pins>,
    /// Sources whose values are not stored (`store = false`).
    secret: Arc<Mutex<BTreeSet<SourceName>>>,
}

/// Sources that are pinned to an earlier revision by a rollback.
#[derive(Debug, Default)]
struct Pins {
    /// Pinned sources, each with the revision that it is pinned to.
    pinned: Mutex<BTreeMap<SourceName, Revision>>,
    /// Rollbacks whose value is not published yet: the revision and the content.
    unpublished: Mutex<BTreeMap<SourceName, (Revision, Bytes)>>,
}

impl StatePersistence {
    /// Creates an access without a state store: stores nothing.
    pub(crate) fn disabled() -> Self {
        let directory = Path::new("").into();
        Self { state: None, directory, pins: Arc::default(), secret: Arc::default() }
    }

    /// Opens or creates the state store in `directory`.
    pub(crate) async fn open(directory: &Path, table: &StateTable) -> anyhow::Result<Self> {
        let retention = Retention {
            max_revisions: table.history,
            max_history_bytes: table.history_size.0,
            ..Retention::default()
        };
        let directory: Arc<Path> = directory.into();
        let locking = Arc::clone(&directory);
        let locked = POOL.spawn(move || LockedDirectory::lock(&locking));
        let locked = timeout(FILE_ACCESS_TIMEOUT, locked).await;
        let locked = locked.map_err(|_| no_answer(&directory, FILE_ACCESS_TIMEOUT))???;
        let mut opening = POOL.spawn(move || locked.open(retention));
        let opened = match timeout(FILE_ACCESS_TIMEOUT, &mut opening).await {
            Ok(opened) => opened,
            Err(_) => {
                warn!(directory = %directory.display(), "state database not open yet, waiting");
                let opened = timeout(DATABASE_CHECK_TIMEOUT, opening).await;
                opened.map_err(|_| no_answer(&directory, DATABASE_CHECK_TIMEOUT))?
            }
        };
        let state = Some(opened??.state);
        Ok(Self { state, directory, pins: Arc::default(), secret: Arc::default() })
    }

    /// Runs a read of the state store on another thread, within [`FILE_ACCESS_TIMEOUT`].
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        state: &State,
        read: impl FnOnce(&State) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, StateReadError> {
        let state = state.clone();
        let result =
            access_within(&self.directory, FILE_ACCESS_TIMEOUT, move || read(&state)).await;
        let directory = Arc::clone(&self.directory);
        Ok(result.map_err(|error| StateReadError::Access { directory, error })??)
    }

    /// Sets the sources and groups of the configuration, each with `true` if its values are stored.
    pub(crate) fn configured(&self, names: impl IntoIterator<Item = (SourceName, bool)>) {
        let all: Vec<_> = names.into_iter().map(|(name, store)| (name, !store)).collect();
        let secret = all.iter().filter(|(_, secret)| *secret).map(|(name, _)| name.clone());
        *self.secret.lock() = secret.collect();
        if let Some(state) = &self.state {
            state.set_configured(all);
        }
    }

    /// Returns the restored state of a source, together with the persistence that records its values. The source starts
    /// without its state if its record is damaged.
    ///
    /// # Errors
    ///
    /// The store cannot be read now. The source must not start without its last revision: it would assign the same
    /// revision numbers again, to other values.
    pub(crate) async fn restore_source(
        &self,
        source: &SourceName,
    ) -> Result<RestoredState, StateReadError> {
        let Some(state) = &self.state else { return Ok(RestoredState::default()) };
        let name = source.clone();
        let resumed = match self.read(state, move |state| state.restore(&name)).await {
            Ok(resumed) => resumed,
            Err(StateReadError::Store(error @ ReadError::Damaged(_))) => {
                error!(%source, %error, "state restore failed, revisions restart at 1");
                None
            }
            Err(error) => return Err(error),
        };
        if let Some(to) = resumed.as_ref().and_then(|resumed| resumed.pinned) {
            self.pins.pinned.lock().insert(source.clone(), to);
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
        Ok(RestoredState { resumed, persistence: Some(Arc::new(keep)) })
    }

    /// Returns the delivery record of the sink `key` of the source or group `owner`.
    pub(crate) fn delivery_record(&self, owner: &str, key: &str) -> Box<dyn DeliveryRecordStore> {
        match &self.state {
            None => Box::new(NoDeliveryRecords),
            Some(state) => Box::new(DeliveryRecord {
                persistence: self.clone(),
                state: state.clone(),
                owner: SourceName::new(owner),
                sink: key.into(),
            }),
        }
    }

    /// Returns the revision that a source is pinned to.
    pub(crate) fn pinned(&self, source: &SourceName) -> Option<Revision> {
        self.pins.pinned.lock().get(source).copied()
    }

    /// Adds the stored changes of the hour before the start to `changes`, in the background.
    pub(crate) fn load_changes(&self, source: &SourceName, changes: Arc<ChangesPerMinute>) {
        let Some(state) = self.state.clone() else { return };
        let (this, source, start) = (self.clone(), source.clone(), Timestamp::now());
        tokio::spawn(async move {
            let history = this.read(&state, move |state| state.history(&source)).await;
            for entry in history.unwrap_or_default() {
                let age = start.duration_since(entry.at);
                if let Ok(age) = Duration::try_from(age) {
                    changes.add_past(age, Instant::now());
                }
            }
        });
    }

    /// Returns why the last write failed, if it did.
    pub(crate) fn write_error(&self) -> Option<String> {
        let failing = self.state.as_ref()?.health().failing?;
        Some(failing.reason.to_string())
    }

    /// Returns whether the values of a source are not stored.
    pub(crate) fn is_secret(&self, source: &SourceName) -> bool {
        self.secret.lock().contains(source)
    }

    /// Pins a source to the value of an earlier revision. `is_published` states whether this value is
    /// already the current value of the source.
    pub(crate) fn pin(
        &self,
        source: &SourceName,
        to: Revision,
        value: &Snapshot,
        is_published: bool,
    ) {
        self.pins.pinned.lock().insert(source.clone(), to);
        if !is_published {
            // Defers the write of the pin: `store` writes it together with the value, when the source publishes the
            // value.
            self.pins.unpublished.lock().insert(source.clone(), (to, value.content.clone()));
        } else if let Some(state) = &self.state {
            state.pin(source, Some(to));
        }
    }

    /// Removes the pin of a source, also in the state store.
    pub(crate) fn unpin(&self, source: &SourceName) {
        self.pins.pinned.lock().remove(source);
        self.pins.unpublished.lock().remove(source);
        if let Some(state) = &self.state {
            state.pin(source, None);
        }
    }

    /// Closes the state store after its pending writes, or after `timeout`.
    pub(crate) async fn close(&self, timeout: Duration) {
        let Some(state) = self.state.clone() else { return };
        match POOL.spawn(move || state.close(timeout)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(%error, "state store closed with unwritten changes"),
            Err(error) => warn!(%error, "state store not closed"),
        }
    }
}

/// Returns the error that ends the start of the host if the file system of the state directory does not answer.
fn no_answer(directory: &Path, limit: Duration) -> anyhow::Error {
    anyhow!(
        "state directory {}: {}; hint: check its file system, or set a different `path` in `[state]`",
        directory.display(),
        FileAccessError::NoAnswer(limit)
    )
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
        self.secret.lock().contains(&self.source)
    }
}

impl Persistence for SourcePersistence {
    fn store(&self, publication: Publication, then: Box<dyn FnOnce() + Send>) {
        let Publication { revision, value, at } = publication;
        let rolled_back_to = {
            let mut unpublished = self.pins.unpublished.lock();
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

    fn rejected(&self, value: &Snapshot, reason: &str) {
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
    persistence: StatePersistence,
    state: State,
    owner: SourceName,
    sink: String,
}

#[async_trait]
impl DeliveryRecordStore for DeliveryRecord {
    async fn last(&self) -> Option<Digest> {
        let (owner, sink) = (self.owner.clone(), self.sink.clone());
        let read = move |state: &State| state.last_delivery(&owner, &sink);
        let digest = self.persistence.read(&self.state, read).await.ok()??;
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    async fn open(directory: &Path) -> StatePersistence {
        let opened = StatePersistence::open(directory, &StateTable::default()).await;
        opened.expect("the state store is opened")
    }

    /// Without its stored revision, the source would assign the same revision numbers again, to other values.
    #[tokio::test]
    async fn source_is_not_restored_while_reads_hang() {
        let directory = tempfile::tempdir().unwrap();
        let persistence = open(directory.path()).await;
        let state = persistence.state.clone().unwrap();
        let source = SourceName::new("a");
        let (sender, stored) = mpsc::channel();
        let record = Record::new(7.into(), Some(Snapshot::new("value")));
        state.record(&source, record, move |saved| sender.send(saved).unwrap());
        assert_eq!(stored.recv(), Ok(Saved::Durable));

        let (has_started, started) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let hung = persistence.read(&state, move |_| {
            has_started.send(()).unwrap();
            let _ = released.recv();
            Ok(())
        });
        let mut hung = std::pin::pin!(hung);
        tokio::select! {
            biased;
            _ = &mut hung => unreachable!("the read hangs"),
            () = std::future::ready(()) => {}
        }
        started.recv().unwrap();
        // The paused clock of tokio skips to the next deadline, so that the timeouts of the reads expire at once.
        tokio::time::pause();
        let expected = format!(
            "state directory {}: the file system has not answered",
            directory.path().display()
        );
        let error = hung.await.unwrap_err();
        assert!(error.to_string().starts_with(&expected), "{error}");
        let error = persistence.restore_source(&source).await.expect_err("reads hang");
        assert!(error.to_string().starts_with(&expected), "{error}");
        tokio::time::resume();
        drop(release);
        let restored = timeout(Duration::from_secs(20), async {
            loop {
                if let Ok(restored) = persistence.restore_source(&source).await {
                    break restored;
                }
                tokio::task::yield_now().await;
            }
        });
        let restored = restored.await.expect("the read has returned");
        assert_eq!(restored.resumed.unwrap().revision.get(), 7);
        persistence.close(Duration::from_secs(20)).await;
    }
}
