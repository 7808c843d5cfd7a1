//! Long responses that clients with the same permissions share: lists, metrics, readiness.
//!
//! A response is built on a background thread. All requests that arrive before a build begins share its result. So each
//! client gets the present state, and many clients cause only one build at a time. After each build, the next build of
//! the same response is delayed, so that the builds of one response use only a part of a thread.

use crate::{
    auth::VisibleSources, problem::Problem, render_pool::RenderPool,
    response_budget::ResponseBudget, response_budget::SharedBody,
};
use axum::{
    body::{Body, Bytes},
    response::{IntoResponse, Response},
};
use http::{HeaderName, HeaderValue, StatusCode, header};
use reloader_util::{panics, sync::Mutex};
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::watch,
    time::{sleep_until, timeout},
};

/// Ratio of the delay after a build to the duration of the build.
const DELAY_RATIO: u32 = 4;
/// Upper bound of the delay after a build.
const MAX_DELAY: Duration = Duration::from_millis(250);
/// Maximum number of scheduled or delayed responses whose parameters clients choose, such as pages of the source list.
/// At the maximum, requests for further ones fail with status 503.
const MAX_PARAMETERIZED: usize = 256;
/// Time limit of the wait for a build.
const BUILD_TIMEOUT: Duration = Duration::from_secs(30);

/// Identifies a response by its content and by the permissions of its clients.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct ResponseKey {
    pub(crate) document: Document,
    pub(crate) visible: VisibleSources,
}

/// Document in the body of a shared response, with the parameters of the request.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Document {
    Metrics { is_openmetrics: bool },
    Readiness,
    Sources { after: Option<String>, limit: Option<usize> },
}

impl Document {
    /// Returns `true` if clients choose the parameters, so that the number of different documents is not bounded.
    const fn is_parameterized(&self) -> bool {
        match self {
            Self::Metrics { .. } | Self::Readiness => false,
            Self::Sources { after, limit } => after.is_some() || limit.is_some(),
        }
    }
}

/// Built response, before its size is accounted for.
pub(crate) struct Built {
    pub(crate) status: StatusCode,
    pub(crate) media_type: &'static str,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) body: Vec<u8>,
}

impl Built {
    /// Returns a response of status 200 with a JSON body.
    pub(crate) fn json(body: &impl serde::Serialize) -> Result<Self, Problem> {
        let body = serde_json::to_vec(body).map_err(|error| {
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, format!("cannot encode: {error}"))
        })?;
        let (status, media_type) = (StatusCode::OK, "application/json");
        Ok(Self { status, media_type, headers: Vec::new(), body })
    }
}

/// Built response whose body is shared.
#[derive(Clone)]
struct SharedResponse {
    status: StatusCode,
    media_type: &'static str,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
}

impl IntoResponse for SharedResponse {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = self.status;
        response.extensions_mut().insert(SharedBody);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.media_type));
        headers.extend(self.headers);
        response
    }
}

/// Result of a build; `None` until it is complete.
type BuildResult = Option<Result<SharedResponse, Problem>>;

/// Lock that each build of a response holds, so that its builds run one at a time.
type Turn = Arc<tokio::sync::Mutex<()>>;

/// Schedule of the builds of a response, which run one at a time.
struct Schedule {
    /// Earliest time at which the next build begins.
    not_before: Instant,
    /// Lock that each build holds while it runs.
    turn: Turn,
    /// Sender of the result of the scheduled build. `None` if no build is scheduled, or if it has begun.
    next: Option<watch::Sender<BuildResult>>,
}

impl Schedule {
    fn is_needed(&self, now: Instant) -> bool {
        self.next.is_some() || self.not_before > now || self.turn.try_lock().is_err()
    }
}

/// Shared responses of the server. Each is built once for all clients that request it at the same time.
pub(crate) struct SharedResponses {
    pool: Arc<RenderPool>,
    budget: Arc<ResponseBudget>,
    schedules: Mutex<HashMap<ResponseKey, Schedule>>,
}

impl SharedResponses {
    pub(crate) fn new(pool: Arc<RenderPool>, budget: Arc<ResponseBudget>) -> Arc<Self> {
        Arc::new(Self { pool, budget, schedules: Mutex::default() })
    }

    /// Returns the response with this key. `build` builds it on a background thread, unless a build is scheduled
    /// already.
    ///
    /// # Errors
    ///
    /// Returns the problem of the build, or a problem of status 503 if the build is not complete in time.
    pub(crate) async fn get(
        self: &Arc<Self>,
        key: ResponseKey,
        build: impl FnOnce() -> Result<Built, Problem> + Send + 'static,
    ) -> Result<Response, Problem> {
        let (mut result, turn) = self.join_or_schedule(&key)?;
        if let Some(turn) = turn {
            let this = Arc::clone(self);
            // A task of its own: if this request ends, other clients may still wait for the build.
            tokio::spawn(async move {
                let _turn = turn.lock().await;
                sleep_until(this.not_before(&key).into()).await;
                let responses = Arc::clone(&this);
                let _ = this.pool.run(async move { responses.build(&key, build) }).await;
            });
        }
        let built = timeout(BUILD_TIMEOUT, result.wait_for(Option::is_some)).await;
        let built = built.ok().and_then(|built| built.ok()?.clone());
        let built = built.unwrap_or_else(|| Err(busy("the response was not built in time")));
        built.map(IntoResponse::into_response)
    }

