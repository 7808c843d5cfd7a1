//! HTTP: requests on connections that are made as all others are (`dial`), and used again.

use crate::{
    body::{Body, Raw, Waits},
    deadline::{Deadline, Phase, Progress, Times, WAIT, WAIT_MAX},
    dial::{DialError, Dialler},
    egress::Line,
    stream::InTurns,
    tls_config,
    tls_stream::Protocols,
};
use bytes::Bytes;
use http::{Method, Request, Response, Uri, header::ACCEPT_ENCODING};
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use hyper::ext::on_informational;
use hyper_util::{
    client::legacy::{Client, Error as ClientError},
    rt::{TokioIo, TokioTimer},
};
use reloader_policy::{HostPort, HttpOrigin, RefusedAddress};
use std::{
    error::Error,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};
use tower_http::decompression::Decompression;
use tower_service::Service;

/// The body of a request.
pub type RequestBody = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// Why a request brought no response.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RequestError {
    /// The name stands for an address that it may not stand for.
    #[error("{0}")]
    Refused(RefusedAddress),
    /// No response in the time that the plugin waits. It was connected.
    #[error("no response in time")]
    TimedOut,
    /// Anything else, with what was asked in front.
    #[error("{0}")]
    Failed(String),
}

impl From<DialError> for RequestError {
    fn from(error: DialError) -> Self {
        match error {
            DialError::Refused(refused) => Self::Refused(refused),
            DialError::Failed(why) => Self::Failed(why),
        }
    }
}

/// How long an unused connection is kept.
const IDLE: Duration = Duration::from_secs(30);
/// How many unused connections are kept for one origin.
const IDLE_PER_HOST: usize = 4;
/// How many fields the head of a response may have, as `hyper` has it.
const FIELDS: usize = 100;
/// What `hyper` takes at least for the head of a response, in bytes.
const HEAD_MIN: usize = 8 << 10;
/// What is received, for one response and for all on a connection together, before it is read.
const WINDOWS: [u32; 2] = [256 << 10, 1 << 20];
/// A connection of HTTP/2 with a request on it is asked for a sign of life, and given so long for it:
/// it may have been cut, and would else be used for as long as TCP does not notice.
const ASK: [Duration; 2] = [Duration::from_secs(20), Duration::from_secs(5)];

/// So many heads may come before that of the response (`100 Continue`, `103 Early Hints`), with HTTP/1.
const INTERIM: u32 = 16;
/// What a server may leave behind on a connection of HTTP/2, each at a time: streams that it has reset, and
/// those that were given up because of what it did. Whoever goes beyond that loses the connection.
const RESETS: [usize; 3] = [16, 16, 64];

type Requests = Client<Connector, RequestBody>;

/// A source's clients: without TLS, and with it as the files were when it was last used.
#[derive(Debug)]
pub(crate) struct Clients {
    /// The head of a response, in bytes.
    head: usize,
    plain: Mutex<Option<Arc<Requests>>>,
    secure: Mutex<Option<(tls_config::Client, Arc<Requests>)>>,
}

impl Clients {
    pub(crate) fn new(head: usize) -> Self {
        Self { head, plain: Mutex::default(), secure: Mutex::default() }
    }

    fn plain(&self, dialler: &Dialler) -> Arc<Requests> {
        let mut plain = self.plain.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(plain.get_or_insert_with(|| requests(dialler, None, self.head)))
    }

