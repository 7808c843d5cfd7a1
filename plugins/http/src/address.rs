//! Where a request goes, and what of it may be shown.

use base64ct::{Base64, Encoding};
use fluent_uri::{Uri, UriRef};
use std::fmt;

/// An `http` or `https` URL without user information and fragment.
///
/// As text ([`Display`](fmt::Display)) it also lacks its query, which often carries a token.
#[derive(Clone)]
pub(crate) struct Address {
    uri: Uri<String>,
    origin: String,
    authorization: Option<String>,
}

impl Address {
    /// `user:password@` in the text becomes [`authorization`](Self::authorization).
    ///
    /// # Errors
    ///
    /// What is wrong with the text, in words that do not repeat it: it may hold a password.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let uri = Uri::parse(text).map_err(|error| format!("it is not a URL: {error}"))?;
        let userinfo = uri.authority().and_then(|authority| authority.userinfo());
        let authorization = userinfo.map(|userinfo| {
            // `Basic` wants the colon, also where there is no password.
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
            _ => return Err("its scheme is neither `http` nor `https`".into()),
        };
        let authority = uri.authority().filter(|authority| !authority.host().is_empty());
        let authority = authority.ok_or("it names no host")?;
        let port = authority.port_to_u16().map_err(|_| "its port is not a port")?;
        let host = authority.host().to_ascii_lowercase();
        let origin = match port {
            Some(port) if port != default_port => format!("{scheme}://{host}:{port}"),
            _ => format!("{scheme}://{host}"),
        };
        let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        let path = if uri.path().is_empty() { "/" } else { uri.path().as_str() };
        let uri = Uri::parse(format!("{origin}{path}{query}"))
            .map_err(|(error, _)| format!("it is not a URL: {error}"))?;
        Ok(Self { uri, origin, authorization: None })
    }

    /// What a `Location` means here. The authorization goes along only within the origin.
    ///
    /// # Errors
    ///
    /// What is wrong with the location.
    pub(crate) fn join(&self, location: &str) -> Result<Self, String> {
        let reference =
            UriRef::parse(location).map_err(|error| format!("it is not a URL: {error}"))?;
        let target = reference.resolve_against(&self.uri).map_err(|error| error.to_string())?;
        let target = Self::without_user(target.borrow())?;
        let authorization = self.authorization.clone().filter(|_| target.origin == self.origin);
        Ok(Self { authorization, ..target })
    }

    /// The whole URL, as a request wants it.
    pub(crate) fn as_str(&self) -> &str {
        self.uri.as_str()
    }

    /// Scheme, host and port; equal text is the same origin.
    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }

    /// The header `Authorization` that the URL's user information asks for.
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
    fn user_and_password_become_a_header_and_are_gone_from_the_url() {
        let url = address("https://us%65r:p%40ss@example.com/a?token=x#part");
        assert_eq!(url.as_str(), "https://example.com/a?token=x");
        assert_eq!(url.to_string(), "https://example.com/a?…");
        assert_eq!(url.authorization(), Some("Basic dXNlcjpwQHNz"));
        assert_eq!(address("http://user@h").authorization(), Some("Basic dXNlcjo="));
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        assert_eq!(address("HTTPS://Example.com:443/x").origin(), "https://example.com");
        assert_eq!(address("http://example.com:443").origin(), "http://example.com:443");
        assert_eq!(address("http://[::1]:80?q").origin(), "http://[::1]");
    }

    #[test]
    fn what_cannot_be_requested_is_refused_without_repeating_it() {
        for text in ["", "a/b", "ftp://u:secret@h/", "http:///x", "http://h:70000/", "http://h/ä"]
        {
            let error = Address::parse(text).err().unwrap();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_location_is_resolved_and_takes_credentials_along_within_the_origin_only() {
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
