//! Tests of the settings of sinks, as a configuration file contains them.

use reloader_delivery::{
    ExecInput, OnRemoved, SinkKind, SinkSettings, Update,
    process::{CommandLine, Signal},
};
use schemars::schema_for;
use serde_json::{Value, json};
use std::time::Duration;

fn read(text: &str) -> Result<SinkSettings, String> {
    toml::from_str(text).map_err(|error| error.message().to_owned())
}

#[test]
fn common_and_type_specific_keys_are_parsed() {
    let sink = read(
        r#"
        type = "exec"
        name = "reload"
        command = ["nginx", "-s", "reload"]
        input = "none"
        timeout = "7s"
        kill-signal = "INT"
        on-removed = "clear"
        "#,
    )
    .unwrap();
    assert_eq!((sink.kind(), sink.name()), ("exec", Some("reload")));
    let SinkKind::Exec(exec) = &sink.kind else { panic!("{sink:?}") };
    assert_eq!(exec.command, CommandLine::program(["nginx", "-s", "reload"]));
    assert_eq!((exec.input, exec.kill_signal), (ExecInput::None, Signal::INT));
    let worker = sink.worker(None);
    assert!(worker.timeout > Duration::from_secs(7), "timeout plus grace period");
    assert_eq!((worker.on_removed, worker.retry_later), (OnRemoved::Clear, None));
    assert!(sink.build("app").is_ok());
}

#[test]
fn repair_interval_is_bounded_and_can_be_disabled() {
    let interval = |text: &str| {
        let sink = format!("type = \"file\"\npath = \"/a\"\nrepair-interval = {text}");
        read(&sink).map(|sink| {
            let written = toml::to_string(&sink).unwrap();
            assert_eq!(read(&written), Ok(sink.clone()), "{written}");
            sink.build("app").unwrap().repair_interval()
        })
    };
    let seconds = |seconds| Ok(Some(Duration::from_secs(seconds)));
    assert_eq!(interval("\"60s\""), seconds(60));
    assert_eq!(interval("\"1s\""), seconds(1));
    assert_eq!(interval("\"24h\""), seconds(86_400));
    assert_eq!((interval("\"off\""), interval("\"0s\"")), (Ok(None), Ok(None)));
    for invalid in ["\"500ms\"", "\"25h\"", "\"often\""] {
        let error = interval(invalid).unwrap_err();
        let expected = "expected a duration from `1s` to `24h`, or `off`";
        assert!(error.ends_with(expected), "{invalid}: {error}");
    }
    let by_default = read("type = \"file\"\npath = \"/a\"").unwrap();
    assert_eq!(by_default.build("app").unwrap().repair_interval(), Some(Duration::from_secs(60)));
    assert!(
        !toml::to_string(&by_default).unwrap().contains("repair"),
        "the fingerprint is unchanged"
    );
}

#[test]
fn key_order_is_irrelevant() {
    let first = read("type = \"file\"\npath = \"/a\"\nmode = \"0640\"\nretries = 3").unwrap();
    let last = read("retries = 3\nmode = \"0640\"\npath = \"/a\"\ntype = \"file\"").unwrap();
    assert_eq!(first, last);
}

#[test]
fn minimal_settings_are_valid() {
    for text in [
        r#"type = "stdout""#,
        r#"type = "file"
           path = "/a""#,
        r#"type = "exec"
           command = "true""#,
        r#"type = "signal"
           pid-file = "/run/app.pid""#,
        r#"type = "webhook"
           url = "https://example.com/hook""#,
        r#"type = "template"
           template = "{{ value }}"
           path = "/a""#,
    ] {
        let sink = read(text).unwrap();
        assert!(sink.build("app").is_ok(), "{text}");
        let written = serde_json::to_value(&sink).unwrap();
        assert_eq!(serde_json::from_value::<SinkSettings>(written).unwrap(), sink);
    }
}

/// The delivery record depends on the fingerprint of the settings. If a new version of the host changed the
/// fingerprint, each sink would deliver the same values again after an upgrade.
#[test]
fn fingerprint_is_stable_across_versions() {
    let sink = read("retries = 3\nmode = \"0640\"\npath = \"/a\"\ntype = \"file\"").unwrap();
    let settings = r#"{"type":"file","path":"/a","mode":"0640"}"#;
    let expected = Update::new(Vec::new()).digest(settings).to_string();
    assert_eq!(sink.worker(None).fingerprint, expected);
}

