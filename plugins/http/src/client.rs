//! HTTP client: GET requests with the configured headers, and redirects.

use crate::{address::Address, time_budget::TimeBudget};
use guest_sdk::{Failure, Host, HttpError, Request, Response};
use std::collections::BTreeMap;

/// Header fields with lower-case names.
pub(crate) type Headers = Vec<(String, String)>;

/// Default `User-Agent`.
const USER_AGENT: &str = concat!("reloader-http/", env!("CARGO_PKG_VERSION"));

/// Header fields that the setting `headers` must not contain: hop-by-hop fields, and the conditions that
/// the plugin sets.
const RESERVED_HEADERS: [&str; 11] = [
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

/// HTTP client that sends GET requests with the configured headers and follows redirects.
pub(crate) struct Client {
    host: Host,
    /// Only origin to which `headers` are sent.
    origin: String,
    headers: Headers,
    redirects: u32,
}

/// Final response after redirects, with its URL.
pub(crate) struct Reply {
    pub(crate) response: Response,
    pub(crate) from: Address,
}

impl Client {
    /// Creates a client. Only the origin of the first address receives `headers`.
    ///
    /// # Errors
    ///
    /// Returns [`Failure::config`] for an invalid header. The message does not contain the header's value.
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
            let invalid = |what| Err(Failure::config(format_args!("`headers`: `{name}` {what}")));
            let lower = name.to_ascii_lowercase();
            if name.is_empty() || !name.bytes().all(is_token) {
                return invalid("is not a valid header name");
            }
            if RESERVED_HEADERS.contains(&lower.as_str()) {
                return invalid("is set by the plugin or the host and cannot be configured");
            }
            if lower == "authorization" && has_user {
                return invalid("conflicts with `user:password@` in the URL");
            }
            if checked.iter().any(|(name, _)| *name == lower) {
                return invalid("is set twice");
            }
            if value.chars().any(char::is_control) {
                return invalid("has a value with a control character, e.g. a line break");
            }
            checked.push((lower, value));
        }
        Ok(Self { host: host.clone(), origin: origin.into(), headers: checked, redirects })
    }

    /// Sends a GET request, follows redirects and returns the final response; `None` after a timeout.
    /// `overrides` returns header fields for a URL that take precedence over the configured ones.
    ///
    /// # Errors
    ///
    /// Returns a failure if a request fails or a redirect cannot be followed.
    pub(crate) fn get(
        &self,
        to: &Address,
        budget: &TimeBudget,
        overrides: &dyn Fn(&Address) -> Headers,
    ) -> Result<Option<Reply>, Failure> {
        let mut from = to.clone();
        let mut followed = 0;
        loop {
            let Some(timeout) = budget.remaining() else { return Ok(None) };
            let mut request = Request::get(from.as_str()).timeout(timeout);
            request.headers = self.request_headers(&from, overrides(&from));
            let response = match self.host.send(request) {
                Ok(response) => response,
                Err(HttpError::TimedOut) => return Ok(None),
                Err(HttpError::Denied(why)) if followed > 0 => {
                    return Err(Failure::denied(format_args!(
                        "`{to}` redirects to `{from}`, which is not granted: only the origins of \
                         `url` and `watch_url` are granted ({why})"
                    )));
                }
                Err(error) => return Err(Failure::from(error).context(format_args!("`{from}`"))),
            };
            let location = match (response.status, response.header("location")) {
                (301 | 302 | 303 | 307 | 308, Some(location)) if self.redirects > 0 => location,
                _ => return Ok(Some(Reply { response, from })),
            };
            let target = from.join(location).map_err(|why| {
                Failure::permanent(format_args!("`{from}` redirects to an invalid URL: {why}"))
            })?;
            if followed == self.redirects {
                return Err(Failure::permanent(format_args!(
                    "`{to}` redirects more than {followed} times (`redirects`), most recently to \
                     `{target}`"
                )));
            }
            followed += 1;
            from = target;
        }
    }

    /// Adds the credentials, the configured headers and the default `User-Agent` to the overrides.
    fn request_headers(&self, to: &Address, mut all: Headers) -> Headers {
        if let Some(authorization) = to.authorization() {
            all.push(("authorization".into(), authorization.into()));
        }
        if to.origin() == self.origin {
            for (name, value) in &self.headers {
                if !contains_header(&all, name) {
                    all.push((name.clone(), value.clone()));
                }
            }
        }
        if !contains_header(&all, "user-agent") {
            all.push(("user-agent".into(), USER_AGENT.into()));
        }
        all
    }
}

