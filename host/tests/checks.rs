//! The checks of a value, with real files, schemas and commands.
#![cfg(all(feature = "delivery", unix))]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use reloader_host::{
    judge::{Candidate, Rejection, Validator},
    model::{FailureKind, Snapshot, SourceName},
    validate::{PluginValidators, ValidateSettings},
};
use std::{fs, path::Path, sync::Arc, time::Duration};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

/// Reached only when something does not happen.
const PATIENCE: Duration = Duration::from_secs(20);

fn judge(settings: &str) -> Arc<dyn Validator> {
    let settings: ValidateSettings = toml::from_str(settings).unwrap();
    assert_eq!(settings.problems(), [""; 0]);
    settings.judge(PluginValidators::default()).unwrap()
}

/// The same, with the component that checks values against the schema.
#[cfg(feature = "bundled")]
async fn judge_with_schema(settings: &str) -> Arc<dyn Validator> {
    use reloader_host::plugin::{JsonSchemaSettings, JsonSchemaValidator, Limits, PluginHost};
    let settings: ValidateSettings = toml::from_str(settings).unwrap();
    let plugin = PluginHost::new().unwrap().load(JsonSchemaValidator::PLUGIN).await.unwrap();
    let of_schema = JsonSchemaSettings {
        path: settings.schema.clone().unwrap(),
        format: settings.format(),
        not_empty: settings.not_empty,
        timeout: settings.timeout.0,
    };
    let validator = JsonSchemaValidator::new(plugin, "app", of_schema, &Limits::default());
    let schema = Some(Arc::new(validator) as _);
    settings.judge(PluginValidators { schema, ..PluginValidators::default() }).unwrap()
}

async fn judged(judge: &dyn Validator, new: &str, before: Option<&str>) -> Result<(), Rejection> {
    let json = |text: &str| Snapshot {
        media_type: Some("application/json".into()),
        ..Snapshot::new(text.to_owned())
    };
    let (source, new, before) = (SourceName::new("app"), json(new), before.map(json));
    let candidate = Candidate { source: &source, new: &new, before: before.as_ref() };
    timeout(PATIENCE, judge.validate(&candidate)).await.unwrap()
}

/// Why a value is refused for itself.
async fn bad(settings: &str, value: &str) -> String {
    let refusal = judged(&*judge(settings), value, None).await.expect_err(value);
    assert_eq!(refusal.kind, FailureKind::Permanent, "{refusal}");
    refusal.to_string()
}

/// Why the check could not be made.
async fn not_made(settings: &str, value: &str) -> String {
    let refusal = judged(&*judge(settings), value, None).await.expect_err(value);
    assert!(refusal.kind.is_passing(), "{refusal}");
    refusal.to_string()
}

async fn comes_to_be(path: &Path) -> String {
    let there = async {
        loop {
            match fs::read_to_string(path) {
                Ok(text) if text.ends_with('\n') => return text.trim().to_owned(),
                _ => sleep(Duration::from_millis(5)).await,
            }
        }
    };
    timeout(PATIENCE, there).await.unwrap()
}

#[tokio::test]
async fn schema_without_validator_rejects_everything() {
    let reason = bad("schema = 's.json'", "{}").await;
    assert_eq!(reason, "no validator runs `s.json`, which the settings name");
}

