//! Redaction: replaces registered secrets in messages by `***`, in each form in which they may appear.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reloader_util::sanitize::sanitize;
use serde_json::Value;
use std::{borrow::Cow, collections::BTreeSet};
use url::Url;
use zeroize::Zeroizing;

/// Set of texts to redact in messages: the registered secrets in several encodings.
#[derive(Default)]
pub(super) struct Redaction {
    /// Texts to redact, longest first.
    texts: BTreeSet<RedactedText>,
}

/// Text to redact, ordered by decreasing length.
#[derive(PartialEq, Eq)]
struct RedactedText(Zeroizing<String>);

impl Ord for RedactedText {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.0.len().cmp(&self.0.len()).then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for RedactedText {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// Minimum size of a redacted text, in bytes. Redacting shorter texts would make most messages unreadable.
const MIN_REDACTED_BYTES: usize = 3;

impl Redaction {
    /// Registers a secret, in each form in which it may appear.
    pub(super) fn add(&mut self, secret: &str) {
        // The lines of a multi-line secret, such as a key, may appear separately.
        for line in secret.lines().filter(|line| line.len() >= MIN_REDACTED_BYTES) {
            let json = Zeroizing::new(Value::from(line).to_string());
            let forms = [
                line.to_owned(),
                // The form in a URL.
                percent_encode(line),
                // The form in a log event.
                sanitize(line),
                // The form in a host name.
                line.to_ascii_lowercase(),
                // The form in debug output.
                line.escape_debug().to_string(),
                // The form in JSON.
                json.trim_matches('"').to_owned(),
            ];
            self.texts.extend(forms.map(|form| RedactedText(form.into())));
        }
    }

    /// Registers the password in a URL.
    pub(super) fn add_url_password(&mut self, url: &str) {
        let Ok(url) = Url::parse(url) else { return };
        if let Some(password) = url.password() {
            self.add(password);
            let plain = percent_encoding::percent_decode_str(password).decode_utf8_lossy();
            self.add(&plain);
        }
    }

    /// Registers the path and query of a URL that is secret as a whole. The host stays visible, because grants
    /// name hosts.
    pub(super) fn add_url_path(&mut self, url: &str) {
        let Ok(url) = Url::parse(url) else { return };
        for part in [url.path().trim_matches('/'), url.query().unwrap_or_default()] {
            self.add(part);
        }
    }

    /// Replaces all registered texts by `***`.
    pub(super) fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut redacted = Cow::Borrowed(text);
        for RedactedText(secret) in &self.texts {
            if redacted.contains(&**secret) {
                redacted = redacted.replace(&**secret, "***").into();
            }
        }
        redacted
    }
}

/// Encodes a secret for a URL.
pub(super) fn percent_encode(secret: &str) -> String {
    utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string()
}
