//! Write queue: the handles add writes, the writer thread takes them, and a watchdog calls the completions while the
//! writer thread hangs in a file system that does not answer.

use crate::{
    group_commit::{RoundRobin, WriteBatch},
    health::{Health, WriteFailure},
    queued_source_writes::SourceWrites,
    write_request::{Completion, Record, Saved},
};
use jiff::Timestamp;
use reloader_engine::types::SourceName;
use reloader_util::{
    panics,
    sync::{Condvar, Mutex, MutexGuard},
};
use std::{
    collections::BTreeMap,
    mem,
    sync::{Arc, OnceLock},
    thread::{self, ThreadId},
    time::{Duration, Instant},
};

/// Size of all queued values above which each source may queue only one record, in bytes.
const MAX_QUEUED_BYTES: usize = 64 << 20;
/// Time after which an access of the writer thread to the file system that has not returned counts as a failure.
const HANG_TIMEOUT: Duration = Duration::from_secs(10);
/// Time limit of the last retry when the queue is closed while writes fail.
const FAILING_CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Error of an operation that is called after closing.
pub(crate) const CLOSED: &str = "store is closed";

/// Queue of writes, shared by all handles and the writer thread.
pub(crate) struct WriteQueue {
    state: Mutex<QueueState>,
    /// Wakes the writer thread for new writes and for closing.
    wake: Condvar,
    /// Wakes the watchdog for records that are added during a hang, and for the end of the writer thread.
    wake_watchdog: Condvar,
    /// Signals each failed write and the end of the writer thread to the callers of `close`.
    ended: Condvar,
    writer: OnceLock<ThreadId>,
    watchdog: OnceLock<ThreadId>,
    /// Held while completions are taken and called, so that those of a source run in the order of its records.
    completing: Mutex<()>,
    hang_timeout: Duration,
}

#[derive(Default)]
struct QueueState {
    pending: WriteBatch,
    /// Size of the pending values, in bytes.
    bytes: usize,
    health: Health,
    /// Description of the changes that could not be written, while writes fail.
    unwritten: String,
    /// Completions of the batch that is being written.
    in_flight: Vec<Completion>,
    /// Time at which the writer thread began its current task. `None` while it waits for a task.
    busy_since: Option<Instant>,
    /// Set if the current task of the writer thread has taken longer than the hang timeout.
    is_hung: bool,
    /// Set if there are records whose completions the watchdog must call, since the writer thread hangs.
    has_late_records: bool,
    /// Set if some records that were published during a hang are not written yet, so that readers do not see them.
    has_unwritten_publications: bool,
    is_closing: bool,
    /// Result of the writer thread after its end: an error if some writes did not reach the disk.
    ended: Option<Result<(), Arc<str>>>,
}

/// Next action of the writer thread.
pub(crate) enum Next {
    /// Write a batch.
    Write(WriteBatch),
    /// Do periodic work: no batch was queued until `wake_at`.
    Wake,
    /// End: the queue is closed and empty.
    End,
}

impl Default for WriteQueue {
    fn default() -> Self {
        Self::new(HANG_TIMEOUT)
    }
}

/// Operations that the handles of the store call.
impl WriteQueue {
    fn new(hang_timeout: Duration) -> Self {
        Self {
            state: Mutex::default(),
            wake: Condvar::default(),
            wake_watchdog: Condvar::default(),
            ended: Condvar::default(),
            writer: OnceLock::new(),
            watchdog: OnceLock::new(),
            completing: Mutex::default(),
            hang_timeout,
        }
    }

    /// Changes the pending writes of a source.
    pub(crate) fn update(&self, name: &SourceName, change: impl FnOnce(&mut SourceWrites)) {
        let mut state = self.state.lock();
        if state.is_closing {
            return;
        }
        change(state.pending.sources.entry(name.clone()).or_default());
        self.wake.notify_one();
    }

    /// Queues a record of a source for writing, and `completion`, which is called with the result.
    pub(crate) fn record(&self, name: &SourceName, record: Record, completion: Completion) {
        let mut state = self.state.lock();
        if state.is_closing {
            drop(state);
            return completion(Saved::NotDurable(CLOSED.into()));
        }
        let is_full = state.bytes > MAX_QUEUED_BYTES;
        state.bytes += record.size();
        let writes = state.pending.sources.entry(name.clone()).or_default();
        let replaced = writes.push(record, completion, is_full);
        if let Some((record, _)) = &replaced {
            state.bytes = state.bytes.saturating_sub(record.size());
        }
        self.notify_of_record(state);
        if let Some((_, Some(completion))) = replaced {
            completion(Saved::Replaced);
        }
    }

