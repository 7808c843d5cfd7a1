//! Response of a host, read into memory up to a size limit.

use crate::client_error::ClientError;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;

/// HTTP response of the host, with its complete body in memory.
pub(crate) struct Response {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) content: Bytes,
}

impl Response {
    /// Reads the body, of at most `limit` bytes.
    pub(crate) async fn read(
        response: http::Response<Incoming>,
        limit: usize,
    ) -> Result<Self, ClientError> {
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, limit).collect().await;
        let body = body.map_err(|error| match error.is::<LengthLimitError>() {
            true => ClientError::InvalidResponse(format!("larger than {limit} bytes")),
            false => ClientError::RequestFailed(error.to_string()),
        })?;
        Ok(Self { status: parts.status, headers: parts.headers, content: body.to_bytes() })
    }

    /// Returns a header, if it is present and is text.
    pub(crate) fn header(&self, name: &'static str) -> Option<&str> {
        self.headers.get(HeaderName::from_static(name))?.to_str().ok()
    }
}