    /// No connection is used again: on one of them something went wrong, and whoever is at its other end
    /// may go on sending for as long as it is kept.
    fn forget(&self) {
        *self.plain.lock().unwrap_or_else(PoisonError::into_inner) = None;
        *self.secure.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// When a file has changed this is a new one: connections made before are not used again.
    fn secure(&self, dialler: &Dialler, tls: tls_config::Client) -> Arc<Requests> {
        let mut secure = self.secure.lock().unwrap_or_else(PoisonError::into_inner);
        match &*secure {
            Some((made_with, requests)) if made_with.is(&tls) => Arc::clone(requests),
            _ => {
                let requests = requests(dialler, Some(tls.clone()), self.head);
                Arc::clone(&secure.insert((tls, requests)).1)
            }
        }
    }
}

fn requests(dialler: &Dialler, tls: Option<tls_config::Client>, head: usize) -> Arc<Requests> {
    let client = Client::builder(dialler.tasks.clone())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(IDLE_PER_HOST)
        .http1_max_buf_size(head.max(HEAD_MIN))
        .http2_max_header_list_size(head.try_into().unwrap_or(u32::MAX))
        .http2_initial_stream_window_size(WINDOWS[0])
        .http2_initial_connection_window_size(WINDOWS[1])
        .http2_keep_alive_interval(ASK[0])
        .http2_keep_alive_timeout(ASK[1])
        .http2_max_concurrent_reset_streams(RESETS[0])
        .http2_max_pending_accept_reset_streams(RESETS[1])
        .http2_max_local_error_reset_streams(RESETS[2])
        .build(Connector { dialler: dialler.clone(), tls });
    Arc::new(client)
}

impl Line {
    /// Sends a request, and waits for the head of its response. The body is decompressed, unless the
    /// request says itself how it may be encoded.
    ///
    /// # Errors
    ///
    /// [`RequestError`].
    pub async fn send(
        &self,
        request: Request<RequestBody>,
        times: Times,
    ) -> Result<Response<Body>, RequestError> {
        let sent = self.exchange(request, times).await;
        if sent.is_err() {
            self.clients.forget();
        }
        sent
    }

    async fn exchange(
        &self,
        mut request: Request<RequestBody>,
        times: Times,
    ) -> Result<Response<Body>, RequestError> {
        let origin = HttpOrigin::try_from(request.uri());
        let HttpOrigin { tls, address: to } =
            origin.map_err(|error| RequestError::Failed(error.to_string()))?;
        let failed = |why: &dyn std::fmt::Display| RequestError::Failed(format!("{to}: {why}"));
        let held = self.open.hold(&to)?;
        let now = Instant::now();
        let asked = |time| Deadline::asked(now, time, WAIT, WAIT_MAX);
        let connect = asked(times.connect).or(self.connect_limit(now));
        let total = Deadline::limit(now, self.bounds.total, "http-total");
        // A guest that gives each its time means both together.
        let head = asked(times.connect).and(asked(times.first_byte)).or(total);
        let attempt = Attempt { to: to.clone(), connect, progress: Arc::default() };
        let progress = Arc::clone(&attempt.progress);
        let interim = Interim::count(&mut request);
        let response = ATTEMPT.scope(attempt, async {
            let requests = if tls {
                progress.enter(Phase::Certificates);
                let tls = self.tls.client().await.map_err(|error| failed(&error))?;
                progress.enter(Phase::Waiting);
                self.clients.secure(&self.dialler, tls)
            } else {
                self.clients.plain(&self.dialler)
            };
            let response = send(Source { requests, limit: self.bounds.body }, request).await;
            response.map_err(|error| match dial_error(&error) {
                Some(error) => error.clone().into(),
                None if is_too_long(&error) => failed(&format_args!(
                    "the head of the response is too large, has more than {FIELDS} fields, or a \
                     length that no body can have (limit \
                     `http-head` is {} bytes)",
                    self.bounds.head
                )),
                // What `hyper` calls it itself ("client error") says nothing to anybody else.
                None => failed(&causes(error.source().unwrap_or(&error))),
            })
        });
        let over = |_| match progress.phase() {
            Phase::Waiting if !head.is_limit() => RequestError::TimedOut,
            Phase::Waiting => failed(&head.over(Phase::Waiting)),
            phase => failed(&connect.or(head).over(phase)),
        };
        let response = async {
            tokio::select! {
                biased;
                () = interim.too_many() => Err(failed(&format_args!(
                    "more than {INTERIM} informational responses before the response"
                ))),
                response = response => response,
            }
        };
        let response = timeout_at(head.at, response).await.map_err(over)??;
        let waits = Waits { asked: times.between_bytes, idle: self.bounds.idle, total };
        Ok(response.map(|body| Body::new(body, to, waits, self.bounds.body, held)))
    }
}

/// Counts the heads that come before that of the response: there may be any number, and each is read.
#[derive(Default)]
struct Interim {
    seen: AtomicU32,
    too_many: Notify,
}

impl Interim {
    fn count<B>(request: &mut Request<B>) -> Arc<Self> {
        let interim = Arc::<Self>::default();
        let counted = Arc::clone(&interim);
        on_informational(request, move |_| {
            if counted.seen.fetch_add(1, Ordering::Relaxed) >= INTERIM {
                counted.too_many.notify_one();
            }
        });
        interim
    }

