//! One source at work: what owns its engine and carries out what that decides.
//!
//! It is driven by an [`Edge`], the source's side, and writes to a [`Publish`], the readers' side. It
//! is one future, and starts no tasks.

mod log_dedup;
mod metrics;

use crate::metrics::Counters;
use log_dedup::Log;
use metrics::Counting;
use reloader_engine::{
    Effect, Engine, Input, Report, Role, Session, Settings,
    types::{Cursor, Event, Failure, Outcome, Revision, SourceName, Value},
};
use std::{
    collections::VecDeque,
    future::{Future, pending, ready},
    hash::{BuildHasher, RandomState},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};
use tokio::sync::mpsc;

/// The source's side. Its futures are named types, so that a driver is as `Send` as they are.
pub(crate) trait Edge {
    type Value: Value;
    /// What is kept from one read to the next: an instance, a connection.
    type Reader;
    type Reading: Future<Output = (Self::Reader, Result<Outcome<Self::Value>, Failure>)> + Unpin;
    type Watch;
    type Watching: Future<Output = (Option<Self::Watch>, Seen<Self::Value>)> + Unpin;
    type Judging: Future<Output = Result<(), Failure>> + Unpin;

    /// A reader that will not be needed for this long is dropped, unless it was needed more often of late.
    const KEEP_READER: Duration;

    fn read(&mut self, reader: Option<Self::Reader>, known: Option<Cursor>) -> Self::Reading;
    fn arm(&mut self, known: Option<Cursor>) -> Self::Watching;
    fn listen(&mut self, watch: Self::Watch) -> Self::Watching;

    /// Whether a value may be let through. This limits its own time.
    fn judge(&mut self, value: &Self::Value) -> Self::Judging;
}

/// What a watch came to.
pub(crate) enum Seen<V> {
    Armed,
    Event(Event<V>),
    Lost(Failure),
}

/// The readers' side.
pub(crate) trait Publish {
    type Value;
    /// Why nothing can be published any more.
    type Error;

    /// A new value, or that there is none any more.
    fn publish(&self, revision: Revision, value: Option<Self::Value>) -> Result<(), Self::Error>;
    /// The source stands for what is published.
    fn confirmed(&self);
    /// What is published is older than the source promises, or is current again (`None`).
    fn stale(&self, reason: Option<Arc<str>>);
    /// This value was not let through, and is tried again after this time, if it is.
    fn refused(&self, value: &Self::Value, reason: Arc<str>, retry_in: Option<Duration>);

    /// The source could not be read, for this reason; or it answers again (`None`).
    fn failing(&self, reason: Option<Arc<str>>);
}

/// Why a driver ended by itself.
#[derive(Debug)]
pub(crate) enum Ended<E> {
    /// The settings can never work.
    GaveUp(Failure),
    /// There is nobody to publish to.
    Unheard(E),
}

/// Tells a running driver something.
pub(crate) enum Command<E: Edge> {
    /// Read the source now.
    Reload,
    /// Publish this value, and hold it.
    Pin(E::Value),
    /// Follow the source again.
    Unpin,
    /// From here on it is this source, kept up to date in this way.
    Replace(Box<(E, Settings)>),
}

/// Makes the timers of each source differ, wherever it runs: in a container, even the process's number
/// is that of all others.
pub(crate) fn seed() -> u64 {
    RandomState::new().hash_one(())
}

/// tokio's clock, so that tests can stop it.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Kept outside of the future that runs it, which is copied about before it is first polled.
pub(crate) struct Driver<E: Edge, P> {
    edge: E,
    engine: Engine<E::Value>,
    publisher: P,
    reader: Option<E::Reader>,
    /// When it was asked last, and how often each time soon after the time before.
    asked: Option<(Instant, u32)>,
    /// When it is dropped, if it is not asked before.
    let_go_at: Option<Instant>,
    reading: Option<(Session, E::Reading)>,
    watching: Option<(Session, E::Watching)>,
    judging: Option<(Session, E::Judging)>,
    log: Log,
    counting: Counting,
}

