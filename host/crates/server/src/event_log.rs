//! Coalescing event log of all sources, for server-sent events.
//!
//! The log keeps the latest event of each source, ordered by sequence number. A newer event of a source replaces
//! the older one and gets the next number. A subscriber stores only the last number that it has read, so a slow
//! client skips superseded events and no client needs a queue.

use crate::{auth::Caller, etag::Tags};
use bytes::Bytes;
use http_body::{Body, Frame};
use jiff::Timestamp;
use reloader_api_types::{Event, SourceStatus};
use reloader_app::{Config, Handle};
use reloader_util::sync::Mutex;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep},
};

/// Latest event of each source, ordered by sequence number.
pub(crate) struct EventLog {
    /// Identifier of this start of the host. Sequence numbers of another start are invalid.
    boot: String,
    entries: Mutex<Entries>,
    /// Sequence number of the newest entry.
    newest: watch::Sender<u64>,
    handle: Handle,
    /// Becomes `true` when the server stops.
    stop: watch::Receiver<bool>,
    /// Serialises updates, so that an older status never replaces a newer one.
    update: tokio::sync::Mutex<()>,
    tags: Arc<Tags>,
}

/// Entries by source, and the sources by sequence number.
#[derive(Default)]
struct Entries {
    by_source: HashMap<String, Entry>,
    order: BTreeMap<u64, String>,
    last_number: u64,
}

/// Latest event of one source.
struct Entry {
    number: u64,
    /// Content of the event; `None` if the source was removed from the configuration.
    event: Option<Event>,
    /// Event as a server-sent event.
    frame: Bytes,
}

/// Event after which the client must discard its state: the events of all sources follow.
const BEGIN: &str = "event: begin\ndata: {}\n\n";
/// Time between two full scans of all sources. A scan finds changes that cause no notification, such as the
/// status of sinks.
const SCAN_INTERVAL: Duration = Duration::from_secs(1);
/// Delay before subscribing to the replacement of a source, which starts soon after the source stops.
const RESUBSCRIBE_DELAY: Duration = Duration::from_millis(20);
/// Idle time after which a comment is sent, to show that the connection is alive.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(15);
/// Size at which a chunk of events is complete.
const CHUNK_BYTES: usize = 64 << 10;
/// Upper bound of entries kept for removed sources. They are for clients that reconnect.
const MAX_REMOVED_ENTRIES: usize = 1024;

impl EventLog {
    pub(crate) fn new(handle: Handle, tags: Arc<Tags>, stop: watch::Receiver<bool>) -> Arc<Self> {
        let start = Timestamp::now().as_nanosecond();
        Arc::new(Self {
            boot: format!("{start:x}"),
            entries: Mutex::default(),
            newest: watch::Sender::default(),
            handle,
            stop,
            update: tokio::sync::Mutex::default(),
            tags,
        })
    }

