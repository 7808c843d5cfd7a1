//! Reading the value: one GET, and what its answer means.

use crate::{
    address::Address,
    client::{Client, Headers, Reply},
    patience::Patience,
    status::refusal,
    validators::Cursor,
};
use guest_sdk::{Failure, HttpError, Outcome, Response, Snapshot};

/// Which answers there may be.
pub(crate) struct Expected {
    /// Statuses that carry a value.
    pub(crate) value: Vec<u16>,
    /// Statuses that say for certain that there is none.
    pub(crate) absent: Vec<u16>,
    /// How long a body may be.
    pub(crate) max_bytes: usize,
}

/// Reads the value, conditionally when `known` is a cursor for the address that answers.
///
/// # Errors
///
/// Whatever keeps it from a complete value.
pub(crate) fn fetch(
    client: &Client,
    url: &Address,
    expected: &Expected,
    patience: &Patience,
    known: Option<&str>,
) -> Result<Outcome, Failure> {
    let known = known.and_then(Cursor::parse);
    let conditions =
        |to: &Address| known.as_ref().map_or_else(Headers::new, |known| known.headers(to));
    let Some(Reply { mut response, from }) = client.get(url, patience, &conditions)? else {
        return Err(Failure::transient(format_args!("`{url}` did not answer in time")));
    };
    match response.status {
        304 if !conditions(&from).is_empty() => Ok(Outcome::Unchanged),
        status if expected.value.contains(&status) => {
            let content = body(&mut response, expected.max_bytes, patience)
                .map_err(|failure| failure.context(format_args!("`{from}`")))?;
            Ok(Outcome::Changed(Snapshot {
                content,
                media_type: response.header("content-type").and_then(media_type),
                cursor: Cursor::of(&response, &from).map(|cursor| cursor.to_text()),
            }))
        }
        status if expected.absent.contains(&status) => Ok(Outcome::Absent),
        _ => Err(refusal(&response, &expected.value).context(format_args!("`{from}`"))),
    }
}

/// The whole body, or nothing of it.
fn body(response: &mut Response, limit: usize, patience: &Patience) -> Result<Vec<u8>, Failure> {
    let announced = response.content_length();
    let too_long = || Failure::permanent(format_args!("longer than {limit} bytes (`max_bytes`)"));
    if announced.is_some_and(|length| length > limit as u64) {
        return Err(too_long());
    }
    // The host undoes what it knows, and takes the field away; so this is something else.
    if let Some(encoding) = response.header("content-encoding").filter(|e| *e != "identity") {
        return Err(Failure::permanent(format_args!(
            "encoded as `{encoding}`, which nobody asked for"
        )));
    }
    let content = response.bytes_while(limit, || patience.left()).map_err(|error| match error {
        HttpError::TooLarge(_) => too_long(),
        HttpError::TimedOut if patience.left().is_none() => {
            Failure::transient("the body was not complete in time (`deadline`)")
        }
        HttpError::TimedOut => Failure::transient("the body came to a halt (`timeout`)"),
        other => other.into(),
    })?;
    match announced {
        Some(length) if length != content.len() as u64 => Err(Failure::transient(format_args!(
            "the body has {} bytes, but {length} were announced",
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

    /// What `settings` make of one response.
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
    fn a_value_is_the_whole_body_with_its_media_type() {
        let response = FakeResponse::new(200)
            .header("content-type", "application/json; charset=utf-8")
            .header("content-length", "7")
            .chunk("{\"a\"")
            .chunk(":1}");
        let expected = Snapshot::new("{\"a\":1}").media_type("application/json; charset=utf-8");
        assert_eq!(reload(response), Ok(expected.into()));
    }

    #[test]
    fn a_known_version_is_asked_for_conditionally_and_may_be_unchanged() {
        let fake = FakeHost::new();
        fake.next_response(Ok(tagged("\"a\"")));
        fake.next_response(Ok(FakeResponse::new(304)));
        let mut source = source(&fake, URL);
        let known = cursor(source.reload(None).unwrap()).unwrap();
        assert_eq!(source.reload(Some(&known)), Ok(Outcome::Unchanged));
        assert_eq!(sent(&fake, 0, "if-none-match"), None);
        assert_eq!(sent(&fake, 1, "if-none-match"), Some("\"a\"".into()));
    }

    #[test]
    fn behind_a_redirect_only_the_address_that_gave_the_version_is_asked_for_it() {
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
    fn a_note_that_is_no_cursor_is_ignored() {
        let fake = FakeHost::new();
        fake.next_response(Ok(tagged("\"a\"")));
        assert!(matches!(source(&fake, URL).reload(Some("junk")), Ok(Outcome::Changed(_))));
        assert_eq!(sent(&fake, 0, "if-none-match"), None);
    }

    #[test]
    fn not_modified_without_having_asked_is_a_failure() {
        assert_eq!(reload(FakeResponse::new(304)).unwrap_err().kind, FailureKind::Permanent);
    }

    #[test]
    fn a_body_that_is_cut_short_or_halts_is_never_a_value() {
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
    fn a_body_may_be_as_long_as_the_limit_and_no_longer() {
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
    fn when_the_deadline_is_over_nothing_more_is_read() {
        let fake = FakeHost::new();
        fake.next_response(Ok(FakeResponse::new(200).chunk("drip")));
        let mut response = fake.host().send(guest_sdk::Request::get("http://h/")).unwrap();
        let over = super::Patience::new(std::time::Duration::MAX, std::time::Duration::ZERO);
        let failure = super::body(&mut response, 100, &over).unwrap_err();
        assert!(failure.message.contains("`deadline`"), "{failure}");
    }

    #[test]
    fn which_statuses_carry_a_value_and_which_say_that_there_is_none_is_a_setting() {
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
            "`https://example.com/value`: answered 404, expected [200, 203]"
        );
    }

    #[test]
    fn nobody_answering_and_a_refusal_by_the_host_are_told_apart() {
        let ask = |error| {
            let fake = FakeHost::new();
            fake.next_response(Err(error));
            source(&fake, URL).reload(None).unwrap_err().kind
        };
        assert_eq!(ask(HttpError::TimedOut), FailureKind::Transient { retry_after: None });
        assert_eq!(ask(HttpError::Denied("no".into())), FailureKind::Denied);
    }
}