/// The error of an invalid setting says what is expected.
#[test]
fn error_names_the_expectation() {
    for (text, expected) in [
        ("path = \"/a\"", "missing field `type`"),
        ("type = \"fiel\"", "unknown variant `fiel`, expected one of `stdout`, `file`, `exec`"),
        ("type = \"file\"", "missing field `path`"),
        ("type = \"file\"\npath = \"/a\"\nmode = \"rw\"", "permissions in octal, e.g. \"0644\""),
        (
            "type = \"file\"\npath = \"/a\"\nmdoe = \"0644\"",
            "unknown field `mdoe`, expected one of `at`, `encoding`, `append-newline`, `path`, `mode`",
        ),
        ("type = \"file\"\npath = \"/a\"\nmdoe = \"0644\"", "`on-removed`"),
        ("type = \"exec\"\ncommand = 7", "a string for the shell"),
        ("type = \"file\"\npath = \"/a\"\ntimeout = \"7\"", "a number and its unit"),
        ("timeout = \"7\"\ntype = \"file\"\npath = \"/a\"", "`timeout`: "),
        ("type = \"webhook\"\nurl = \"nowhere\"", "not a URL"),
    ] {
        let error = read(text).expect_err(text);
        assert!(error.contains(expected), "{text}: {error}");
    }
}

/// The host finds the line of an error by the path of the key. Keys before `type` are buffered, and their errors
/// have no path, so the message contains the key.
#[test]
fn error_has_the_path_of_its_key() {
    let path = |value: Value| {
        let sink: Result<SinkSettings, _> = serde_path_to_error::deserialize(&value);
        sink.expect_err(&value.to_string()).path().to_string()
    };
    assert_eq!(path(json!({ "type": "file", "path": "/a", "mode": "rw" })), "mode");
    assert_eq!(path(json!({ "type": "file", "path": "/a", "mdoe": "0644" })), "mdoe");
    assert_eq!(path(json!({ "type": "file", "path": "/a", "timeout": "7" })), "timeout");
    assert_eq!(path(json!({ "type": "fiel" })), "type");
    let last = json!({ "path": "/a", "mode": "rw", "type": "file" });
    let error = serde_json::from_value::<SinkSettings>(last).unwrap_err().to_string();
    assert!(error.starts_with("`mode`: "), "{error}");
}

#[test]
fn schema_rejects_keys_of_other_types() {
    let schema = serde_json::to_value(schema_for!(SinkSettings)).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    for valid in [
        json!({ "type": "stdout" }),
        json!({ "type": "file", "path": "/a", "mode": "0644", "backup": true, "timeout": "3s" }),
        json!({ "type": "exec", "command": ["a"], "retries": 3, "name": "x" }),
        json!({ "type": "exec", "command": "a | b", "on-removed": "clear" }),
        json!({ "type": "signal", "pid-file": "/run/a", "signal": "SIGHUP" }),
        json!({ "type": "webhook", "url": "https://a", "format": "cloudevents" }),
        json!({ "type": "template", "template-file": "/a.tmpl", "path": "/a" }),
    ] {
        assert!(validator.is_valid(&valid), "{valid}");
        serde_json::from_value::<SinkSettings>(valid).unwrap();
    }
    for invalid in [
        json!({ "type": "file" }),
        json!({ "path": "/a" }),
        json!({ "type": "nothing" }),
        json!({ "type": "file", "path": "/a", "mode": "rw" }),
        json!({ "type": "file", "path": "/a", "command": "b" }),
        json!({ "type": "exec", "command": [] }),
    ] {
        assert!(!validator.is_valid(&invalid), "{invalid}");
        serde_json::from_value::<SinkSettings>(invalid).unwrap_err();
    }
}

/// Editors show the descriptions of the schema to the operator.
#[test]
fn schema_describes_each_key_with_its_default() {
    let schema = serde_json::to_value(schema_for!(SinkSettings)).unwrap();
    for kind in schema["oneOf"].as_array().unwrap() {
        let required = kind["required"].as_array().unwrap();
        for (key, property) in kind["properties"].as_object().unwrap() {
            if key == "type" || key.starts_with("template") {
                continue;
            }
            let text = property["description"].as_str().unwrap_or_default();
            assert!(!text.is_empty(), "{key} of {}", kind["properties"]["type"]);
            let has_default = text.contains("efault: ");
            assert!(has_default || required.contains(&json!(key)), "{key}: {text}");
        }
    }
}
