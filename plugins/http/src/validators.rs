//! What a response says about the version it carries, and the cursor that is made of it.

use crate::{address::Address, client::Headers};
use guest_sdk::Response;
use httpdate::parse_http_date;
use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::{Duration, SystemTime},
};

/// `ETag` and `Last-Modified`, as the server wrote them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Validators {
    etag: Option<String>,
    last_modified: Option<String>,
}

impl Validators {
    pub(crate) fn of(response: &Response) -> Self {
        let field = |name| response.header(name).and_then(usable);
        Self { etag: field("etag"), last_modified: field("last-modified") }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.etag.is_none() && self.last_modified.is_none()
    }

    /// The header fields that ask for anything but this version.
    pub(crate) fn headers(&self) -> Headers {
        let etag = self.etag.clone().map(|value| ("if-none-match".into(), value));
        let date = self.last_modified.clone().map(|value| ("if-modified-since".into(), value));
        etag.into_iter().chain(date).collect()
    }
}

/// A version of the value at one address.
///
/// The address is part of it, because `url` may redirect: validators of one target mean nothing to
/// the next one, whose file may be older and would answer "not modified" to the date.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// Not the address itself, whose query may be secret.
    address: u64,
    validators: Validators,
}

impl Cursor {
    /// The cursor of a complete response, if there is anything to tell its version by.
    pub(crate) fn of(response: &Response, from: &Address) -> Option<Self> {
        let validators = Validators::of(response);
        let usable = !validators.is_empty() && has_settled(response);
        usable.then(|| Self { address: fingerprint(from), validators })
    }

    /// The cursor that was once written with [`to_text`](Self::to_text). Anything else is `None`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut lines = text.split('\n');
        let address = u64::from_str_radix(lines.next()?, 16).ok()?;
        let etag = usable(lines.next()?);
        let last_modified = usable(lines.next()?);
        let validators = Validators { etag, last_modified };
        let whole = lines.next().is_none() && !validators.is_empty();
        whole.then_some(Self { address, validators })
    }

    /// Three lines: the address, the `ETag`, the `Last-Modified`. A header's value has no line breaks.
    pub(crate) fn to_text(&self) -> String {
        let Validators { etag, last_modified } = &self.validators;
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        format!("{:016x}\n{}\n{}", self.address, text(etag), text(last_modified))
    }

    /// The header fields that ask this address for anything but this version.
    pub(crate) fn headers(&self, to: &Address) -> Headers {
        if fingerprint(to) == self.address { self.validators.headers() } else { Headers::new() }
    }
}

/// What is longer is sent back by nobody: the host takes header fields of 64 KiB, all together.
const LONGEST: usize = 4 * 1024;

fn usable(value: &str) -> Option<String> {
    let value = value.trim();
    let is_fit = (1..=LONGEST).contains(&value.len()) && !value.chars().any(char::is_control);
    is_fit.then(|| value.into())
}

/// Another release of the compiler may hash differently; then one read is not conditional.
fn fingerprint(address: &Address) -> u64 {
    let mut hasher = DefaultHasher::new();
    address.as_str().hash(&mut hasher);
    hasher.finish()
}

/// A file that was written again within the same second may keep its date, and even its `ETag` when
/// that is made of date and size. So while the date is that fresh, the version cannot be told from the
/// next one (RFC 9110, section 8.8.2.2). One second more, because both dates are cut to seconds.
///
/// By our own clock, too: a server whose clock is ahead, or that makes dates up, would answer "not modified" to
/// a date in the future until that has come.
const SETTLED: Duration = Duration::from_secs(2);

fn has_settled(response: &Response) -> bool {
    let Some(modified) = response.header("last-modified") else { return true };
    let date = |text: &str| parse_http_date(text).ok();
    match (date(modified), response.header("date").and_then(date)) {
        (Some(modified), Some(theirs)) => [theirs, SystemTime::now()]
            .into_iter()
            .all(|now| now.duration_since(modified).is_ok_and(|age| age >= SETTLED)),
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
        Cursor::of(&response, &Address::parse("http://h/").unwrap())
    }

    fn dated(modified: &str) -> FakeResponse {
        FakeResponse::new(200).header("etag", "\"a\"").header("last-modified", modified)
    }

    #[test]
    fn a_version_is_known_by_its_tag_or_by_its_date() {
        assert!(cursor(FakeResponse::new(200).header("etag", "W/\"a\"")).is_some());
        let old = "Sun, 06 Nov 1994 08:49:35 GMT";
        assert!(cursor(dated(old).header("date", NOW)).is_some());
        assert_eq!(cursor(FakeResponse::new(200).header("date", NOW)), None);
    }

    #[test]
    fn a_fresh_date_makes_no_cursor_because_the_next_write_may_look_the_same() {
        for modified in [NOW, "Sun, 06 Nov 1994 08:49:36 GMT", "Sun, 06 Nov 1994 09:00:00 GMT"] {
            assert_eq!(cursor(dated(modified).header("date", NOW)), None, "{modified}");
        }
    }

    #[test]
    fn a_date_in_the_future_makes_no_cursor_whatever_the_server_takes_for_now() {
        let future = "Thu, 06 Nov 2994 08:00:00 GMT";
        let after_it = "Fri, 07 Nov 2994 08:00:00 GMT";
        assert_eq!(cursor(dated(future).header("date", after_it)), None);
    }

    #[test]
    fn a_tag_that_is_too_long_to_be_sent_back_makes_no_cursor() {
        let tag = |length| FakeResponse::new(200).header("etag", "a".repeat(length));
        assert!(cursor(tag(LONGEST)).is_some());
        assert_eq!(cursor(tag(LONGEST + 1)), None);
    }

    #[test]
    fn a_date_whose_age_nobody_knows_makes_no_cursor() {
        assert_eq!(cursor(dated("Sun, 06 Nov 1994 08:00:00 GMT")), None);
        assert_eq!(cursor(dated("yesterday").header("date", NOW)), None);
    }

    #[test]
    fn a_cursor_survives_being_written_down() {
        let response = dated("Sun, 06 Nov 1994 08:00:00 GMT").header("date", NOW);
        let cursor = cursor(response).unwrap();
        assert_eq!(Cursor::parse(&cursor.to_text()), Some(cursor));
    }

    #[test]
    fn what_is_not_a_cursor_is_ignored() {
        for text in ["", "\"etag\"", "\n\n", "1\n\n", "1\na\u{7}\n", "1\na\nb\nc", "x\na\nb", "🦀"]
        {
            assert_eq!(Cursor::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn validators_are_only_for_the_address_that_gave_them() {
        let cursor = cursor(FakeResponse::new(200).header("etag", "\"a\"")).unwrap();
        let headers = |url| cursor.headers(&Address::parse(url).unwrap());
        assert_eq!(headers("http://h/"), [("if-none-match".into(), "\"a\"".into())]);
        assert!(headers("http://h/other").is_empty());
    }
}
