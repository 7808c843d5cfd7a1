//! Fuzz target: references to secrets in settings, and redaction of the secrets.
//!
//! The input is the text of a setting. The text can refer to one secret: the environment variable `PW`.

use crate::memory_limit::with_memory_limit;
use reloader_net::secrets::Secrets;
use serde_json::{Map, Value, json};

/// Value of `PW`. The variable is set once, before other code runs.
const SECRET: &str = "p@ss/w0rd%41";

/// Resolves the references of one input and checks their redaction.
pub fn run(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    static SET: std::sync::Once = std::sync::Once::new();
    // No other thread runs: libFuzzer has one thread.
    #[allow(unsafe_code, reason = "see above")]
    SET.call_once(|| unsafe { std::env::set_var("PW", SECRET) });
    // The input must not read files of this machine.
    let text = text.replace("${file:", "${env:");
    with_memory_limit((1 << 20) + 200 * input.len(), || check(&text));
}

fn check(text: &str) {
    let schema = json!({ "properties": {
        "url": { "x-connect": { "redis": 1, "http": 80 } },
        "secret": { "x-secret": true },
    }});
    for name in ["plain", "url", "secret"] {
        let mut secrets = Secrets::default();
        let settings: Map<String, Value> = [(name.to_owned(), text.into())].into_iter().collect();
        let revealed = match secrets.reveal_all(&schema, &settings) {
            Ok(revealed) => revealed[name].as_str().unwrap_or_default().to_owned(),
            Err(errors) => {
                for error in errors {
                    let error = error.to_string();
                    assert!(text.contains(SECRET) || !error.contains(SECRET), "{error}");
                }
                continue;
            }
        };
        if !text.contains('$') {
            assert_eq!(revealed, text, "a text without references was changed");
        }
        let shown = secrets.redact(&revealed);
        assert!(text.contains(SECRET) || !shown.contains(SECRET), "{shown:?} of {text:?}");
        if name == "secret" {
            for line in revealed.lines().filter(|line| line.len() >= 3 && !"***".contains(*line)) {
                assert!(!shown.lines().any(|shown| shown == line), "{line:?} is shown");
            }
        }
    }
}
