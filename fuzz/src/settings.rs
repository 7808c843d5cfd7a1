//! Fuzz target: validation of settings against an untrusted schema, and the grants that they imply.
//!
//! The input is the schema, an empty line, and one line `key=value` for each setting.

use crate::{json_mutator, memory_limit::with_memory_limit};
use libfuzzer_sys::fuzzer_mutate;
use reloader_policy::{
    Access, Permission, decide,
    plugin_settings::{self, SettingError},
};
use serde_json::Value;

/// Value of secret settings, which must not occur in errors.
const SECRET: &str = "hunter2";

/// Fuzz target: validates the plugin settings of one input with its JSON Schema, and checks the errors.
pub fn run(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    let (schema, pairs) = text.split_once("\n\n").unwrap_or((text, ""));
    let Ok(schema) = serde_json::from_str::<Value>(schema) else { return };
    // The meta-schema takes some MiB on first use. The regular expressions of the input's schema may take some MiB
    // more.
    with_memory_limit((32 << 20) + 200 * input.len(), || check(&schema, pairs));
}

/// Mutates an input; three of four mutations change the JSON structure of the schema.
pub fn mutate(data: &mut [u8], size: usize, max: usize, seed: u32) -> usize {
    let Some(at) = data[..size].windows(2).position(|pair| pair == b"\n\n") else {
        return json_mutator::mutate(data, size, max, seed);
    };
    if seed.is_multiple_of(4) {
        return fuzzer_mutate(data, size, max);
    }
    let pairs = data[at..size].to_vec();
    let size = json_mutator::mutate(data, at, max - pairs.len(), seed);
    data[size..size + pairs.len()].copy_from_slice(&pairs);
    size + pairs.len()
}

fn check(schema: &Value, pairs: &str) {
    let given = match plugin_settings::parse_pairs(schema, pairs.lines()) {
        Ok(given) => given,
        Err(errors) => return check_errors(schema, pairs, &errors),
    };
    let errors = match plugin_settings::resolve(schema, given.clone()) {
        Ok(settings) => {
            for (name, value) in &given {
                assert_eq!(&settings[name], value, "a setting of the operator was changed");
            }
            Vec::new()
        }
        Err(errors) => errors,
    };
    check_errors(schema, pairs, &errors);
    // The untrusted schema of a plugin may mark any setting with `x-read` or `x-connect`, so that the value
    // of the setting implies a grant. Only values that the operator wrote may imply one.
    let Ok(decision) = decide(schema, &Value::Object(given), &Permission::default()) else {
        return;
    };
    for requested in &decision.requested {
        assert!(decision.granted.allow(&requested.access), "{requested:?} is not granted");
        if let Access::Read(path) = &requested.access {
            assert!(pairs.contains(path.to_str().unwrap_or_default()) || pairs.contains('\\'));
        }
    }
    assert!(
        decision.granted.iter().count() <= decision.requested.len(),
        "more grants than named accesses"
    );
}

/// Checks that the number and length of errors are bounded and that they contain no secrets.
fn check_errors(schema: &Value, pairs: &str, errors: &[SettingError]) {
    let is_secret = |pair: &str| {
        let name = pair.split_once('=').map(|(name, _)| name);
        name.is_some_and(|name| {
            let property = schema["properties"][name].to_string();
            property.contains(r#""x-secret":true"#) && !name.contains(SECRET)
        })
    };
    let is_hidden = pairs.lines().filter(|pair| pair.contains(SECRET)).all(is_secret)
        && !schema.to_string().contains(SECRET);
    assert!(errors.len() <= 20 + pairs.len(), "{} errors", errors.len());
    for error in errors {
        let error = error.to_string();
        assert!(!error.is_empty() && error.len() <= 5000, "{error}");
        assert!(!is_hidden || !error.contains(SECRET), "a secret is leaked: {error}");
    }
}
