//! What has changed, for any number of readers: of each source the newest, and never a queue.
//!
//! A board has one note of each source. A reader goes from note to note in the order in which they were
//! put there; what was replaced meanwhile is not there any more. So a slow reader misses what is old, gets
//! what is newest, and costs no more than a fast one.

use crate::{auth::Caller, etag::Tags};
use bytes::Bytes;
use http_body::{Body, Frame};
use jiff::Timestamp;
use reloader_api_types::{Event, SourceStatus};
use reloader_app::{Config, Handle};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep},
};

/// One note of each source.
pub(crate) struct Board {
    /// Stands for this start of the host: numbers of another one mean nothing here.
    boot: String,
    notes: Mutex<Notes>,
    /// The number of the newest note.
    newest: watch::Sender<u64>,
    handle: Handle,
    /// Says when nothing else will come.
    stop: watch::Receiver<bool>,
    /// One looks at a time, so that nobody puts what is older over what is newer.
    looking: tokio::sync::Mutex<()>,
    tags: Arc<Tags>,
}

#[derive(Default)]
struct Notes {
    of: HashMap<String, Note>,
    order: BTreeMap<u64, String>,
    last: u64,
}

struct Note {
    number: u64,
    /// What it says; `None` if the source is gone.
    event: Option<Event>,
    frame: Bytes,
}

/// Everything follows: what was known before is not to be relied on.
const BEGIN: &str = "event: begin\ndata: {}\n\n";
/// How often that is looked at which wakes nobody, such as how sinks are.
const SWEEP: Duration = Duration::from_secs(1);
/// Where one source takes the place of another, it is followed after so long at the latest.
const BETWEEN: Duration = Duration::from_millis(20);
/// Who hears nothing for so long is told that the connection still stands.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// So much is handed over at a time, in bytes.
const PORTION: usize = 64 << 10;
/// So many sources that are gone are remembered, for those who were away.
const GONE_MAX: usize = 1024;

impl Board {
    pub(crate) fn new(handle: Handle, tags: Arc<Tags>, stop: watch::Receiver<bool>) -> Arc<Self> {
        let start = Timestamp::now().as_nanosecond();
        Arc::new(Self {
            boot: format!("{start:x}"),
            notes: Mutex::default(),
            newest: watch::Sender::default(),
            handle,
            stop,
            looking: tokio::sync::Mutex::default(),
            tags,
        })
    }

    /// Keeps the notes up to date.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut roster = self.handle.roster();
        let mut sweep = interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut followed = JoinSet::new();
        // Of those that have ended by themselves nothing comes before there is another one.
        let (mut names, mut ended) = (HashSet::new(), HashSet::new());
        loop {
            for status in self.handle.sources() {
                if let Some(mut reader) = self.handle.subscribe(&status.name)
                    && names.insert(status.name.clone())
                {
                    let (board, name) = (Arc::clone(&self), status.name);
                    followed.spawn(async move {
                        while reader.changed().await.is_ok() {
                            board.look(&name).await;
                        }
                        name
                    });
                }
            }
            tokio::select! {
                changed = roster.changed() => match changed {
                    Ok(()) => names.retain(|name| !ended.remove(name)),
                    Err(_) => return,
                },
                Some(closed) = followed.join_next() => if let Ok(name) = closed {
                    let now = self.handle.source(&name);
                    if now.is_some_and(|now| now.state == "ended") {
                        ended.insert(name);
                    } else {
                        // Another one of this name is there, or will be.
                        names.remove(&name);
                        sleep(BETWEEN).await;
                    }
                },
                _ = sweep.tick() => {}
            }
            // That sources end together with the host is no news of theirs.
            if self.handle.is_stopping() {
                return;
            }
            self.sweep().await;
        }
    }

    async fn sweep(&self) {
        let all = self.handle.sources();
        let gone: Vec<_> = {
            let notes = self.lock();
            let there = notes.of.iter().filter(|(_, note)| note.event.is_some());
            let is_gone = |name: &String| all.iter().all(|status| status.name != **name);
            there.map(|(name, _)| name).filter(|name| is_gone(name)).cloned().collect()
        };
        for name in gone {
            self.put(&name, None);
        }
        for status in all {
            self.look(&status.name).await;
        }
    }

    /// Notes how a source is now.
    async fn look(&self, name: &str) {
        let _alone = self.looking.lock().await;
        let Some(status) = self.handle.source(name) else { return };
        // A digest is as good as a short secret.
        let state = self
            .handle
            .subscribe(name)
            .map(|mut reader| reader.state())
            .filter(|state| state.revision.get() == status.revision)
            .filter(|_| self.handle.is_readable(name) == Some(true));
        let etag = match &state {
            Some(state) => self.tags.of(name, state).await.map(|tag| tag.to_string()),
            None => None,
        };
        let size = state.and_then(|state| state.value).map(|value| value.content.len() as u64);
        let SourceStatus { name, state, revision, at, pinned, trouble, sinks, .. } = status;
        let event = Event { source: name, state, revision, at, pinned, etag, size, trouble, sinks };
        let name = event.source.clone();
        self.put(&name, Some(event));
    }

    fn put(&self, name: &str, event: Option<Event>) {
        let mut notes = self.lock();
        let before = notes.of.get(name);
        if before.is_some_and(|before| before.event == event) {
            return;
        }
        if let Some(before) = before.map(|before| before.number) {
            notes.order.remove(&before);
        }
        notes.last += 1;
        let number = notes.last;
        let is_gone = event.is_none();
        let frame = frame(&self.boot, number, name, event.as_ref());
        notes.order.insert(number, name.into());
        notes.of.insert(name.into(), Note { number, event, frame });
        if is_gone {
            notes.forget();
        }
        drop(notes);
        self.newest.send_replace(number);
    }

    fn lock(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many readers there are.
    pub(crate) fn readers(&self) -> usize {
        self.newest.receiver_count()
    }

    /// A reader; `last` is what it has seen before, as the `id` of an event says it.
    pub(crate) fn read(
        self: &Arc<Self>,
        caller: Caller,
        only: Option<String>,
        last: Option<&str>,
    ) -> Reading {
        let seen = last.and_then(|last| last.split_once('-'));
        let seen = seen.filter(|(boot, _)| *boot == self.boot);
        let seen = seen.and_then(|(_, number)| number.parse().ok());
        // A number that has not been given yet is none.
        let seen = seen.filter(|seen| *seen <= self.lock().last);
        let position = Position {
            board: Arc::clone(self),
            newest: self.newest.subscribe(),
            config: self.handle.config_changes(),
            caller,
            only,
            stop: self.stop.clone(),
            seen: seen.unwrap_or(0),
            begins: Some(seen.is_none()),
        };
        Reading { next: Box::pin(position.next()) }
    }
}

