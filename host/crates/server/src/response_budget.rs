//! Response budget: bounds the memory of responses that are buffered for slow clients.
//!
//! Most responses are built for one client and stay in memory until the client has read them. The budget bounds
//! their total size, and the number of large responses that are built concurrently.

use crate::{problem::Problem, render_pool::RenderPool};
use axum::{
    body::{Body, Bytes},
    response::{IntoResponse, Response},
};
use http::StatusCode;
use http_body::{Body as _, Frame, SizeHint};
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// Maximum number of large responses that are built concurrently. Building one takes memory and CPU time, too.
const MAX_CONCURRENT_BUILDS: usize = 2;
/// Time limit of building a large response, including the wait for a permit.
const BUILD_TIMEOUT: Duration = Duration::from_secs(30);
/// Upper bound of the total size of buffered responses, in KiB.
const MAX_BUFFERED_KIB: u32 = 256 << 10;
/// Maximum size of responses that are not accounted for, in bytes. The buffers of a connection are about as large.
const MAX_UNACCOUNTED_BYTES: u64 = 16 << 10;

/// Budget of all responses of the server: limits the total size of buffered ones and the concurrent large builds.
pub(crate) struct ResponseBudget {
    builds: Arc<Semaphore>,
    buffered: Arc<Semaphore>,
}

/// Permit to build a large response. The extensions of the response hold the permit, and [`ResponseBudget::account`]
/// releases it after the size of the response is accounted for.
#[derive(Clone)]
struct BuildPermit(
    #[expect(dead_code, reason = "dropping the last clone releases the permit")]
    Arc<OwnedSemaphorePermit>,
);

/// Response extension: the memory of the body is shared by all clients and is not accounted for.
#[derive(Clone)]
pub(crate) struct SharedBody;

impl ResponseBudget {
    pub(crate) fn new() -> Self {
        Self {
            builds: Arc::new(Semaphore::new(MAX_CONCURRENT_BUILDS)),
            buffered: Arc::new(Semaphore::new(MAX_BUFFERED_KIB as usize)),
        }
    }

    /// Builds a large response on the render pool, as soon as a permit is free. The build holds the permit until it
    /// ends, even if the client disconnects or the time limit passes earlier.
    ///
    /// # Errors
    ///
    /// Returns the problem of the build, or a problem of status 503 if the build is not complete in time.
    pub(crate) async fn build(
        &self,
        pool: &RenderPool,
        build: impl Future<Output = Result<Response, Problem>> + Send + 'static,
    ) -> Result<Response, Problem> {
        let built = async {
            let permit = self.build_permit().await?;
            let build = async move {
                let mut response = build.await?;
                response.extensions_mut().insert(permit);
                Ok(response)
            };
            pool.run(build).await?
        };
        timeout(BUILD_TIMEOUT, built).await.unwrap_or_else(|_| {
            let detail = "the response was not built in time; hint: retry in 5 seconds";
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail))
        })
    }

    /// Waits for a permit to build a large response.
    async fn build_permit(&self) -> Result<BuildPermit, Problem> {
        let permit = Arc::clone(&self.builds).acquire_owned().await;
        permit.map(|permit| BuildPermit(Arc::new(permit))).map_err(|_| {
            Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "the host is stopping; hint: retry after its restart",
            )
        })
    }

    /// Accounts for the size of a response until its last byte is written. Returns a response of status 503
    /// instead if the budget is exhausted.
    pub(crate) fn account(&self, mut response: Response) -> Response {
        let build_permit = response.extensions_mut().remove::<BuildPermit>();
        let size = response.body().size_hint().exact();
        let size = size.filter(|size| *size > MAX_UNACCOUNTED_BYTES);
        let (Some(size), None) = (size, response.extensions().get::<SharedBody>()) else {
            return response;
        };
        let permits = match self.buffer_permits(size) {
            Ok(permits) => Arc::new(permits),
            Err(problem) => return problem.into_response(),
        };
        drop(build_permit);
        response.map(|body| Body::new(AccountedBody { body, permits }))
    }

    /// Accounts for the size of a body that responses to several clients share, until the last response is written.
    ///
    /// # Errors
    ///
    /// Returns a problem of status 503 if the budget is exhausted.
    pub(crate) fn share(&self, body: Vec<u8>) -> Result<Bytes, Problem> {
        if body.len() as u64 <= MAX_UNACCOUNTED_BYTES {
            return Ok(body.into());
        }
        let permits = Arc::new(self.buffer_permits(body.len() as u64)?);
        Ok(Bytes::from_owner(AccountedBytes { data: body.into(), _permits: permits }))
    }

    fn buffer_permits(&self, size: u64) -> Result<OwnedSemaphorePermit, Problem> {
        let size = u32::try_from(size.div_ceil(1 << 10)).unwrap_or(MAX_BUFFERED_KIB);
        let size = size.min(MAX_BUFFERED_KIB);
        Arc::clone(&self.buffered).try_acquire_many_owned(size).map_err(|_| {
            let detail =
                "too many responses are buffered for slow clients; hint: retry in 5 seconds";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
        })
    }
}

