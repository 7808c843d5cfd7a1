//! [`Host::send`](crate::Host::send) through `wasi:http`.

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

/// The most that one read of a body asks for.
const CHUNK: u64 = 64 * 1024;

pub(super) fn send(request: Request) -> Result<Response, HttpError> {
    let (scheme, authority, path) = split(&request.url)?;
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
    let refused = |()| HttpError::Failed(format!("`{}` cannot be requested", request.url));
    outgoing.set_method(&method(&request.method)).map_err(refused)?;
    outgoing.set_scheme(Some(&scheme)).map_err(refused)?;
    outgoing.set_authority(Some(authority)).map_err(refused)?;
    outgoing.set_path_with_query(Some(&path)).map_err(refused)?;
    let body = outgoing.body().map_err(refused)?;

    let options = RequestOptions::new();
    let timeout = Some(nanoseconds(request.timeout));
    options.set_connect_timeout(timeout).map_err(refused)?;
    options.set_first_byte_timeout(timeout).map_err(refused)?;

    let explain = |code| failed(code, authority);
    let pending = outgoing_handler::handle(outgoing, Some(options)).map_err(explain)?;
    if !request.body.is_empty() {
        let stream = body.write().map_err(refused)?;
        for piece in request.body.chunks(4096) {
            stream
                .blocking_write_and_flush(piece)
                .map_err(|error| HttpError::Failed(format!("sending the body: {error}")))?;
        }
    }
    OutgoingBody::finish(body, None).map_err(explain)?;

    pending.subscribe().block();
    let response = match pending.get() {
        Some(Ok(response)) => response.map_err(explain)?,
        _ => return Err(HttpError::Failed("the host gave no response".into())),
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
    let gone = |()| HttpError::Failed("the response has no body".into());
    let body = response.consume().map_err(gone)?;
    let stream = body.stream().map_err(gone)?;
    Ok(Response::new(response.status(), headers, Body { stream, _body: body }))
}

/// The stream is a child of the body, so it is dropped first: the order of the fields matters.
struct Body {
    stream: InputStream,
    _body: IncomingBody,
}

impl BodyBackend for Body {
    fn chunk(&mut self, timeout: Duration) -> Result<Chunk, HttpError> {
        loop {
            match self.stream.read(CHUNK) {
                Ok(bytes) if !bytes.is_empty() => return Ok(Chunk::Bytes(bytes)),
                Ok(_) => {}
                Err(StreamError::Closed) => return Ok(Chunk::End),
                Err(StreamError::LastOperationFailed(error)) => {
                    let text = error.to_debug_string();
                    // What the host has words of its own for is of that kind.
                    let words = text.strip_prefix("internal error: ").unwrap_or(&text);
                    return Err(HttpError::Failed(words.into()));
                }
            }
            let ready = self.stream.subscribe();
            let late = monotonic_clock::subscribe_duration(nanoseconds(timeout));
            if poll::poll(&[&ready, &late]) == [1] {
                return Ok(Chunk::Nothing);
            }
        }
    }
}

fn split(url: &str) -> Result<(Scheme, &str, String), HttpError> {
    let unusable = || HttpError::Failed(format!("`{url}` is not an http or https URL"));
    let (scheme, rest) = url.split_once("://").ok_or_else(unusable)?;
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        _ => return Err(unusable()),
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

fn failed(code: ErrorCode, authority: &str) -> HttpError {
    match code {
        ErrorCode::HttpRequestDenied => {
            HttpError::Denied(format!("`{authority}` is not granted to this plugin"))
        }
        ErrorCode::DestinationIpProhibited => HttpError::Denied(format!(
            "`{authority}` stands for an address that it may not stand for; the host's log names it"
        )),
        ErrorCode::ConnectionTimeout
        | ErrorCode::ConnectionReadTimeout
        | ErrorCode::HttpResponseTimeout
        | ErrorCode::DnsTimeout => HttpError::TimedOut,
        ErrorCode::HttpResponseBodySize(_) => {
            HttpError::TooLarge("the response's body is longer than the host allows".into())
        }
        ErrorCode::InternalError(Some(message)) => HttpError::Failed(message),
        other => HttpError::Failed(format!("{authority}: {other}")),
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    duration.as_nanos().try_into().unwrap_or(u64::MAX)
}