    /// Waits until there are too many.
    async fn too_many(&self) {
        self.too_many.notified().await;
    }
}

async fn send(
    mut source: Source,
    request: Request<RequestBody>,
) -> Result<Response<UnsyncBoxBody<Bytes, Box<dyn Error + Send + Sync>>>, ClientError> {
    // The response to HEAD has no body, whatever it says of its encoding.
    if request.headers().contains_key(ACCEPT_ENCODING) || request.method() == Method::HEAD {
        return Ok(source.call(request).await?.map(BodyExt::boxed_unsync));
    }
    Ok(Decompression::new(source).call(request).await?.map(BodyExt::boxed_unsync))
}

/// Where responses come from, with their bodies as they arrive.
struct Source {
    requests: Arc<Requests>,
    limit: usize,
}

impl Service<Request<RequestBody>> for Source {
    type Response = Response<Raw>;
    type Error = ClientError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Raw>, ClientError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<RequestBody>) -> Self::Future {
        let (response, limit) = (self.requests.request(request), self.limit);
        Box::pin(async move { Ok(response.await?.map(|body| Raw::new(body, limit))) })
    }
}

/// Whether the head of a response was more than is taken.
fn is_too_long(error: &ClientError) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<hyper::Error>());
    cause.is_some_and(hyper::Error::is_parse_too_large)
}

/// The connector's own error, which `hyper` has wrapped.
fn dial_error(error: &ClientError) -> Option<&DialError> {
    let mut error: &dyn Error = error;
    loop {
        match error.downcast_ref() {
            Some(found) => return Some(found),
            None => error = error.source()?,
        }
    }
}

/// An error with its causes: the outermost one alone says little.
pub(crate) fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        source = error.source();
    }
    text
}

/// One request's own part in making a connection, as `hyper` tells its connector the origin alone.
#[derive(Debug, Clone)]
struct Attempt {
    to: HostPort,
    connect: Deadline,
    progress: Arc<Progress>,
}

tokio::task_local! {
    static ATTEMPT: Attempt;
}

#[derive(Debug, Clone)]
struct Connector {
    dialler: Dialler,
    tls: Option<tls_config::Client>,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<InTurns>;
    type Error = DialError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, DialError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, origin: Uri) -> Self::Future {
        // `hyper` calls this while the request is polled, so its part is known.
        let attempt = ATTEMPT.try_with(Attempt::clone);
        let Self { dialler, tls } = self.clone();
        Box::pin(async move {
            let attempt =
                attempt.map_err(|_| DialError::Failed(format!("{origin}: no request")))?;
            let Attempt { to, connect, progress } = attempt;
            let tls = tls.as_ref().map(|tls| (tls, Protocols::Http));
            let held = dialler.kept.hold(&to)?;
            let stream = dialler.dial(&to, tls, connect, &progress).await?;
            Ok(TokioIo::new(InTurns::new(stream, held)))
        })
    }
}
