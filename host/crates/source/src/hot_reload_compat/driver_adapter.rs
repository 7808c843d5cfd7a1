//! Adapter between the driver and a Rust reloader: calls its functions, and publishes to its receivers.

use super::{
    channel::ReloaderSender,
    reload_traits::{RealtimeWatchHandle, WatchEvent},
};
use crate::{
    caught_panics::{CatchDrop, panic_failure},
    driver::{Adapter, Publish, WatchResult},
    latest_value::Stale,
};
use jiff::Timestamp;
use reloader_engine::types::{Cursor, Event, Failure, FailureKind, Outcome, Revision, Value};
use reloader_util::{panics, sync::Mutex};
use std::{
    future::{self, Future, Ready},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::sync::watch;

/// Future of a call to the reloader, as `async_trait` returns it. `E` is the error of the reloader.
///
/// The bounds of the public API are not repeated here: with `S = &'static str`, the compiler could not prove that the
/// future of a service is `Send`.
pub(super) type CallFuture<'a, T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'a>>;
/// Function that opens a watch of the reloader.
pub(super) type ArmFn<'a, T, V, E> = fn(&'a T) -> CallFuture<'a, RealtimeWatchHandle<V>, E>;

/// Value that the reloader has loaded.
#[derive(Clone)]
pub(crate) struct Loaded<V>(pub(crate) V);

impl<V: Eq + Clone> Value for Loaded<V> {
    fn same_value(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

/// Adapter that lets the driver read and watch a Rust reloader, by calls to the functions of the reloader.
pub(super) struct ReloaderAdapter<'a, T, V, E> {
    pub(super) reloader: &'a T,
    pub(super) reload: fn(&'a T) -> CallFuture<'a, Option<V>, E>,
    pub(super) arm: Option<ArmFn<'a, T, V, E>>,
    pub(super) to_failure: fn(&E) -> Failure,
    pub(super) watch_options: WatchOptions<E>,
    pub(super) values: &'a watch::Sender<Option<V>>,
}

/// Options that all watches of a reloader share.
pub(super) struct WatchOptions<E> {
    /// See [`RealtimeWatch::outlives_errors`](super::RealtimeWatch::outlives_errors).
    pub(super) outlives_errors: bool,
    /// Set if a failure to open the first watch ends the service.
    pub(super) is_first_required: bool,
    /// Error of the first watch, if it is required.
    pub(super) first_watch_error: Arc<Mutex<Option<E>>>,
}

impl<E> Clone for WatchOptions<E> {
    fn clone(&self) -> Self {
        Self { first_watch_error: Arc::clone(&self.first_watch_error), ..*self }
    }
}

impl<'a, T, V: Eq + Clone, E> Adapter for ReloaderAdapter<'a, T, V, E> {
    type Value = Loaded<V>;
    type Reader = ();
    type ReadFuture = ReadFuture<'a, V, E>;
    type Watch = RealtimeWatchHandle<V>;
    type WatchFuture = WatchFuture<'a, V, E>;
    type ValidateFuture = Ready<Result<(), Failure>>;

    /// Zero: a reloader keeps no state between two reads, so no reader is kept open.
    const READER_IDLE_TIMEOUT: Duration = Duration::ZERO;

    fn read(&mut self, _: Option<()>, _: Option<Cursor>) -> ReadFuture<'a, V, E> {
        let has_value = self.values.borrow().is_some();
        let call = Call::new(|| (self.reload)(self.reloader), self.to_failure);
        ReadFuture { call, has_value }
    }

    fn arm(&mut self, _: Option<Cursor>) -> WatchFuture<'a, V, E> {
        let state = match self.arm {
            Some(arm) => WatchState::Arming(Call::new(|| arm(self.reloader), self.to_failure)),
            None => WatchState::Done,
        };
        WatchFuture { state, options: self.watch_options.clone() }
    }

    fn next_event(&mut self, watch: RealtimeWatchHandle<V>) -> WatchFuture<'a, V, E> {
        self.watch_options.is_first_required = false;
        WatchFuture { state: WatchState::Open(watch), options: self.watch_options.clone() }
    }

    /// Accepts every value: a reloader validates its values while it loads them.
    fn validate(&mut self, _: &Loaded<V>) -> Ready<Result<(), Failure>> {
        future::ready(Ok(()))
    }
}

/// Call to the reloader, with panics caught.
struct Call<'a, T, E> {
    /// Future of the call, or the message of the panic that prevented it.
    future: Result<CatchDrop<CallFuture<'a, T, E>>, String>,
    to_failure: fn(&E) -> Failure,
}

/// Failed call: its failure, and the error of the reloader unless it panicked.
type CallError<E> = (Failure, Option<E>);

