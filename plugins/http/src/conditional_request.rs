//! Conditional requests: the cache validators of a response (`ETag`, `Last-Modified`), the cursor that stores them,
//! and the header fields that send them back (`If-None-Match`, `If-Modified-Since`).

use crate::{address::Address, client::Headers};
use guest_sdk::Response;
use httpdate::parse_http_date;
use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::{Duration, SystemTime},
};

/// `ETag` and `Last-Modified` of a response, verbatim.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CacheValidators {
    etag: Option<String>,
    last_modified: Option<String>,
}

impl CacheValidators {
    pub(crate) fn from_response(response: &Response) -> Self {
        let field = |name| response.header(name).and_then(valid_validator);
        Self { etag: field("etag"), last_modified: field("last-modified") }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.etag.is_none() && self.last_modified.is_none()
    }

    /// Returns the header fields of a conditional request: `If-None-Match` and `If-Modified-Since`.
    pub(crate) fn headers(&self) -> Headers {
        let etag = self.etag.clone().map(|value| ("if-none-match".into(), value));
        let date = self.last_modified.clone().map(|value| ("if-modified-since".into(), value));
        etag.into_iter().chain(date).collect()
    }
}

/// Version of the value at one URL.
///
/// The cursor includes the URL because `url` may redirect to different targets. Cache validators of one target are
/// not valid for another target: its value may be older, and the server would wrongly respond "not modified".
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// Hash of the URL. The URL itself may contain a secret in its query.
    address: u64,
    validators: CacheValidators,
}

impl Cursor {
    /// Creates the cursor of a complete response. Returns `None` without reliable validators.
    pub(crate) fn from_response(response: &Response, from: &Address) -> Option<Self> {
        let validators = CacheValidators::from_response(response);
        let usable = !validators.is_empty() && is_last_modified_reliable(response);
        usable.then(|| Self { address: address_hash(from), validators })
    }

    /// Parses the output of [`to_text`](Self::to_text). Returns `None` for any other text.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut lines = text.split('\n');
        let address = u64::from_str_radix(lines.next()?, 16).ok()?;
        let etag = valid_validator(lines.next()?);
        let last_modified = valid_validator(lines.next()?);
        let validators = CacheValidators { etag, last_modified };
        let whole = lines.next().is_none() && !validators.is_empty();
        whole.then_some(Self { address, validators })
    }

    /// Serializes the cursor to three lines: URL hash, `ETag`, `Last-Modified`. A header value cannot contain
    /// line breaks.
    pub(crate) fn to_text(&self) -> String {
        let CacheValidators { etag, last_modified } = &self.validators;
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        format!("{:016x}\n{}\n{}", self.address, text(etag), text(last_modified))
    }

    /// Returns the header fields of a conditional request to `to`. Returns none if `to` is not the URL of the
    /// cursor.
    pub(crate) fn headers(&self, to: &Address) -> Headers {
        if address_hash(to) == self.address { self.validators.headers() } else { Headers::new() }
    }
}

/// Maximum length of an `ETag` or `Last-Modified` in a cursor, in bytes. The host limits all header fields
/// of a request to 64 KiB.
const MAX_VALIDATOR_BYTES: usize = 4 * 1024;

/// Returns a trimmed header value if it can be sent back in a request.
fn valid_validator(value: &str) -> Option<String> {
    let value = value.trim();
    let is_fit =
        (1..=MAX_VALIDATOR_BYTES).contains(&value.len()) && !value.chars().any(char::is_control);
    is_fit.then(|| value.into())
}

/// Returns a hash of the URL. The hash may change with the compiler version; the first read after an upgrade
/// is then unconditional.
fn address_hash(address: &Address) -> u64 {
    let mut hasher = DefaultHasher::new();
    address.as_str().hash(&mut hasher);
    hasher.finish()
}

/// Minimum age of `Last-Modified` for a reliable validator.
///
/// A file that is written twice within one second can keep its `Last-Modified`. It can also keep its `ETag`
/// if the server derives the `ETag` from date and size. A recent `Last-Modified` therefore does not identify
/// a version (RFC 9110, section 8.8.2.2). The minimum is two seconds instead of one, because both dates are
/// truncated to seconds.
const MIN_LAST_MODIFIED_AGE: Duration = Duration::from_secs(2);

