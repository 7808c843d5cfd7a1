//! Read of the value: one conditional GET request and the interpretation of its response.

use crate::{
    address::Address,
    client::{Client, Headers, Reply},
    conditional_request::Cursor,
    status_failure::status_failure,
    time_budget::TimeBudget,
};
use guest_sdk::{Failure, HttpError, Outcome, Response, Snapshot};

/// Responses that the settings allow: their statuses and the maximum length.
pub(crate) struct Expected {
    /// Statuses of a response with a value.
    pub(crate) value: Vec<u16>,
    /// Statuses of a response that confirms that the value does not exist.
    pub(crate) absent: Vec<u16>,
    /// Maximum length of the body, in bytes.
    pub(crate) max_bytes: usize,
}

/// Reads the value. The request is conditional if `known` is a cursor of the requested URL.
///
/// # Errors
///
/// Returns a failure if there is no complete value and no definite answer that it does not exist.
pub(crate) fn fetch(
    client: &Client,
    url: &Address,
    expected: &Expected,
    budget: &TimeBudget,
    known: Option<&str>,
) -> Result<Outcome, Failure> {
    let known = known.and_then(Cursor::parse);
    let conditions =
        |to: &Address| known.as_ref().map_or_else(Headers::new, |known| known.headers(to));
    let Some(Reply { mut response, from }) = client.get(url, budget, &conditions)? else {
        return Err(Failure::transient(format_args!("`{url}` did not respond in time")));
    };
    match response.status {
        304 if !conditions(&from).is_empty() => Ok(Outcome::Unchanged),
        status if expected.value.contains(&status) => {
            let content = read_body(&mut response, expected.max_bytes, budget)
                .map_err(|failure| failure.context(format_args!("`{from}`")))?;
            Ok(Outcome::Changed(Snapshot {
                content,
                media_type: response.header("content-type").and_then(media_type),
                cursor: Cursor::from_response(&response, &from).map(|cursor| cursor.to_text()),
            }))
        }
        status if expected.absent.contains(&status) => Ok(Outcome::Absent),
        _ => Err(status_failure(&response, &expected.value).context(format_args!("`{from}`"))),
    }
}

/// Reads the complete body.
fn read_body(
    response: &mut Response,
    limit: usize,
    budget: &TimeBudget,
) -> Result<Vec<u8>, Failure> {
    let content_length = response.content_length();
    let too_long =
        || Failure::permanent(format_args!("the body is longer than {limit} bytes (`max_bytes`)"));
    if content_length.is_some_and(|length| length > limit as u64) {
        return Err(too_long());
    }
    // The host removes `Content-Encoding` after it has decoded the body. If the header is still present, the host
    // does not support the encoding.
    if let Some(encoding) = response.header("content-encoding").filter(|e| *e != "identity") {
        return Err(Failure::permanent(format_args!("unsupported content encoding `{encoding}`")));
    }
    let content =
        response.bytes_while(limit, || budget.remaining()).map_err(|error| match error {
            HttpError::TooLarge(_) => too_long(),
            HttpError::TimedOut if budget.remaining().is_none() => {
                Failure::transient("the body was not complete in time (`deadline`)")
            }
            HttpError::TimedOut => Failure::transient("the body stalled (`timeout`)"),
            other => other.into(),
        })?;
    match content_length {
        Some(length) if length != content.len() as u64 => Err(Failure::transient(format_args!(
            "incomplete body: received {} bytes, but `Content-Length` is {length}",
            content.len()
        ))),
        _ => Ok(content),
    }
}

