//! One source at work: a task that owns its engine, its origin and the store's writer.

use crate::{
    engine::{Effect, Engine, Input, Report, Session, Settings},
    model::{Cursor, Event, Failure, FailureKind, Outcome, SourceName, Strategy},
    origin::{Origin, Read, Watch},
    store::Writer,
};
use std::{
    future::{Future, pending},
    hash::{DefaultHasher, Hash, Hasher},
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

/// A reader that will not be needed for this long is dropped, with its instance and connection.
const KEEP_READER: Duration = Duration::from_secs(2);

/// Something that goes on for one of the engine's sessions.
type InProgress<T> = (Session, Pin<Box<dyn Future<Output = T> + Send>>);
type ReadDone = (Box<dyn Read>, Result<Outcome, Failure>);
type WatchDone = (Option<Box<dyn Watch>>, Step);

/// What a watch came to.
enum Step {
    Armed,
    Event(Event),
    Lost(Failure),
}

/// Why reading and watching failed last, as far as it has been said.
#[derive(Debug, Default)]
struct Logged {
    reading: Option<Arc<str>>,
    watching: Option<Arc<str>>,
}

/// Tells a running driver something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    /// Read the source now.
    Reload,
}

pub(crate) struct Driver {
    name: SourceName,
    origin: Arc<dyn Origin>,
    engine: Engine,
    writer: Writer,
    reader: Option<Box<dyn Read>>,
    reading: Option<InProgress<ReadDone>>,
    watching: Option<InProgress<WatchDone>>,
    /// The reasons that were logged last, so that what stays broken is said once.
    logged: Logged,
    strategy: Strategy,
    /// Whether a watch has been armed, ever.
    has_watched: bool,
    /// The settings cannot work, and have never worked: there is nothing to go on with.
    hopeless: Option<Failure>,
}

impl Driver {
    pub(crate) fn new(
        name: SourceName,
        origin: Arc<dyn Origin>,
        settings: Settings,
        writer: Writer,
    ) -> Self {
        let mut seed = DefaultHasher::new();
        (name.as_str(), std::process::id()).hash(&mut seed);
        Self {
            strategy: settings.strategy,
            has_watched: false,
            engine: Engine::new(settings, seed.finish(), now()),
            name,
            origin,
            writer,
            reader: None,
            reading: None,
            watching: None,
            logged: Logged::default(),
            hopeless: None,
        }
    }