/// Who is read so often, each time soon after the time before, is read soon again. At its start every
/// source is read twice.
const OFTEN: u32 = 3;

/// After so many events of a watch without a pause, everybody else has a turn.
const IN_A_ROW: u32 = 64;

impl<E: Edge, P: Publish<Value = E::Value>> Driver<E, P> {
    pub(crate) fn new(
        name: SourceName,
        edge: E,
        engine: Engine<E::Value>,
        publisher: P,
        counters: Arc<Counters>,
    ) -> Self {
        let (log, counting) = (Log::new(name, now()), Counting::new(counters));
        let (reader, reading, watching, judging) = (None, None, None, None);
        let (asked, let_go_at) = (None, None);
        Self {
            edge,
            engine,
            publisher,
            reader,
            asked,
            let_go_at,
            reading,
            watching,
            judging,
            log,
            counting,
        }
    }

    /// Ends when the commands' sender is dropped, or with the reason why it cannot go on.
    pub(crate) async fn run(
        &mut self,
        mut commands: mpsc::Receiver<Command<E>>,
    ) -> Result<(), Ended<P::Error>> {
        let effects = self.engine.start(now());
        self.carry_out(effects)?;
        let mut in_a_row = 0;
        loop {
            let deadline = [self.engine.deadline(), self.let_go_at].into_iter().flatten().min();
            let is_flooded = in_a_row >= IN_A_ROW;
            if is_flooded {
                tokio::task::yield_now().await;
            }
            let input = tokio::select! {
                biased;
                command = commands.recv() => match command {
                    Some(command) => self.told(command),
                    None => return Ok(()),
                },
                // First, so that what comes next is held against what has been let through.
                (session, verdict) = in_progress(&mut self.judging) => {
                    Input::Judged(session, verdict)
                }
                // Before what is read: of two that are there, the event is the older one.
                (session, (watch, seen)) = in_progress(&mut self.watching), if !is_flooded => {
                    in_a_row += 1;
                    self.seen(session, watch, seen)
                }
                (session, (reader, result)) = in_progress(&mut self.reading) => {
                    in_a_row = 0;
                    self.reader = Some(reader);
                    Input::Fetched(session, result)
                }
                () = until(deadline) => {
                    in_a_row = 0;
                    Input::Tick
                }
                () = ready(()), if is_flooded => {
                    in_a_row = 0;
                    continue;
                }
            };
            let is_answer = self.counting.input(&input);
            let effects = self.engine.step(now(), input);
            if is_answer {
                self.counting.followed(&effects);
            }
            let is_news = self.carry_out(effects)?;
            self.let_go();
            if is_news {
                // Readers first: going back to listening takes longer than handing on.
                tokio::task::yield_now().await;
            }
        }
    }

    /// Does what it is told, as far as that is the driver's own.
    fn told(&mut self, command: Command<E>) -> Input<E::Value> {
        match command {
            Command::Reload => {
                self.log.insisted();
                Input::ReloadNow
            }
            Command::Pin(value) => Input::Pin(value),
            Command::Unpin => Input::Unpin,
            Command::Replace(new) => {
                let (edge, settings) = *new;
                self.edge = edge;
                // Whatever was begun with the other one is over.
                (self.reader, self.reading, self.watching) = (None, None, None);
                self.judging = None;
                Input::Replaced(settings)
            }
        }
    }

    /// A source that rests holds nothing but its value. Nobody knows when the next change of one that is
    /// watched is seen, but one that changes all the time does not rest.
    fn let_go(&mut self) {
        let now = now();
        self.let_go_at = None;
        if self.engine.next_fetch().is_some_and(|next| next > now + E::KEEP_READER) {
            let often = self.asked.filter(|(_, in_a_row)| *in_a_row >= OFTEN);
            let until = often.map(|(at, _)| at + E::KEEP_READER).filter(|until| *until > now);
            match until {
                Some(_) if self.reader.is_some() => self.let_go_at = until,
                _ => self.reader = None,
            }
        }
    }

