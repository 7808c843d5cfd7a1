//! A Rust reloader and its receivers, as the two sides of a driver.

use super::{RealtimeWatchHandle, ReloaderSender, Stale, WatchEvent};
use crate::driver::{Edge, Publish, Seen};
use jiff::Timestamp;
use reloader_engine::types::{Cursor, Event, Failure, FailureKind, Outcome, Revision, Value};
use std::{
    future::{self, Future, Ready},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::sync::watch;

/// What `async_trait` makes of a function. `E` is the reloader's error. No bound of the API is
/// repeated here: with `S = &'static str`, bounds that speak of `'static` would keep the compiler
/// from seeing that a service's future is `Send`.
pub(super) type Calling<'a, T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'a>>;
/// How a reloader is watched.
pub(super) type Arm<'a, T, V, E> = fn(&'a T) -> Calling<'a, RealtimeWatchHandle<V>, E>;

/// A value that Rust code has loaded.
#[derive(Clone)]
pub(crate) struct Loaded<V>(pub(crate) V);

impl<V: Eq + Clone> Value for Loaded<V> {
    fn same_value(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

/// The reloader's side.
pub(super) struct ReloaderEdge<'a, T, V, E> {
    pub(super) reloader: &'a T,
    pub(super) reload: fn(&'a T) -> Calling<'a, Option<V>, E>,
    pub(super) arm: Option<Arm<'a, T, V, E>>,
    pub(super) failure: fn(&E) -> Failure,
    pub(super) watching: Watching<E>,
    pub(super) values: &'a watch::Sender<Option<V>>,
}

/// What the watches of a reloader share.
pub(super) struct Watching<E> {
    /// See [`RealtimeWatch::outlives_errors`](super::RealtimeWatch::outlives_errors).
    pub(super) outlives_errors: bool,
    /// Whether there is nothing to go on with if no watch can be opened now.
    pub(super) must_open: bool,
    /// Why it could not, if it had to.
    pub(super) refused: Arc<Mutex<Option<E>>>,
}

impl<E> Clone for Watching<E> {
    fn clone(&self) -> Self {
        Self { refused: Arc::clone(&self.refused), ..*self }
    }
}

impl<'a, T, V: Eq + Clone, E> Edge for ReloaderEdge<'a, T, V, E> {
    type Value = Loaded<V>;
    type Reader = ();
    type Reading = Reload<'a, V, E>;
    type Watch = RealtimeWatchHandle<V>;
    type Watching = Watch<'a, V, E>;
    type Judging = Ready<Result<(), Failure>>;

    /// There is nothing to keep.
    const KEEP_READER: Duration = Duration::ZERO;

    fn read(&mut self, _: Option<()>, _: Option<Cursor>) -> Reload<'a, V, E> {
        let has_value = self.values.borrow().is_some();
        Reload { calling: (self.reload)(self.reloader), failure: self.failure, has_value }
    }

    fn arm(&mut self, _: Option<Cursor>) -> Watch<'a, V, E> {
        let state = match self.arm {
            Some(arm) => WatchState::Arming(arm(self.reloader)),
            None => WatchState::Done,
        };
        Watch { state, failure: self.failure, watching: self.watching.clone() }
    }

    fn listen(&mut self, watch: RealtimeWatchHandle<V>) -> Watch<'a, V, E> {
        self.watching.must_open = false;
        let state = WatchState::Listening(watch);
        Watch { state, failure: self.failure, watching: self.watching.clone() }
    }

    /// A reloader judges its values itself, while it loads them.
    fn judge(&mut self, _: &Loaded<V>) -> Ready<Result<(), Failure>> {
        future::ready(Ok(()))
    }
}

/// One call of `reload`.
pub(super) struct Reload<'a, V, E> {
    calling: Calling<'a, Option<V>, E>,
    failure: fn(&E) -> Failure,
    has_value: bool,
}

impl<V, E> Future for Reload<'_, V, E> {
    type Output = ((), Result<Outcome<Loaded<V>>, Failure>);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let result = match ready!(self.calling.as_mut().poll(context)) {
            Ok(Some(value)) => Ok(Outcome::Changed(Loaded(value))),
            // No value is not the same as a value that is gone.
            Ok(None) if self.has_value => Ok(Outcome::Unchanged),
            Ok(None) => Ok(Outcome::Absent),
            Err(error) => Err((self.failure)(&error)),
        };
        Poll::Ready(((), result))
    }
}

/// The opening of a watch, or its next event.
pub(super) struct Watch<'a, V, E> {
    state: WatchState<'a, V, E>,
    failure: fn(&E) -> Failure,
    watching: Watching<E>,
}

enum WatchState<'a, V, E> {
    Arming(Calling<'a, RealtimeWatchHandle<V>, E>),
    Listening(RealtimeWatchHandle<V>),
    Done,
}

impl<V, E> Future for Watch<'_, V, E> {
    type Output = (Option<RealtimeWatchHandle<V>>, Seen<Loaded<V>>);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let event = match &mut self.state {
            WatchState::Arming(arming) => match ready!(arming.as_mut().poll(context)) {
                Ok(handle) => return Poll::Ready((Some(handle), Seen::Armed)),
                Err(error) => {
                    let mut failure = (self.failure)(&error);
                    if self.watching.must_open {
                        failure.kind = FailureKind::Permanent;
                        let refused = &self.watching.refused;
                        *refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    }
                    return Poll::Ready((None, Seen::Lost(failure)));
                }
            },
            WatchState::Listening(handle) => ready!(handle.rx.poll_recv(context)),
            WatchState::Done => None,
        };
        let seen = match event {
            Some(WatchEvent::Changed(value)) => Seen::Event(Event::Changed(Loaded(value))),
            Some(WatchEvent::Removed) => Seen::Event(Event::Removed),
            Some(WatchEvent::Error(reason)) if self.watching.outlives_errors => {
                tracing::debug!("the watch goes on after an error: {reason}");
                Seen::Event(Event::Dirty)
            }
            Some(WatchEvent::Error(reason)) => Seen::Lost(Failure::transient(reason)),
            None => Seen::Lost(Failure::transient("the watch's channel was closed")),
        };
        let handle = match (std::mem::replace(&mut self.state, WatchState::Done), &seen) {
            (WatchState::Listening(handle), Seen::Event(_)) => Some(handle),
            _ => None,
        };
        Poll::Ready((handle, seen))
    }
}

impl<V: Eq + PartialEq + Clone> Publish for &ReloaderSender<V> {
    type Value = Loaded<V>;
    type Error = watch::error::SendError<Option<V>>;

    fn publish(
        &self,
        revision: Revision,
        value: Option<Loaded<V>>,
    ) -> Result<(), watch::error::SendError<Option<V>>> {
        // First, so that whoever sees the value sees at least its own status.
        self.status.send_modify(|status| {
            status.revision = revision;
            status.removed = value.is_none();
        });
        self.send(value.map(|loaded| loaded.0))
    }

    fn confirmed(&self) {
        // Nobody waits for this.
        self.status.send_if_modified(|status| {
            status.last_success_at = Some(Timestamp::now());
            false
        });
    }

    /// Its status says so when that makes the value stale.
    fn failing(&self, _: Option<Arc<str>>) {}

    fn stale(&self, reason: Option<Arc<str>>) {
        self.status.send_modify(|status| {
            let before = status.stale.take();
            status.stale = reason.map(|reason| Stale::because(reason, before));
        });
    }

    /// It never is.
    fn refused(&self, _: &Loaded<V>, _: Arc<str>, _: Option<Duration>) {}
}
