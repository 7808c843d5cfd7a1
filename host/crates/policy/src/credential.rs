//! Credentials that the host adds to requests, so that the plugin never holds them.

use crate::HttpOrigin;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{
    HeaderName, HeaderValue,
    header::{self, AUTHORIZATION},
};
use std::fmt;

/// A credential for an origin, as it is written: `ORIGIN=bearer:TOKEN`, `ORIGIN=basic:USER:PASSWORD` or
/// `ORIGIN=header:NAME:VALUE`. Token, password and value may be references to secrets.
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

/// A header that is added to every request to an origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialHeader {
    /// The only origin that it is sent to.
    pub origin: HttpOrigin,
    /// The header's name.
    pub name: HeaderName,
    /// The header's value, which does not show itself.
    pub value: HeaderValue,
}

impl CredentialHeader {
    /// Whether only one of the two can be sent.
    pub fn is_instead_of(&self, other: &Self) -> bool {
        self.origin == other.origin && self.name == other.name
    }

    /// There is another one that it would be instead of.
    pub fn is_one_too_many(&self) -> CredentialError {
        let Self { origin, name, .. } = self;
        CredentialError(format!("for {origin}: there is another one that is the header `{name}`"))
    }
}

/// Not a credential.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a credential that cannot be used: {0}")]
pub struct CredentialError(String);

impl Credential {
    /// From `ORIGIN=bearer:TOKEN` and the like.
    ///
    /// # Errors
    ///
    /// What is wrong, in words that do not repeat a secret.
    pub fn parse(text: &str) -> Result<Self, CredentialError> {
        let expected = "expected ORIGIN=bearer:TOKEN, ORIGIN=basic:USER:PASSWORD or \
                        ORIGIN=header:NAME:VALUE, with an origin like `https://api.example.com`";
        let wrong = |why: &str| CredentialError(why.into());
        let (origin, rest) = text.split_once('=').ok_or_else(|| wrong(expected))?;
        let origin = HttpOrigin::parse(origin).ok_or_else(|| wrong(expected))?;
        let kind = match rest.split_once(':') {
            Some(("bearer", token)) => Kind::Bearer(token.into()),
            Some(("basic", both)) => {
                let (user, password) = both.split_once(':').ok_or_else(|| wrong(expected))?;
                Kind::Basic { user: user.into(), password: password.into() }
            }
            Some(("header", both)) => {
                let (name, value) = both.split_once(':').ok_or_else(|| wrong(expected))?;
                let name = name.parse().map_err(|_| {
                    CredentialError(format!(
                        "`{}` is not the name of a header",
                        name.escape_debug()
                    ))
                })?;
                if NO_CREDENTIALS.contains(&name) {
                    return Err(CredentialError(format!(
                        "`{name}` is part of how a request is sent, and no credential"
                    )));
                }
                Kind::Header { name, value: value.trim_start().into() }
            }
            _ => return Err(wrong(expected)),
        };
        Ok(Self { origin, kind })
    }

    /// The origin that it is for.
    #[must_use]
    pub fn origin(&self) -> &HttpOrigin {
        &self.origin
    }

    /// The header, with its secrets.
    ///
    /// # Errors
    ///
    /// When a secret cannot be had, or cannot stand in a header.
    pub fn header(
        &self,
        mut reveal: impl FnMut(&str) -> Result<String, String>,
    ) -> Result<CredentialHeader, CredentialError> {
        let failed = |why: String| CredentialError(format!("for {}: {why}", self.origin));
        let (name, value) = match &self.kind {
            Kind::Bearer(token) => {
                let token = reveal(token).map_err(failed)?;
                if token.is_empty() {
                    return Err(failed("the token is empty".into()));
                }
                (AUTHORIZATION, format!("Bearer {token}"))
            }
            Kind::Basic { user, password } => {
                let (user, password) =
                    (reveal(user).map_err(failed)?, reveal(password).map_err(failed)?);
                // Whoever sees this sees both.
                let both =
                    reveal(&STANDARD.encode(format!("{user}:{password}"))).map_err(failed)?;
                (AUTHORIZATION, format!("Basic {both}"))
            }
            Kind::Header { name, value } => (name.clone(), reveal(value).map_err(failed)?),
        };
        let mut value = HeaderValue::from_str(&value)
            .map_err(|_| failed("it has a character that cannot stand in a header".into()))?;
        value.set_sensitive(true);
        Ok(CredentialHeader { origin: self.origin.clone(), name, value })
    }
}

/// These say how a request is sent.
const NO_CREDENTIALS: [HeaderName; 8] = [
    header::CONNECTION,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::HOST,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// The origin alone.
impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credential({})", self.origin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(text: &str) -> Result<CredentialHeader, CredentialError> {
        Credential::parse(text)?.header(|text| Ok(text.replace("${env:T}", "s3=c:ret")))
    }

    #[test]
    fn a_credential_is_a_header_for_one_origin() {
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
            assert!(!format!("{header:?}").contains(value), "it does not show itself");
        }
    }

    #[test]
    fn what_is_not_a_credential_is_refused_and_not_repeated() {
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
