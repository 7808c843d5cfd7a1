//! The thread that writes: what waits goes into a transaction, and then those who wait for it are told.

use super::{Record, Saved, Settings};
use crate::{
    batch::{Batch, Turn},
    database::Book,
    error::{Fault, ReadError},
    state_dir::Directory,
    write_set::{Tables, Work},
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

/// Who is told what became of a record.
pub(crate) type Then = Box<dyn FnOnce(Saved) + Send>;

/// When more waits in all, each source has one value waiting, in bytes.
const WAITING: usize = 64 << 20;
/// A disk that has failed is tried again after this …
const PAUSE: Duration = Duration::from_millis(500);
/// … and twice as long each time that it fails again, up to this.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// How the state is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Health {
    /// Why nothing is written now, and since when, if it is not. What is published meanwhile is not known
    /// after a crash.
    pub failing: Option<Failing>,
    /// How often something was written.
    pub commits: u64,
    /// How often that has failed.
    pub failures: u64,
}

/// Nothing can be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failing {
    /// Why, in words for the operator.
    pub reason: Arc<str>,
    /// Since when.
    pub since: Timestamp,
}

/// What those who use the state share with the thread.
#[derive(Default)]
pub(crate) struct Shared {
    queue: Mutex<Queue>,
    /// Something waits, or it is to end.
    wake: Condvar,
    ended: Condvar,
    writer: OnceLock<ThreadId>,
    /// None while it cannot be used.
    book: RwLock<Option<Book>>,
}

#[derive(Default)]
struct Queue {
    waiting: Batch,
    /// Of the values that wait.
    bytes: usize,
    health: Health,
    is_closing: bool,
    /// Why not all of it was written, if that is so.
    ended: Option<Result<(), Arc<str>>>,
}

impl Shared {
    pub(crate) fn start(
        directory: Directory,
        book: Book,
        settings: Settings,
    ) -> io::Result<Arc<Self>> {
        let shared = Arc::new(Self { book: RwLock::new(Some(book)), ..Self::default() });
        let writer = Writer {
            shared: Arc::clone(&shared),
            directory,
            settings,
            turn: Turn::default(),
            unwritten: Batch::default(),
            retry: None,
        };
        thread::Builder::new().name("state".into()).spawn(move || writer.run())?;
        Ok(shared)
    }

    /// Adds to what waits of a source.
    pub(crate) fn add(&self, name: &SourceName, work: impl FnOnce(&mut Work)) {
        let mut queue = self.queue();
        if queue.is_closing {
            return;
        }
        work(queue.waiting.sources.entry(name.clone()).or_default());
        self.wake.notify_one();
    }

    pub(crate) fn record(&self, name: &SourceName, record: Record, then: Then) {
        let mut queue = self.queue();
        if queue.is_closing {
            drop(queue);
            return then(Saved::NotDurable("the state is closed".into()));
        }
        let is_full = queue.bytes > WAITING;
        queue.bytes += record.size();
        let work = queue.waiting.sources.entry(name.clone()).or_default();
        let replaced = work.push(record, then, is_full);
        if let Some((record, _)) = &replaced {
            queue.bytes = queue.bytes.saturating_sub(record.size());
        }
        drop(queue);
        self.wake.notify_one();
        if let Some((_, Some(then))) = replaced {
            then(Saved::Replaced);
        }
    }

    pub(crate) fn forget(&self, name: &SourceName, then: Then) {
        let mut queue = self.queue();
        if queue.is_closing {
            drop(queue);
            return then(Saved::NotDurable("the state is closed".into()));
        }
        let work = queue.waiting.sources.entry(name.clone()).or_default();
        let before = std::mem::replace(work, Work { forget: Some(Some(then)), ..Work::default() });
        drop(queue);
        self.wake.notify_one();
        let Work { forget, records, .. } = before;
        let recorded = records.into_iter().filter_map(|(_, then)| then);
        forget.flatten().into_iter().chain(recorded).for_each(|then| then(Saved::Replaced));
    }

    pub(crate) fn configured(&self, configured: BTreeMap<SourceName, bool>) {
        self.queue().waiting.configured = Some(configured);
        self.wake.notify_one();
    }

    pub(crate) fn health(&self) -> Health {
        self.queue().health.clone()
    }

    pub(crate) fn read<T>(
        &self,
        work: impl FnOnce(&redb::ReadTransaction) -> Result<T, Fault>,
    ) -> Result<T, ReadError> {
        let book = self.book.read().unwrap_or_else(PoisonError::into_inner);
        let Some(book) = &*book else {
            let failing = self.health().failing;
            let reason = failing.map_or_else(|| "it is closed".into(), |failing| failing.reason);
            return Err(ReadError::Unavailable(reason));
        };
        Ok(book.read(work)?)
    }