    /// Ends when the commands' sender is dropped, or with the reason why the settings cannot work.
    pub(crate) async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
    ) -> Result<(), Failure> {
        let effects = self.engine.start(now());
        self.carry_out(effects);
        loop {
            let deadline = self.engine.deadline();
            let let_go = self.let_go_at();
            let input = tokio::select! {
                biased;
                (session, (watch, step)) = in_progress(&mut self.watching) => {
                    self.watched(session, watch, step)
                }
                (session, (reader, result)) = in_progress(&mut self.reading) => {
                    self.reader = Some(reader);
                    Input::Fetched(session, result)
                }
                command = commands.recv() => match command {
                    Some(Command::Reload) => Input::ReloadNow,
                    None => return Ok(()),
                },
                () = until(deadline) => Input::Tick,
                () = until(let_go) => {
                    self.reader = None;
                    continue;
                }
            };
            let effects = self.engine.step(now(), input);
            self.carry_out(effects);
            if let Some(failure) = self.hopeless {
                return Err(failure);
            }
        }
    }

    /// When the reader is dropped, if that is worth it.
    fn let_go_at(&self) -> Option<Instant> {
        self.reader.as_ref()?;
        let next = self.engine.next_fetch()?;
        let now = now();
        (next > now + KEEP_READER).then(|| now + KEEP_READER)
    }

    /// Turns what a watch came to into the engine's input, and goes on watching.
    fn watched(&mut self, session: Session, watch: Option<Box<dyn Watch>>, step: Step) -> Input {
        if let Some(mut watch) = watch {
            let next = Box::pin(async move {
                match watch.next().await {
                    Ok(event) => (Some(watch), Step::Event(event)),
                    Err(failure) => (None, Step::Lost(failure)),
                }
            });
            self.watching = Some((session, next));
        }
        match step {
            Step::Armed => Input::Armed(session),
            Step::Event(event) => Input::Watched(session, event),
            Step::Lost(failure) => Input::WatchLost(session, failure),
        }
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Fetch(session, known) => self.fetch(session, known),
                Effect::OpenWatch(session, known) => self.open_watch(session, known),
                Effect::CloseWatch => self.watching = None,
                Effect::Publish(snapshot) => {
                    let bytes = snapshot.content.len();
                    let revision = self.writer.publish(Some(snapshot));
                    debug!(source = %self.name, %revision, bytes, "changed");
                }
                Effect::PublishRemoved => {
                    let revision = self.writer.publish(None);
                    info!(source = %self.name, %revision, "removed");
                }
                Effect::Stale(failure) => {
                    warn!(source = %self.name, reason = %failure, "the value is stale");
                    self.writer.stale(Some(failure.message));
                }
                Effect::Fresh => {
                    info!(source = %self.name, "the value is fresh again");
                    self.writer.stale(None);
                }
                Effect::Report(report) => self.report(report),
            }
        }
    }

    fn fetch(&mut self, session: Session, known: Option<Cursor>) {
        let mut reader = self.reader.take().unwrap_or_else(|| self.origin.reader());
        let reading = Box::pin(async move {
            let result = reader.read(known).await;
            (reader, result)
        });
        self.reading = Some((session, reading));
    }

    fn open_watch(&mut self, session: Session, known: Option<Cursor>) {
        let origin = Arc::clone(&self.origin);
        let arming = Box::pin(async move {
            match origin.arm(known).await {
                Ok(watch) => (Some(watch), Step::Armed),
                Err(failure) => (None, Step::Lost(failure)),
            }
        });
        self.watching = Some((session, arming));
    }

    /// Says a reason once at its own level, and again only in the details until it changes.
    fn report(&mut self, report: Report) {
        let source = &self.name;
        let (doing, logged, failure, retry_in) = match report {
            Report::Watching => {
                self.has_watched = true;
                return match self.logged.watching.take() {
                    Some(_) => info!(%source, "watching again"),
                    None => debug!(%source, "watching"),
                };
            }
            Report::NothingYet => return info!(%source, "there is no value yet"),
            Report::Recovered => {
                if self.logged.reading.take().is_some() {
                    info!(%source, "the source answers again");
                }
                return;
            }
            Report::Doubt { ask_again_in } => {
                let again = humantime::format_duration(ask_again_in);
                return debug!(%source, "there seems to be nothing; asking again in {again}");
            }
            Report::FetchFailed { failure, .. } | Report::WatchLost { failure, .. }
                if failure.kind == FailureKind::Config && !self.writer.has_published() =>
            {
                return self.hopeless = Some(failure);
            }
            // Without a watch, ever, this strategy would show the first value and nothing else.
            Report::WatchLost { failure, .. }
                if failure.kind == FailureKind::Permanent
                    && self.strategy == Strategy::Realtime
                    && !self.has_watched =>
            {
                let message = format!("it cannot be watched (strategy realtime): {failure}");
                return self.hopeless = Some(Failure::new(FailureKind::Config, message));
            }
            Report::FetchFailed { failure, retry_in } => {
                ("reading", &mut self.logged.reading, failure, retry_in)
            }
            Report::WatchLost { failure, retry_in } => {
                ("watching", &mut self.logged.watching, failure, retry_in)
            }
        };
        let milliseconds = retry_in.as_millis().try_into().unwrap_or(u64::MAX);
        let retry_in = humantime::format_duration(Duration::from_millis(milliseconds));
        if logged.as_ref() == Some(&failure.message) {
            return debug!(%source, %retry_in, "{doing} failed again: {failure}");
        }
        if doing == "watching" && failure.kind == FailureKind::Permanent {
            // Not to be told of changes is a property of the source, not an incident.
            info!(%source, "{failure}");
        } else {
            warn!(%source, %retry_in, "{doing} failed: {failure}");
        }
        *logged = Some(failure.message);
    }
}

/// tokio's clock, so that tests can stop it.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => pending().await,
    }
}

/// Waits for what is in progress, if anything is, and takes it out.
async fn in_progress<T>(slot: &mut Option<InProgress<T>>) -> (Session, T) {
    match slot {
        Some((session, future)) => {
            let session = *session;
            let output = future.await;
            *slot = None;
            (session, output)
        }
        None => pending().await,
    }
}
