//! Value of a source, as a response of the host.

use crate::{buffered_response::Response, client_error::ClientError};
use bytes::Bytes;
use http::{HeaderValue, header};
use jiff::Timestamp;

/// Value of a source, as the host returned it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// Content of the value, in bytes as the source provides them.
    pub content: Bytes,
    /// Media type, if the source provides one.
    pub media_type: Option<String>,
    /// Revision of the value.
    pub revision: u64,
    /// Time of the publication, if the host knows it.
    pub at: Option<Timestamp>,
    /// State of the value: `current`, `stale`, or `past` (the value of an older revision).
    pub state: String,
    /// `ETag` of the value, for conditional requests.
    pub(crate) etag: Option<HeaderValue>,
}

impl Value {
    pub(crate) fn from_response(response: Response) -> Result<Self, ClientError> {
        let revision = response.header("reloader-revision").and_then(|text| text.parse().ok());
        let Some(revision) = revision else {
            return Err(ClientError::InvalidResponse(
                "not a reloader host (no revision in the response)".into(),
            ));
        };
        Ok(Self {
            revision,
            at: response.header("reloader-at").and_then(|text| text.parse().ok()),
            state: response.header("reloader-state").unwrap_or_default().into(),
            // `application/octet-stream` counts as no media type: the host sends it for a value without one.
            media_type: response
                .header("content-type")
                .filter(|media_type| *media_type != "application/octet-stream")
                .map(Into::into),
            etag: response.headers.get(header::ETAG).cloned(),
            content: response.content,
        })
    }
}