    /// Writes what waits, and ends. Why not all of it was written, if that is so.
    pub(crate) fn close(&self, within: Duration) -> Result<(), Arc<str>> {
        let mut queue = self.queue();
        queue.is_closing = true;
        self.wake.notify_one();
        if self.writer.get() == Some(&thread::current().id()) {
            // What follows from a value held the last handle. It cannot wait for itself.
            return Ok(());
        }
        let (queue, _) = self
            .ended
            .wait_timeout_while(queue, within, |queue| queue.ended.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        let late = || Err(format!("it was not written within {within:?}").into());
        queue.ended.clone().unwrap_or_else(late)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread.
struct Writer {
    shared: Arc<Shared>,
    directory: Directory,
    settings: Settings,
    turn: Turn,
    /// What a failing disk has not taken.
    unwritten: Batch,
    /// While it fails.
    retry: Option<Retry>,
}

struct Retry {
    at: Instant,
    pause: Duration,
}

impl Writer {
    fn run(mut self) {
        let _ = self.shared.writer.set(thread::current().id());
        while let Some(mut batch) = self.next() {
            let thens = batch.thens();
            let saved = self.save(batch);
            for then in thens {
                // What one of them does is nothing to the others.
                let told = catch_unwind(AssertUnwindSafe(|| then(saved.clone())));
                if told.is_err() {
                    tracing::error!("what follows from a value that was remembered has panicked");
                }
            }
        }
        *self.shared.book.write().unwrap_or_else(PoisonError::into_inner) = None;
        let Self { shared, directory, unwritten, .. } = self;
        // Whoever waits for the end may open it again.
        drop(directory);
        let mut queue = shared.queue();
        let failing = queue.health.failing.as_ref().map(|failing| Arc::clone(&failing.reason));
        queue.ended = Some(match failing {
            Some(reason) if !unwritten.is_empty() => Err(reason),
            Some(_) | None => Ok(()),
        });
        shared.ended.notify_all();
    }

    /// Waits for something to do; `None` at the end.
    fn next(&mut self) -> Option<Batch> {
        let mut queue = self.shared.queue();
        loop {
            if !queue.waiting.is_empty() {
                let batch = queue.waiting.next(&mut self.turn);
                queue.bytes = queue.waiting.bytes();
                return Some(batch);
            }
            let now = Instant::now();
            if queue.is_closing {
                // One last time, in case that the disk works again.
                return (self.retry.take().is_some() && !self.unwritten.is_empty())
                    .then(Batch::default);
            }
            let wake = &self.shared.wake;
            queue = match &self.retry {
                Some(retry) if retry.at <= now => return Some(Batch::default()),
                Some(retry) => {
                    let waited = wake.wait_timeout(queue, retry.at - now);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => wake.wait(queue).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    fn save(&mut self, batch: Batch) -> Saved {
        if let Some(retry) = &self.retry
            && Instant::now() < retry.at
        {
            self.unwritten.and(batch);
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
                self.unwritten.and(batch);
                self.failed(&reason);
                self.not_durable()
            }
        }
    }

    /// After a failure the database has to be opened again.
    fn reopen(&self) -> Result<(), String> {
        if self.shared.queue().health.failing.is_none() {
            return Ok(());
        }
        let mut book = self.shared.book.write().unwrap_or_else(PoisonError::into_inner);
        // Closed before it is opened.
        *book = None;
        let (opened, _) = Book::open(&self.directory).map_err(|error| error.to_string())?;
        *book = Some(opened);
        Ok(())
    }

    fn write(&self, batch: &Batch) -> Result<(), String> {
        let book = self.shared.book.read().unwrap_or_else(PoisonError::into_inner);
        let book = book.as_ref().ok_or("it is closed")?;
        let now = Timestamp::now();
        let written = book.write(|transaction| {
            let mut tables = Tables::open(transaction)?;
            for batch in [&self.unwritten, batch] {
                for (name, work) in &batch.sources {
                    tables.write(name, work, &self.settings, now)?;
                }
            }
            if let Some(configured) =
                batch.configured.as_ref().or(self.unwritten.configured.as_ref())
            {
                tables.configured(configured, &self.settings, now)?;
            }
            Ok(())
        });
        written.map_err(|fault| fault.to_string())
    }

    fn recovered(&self) {
        let mut queue = self.shared.queue();
        queue.health.commits += 1;
        if let Some(failing) = queue.health.failing.take() {
            drop(queue);
            let for_how_long = Timestamp::now().duration_since(failing.since).as_secs();
            tracing::info!("the state is written again, after {for_how_long} s");
        }
    }

    fn failed(&mut self, reason: &str) {
        let pause = self.retry.as_ref().map_or(PAUSE, |retry| (retry.pause * 2).min(PAUSE_MAX));
        self.retry = Some(Retry { at: Instant::now() + pause, pause });
        let mut queue = self.shared.queue();
        queue.health.failures += 1;
        let since = queue.health.failing.take().map(|failing| failing.since);
        let reason: Arc<str> = reloader_util::sanitize::sanitize(reason).into();
        queue.health.failing = Some(Failing {
            reason: Arc::clone(&reason),
            since: since.unwrap_or_else(Timestamp::now),
        });
        drop(queue);
        if since.is_none() {
            let path = self.directory.database();
            tracing::warn!(
                "the state cannot be written to {}: {reason}; values are published all the same, and would \
                 be unknown after a crash; it is tried again",
                path.display()
            );
        } else {
            tracing::debug!("the state cannot be written yet: {reason}");
        }
    }

    fn not_durable(&self) -> Saved {
        let failing = self.shared.health().failing;
        Saved::NotDurable(
            failing.map_or_else(|| "it was not written".into(), |failing| failing.reason),
        )
    }
}
