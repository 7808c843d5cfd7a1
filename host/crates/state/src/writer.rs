//! Writer thread: writes queued changes with group commit, then calls the completions.

use crate::{
    batch::{Batch, RoundRobin},
    database::Database,
    error::{ReadError, StoreError},
    record::{Completion, Record, Saved},
    settings::Settings,
    state_dir::StateDir,
    tables::Tables,
    write_set::WriteSet,
};
use jiff::Timestamp;
use reloader_engine::types::SourceName;
use std::{
    collections::BTreeMap,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, RwLock},
    thread::{self, ThreadId},
    time::{Duration, Instant},
};

/// Size of all queued values above which each source may queue only one record, in bytes.
const MAX_QUEUED_BYTES: usize = 64 << 20;
/// Interval from the first failed write to its retry. It doubles with each further failure.
const MIN_RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// Upper bound of the retry interval.
const MAX_RETRY_INTERVAL: Duration = Duration::from_secs(30);

/// Health of the state store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Health {
    /// Failure of the last write. While it is set, published values are lost in a crash.
    pub failing: Option<WriteFailure>,
    /// Number of committed transactions.
    pub commits: u64,
    /// Number of failed transactions.
    pub failures: u64,
}

/// Ongoing failure to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteFailure {
    /// Reason of the last failed write, for the operator.
    pub reason: Arc<str>,
    /// Time of the first failed write.
    pub since: Timestamp,
}

/// Queue of writes, and the database. Shared by all handles and the writer thread.
#[derive(Default)]
pub(crate) struct WriteQueue {
    state: Mutex<QueueState>,
    /// Wakes the writer thread for new writes and for closing.
    wake: Condvar,
    /// Signals the end of the writer thread.
    ended: Condvar,
    writer: OnceLock<ThreadId>,
    /// Database; `None` while it is reopened after a failure, and after closing.
    database: RwLock<Option<Database>>,
}

#[derive(Default)]
struct QueueState {
    pending: Batch,
    /// Size of the pending values, in bytes.
    bytes: usize,
    health: Health,
    is_closing: bool,
    /// Result of the writer thread after its end: an error if some writes did not reach the disk.
    ended: Option<Result<(), Arc<str>>>,
}

impl WriteQueue {
    /// Starts the writer thread.
    pub(crate) fn start(
        directory: StateDir,
        database: Database,
        settings: Settings,
    ) -> io::Result<Arc<Self>> {
        let queue = Arc::new(Self { database: RwLock::new(Some(database)), ..Self::default() });
        let writer = Writer {
            queue: Arc::clone(&queue),
            directory,
            settings,
            position: RoundRobin::default(),
            unwritten: Batch::default(),
            retry: None,
        };
        thread::Builder::new().name("state".into()).spawn(move || writer.run())?;
        Ok(queue)
    }

    /// Changes the pending write set of a source.
    pub(crate) fn update(&self, name: &SourceName, change: impl FnOnce(&mut WriteSet)) {
        let mut state = self.lock();
        if state.is_closing {
            return;
        }
        change(state.pending.sources.entry(name.clone()).or_default());
        self.wake.notify_one();
    }

    pub(crate) fn record(&self, name: &SourceName, record: Record, completion: Completion) {
        let mut state = self.lock();
        if state.is_closing {
            drop(state);
            return completion(Saved::NotDurable(CLOSED.into()));
        }
        let is_full = state.bytes > MAX_QUEUED_BYTES;
        state.bytes += record.size();
        let write_set = state.pending.sources.entry(name.clone()).or_default();
        let replaced = write_set.push(record, completion, is_full);
        if let Some((record, _)) = &replaced {
            state.bytes = state.bytes.saturating_sub(record.size());
        }
        drop(state);
        self.wake.notify_one();
        if let Some((_, Some(completion))) = replaced {
            completion(Saved::Replaced);
        }
    }

