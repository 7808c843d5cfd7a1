//! A sink at work: what is new is handed to it, and again after a failure.

use super::{
    Delivered, Digest, Part, Retry, Sink, SinkError, SinkState, SinkStatus, Update, inputs::Inputs,
};
use async_trait::async_trait;
use jiff::Timestamp;
use reloader_engine::types::SourceName;
use reloader_source::store::Subscription;
use reloader_source::telemetry::{failed, span};
use reloader_util::{backoff, log_limit::LogLimit, units::Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};
use tracing::{Instrument, debug, error, info, warn};

/// How a worker goes about its sink.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerSettings {
    /// What one try may take.
    pub timeout: Duration,
    /// How often the same values are tried again, with growing pauses between.
    pub retries: u32,
    /// After that, they are tried again each time that so long has passed; if at all.
    pub retry_later: Option<Duration>,
    /// What is done when a source has no value any more.
    pub on_removed: OnRemoved,
    /// How a burst of changes is waited for. By default not at all with one source, and as
    /// [`WaitSettings::default`] says with several.
    pub wait: Option<WaitSettings>,
    /// Stands for the sink's own settings: with other ones, the same values are delivered again.
    pub fingerprint: String,
}

/// What is done when a source has no value any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnRemoved {
    /// The last one stays.
    #[default]
    Keep,
    /// That there is none is delivered: a file is removed, a command is run with the event `removed`.
    Clear,
}

/// How a burst of changes is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct WaitSettings {
    /// Nothing has changed for so long. Default: `50ms`.
    pub min: Time,
    /// It is waited no longer than this for that. Default: `1s`.
    pub max: Time,
}

impl Default for WaitSettings {
    fn default() -> Self {
        Self { min: Time(Duration::from_millis(50)), max: Time(Duration::from_secs(1)) }
    }
}

impl Default for WorkerSettings {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(30),
            retries: 10,
            retry_later: None,
            on_removed: OnRemoved::default(),
            wait: None,
            fingerprint: String::new(),
        }
    }
}

/// Remembers what was delivered last, also across a restart.
///
/// A worker that can be asked again and again what is there ([`Sink::looks_itself`]) only records.
#[async_trait]
pub trait Ledger: Send + Sync {
    /// What was recorded last; `None` if nothing was, or something was begun since.
    async fn last(&self) -> Option<Digest>;

    /// Something else is about to be delivered: from now on nobody knows what is there, until it is
    /// recorded. Otherwise a value that comes back after a crash might be taken for delivered.
    async fn begin(&self);

    /// This has been delivered.
    async fn record(&self, digest: Digest);
}

/// Remembers nothing across a restart.
#[derive(Debug, Clone, Copy, Default)]
pub struct Forgetful;

#[async_trait]
impl Ledger for Forgetful {
    async fn last(&self) -> Option<Digest> {
        None
    }

    async fn begin(&self) {}

    async fn record(&self, _: Digest) {}
}

/// A sink with its sources. It works while [`run`](Self::run) is polled.
pub struct Worker {
    name: String,
    inputs: Inputs,
    sink: Box<dyn Sink>,
    settings: WorkerSettings,
    ledger: Box<dyn Ledger>,
    status: watch::Sender<SinkStatus>,
    stop: (Arc<watch::Sender<bool>>, watch::Receiver<bool>),
    /// What the sink has, as far as is known.
    there: Option<Digest>,
    /// Whether a try has failed, and may have changed something all the same.
    is_unsure: bool,
    /// Those whose work this one's is about.
    after: Vec<watch::Receiver<SinkStatus>>,
    lines: LogLimit,
}

/// Ends a worker, when it has done what it is at.
#[derive(Debug, Clone)]
pub struct Stopper(Arc<watch::Sender<bool>>);

impl Stopper {
    /// The try that is in progress comes to its end; no other one follows.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

/// After some lines at once, that something was delivered is told once each time that this has passed.
const TELL_AGAIN: Duration = Duration::from_secs(1);
/// The first pause after a failure, and the longest.
const PAUSE: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// What a sink asks for is obeyed up to this.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);
/// Larger values are not hashed between others' work, in bytes.
const HASHED_HERE: usize = 64 << 10;

/// Why a worker goes on.
enum Next {
    /// There is something newer.
    News,
    /// Nothing else will come.
    Stopped,
    /// It is time.
    Due,
}

/// Whether a sink has got all of this. That a source has no value any more may be no matter to it.
fn has(status: &SinkStatus, update: &Update) -> bool {
    let there = |part: &Part| {
        let mut known = status.revisions.iter();
        known.any(|(source, revision)| *source == part.source && *revision >= part.revision)
    };
    update.parts().iter().all(|part| part.value.is_none() || there(part))
}

impl Worker {
    /// Of this name, for its log. Its sources are seen together: nothing is delivered until each of them
    /// has a value.
    pub fn new(
        name: impl Into<String>,
        inputs: Vec<(SourceName, Subscription)>,
        sink: Box<dyn Sink>,
        settings: WorkerSettings,
        ledger: Box<dyn Ledger>,
    ) -> Self {
        let inputs = Inputs::new(inputs, settings.on_removed);
        let (stop, stopped) = watch::channel(false);
        let waiting = SinkState::Waiting(inputs.missing());
        let (status, _) = watch::channel(SinkStatus { state: waiting, ..SinkStatus::default() });
        let stop = (Arc::new(stop), stopped);
        Self {
            name: name.into(),
            inputs,
            sink,
            settings,
            ledger,
            status,
            stop,
            there: None,
            is_unsure: false,
            after: Vec::new(),
            lines: LogLimit::new(TELL_AGAIN, Instant::now().into_std()),
        }
    }

