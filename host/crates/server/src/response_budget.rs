//! Memory for answers that are made for one reader alone: whoever reads slowly has them kept for a while.

use crate::problem::Problem;
use axum::{
    body::{Body, Bytes},
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use http_body::{Body as _, Frame, SizeHint};
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// So many of the large ones are made at a time: that takes memory too, and a processor.
const MAKING: usize = 2;
/// So much of them is on its way at a time, in KiB.
const KEPT: u32 = 256 << 10;
/// What is smaller is not counted, in bytes: it is no more than a connection takes besides.
const SMALL: u64 = 16 << 10;

/// How many answers may be made, and how much of them be on its way.
pub(crate) struct Room {
    making: Arc<Semaphore>,
    kept: Arc<Semaphore>,
}

/// Held while an answer is made, until its own size counts. It goes along with the answer.
#[derive(Clone)]
pub(crate) struct Making(#[expect(dead_code, reason = "it is held")] Arc<OwnedSemaphorePermit>);

/// Goes along with an answer that is the same memory for all readers.
#[derive(Clone)]
pub(crate) struct Common;

impl Room {
    pub(crate) fn new() -> Self {
        Self {
            making: Arc::new(Semaphore::new(MAKING)),
            kept: Arc::new(Semaphore::new(KEPT as usize)),
        }
    }

    /// Waits for its turn to make a large answer.
    pub(crate) async fn making(&self) -> Result<Making, Problem> {
        let turn = Arc::clone(&self.making).acquire_owned().await;
        turn.map(|turn| Making(Arc::new(turn))).map_err(|_| {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the host does not answer any more")
        })
    }

    /// Counts an answer until it is on its way as a whole; refuses it if there is too much already.
    pub(crate) fn keep(&self, mut response: Response) -> Response {
        let making = response.extensions_mut().remove::<Making>();
        let size = response.body().size_hint().exact().filter(|size| *size > SMALL);
        let (Some(size), None) = (size, response.extensions().get::<Common>()) else {
            return response;
        };
        let size = u32::try_from(size.div_ceil(1 << 10)).unwrap_or(KEPT).min(KEPT);
        let Ok(place) = Arc::clone(&self.kept).try_acquire_many_owned(size) else {
            let why = "too much is on its way to slow readers; ask again in a while";
            let mut refused = Problem::new(StatusCode::SERVICE_UNAVAILABLE, why).into_response();
            refused.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
            return refused;
        };
        drop(making);
        let place = Arc::new(place);
        response.map(|body| Body::new(Counted { body, place }))
    }
}

struct Counted {
    body: Body,
    place: Arc<OwnedSemaphorePermit>,
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        // The bytes outlive the body, as they wait to be written.
        let place = Arc::clone(&self.place);
        let count = |data| Bytes::from_owner(Kept { data, _place: place });
        Pin::new(&mut self.body)
            .poll_frame(context)
            .map(|frame| frame.map(|frame| frame.map(|frame| frame.map_data(count))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

struct Kept {
    data: Bytes,
    _place: Arc<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    fn answer(size: usize) -> Response {
        Body::from(vec![0; size]).into_response()
    }

    #[tokio::test]
    async fn what_is_on_its_way_has_a_bound_that_ends_with_the_last_byte() {
        let room = Room::new();
        let half = (KEPT as usize) << 9;
        let (one, two) = (room.keep(answer(half)), room.keep(answer(half)));
        assert_eq!(one.body().size_hint().exact(), Some(half as u64));
        let refused = room.keep(answer(17 << 10));
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(
            room.keep(answer(1 << 10)).status(),
            StatusCode::OK,
            "small ones are let through"
        );
        drop(two);
        let three = room.keep(answer(half));
        assert_eq!(three.status(), StatusCode::OK);
        let bytes = one.into_body().collect().await.expect("it is there").to_bytes();
        assert_eq!(room.keep(answer(half)).status(), StatusCode::SERVICE_UNAVAILABLE);
        drop(bytes);
        assert_eq!(room.keep(answer(half)).status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn what_all_readers_share_costs_nothing() {
        let room = Room::new();
        let all: Vec<_> = (0..3)
            .map(|_| {
                let mut answer = answer(KEPT as usize * 600);
                answer.extensions_mut().insert(Common);
                room.keep(answer)
            })
            .collect();
        assert!(all.iter().all(|answer| answer.status() == StatusCode::OK));
    }
}