    /// Queues the deletion of a source, and drops its pending writes.
    pub(crate) fn forget(&self, name: &SourceName, completion: Completion) {
        let mut state = self.state.lock();
        if state.is_closing {
            drop(state);
            return completion(Saved::NotDurable(CLOSED.into()));
        }
        let writes = state.pending.sources.entry(name.clone()).or_default();
        let forget = SourceWrites { forget: Some(Some(completion)), ..SourceWrites::default() };
        let mut dropped = mem::replace(writes, forget);
        self.notify_of_record(state);
        for completion in dropped.take_completions() {
            completion(Saved::Replaced);
        }
    }

    /// Wakes the thread that calls the completion of a queued record: the writer thread, or the watchdog during a hang.
    fn notify_of_record(&self, mut state: MutexGuard<'_, QueueState>) {
        if state.is_hung {
            state.has_late_records = true;
            self.wake_watchdog.notify_one();
        }
        drop(state);
        self.wake.notify_one();
    }

    /// Queues the set of configured sources. The flag of a source is set if its values are secret.
    pub(crate) fn set_configured(&self, configured: BTreeMap<SourceName, bool>) {
        self.state.lock().pending.configured = Some(configured);
        self.wake.notify_one();
    }

    pub(crate) fn health(&self) -> Health {
        self.state.lock().health.clone()
    }

    /// Returns why readers do not see all published records, if there was a hang.
    pub(crate) fn unwritten_publications(&self) -> Option<Arc<str>> {
        let state = self.state.lock();
        let failing = state.health.failing.as_ref().map(|failing| Arc::clone(&failing.reason));
        let reason = failing.unwrap_or_else(|| "published values are not written yet".into());
        state.has_unwritten_publications.then_some(reason)
    }

    /// Waits until the writer thread has written the queue and ended. Returns a reason if some writes did
    /// not reach the disk within `timeout`, or within [`FAILING_CLOSE_TIMEOUT`] while writes fail.
    pub(crate) fn close(&self, timeout: Duration) -> Result<(), Arc<str>> {
        let mut state = self.state.lock();
        state.is_closing = true;
        self.wake.notify_one();
        let current = Some(thread::current().id());
        if [&self.writer, &self.watchdog].iter().any(|thread| thread.get() == current.as_ref()) {
            // This thread calls the completions, and one of them held the last handle, which is dropped with it. The
            // thread cannot wait for its own end.
            return Ok(());
        }
        let start = Instant::now();
        while state.ended.is_none() {
            let is_failing = state.health.failing.is_some();
            let timeout = if is_failing { timeout.min(FAILING_CLOSE_TIMEOUT) } else { timeout };
            let left = timeout.saturating_sub(start.elapsed());
            if left.is_zero() {
                let unwritten = match state.unwritten.as_str() {
                    "" => format!("{}, and the writes in progress", state.pending.describe()),
                    unwritten => unwritten.to_owned(),
                };
                let reason = state.health.failing.as_ref().map(|failing| &failing.reason);
                let reason = reason.map(|reason| format!("{reason}; ")).unwrap_or_default();
                let message =
                    format!("{reason}timed out after {timeout:?}; not stored: {unwritten}");
                return Err(message.into());
            }
            state = self.ended.wait_timeout(state, left);
        }
        state.ended.clone().unwrap_or(Ok(()))
    }

    /// Returns whether a handle has closed the queue.
    pub(crate) fn is_closing(&self) -> bool {
        self.state.lock().is_closing
    }
}

/// Operations that the writer thread calls.
impl WriteQueue {
    /// Marks the calling thread as the writer thread.
    pub(crate) fn attach_writer(&self) {
        let _ = self.writer.set(thread::current().id());
    }