impl Notes {
    /// Those that are gone are not remembered for ever.
    fn forget(&mut self) {
        let gone = self.of.values().filter(|note| note.event.is_none()).count();
        if gone <= GONE_MAX {
            return;
        }
        let oldest = self
            .order
            .iter()
            .find(|(_, name)| self.of.get(*name).is_some_and(|note| note.event.is_none()));
        if let Some((number, name)) = oldest.map(|(number, name)| (*number, name.clone())) {
            self.order.remove(&number);
            self.of.remove(&name);
        }
    }
}

fn frame(boot: &str, number: u64, name: &str, event: Option<&Event>) -> Bytes {
    let (kind, data) = match event {
        Some(event) => ("source", serde_json::to_string(event)),
        None => ("gone", serde_json::to_string(&serde_json::json!({ "source": name }))),
    };
    // JSON has no line breaks of its own.
    let data = data.unwrap_or_default();
    format!("id: {boot}-{number}\nevent: {kind}\ndata: {data}\n\n").into()
}

/// Where a reader is.
struct Position {
    board: Arc<Board>,
    newest: watch::Receiver<u64>,
    /// Wakes the reader when the caller's rights may have changed.
    config: watch::Receiver<Arc<Config>>,
    caller: Caller,
    only: Option<String>,
    stop: watch::Receiver<bool>,
    seen: u64,
    /// Whether it is to be told that everything follows; `None` when the greeting has been said.
    begins: Option<bool>,
}

impl Position {
    /// What is to be said next, once there is something; `None` at the end.
    async fn next(mut self) -> Option<(Self, Bytes)> {
        if let Some(begins) = self.begins.take() {
            let mut greeting = String::from("retry: 1000\n\n");
            if begins {
                greeting += BEGIN;
            }
            return Some((self, greeting.into()));
        }
        loop {
            self.config.mark_unchanged();
            let now = self.caller.again(&self.board.handle).ok()?;
            let sees_others = now.sees_other_than(&self.caller);
            self.caller = now;
            if sees_others {
                // From the beginning: what they may know of now, they have not been told.
                self.seen = 0;
                return Some((self, Bytes::from_static(BEGIN.as_bytes())));
            }
            let _ = *self.newest.borrow_and_update();
            if let Some(portion) = self.portion() {
                return Some((self, portion));
            }
            tokio::select! {
                changed = self.newest.changed() => changed.ok()?,
                changed = self.config.changed() => changed.ok()?,
                _ = self.stop.changed() => return None,
                () = sleep(HEARTBEAT) => return Some((self, Bytes::from_static(b":\n\n"))),
            }
        }
    }

    /// What there is that it has not seen.
    fn portion(&mut self) -> Option<Bytes> {
        let notes = self.board.lock();
        let mut portion = Vec::new();
        for (number, name) in notes.order.range(self.seen + 1..) {
            if portion.len() >= PORTION {
                break;
            }
            self.seen = *number;
            let is_wanted = self.only.as_ref().is_none_or(|only| only == name);
            if is_wanted
                && self.caller.sees(name)
                && let Some(note) = notes.of.get(name)
            {
                portion.extend_from_slice(&note.frame);
            }
        }
        (!portion.is_empty()).then(|| portion.into())
    }
}

type Next = Pin<Box<dyn Future<Output = Option<(Position, Bytes)>> + Send>>;

/// The events, as the body of an answer. It is asked for more only when what there was is on its way.
pub(crate) struct Reading {
    next: Next,
}

impl Body for Reading {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match ready!(self.next.as_mut().poll(context)) {
            Some((position, bytes)) => {
                self.next = Box::pin(position.next());
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            None => {
                self.next = Box::pin(std::future::ready(None));
                Poll::Ready(None)
            }
        }
    }
}
