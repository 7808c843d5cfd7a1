//! Implementation of [`Host::send`](crate::Host::send) with `wasi:http`.

use crate::{
    HttpError, Request, Response,
    http::{BodyBackend, Chunk},
};
use std::time::Duration;
use wasip2::{
    clocks::monotonic_clock,
    http::{
        outgoing_handler,
        types::{
            ErrorCode, Fields, IncomingBody, IncomingResponse, Method, OutgoingBody,
            OutgoingRequest, RequestOptions, Scheme,
        },
    },
    io::{
        poll,
        streams::{InputStream, StreamError},
    },
};

/// Maximum size of one body read, in bytes.
const MAX_BODY_READ_BYTES: u64 = 64 * 1024;
/// Maximum size of one body write, in bytes. `blocking-write-and-flush` accepts at most this many.
const MAX_BODY_WRITE_BYTES: usize = 4096;

pub(super) fn send(request: Request) -> Result<Response, HttpError> {
    let (scheme, authority, path) = split_url(&request.url)?;
    let fields = Fields::new();
    for (name, value) in &request.headers {
        fields
            .append(name, value.as_bytes())
            .map_err(|error| HttpError::Failed(format!("header `{name}`: {error}")))?;
    }
    if !request.body.is_empty() {
        fields
            .append("content-length", request.body.len().to_string().as_bytes())
            .map_err(|error| HttpError::Failed(error.to_string()))?;
    }
    let outgoing = OutgoingRequest::new(fields);
    let invalid = |()| HttpError::Failed(format!("`{}` cannot be requested", request.url));
    outgoing.set_method(&method(&request.method)).map_err(invalid)?;
    outgoing.set_scheme(Some(&scheme)).map_err(invalid)?;
    outgoing.set_authority(Some(authority)).map_err(invalid)?;
    outgoing.set_path_with_query(Some(&path)).map_err(invalid)?;
    let body = outgoing.body().map_err(invalid)?;

    let options = RequestOptions::new();
    let timeout = Some(nanoseconds(request.timeout));
    options.set_connect_timeout(timeout).map_err(invalid)?;
    options.set_first_byte_timeout(timeout).map_err(invalid)?;

    let to_error = |code| http_error(code, authority);
    let pending = outgoing_handler::handle(outgoing, Some(options)).map_err(to_error)?;
    if !request.body.is_empty() {
        let stream = body.write().map_err(invalid)?;
        for piece in request.body.chunks(MAX_BODY_WRITE_BYTES) {
            stream
                .blocking_write_and_flush(piece)
                .map_err(|error| HttpError::Failed(format!("sending the body failed: {error}")))?;
        }
    }
    OutgoingBody::finish(body, None).map_err(to_error)?;

    pending.subscribe().block();
    let response = match pending.get() {
        Some(Ok(response)) => response.map_err(to_error)?,
        _ => return Err(HttpError::Failed("the host returned no response".into())),
    };
    receive(&response)
}

fn receive(response: &IncomingResponse) -> Result<Response, HttpError> {
    let headers = response
        .headers()
        .entries()
        .into_iter()
        .map(|(name, value)| {
            (name.to_ascii_lowercase(), String::from_utf8_lossy(&value).into_owned())
        })
        .collect();
    let no_body = |()| HttpError::Failed("the response has no body".into());
    let body = response.consume().map_err(no_body)?;
    let stream = body.stream().map_err(no_body)?;
    Ok(Response::new(response.status(), headers, Body { stream, _body: body }))
}

/// Response body. The stream is a child resource of the body and must be dropped first. Fields drop in
/// order of declaration.
struct Body {
    stream: InputStream,
    _body: IncomingBody,
}

impl BodyBackend for Body {
    fn chunk(&mut self, timeout: Duration) -> Result<Chunk, HttpError> {
        loop {
            match self.stream.read(MAX_BODY_READ_BYTES) {
                Ok(bytes) if !bytes.is_empty() => return Ok(Chunk::Bytes(bytes)),
                Ok(_) => {}
                Err(StreamError::Closed) => return Ok(Chunk::End),
                Err(StreamError::LastOperationFailed(error)) => {
                    let text = error.to_debug_string();
                    // The host reports its own error messages as `internal-error`.
                    let message = text.strip_prefix("internal error: ").unwrap_or(&text);
                    return Err(HttpError::Failed(message.into()));
                }
            }
            let ready = self.stream.subscribe();
            let timer = monotonic_clock::subscribe_duration(nanoseconds(timeout));
            if poll::poll(&[&ready, &timer]) == [1] {
                return Ok(Chunk::Nothing);
            }
        }
    }
}

/// Splits a URL into scheme, authority, and path with query.
fn split_url(url: &str) -> Result<(Scheme, &str, String), HttpError> {
    let invalid = || HttpError::Failed(format!("`{url}` is not an http or https URL"));
    let (scheme, rest) = url.split_once("://").ok_or_else(invalid)?;
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        _ => return Err(invalid()),
    };
    let rest = rest.split('#').next().unwrap_or_default();
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    Ok((scheme, authority, path))
}

fn method(name: &str) -> Method {
    match name {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        other => Method::Other(other.into()),
    }
}

/// Converts an error code of `wasi:http` into the SDK's error. `authority` is the host and port of the request.
fn http_error(code: ErrorCode, authority: &str) -> HttpError {
    match code {
        ErrorCode::HttpRequestDenied => {
            HttpError::Denied(format!("`{authority}` is not granted to this plugin"))
        }
        ErrorCode::DestinationIpProhibited => HttpError::Denied(format!(
            "`{authority}` resolves to an address that is not allowed; the host's log names the \
             address and the setting that allows it"
        )),
        ErrorCode::ConnectionTimeout
        | ErrorCode::ConnectionReadTimeout
        | ErrorCode::HttpResponseTimeout
        | ErrorCode::DnsTimeout => HttpError::TimedOut,
        ErrorCode::HttpResponseBodySize(_) => {
            HttpError::TooLarge("the response body exceeds the host's limit `http-body`".into())
        }
        ErrorCode::InternalError(Some(message)) => HttpError::Failed(message),
        other => HttpError::Failed(format!("{authority}: {other}")),
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    duration.as_nanos().try_into().unwrap_or(u64::MAX)
}