    /// Waits for the next batch, until `wake_at`, or until the queue is closed. Then the task of the writer thread
    /// begins, which [`finish_task`](Self::finish_task) ends. The queue keeps the completions of a batch for
    /// [`complete_batch`](Self::complete_batch).
    pub(crate) fn next(&self, position: &mut RoundRobin, wake_at: Instant) -> Next {
        let mut state = self.state.lock();
        // The previous batch is written, or readers see it in a view. So they can miss only published records that are
        // still pending.
        state.has_unwritten_publications &= state.pending.has_completed_records();
        let next = loop {
            if !state.pending.is_empty() {
                let mut batch = state.pending.take_next(position);
                state.bytes = state.pending.bytes();
                state.in_flight = batch.take_completions();
                break Next::Write(batch);
            }
            if state.is_closing {
                break Next::End;
            }
            let left = wake_at.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break Next::Wake;
            }
            state = self.wake.wait_timeout(state, left);
        };
        state.busy_since = Some(Instant::now());
        next
    }

    /// Calls the completions of the batch, except those that the watchdog has called.
    pub(crate) fn complete_batch(&self, saved: &Saved) {
        self.complete(saved, |state| mem::take(&mut state.in_flight));
    }

    fn complete(&self, saved: &Saved, take: impl FnOnce(&mut QueueState) -> Vec<Completion>) {
        let _guard = self.completing.lock();
        let completions = take(&mut self.state.lock());
        for completion in completions {
            // A panic in a completion does not affect the others.
            if panics::catch(|| completion(saved.clone())).is_err() {
                tracing::error!("callback of a state write panicked");
            }
        }
    }

    /// Records the end of the current task of the writer thread. If the task hung, returns the failure that has ended;
    /// `None` if it did not hang, or writes still fail (`is_failing`).
    pub(crate) fn finish_task(&self, is_failing: bool) -> Option<WriteFailure> {
        let mut state = self.state.lock();
        state.busy_since = None;
        let was_hung = mem::take(&mut state.is_hung);
        if was_hung && !is_failing { state.health.failing.take() } else { None }
    }

    /// Records a committed transaction. Returns the previous failure if writes were failing until now. If the current
    /// task hung, returns `None`, and [`finish_task`](Self::finish_task) returns the failure.
    pub(crate) fn report_success(&self) -> Option<WriteFailure> {
        let mut state = self.state.lock();
        state.unwritten.clear();
        state.health.commits += 1;
        if state.is_hung { None } else { state.health.failing.take() }
    }

    /// Records a failed transaction. Returns whether the previous transaction succeeded.
    pub(crate) fn report_failure(&self, reason: Arc<str>, now: Timestamp) -> bool {
        let mut state = self.state.lock();
        state.health.failures += 1;
        self.set_failing(&mut state, reason, now)
    }

    /// Records the reason of a failed or hung write. Returns whether it is the first failure since the last success.
    fn set_failing(&self, state: &mut QueueState, reason: Arc<str>, now: Timestamp) -> bool {
        let since = state.health.failing.take().map(|failing| failing.since);
        state.health.failing = Some(WriteFailure { reason, since: since.unwrap_or(now) });
        // Wakes `close`, which waits for a shorter time while writes fail.
        self.ended.notify_all();
        since.is_none()
    }

    /// Records which changes could not be written, for the error message of [`close`](Self::close).
    pub(crate) fn report_unwritten(&self, description: String) {
        self.state.lock().unwritten = description;
    }

    /// Records the end of the writer thread: an error if some writes did not reach the disk.
    pub(crate) fn report_end(&self, result: Result<(), Arc<str>>) {
        self.state.lock().ended = Some(result);
        self.ended.notify_all();
        self.wake_watchdog.notify_one();
    }
}

/// Operations that the watchdog thread calls.
impl WriteQueue {
    /// Watches the writer thread until it ends. When a task of the writer thread takes longer than the hang timeout,
    /// calls `report` if writes were not failing before. Until the task returns, calls the completions of all records
    /// with [`Saved::NotDurable`].
    pub(crate) fn watch(&self, report: impl Fn(&str)) {
        let _ = self.watchdog.set(thread::current().id());
        let reason: Arc<str> =
            format!("the file system has not answered for {:?}", self.hang_timeout).into();
        loop {
            let mut state = self.state.lock();
            if state.ended.is_some() {
                return;
            }
            let left = match state.busy_since {
                Some(since) if !state.is_hung => self.hang_timeout.saturating_sub(since.elapsed()),
                _ => self.hang_timeout,
            };
            if left.is_zero() {
                (state.is_hung, state.has_late_records) = (true, true);
                state.has_unwritten_publications = true;
                if self.set_failing(&mut state, Arc::clone(&reason), Timestamp::now()) {
                    drop(state);
                    report(&reason);
                }
            } else if state.is_hung && state.has_late_records {
                drop(state);
                let saved = Saved::NotDurable(Arc::clone(&reason));
                self.complete(&saved, QueueState::take_completions_in_hang);
            } else {
                // The start of a task does not wake this thread: the task cannot exceed the hang timeout before the
                // wait ends.
                drop(self.wake_watchdog.wait_timeout(state, left));
            }
        }
    }
}

