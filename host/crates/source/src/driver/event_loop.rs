//! Event loop of the driver: passes the results of calls, timers and commands to the engine, and executes its effects.

use super::{
    adapter_traits::{Adapter, Publish, WatchResult},
    clock_and_seed::now,
    metrics_recorder::MetricsRecorder,
    source_log::Log,
};
use crate::metrics::Counters;
use reloader_engine::{
    Effect, Engine, Input, Report, Role, Session, Settings,
    types::{Failure, SourceName},
};
use std::{
    collections::VecDeque,
    future::{Future, pending, ready},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Instant,
};
use tokio::sync::mpsc;

/// Reason why a driver ended by itself.
#[derive(Debug)]
pub(crate) enum Ended<E> {
    /// Permanent failure: the settings can never work.
    GaveUp(Failure),
    /// All receivers are dropped, so that nothing can be published any more.
    NoReceivers(E),
}

/// Command to a running driver.
pub(crate) enum Command<A: Adapter> {
    /// Read the source immediately.
    Reload,
    /// Publish this value and keep it published.
    Pin(A::Value),
    /// Remove the pin.
    Unpin,
    /// Replace the adapter, which calls the source, and the settings.
    Replace(Box<(A, Settings)>),
}

/// Driver of one source. It lives outside of the future that runs it, since a future is moved before its first
/// poll and a driver is large.
pub(crate) struct Driver<A: Adapter, P> {
    adapter: A,
    engine: Engine<A::Value>,
    publisher: P,
    reader: Option<A::Reader>,
    /// Time of the last read, and the number of reads in a row that are less than
    /// [`READER_IDLE_TIMEOUT`](Adapter::READER_IDLE_TIMEOUT) apart.
    last_read: Option<(Instant, u32)>,
    /// Time at which the idle reader is dropped.
    drop_reader_at: Option<Instant>,
    reading: Option<(Session, A::ReadFuture)>,
    watching: Option<(Session, A::WatchFuture)>,
    validating: Option<(Session, A::ValidateFuture)>,
    log: Log,
    metrics: MetricsRecorder,
}

/// Number of reads in a row after which a source counts as frequently read, so that its reader is kept. More than two,
/// because each source is read twice at its start.
const MIN_FREQUENT_READS: u32 = 3;

/// Maximum number of watch events in a row before the driver yields and handles reads and timers.
const MAX_CONSECUTIVE_EVENTS: u32 = 64;

