//! Mapping of unexpected HTTP statuses to failures, with `Retry-After`.

use guest_sdk::{Failure, Response};
use httpdate::parse_http_date;
use std::time::{Duration, SystemTime};

/// Returns the failure for a response with an unexpected status.
pub(crate) fn status_failure(response: &Response, expected: &[u16]) -> Failure {
    let status = response.status;
    match status {
        401 | 403 | 407 => Failure::denied(format_args!("access denied (status {status})")),
        408 | 425 | 429 | 500..=599 => {
            let message = format!("returned {status}");
            match retry_after(response) {
                Some(delay) => Failure::retry_after(message, delay),
                None => Failure::transient(message),
            }
        }
        _ => Failure::permanent(format_args!("returned {status}, expected {expected:?}")),
    }
}

/// Returns the delay of `Retry-After`, given in seconds or as a date. A date is relative to the response's
/// `Date`, or to the local clock without it.
fn retry_after(response: &Response) -> Option<Duration> {
    let text = response.header("retry-after")?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = parse_http_date(text).ok()?;
    let now = response.header("date").and_then(|date| parse_http_date(date).ok());
    until.duration_since(now.unwrap_or_else(SystemTime::now)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use guest_sdk::{FailureKind, FakeHost, FakeResponse, Request};

    fn kind(response: FakeResponse) -> FailureKind {
        let fake = FakeHost::new();
        fake.next_response(Ok(response));
        let response = fake.host().send(Request::get("http://h/")).unwrap();
        status_failure(&response, &[200]).kind
    }

    fn transient(seconds: Option<u64>) -> FailureKind {
        FailureKind::Transient { retry_after: seconds.map(Duration::from_secs) }
    }

    #[test]
    fn status_determines_failure_kind() {
        for status in [401, 403, 407] {
            assert_eq!(kind(FakeResponse::new(status)), FailureKind::Denied, "{status}");
        }
        for status in [408, 425, 429, 500, 502, 503, 504] {
            assert_eq!(kind(FakeResponse::new(status)), transient(None), "{status}");
        }
        for status in [100, 201, 204, 206, 301, 304, 400, 404, 418, 451, 999] {
            assert_eq!(kind(FakeResponse::new(status)), FailureKind::Permanent, "{status}");
        }
    }

    #[test]
    fn retry_after_accepts_seconds_and_date() {
        let busy = |after: &str| FakeResponse::new(503).header("retry-after", after);
        let now = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(kind(busy("120")), transient(Some(120)));
        let later = "Sun, 06 Nov 1994 08:50:07 GMT";
        assert_eq!(kind(busy(later).header("date", now)), transient(Some(30)));
        assert_eq!(kind(busy(now).header("date", later)), transient(None));
        assert_eq!(kind(busy(now)), transient(None), "date in the past");
        assert_eq!(kind(busy("soon")), transient(None));
        assert_eq!(kind(busy("-1")), transient(None));
    }
}