impl QueueState {
    /// Takes the completions of the batch that is being written, and of the pending records, unless the hang has ended.
    fn take_completions_in_hang(&mut self) -> Vec<Completion> {
        if !self.is_hung {
            return Vec::new();
        }
        self.has_late_records = false;
        let mut completions = mem::take(&mut self.in_flight);
        completions.extend(self.pending.take_completions());
        completions
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reloader_engine::types::Snapshot;
    use std::sync::mpsc;

    /// Upper bound of every wait in these tests.
    const DEADLINE: Duration = Duration::from_secs(20);

    type Completed = (u64, Saved);

    /// Starts the watchdog of a queue with a short hang timeout. Returns the receiver of its reports.
    fn watch() -> (Arc<WriteQueue>, mpsc::Receiver<String>) {
        let queue = Arc::new(WriteQueue::new(Duration::from_secs(1)));
        let (sender, reports) = mpsc::channel();
        let watched = Arc::clone(&queue);
        thread::spawn(move || watched.watch(|reason| sender.send(reason.to_owned()).unwrap()));
        (queue, reports)
    }

    fn record(queue: &WriteQueue, revision: u64, completed: &mpsc::Sender<Completed>) {
        let completed = completed.clone();
        let record = Record::new(revision.into(), Some(Snapshot::new("value")));
        let completion = move |saved| completed.send((revision, saved)).unwrap();
        queue.record(&SourceName::new("a"), record, Box::new(completion));
    }

    /// Takes the next batch, as the writer thread does. Returns the revisions of its records.
    fn take_batch(queue: &WriteQueue) -> Vec<u64> {
        let Next::Write(batch) = queue.next(&mut RoundRobin::default(), Instant::now()) else {
            panic!("no batch is queued");
        };
        let records = batch.sources.values().flat_map(|writes| &writes.records);
        records.map(|(record, _)| record.revision.get()).collect()
    }

    #[test]
    fn records_are_completed_in_order_during_hang() {
        let (queue, reports) = watch();
        let (sender, completed) = mpsc::channel();
        record(&queue, 1, &sender);
        assert_eq!(take_batch(&queue), [1]);
        record(&queue, 2, &sender);
        let reason = "the file system has not answered for 1s";
        assert_eq!(reports.recv_timeout(DEADLINE).unwrap(), reason);
        (3..=1000).for_each(|revision| record(&queue, revision, &sender));
        let mut published = Vec::new();
        while published.last() != Some(&1000) {
            match completed.recv_timeout(DEADLINE).unwrap() {
                (revision, Saved::NotDurable(why)) if *why == *reason => published.push(revision),
                (_, Saved::Replaced) => {}
                (revision, other) => panic!("revision {revision}: {other:?}"),
            }
        }
        assert!(published.starts_with(&[1, 2]) && published.is_sorted(), "{published:?}");
        let failing = queue.health().failing.expect("the hang is a failure");
        assert_eq!(&*failing.reason, reason);

        assert_eq!(queue.unwritten_publications().as_deref(), Some(reason));

        // Simulates that the file system answers: the write succeeds, and the task ends.
        assert_eq!(queue.report_success(), None, "the task has not ended");
        queue.complete_batch(&Saved::Durable);
        assert_eq!(queue.finish_task(false), Some(failing));
        assert_eq!(queue.health(), Health { failing: None, commits: 1, failures: 0 });
        // The records that were published during the hang are still queued and are written next. Records that are added
        // after the hang are completed only when they are written.
        assert_eq!(take_batch(&queue).last(), Some(&1000));
        assert!(queue.unwritten_publications().is_some(), "the batch is not written yet");
        queue.finish_task(false);
        record(&queue, 1001, &sender);
        assert_eq!(take_batch(&queue), [1001]);
        assert_eq!(queue.unwritten_publications(), None);
        queue.complete_batch(&Saved::Durable);
        let last = completed.try_iter().last();
        assert_eq!(last, Some((1001, Saved::Durable)));
        assert_eq!(reports.try_iter().count(), 0, "the hang is reported once");
        queue.report_end(Ok(()));
    }

    /// A hang that ends with an error of the file system is one failure, which began with the hang.
    #[test]
    fn failure_after_hang_is_not_a_new_one() {
        let (queue, reports) = watch();
        let (sender, completed) = mpsc::channel();
        record(&queue, 1, &sender);
        take_batch(&queue);
        reports.recv_timeout(DEADLINE).unwrap();
        completed.recv_timeout(DEADLINE).unwrap();
        assert!(!queue.report_failure("read-only".into(), Timestamp::now()));
        assert_eq!(queue.finish_task(true), None);
        let failing = queue.health().failing.expect("writes still fail");
        assert_eq!(&*failing.reason, "read-only");
        assert_eq!(queue.report_success().map(|ended| ended.since), Some(failing.since));
        queue.report_end(Ok(()));
    }

    #[test]
    fn close_during_hang_times_out() {
        let (queue, reports) = watch();
        let (sender, _completed) = mpsc::channel();
        record(&queue, 1, &sender);
        take_batch(&queue);
        reports.recv_timeout(DEADLINE).unwrap();
        let start = Instant::now();
        let error = queue.close(Duration::from_millis(50)).expect_err("the writer hangs");
        assert!(start.elapsed() < FAILING_CLOSE_TIMEOUT, "{:?}", start.elapsed());
        assert!(error.contains("has not answered for 1s; timed out after 50ms"), "{error}");
        queue.report_end(Ok(()));
    }
}