impl<A: Adapter, P: Publish<Value = A::Value>> Driver<A, P> {
    pub(crate) fn new(
        name: SourceName,
        adapter: A,
        engine: Engine<A::Value>,
        publisher: P,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            adapter,
            engine,
            publisher,
            reader: None,
            last_read: None,
            drop_reader_at: None,
            reading: None,
            watching: None,
            validating: None,
            log: Log::new(name, now()),
            metrics: MetricsRecorder::new(counters),
        }
    }

    /// Runs the source until the sender of the commands is dropped, or until the driver ends by itself.
    ///
    /// # Errors
    ///
    /// The reason why the driver ended by itself.
    pub(crate) async fn run(
        &mut self,
        mut commands: mpsc::Receiver<Command<A>>,
    ) -> Result<(), Ended<P::Error>> {
        let effects = self.engine.start(now());
        self.execute(effects)?;
        let mut consecutive_events = 0;
        loop {
            let deadline =
                [self.engine.deadline(), self.drop_reader_at].into_iter().flatten().min();
            let is_flooded = consecutive_events >= MAX_CONSECUTIVE_EVENTS;
            if is_flooded {
                tokio::task::yield_now().await;
            }
            let input = tokio::select! {
                biased;
                command = commands.recv() => match command {
                    Some(command) => self.handle_command(command),
                    None => return Ok(()),
                },
                // Polled before watch events and reads, so that a new value is compared with a value that has just been
                // accepted.
                (session, result) = completion(&mut self.validating) => {
                    Input::Validated(session, result)
                }
                // Polled before the result of a read. If both are ready, the result of the read is handled last, so
                // that an older value from the event does not replace it.
                (session, (watch, result)) = completion(&mut self.watching), if !is_flooded => {
                    consecutive_events += 1;
                    self.handle_watch_result(session, watch, result)
                }
                (session, (reader, result)) = completion(&mut self.reading) => {
                    consecutive_events = 0;
                    self.reader = reader;
                    Input::Fetched(session, result)
                }
                () = sleep_until(deadline) => {
                    consecutive_events = 0;
                    Input::Tick
                }
                () = ready(()), if is_flooded => {
                    consecutive_events = 0;
                    continue;
                }
            };
            let has_value = self.metrics.record_input(&input);
            let effects = self.engine.step(now(), input);
            if has_value {
                self.metrics.record_reaction_to_value(&effects);
            }
            let is_published = self.execute(effects)?;
            self.drop_idle_reader();
            if is_published {
                // Subscribers run before the driver polls the watch again.
                tokio::task::yield_now().await;
            }
        }
    }

    /// Executes the driver's part of a command, and returns the input for the engine.
    fn handle_command(&mut self, command: Command<A>) -> Input<A::Value> {
        match command {
            Command::Reload => {
                self.log.reload_requested();
                Input::ReloadNow
            }
            Command::Pin(value) => Input::Pin(value),
            Command::Unpin => Input::Unpin,
            Command::Replace(new) => {
                let (adapter, settings) = *new;
                self.adapter = adapter;
                // Drops the calls in progress of the previous adapter.
                (self.reader, self.reading, self.watching) = (None, None, None);
                self.validating = None;
                Input::Replaced(settings)
            }
        }
    }

    /// Drops the reader, now or later, if the next scheduled read is further away than the idle timeout.
    ///
    /// Change notifications of a watch also cause reads, which are not scheduled. If such reads are frequent, the
    /// reader stays until the idle timeout has passed since the last read.
    fn drop_idle_reader(&mut self) {
        let now = now();
        self.drop_reader_at = None;
        if self.engine.next_fetch().is_some_and(|next| next > now + A::READER_IDLE_TIMEOUT) {
            let frequent = self.last_read.filter(|(_, reads)| *reads >= MIN_FREQUENT_READS);
            let until =
                frequent.map(|(at, _)| at + A::READER_IDLE_TIMEOUT).filter(|until| *until > now);
            match until {
                Some(_) if self.reader.is_some() => self.drop_reader_at = until,
                _ => self.reader = None,
            }
        }
    }

    /// Records the time of a read, and whether it follows the previous one within the idle timeout.
    fn record_read(&mut self) {
        let now = now();
        let previous =
            self.last_read.filter(|(at, _)| now.duration_since(*at) < A::READER_IDLE_TIMEOUT);
        self.last_read = Some((now, previous.map_or(1, |(_, reads)| reads.saturating_add(1))));
    }

    /// Starts to wait for the next event if the watch is still open, and returns the input for the engine.
    fn handle_watch_result(
        &mut self,
        session: Session,
        watch: Option<A::Watch>,
        result: WatchResult<A::Value>,
    ) -> Input<A::Value> {
        if let Some(watch) = watch {
            self.watching = Some((session, self.adapter.next_event(watch)));
        }
        match result {
            WatchResult::Armed => Input::Armed(session),
            WatchResult::Event(event) => Input::Watched(session, event),
            WatchResult::Lost(failure) => Input::WatchLost(session, failure),
        }
    }

    /// Executes the effects of a step. Returns whether a value or a removal was published.
    fn execute(&mut self, effects: Vec<Effect<A::Value>>) -> Result<bool, Ended<P::Error>> {
        let mut is_published = false;
        // A validation that completes immediately has effects, too. They are executed after all effects of the step
        // that requested the validation.
        let mut effects = VecDeque::from(effects);
        while let Some(effect) = effects.pop_front() {
            self.metrics.record_effect(&effect);
            match effect {
                Effect::Fetch(session, known) => {
                    self.record_read();
                    let reading = self.adapter.read(self.reader.take(), known);
                    self.reading = Some((session, reading));
                }
                Effect::CancelFetch => self.reading = None,
                Effect::OpenWatch(session, known) => {
                    self.watching = Some((session, self.adapter.arm(known)));
                }
                Effect::CloseWatch => self.watching = None,
                Effect::Validate(session, value) => {
                    // Drops the validation of an older value, which this value replaces.
                    self.validating = None;
                    let mut validating = self.adapter.validate(&value);
                    match poll_once(&mut validating) {
                        Some(result) => {
                            let input = Input::Validated(session, result);
                            effects.extend(self.engine.step(now(), input));
                        }
                        None => self.validating = Some((session, validating)),
                    }
                }
                Effect::Publish(revision, value) => {
                    is_published = true;
                    self.log.value_changed(revision);
                    self.publisher.publish(revision, Some(value)).map_err(Ended::NoReceivers)?;
                }
                Effect::PublishRemoved(revision) => {
                    is_published = true;
                    self.log.value_removed(now(), revision);
                    self.publisher.publish(revision, None).map_err(Ended::NoReceivers)?;
                }
                Effect::Confirmed => {
                    self.log.value_confirmed();
                    self.publisher.confirmed();
                }
                Effect::Stale(failure) => {
                    self.log.value_stale(now(), &failure);
                    self.publisher.stale(Some(failure.message));
                }
                Effect::Fresh => {
                    self.log.value_fresh(now());
                    self.publisher.stale(None);
                }
                Effect::Report(report) => {
                    self.publish_report(&report);
                    self.log.report(now(), report);
                }
                Effect::GiveUp(failure) => return Err(Ended::GaveUp(failure)),
            }
        }
        Ok(is_published)
    }

    /// Passes the rejections, read failures and recoveries to the publisher.
    fn publish_report(&self, report: &Report) {
        match report {
            Report::Rejected { failure, retry_in } => {
                if let Some(value) = self.engine.rejected() {
                    self.publisher.rejected(value, Arc::clone(&failure.message), *retry_in);
                }
            }
            Report::FetchFailed { failure, .. }
            | Report::Quarantined { role: Role::Reading, failure, .. } => {
                self.publisher.failing(Some(Arc::clone(&failure.message)));
            }
            Report::Recovered => self.publisher.failing(None),
            _ => {}
        }
    }
}

/// Polls a future once, without a waker. Returns its output if it is ready. A pending future must be polled again
/// with a waker.
fn poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    match Pin::new(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// Sleeps until the deadline; forever without one.
async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => pending().await,
    }
}

/// Waits for the call in the slot, empties the slot, and returns the output of the call. Waits forever if the slot is
/// empty.
async fn completion<F: Future + Unpin>(slot: &mut Option<(Session, F)>) -> (Session, F::Output) {
    match slot {
        Some((session, future)) => {
            let session = *session;
            let output = Pin::new(future).await;
            *slot = None;
            (session, output)
        }
        None => pending().await,
    }
}
