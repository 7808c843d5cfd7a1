//! Response body: limits of size and time, before and after decompression.

use crate::{
    deadline::{Deadline, Phase},
    error_chain::with_causes,
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

/// Response body. Its request counts as running until the body is dropped.
pub struct Body {
    inner: UnsyncBoxBody<Bytes, Box<dyn Error + Send + Sync>>,
    from: HostPort,
    timeouts: BodyTimeouts,
    /// Timer for the next part of the body, while the reader waits for it.
    timer: Option<(Pin<Box<Sleep>>, Deadline)>,
    /// Number of further body bytes that the size limit allows.
    remaining: usize,
    _permit: OwnedSemaphorePermit,
}

/// Timeouts for receiving a response body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BodyTimeouts {
    /// Timeout from one part to the next, if the plugin requests one.
    pub(crate) requested: Option<Duration>,
    /// Limit of the host for the time from one part to the next.
    pub(crate) idle: Duration,
    /// Deadline of the whole request.
    pub(crate) total: Deadline,
}

impl BodyTimeouts {
    /// Returns the time by which the next part of the body must arrive.
    fn next_deadline(&self, now: Instant) -> Deadline {
        let idle = Deadline::limit(now, self.idle, "http-idle").earlier(self.total);
        match self.requested {
            Some(timeout) => {
                Deadline::requested(now, Some(timeout), self.idle, self.idle).earlier(idle)
            }
            None => idle,
        }
    }
}

/// Reason why a response body was not received completely.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The response body exceeds the size limit.
    #[error("response body too large")]
    TooLarge,
    /// Any other failure. The message starts with the host and port.
    #[error("{0}")]
    Failed(String),
}

impl Body {
    pub(crate) fn new(
        inner: UnsyncBoxBody<Bytes, Box<dyn Error + Send + Sync>>,
        from: HostPort,
        timeouts: BodyTimeouts,
        max_bytes: usize,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        Self { inner, from, timeouts, timer: None, remaining: max_bytes, _permit: permit }
    }

    fn failed(&self, reason: impl std::fmt::Display) -> BodyError {
        BodyError::Failed(format!("{}: {reason}", self.from))
    }

    /// Converts an error of the arriving body or of its decompression.
    fn convert_error(&self, error: Box<dyn Error + Send + Sync>) -> BodyError {
        match error.downcast::<BodyError>() {
            Ok(own) => *own,
            Err(other) => self.failed(with_causes(&*other)),
        }
    }

    /// Returns the deadline of the next part if it has passed. Starts the timer if it is not running.
    fn poll_timeout(&mut self, cx: &mut Context<'_>) -> Option<Deadline> {
        let timeouts = self.timeouts;
        let (sleep, deadline) = self.timer.get_or_insert_with(|| {
            let deadline = timeouts.next_deadline(Instant::now());
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
        // The total deadline also applies to a body whose parts are always ready, for which no timer runs.
        if Instant::now() >= self.timeouts.total.at {
            let message = self.timeouts.total.timeout_message(Phase::ReceivingBody);
            return Poll::Ready(Some(Err(self.failed(message))));
        }
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.timer = None;
                Poll::Ready(Some(deduct(&mut self.remaining, frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(self.convert_error(error)))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => match self.poll_timeout(cx) {
                Some(deadline) => {
                    let message = deadline.timeout_message(Phase::ReceivingBody);
                    Poll::Ready(Some(Err(self.failed(message))))
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

/// Deducts the size of a frame from the remaining allowance.
fn deduct(remaining: &mut usize, frame: Frame<Bytes>) -> Result<Frame<Bytes>, BodyError> {
    let length = frame.data_ref().map_or(0, Bytes::len);
    *remaining = remaining.checked_sub(length).ok_or(BodyError::TooLarge)?;
    Ok(frame)
}

/// Number of consecutive ready frames after which the body yields to other tasks of its thread.
const MAX_READY_FRAMES: u32 = 16;

/// Response body as it arrives, before decompression.
///
/// A compressed body can be endless without producing output, and the decoder polls until it has output.
/// The size limit therefore applies to the compressed bytes as well, and the body yields regularly.
pub(crate) struct ArrivingBody {
    inner: Incoming,
    /// Number of further body bytes that the size limit allows.
    remaining: usize,
    ready_frames: u32,
}

impl ArrivingBody {
    pub(crate) fn new(inner: Incoming, max_bytes: usize) -> Self {
        Self { inner, remaining: max_bytes, ready_frames: 0 }
    }
}

impl http_body::Body for ArrivingBody {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.ready_frames == MAX_READY_FRAMES {
            self.ready_frames = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        self.ready_frames = if polled.is_ready() { self.ready_frames + 1 } else { 0 };
        let frame = ready!(polled).map(|frame| Ok(deduct(&mut self.remaining, frame?)?));
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
