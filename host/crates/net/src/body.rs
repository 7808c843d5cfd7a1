//! The body of a response: bounded in length and in time, as it arrives and as it is handed over.

use crate::{
    deadline::{Deadline, Phase},
    http_client::causes,
};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use reloader_policy::HostPort;
use std::{
    error::Error,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, Sleep, sleep_until},
};

/// The body of a response. Its request counts as under way until this is dropped.
pub struct Body {
    inner: UnsyncBoxBody<Bytes, Box<dyn Error + Send + Sync>>,
    from: HostPort,
    waits: Waits,
    /// Ends the wait for the next piece; set when there is one to wait for.
    wait: Option<(Pin<Box<Sleep>>, Deadline)>,
    left: usize,
    _held: OwnedSemaphorePermit,
}

/// How long a body may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waits {
    /// From one piece to the next, as the plugin asks for it.
    pub(crate) asked: Option<Duration>,
    /// The same, at most.
    pub(crate) idle: Duration,
    /// For all of it.
    pub(crate) total: Deadline,
}

impl Waits {
    /// Until when the next piece must have come.
    fn next(&self, now: Instant) -> Deadline {
        let idle = Deadline::limit(now, self.idle, "http-idle").or(self.total);
        match self.asked {
            Some(asked) => Deadline::asked(now, Some(asked), self.idle, self.idle).or(idle),
            None => idle,
        }
    }
}

/// Why a body is not complete.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Longer than the limit.
    #[error("the body is longer than the limit")]
    TooLarge,
    /// Anything else, with whose body it is in front.
    #[error("{0}")]
    Failed(String),
}

impl Body {
    pub(crate) fn new(
        inner: UnsyncBoxBody<Bytes, Box<dyn Error + Send + Sync>>,
        from: HostPort,
        waits: Waits,
        limit: usize,
        held: OwnedSemaphorePermit,
    ) -> Self {
        Self { inner, from, waits, wait: None, left: limit, _held: held }
    }

    fn failed(&self, why: impl std::fmt::Display) -> BodyError {
        BodyError::Failed(format!("{}: {why}", self.from))
    }

    /// An error of the body as it arrives, or of undoing its encoding.
    fn broken(&self, error: Box<dyn Error + Send + Sync>) -> BodyError {
        match error.downcast::<BodyError>() {
            Ok(own) => *own,
            Err(other) => self.failed(causes(&*other)),
        }
    }

    /// Whether it has been waited for long enough.
    fn is_over(&mut self, cx: &mut Context<'_>) -> Option<Deadline> {
        let waits = self.waits;
        let (sleep, deadline) = self.wait.get_or_insert_with(|| {
            let deadline = waits.next(Instant::now());
            (Box::pin(sleep_until(deadline.at)), deadline)
        });
        sleep.as_mut().poll(cx).is_ready().then_some(*deadline)
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        // A body that never lets anybody wait is held to its end as well.
        if Instant::now() >= self.waits.total.at {
            let over = self.waits.total.over(Phase::Receiving);
            return Poll::Ready(Some(Err(self.failed(over))));
        }
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.wait = None;
                Poll::Ready(Some(take(&mut self.left, frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(self.broken(error)))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => match self.is_over(cx) {
                Some(deadline) => {
                    let over = deadline.over(Phase::Receiving);
                    Poll::Ready(Some(Err(self.failed(over))))
                }
                None => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Takes a piece from what is left of a limit.
fn take(left: &mut usize, frame: Frame<Bytes>) -> Result<Frame<Bytes>, BodyError> {
    let length = frame.data_ref().map_or(0, Bytes::len);
    *left = left.checked_sub(length).ok_or(BodyError::TooLarge)?;
    Ok(frame)
}

/// Pieces that may arrive in a row before others have their turn.
const IN_A_ROW: u32 = 16;

/// A body as it arrives. A compressed one can go on for ever and yield nothing, and whoever undoes the
/// compression looks for more until there is something: so the limit counts here as well, and a thread
/// is given back now and then.
pub(crate) struct Raw {
    inner: Incoming,
    left: usize,
    in_a_row: u32,
}

impl Raw {
    pub(crate) fn new(inner: Incoming, limit: usize) -> Self {
        Self { inner, left: limit, in_a_row: 0 }
    }
}

impl http_body::Body for Raw {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.in_a_row == IN_A_ROW {
            self.in_a_row = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        self.in_a_row = if polled.is_ready() { self.in_a_row + 1 } else { 0 };
        let taken = ready!(polled).map(|frame| Ok(take(&mut self.left, frame?)?));
        Poll::Ready(taken)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
