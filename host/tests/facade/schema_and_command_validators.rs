//! Validation of values with real files, schemas and commands.

use reloader_host::{
    types::{FailureKind, Snapshot, SourceName},
    validate::{PluginValidators, ValidateSettings},
    validator::{Candidate, Rejection, Validator},
};
use std::{fs, path::Path, sync::Arc, time::Duration};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

/// Timeout of each wait; reached only on failure.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Returns the validator for these settings.
fn validator(settings: &str) -> Arc<dyn Validator> {
    let settings: ValidateSettings = toml::from_str(settings).unwrap();
    assert_eq!(settings.problems(), [""; 0]);
    settings.validator(PluginValidators::default()).unwrap()
}

/// Returns the validator for these settings, with the plugin that validates against a schema.
#[cfg(feature = "bundled")]
async fn validator_with_schema(settings: &str) -> Arc<dyn Validator> {
    use reloader_host::plugin::{JsonSchemaSettings, JsonSchemaValidator, Limits, PluginHost};
    let settings: ValidateSettings = toml::from_str(settings).unwrap();
    let plugin = PluginHost::new().unwrap().load(JsonSchemaValidator::PLUGIN).await.unwrap();
    let schema_settings = JsonSchemaSettings {
        path: settings.schema.clone().unwrap(),
        format: settings.format(),
        not_empty: settings.not_empty,
        timeout: settings.timeout.0,
    };
    let validator = JsonSchemaValidator::new(plugin, "app", schema_settings, &Limits::default());
    let schema = Some(Arc::new(validator) as _);
    settings.validator(PluginValidators { schema, ..PluginValidators::default() }).unwrap()
}

async fn validate(
    validator: &dyn Validator,
    new: &str,
    before: Option<&str>,
) -> Result<(), Rejection> {
    let json = |text: &str| Snapshot {
        media_type: Some("application/json".into()),
        ..Snapshot::new(text.to_owned())
    };
    let (source, new, before) = (SourceName::new("app"), json(new), before.map(json));
    let candidate = Candidate { source: &source, new: &new, before: before.as_ref() };
    timeout(TIMEOUT, validator.validate(&candidate)).await.unwrap()
}

/// Returns the reason of a permanent rejection.
async fn permanent_rejection(settings: &str, value: &str) -> String {
    let rejection = validate(&*validator(settings), value, None).await.expect_err(value);
    assert_eq!(rejection.kind, FailureKind::Permanent, "{rejection}");
    rejection.to_string()
}

/// Returns the reason of a transient rejection.
async fn transient_rejection(settings: &str, value: &str) -> String {
    let rejection = validate(&*validator(settings), value, None).await.expect_err(value);
    assert!(rejection.kind.is_transient(), "{rejection}");
    rejection.to_string()
}

/// Waits until a file has a complete line, and returns it.
async fn wait_for_line(path: &Path) -> String {
    let line = async {
        loop {
            match fs::read_to_string(path) {
                Ok(text) if text.ends_with('\n') => return text.trim().to_owned(),
                _ => sleep(Duration::from_millis(5)).await,
            }
        }
    };
    timeout(TIMEOUT, line).await.unwrap()
}

#[tokio::test]
async fn schema_without_validator_rejects_everything() {
    let reason = permanent_rejection("schema = 's.json'", "{}").await;
    assert_eq!(reason, "no validator available for `s.json`");
}

