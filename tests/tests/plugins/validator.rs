//! Validator plugins: the example `number-range` and hostile validators.

use e2e::{TestHost, WAIT_TIMEOUT, guest, plugin_cache, text_guest};
use reloader_host::{
    PluginHost, Source, Subscription,
    latest_value::{RejectedValue, SourceState},
    plugin::{Cache, Limits},
    validator::Validator,
};
use serde_json::{Value, json};
use std::{fs, path::PathBuf, sync::Arc, time::Duration};
use tempfile::TempDir;
use tokio::time::timeout;

fn number_range() -> String {
    e2e::number_range().display().to_string()
}

fn runtime() -> PluginHost {
    let cache = Cache::at(plugin_cache());
    let limits = Limits { call_cpu: Duration::from_millis(200), ..Limits::default() };
    PluginHost::builder().cache(cache).limits(limits).build().unwrap()
}

/// File, and a source that watches the file and has a validator.
struct ValidatedFile {
    path: PathBuf,
    reader: Subscription,
    _source: Source,
    _directory: TempDir,
}

impl ValidatedFile {
    async fn start(runtime: &PluginHost, validator: Arc<dyn Validator>, first: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("value.json");
        fs::write(&path, first).unwrap();
        let plugin = runtime.load("file").await.unwrap();
        let source =
            plugin.source("app").set("path", path.display().to_string()).validate(validator);
        let source = source.start().unwrap();
        Self { path, reader: source.subscribe(), _source: source, _directory: directory }
    }

    fn write(&self, content: &str) {
        let new = self.path.with_extension("new");
        fs::write(&new, content).unwrap();
        fs::rename(new, &self.path).unwrap();
    }

    async fn wait_for_state(&mut self, is_so: impl Fn(&SourceState) -> bool) -> SourceState {
        let comes = async {
            loop {
                let state = self.reader.state();
                if is_so(&state) {
                    return state;
                }
                self.reader.changed().await.unwrap();
            }
        };
        timeout(WAIT_TIMEOUT, comes).await.unwrap()
    }

    async fn wait_for_accepted(&mut self, content: &str) {
        let is_there = |state: &SourceState| {
            state.value.as_ref().is_some_and(|value| value.content == content.as_bytes())
        };
        let state = self.wait_for_state(is_there).await;
        assert_eq!(state.rejected, None);
    }

    async fn wait_for_rejected(&mut self, content: &str) -> RejectedValue {
        let is_rejected = |state: &SourceState| {
            let rejected = state.rejected.as_ref();
            rejected.is_some_and(|rejected| rejected.value.content == content.as_bytes())
        };
        self.wait_for_state(is_rejected).await.rejected.unwrap()
    }
}

#[tokio::test]
async fn validator_compares_with_last_value() {
    let runtime = runtime();
    let plugin = runtime.load(&number_range()).await.unwrap();
    let rules = json!([{ "at": "/size", "min": 1, "max": 100, "max_change": 50 }]);
    let validator = plugin.validator("app").set("rules", rules).build().unwrap();
    let mut file = ValidatedFile::start(&runtime, validator, r#"{"size": 10}"#).await;
    file.wait_for_accepted(r#"{"size": 10}"#).await;
    file.write(r#"{"size": 16}"#);
    let refused = file.wait_for_rejected(r#"{"size": 16}"#).await;
    assert_eq!(
        &*refused.reason,
        "rejected by `number-range`: `/size` changes from 10 to 16; the maximum change is 5"
    );
    assert_eq!(refused.retry_at, None, "a rejection is permanent");
    file.write(r#"{"size": 12}"#);
    file.wait_for_accepted(r#"{"size": 12}"#).await;
    file.write(r#"{"size": 16}"#);
    file.wait_for_accepted(r#"{"size": 16}"#).await;
}

#[tokio::main(flavor = "current_thread")]
async fn assert_crash_is_retried(guest: &str, expected: &str) {
    let runtime = runtime();
    let plugin = runtime.load(&text_guest(guest).display().to_string()).await.unwrap();
    let validator = plugin.validator("app").build().unwrap();
    let mut file = ValidatedFile::start(&runtime, validator, "{}").await;
    let first = file.wait_for_rejected("{}").await;
    assert!(first.reason.contains(expected), "{expected} is not in {}", first.reason);
    assert!(first.reason.contains(&format!("validator `{guest}` failed")));
    assert!(first.retry_at.is_some());
    let again = file.wait_for_state(|state| {
        state.rejected.as_ref().is_some_and(|rejected| rejected.at > first.at)
    });
    assert_eq!(again.await.value, None);
}

e2e::cases! {
    mod crashed_validator_rejects_and_is_retried: assert_crash_is_retried {
        trap("validator-trap", "the plugin aborted (in `validate`)");
        infinite_loop(
            "validator-infinite-loop",
            "the plugin used too much CPU time in one call: limit `call-cpu` is 200ms",
        );
    }
}

#[tokio::test]
async fn rejection_reason_is_escaped() {
    let runtime = runtime();
    let plugin = runtime
        .load(&text_guest("validator-control-characters").display().to_string())
        .await
        .unwrap();
    let validator = plugin.validator("app").build().unwrap();
    let refused =
        ValidatedFile::start(&runtime, validator, "{}").await.wait_for_rejected("{}").await;
    let expected = "rejected by `validator-control-characters`: a\\nb\\u{1b}[2Jc\\u{202e}defg";
    assert_eq!(&*refused.reason, expected);
}

#[tokio::test]
async fn source_plugin_is_no_validator() {
    let runtime = runtime();
    let source = runtime.load(&guest("attacker").display().to_string()).await.unwrap();
    let error = source.validator("app").build().err().unwrap().to_string();
    assert!(error.contains("`attacker` is a source, not a validator"), "{error}");
    let validator = runtime.load(&number_range()).await.unwrap();
    let error = validator.validator("app").set("rules", 7).build().err().unwrap().to_string();
    assert!(error.contains("rules"), "{error}");
}

#[tokio::test]
async fn invalid_validator_settings_reject_values() {
    let runtime = runtime();
    let plugin = runtime.load(&number_range()).await.unwrap();
    let validator =
        plugin.validator("app").set("rules", json!([{ "at": "size" }])).build().unwrap();
    let refused =
        ValidatedFile::start(&runtime, validator, "{}").await.wait_for_rejected("{}").await;
    assert!(refused.reason.contains("`size` is not a JSON Pointer"), "{}", refused.reason);
}

#[test]
fn validator_plugin_is_no_source() {
    let t = TestHost::new();
    let plugin = number_range();
    let shown = t.finish(&["inspect", "--json", &plugin]).text();
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["world"], json!("validator"));
    assert_eq!(shown["name"], json!("number-range"));
    assert!(shown["settings"]["properties"]["rules"].is_object());
    let imports = shown["imports"].as_array().unwrap().iter().filter_map(Value::as_str);
    let outside = ["files@", "endpoint@", "wasi:http", "wasi:sockets"];
    for import in imports {
        assert!(!outside.iter().any(|word| import.contains(word)), "{import}");
    }
    let run = t.finish(&["run", "--once", "--plugin", &plugin, "--set", "rules=[]"]);
    let (status, error) = run.status_and_error();
    assert_eq!(status, Some(2));
    assert!(error.contains("`number-range` is a validator, not a source"), "{error}");
}
