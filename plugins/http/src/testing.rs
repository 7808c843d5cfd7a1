//! Helpers for the tests of several modules.

use crate::{Settings, Url};
use guest_sdk::{Failure, FakeHost, Reload};

/// Minimal settings of the plugin, in JSON.
pub(crate) const URL: &str = r#"{"url": "https://example.com/value"}"#;

/// Creates a source from settings in JSON.
pub(crate) fn try_source(fake: &FakeHost, settings: &str) -> Result<Url, Failure> {
    let settings: Settings = serde_json::from_str(settings).unwrap();
    Url::new(settings, &fake.host())
}

pub(crate) fn source(fake: &FakeHost, settings: &str) -> Url {
    try_source(fake, settings).unwrap()
}

/// Returns a header field of a sent request.
pub(crate) fn sent(fake: &FakeHost, request: usize, name: &str) -> Option<String> {
    let requests = fake.requests();
    let mut fields = requests[request].headers.iter();
    fields.find(|(n, _)| n == name).map(|(_, value)| value.clone())
}
