//! Request URLs, their credentials, and their redacted form for messages.

use base64ct::{Base64, Encoding};
use fluent_uri::{Uri, UriRef};
use std::fmt;

/// An `http` or `https` URL without user information and fragment.
///
/// The [`Display`](fmt::Display) form also omits the query, which often contains a token.
#[derive(Clone)]
pub(crate) struct Address {
    uri: Uri<String>,
    origin: String,
    authorization: Option<String>,
}

impl Address {
    /// Parses a URL. `user:password@` becomes [`authorization`](Self::authorization).
    ///
    /// # Errors
    ///
    /// Returns a message if the URL is invalid. The message does not contain the URL, which may include a
    /// password.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let uri = Uri::parse(text).map_err(|error| format!("invalid URL: {error}"))?;
        let userinfo = uri.authority().and_then(|authority| authority.userinfo());
        let authorization = userinfo.map(|userinfo| {
            // `Basic` credentials require the colon, also without a password.
            let mut plain = userinfo.decode().to_bytes().into_owned();
            if !userinfo.as_str().contains(':') {
                plain.push(b':');
            }
            format!("Basic {}", Base64::encode_string(&plain))
        });
        Ok(Self { authorization, ..Self::without_user(uri)? })
    }

    fn without_user(uri: Uri<&str>) -> Result<Self, String> {
        let scheme = uri.scheme().as_str().to_ascii_lowercase();
        let default_port = match scheme.as_str() {
            "http" => 80,
            "https" => 443,
            _ => return Err("the scheme must be `http` or `https`".into()),
        };
        let authority = uri.authority().filter(|authority| !authority.host().is_empty());
        let authority = authority.ok_or("the host is missing")?;
        let port = authority.port_to_u16().map_err(|_| "invalid port")?;
        let host = authority.host().to_ascii_lowercase();
        let origin = match port {
            Some(port) if port != default_port => format!("{scheme}://{host}:{port}"),
            _ => format!("{scheme}://{host}"),
        };
        let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        let path = if uri.path().is_empty() { "/" } else { uri.path().as_str() };
        let uri = Uri::parse(format!("{origin}{path}{query}"))
            .map_err(|(error, _)| format!("invalid URL: {error}"))?;
        Ok(Self { uri, origin, authorization: None })
    }

    /// Resolves a `Location` header against this URL. The credentials are kept within the same origin only.
    ///
    /// # Errors
    ///
    /// Returns a message if the location is invalid.
    pub(crate) fn join(&self, location: &str) -> Result<Self, String> {
        let reference = UriRef::parse(location).map_err(|error| format!("invalid URL: {error}"))?;
        let target = reference.resolve_against(&self.uri).map_err(|error| error.to_string())?;
        let target = Self::without_user(target.borrow())?;
        let authorization = self.authorization.clone().filter(|_| target.origin == self.origin);
        Ok(Self { authorization, ..target })
    }

    /// Returns the full URL with its query, for a request.
    pub(crate) fn as_str(&self) -> &str {
        self.uri.as_str()
    }

    /// Returns the normalized origin: scheme, host and port. Equal strings denote the same origin.
    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }

    /// Returns the `Authorization` header for the URL's user information.
    pub(crate) fn authorization(&self) -> Option<&str> {
        self.authorization.as_deref()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let query = if self.uri.has_query() { "?…" } else { "" };
        write!(f, "{}{}{query}", self.origin, self.uri.path())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    #[test]
    fn userinfo_becomes_authorization_header() {
        let url = address("https://us%65r:p%40ss@example.com/a?token=x#part");
        assert_eq!(url.as_str(), "https://example.com/a?token=x");
        assert_eq!(url.to_string(), "https://example.com/a?…");
        assert_eq!(url.authorization(), Some("Basic dXNlcjpwQHNz"));
        assert_eq!(address("http://user@h").authorization(), Some("Basic dXNlcjo="));
    }

    #[test]
    fn origin_is_normalized() {
        assert_eq!(address("HTTPS://Example.com:443/x").origin(), "https://example.com");
        assert_eq!(address("http://example.com:443").origin(), "http://example.com:443");
        assert_eq!(address("http://[::1]:80?q").origin(), "http://[::1]");
    }

    #[test]
    fn invalid_url_error_hides_password() {
        for text in ["", "a/b", "ftp://u:secret@h/", "http:///x", "http://h:70000/", "http://h/ä"]
        {
            let error = Address::parse(text).err().unwrap();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn join_keeps_credentials_within_origin() {
        let url = address("https://u:p@example.com/a/b?x");
        let cases = [
            ("c?y", "https://example.com/a/c?y", true),
            ("../c", "https://example.com/c", true),
            ("//example.com:443/d#f", "https://example.com/d", true),
            ("https://other.com/e", "https://other.com/e", false),
            ("http://example.com/f", "http://example.com/f", false),
            ("https://x:y@other.com/g", "https://other.com/g", false),
        ];
        for (location, expected, credentials) in cases {
            let target = url.join(location).unwrap();
            assert_eq!(target.as_str(), expected);
            assert_eq!(target.authorization().is_some(), credentials, "{location}");
        }
        assert!(url.join("mailto:a@b").is_err());
        assert!(url.join("http://[").is_err());
    }
}