/// Returns whether `Last-Modified` is missing or at least [`MIN_LAST_MODIFIED_AGE`] old.
///
/// The age is checked against the response's `Date` and against the local clock. With a `Last-Modified` in
/// the future, the server would respond "not modified" to every conditional request until that time.
fn is_last_modified_reliable(response: &Response) -> bool {
    let Some(modified) = response.header("last-modified") else { return true };
    let date = |text: &str| parse_http_date(text).ok();
    match (date(modified), response.header("date").and_then(date)) {
        (Some(modified), Some(server_time)) => [server_time, SystemTime::now()]
            .into_iter()
            .all(|now| now.duration_since(modified).is_ok_and(|age| age >= MIN_LAST_MODIFIED_AGE)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use guest_sdk::{FakeHost, FakeResponse, Request};

    const NOW: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

    fn cursor(response: FakeResponse) -> Option<Cursor> {
        let fake = FakeHost::new();
        fake.next_response(Ok(response));
        let response = fake.host().send(Request::get("http://h/")).unwrap();
        Cursor::from_response(&response, &Address::parse("http://h/").unwrap())
    }

    fn dated(modified: &str) -> FakeResponse {
        FakeResponse::new(200).header("etag", "\"a\"").header("last-modified", modified)
    }

    #[test]
    fn etag_or_date_makes_cursor() {
        assert!(cursor(FakeResponse::new(200).header("etag", "W/\"a\"")).is_some());
        let old = "Sun, 06 Nov 1994 08:49:35 GMT";
        assert!(cursor(dated(old).header("date", NOW)).is_some());
        assert_eq!(cursor(FakeResponse::new(200).header("date", NOW)), None);
    }

    #[test]
    fn recent_date_makes_no_cursor() {
        for modified in [NOW, "Sun, 06 Nov 1994 08:49:36 GMT", "Sun, 06 Nov 1994 09:00:00 GMT"] {
            assert_eq!(cursor(dated(modified).header("date", NOW)), None, "{modified}");
        }
    }

    /// A `Last-Modified` after the time of the local clock makes no cursor, even if the server's `Date` is later still.
    #[test]
    fn future_date_makes_no_cursor() {
        let future = "Thu, 06 Nov 2994 08:00:00 GMT";
        let after_it = "Fri, 07 Nov 2994 08:00:00 GMT";
        assert_eq!(cursor(dated(future).header("date", after_it)), None);
    }

    #[test]
    fn long_etag_makes_no_cursor() {
        let tag = |length| FakeResponse::new(200).header("etag", "a".repeat(length));
        assert!(cursor(tag(MAX_VALIDATOR_BYTES)).is_some());
        assert_eq!(cursor(tag(MAX_VALIDATOR_BYTES + 1)), None);
    }

    #[test]
    fn date_of_unknown_age_makes_no_cursor() {
        assert_eq!(cursor(dated("Sun, 06 Nov 1994 08:00:00 GMT")), None);
        assert_eq!(cursor(dated("yesterday").header("date", NOW)), None);
    }

    #[test]
    fn cursor_text_roundtrips() {
        let response = dated("Sun, 06 Nov 1994 08:00:00 GMT").header("date", NOW);
        let cursor = cursor(response).unwrap();
        assert_eq!(Cursor::parse(&cursor.to_text()), Some(cursor));
    }

    #[test]
    fn invalid_cursor_text_is_ignored() {
        for text in ["", "\"etag\"", "\n\n", "1\n\n", "1\na\u{7}\n", "1\na\nb\nc", "x\na\nb", "🦀"]
        {
            assert_eq!(Cursor::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn validators_apply_to_their_url() {
        let cursor = cursor(FakeResponse::new(200).header("etag", "\"a\"")).unwrap();
        let headers = |url| cursor.headers(&Address::parse(url).unwrap());
        assert_eq!(headers("http://h/"), [("if-none-match".into(), "\"a\"".into())]);
        assert!(headers("http://h/other").is_empty());
    }
}