    /// Updates the entries until the host stops.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut source_set = self.handle.source_set();
        let mut scan = interval(SCAN_INTERVAL);
        scan.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut subscriptions = JoinSet::new();
        // An ended source changes only when it is replaced, and that changes the set of sources. Until then it
        // counts as subscribed, so that the loop does not subscribe to it again.
        let (mut subscribed, mut ended) = (HashSet::new(), HashSet::new());
        loop {
            for status in self.handle.sources() {
                if let Some(mut reader) = self.handle.subscribe(&status.name)
                    && subscribed.insert(status.name.clone())
                {
                    let (log, name) = (Arc::clone(&self), status.name);
                    subscriptions.spawn(async move {
                        while reader.changed().await.is_ok() {
                            log.update(&name).await;
                        }
                        name
                    });
                }
            }
            tokio::select! {
                changed = source_set.changed() => match changed {
                    Ok(()) => subscribed.retain(|name| !ended.remove(name)),
                    Err(_) => return,
                },
                Some(closed) = subscriptions.join_next() => if let Ok(name) = closed {
                    let now = self.handle.source(&name);
                    if now.is_some_and(|now| now.state == "ended") {
                        ended.insert(name);
                    } else {
                        // The source was replaced: its replacement runs already, or starts soon.
                        subscribed.remove(&name);
                        sleep(RESUBSCRIBE_DELAY).await;
                    }
                },
                _ = scan.tick() => {}
            }
            // All sources stop with the host. Clients get no event for that.
            if self.handle.is_stopping() {
                return;
            }
            self.scan().await;
        }
    }

    /// Updates the entries of all sources, and marks removed sources.
    async fn scan(&self) {
        let all = self.handle.sources();
        let removed: Vec<_> = {
            let entries = self.entries.lock();
            let present = entries.by_source.iter().filter(|(_, entry)| entry.event.is_some());
            let is_removed = |name: &String| all.iter().all(|status| status.name != **name);
            present.map(|(name, _)| name).filter(|name| is_removed(name)).cloned().collect()
        };
        for name in removed {
            self.append(&name, None);
        }
        for status in all {
            self.update(&status.name).await;
        }
    }

    /// Appends the current status of a source.
    async fn update(&self, name: &str) {
        let _update = self.update.lock().await;
        let Some(status) = self.handle.source(name) else { return };
        // The ETag contains a digest, from which a short secret can be guessed: only readable values have one.
        let state = self
            .handle
            .subscribe(name)
            .map(|mut reader| reader.state())
            .filter(|state| state.revision.get() == status.revision)
            .filter(|_| self.handle.is_readable(name) == Some(true));
        let etag = match &state {
            Some(state) => self.tags.get(name, state).await.map(|tag| tag.to_string()),
            None => None,
        };
        let size = state.and_then(|state| state.value).map(|value| value.content.len() as u64);
        let SourceStatus { name, state, revision, at, pinned, error, sinks, .. } = status;
        let event = Event { source: name, state, revision, at, pinned, etag, size, error, sinks };
        let name = event.source.clone();
        self.append(&name, Some(event));
    }

    /// Replaces the entry of a source and wakes the subscribers, if the event differs from the previous one.
    fn append(&self, name: &str, event: Option<Event>) {
        let mut entries = self.entries.lock();
        let previous = entries.by_source.get(name);
        if previous.is_some_and(|previous| previous.event == event) {
            return;
        }
        if let Some(previous) = previous.map(|previous| previous.number) {
            entries.order.remove(&previous);
        }
        entries.last_number += 1;
        let number = entries.last_number;
        let is_removed = event.is_none();
        let frame = frame(&self.boot, number, name, event.as_ref());
        entries.order.insert(number, name.into());
        entries.by_source.insert(name.into(), Entry { number, event, frame });
        if is_removed {
            entries.evict_removed();
        }
        drop(entries);
        self.newest.send_replace(number);
    }

    /// Returns the number of open event streams.
    pub(crate) fn subscribers(&self) -> usize {
        self.newest.receiver_count()
    }

    /// Returns an event stream for `caller`, of the source `only` or of all sources. `last_event_id` is the `id`
    /// of the last event that the client has received.
    pub(crate) fn subscribe(
        self: &Arc<Self>,
        caller: Caller,
        only: Option<String>,
        last_event_id: Option<&str>,
    ) -> EventStream {
        let seen = last_event_id.and_then(|id| id.split_once('-'));
        let seen = seen.filter(|(boot, _)| *boot == self.boot);
        let seen = seen.and_then(|(_, number)| number.parse().ok());
        // A number that the log has not assigned yet is invalid.
        let seen = seen.filter(|seen| *seen <= self.entries.lock().last_number);
        let position = Position {
            log: Arc::clone(self),
            newest: self.newest.subscribe(),
            config: self.handle.config_changes(),
            caller,
            only,
            stop: self.stop.clone(),
            seen: seen.unwrap_or(0),
            start: Some(StreamStart { is_reset: seen.is_none() }),
        };
        EventStream { next: Box::pin(position.next()) }
    }
}