    /// Delivers nothing before these others have delivered it: they write files, and this one tells of
    /// them. If one of them fails, it waits with it.
    #[must_use]
    pub fn after(mut self, others: Vec<watch::Receiver<SinkStatus>>) -> Self {
        self.after = others;
        self
    }

    /// How it is, from now on.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<SinkStatus> {
        self.status.subscribe()
    }

    /// What ends it in order. Its sources' end does so, too.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        Stopper(Arc::clone(&self.stop.0))
    }

    /// Delivers what is new, until its sources have been stopped. The last values are still tried, once.
    pub async fn run(mut self) {
        if !self.sink.looks_itself() {
            self.there = self.ledger.last().await;
        }
        self.inputs.look();
        while let Some(update) = self.next_update().await {
            match self.deliver(&update).await {
                Next::Stopped => break,
                Next::News => {}
                Next::Due => {
                    if let Next::Stopped = self.wait(None).await {
                        break;
                    }
                }
            }
        }
        self.status.send_modify(|status| {
            status.state = SinkState::Stopped;
            status.next_try = None;
        });
    }

    /// What is to be delivered, once all is there and a burst is over.
    async fn next_update(&mut self) -> Option<Update> {
        loop {
            let missing = self.inputs.missing();
            if missing.is_empty() {
                break;
            }
            self.say(|status| status.state = SinkState::Waiting(missing));
            if let Next::Stopped = self.wait(None).await {
                return None;
            }
        }
        let wait = match self.settings.wait {
            None if self.inputs.len() > 1 => Some(WaitSettings::default()),
            wait => wait,
        };
        if let Some(wait) = wait {
            self.say(|status| status.state = SinkState::Settling);
            let end = Instant::now() + wait.max.0;
            while let Next::News = self.wait(Some((Instant::now() + wait.min.0).min(end))).await {
                if Instant::now() >= end {
                    break;
                }
            }
        }
        if *self.stop.1.borrow() { None } else { self.inputs.update() }
    }

    /// Until there is something newer, or until then.
    async fn wait(&mut self, due: Option<Instant>) -> Next {
        loop {
            if *self.stop.1.borrow() {
                return Next::Stopped;
            }
            let until = due.unwrap_or_else(Instant::now);
            let changed = tokio::select! {
                changed = self.inputs.changed() => changed,
                _ = self.stop.1.changed() => return Next::Stopped,
                () = sleep_until(until), if due.is_some() => return Next::Due,
            };
            // What was published before the end is looked at as well.
            if self.inputs.look() {
                return Next::News;
            }
            if changed.is_err() {
                return Next::Stopped;
            }
        }
    }

    /// Hands it over, and tries again after a failure. [`Next::Due`]: there is nothing left to do.
    async fn deliver(&mut self, update: &Update) -> Next {
        let digest = self.digest(update).await;
        if self.there == Some(digest) {
            debug!(sink = self.name, "these values are there already");
            self.done(update, Delivered::Same);
            return Next::Due;
        }
        if let Some(next) = self.others(update).await {
            return next;
        }
        self.there = None;
        if !self.sink.looks_itself() {
            self.ledger.begin().await;
        }
        let mut tries = 0_u32;
        loop {
            tries += 1;
            self.say(|status| {
                status.state = SinkState::Delivering;
                status.next_try = None;
                status.retried += u64::from(tries > 1);
            });
            let error = match self.try_once(update).await {
                Ok(delivered) => {
                    // What finds its work done may have done it itself, in a try that was given up.
                    let is_unsure = std::mem::take(&mut self.is_unsure);
                    let delivered = if is_unsure { Delivered::Changed } else { delivered };
                    self.there = Some(digest);
                    self.ledger.record(digest).await;
                    self.done(update, delivered);
                    return Next::Due;
                }
                Err(error) => error,
            };
            self.is_unsure = true;
            // What is newer is better than what has failed.
            if self.inputs.look() {
                self.failed(&error, tries, Some(Duration::ZERO));
                return Next::News;
            }
            let Some(pause) = self.pause(&error, tries) else {
                self.failed(&error, tries, None);
                return Next::Due;
            };
            self.failed(&error, tries, Some(pause));
            match self.wait(Some(Instant::now() + pause)).await {
                Next::Due => {}
                next => return next,
            }
        }
    }

    /// Waits until the others have delivered this; or why not.
    async fn others(&mut self, update: &Update) -> Option<Next> {
        let mut others = std::mem::take(&mut self.after);
        let mut next = None;
        for other in &mut others {
            while next.is_none() && !has(&other.borrow_and_update(), update) {
                let has_ended = tokio::select! {
                    changed = other.changed() => changed.is_err(),
                    why = self.wait(None) => {
                        next = Some(why);
                        false
                    }
                };
                // One that has ended will not deliver it any more.
                if has_ended && !has(&other.borrow(), update) {
                    next = Some(self.wait(None).await);
                }
            }
        }
        self.after = others;
        next
    }

    async fn try_once(&self, update: &Update) -> Result<Delivered, SinkError> {
        let limit = self.settings.timeout;
        let delivering = async {
            let delivered = timeout(limit, self.sink.deliver(update)).await.unwrap_or_else(|_| {
                let limit = humantime::format_duration(limit);
                Err(SinkError::passing(format!(
                    "it took longer than {limit}, and was given up (`timeout`)"
                )))
            });
            if let Err(error) = &delivered {
                failed(error);
            }
            delivered
        };
        delivering.instrument(span!("deliver", sink = self.name, event = update.event())).await
    }

    /// How long to wait before the next try, if there is one.
    fn pause(&self, error: &SinkError, tries: u32) -> Option<Duration> {
        let asked = match error.retry {
            Retry::No => return None,
            Retry::Yes => Duration::ZERO,
            Retry::After(asked) => asked.min(RETRY_AFTER_MAX),
        };
        let pause = if tries <= self.settings.retries {
            backoff::exponential_with_jitter(PAUSE, PAUSE_MAX, tries - 1)
        } else {
            backoff::equal_jitter(self.settings.retry_later?)
        };
        Some(pause.max(asked))
    }

    async fn digest(&self, update: &Update) -> Digest {
        let fingerprint = &self.settings.fingerprint;
        if update.size() <= HASHED_HERE {
            return update.digest(fingerprint);
        }
        let (all, settings) = (update.clone(), fingerprint.clone());
        let hashing = tokio::task::spawn_blocking(move || all.digest(&settings));
        hashing.await.unwrap_or_else(|_| update.digest(fingerprint))
    }

    fn say(&self, change: impl FnOnce(&mut SinkStatus)) {
        self.status.send_modify(change);
    }

    /// The values are there.
    fn done(&mut self, update: &Update, delivered: Delivered) {
        let recovered = self.status.borrow().failing.is_some();
        if delivered == Delivered::Changed || recovered {
            self.tell(update);
        }
        self.say(|status| {
            let revisions = update.parts().iter().map(|part| (part.source.clone(), part.revision));
            status.revisions = revisions.collect();
            status.delivered = update.parts().first().map(|part| part.revision);
            status.at = Some(Timestamp::now());
            status.changes += u64::from(delivered == Delivered::Changed);
            status.succeeded += 1;
            status.state = SinkState::Done;
            (status.failing, status.attempts, status.next_try) = (None, 0, None);
        });
    }

    fn tell(&mut self, update: &Update) {
        let (sink, event) = (&self.name, update.event());
        match self.lines.allow(Instant::now().into_std()) {
            None => debug!(sink, event, "delivered"),
            Some(0) => info!(sink, event, "delivered"),
            Some(times) => {
                info!(sink, event, "delivered, and {times} times since this was told last")
            }
        }
    }

    /// They are not; and when it is tried again, if at all. What stays broken for the same reason is
    /// said once.
    fn failed(&self, error: &SinkError, tries: u32, pause: Option<Duration>) {
        let reason: Arc<str> = reloader_util::sanitize::sanitize(&error.message).into();
        let known = self.status.borrow().failing.as_ref() == Some(&reason);
        let left = self.settings.retries.saturating_sub(tries - 1);
        if pause.is_none() {
            error!(sink = self.name, tries, "not delivered, until something changes: {reason}");
        } else if left == 0 && tries == self.settings.retries + 1 {
            error!(
                sink = self.name,
                tries, "not delivered, and tried again now and then: {reason}"
            );
        } else if !known {
            warn!(sink = self.name, "not delivered, and tried again: {reason}");
        } else {
            debug!(sink = self.name, tries, "not delivered, and tried again: {reason}");
        }
        self.say(|status| {
            status.state = if pause.is_some() { SinkState::Retrying } else { SinkState::GivenUp };
            status.failing = Some(reason);
            status.failed += 1;
            status.attempts = tries;
            status.next_try = pause.and_then(|pause| Timestamp::now().checked_add(pause).ok());
        });
    }
}
