//! Credentials that the host adds to HTTP requests. The plugin never holds them.

use crate::normalized_host::HttpOrigin;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{
    HeaderName, HeaderValue,
    header::{self, AUTHORIZATION},
};
use std::fmt;
use zeroize::Zeroizing;

/// Credential for one origin, parsed from `ORIGIN=bearer:TOKEN`, `ORIGIN=basic:USER:PASSWORD` or
/// `ORIGIN=header:NAME:VALUE`. Token, user, password and value may contain references to secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    origin: HttpOrigin,
    kind: Kind,
}

#[derive(Clone, PartialEq, Eq)]
enum Kind {
    Bearer(String),
    Basic { user: String, password: String },
    Header { name: HeaderName, value: String },
}

/// Header that the host adds to every request to one origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialHeader {
    /// Origin to which the host sends the header. No other origin receives it.
    pub origin: HttpOrigin,
    /// Name of the header.
    pub name: HeaderName,
    /// Value of the header, marked as sensitive: its `Debug` output does not contain it.
    pub value: HeaderValue,
}

impl CredentialHeader {
    /// Returns whether both headers have the same origin and name, so that a request can carry only one of
    /// them.
    pub fn conflicts_with(&self, other: &Self) -> bool {
        self.origin == other.origin && self.name == other.name
    }

    /// Returns the error for a header that another credential of the same origin already sets.
    pub fn conflict_error(&self) -> CredentialError {
        let Self { origin, name, .. } = self;
        CredentialError(format!(
            "for {origin}: another credential already sets the header `{name}`"
        ))
    }
}

/// Invalid or unusable credential. The message never contains a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid credential: {0}")]
pub struct CredentialError(String);

impl Credential {
    /// Parses `ORIGIN=bearer:TOKEN`, `ORIGIN=basic:USER:PASSWORD` or `ORIGIN=header:NAME:VALUE`.
    ///
    /// # Errors
    ///
    /// Text of another form, an invalid header name, or a header that controls how a request is sent.
    pub fn parse(text: &str) -> Result<Self, CredentialError> {
        let expected = "expected ORIGIN=bearer:TOKEN, ORIGIN=basic:USER:PASSWORD or \
                        ORIGIN=header:NAME:VALUE, with an origin such as `https://api.example.com`";
        let syntax_error = || CredentialError(expected.into());
        let (origin, rest) = text.split_once('=').ok_or_else(syntax_error)?;
        let origin = HttpOrigin::parse(origin).ok_or_else(syntax_error)?;
        let kind = match rest.split_once(':') {
            Some(("bearer", token)) => Kind::Bearer(token.into()),
            Some(("basic", both)) => {
                let (user, password) = both.split_once(':').ok_or_else(syntax_error)?;
                Kind::Basic { user: user.into(), password: password.into() }
            }
            Some(("header", both)) => {
                let (name, value) = both.split_once(':').ok_or_else(syntax_error)?;
                let name = name.parse().map_err(|_| {
                    CredentialError(format!("`{}` is not a valid header name", name.escape_debug()))
                })?;
                if FORBIDDEN_HEADERS.contains(&name) {
                    return Err(CredentialError(format!(
                        "`{name}` controls how a request is sent and cannot be a credential"
                    )));
                }
                Kind::Header { name, value: value.trim_start().into() }
            }
            _ => return Err(syntax_error()),
        };
        Ok(Self { origin, kind })
    }

    /// Returns the origin to which the credential applies.
    #[must_use]
    pub fn origin(&self) -> &HttpOrigin {
        &self.origin
    }

    /// Returns the header. `reveal` replaces references to secrets by the secrets, and registers the result for
    /// redaction.
    ///
    /// # Errors
    ///
    /// A failure of `reveal`, an empty token, or a value with a character that a header must not contain.
    pub fn header(
        &self,
        mut reveal: impl FnMut(&str) -> Result<Zeroizing<String>, String>,
    ) -> Result<CredentialHeader, CredentialError> {
        let failed = |reason: String| CredentialError(format!("for {}: {reason}", self.origin));
        let (name, value) = match &self.kind {
            Kind::Bearer(token) => {
                let token = reveal(token).map_err(failed)?;
                if token.is_empty() {
                    return Err(failed("the token is empty".into()));
                }
                (AUTHORIZATION, Zeroizing::new(format!("Bearer {}", *token)))
            }
            Kind::Basic { user, password } => {
                let (user, password) =
                    (reveal(user).map_err(failed)?, reveal(password).map_err(failed)?);
                let both = Zeroizing::new(format!("{}:{}", *user, *password));
                let both = Zeroizing::new(STANDARD.encode(&*both));
                // Base64 text contains no references. `reveal` only registers it for redaction, because it
                // discloses user and password.
                let both = reveal(&both).map_err(failed)?;
                (AUTHORIZATION, Zeroizing::new(format!("Basic {}", *both)))
            }
            Kind::Header { name, value } => (name.clone(), reveal(value).map_err(failed)?),
        };
        let mut value = HeaderValue::from_str(&value).map_err(|_| {
            failed("the value has a character that a header must not contain".into())
        })?;
        value.set_sensitive(true);
        Ok(CredentialHeader { origin: self.origin.clone(), name, value })
    }
}

/// Headers that control how a request is sent. A credential must not set them.
const FORBIDDEN_HEADERS: [HeaderName; 8] = [
    header::CONNECTION,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::HOST,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Shows the origin only, because the credential may be a secret.
impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credential({})", self.origin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(text: &str) -> Result<CredentialHeader, CredentialError> {
        Credential::parse(text)?.header(|text| Ok(text.replace("${env:T}", "s3=c:ret").into()))
    }

    #[test]
    fn credential_becomes_header_of_its_origin() {
        for (text, origin, name, value) in [
            (
                "https://a.org=bearer:${env:T}",
                "https://a.org:443",
                "authorization",
                "Bearer s3=c:ret",
            ),
            ("http://A.org:81/=basic:u:p:q", "http://a.org:81", "authorization", "Basic dTpwOnE="),
            ("https://a.org=header:X-Key: k=1", "https://a.org:443", "x-key", "k=1"),
        ] {
            let header = header(text).unwrap();
            assert_eq!(header.origin.to_string(), origin);
            assert_eq!((header.name.as_str(), header.value.to_str().unwrap()), (name, value));
            assert!(!format!("{header:?}").contains(value), "`Debug` discloses the value");
        }
    }

    /// The error of an invalid credential does not repeat its secret.
    #[test]
    fn invalid_credential_is_rejected_without_its_secret() {
        for text in [
            "bearer:s3cret",
            "a.org=bearer:s3cret",
            "https://a.org/path=bearer:s3cret",
            "https://u@a.org=bearer:s3cret",
            "https://a.org=token:s3cret",
            "https://a.org=basic:s3cret",
            "https://a.org=header:a b:s3cret",
            "https://a.org=header:Host:s3cret",
            "https://a.org=header:content-length:s3cret",
            "https://a.org=bearer:",
            "https://a.org=bearer:s3cret\r\nx: y",
        ] {
            let error = header(text).unwrap_err().to_string();
            assert!(!error.contains("s3cret"), "{error}");
        }
    }
}