    /// Returns the future result of the scheduled build. If no build is scheduled, schedules one and also returns the
    /// lock that the caller must hold during the build.
    fn join_or_schedule(
        &self,
        key: &ResponseKey,
    ) -> Result<(watch::Receiver<BuildResult>, Option<Turn>), Problem> {
        let now = Instant::now();
        let mut schedules = self.schedules.lock();
        schedules.retain(|_, schedule| schedule.is_needed(now));
        if key.document.is_parameterized() && !schedules.contains_key(key) {
            let parameterized = schedules.keys().filter(|key| key.document.is_parameterized());
            if parameterized.count() >= MAX_PARAMETERIZED {
                return Err(busy("too many different pages are being built"));
            }
        }
        let schedule = schedules.entry(key.clone());
        let schedule = schedule.or_insert_with(|| Schedule {
            not_before: now,
            turn: Arc::default(),
            next: None,
        });
        if let Some(next) = &schedule.next {
            return Ok((next.subscribe(), None));
        }
        let (sender, result) = watch::channel(None);
        schedule.next = Some(sender);
        Ok((result, Some(Arc::clone(&schedule.turn))))
    }

    fn not_before(&self, key: &ResponseKey) -> Instant {
        self.schedules.lock().get(key).map_or_else(Instant::now, |schedule| schedule.not_before)
    }

    /// Builds a scheduled response and delays its next build. Does nothing if all its clients have disconnected.
    fn build(&self, key: &ResponseKey, build: impl FnOnce() -> Result<Built, Problem>) {
        let scheduled =
            self.schedules.lock().get_mut(key).and_then(|schedule| schedule.next.take());
        let Some(sender) = scheduled.filter(|sender| !sender.is_closed()) else { return };
        let start = Instant::now();
        let built = panics::catch(build).unwrap_or_else(|panic| {
            let detail = format!("the response could not be built: {panic}");
            Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail))
        });
        let shared = built.and_then(|built| {
            let Built { status, media_type, headers, body } = built;
            Ok(SharedResponse { status, media_type, headers, body: self.budget.share(body)? })
        });
        if let Some(schedule) = self.schedules.lock().get_mut(key) {
            schedule.not_before = Instant::now() + (start.elapsed() * DELAY_RATIO).min(MAX_DELAY);
        }
        sender.send_replace(Some(shared));
    }
}

fn busy(reason: &str) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}; hint: retry in 5 seconds"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use std::sync::mpsc;

    fn responses() -> Arc<SharedResponses> {
        SharedResponses::new(Arc::new(RenderPool::new()), Arc::new(ResponseBudget::new()))
    }

    fn key(number: usize) -> ResponseKey {
        let document = Document::Sources { after: None, limit: Some(number) };
        ResponseKey { document, visible: VisibleSources::All }
    }

    fn built(body: &str) -> Result<Built, Problem> {
        let (status, media_type) = (StatusCode::OK, "text/plain");
        Ok(Built { status, media_type, headers: Vec::new(), body: body.into() })
    }

    async fn text(response: Response) -> String {
        let body = response.into_body().collect().await.expect("the body is complete");
        String::from_utf8(body.to_bytes().into()).expect("text")
    }

    /// A build that has begun may be outdated for a new request, so the request gets the next build, which all
    /// later requests share.
    #[tokio::test(flavor = "multi_thread")]
    async fn requests_during_build_share_the_next_one() {
        let responses = responses();
        let (begun, wait_for_begin) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let this = Arc::clone(&responses);
        let first = tokio::spawn(async move {
            let build = move || {
                begun.send(()).expect("the test waits");
                let _ = released.recv();
                built("first")
            };
            this.get(key(0), build).await
        });
        tokio::task::spawn_blocking(move || wait_for_begin.recv())
            .await
            .expect("no panic")
            .expect("begun");
        let (sender, mut builds) = tokio::sync::mpsc::unbounded_channel();
        let mut all_later = Vec::new();
        for number in 0..20 {
            let (this, sender) = (Arc::clone(&responses), sender.clone());
            let build = move || {
                let _ = sender.send(number);
                built("second")
            };
            let mut later = Box::pin(async move { this.get(key(0), build).await });
            let polled = timeout(Duration::ZERO, &mut later).await;
            assert!(polled.is_err(), "the first build has not ended");
            all_later.push(later);
        }
        drop((release, sender));
        assert_eq!(text(first.await.expect("no panic").expect("built")).await, "first");
        for later in all_later {
            assert_eq!(text(later.await.expect("built")).await, "second");
        }
        assert_eq!(builds.recv().await, Some(0));
        assert_eq!(builds.recv().await, None, "one build is shared");
    }

    #[tokio::test]
    async fn panicked_build_is_a_problem() {
        let responses = responses();
        let problem = responses.get(key(0), || panic!("by the test")).await;
        assert!(problem.is_err());
        let response = responses.get(key(0), || built("again")).await.expect("built");
        assert_eq!(text(response).await, "again");
    }

    #[tokio::test]
    async fn pages_at_their_limit_reject_no_other_response() {
        let responses = responses();
        for number in 0..MAX_PARAMETERIZED {
            responses.join_or_schedule(&key(number)).expect("there is a place");
        }
        assert!(responses.join_or_schedule(&key(MAX_PARAMETERIZED)).is_err());
        assert!(responses.join_or_schedule(&key(0)).is_ok(), "the build is shared");
        let fixed = [
            Document::Metrics { is_openmetrics: false },
            Document::Readiness,
            Document::Sources { after: None, limit: None },
        ];
        for document in fixed {
            let key = ResponseKey { document, visible: VisibleSources::All };
            assert!(responses.join_or_schedule(&key).is_ok(), "{:?}", key.document);
        }
    }
}