impl<'a, T, E> Call<'a, T, E> {
    fn new(call: impl FnOnce() -> CallFuture<'a, T, E>, to_failure: fn(&E) -> Failure) -> Self {
        Self { future: panics::catch(call).map(CatchDrop::new), to_failure }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<T, CallError<E>>> {
        let to_failure = self.to_failure;
        let polled = match &mut self.future {
            Ok(future) => panics::catch(|| {
                let polled = future.as_mut().poll(context);
                polled.map_err(|error| (to_failure(&error), Some(error)))
            }),
            Err(message) => Err(std::mem::take(message)),
        };
        polled.unwrap_or_else(|message| Poll::Ready(Err((panic_failure(&message), None))))
    }
}

/// Future of one read: a call of the reloader's function `reload`.
pub(super) struct ReadFuture<'a, V, E> {
    call: Call<'a, Option<V>, E>,
    has_value: bool,
}

impl<V, E> Future for ReadFuture<'_, V, E> {
    type Output = (Option<()>, Result<Outcome<Loaded<V>>, Failure>);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let result = match ready!(self.call.poll(context)) {
            Ok(Some(value)) => Ok(Outcome::Changed(Loaded(value))),
            // `None` from `reload` does not remove a value: only the event `Removed` of a watch does.
            Ok(None) if self.has_value => Ok(Outcome::Unchanged),
            Ok(None) => Ok(Outcome::Absent),
            Err((failure, _)) => Err(failure),
        };
        Poll::Ready((Some(()), result))
    }
}

/// Future that opens a watch or waits for its next event.
pub(super) struct WatchFuture<'a, V, E> {
    state: WatchState<'a, V, E>,
    options: WatchOptions<E>,
}

enum WatchState<'a, V, E> {
    Arming(Call<'a, RealtimeWatchHandle<V>, E>),
    Open(RealtimeWatchHandle<V>),
    Done,
}

impl<V, E> Future for WatchFuture<'_, V, E> {
    type Output = (Option<RealtimeWatchHandle<V>>, WatchResult<Loaded<V>>);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let event = match &mut self.state {
            WatchState::Arming(arming) => match ready!(arming.poll(context)) {
                Ok(handle) => return Poll::Ready((Some(handle), WatchResult::Armed)),
                Err((mut failure, error)) => {
                    // A panic has no `error`: it does not end the service, even in a required first watch.
                    if let Some(error) = error.filter(|_| self.options.is_first_required) {
                        failure.kind = FailureKind::Permanent;
                        *self.options.first_watch_error.lock() = Some(error);
                    }
                    return Poll::Ready((None, WatchResult::Lost(failure)));
                }
            },
            WatchState::Open(handle) => ready!(handle.rx.poll_recv(context)),
            WatchState::Done => None,
        };
        let result = match event {
            Some(WatchEvent::Changed(value)) => WatchResult::Event(Event::Changed(Loaded(value))),
            Some(WatchEvent::Removed) => WatchResult::Event(Event::Removed),
            Some(WatchEvent::Error(reason)) if self.options.outlives_errors => {
                tracing::debug!(error = reason, "watch reported an error, reading the source");
                WatchResult::Event(Event::Dirty)
            }
            Some(WatchEvent::Error(reason)) => WatchResult::Lost(Failure::transient(reason)),
            None => WatchResult::Lost(Failure::transient("the channel of the watch was closed")),
        };
        let handle = match (std::mem::replace(&mut self.state, WatchState::Done), &result) {
            (WatchState::Open(handle), WatchResult::Event(_)) => Some(handle),
            _ => None,
        };
        Poll::Ready((handle, result))
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
        // Updates the status before the value, so that a receiver that sees the value sees its status.
        self.status.send_modify(|status| {
            status.revision = revision;
            status.removed = value.is_none();
        });
        self.send(value.map(|loaded| loaded.0))
    }

    fn confirmed(&self) {
        // A confirmation does not wake receivers.
        self.status.send_if_modified(|status| {
            status.last_success_at = Some(Timestamp::now());
            false
        });
    }

    /// Does nothing: [`Status`](super::Status) has no read failures, only the staleness to which they lead.
    fn failing(&self, _: Option<Arc<str>>) {}

    fn stale(&self, reason: Option<Arc<str>>) {
        self.status.send_modify(|status| {
            let before = status.stale.take();
            status.stale = reason.map(|reason| Stale::because(reason, before));
        });
    }

    /// Does nothing: [`validate`](Adapter::validate) accepts every value.
    fn rejected(&self, _: &Loaded<V>, _: Arc<str>, _: Option<Duration>) {}
}