/// Response body whose buffers hold the budget permits of the response until they are written.
struct AccountedBody {
    body: Body,
    permits: Arc<OwnedSemaphorePermit>,
}

impl http_body::Body for AccountedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        // The bytes outlive the body while they wait in the write buffer.
        let permits = Arc::clone(&self.permits);
        let account = |data| Bytes::from_owner(AccountedBytes { data, _permits: permits });
        Pin::new(&mut self.body)
            .poll_frame(context)
            .map(|frame| frame.map(|frame| frame.map(|frame| frame.map_data(account))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Bytes that hold the permits of their response until they are dropped.
struct AccountedBytes {
    data: Bytes,
    _permits: Arc<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for AccountedBytes {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use tokio::sync::oneshot;

    fn response(size: usize) -> Response {
        Body::from(vec![0; size]).into_response()
    }

    /// Reading the body to its end does not release the budget. Dropping the bytes of the body does.
    #[tokio::test]
    async fn budget_is_held_until_bytes_are_dropped() {
        let budget = ResponseBudget::new();
        let half = (MAX_BUFFERED_KIB as usize) << 9;
        let (first, second) = (budget.account(response(half)), budget.account(response(half)));
        assert_eq!(first.body().size_hint().exact(), Some(half as u64));
        let rejected = budget.account(response(17 << 10));
        assert_eq!(rejected.status(), StatusCode::SERVICE_UNAVAILABLE);
        let small = budget.account(response(1 << 10));
        assert_eq!(small.status(), StatusCode::OK, "small responses are not accounted for");
        drop(second);
        let third = budget.account(response(half));
        assert_eq!(third.status(), StatusCode::OK);
        let bytes = first.into_body().collect().await.expect("the body is complete").to_bytes();
        assert_eq!(budget.account(response(half)).status(), StatusCode::SERVICE_UNAVAILABLE);
        drop(bytes);
        assert_eq!(budget.account(response(half)).status(), StatusCode::OK);
    }

    /// A build that hangs keeps its permit after its client has disconnected.
    #[tokio::test]
    async fn hung_build_keeps_its_permit() {
        let (budget, pool) = (ResponseBudget::new(), RenderPool::new());
        let mut releases = Vec::new();
        for _ in 0..MAX_CONCURRENT_BUILDS {
            let (release, released) = oneshot::channel::<()>();
            let (started, has_started) = oneshot::channel();
            releases.push(release);
            let hung = budget.build(&pool, async move {
                let _ = started.send(());
                let _ = released.await;
                Ok(response(1))
            });
            tokio::select! {
                _ = hung => panic!("the build hangs"),
                started = has_started => started.expect("the build has started"),
            }
        }
        assert_eq!(budget.builds.available_permits(), 0, "the clients have disconnected");
        tokio::time::pause();
        let rejected = budget.build(&pool, async { Ok(response(1)) }).await;
        let status = rejected.expect_err("no permit is free").into_response().status();
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        tokio::time::resume();
        drop(releases);
        let built = budget.build(&pool, async { Ok(response(1)) }).await;
        assert_eq!(built.expect("the permits are free").status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn shared_body_is_accounted_for_once() {
        let budget = ResponseBudget::new();
        let size = (MAX_BUFFERED_KIB as usize) << 10;
        let body = budget.share(vec![0; size]).expect("the budget is free");
        let clone = body.clone();
        assert!(budget.share(vec![0; size]).is_err());
        drop(body);
        assert!(budget.share(vec![0; size]).is_err());
        drop(clone);
        assert!(budget.share(vec![0; size]).is_ok());
    }

    #[tokio::test]
    async fn shared_body_is_not_accounted_for() {
        let budget = ResponseBudget::new();
        let all: Vec<_> = (0..3)
            .map(|_| {
                let mut response = response(MAX_BUFFERED_KIB as usize * 600);
                response.extensions_mut().insert(SharedBody);
                budget.account(response)
            })
            .collect();
        assert!(all.iter().all(|response| response.status() == StatusCode::OK));
    }
}
