//! Tokens of API clients.

use e2e::TestHost;

/// Creates a token with `host token`. Returns the `Authorization` header and the configuration.
pub(crate) fn token(arguments: &[&str]) -> (String, String) {
    let made = TestHost::new().finish(&[&["token"], arguments].concat());
    assert_eq!(made.status, Some(0), "{}", made.stderr);
    (format!("Bearer {}", made.text().trim()), format!("{}\n", made.stderr))
}
