//! GET requests: which headers go where, and redirects.

use crate::{address::Address, patience::Patience};
use guest_sdk::{Failure, Host, HttpError, Request, Response};
use std::collections::BTreeMap;

/// Header fields, names in lower case.
pub(crate) type Headers = Vec<(String, String)>;

/// What the plugin calls itself, unless the operator's headers say something else.
const USER_AGENT: &str = concat!("reloader-http/", env!("CARGO_PKG_VERSION"));

/// Header fields that are not the operator's: of the connection, and those that make a request
/// conditional.
const RESERVED: [&str; 11] = [
    "connection",
    "content-length",
    "host",
    "if-modified-since",
    "if-none-match",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Sends GET requests with the operator's headers, and follows redirects.
pub(crate) struct Client {
    host: Host,
    /// The only origin that is sent `headers`.
    origin: String,
    headers: Headers,
    redirects: u32,
}

/// A response that is no redirect, and the address that gave it.
pub(crate) struct Reply {
    pub(crate) response: Response,
    pub(crate) from: Address,
}

impl Client {
    /// `headers` are for the origin of the first of the addresses that will be asked.
    ///
    /// # Errors
    ///
    /// [`Failure::config`] for a header that cannot be sent. Its value is not shown.
    pub(crate) fn new(
        host: &Host,
        addresses: &[&Address; 2],
        headers: BTreeMap<String, String>,
        redirects: u32,
    ) -> Result<Self, Failure> {
        let origin = addresses[0].origin();
        let has_user =
            addresses.iter().any(|a| a.origin() == origin && a.authorization().is_some());
        let mut checked = Headers::new();
        for (name, value) in headers {
            let wrong = |what| Err(Failure::config(format_args!("`headers`: `{name}` {what}")));
            let lower = name.to_ascii_lowercase();
            if name.is_empty() || !name.bytes().all(is_token) {
                return wrong("is not the name of a header");
            }
            if RESERVED.contains(&lower.as_str()) {
                return wrong("is set by the plugin or the host, leave it out");
            }
            if lower == "authorization" && has_user {
                return wrong("is given twice: here, and as `user:password@` in the URL");
            }
            if checked.iter().any(|(name, _)| *name == lower) {
                return wrong("is given twice");
            }
            if value.chars().any(char::is_control) {
                return wrong("has a value with a control character, such as a line break");
            }
            checked.push((lower, value));
        }
        Ok(Self { host: host.clone(), origin: origin.into(), headers: checked, redirects })
    }

    /// The response, once redirects are followed; `None` when nobody answered in time. `own` are
    /// header fields for an address, which win over the operator's.
    ///
    /// # Errors
    ///
    /// When the request fails, or a redirect cannot be followed.
    pub(crate) fn get(
        &self,
        to: &Address,
        patience: &Patience,
        own: &dyn Fn(&Address) -> Headers,
    ) -> Result<Option<Reply>, Failure> {
        let mut from = to.clone();
        let mut followed = 0;
        loop {
            let Some(timeout) = patience.left() else { return Ok(None) };
            let mut request = Request::get(from.as_str()).timeout(timeout);
            request.headers = self.headers(&from, own(&from));
            let response = match self.host.send(request) {
                Ok(response) => response,
                Err(HttpError::TimedOut) => return Ok(None),
                Err(HttpError::Denied(why)) if followed > 0 => {
                    return Err(Failure::denied(format_args!(
                        "`{to}` redirects to `{from}`, and a redirect grants nothing: only the \
                         origins of `url` and `watch_url` are granted ({why})"
                    )));
                }
                Err(error) => return Err(Failure::from(error).context(format_args!("`{from}`"))),
            };
            let location = match (response.status, response.header("location")) {
                (301 | 302 | 303 | 307 | 308, Some(location)) if self.redirects > 0 => location,
                _ => return Ok(Some(Reply { response, from })),
            };
            let target = from.join(location).map_err(|why| {
                Failure::permanent(format_args!(
                    "`{from}` redirects, but cannot be followed: {why}"
                ))
            })?;
            if followed == self.redirects {
                return Err(Failure::permanent(format_args!(
                    "`{to}` redirects more than {followed} times (`redirects`), at last to `{target}`"
                )));
            }
            followed += 1;
            from = target;
        }
    }

    fn headers(&self, to: &Address, mut all: Headers) -> Headers {
        if let Some(authorization) = to.authorization() {
            all.push(("authorization".into(), authorization.into()));
        }
        if to.origin() == self.origin {
            for (name, value) in &self.headers {
                if !has(&all, name) {
                    all.push((name.clone(), value.clone()));
                }
            }
        }
        if !has(&all, "user-agent") {
            all.push(("user-agent".into(), USER_AGENT.into()));
        }
        all
    }
}

fn has(headers: &Headers, name: &str) -> bool {
    headers.iter().any(|(n, _)| n == name)
}

/// Whether a header's name may contain it: `tchar` of RFC 9110, section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use guest_sdk::{FailureKind, FakeHost, FakeResponse, HttpError, Outcome, Reload, Snapshot};

    fn redirect(to: &str) -> FakeResponse {
        FakeResponse::new(302).header("location", to)
    }

    #[test]
    fn headers_follow_a_redirect_within_the_origin_and_never_to_another_one() {
        let fake = FakeHost::new();
        fake.next_response(Ok(redirect("../b")));
        fake.next_response(Ok(redirect("https://other.example/c")));
        fake.next_response(Ok(FakeResponse::new(200).chunk("x")));
        let settings = r#"{"url": "https://example.com/a/a", "headers": {"X-Key": "k"}}"#;
        let outcome = source(&fake, settings).reload(None);
        assert_eq!(outcome, Ok(Snapshot::new("x").into()));
        assert_eq!(
            fake.requests().iter().map(|r| r.url.as_str()).collect::<Vec<_>>(),
            ["https://example.com/a/a", "https://example.com/b", "https://other.example/c"]
        );
        assert_eq!(sent(&fake, 0, "x-key"), Some("k".into()));
        assert_eq!(sent(&fake, 1, "x-key"), Some("k".into()));
        assert_eq!(sent(&fake, 2, "x-key"), None);
    }

    #[test]
    fn credentials_in_the_url_are_sent_as_basic_and_only_to_their_origin() {
        let fake = FakeHost::new();
        fake.next_response(Ok(redirect("http://example.com/")));
        let settings = r#"{"url": "https://user:pass@example.com/"}"#;
        let failure = source(&fake, settings).reload(None).unwrap_err();
        assert_eq!(sent(&fake, 0, "authorization"), Some("Basic dXNlcjpwYXNz".into()));
        assert_eq!(sent(&fake, 1, "authorization"), None);
        assert!(!failure.message.contains("pass"), "{failure}");
    }

    #[test]
    fn a_denied_redirect_says_where_it_leads_and_what_is_granted() {
        let fake = FakeHost::new();
        fake.next_response(Ok(redirect("https://other.example/c?token=x")));
        fake.next_response(Err(HttpError::Denied("not granted".into())));
        let failure = source(&fake, URL).reload(None).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Denied);
        assert_eq!(
            failure.message,
            "`https://example.com/value` redirects to `https://other.example/c?…`, and a redirect \
             grants nothing: only the origins of `url` and `watch_url` are granted (not granted)"
        );
    }

    #[test]
    fn redirects_end_at_the_limit() {
        let fake = FakeHost::new();
        (0..3).for_each(|_| fake.next_response(Ok(redirect("/again"))));
        let settings = r#"{"url": "https://example.com/", "redirects": 2}"#;
        let failure = source(&fake, settings).reload(None).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Permanent);
        assert!(failure.message.contains("more than 2 times"), "{failure}");
        assert_eq!(fake.requests().len(), 3);
    }

    #[test]
    fn without_redirects_a_redirect_is_a_status_like_any_other() {
        let fake = FakeHost::new();
        fake.next_response(Ok(redirect("/again")));
        let settings = r#"{"url": "https://example.com/", "redirects": 0}"#;
        let failure = source(&fake, settings).reload(None).unwrap_err();
        assert!(failure.message.contains("answered 302"), "{failure}");
    }

    #[test]
    fn a_redirect_to_nowhere_is_a_failure() {
        for location in ["http://[", "ftp://example.com/", "mailto:x@y"] {
            let fake = FakeHost::new();
            fake.next_response(Ok(redirect(location)));
            let failure = source(&fake, URL).reload(None).unwrap_err();
            assert_eq!(failure.kind, FailureKind::Permanent, "{location}");
        }
    }

    #[test]
    fn headers_that_cannot_be_sent_are_refused_without_showing_their_value() {
        let cases = [
            r#"{"a b": "secret"}"#,
            r#"{"": "secret"}"#,
            r#"{"x": "secret\r\ny: z"}"#,
            r#"{"Host": "secret"}"#,
            r#"{"If-None-Match": "secret"}"#,
            r#"{"x": "secret", "X": "secret"}"#,
            r#"{"Authorization": "secret"}"#,
        ];
        for headers in cases {
            let settings = format!(r#"{{"url": "https://u:p@h/", "headers": {headers}}}"#);
            let failure = try_source(&FakeHost::new(), &settings).err().unwrap();
            assert_eq!(failure.kind, FailureKind::Config, "{headers}");
            assert!(!failure.message.contains("secret"), "{failure}");
        }
    }

    #[test]
    fn the_plugin_says_its_name_unless_the_operator_does() {
        let fake = FakeHost::new();
        let settings = r#"{"url": "https://example.com/", "headers": {"User-Agent": "me"}}"#;
        assert_ne!(source(&fake, settings).reload(None), Ok(Outcome::Absent));
        assert_ne!(source(&fake, URL).reload(None), Ok(Outcome::Absent));
        assert_eq!(sent(&fake, 0, "user-agent"), Some("me".into()));
        assert!(sent(&fake, 1, "user-agent").unwrap().starts_with("reloader-http/"));
    }
}
