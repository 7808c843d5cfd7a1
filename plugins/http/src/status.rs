//! What a status that carries no value means.

use guest_sdk::{Failure, Response};
use httpdate::parse_http_date;
use std::time::{Duration, SystemTime};

/// The failure that an unwanted response stands for.
pub(crate) fn refusal(response: &Response, expected: &[u16]) -> Failure {
    let status = response.status;
    match status {
        401 | 403 | 407 => Failure::denied(format_args!("access is refused (status {status})")),
        408 | 425 | 429 | 500..=599 => {
            let message = format!("answered {status}");
            match retry_after(response) {
                Some(pause) => Failure::retry_after(message, pause),
                None => Failure::transient(message),
            }
        }
        _ => Failure::permanent(format_args!("answered {status}, expected {expected:?}")),
    }
}

/// `Retry-After`: seconds, or a date, which is compared with the server's own clock if it tells it.
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
        refusal(&response, &[200]).kind
    }

    fn transient(seconds: Option<u64>) -> FailureKind {
        FailureKind::Transient { retry_after: seconds.map(Duration::from_secs) }
    }

    #[test]
    fn each_status_says_how_soon_to_try_again() {
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
    fn the_server_may_ask_for_a_pause_in_seconds_or_until_a_date() {
        let busy = |after: &str| FakeResponse::new(503).header("retry-after", after);
        let now = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(kind(busy("120")), transient(Some(120)));
        let later = "Sun, 06 Nov 1994 08:50:07 GMT";
        assert_eq!(kind(busy(later).header("date", now)), transient(Some(30)));
        assert_eq!(kind(busy(now).header("date", later)), transient(None));
        assert_eq!(kind(busy(now)), transient(None), "long past");
        assert_eq!(kind(busy("soon")), transient(None));
        assert_eq!(kind(busy("-1")), transient(None));
    }
}