fn media_type(text: &str) -> Option<String> {
    let text = text.trim();
    (!text.is_empty()).then(|| text.into())
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use guest_sdk::{
        Failure, FailureKind, FakeHost, FakeResponse, HttpError, Outcome, Reload, Snapshot,
    };

    /// Reads once with `settings` from a server that sends the response.
    fn reload_as(settings: &str, response: FakeResponse) -> Result<Outcome, Failure> {
        let fake = FakeHost::new();
        fake.next_response(Ok(response));
        source(&fake, settings).reload(None)
    }

    fn reload(response: FakeResponse) -> Result<Outcome, Failure> {
        reload_as(URL, response)
    }

    fn cursor(outcome: Outcome) -> Option<String> {
        match outcome {
            Outcome::Changed(snapshot) => snapshot.cursor,
            other => panic!("no value: {other:?}"),
        }
    }

    fn tagged(tag: &str) -> FakeResponse {
        FakeResponse::new(200).header("etag", tag).chunk("{}")
    }

    #[test]
    fn value_has_body_and_media_type() {
        let response = FakeResponse::new(200)
            .header("content-type", "application/json; charset=utf-8")
            .header("content-length", "7")
            .chunk("{\"a\"")
            .chunk(":1}");
        let expected = Snapshot::new("{\"a\":1}").media_type("application/json; charset=utf-8");
        assert_eq!(reload(response), Ok(expected.into()));
    }

    #[test]
    fn known_cursor_makes_request_conditional() {
        let fake = FakeHost::new();
        fake.next_response(Ok(tagged("\"a\"")));
        fake.next_response(Ok(FakeResponse::new(304)));
        let mut source = source(&fake, URL);
        let known = cursor(source.reload(None).unwrap()).unwrap();
        assert_eq!(source.reload(Some(&known)), Ok(Outcome::Unchanged));
        assert_eq!(sent(&fake, 0, "if-none-match"), None);
        assert_eq!(sent(&fake, 1, "if-none-match"), Some("\"a\"".into()));
    }

    /// Cache validators are sent only to the URL that returned them, not to other targets of a redirect.
    #[test]
    fn cursor_applies_to_redirect_target() {
        let fake = FakeHost::new();
        let redirect = |to| Ok(FakeResponse::new(302).header("location", to));
        for response in [redirect("/1"), Ok(tagged("\"a\"")), redirect("/2"), Ok(tagged("\"b\""))] {
            fake.next_response(response);
        }
        let mut source = source(&fake, URL);
        let known = cursor(source.reload(None).unwrap()).unwrap();
        assert!(matches!(source.reload(Some(&known)), Ok(Outcome::Changed(_))));
        assert!((0..4).all(|request| sent(&fake, request, "if-none-match").is_none()));

        for response in [redirect("/1"), Ok(FakeResponse::new(304))] {
            fake.next_response(response);
        }
        assert_eq!(source.reload(Some(&known)), Ok(Outcome::Unchanged));
    }

    #[test]
    fn invalid_cursor_is_ignored() {
        let fake = FakeHost::new();
        fake.next_response(Ok(tagged("\"a\"")));
        assert!(matches!(source(&fake, URL).reload(Some("junk")), Ok(Outcome::Changed(_))));
        assert_eq!(sent(&fake, 0, "if-none-match"), None);
    }

    #[test]
    fn unsolicited_not_modified_fails() {
        assert_eq!(reload(FakeResponse::new(304)).unwrap_err().kind, FailureKind::Permanent);
    }

    #[test]
    fn incomplete_body_fails() {
        for response in [
            tagged("\"a\"").header("content-length", "3"),
            tagged("\"a\"").broken("reset"),
            tagged("\"a\"").silence(),
        ] {
            let failure = reload(response).unwrap_err();
            assert_eq!(failure.kind, FailureKind::Transient { retry_after: None }, "{failure}");
        }
    }

    #[test]
    fn body_size_limit_is_enforced() {
        let settings = r#"{"url": "https://example.com/value", "max_bytes": 4}"#;
        let fits = FakeResponse::new(200).chunk("ab").chunk("cd");
        assert_eq!(reload_as(settings, fits), Ok(Snapshot::new("abcd").into()));
        for response in [
            FakeResponse::new(200).chunk("abcd").chunk("e"),
            FakeResponse::new(200).header("content-length", "5").broken("never read"),
        ] {
            let failure = reload_as(settings, response).unwrap_err();
            assert_eq!(failure.kind, FailureKind::Permanent);
            assert!(failure.message.contains("`max_bytes`"), "{failure}");
        }
    }

    #[test]
    fn expired_deadline_stops_read() {
        let fake = FakeHost::new();
        fake.next_response(Ok(FakeResponse::new(200).chunk("drip")));
        let mut response = fake.host().send(guest_sdk::Request::get("http://h/")).unwrap();
        let expired = super::TimeBudget::new(std::time::Duration::MAX, std::time::Duration::ZERO);
        let failure = super::read_body(&mut response, 100, &expired).unwrap_err();
        assert!(failure.message.contains("`deadline`"), "{failure}");
    }

    #[test]
    fn value_and_absent_statuses_are_configurable() {
        assert_eq!(reload(FakeResponse::new(404)), Ok(Outcome::Absent));
        assert_eq!(reload(FakeResponse::new(410)), Ok(Outcome::Absent));
        let settings =
            r#"{"url": "https://example.com/value", "expect": [200, 203], "absent": [204]}"#;
        let value = |status| reload_as(settings, FakeResponse::new(status).chunk("x"));
        assert_eq!(value(203), Ok(Snapshot::new("x").into()));
        assert_eq!(value(204), Ok(Outcome::Absent));
        let failure = value(404).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Permanent);
        assert_eq!(
            failure.message,
            "`https://example.com/value`: returned 404, expected [200, 203]"
        );
    }

    #[test]
    fn timeout_is_transient_and_denial_is_denied() {
        let reload_with = |error| {
            let fake = FakeHost::new();
            fake.next_response(Err(error));
            source(&fake, URL).reload(None).unwrap_err().kind
        };
        assert_eq!(reload_with(HttpError::TimedOut), FailureKind::Transient { retry_after: None });
        assert_eq!(reload_with(HttpError::Denied("no".into())), FailureKind::Denied);
    }
}
