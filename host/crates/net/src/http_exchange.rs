//! HTTP exchange of a source: sends a request under its deadlines, and decompresses and limits the response.

use crate::{
    body::{ArrivingBody, Body, BodyTimeouts},
    deadline::{DEFAULT_TIMEOUT, Deadline, MAX_TIMEOUT, Phase, RequestTimeouts},
    dial::DialError,
    egress::Egress,
    error_chain::with_causes,
    response_head_limits::{InformationalLimit, head_too_large},
    source_http_clients::{CONNECT_CONTEXT, ConnectContext, HttpClient, RequestBody},
};
use bytes::Bytes;
use http::{Method, Request, Response, header::ACCEPT_ENCODING};
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use hyper_util::client::legacy::Error as ClientError;
use reloader_policy::{DeniedAddress, HttpOrigin};
use std::{
    error::Error,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::time::{Instant, timeout_at};
use tower_http::decompression::Decompression;
use tower_service::Service;

/// Reason why a request failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RequestError {
    /// The name resolves to an address that the address policy denies.
    #[error("{0}")]
    Denied(DeniedAddress),
    /// The connection was made, but no response head arrived within the timeout that the plugin requests, or within
    /// the default or maximum timeout of the host. (An exceeded limit is [`Failed`](Self::Failed).)
    #[error("timed out while waiting for the response")]
    TimedOut,
    /// Any other failure. The message starts with the host and port.
    #[error("{0}")]
    Failed(String),
}

impl From<DialError> for RequestError {
    fn from(error: DialError) -> Self {
        match error {
            DialError::Denied(denied) => Self::Denied(denied),
            DialError::Failed(reason) => Self::Failed(reason),
        }
    }
}

impl Egress {
    /// Sends a request, and waits for the head of the response. Decompresses the body, unless the request
    /// has an `accept-encoding` header.
    ///
    /// # Errors
    ///
    /// [`RequestError`].
    pub async fn send(
        &self,
        request: Request<RequestBody>,
        times: RequestTimeouts,
    ) -> Result<Response<Body>, RequestError> {
        let sent = self.exchange(request, times).await;
        if sent.is_err() {
            self.clients.clear();
        }
        sent
    }

    async fn exchange(
        &self,
        mut request: Request<RequestBody>,
        times: RequestTimeouts,
    ) -> Result<Response<Body>, RequestError> {
        let origin = HttpOrigin::try_from(request.uri());
        let HttpOrigin { tls, address: to } =
            origin.map_err(|error| RequestError::Failed(error.to_string()))?;
        let failed =
            |reason: &dyn std::fmt::Display| RequestError::Failed(format!("{to}: {reason}"));
        let permit = self.in_use.acquire(&to).map_err(DialError::from)?;
        let now = Instant::now();
        let requested = |time| Deadline::requested(now, time, DEFAULT_TIMEOUT, MAX_TIMEOUT);
        let connect = requested(times.connect).earlier(self.connect_deadline(now));
        let total = Deadline::limit(now, self.bounds.total, "http-total");
        // The timeouts `connect` and `first_byte` both start here. The deadline of the response head is the later of
        // the two, so that a short timeout of the first byte does not also shorten the connect phase.
        let head = requested(times.connect).later(requested(times.first_byte)).earlier(total);
        let context =
            ConnectContext { to: to.clone(), deadline: connect, progress: Arc::default() };
        let progress = Arc::clone(&context.progress);
        let informational = InformationalLimit::attach(&mut request);
        let response = CONNECT_CONTEXT.scope(context, async {
            let client = if tls {
                progress.enter(Phase::ReadingCertificates);
                let tls = self.tls.client().await.map_err(|error| failed(&error))?;
                progress.enter(Phase::AwaitingResponse);
                self.clients.secure(&self.dialler, tls)
            } else {
                self.clients.plain(&self.dialler)
            };
            let transport = Transport { client, max_body_bytes: self.bounds.body };
            let response = send(transport, request).await;
            response.map_err(|error| match find_dial_error(&error) {
                Some(error) => error.clone().into(),
                None if is_head_too_large(&error) => failed(&head_too_large(&format_args!(
                    "limit `http-head` is {} bytes",
                    self.bounds.head
                ))),
                // The text of the outermost error is only "client error".
                None => failed(&with_causes(error.source().unwrap_or(&error))),
            })
        });
        let timed_out = |_| match progress.phase() {
            Phase::AwaitingResponse if !head.is_limit() => RequestError::TimedOut,
            Phase::AwaitingResponse => failed(&head.timeout_message(Phase::AwaitingResponse)),
            phase => failed(&connect.earlier(head).timeout_message(phase)),
        };
        let response = async {
            tokio::select! {
                biased;
                exceeded = informational.exceeded() => Err(failed(&exceeded)),
                response = response => response,
            }
        };
        let response = timeout_at(head.at, response).await.map_err(timed_out)??;
        let timeouts =
            BodyTimeouts { requested: times.between_bytes, idle: self.bounds.idle, total };
        Ok(response.map(|body| Body::new(body, to, timeouts, self.bounds.body, permit)))
    }
}

/// Sends a request, and decompresses the response body unless the request has an `accept-encoding` header.
async fn send(
    mut transport: Transport,
    request: Request<RequestBody>,
) -> Result<Response<UnsyncBoxBody<Bytes, Box<dyn Error + Send + Sync>>>, ClientError> {
    // A response to HEAD has no body, even if it has a `content-encoding`.
    if request.headers().contains_key(ACCEPT_ENCODING) || request.method() == Method::HEAD {
        return Ok(transport.call(request).await?.map(BodyExt::boxed_unsync));
    }
    Ok(Decompression::new(transport).call(request).await?.map(BodyExt::boxed_unsync))
}

/// HTTP service below the decompression: returns responses with compressed bodies, as they arrive.
struct Transport {
    client: Arc<HttpClient>,
    max_body_bytes: usize,
}

impl Service<Request<RequestBody>> for Transport {
    type Response = Response<ArrivingBody>;
    type Error = ClientError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<ArrivingBody>, ClientError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<RequestBody>) -> Self::Future {
        let (response, max_bytes) = (self.client.request(request), self.max_body_bytes);
        Box::pin(async move { Ok(response.await?.map(|body| ArrivingBody::new(body, max_bytes))) })
    }
}

/// Returns whether `hyper` rejected the response head for its size.
fn is_head_too_large(error: &ClientError) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<hyper::Error>());
    cause.is_some_and(hyper::Error::is_parse_too_large)
}

/// Returns the error of the connector among the causes of `error`.
fn find_dial_error(error: &ClientError) -> Option<&DialError> {
    let mut error: &dyn Error = error;
    loop {
        match error.downcast_ref() {
            Some(found) => return Some(found),
            None => error = error.source()?,
        }
    }
}