impl Entries {
    /// Drops the oldest entry of a removed source, if there are more than [`MAX_REMOVED_ENTRIES`].
    fn evict_removed(&mut self) {
        let removed = self.by_source.values().filter(|entry| entry.event.is_none()).count();
        if removed <= MAX_REMOVED_ENTRIES {
            return;
        }
        let oldest = self
            .order
            .iter()
            .find(|(_, name)| self.by_source.get(*name).is_some_and(|entry| entry.event.is_none()));
        if let Some((number, name)) = oldest.map(|(number, name)| (*number, name.clone())) {
            self.order.remove(&number);
            self.by_source.remove(&name);
        }
    }
}

/// Formats a server-sent event.
fn frame(boot: &str, number: u64, name: &str, event: Option<&Event>) -> Bytes {
    let (kind, data) = match event {
        Some(event) => ("source", serde_json::to_string(event)),
        None => ("gone", serde_json::to_string(&serde_json::json!({ "source": name }))),
    };
    // Compact JSON contains no line breaks, which would end the `data` field.
    let data = data.unwrap_or_default();
    format!("id: {boot}-{number}\nevent: {kind}\ndata: {data}\n\n").into()
}

/// State of an event stream whose first bytes are not sent yet.
struct StreamStart {
    /// `true` if the client must discard its state, since its last event is unknown.
    is_reset: bool,
}

/// Position of one subscriber in the log.
struct Position {
    log: Arc<EventLog>,
    newest: watch::Receiver<u64>,
    /// Wakes the subscriber when the permissions of the caller may have changed.
    config: watch::Receiver<Arc<Config>>,
    caller: Caller,
    /// Name of the only source to report; `None` for all sources.
    only: Option<String>,
    stop: watch::Receiver<bool>,
    /// Sequence number of the last entry that was read.
    seen: u64,
    start: Option<StreamStart>,
}

impl Position {
    /// Waits for new events and returns them; returns `None` at the end of the stream.
    ///
    /// The stream ends when the server stops, and when the credential of the caller is revoked.
    async fn next(mut self) -> Option<(Self, Bytes)> {
        if let Some(StreamStart { is_reset }) = self.start.take() {
            let mut start = String::from("retry: 1000\n\n");
            if is_reset {
                start += BEGIN;
            }
            return Some((self, start.into()));
        }
        loop {
            self.config.mark_unchanged();
            let caller = self.caller.reauthenticate(&self.log.handle).ok()?;
            let has_other_sources = caller.has_other_sources_than(&self.caller);
            self.caller = caller;
            if has_other_sources {
                // The client has no events of sources that became accessible: send all events again.
                self.seen = 0;
                return Some((self, Bytes::from_static(BEGIN.as_bytes())));
            }
            let _ = *self.newest.borrow_and_update();
            if let Some(chunk) = self.next_chunk() {
                return Some((self, chunk));
            }
            tokio::select! {
                changed = self.newest.changed() => changed.ok()?,
                changed = self.config.changed() => changed.ok()?,
                _ = self.stop.changed() => return None,
                () = sleep(HEARTBEAT_INTERVAL) => return Some((self, Bytes::from_static(b":\n\n"))),
            }
        }
    }

    /// Returns the next unread events, or `None` if there are none.
    fn next_chunk(&mut self) -> Option<Bytes> {
        let entries = self.log.entries.lock();
        let mut chunk = Vec::new();
        for (number, name) in entries.order.range(self.seen + 1..) {
            if chunk.len() >= CHUNK_BYTES {
                break;
            }
            self.seen = *number;
            let is_selected = self.only.as_ref().is_none_or(|only| only == name);
            if is_selected
                && self.caller.can_access(name)
                && let Some(entry) = entries.by_source.get(name)
            {
                chunk.extend_from_slice(&entry.frame);
            }
        }
        (!chunk.is_empty()).then(|| chunk.into())
    }
}

type Next = Pin<Box<dyn Future<Output = Option<(Position, Bytes)>> + Send>>;

/// Endless stream of events: the body of a response. hyper polls it for the next chunk only after the previous
/// chunk is written, so a slow client delays only itself.
pub(crate) struct EventStream {
    next: Next,
}

impl Body for EventStream {
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
