//! Watch of one path: waits for changes of its content.
//!
//! A complete change (a rename, or a writer that closes the file) is reported at once. The path is
//! resolved again afterwards. If it resolves to another file, the change is reported a second time,
//! after all entries of the new resolution are watched. A burst of writes is reported when the
//! writer pauses, or after [`MAX_WAIT`].

use crate::{
    file_access_per_owner::{FileAccess, RunningAccess},
    intervals::Intervals,
    metadata_poll::{Poller, poll_changed},
    path_change_signal::{ChangeSignal, WriteBurst},
    path_resolver::{PathResolver, Resolution},
    settle::{MAX_WAIT, QUIET_PERIOD},
    writer_completion::LastWriter,
};
use std::{
    future::pending,
    io,
    mem::{replace, take},
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::time::{Instant, sleep_until};

/// Watch of one path: reports that the content of the file may have changed.
#[derive(Debug)]
pub struct PathWatch {
    path: PathBuf,
    signal: Arc<ChangeSignal>,
    intervals: Intervals,
    access: FileAccess,
    resolver: ResolverState,
    /// The path must be resolved again.
    resolution_due: bool,
    /// The next resolution is reported, even if the path resolves to the same file as before.
    report_next_resolution: bool,
    /// Poller of a path for which the kernel does not report all changes.
    poller: Option<Poller>,
    /// Time of the next attempt to watch the path after a limit was reached.
    retry_at: Option<Instant>,
}

#[derive(Debug)]
enum ResolverState {
    Idle(Box<PathResolver>),
    /// Resolution on another thread, since the file system may block.
    Running(RunningAccess<ResolverOutput>),
    /// The resolution panicked, or no thread was available.
    Failed,
}

type ResolverOutput = (Box<PathResolver>, Resolution);

/// Reason for which the wait of [`PathWatch::changed`] ended.
enum WakeReason {
    Signal,
    Resolved(io::Result<ResolverOutput>),
    WriteBurstDeadline,
    Polled(io::Result<()>),
    RetryDue,
}

impl PathWatch {
    pub(crate) fn new(
        signal: Arc<ChangeSignal>,
        resolver: Box<PathResolver>,
        resolution: Resolution,
        intervals: Intervals,
        access: FileAccess,
    ) -> Self {
        let mut watch = Self {
            path: resolver.path().to_owned(),
            signal,
            intervals,
            access,
            resolver: ResolverState::Failed,
            resolution_due: false,
            report_next_resolution: false,
            poller: None,
            retry_at: None,
        };
        watch.apply_resolution(resolver, resolution);
        watch
    }

    /// Waits until the content may have changed since the last call.
    ///
    /// Cancel-safe: dropping the future loses no change.
    ///
    /// # Errors
    ///
    /// Returns an error of the kind [`TimedOut`](io::ErrorKind::TimedOut) if the file system does not
    /// answer. The caller can then continue to use the watch. Returns another error if the path can
    /// no longer be resolved.
    pub async fn changed(&mut self) -> io::Result<()> {
        let changed = self.next_change().await;
        changed.map_err(|error| cannot_watch(&self.path, error))
    }

    async fn next_change(&mut self) -> io::Result<()> {
        let signal = Arc::clone(&self.signal);
        // Applies a resolution that ended since the last call. The loop below would return without doing so as long as
        // a change is pending at each call.
        if let ResolverState::Running(resolution) = &mut self.resolver
            && let Some(output) = resolution.try_result()
            && self.finish_resolution(output)?
        {
            return Ok(());
        }
        self.start_due_resolution()?;
        loop {
            let woken = signal.wake.notified();
            let pending = signal.take_pending();
            self.resolution_due |= pending.stale_resolution;
            self.report_next_resolution |= pending.transient;
            if pending.changed {
                return Ok(());
            }
            self.start_due_resolution()?;
            let reason = tokio::select! {
                biased;
                () = woken => WakeReason::Signal,
                output = resolved(&mut self.resolver) => WakeReason::Resolved(output),
                () = write_burst_deadline_passed(pending.write_burst) => {
                    WakeReason::WriteBurstDeadline
                }
                polled = poll_changed(&mut self.poller) => WakeReason::Polled(polled),
                () = sleep_until_some(self.retry_at) => WakeReason::RetryDue,
            };
            match reason {
                WakeReason::Signal => {}
                WakeReason::Resolved(output) => {
                    if self.finish_resolution(output)? {
                        return Ok(());
                    }
                }
                WakeReason::WriteBurstDeadline => {
                    if signal.end_due_write_burst(write_burst_deadline) {
                        return Ok(());
                    }
                }
                WakeReason::Polled(polled) => {
                    polled?;
                    signal.mark_writer_unknown();
                    return Ok(());
                }
                WakeReason::RetryDue => {
                    self.retry_at = None;
                    self.resolution_due = true;
                }
            }
        }
    }

    /// Returns the state of the file's last writer, for
    /// [`FileWatcher::read`](super::FileWatcher::read).
    #[must_use]
    pub fn last_writer(&self) -> LastWriter {
        LastWriter::new(&self.signal)
    }

    /// Starts a resolution on another thread if one is due and none is running.
    fn start_due_resolution(&mut self) -> io::Result<()> {
        if !self.resolution_due {
            return Ok(());
        }
        match replace(&mut self.resolver, ResolverState::Failed) {
            ResolverState::Idle(mut resolver) => {
                self.resolution_due = false;
                self.resolver = ResolverState::Running(self.access.start(&self.path, move || {
                    let resolution = resolver.resolve();
                    (resolver, resolution)
                }));
                Ok(())
            }
            // The running resolution may have missed the latest change. Another resolution starts
            // after its end.
            running @ ResolverState::Running(_) => {
                self.resolver = running;
                Ok(())
            }
            ResolverState::Failed => Err(io::Error::other("path resolution failed")),
        }
    }

    /// Applies the output of a resolution. Returns whether a change must be reported.
    fn finish_resolution(&mut self, output: io::Result<ResolverOutput>) -> io::Result<bool> {
        // A resolution that has timed out is still running, so its state is kept.
        if !output.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::TimedOut) {
            self.resolver = ResolverState::Failed;
        }
        let (resolver, resolution) = output?;
        Ok(self.apply_resolution(resolver, resolution))
    }

    /// Applies a resolution to the poller and the retry timer. Returns whether a change must be
    /// reported.
    fn apply_resolution(&mut self, resolver: Box<PathResolver>, resolution: Resolution) -> bool {
        let was_polling = self.poller.is_some();
        match (&mut self.poller, resolution.polling) {
            (Some(poller), Some(baseline)) => {
                poller.set_ignores_metadata(baseline.ignores_metadata);
            }
            (none @ None, Some(baseline)) => {
                *none = Some(Poller::new(
                    resolver.path(),
                    self.intervals.poll,
                    self.access.clone(),
                    baseline.ignores_metadata,
                    baseline.fingerprint,
                ));
            }
            (poller, None) => *poller = None,
        }
        self.retry_at = resolution.limited.then(|| Instant::now() + self.intervals.retry);
        self.resolver = ResolverState::Idle(resolver);
        let report = take(&mut self.report_next_resolution);
        // At a switch between polling and kernel events, both may miss a change of the file. Therefore
        // the switch is reported as a change.
        let polling_changed = was_polling != self.poller.is_some();
        let changed = resolution.target_changed || report || polling_changed;
        if changed {
            self.signal.mark_writer_unknown();
        }
        changed
    }
}

/// Adds the path to an error, and keeps its kind.
pub(crate) fn cannot_watch(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot watch `{}`: {error}", path.display()))
}

/// Waits for the running resolution, or forever if none is running.
async fn resolved(resolver: &mut ResolverState) -> io::Result<ResolverOutput> {
    match resolver {
        ResolverState::Running(resolution) => resolution.result().await,
        ResolverState::Idle(_) | ResolverState::Failed => pending().await,
    }
}

/// Waits for the deadline of a write burst, or forever if there is none.
async fn write_burst_deadline_passed(burst: Option<WriteBurst>) {
    sleep_until_some(burst.map(write_burst_deadline)).await;
}

/// Returns the time at which a write burst is reported: [`QUIET_PERIOD`] after the last write, but
/// at most [`MAX_WAIT`] after the first write.
fn write_burst_deadline(burst: WriteBurst) -> Instant {
    (burst.last + QUIET_PERIOD).min(burst.first + MAX_WAIT)
}

async fn sleep_until_some(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => pending().await,
    }
}