    /// Queues the deletion of a source, and drops its pending writes.
    pub(crate) fn forget(&self, name: &SourceName, completion: Completion) {
        let mut state = self.lock();
        if state.is_closing {
            drop(state);
            return completion(Saved::NotDurable(CLOSED.into()));
        }
        let write_set = state.pending.sources.entry(name.clone()).or_default();
        let new = WriteSet { forget: Some(Some(completion)), ..WriteSet::default() };
        let WriteSet { forget, records, .. } = std::mem::replace(write_set, new);
        drop(state);
        self.wake.notify_one();
        let recorded = records.into_iter().filter_map(|(_, completion)| completion);
        for completion in forget.flatten().into_iter().chain(recorded) {
            completion(Saved::Replaced);
        }
    }

    pub(crate) fn set_configured(&self, configured: BTreeMap<SourceName, bool>) {
        self.lock().pending.configured = Some(configured);
        self.wake.notify_one();
    }

    pub(crate) fn health(&self) -> Health {
        self.lock().health.clone()
    }

    /// Runs `action` on a snapshot of the database.
    pub(crate) fn read<T>(
        &self,
        action: impl FnOnce(&redb::ReadTransaction) -> Result<T, StoreError>,
    ) -> Result<T, ReadError> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let Some(database) = &*database else {
            let failing = self.health().failing;
            let reason = failing.map_or_else(|| CLOSED.into(), |failing| failing.reason);
            return Err(ReadError::Unavailable(reason));
        };
        Ok(database.read(action)?)
    }

    /// Writes the queue and ends the writer thread. Returns a reason if some writes did not reach the disk
    /// within `timeout`.
    pub(crate) fn close(&self, timeout: Duration) -> Result<(), Arc<str>> {
        let mut state = self.lock();
        state.is_closing = true;
        self.wake.notify_one();
        if self.writer.get() == Some(&thread::current().id()) {
            // A completion held the last handle. The writer thread cannot wait for itself.
            return Ok(());
        }
        let (state, _) = self
            .ended
            .wait_timeout_while(state, timeout, |state| state.ended.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        let timed_out = || Err(format!("timed out after {timeout:?}").into());
        state.ended.clone().unwrap_or_else(timed_out)
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reason of an operation that comes after closing.
const CLOSED: &str = "store is closed";

/// State of the writer thread.
struct Writer {
    queue: Arc<WriteQueue>,
    directory: StateDir,
    settings: Settings,
    position: RoundRobin,
    /// Writes of failed transactions, merged.
    unwritten: Batch,
    /// Next retry, while writing fails.
    retry: Option<Retry>,
}

struct Retry {
    at: Instant,
    interval: Duration,
}

impl Writer {
    fn run(mut self) {
        let _ = self.queue.writer.set(thread::current().id());
        while let Some(mut batch) = self.next() {
            let completions = batch.take_completions();
            let saved = self.save(batch);
            for completion in completions {
                // A panic in one completion must not affect the others.
                let called = catch_unwind(AssertUnwindSafe(|| completion(saved.clone())));
                if called.is_err() {
                    tracing::error!("completion of a state write panicked");
                }
            }
        }
        *self.queue.database.write().unwrap_or_else(PoisonError::into_inner) = None;
        let Self { queue, directory, unwritten, .. } = self;
        // Unlock first: the caller of `close` may open the directory again.
        drop(directory);
        let mut state = queue.lock();
        let failing = state.health.failing.as_ref().map(|failing| Arc::clone(&failing.reason));
        state.ended = Some(match failing {
            Some(reason) if !unwritten.is_empty() => Err(reason),
            Some(_) | None => Ok(()),
        });
        queue.ended.notify_all();
    }

    /// Waits for the next batch. Returns an empty batch for a retry, and `None` at the end.
    fn next(&mut self) -> Option<Batch> {
        let mut state = self.queue.lock();
        loop {
            if !state.pending.is_empty() {
                let batch = state.pending.take_next(&mut self.position);
                state.bytes = state.pending.bytes();
                return Some(batch);
            }
            let now = Instant::now();
            if state.is_closing {
                // Last retry, in case the disk works again.
                return (self.retry.take().is_some() && !self.unwritten.is_empty())
                    .then(Batch::default);
            }
            let wake = &self.queue.wake;
            state = match &self.retry {
                Some(retry) if retry.at <= now => return Some(Batch::default()),
                Some(retry) => {
                    let waited = wake.wait_timeout(state, retry.at - now);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => wake.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Writes a batch together with earlier failed writes. Before the next retry is due, only adds it to
    /// the failed writes.
    fn save(&mut self, batch: Batch) -> Saved {
        if let Some(retry) = &self.retry
            && Instant::now() < retry.at
        {
            self.unwritten.merge(batch);
            return self.not_durable();
        }
        let written = self.reopen().and_then(|()| self.write(&batch));
        match written {
            Ok(()) => {
                self.unwritten = Batch::default();
                self.retry = None;
                self.recovered();
                Saved::Durable
            }
            Err(reason) => {
                self.unwritten.merge(batch);
                self.failed(&reason);
                self.not_durable()
            }
        }
    }

    /// Reopens the database after a failed write: redb requires it.
    fn reopen(&self) -> Result<(), String> {
        if self.queue.lock().health.failing.is_none() {
            return Ok(());
        }
        let mut database = self.queue.database.write().unwrap_or_else(PoisonError::into_inner);
        // The old database must be closed before the file is opened again.
        *database = None;
        let (opened, _) = Database::open(&self.directory).map_err(|error| error.to_string())?;
        *database = Some(opened);
        Ok(())
    }

    fn write(&self, batch: &Batch) -> Result<(), String> {
        let database = self.queue.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_ref().ok_or(CLOSED)?;
        let now = Timestamp::now();
        let written = database.write(|transaction| {
            let mut tables = Tables::open(transaction)?;
            for batch in [&self.unwritten, batch] {
                for (name, write_set) in &batch.sources {
                    tables.write(name, write_set, &self.settings, now)?;
                }
            }
            if let Some(configured) =
                batch.configured.as_ref().or(self.unwritten.configured.as_ref())
            {
                tables.set_configured(configured, &self.settings, now)?;
            }
            Ok(())
        });
        written.map_err(|error| error.to_string())
    }

    fn recovered(&self) {
        let mut state = self.queue.lock();
        state.health.commits += 1;
        if let Some(failing) = state.health.failing.take() {
            drop(state);
            let outage_seconds = Timestamp::now().duration_since(failing.since).as_secs();
            tracing::info!(outage_seconds, "state store writable again");
        }
    }

    fn failed(&mut self, reason: &str) {
        let interval = match &self.retry {
            Some(retry) => (retry.interval * 2).min(MAX_RETRY_INTERVAL),
            None => MIN_RETRY_INTERVAL,
        };
        self.retry = Some(Retry { at: Instant::now() + interval, interval });
        let mut state = self.queue.lock();
        state.health.failures += 1;
        let since = state.health.failing.take().map(|failing| failing.since);
        let reason: Arc<str> = reloader_util::sanitize::sanitize(reason).into();
        state.health.failing = Some(WriteFailure {
            reason: Arc::clone(&reason),
            since: since.unwrap_or_else(Timestamp::now),
        });
        drop(state);
        if since.is_none() {
            let path = self.directory.database();
            tracing::warn!(
                path = %path.display(),
                error = %reason,
                retry_in = ?interval,
                "state write failed, publishing values that a crash would lose"
            );
        } else {
            tracing::debug!(error = %reason, retry_in = ?interval, "state write retry failed");
        }
    }

    fn not_durable(&self) -> Saved {
        let failing = self.queue.health().failing;
        Saved::NotDurable(
            failing.map_or_else(|| "state write failed".into(), |failing| failing.reason),
        )
    }
}