fn contains_header(headers: &Headers, name: &str) -> bool {
    headers.iter().any(|(n, _)| n == name)
}

/// Returns whether a header name may contain the byte: `tchar` of RFC 9110, section 5.6.2.
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
    fn redirect_keeps_headers_within_origin() {
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
    fn url_credentials_are_sent_to_own_origin() {
        let fake = FakeHost::new();
        fake.next_response(Ok(redirect("http://example.com/")));
        let settings = r#"{"url": "https://user:pass@example.com/"}"#;
        let failure = source(&fake, settings).reload(None).unwrap_err();
        assert_eq!(sent(&fake, 0, "authorization"), Some("Basic dXNlcjpwYXNz".into()));
        assert_eq!(sent(&fake, 1, "authorization"), None);
        assert!(!failure.message.contains("pass"), "{failure}");
    }

    #[test]
    fn denied_redirect_names_target_and_grants() {
        let fake = FakeHost::new();
        fake.next_response(Ok(redirect("https://other.example/c?token=x")));
        fake.next_response(Err(HttpError::Denied("not granted".into())));
        let failure = source(&fake, URL).reload(None).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Denied);
        assert_eq!(
            failure.message,
            "`https://example.com/value` redirects to `https://other.example/c?…`, which is not \
             granted: only the origins of `url` and `watch_url` are granted (not granted)"
        );
    }

    #[test]
    fn redirect_limit_is_enforced() {
        let fake = FakeHost::new();
        (0..3).for_each(|_| fake.next_response(Ok(redirect("/again"))));
        let settings = r#"{"url": "https://example.com/", "redirects": 2}"#;
        let failure = source(&fake, settings).reload(None).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Permanent);
        assert!(failure.message.contains("more than 2 times"), "{failure}");
        assert_eq!(fake.requests().len(), 3);
    }

    #[test]
    fn redirect_is_unexpected_status_if_disabled() {
        let fake = FakeHost::new();
        fake.next_response(Ok(redirect("/again")));
        let settings = r#"{"url": "https://example.com/", "redirects": 0}"#;
        let failure = source(&fake, settings).reload(None).unwrap_err();
        assert!(failure.message.contains("returned 302"), "{failure}");
    }

    #[test]
    fn redirect_to_invalid_url_fails() {
        for location in ["http://[", "ftp://example.com/", "mailto:x@y"] {
            let fake = FakeHost::new();
            fake.next_response(Ok(redirect(location)));
            let failure = source(&fake, URL).reload(None).unwrap_err();
            assert_eq!(failure.kind, FailureKind::Permanent, "{location}");
        }
    }

    #[test]
    fn invalid_header_error_hides_value() {
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
    fn user_agent_is_configurable() {
        let fake = FakeHost::new();
        let settings = r#"{"url": "https://example.com/", "headers": {"User-Agent": "me"}}"#;
        assert_ne!(source(&fake, settings).reload(None), Ok(Outcome::Absent));
        assert_ne!(source(&fake, URL).reload(None), Ok(Outcome::Absent));
        assert_eq!(sent(&fake, 0, "user-agent"), Some("me".into()));
        assert!(sent(&fake, 1, "user-agent").unwrap().starts_with("reloader-http/"));
    }
}