#[cfg(feature = "bundled")]
#[tokio::test]
async fn schema_file_is_read_for_each_check() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("${env:HOME}.json");
    let judge = judge_with_schema(&format!("parse = 'json'\nschema = {path:?}")).await;
    let refusal = judged(&*judge, "1", None).await.expect_err("no schema");
    assert!(refusal.kind.is_passing(), "{refusal}");
    assert!(refusal.message.contains("${env:HOME}.json cannot be read: "), "{refusal}");
    for (schema, expected) in [
        (r#"{ "type": "#, "cannot be used: it is not JSON: EOF while parsing a value"),
        (r#"{ "type": "nonsense" }"#, "cannot be used: "),
        (r#"{ "$ref": "file:///etc/hostname" }"#, "only references within the schema itself"),
    ] {
        fs::write(&path, schema).unwrap();
        let refusal = judged(&*judge, "1", None).await.expect_err(schema);
        assert!(refusal.kind.is_passing(), "{refusal}");
        assert!(refusal.message.contains(expected), "{refusal}");
    }
    fs::write(&path, r#"{ "type": "integer", "title": "${env:HOME}" }"#).unwrap();
    assert_eq!(judged(&*judge, "1", None).await, Ok(()));
    fs::write(&path, r#"{ "type": "string" }"#).unwrap();
    let refusal = judged(&*judge, "1", None).await.expect_err("another schema");
    assert_eq!(refusal.kind, FailureKind::Permanent);
}

#[cfg(feature = "bundled")]
#[tokio::test]
async fn schema_check_takes_format_from_media_type() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("s.yaml");
    fs::write(&path, "type: object").unwrap();
    let judge = judge_with_schema(&format!("schema = {path:?}")).await;
    assert_eq!(judged(&*judge, "{}", None).await, Ok(()));
    let (source, new) = (SourceName::new("app"), Snapshot::new("{}"));
    let candidate = Candidate { source: &source, new: &new, before: None };
    let refusal = judge.validate(&candidate).await.expect_err("no media type");
    assert_eq!(
        &*refusal.message,
        "the value does not say that it is JSON, TOML or YAML, but nothing; name its form with `parse`"
    );
}

#[cfg(feature = "bundled")]
#[tokio::test]
async fn the_cheapest_check_is_made_first_and_the_first_refusal_counts() {
    let directory = TempDir::new().unwrap();
    let (schema, mark) = (directory.path().join("schema.json"), directory.path().join("mark"));
    fs::write(&schema, r#"{ "properties": { "port": { "type": "integer" } } }"#).unwrap();
    let settings = format!(
        "not-empty = true\nmax-shrink = '50%'\nschema = {schema:?}\ncommand = ['touch', {mark:?}]"
    );
    let judge = judge_with_schema(&settings).await;
    for (value, expected) in [
        ("", "the value is empty"),
        ("{}", "rejected by `not-empty`"),
        ("{\"port\": ", "the value is not JSON: EOF while parsing a value at line 1 column 9"),
        ("{\"port\": \"x\"}", "`/port`: it is not of type \"integer\""),
        ("{\"port\": 1, \"padding\": \"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"}", "has shrunk"),
    ] {
        let before = (expected == "has shrunk").then(|| "x".repeat(1000));
        let refusal = judged(&*judge, value, before.as_deref()).await.expect_err(expected);
        assert!(refusal.message.contains(expected), "{refusal}");
    }
    assert!(!mark.exists(), "the command is not run for a value that is refused already");
    assert_eq!(judged(&*judge, "{\"port\": 1}", None).await, Ok(()));
    assert!(mark.exists());
}

#[tokio::test]
async fn a_command_accepts_by_its_status_what_it_reads_from_its_input() {
    let settings = "command = ['grep', '-q', 'port']";
    assert_eq!(judged(&*judge(settings), "port = 1", None).await, Ok(()));
    let refusal = bad(settings, "host = 1").await;
    assert_eq!(refusal, "the value is refused by a command: `grep` failed with status 1");
}

#[tokio::test]
async fn what_a_command_says_last_is_the_reason() {
    let refusal = bad("command = 'echo no port in line 3 >&2; exit 2'", "secret").await;
    assert_eq!(
        refusal,
        "the value is refused by a command: `echo` failed with status 2: no port in line 3"
    );
}

#[tokio::test]
async fn a_command_gets_the_value_and_the_one_before_in_private_files() {
    let script = "case $1 in *.json) ;; *) exit 9;; esac; \
                  diff $1 $RELOADER_DIRECTORY/before.json > /dev/null && test $RELOADER_SOURCE = app";
    let settings = format!("command = ['sh', '-c', {script:?}, 'sh', '{{file}}']");
    let judge = judge(&settings);
    assert_eq!(judged(&*judge, "{}", Some("{}")).await, Ok(()));
    assert!(judged(&*judge, "{}", Some("[]")).await.is_err());
}

#[tokio::test]
async fn a_command_that_cannot_be_run_says_nothing_of_the_value() {
    let reason = not_made("command = ['/nowhere/check']", "x").await;
    assert!(reason.contains("`/nowhere/check` cannot be started"), "{reason}");
    let reason = not_made("command = 'no-such-command-anywhere'", "x").await;
    assert!(reason.contains("status 127"), "{reason}");
    let reason = not_made("command = 'exit 75'", "x").await;
    assert!(reason.contains("could not be checked"), "{reason}");
    let reason = not_made("command = ['sleep', '600']\ntimeout = '100ms'", "x").await;
    assert!(reason.contains("took longer than 100ms"), "{reason}");
}

#[tokio::test]
async fn a_command_for_a_value_that_nobody_waits_for_any_more_is_killed() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("pid");
    let settings = format!("command = 'echo $$ > {}; exec sleep 600'", path.display());
    let judge = judge(&settings);
    let judging = tokio::spawn(async move { judged(&*judge, "x", None).await });
    let process = Path::new("/proc").join(comes_to_be(&path).await);
    judging.abort();
    // Nobody may have taken its status yet.
    let is_gone =
        || fs::read_to_string(process.join("stat")).map_or(true, |stat| stat.contains(") Z "));
    let gone = async {
        while !is_gone() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, gone).await.unwrap();
}
