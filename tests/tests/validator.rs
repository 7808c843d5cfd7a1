//! Components that judge values: the one that is an example, and hostile ones.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use e2e::{PATIENCE, TestHost, guest, program, text_guest};
use reloader_host::{
    PluginHost, Source, Subscription,
    judge::Validator,
    plugin::{Cache, Limits},
    store::{Refused, State},
};
use serde_json::{Value, json};
use std::{fs, path::PathBuf, sync::Arc, time::Duration};
use tempfile::TempDir;
use tokio::time::timeout;

fn limits_check() -> String {
    e2e::limits_check().display().to_string()
}

fn runtime() -> PluginHost {
    let cache = Cache::at(program().with_file_name("e2e-cache").join("reloader-host"));
    let limits = Limits { call_cpu: Duration::from_millis(200), ..Limits::default() };
    PluginHost::builder().cache(cache).limits(limits).build().unwrap()
}

/// A file, and the source that follows it.
struct Judged {
    path: PathBuf,
    reader: Subscription,
    _source: Source,
    _directory: TempDir,
}

impl Judged {
    async fn start(runtime: &PluginHost, judge: Arc<dyn Validator>, first: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("value.json");
        fs::write(&path, first).unwrap();
        let plugin = runtime.load("file").await.unwrap();
        let source = plugin.source("app").set("path", path.display().to_string()).validate(judge);
        let source = source.start().unwrap();
        Self { path, reader: source.subscribe(), _source: source, _directory: directory }
    }

    fn is_now(&self, content: &str) {
        let new = self.path.with_extension("new");
        fs::write(&new, content).unwrap();
        fs::rename(new, &self.path).unwrap();
    }

    async fn comes_to(&mut self, is_so: impl Fn(&State) -> bool) -> State {
        let comes = async {
            loop {
                let state = self.reader.state();
                if is_so(&state) {
                    return state;
                }
                self.reader.changed().await.unwrap();
            }
        };
        timeout(PATIENCE, comes).await.unwrap()
    }

    async fn accepts(&mut self, content: &str) {
        let is_there = |state: &State| {
            state.value.as_ref().is_some_and(|value| value.content == content.as_bytes())
        };
        let state = self.comes_to(is_there).await;
        assert_eq!(state.refused, None);
    }

    async fn refuses(&mut self, content: &str) -> Refused {
        let is_refused = |state: &State| {
            let refused = state.refused.as_ref();
            refused.is_some_and(|refused| refused.value.content == content.as_bytes())
        };
        self.comes_to(is_refused).await.refused.unwrap()
    }
}

#[tokio::test]
async fn a_validator_judges_each_value_beside_the_last_good_one() {
    let runtime = runtime();
    let plugin = runtime.load(&limits_check()).await.unwrap();
    let rules = json!([{ "at": "/size", "min": 1, "max": 100, "max_change": 50 }]);
    let judge = plugin.validator("app").set("rules", rules).build().unwrap();
    let mut judged = Judged::start(&runtime, judge, r#"{"size": 10}"#).await;
    judged.accepts(r#"{"size": 10}"#).await;
    judged.is_now(r#"{"size": 16}"#);
    let refused = judged.refuses(r#"{"size": 16}"#).await;
    assert_eq!(
        &*refused.reason,
        "`limits-check` refuses the value: `/size` changes from 10 to 16; the maximum change is 5"
    );
    assert_eq!(refused.retry_at, None, "the value is bad, and only another one is tried");
    judged.is_now(r#"{"size": 12}"#);
    judged.accepts(r#"{"size": 12}"#).await;
    judged.is_now(r#"{"size": 16}"#);
    judged.accepts(r#"{"size": 16}"#).await;
}

#[tokio::test]
async fn a_validator_that_crashes_lets_nothing_through_and_is_asked_again() {
    let runtime = runtime();
    for (guest, expected) in [
        ("judge-trap", "the plugin ended itself (in `validate`)"),
        ("judge-spin", "the plugin computed for too long in one call: limit `call-cpu` is 200ms"),
    ] {
        let plugin = runtime.load(&text_guest(guest).display().to_string()).await.unwrap();
        let judge = plugin.validator("app").build().unwrap();
        let mut judged = Judged::start(&runtime, judge, "{}").await;
        let first = judged.refuses("{}").await;
        assert!(first.reason.contains(expected), "{expected} is not in {}", first.reason);
        assert!(first.reason.contains(&format!("`{guest}` could not judge the value")));
        assert!(first.retry_at.is_some());
        let again = judged
            .comes_to(|state| state.refused.as_ref().is_some_and(|refused| refused.at > first.at));
        assert_eq!(again.await.value, None, "{guest}");
    }
}

#[tokio::test]
async fn what_a_validator_says_is_made_fit_for_a_log() {
    let runtime = runtime();
    let plugin = runtime.load(&text_guest("judge-loud").display().to_string()).await.unwrap();
    let judge = plugin.validator("app").build().unwrap();
    let refused = Judged::start(&runtime, judge, "{}").await.refuses("{}").await;
    let expected = "`judge-loud` refuses the value: a\\nb\\u{1b}[2Jc\\u{202e}defg";
    assert_eq!(&*refused.reason, expected);
}

#[tokio::test]
async fn a_source_is_no_validator_and_settings_are_checked() {
    let runtime = runtime();
    let source = runtime.load(&guest("restless").display().to_string()).await.unwrap();
    let error = source.validator("app").build().err().unwrap().to_string();
    assert!(error.contains("`restless` is a source, not a validator"), "{error}");
    let validator = runtime.load(&limits_check()).await.unwrap();
    let error = validator.validator("app").set("rules", 7).build().err().unwrap().to_string();
    assert!(error.contains("rules"), "{error}");
}

#[tokio::test]
async fn settings_that_a_validator_refuses_let_nothing_through() {
    let runtime = runtime();
    let plugin = runtime.load(&limits_check()).await.unwrap();
    let judge = plugin.validator("app").set("rules", json!([{ "at": "size" }])).build().unwrap();
    let refused = Judged::start(&runtime, judge, "{}").await.refuses("{}").await;
    assert!(refused.reason.contains("`size` is not a JSON Pointer"), "{}", refused.reason);
}

#[test]
fn a_validator_is_inspected_and_is_no_source() {
    let t = TestHost::new();
    let plugin = limits_check();
    let shown = t.finish(&["inspect", "--json", &plugin]).text();
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["world"], json!("validator"));
    assert_eq!(shown["name"], json!("limits-check"));
    assert!(shown["settings"]["properties"]["rules"].is_object());
    let imports = shown["imports"].as_array().unwrap().iter().filter_map(Value::as_str);
    let outside = ["files@", "endpoint@", "wasi:http", "wasi:sockets"];
    for import in imports {
        assert!(!outside.iter().any(|word| import.contains(word)), "{import}");
    }
    let run = t.finish(&["run", "--once", "--plugin", &plugin, "--set", "rules=[]"]);
    let (status, complaint) = run.complaint();
    assert_eq!(status, Some(2));
    assert!(complaint.contains("`limits-check` is a validator: it judges values"), "{complaint}");
}