#[cfg(feature = "bundled")]
#[tokio::test]
async fn schema_file_is_read_for_each_check() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("${env:HOME}.json");
    let validator = validator_with_schema(&format!("parse = 'json'\nschema = {path:?}")).await;
    let rejection = validate(&*validator, "1", None).await.expect_err("no schema");
    assert!(rejection.kind.is_transient(), "{rejection}");
    assert!(rejection.message.contains("${env:HOME}.json: "), "{rejection}");
    for (schema, expected) in [
        (
            r#"{ "type": "#,
            "cannot be used: invalid JSON at line 1, column 10: EOF while parsing a value",
        ),
        (r#"{ "type": "nonsense" }"#, "cannot be used: "),
        (r#"{ "$ref": "file:///etc/hostname" }"#, "only references within the schema itself"),
    ] {
        fs::write(&path, schema).unwrap();
        let rejection = validate(&*validator, "1", None).await.expect_err(schema);
        assert!(rejection.kind.is_transient(), "{rejection}");
        assert!(rejection.message.contains(expected), "{rejection}");
    }
    fs::write(&path, r#"{ "type": "integer", "title": "${env:HOME}" }"#).unwrap();
    assert_eq!(validate(&*validator, "1", None).await, Ok(()));
    fs::write(&path, r#"{ "type": "string" }"#).unwrap();
    let rejection = validate(&*validator, "1", None).await.expect_err("another schema");
    assert_eq!(rejection.kind, FailureKind::Permanent);
}

#[cfg(feature = "bundled")]
#[tokio::test]
async fn schema_check_takes_format_from_media_type() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("s.yaml");
    fs::write(&path, "type: object").unwrap();
    let validator = validator_with_schema(&format!("schema = {path:?}")).await;
    assert_eq!(validate(&*validator, "{}", None).await, Ok(()));
    let (source, new) = (SourceName::new("app"), Snapshot::new("{}"));
    let candidate = Candidate { source: &source, new: &new, before: None };
    let rejection = validator.validate(&candidate).await.expect_err("no media type");
    assert_eq!(
        &*rejection.message,
        "the media type of the value is not JSON, TOML or YAML: none; hint: set `parse`"
    );
}

#[cfg(feature = "bundled")]
#[tokio::test]
async fn checks_run_from_cheap_to_expensive() {
    let directory = TempDir::new().unwrap();
    let (schema, mark) = (directory.path().join("schema.json"), directory.path().join("mark"));
    fs::write(&schema, r#"{ "properties": { "port": { "type": "integer" } } }"#).unwrap();
    let settings = format!(
        "not-empty = true\nmax-shrink = '50%'\nschema = {schema:?}\ncommand = ['touch', {mark:?}]"
    );
    let validator = validator_with_schema(&settings).await;
    for (value, expected) in [
        ("", "the value is empty"),
        ("{}", "rejected by `not-empty`"),
        ("{\"port\": ", "invalid JSON at line 1, column 9: EOF while parsing a value"),
        ("{\"port\": \"x\"}", "`/port`: it is not of type \"integer\""),
        ("{\"port\": 1, \"padding\": \"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"}", "has shrunk"),
    ] {
        let before = (expected == "has shrunk").then(|| "x".repeat(1000));
        let rejection = validate(&*validator, value, before.as_deref()).await.expect_err(expected);
        assert!(rejection.message.contains(expected), "{rejection}");
    }
    assert!(!mark.exists(), "the command must not run for a rejected value");
    assert_eq!(validate(&*validator, "{\"port\": 1}", None).await, Ok(()));
    assert!(mark.exists());
}

#[tokio::test]
async fn command_reads_value_from_stdin() {
    let settings = "command = ['grep', '-q', 'port']";
    assert_eq!(validate(&*validator(settings), "port = 1", None).await, Ok(()));
    let rejection = permanent_rejection(settings, "host = 1").await;
    assert_eq!(rejection, "rejected by the validation command: `grep` failed with status 1");
}

#[tokio::test]
async fn last_line_of_command_is_the_reason() {
    let rejection =
        permanent_rejection("command = 'echo no port in line 3 >&2; exit 2'", "secret").await;
    assert_eq!(
        rejection,
        "rejected by the validation command: `echo` failed with status 2: no port in line 3"
    );
}

#[tokio::test]
async fn command_gets_both_values_as_files() {
    let script = "case $1 in *.json) ;; *) exit 9;; esac; \
                  diff $1 $RELOADER_DIRECTORY/before.json > /dev/null && test $RELOADER_SOURCE = app";
    let settings = format!("command = ['sh', '-c', {script:?}, 'sh', '{{file}}']");
    let validator = validator(&settings);
    assert_eq!(validate(&*validator, "{}", Some("{}")).await, Ok(()));
    assert!(validate(&*validator, "{}", Some("[]")).await.is_err());
}

#[tokio::test]
async fn failed_command_rejects_transiently() {
    let reason = transient_rejection("command = ['/nowhere/check']", "x").await;
    assert!(reason.contains("`/nowhere/check` cannot be started"), "{reason}");
    let reason = transient_rejection("command = 'no-such-command-anywhere'", "x").await;
    assert!(reason.contains("status 127"), "{reason}");
    let reason = transient_rejection("command = 'exit 75'", "x").await;
    assert!(reason.contains("could not be validated"), "{reason}");
    let reason = transient_rejection("command = ['sleep', '600']\ntimeout = '100ms'", "x").await;
    assert!(reason.contains("timed out after 100ms"), "{reason}");
}

#[tokio::test]
async fn command_of_dropped_validation_is_killed() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("pid");
    let settings = format!("command = 'echo $$ > {}; exec sleep 600'", path.display());
    let validator = validator(&settings);
    let validation = tokio::spawn(async move { validate(&*validator, "x", None).await });
    let process = Path::new("/proc").join(wait_for_line(&path).await);
    validation.abort();
    // A zombie process counts as ended.
    let has_ended =
        || fs::read_to_string(process.join("stat")).map_or(true, |stat| stat.contains(") Z "));
    let ended = async {
        while !has_ended() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(TIMEOUT, ended).await.unwrap();
}