    fn asks(&mut self) {
        let now = now();
        let before = self.asked.filter(|(at, _)| now.duration_since(*at) < E::KEEP_READER);
        self.asked = Some((now, before.map_or(1, |(_, in_a_row)| in_a_row.saturating_add(1))));
    }

    /// Turns what a watch came to into the engine's input, and goes on watching.
    fn seen(
        &mut self,
        session: Session,
        watch: Option<E::Watch>,
        seen: Seen<E::Value>,
    ) -> Input<E::Value> {
        if let Some(watch) = watch {
            self.watching = Some((session, self.edge.listen(watch)));
        }
        match seen {
            Seen::Armed => Input::Armed(session),
            Seen::Event(event) => Input::Watched(session, event),
            Seen::Lost(failure) => Input::WatchLost(session, failure),
        }
    }

    /// Returns whether there is something new for the readers.
    fn carry_out(&mut self, effects: Vec<Effect<E::Value>>) -> Result<bool, Ended<P::Error>> {
        let mut is_news = false;
        // What follows from a judgement comes after all that was decided before it.
        let mut effects = VecDeque::from(effects);
        while let Some(effect) = effects.pop_front() {
            self.counting.effect(&effect);
            match effect {
                Effect::Fetch(session, known) => {
                    self.asks();
                    let reading = self.edge.read(self.reader.take(), known);
                    self.reading = Some((session, reading));
                }
                Effect::CancelFetch => self.reading = None,
                Effect::OpenWatch(session, known) => {
                    self.watching = Some((session, self.edge.arm(known)));
                }
                Effect::CloseWatch => self.watching = None,
                Effect::Offer(session, value) => {
                    // A newer one takes the place of the one that is being judged.
                    self.judging = None;
                    let mut judging = self.edge.judge(&value);
                    match at_once(&mut judging) {
                        Some(verdict) => {
                            let judged = Input::Judged(session, verdict);
                            effects.extend(self.engine.step(now(), judged));
                        }
                        None => self.judging = Some((session, judging)),
                    }
                }
                Effect::Publish(revision, value) => {
                    is_news = true;
                    self.log.changed(revision);
                    self.publisher.publish(revision, Some(value)).map_err(Ended::Unheard)?;
                }
                Effect::PublishRemoved(revision) => {
                    is_news = true;
                    self.log.removed(now(), revision);
                    self.publisher.publish(revision, None).map_err(Ended::Unheard)?;
                }
                Effect::Confirmed => {
                    self.log.confirmed();
                    self.publisher.confirmed();
                }
                Effect::Stale(failure) => {
                    self.log.stale(now(), &failure);
                    self.publisher.stale(Some(failure.message));
                }
                Effect::Fresh => {
                    self.log.fresh(now());
                    self.publisher.stale(None);
                }
                Effect::Report(report) => {
                    if let Report::Refused { failure, retry_in } = &report
                        && let Some(value) = self.engine.refused()
                    {
                        self.publisher.refused(value, Arc::clone(&failure.message), *retry_in);
                    }
                    match &report {
                        Report::FetchFailed { failure, .. }
                        | Report::Quarantined { role: Role::Reading, failure, .. } => {
                            self.publisher.failing(Some(Arc::clone(&failure.message)));
                        }
                        Report::Recovered => self.publisher.failing(None),
                        _ => {}
                    }
                    self.log.report(now(), report);
                }
                Effect::GiveUp(failure) => return Err(Ended::GaveUp(failure)),
            }
        }
        Ok(is_news)
    }
}

/// What a future comes to if it need not wait. If it must, it is polled again by whoever waits for it,
/// who is woken then.
fn at_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    match Pin::new(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => pending().await,
    }
}

/// Waits for what is in progress, if anything is, and takes it out.
async fn in_progress<F: Future + Unpin>(slot: &mut Option<(Session, F)>) -> (Session, F::Output) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_sources_have_the_same_timers() {
        assert_ne!(seed(), seed());
    }
}
