//! Writer thread: writes queued changes with group commit, then calls the completions.

use crate::{
    apply_writes::Tables,
    database::{Database, SharedDatabase},
    group_commit::{RoundRobin, WriteBatch},
    retention_settings::Retention,
    state_dir::StateDir,
    write_queue::{CLOSED, Next, WriteQueue},
    write_request::{Completion, Saved},
};
use jiff::Timestamp;
use reloader_util::{backoff, panics, sanitize::sanitize};
use std::{
    io,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

/// Interval from the first failed write to its retry. It doubles with each further failure.
const MIN_RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// Upper bound of the retry interval.
const MAX_RETRY_INTERVAL: Duration = Duration::from_secs(30);

/// Starts the writer thread.
pub(crate) fn start(
    queue: Arc<WriteQueue>,
    database: SharedDatabase,
    directory: StateDir,
    retention: Retention,
) -> io::Result<()> {
    let writer = Writer {
        queue,
        database,
        directory,
        retention,
        unwritten: WriteBatch::default(),
        failure: None,
    };
    thread::Builder::new().name("state".into()).spawn(move || writer.run())?;
    Ok(())
}

/// State of the writer thread.
struct Writer {
    queue: Arc<WriteQueue>,
    database: SharedDatabase,
    directory: StateDir,
    retention: Retention,
    /// Writes of failed transactions, merged.
    unwritten: WriteBatch,
    /// Failure of the last transaction.
    failure: Option<Failure>,
}

struct Failure {
    reason: Arc<str>,
    /// Number of consecutive failures.
    count: u32,
    retry_at: Instant,
}

impl Writer {
    fn run(mut self) {
        self.queue.attach_writer();
        let mut position = RoundRobin::default();
        loop {
            let retry_at = self.failure.as_ref().map(|failure| failure.retry_at);
            match self.queue.next(&mut position, retry_at) {
                Next::Write(mut batch) => {
                    let completions = batch.take_completions();
                    let saved = self.save(batch);
                    completions.into_iter().for_each(|completion| complete(completion, &saved));
                }
                Next::Retry => {
                    self.attempt(WriteBatch::default());
                }
                Next::End => break,
            }
        }
        let result = self.last_retry();
        *self.database.write() = None;
        // Unlock first: the caller of `close` may open the directory again.
        drop(self.directory);
        self.queue.report_end(result);
    }

    /// Writes a batch together with earlier failed writes. Before the next retry is due, only adds it to
    /// the failed writes.
    fn save(&mut self, batch: WriteBatch) -> Saved {
        match &self.failure {
            Some(failure) if Instant::now() < failure.retry_at => {
                self.unwritten.merge(batch);
                Saved::NotDurable(Arc::clone(&failure.reason))
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
        match self.attempt(WriteBatch::default()) {
            Saved::NotDurable(reason) => Err(reason),
            Saved::Durable | Saved::Replaced => Ok(()),
        }
    }

    /// Writes a batch together with earlier failed writes, in one transaction.
    fn attempt(&mut self, batch: WriteBatch) -> Saved {
        match self.reopen_after_failure().and_then(|()| self.write(&batch)) {
            Ok(()) => {
                self.unwritten = WriteBatch::default();
                self.failure = None;
                self.report_success();
                Saved::Durable
            }
            Err(error) => {
                self.unwritten.merge(batch);
                let reason: Arc<str> = sanitize(&error).into();
                self.report_failure(Arc::clone(&reason));
                Saved::NotDurable(reason)
            }
        }
    }

    /// Reopens the database after a failed write: redb requires it.
    fn reopen_after_failure(&self) -> Result<(), String> {
        if self.failure.is_none() {
            return Ok(());
        }
        let mut database = self.database.write();
        // The old database must be closed before the file is opened again.
        *database = None;
        let (opened, _) = Database::open(&self.directory).map_err(|error| error.to_string())?;
        *database = Some(opened);
        Ok(())
    }

    fn write(&self, batch: &WriteBatch) -> Result<(), String> {
        let database = self.database.read();
        let database = database.as_ref().ok_or(CLOSED)?;
        let now = Timestamp::now();
        let written = database.write(|transaction| {
            let mut tables = Tables::open(transaction)?;
            for batch in [&self.unwritten, batch] {
                for (name, writes) in &batch.sources {
                    tables.apply(name, writes, &self.retention, now)?;
                }
            }
            if let Some(configured) =
                batch.configured.as_ref().or(self.unwritten.configured.as_ref())
            {
                tables.set_configured(configured, &self.retention, now)?;
            }
            Ok(())
        });
        written.map_err(|error| error.to_string())
    }

    fn report_success(&self) {
        if let Some(ended) = self.queue.report_success() {
            let outage_seconds = Timestamp::now().duration_since(ended.since).as_secs();
            tracing::info!(outage_seconds, "state store writable again");
        }
    }

    fn report_failure(&mut self, reason: Arc<str>) {
        let before = self.failure.as_ref().map_or(0, |failure| failure.count);
        let retry_in = backoff::exponential(MIN_RETRY_INTERVAL, MAX_RETRY_INTERVAL, before);
        if self.queue.report_failure(Arc::clone(&reason), Timestamp::now()) {
            let path = self.directory.database();
            tracing::warn!(
                path = %path.display(),
                error = %reason,
                ?retry_in,
                "state write failed, publishing values that a crash would lose"
            );
        } else {
            tracing::debug!(error = %reason, ?retry_in, "state write retry failed");
        }
        let retry_at = Instant::now() + retry_in;
        self.failure = Some(Failure { reason, count: before + 1, retry_at });
    }
}

/// Calls a completion. A panic in it does not affect the others.
fn complete(completion: Completion, saved: &Saved) {
    if panics::catch(|| completion(saved.clone())).is_err() {
        tracing::error!("callback of a state write panicked");
    }
}
