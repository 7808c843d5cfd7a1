//! Write queue: the handles add writes, and the writer thread takes them.

use crate::{
    group_commit::{RoundRobin, WriteBatch},
    health::{Health, WriteFailure},
    queued_source_writes::SourceWrites,
    write_request::{Completion, Record, Saved},
};
use jiff::Timestamp;
use reloader_engine::types::SourceName;
use reloader_util::sync::{Condvar, Mutex};
use std::{
    collections::BTreeMap,
    mem,
    sync::{Arc, OnceLock},
    thread::{self, ThreadId},
    time::{Duration, Instant},
};

/// Size of all queued values above which each source may queue only one record, in bytes.
const MAX_QUEUED_BYTES: usize = 64 << 20;
/// Time limit of the last retry when the queue is closed while writes fail.
const FAILING_CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Error of an operation that is called after closing.
pub(crate) const CLOSED: &str = "store is closed";

/// Queue of writes, shared by all handles and the writer thread.
#[derive(Default)]
pub(crate) struct WriteQueue {
    state: Mutex<QueueState>,
    /// Wakes the writer thread for new writes and for closing.
    wake: Condvar,
    /// Signals each failed write and the end of the writer thread to the callers of `close`.
    ended: Condvar,
    writer: OnceLock<ThreadId>,
}

#[derive(Default)]
struct QueueState {
    pending: WriteBatch,
    /// Size of the pending values, in bytes.
    bytes: usize,
    health: Health,
    /// Description of the changes that could not be written, while writes fail.
    unwritten: String,
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

/// Operations of the handles.
impl WriteQueue {
    /// Changes the pending writes of a source.
    pub(crate) fn update(&self, name: &SourceName, change: impl FnOnce(&mut SourceWrites)) {
        let mut state = self.state.lock();
        if state.is_closing {
            return;
        }
        change(state.pending.sources.entry(name.clone()).or_default());
        self.wake.notify_one();
    }

    /// Queues a record of a source.
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
        drop(state);
        self.wake.notify_one();
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
        drop(state);
        self.wake.notify_one();
        for completion in dropped.take_completions() {
            completion(Saved::Replaced);
        }
    }

    /// Queues the set of configured sources. The flag of a source is set if its values are secret.
    pub(crate) fn set_configured(&self, configured: BTreeMap<SourceName, bool>) {
        self.state.lock().pending.configured = Some(configured);
        self.wake.notify_one();
    }

    pub(crate) fn health(&self) -> Health {
        self.state.lock().health.clone()
    }

    /// Waits until the writer thread has written the queue and ended. Returns a reason if some writes did
    /// not reach the disk within `timeout`, or within [`FAILING_CLOSE_TIMEOUT`] while writes fail.
    pub(crate) fn close(&self, timeout: Duration) -> Result<(), Arc<str>> {
        let mut state = self.state.lock();
        state.is_closing = true;
        self.wake.notify_one();
        if self.writer.get() == Some(&thread::current().id()) {
            // The writer thread cannot wait for itself. It has dropped the last handle, which a completion held.
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

/// Operations of the writer thread.
impl WriteQueue {
    /// Marks the calling thread as the writer thread.
    pub(crate) fn attach_writer(&self) {
        let _ = self.writer.set(thread::current().id());
    }

    /// Waits for the next batch, until `wake_at`, or until the queue is closed.
    pub(crate) fn next(&self, position: &mut RoundRobin, wake_at: Instant) -> Next {
        let mut state = self.state.lock();
        loop {
            if !state.pending.is_empty() {
                let batch = state.pending.take_next(position);
                state.bytes = state.pending.bytes();
                return Next::Write(batch);
            }
            if state.is_closing {
                return Next::End;
            }
            let left = wake_at.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Next::Wake;
            }
            state = self.wake.wait_timeout(state, left);
        }
    }

    /// Records a committed transaction. Returns the previous failure if writes were failing until now.
    pub(crate) fn report_success(&self) -> Option<WriteFailure> {
        let mut state = self.state.lock();
        state.unwritten.clear();
        state.health.commits += 1;
        state.health.failing.take()
    }

    /// Records a failed transaction. Returns whether the previous transaction succeeded.
    pub(crate) fn report_failure(&self, reason: Arc<str>, now: Timestamp) -> bool {
        let health = &mut self.state.lock().health;
        health.failures += 1;
        let since = health.failing.take().map(|failing| failing.since);
        health.failing = Some(WriteFailure { reason, since: since.unwrap_or(now) });
        // While writes fail, `close` waits for a shorter time.
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
    }
}
