//! Error response of the API (problem details, RFC 9457).

use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// Error response: problem details (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Problem {
    /// Problem type. It is always `about:blank`: the status code alone identifies the problem.
    #[serde(rename = "type")]
    #[cfg_attr(feature = "openapi", schema(example = "about:blank"))]
    pub kind: Cow<'static, str>,
    /// Standard phrase of the status code.
    pub title: Cow<'static, str>,
    /// HTTP status code.
    pub status: u16,
    /// Human-readable cause of the error, and the next step.
    pub detail: String,
}
