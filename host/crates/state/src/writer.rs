//! Writer thread: writes queued changes with group commit, then calls the completions.
//!
//! While writes fail, the newest writes of each source are kept for the next retry. Readers use a view meanwhile: the
//! last stored state with the unwritten changes, which the view keeps in memory.

use crate::{
    apply_writes::{RecordSelection, Tables},
    database::{Compaction, Database, SharedDatabase},
    error::{OpenError, StoreError},
    group_commit::{RoundRobin, WriteBatch},
    health::WriteFailure,
    queued_source_writes::SourceWrites,
    restore,
    retention_settings::Retention,
    state_dir::{MovedAside, StateDir},
    unstored_revisions::UnstoredRevisions,
    write_queue::{Next, WriteQueue},
    write_request::Saved,
};
use jiff::Timestamp;
use reloader_engine::types::{Revision, SourceName};
use reloader_util::{backoff, sanitize::sanitize, sync::RwLock};
use std::{
    fs::File,
    io, mem,
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

/// Interval from the first failed write to its retry. It doubles with each further failure.
const MIN_RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// Upper bound of the retry interval.
const MAX_RETRY_INTERVAL: Duration = Duration::from_secs(30);
/// Time without writes after which the writer checks that its files are still in place.
const FILE_CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// Maximum size of the unwritten changes in the view of the readers, in bytes. A batch that exceeds it makes the writer
/// open the view again. The new view has all unwritten changes if they take at most half of this, or else none.
const MAX_VIEW_BYTES: u64 = 64 << 20;
/// Stack size of the watchdog thread, which only calls completions.
const WATCHDOG_STACK_BYTES: usize = 512 << 10;
/// Reason for the failure of a write to files that were removed.
const REMOVED: &str = "state directory, lock file or database removed while the host was running";

/// Writer thread, before it is started.
pub(crate) struct Writer {
    queue: Arc<WriteQueue>,
    database: SharedDatabase,
    /// Database file that was opened last. It stays readable after its removal from the directory.
    file: Option<File>,
    directory: StateDir,
    retention: Retention,
    /// Writes of failed transactions, merged, which are retried.
    unwritten: WriteBatch,
    unstored_revisions: UnstoredRevisions,
    /// Failure of the last transaction; `None` if the transaction succeeded.
    failure: Option<Failure>,
    /// Set if no attempt to record unstored revisions has failed since the last successful write.
    records_revisions: bool,
}

struct Failure {
    reason: Arc<str>,
    /// Number of consecutive failed transactions.
    count: u32,
    retry_at: Instant,
}

impl Writer {
    /// Opens the database. If the disk is full, opens a view of the database; the writer thread then retries the writes
    /// until there is space.
    pub(crate) fn open(
        queue: Arc<WriteQueue>,
        directory: StateDir,
        retention: Retention,
    ) -> Result<(Self, Option<MovedAside>), OpenError> {
        let unstored_revisions = UnstoredRevisions::open(&directory)?;
        let (database, moved_aside, failure) =
            match Database::open(&directory, Compaction::IfUseful) {
                Ok((database, moved_aside)) => (database, moved_aside, None),
                Err(error) if error.is_disk_full() => {
                    let Ok(view) = Database::open_view(directory.open_database()?.as_ref()) else {
                        return Err(error);
                    };
                    (view, None, Some(error))
                }
                Err(error) => return Err(error),
            };
        let file = database.file().map(File::try_clone).transpose();
        let file = file.map_err(|error| OpenError::Io {
            path: directory.database(),
            operation: "open",
            error,
        })?;
        let database = Arc::new(RwLock::new(Some(database)));
        let mut writer = Self {
            queue,
            database,
            file,
            directory,
            retention,
            unwritten: WriteBatch::default(),
            unstored_revisions,
            failure: None,
            records_revisions: true,
        };
        if let Some(error) = failure {
            writer.report_failure(sanitize(&error.to_string()).into());
        }
        writer.continue_after_lost_revisions();
        Ok((writer, moved_aside))
    }

    /// Returns the database that the writer shares with the readers.
    pub(crate) fn database(&self) -> SharedDatabase {
        Arc::clone(&self.database)
    }

    /// Starts the writer thread and its watchdog.
    pub(crate) fn start(self) -> io::Result<()> {
        let (queue, path) = (Arc::clone(&self.queue), self.directory.database());
        let watch = move || {
            queue.watch(|reason| {
                log_failure(&path, reason, None);
                tracing::error!(
                    error = reason,
                    "unstored revision numbers not recorded, a crash would reuse them"
                );
            });
        };
        let watchdog = thread::Builder::new().name("reloader-hang".into());
        watchdog.stack_size(WATCHDOG_STACK_BYTES).spawn(watch)?;
        let queue = Arc::clone(&self.queue);
        let writer = thread::Builder::new().name("reloader-state".into());
        let started = writer.spawn(move || self.run());
        // Without a writer thread, the watchdog ends.
        started.map(drop).inspect_err(|_| queue.report_end(Ok(())))
    }

    fn run(mut self) {
        self.queue.attach_writer();
        let mut position = RoundRobin::default();
        loop {
            let retry_at = self.failure.as_ref().map(|failure| failure.retry_at);
            let wake_at = retry_at.unwrap_or_else(|| Instant::now() + FILE_CHECK_INTERVAL);
            match self.queue.next(&mut position, wake_at) {
                Next::Write(batch) => {
                    let saved = self.save(batch);
                    self.queue.complete_batch(&saved);
                }
                Next::Wake if retry_at.is_some() => {
                    self.attempt(WriteBatch::default());
                }
                Next::Wake => {
                    if !self.are_files_in_place() {
                        self.restore_removed_files();
                    }
                }
                Next::End => break,
            }
            if let Some(ended) = self.queue.finish_task(self.failure.is_some()) {
                log_recovery(&ended);
            }
        }
        let result = self.last_retry();
        self.replace_database(None);
        // Unlock first: the caller of `close` may open the directory again.
        drop(self.directory);
        self.queue.report_end(result);
    }

    /// Writes a batch together with earlier failed writes. Before the next retry is due, only adds the batch to
    /// the failed writes.
    fn save(&mut self, batch: WriteBatch) -> Saved {
        match &self.failure {
            Some(failure) if Instant::now() < failure.retry_at => {
                let reason = Arc::clone(&failure.reason);
                self.keep_unwritten(batch);
                Saved::NotDurable(reason)
            }
            Some(_) | None => self.attempt(batch),
        }
    }

    /// Retries failed writes before the writer thread ends, in case the disk works again. Returns the reason if the
    /// writes are lost.
    fn last_retry(&mut self) -> Result<(), Arc<str>> {
        if self.unwritten.is_empty() {
            return Ok(());
        }
        match self.write() {
            Ok(()) => {
                self.complete_write();
                Ok(())
            }
            Err(reason) => {
                Err(format!("{reason}; not stored: {}", self.unwritten.describe()).into())
            }
        }
    }

    /// Writes a batch together with earlier failed writes, in one transaction.
    fn attempt(&mut self, batch: WriteBatch) -> Saved {
        self.unwritten.merge(batch);
        match self.write() {
            Ok(()) if self.are_files_in_place() => self.complete_write(),
            Ok(()) => self.restore_removed_files(),
            Err(reason) => self.enter_failure(reason),
        }
    }

    fn complete_write(&mut self) -> Saved {
        self.report_success();
        self.prepare_for_failure();
        self.unwritten = WriteBatch::default();
        Saved::Durable
    }

    /// Writes all unwritten changes to the database. After a failed write, opens the database again, since redb
    /// rejects further writes to an open database after an I/O error.
    fn write(&mut self) -> Result<(), String> {
        if self.failure.is_none() {
            let database = self.database.read();
            let database = database.as_ref().ok_or("database not open")?;
            return self.apply(database, &self.unwritten, RecordSelection::All);
        }
        self.restore_files()?;
        let written = self.write_to_file(RecordSelection::All);
        if written.is_ok() || !self.unwritten.has_history() {
            return written;
        }
        // There may be enough space for the newest record of each source. The view is opened again, since the failed
        // transaction may have changed the file, and a second one could overwrite pages that the old view reads.
        self.open_view();
        self.write_to_file(RecordSelection::Newest)
    }

    /// Opens the database while readers use the view, writes all unwritten changes, and then replaces the view by the
    /// database.
    fn write_to_file(&mut self, selection: RecordSelection) -> Result<(), String> {
        let (database, _) = Database::open(&self.directory, Compaction::Never)
            .map_err(|error| sanitize(&error.to_string()))?;
        self.file = database.file().and_then(|file| file.try_clone().ok());
        self.apply(&database, &self.unwritten, selection)?;
        self.replace_database(Some(database));
        Ok(())
    }

    /// Creates removed files of the state directory again.
    fn restore_files(&mut self) -> Result<(), String> {
        if self.are_files_in_place() {
            return Ok(());
        }
        let restored = self.directory.restore(self.file.as_ref()).and_then(|()| {
            let revisions = mem::take(&mut self.unstored_revisions);
            self.unstored_revisions = UnstoredRevisions::open(&self.directory)?;
            self.unstored_revisions.keep(revisions);
            Ok(())
        });
        restored.map_err(|error| sanitize(&error.to_string()))
    }

    fn apply(
        &self,
        database: &Database,
        batch: &WriteBatch,
        selection: RecordSelection,
    ) -> Result<(), String> {
        let now = Timestamp::now();
        let written = database.write(|transaction| {
            let mut tables = Tables::open(transaction)?;
            for (name, writes) in &batch.sources {
                tables.apply(name, writes, selection, &self.retention, now)?;
            }
            if let Some(configured) = &batch.configured {
                tables.set_configured(configured, &self.retention, now)?;
            }
            Ok(())
        });
        written.map_err(|error: StoreError| sanitize(&error.to_string()))
    }

    /// Returns whether the files of the store are in the directory.
    fn are_files_in_place(&self) -> bool {
        self.directory.is_in_place(self.file.as_ref())
    }

    /// Writes the state to new files after files were removed from the state directory. Later writes would otherwise go
    /// to a removed file and be lost.
    fn restore_removed_files(&mut self) -> Saved {
        self.enter_failure(REMOVED.into());
        self.attempt_after_removal()
    }

    /// Retries the write once, immediately. If files are removed again meanwhile, the next retry restores them.
    fn attempt_after_removal(&mut self) -> Saved {
        match self.write() {
            Ok(()) if self.are_files_in_place() => self.complete_write(),
            Ok(()) => self.enter_failure(REMOVED.into()),
            Err(reason) => self.enter_failure(reason),
        }
    }

    /// Reports a failed write, and serves readers from a view until a retry succeeds.
    fn enter_failure(&mut self, reason: String) -> Saved {
        let reason: Arc<str> = reason.into();
        self.report_failure(Arc::clone(&reason));
        self.unwritten.limit_history();
        self.queue.report_unwritten(self.unwritten.describe());
        self.record_unstored_revisions();
        self.open_view();
        Saved::NotDurable(reason)
    }

    /// Adds a batch to the failed writes, and applies it to the view of the readers.
    fn keep_unwritten(&mut self, batch: WriteBatch) {
        let is_shown = self.database.read().as_ref().is_some_and(|view| {
            view.view_bytes() + batch.bytes() as u64 <= MAX_VIEW_BYTES
                && self.apply(view, &batch, RecordSelection::All).is_ok()
        });
        self.unwritten.merge(batch);
        self.unwritten.limit_history();
        self.queue.report_unwritten(self.unwritten.describe());
        self.record_unstored_revisions();
        if !is_shown {
            self.open_view();
        }
    }

    /// Replaces the database of the readers by a view: the stored state, with the unwritten changes in memory.
    fn open_view(&self) {
        let view = Database::open_view(self.file.as_ref()).map_err(|error| error.to_string());
        let view = view.and_then(|view| {
            // If the unwritten changes are larger than half of the limit, readers see the stored state only.
            if self.unwritten.bytes() as u64 <= MAX_VIEW_BYTES / 2 {
                self.apply(&view, &self.unwritten, RecordSelection::All)?;
            }
            Ok(view)
        });
        if let Err(error) = &view {
            tracing::debug!(%error, "opening the read-only view of the state database failed");
        }
        self.replace_database(view.ok());
    }

    /// Replaces the database of the readers. Readers do not wait for the closing of the previous one, which accesses
    /// its file.
    fn replace_database(&self, new: Option<Database>) {
        let old = mem::replace(&mut *self.database.write(), new);
        drop(old);
    }

    /// Records the revisions that are about to be published without being stored, so that they are not used
    /// again after a crash.
    fn record_unstored_revisions(&mut self) {
        let revisions = self
            .unwritten
            .sources
            .iter()
            .filter_map(|(name, writes)| Some((name.as_str(), writes.last_revision()?.get())));
        let raised = self.unstored_revisions.raise(revisions);
        if let Err(error) = &raised {
            if self.records_revisions {
                tracing::error!(%error, "unstored revision numbers not recorded, a crash would reuse them");
            } else {
                tracing::debug!(%error, "unstored revision numbers not recorded, a crash would reuse them");
            }
        }
        if raised.is_err() {
            self.records_revisions = false;
        }
    }

    /// Continues the revisions of sources after those that were published but not stored before a crash.
    fn continue_after_lost_revisions(&mut self) {
        let mut batch = WriteBatch::default();
        for (name, revision) in self.unstored_revisions.revisions() {
            let name = SourceName::new(name);
            let database = self.database.read();
            let stored = database.as_ref().map(|database| {
                database.read(|transaction| restore::last_revision(transaction, &name))
            });
            let stored = stored.and_then(Result::ok).flatten();
            if stored.is_none_or(|stored| stored.get() < *revision) {
                let lost = Revision::from(*revision);
                tracing::warn!(
                    source = %name,
                    revision = %lost,
                    "published revision was not stored, its value is lost"
                );
                let writes = SourceWrites { lost: Some(lost), ..SourceWrites::default() };
                batch.sources.insert(name, writes);
            }
        }
        if !batch.is_empty() {
            self.attempt(batch);
        } else if self.failure.is_none() {
            self.clear_unstored_revisions();
        }
    }

    /// Clears the unstored revisions after a successful write, and allocates space to record the revisions of
    /// all sources when the disk is full.
    fn prepare_for_failure(&mut self) {
        self.clear_unstored_revisions();
        if let Some(configured) = &self.unwritten.configured {
            let names = configured.keys().map(SourceName::as_str);
            self.unstored_revisions.ensure_space(&self.directory, names);
        }
    }

    fn clear_unstored_revisions(&mut self) {
        if let Err(error) = self.unstored_revisions.clear() {
            // The recorded revisions are not above the stored ones, so they have no effect after a restart.
            tracing::debug!(%error, "file `unstored-revisions` not emptied");
        }
    }

    fn report_success(&mut self) {
        self.failure = None;
        self.records_revisions = true;
        if let Some(ended) = self.queue.report_success() {
            log_recovery(&ended);
        }
    }

    fn report_failure(&mut self, reason: Arc<str>) {
        let before = self.failure.as_ref().map_or(0, |failure| failure.count);
        let retry_in = backoff::exponential(MIN_RETRY_INTERVAL, MAX_RETRY_INTERVAL, before);
        if self.queue.report_failure(Arc::clone(&reason), Timestamp::now()) {
            log_failure(&self.directory.database(), &reason, Some(retry_in));
        } else {
            tracing::debug!(error = %reason, ?retry_in, "state write retry failed");
        }
        let retry_at = Instant::now() + retry_in;
        self.failure = Some(Failure { reason, count: before + 1, retry_at });
    }
}

/// Logs the first failure. `retry_in` is `None` while the file system does not answer: the write continues.
fn log_failure(path: &Path, reason: &str, retry_in: Option<Duration>) {
    let retry_in = retry_in.map(tracing::field::debug);
    tracing::warn!(
        path = %path.display(),
        error = %reason,
        retry_in,
        "state write failed, published values are not durable"
    );
}

fn log_recovery(ended: &WriteFailure) {
    let outage_seconds = Timestamp::now().duration_since(ended.since).as_secs();
    tracing::info!(outage_seconds, "state store writable again");
}
