//! Tests of secret references and redaction.

use super::{
    references::{Part, Reference, parse_parts},
    resolve_references::Secrets,
};
use serde_json::{Map, Value, json};
use std::fs;

fn object(value: Value) -> Map<String, Value> {
    serde_json::from_value(value).unwrap()
}

#[test]
fn text_is_split_into_literals_and_references() {
    let parse = |text| parse_parts(text).unwrap();
    assert_eq!(parse("plain $ {}"), [Part::Text("plain $ {}")]);
    assert_eq!(parse("${env:A}"), [Part::Secret(Reference::Env("A".into()))]);
    assert_eq!(
        parse("x${file:/a/b}y"),
        [Part::Text("x"), Part::Secret(Reference::File("/a/b".into())), Part::Text("y")]
    );
    assert_eq!(parse("$${env:A}"), [Part::Text("${"), Part::Text("env:A}")]);
    for invalid in ["${env:}", "${evn:A}", "${A}", "${env:A", "a${"] {
        assert!(parse_parts(invalid).unwrap_err().contains("expected `${env:NAME}`"), "{invalid}");
    }
}

#[test]
fn secret_has_type_from_schema() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("secret");
    let schema = json!({ "properties": {
        "number": { "type": "integer" },
        "text": { "type": "string" },
    } });
    let reference = format!("${{file:{}}}", path.display());
    let settings = object(json!({ "number": reference, "text": reference }));
    for (content, number) in [("17", json!(17)), ("many", json!("many"))] {
        fs::write(&path, content).unwrap();
        let revealed = Secrets::default().reveal_all(&schema, &settings).unwrap();
        assert_eq!(Value::Object(revealed), json!({ "number": number, "text": content }));
    }
    let literal = object(json!({ "number": "17" }));
    let revealed = Secrets::default().reveal_all(&schema, &literal).unwrap();
    assert_eq!(revealed, literal, "a literal is not converted");
}

#[test]
fn trailing_line_end_of_file_is_removed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("secret");
    let reference = format!("${{file:{}}}", path.display());
    for (content, expected) in [("s3cr3t\n", "s3cr3t"), ("a b\r\n", "a b"), ("x\n\n", "x\n")] {
        fs::write(&path, content).unwrap();
        let secret = Secrets::default().reveal(&reference).unwrap();
        assert_eq!(*secret, expected);
    }
    let long = "x".repeat(70_000);
    for (content, expected) in [("", "is empty"), ("\n", "is empty"), (long.as_str(), "larger")] {
        fs::write(&path, content).unwrap();
        let error = Secrets::default().reveal(&reference).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    fs::remove_file(&path).unwrap();
    let error = Secrets::default().reveal(&reference).unwrap_err();
    assert!(error.starts_with(&reference) && error.contains("cannot be read"), "{error}");
}

#[test]
fn changed_or_missing_secret_file_is_detected() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("secret");
    fs::write(&path, "one").unwrap();
    let mut secrets = Secrets::default();
    secrets.reveal(&format!("${{file:{}}}", path.display())).unwrap();
    assert_eq!(secrets.are_outdated(), Ok(false));
    fs::write(&path, "two").unwrap();
    assert_eq!(secrets.are_outdated(), Ok(true));
    fs::remove_file(&path).unwrap();
    assert!(secrets.are_outdated().unwrap_err().contains("cannot be read"));
}

#[test]
fn nested_settings_are_revealed_and_redacted() {
    let schema = json!({ "properties": {
        "url": { "x-connect": { "redis": 6379 } },
        "headers": { "x-secret": true, "additionalProperties": { "type": "string" } },
        "name": {},
    }});
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("password");
    fs::write(&path, "p@ss/w").unwrap();
    let reference = format!("${{file:{}}}", path.display());
    let settings = json!({
        "url": format!("redis://me:{reference}@db:1/0"),
        "headers": { "authorization": "Bearer abcdef" },
        "name": ["me", 3],
    });
    let mut secrets = Secrets::default();
    let revealed = secrets.reveal_all(&schema, &object(settings.clone())).unwrap();
    assert_eq!(revealed["url"], "redis://me:p%40ss%2Fw@db:1/0", "the secret is percent-encoded");
    assert_eq!(revealed["name"], settings["name"]);
    let shown = secrets.redact("redis://me:p%40ss%2Fw@db, p@ss/w, Bearer abcdef and me");
    assert_eq!(shown, "redis://me:***@db, ***, *** and me");
    assert!(!format!("{secrets:?}").contains("ss"));
}

#[test]
fn schema_keywords_mark_secrets() {
    let login = json!({ "properties": { "password": { "x-secret": true } } });
    let database = json!({ "allOf": [{ "x-connect": { "redis": 6379 } }] });
    let given = json!({ "password": "hunter2", "user": "reader" });
    for (described, given) in [
        (json!({ "$ref": "#/$defs/login" }), given.clone()),
        (json!({ "allOf": [{ "$ref": "#/$defs/login" }] }), given.clone()),
        (json!({ "anyOf": [{ "$ref": "#/$defs/login" }, { "type": "null" }] }), given.clone()),
        (json!({ "oneOf": [{ "type": "string" }, { "$ref": "#/$defs/login" }] }), given.clone()),
        (json!({ "items": { "$ref": "#/$defs/login" } }), json!([given])),
        (json!({ "additionalProperties": { "$ref": "#/$defs/login" } }), json!({ "a": given })),
        (json!({ "$ref": "#/$defs/database" }), json!("redis://me:hunter2@reader/")),
        (json!({ "$ref": "#/$defs/none" }), json!("hunter2")),
    ] {
        let schema = json!({
            "properties": { "a": described },
            "$defs": { "login": login, "database": database },
        });
        let mut secrets = Secrets::default();
        secrets.reveal_all(&schema, &object(json!({ "a": given }))).unwrap();
        assert_eq!(secrets.redact("hunter2 of reader"), "*** of reader", "{described}");
    }
}

#[test]
fn secret_url_shows_only_host() {
    let schema = json!({ "properties": { "url": { "x-connect": { "https": 443 } } } });
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hook");
    fs::write(&path, "https://hooks.example.com/services/T0000/t0ken?key=k3y").unwrap();
    let settings = json!({ "url": format!("${{file:{}}}", path.display()) });
    let mut secrets = Secrets::default();
    secrets.reveal_all(&schema, &object(settings)).unwrap();
    let shown = secrets.redact("cannot request `https://hooks.example.com/services/T0000/t0ken`");
    assert_eq!(shown, "cannot request `https://hooks.example.com/***`");
    assert_eq!(secrets.redact("?key=k3y"), "?***");
}

#[test]
fn missing_secret_names_setting() {
    let settings = json!({ "a": "${env:RELOADER_NOT_THERE}", "b": { "c": "${oops}" } });
    let errors = Secrets::default().reveal_all(&json!({}), &object(settings)).unwrap_err();
    let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        errors,
        [
            "setting `a`: ${env:RELOADER_NOT_THERE}: environment variable `RELOADER_NOT_THERE` is not set",
            "setting `b.c`: expected `${env:NAME}` or `${file:PATH}`; hint: write `$${` for a literal `${`",
        ]
    );
}
