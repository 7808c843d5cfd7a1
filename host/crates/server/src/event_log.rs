//! Coalescing event log of all sources, for server-sent events.
//!
//! The log keeps the latest event of each source, ordered by sequence number. A newer event of a source replaces
//! the older one and gets the next number. A subscriber stores only the last number that it has read, so a slow
//! client skips superseded events and no client needs a queue.

use crate::{auth::Caller, etag::Tags, event_log_entries::Entries};
use bytes::Bytes;
use http_body::{Body, Frame};
use jiff::Timestamp;
use reloader_api_types::{Event, SourceStatus};
use reloader_app::{Config, Handle};
use reloader_engine::types::SourceName;
use reloader_util::sync::Mutex;
use std::{
    collections::BTreeSet,
    convert::Infallible,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::consume_budget,
    time::sleep,
};

/// Latest event of each source, ordered by sequence number.
pub(crate) struct EventLog {
    /// Identifier of this start of the host. Sequence numbers of another start are invalid.
    boot: String,
    entries: Mutex<Entries>,
    /// Sequence number of the newest entry.
    newest: watch::Sender<u64>,
    pub(crate) handle: Handle,
    /// Requests of new subscribers to the updater, which answers when the entries are up to date.
    update_requests: mpsc::Sender<oneshot::Sender<()>>,
    /// Becomes `true` when the server stops.
    stop: watch::Receiver<bool>,
    tags: Arc<Tags>,
}

/// Event `begin`: the client must discard its state, since the latest events of all sources follow.
const BEGIN: &str = "event: begin\ndata: {}\n\n";
/// Idle time after which a comment is sent, to show that the connection is alive.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(15);
/// Size from which a chunk of events is complete and is sent, in bytes.
const CHUNK_BYTES: usize = 64 << 10;
/// Maximum number of queued requests of new subscribers. Further subscribers wait for space in the queue.
const MAX_UPDATE_REQUESTS: usize = 64;

impl EventLog {
    /// Creates an empty log. The updater of the log answers the returned update requests.
    pub(crate) fn new(
        handle: Handle,
        tags: Arc<Tags>,
        stop: watch::Receiver<bool>,
    ) -> (Arc<Self>, mpsc::Receiver<oneshot::Sender<()>>) {
        let start = Timestamp::now().as_nanosecond();
        let (update_requests, requests) = mpsc::channel(MAX_UPDATE_REQUESTS);
        let log = Arc::new(Self {
            boot: format!("{start:x}"),
            entries: Mutex::default(),
            newest: watch::Sender::default(),
            handle,
            update_requests,
            stop,
            tags,
        });
        (log, requests)
    }

    /// Updates the entries of sources to their present status.
    pub(crate) async fn update(&self, names: &BTreeSet<SourceName>) {
        for name in names {
            // All sources stop with the host. Clients get no event for that.
            if self.handle.is_stopping() {
                return;
            }
            let event = self.event(name.as_str()).await;
            let appended = self.entries.lock().append(&self.boot, name.as_str(), event);
            if let Some(number) = appended {
                self.newest.send_replace(number);
            }
            consume_budget().await;
        }
    }

    /// Returns the event with the present status of a source; `None` if the source does not exist.
    async fn event(&self, name: &str) -> Option<Event> {
        let status = self.handle.source(name)?;
        // A short secret can be guessed from the digest in its ETag, so only readable values have an ETag.
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
        Some(Event { source: name, state, revision, at, pinned, etag, size, error, sinks })
    }

    /// Returns the names of the sources that have an entry.
    pub(crate) fn logged_sources(&self) -> BTreeSet<SourceName> {
        self.entries.lock().by_source.keys().map(SourceName::new).collect()
    }

    /// Waits until the entries contain all status changes that happened before the call.
    async fn updated(&self) {
        let (answer, answered) = oneshot::channel();
        // Both calls fail only if the updater has stopped, because the server was dropped.
        let _ = self.update_requests.send(answer).await;
        let _ = answered.await;
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
            dropped_at_start: 0,
            start: Some(StreamStart { is_reset: seen.is_none() }),
        };
        EventStream { next: Box::pin(position.next()) }
    }
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
    /// Value of [`Entries::last_dropped`] when the client has last discarded its state.
    dropped_at_start: u64,
    start: Option<StreamStart>,
}

impl Position {
    /// Waits for new events and returns them; returns `None` at the end of the stream.
    ///
    /// The stream ends when the server stops, and when the credential of the caller is revoked.
    async fn next(mut self) -> Option<(Self, Bytes)> {
        if let Some(StreamStart { is_reset }) = self.start.take() {
            // Entries may be outdated if the log had no subscribers.
            self.log.updated().await;
            let mut start = String::from("retry: 1000\n\n");
            if is_reset {
                self.restart();
                start += BEGIN;
            }
            return Some((self, start.into()));
        }
        loop {
            self.config.mark_unchanged();
            let caller = self.caller.reauthenticate(&self.log.handle).ok()?;
            let has_other_sources = caller.has_other_sources_than(&self.caller);
            self.caller = caller;
            // All events are sent again if the client lacks the events of newly accessible sources, or has missed the
            // removal of a source.
            if has_other_sources || self.has_missed_removal() {
                self.restart();
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

    /// Moves to the start of the log, for a client that discards its state.
    fn restart(&mut self) {
        self.seen = 0;
        self.dropped_at_start = self.log.entries.lock().last_dropped;
    }

    /// Returns `true` if the entry of a removed source was dropped before the client has read it.
    fn has_missed_removal(&self) -> bool {
        self.log.entries.lock().last_dropped > self.seen.max(self.dropped_at_start)
    }

    /// Returns the next unread events, or `None` if there are none.
    fn next_chunk(&mut self) -> Option<Bytes> {
        let entries = self.log.entries.lock();
        if let Some(only) = &self.only {
            let seen = mem::replace(&mut self.seen, entries.last_number);
            let entry = entries.by_source.get(only).filter(|entry| entry.number > seen)?;
            return self.caller.can_access(only).then(|| entry.frame.clone());
        }
        let mut chunk = Vec::new();
        for (number, name) in entries.order.range(self.seen + 1..) {
            if chunk.len() >= CHUNK_BYTES {
                break;
            }
            self.seen = *number;
            if self.caller.can_access(name)
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
