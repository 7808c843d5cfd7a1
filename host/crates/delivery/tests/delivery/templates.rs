//! Tests of the sink `template`, with real files.

use crate::harness::{TestDir, TestSource, spawn_worker, wait_until};
use reloader_delivery::{SinkState, Template, TemplateSettings, WorkerSettings};
use reloader_engine::types::Snapshot;
use std::fs;

fn json(text: &'static str) -> Option<Snapshot> {
    Some(Snapshot { media_type: Some("application/json".into()), ..Snapshot::new(text) })
}

#[tokio::test]
async fn template_renders_several_sources() {
    let dir = TestDir::new();
    let (app, hosts) = (TestSource::new("app"), TestSource::new("hosts"));
    let text = "port {{ app.port }}\n{% for host in hosts %}\nserver {{ host }}\n{% endfor %}\n";
    let template = Template::new(&TemplateSettings::new(text, dir.file("out"))).unwrap();
    let mut worker = spawn_worker(&[&app, &hosts], template, WorkerSettings::default());
    app.publish(json(r#"{"port": 80}"#));
    hosts.publish(json(r#"["a", "b"]"#));
    worker.delivered(1).await;
    assert_eq!(dir.read("out"), "port 80\nserver a\nserver b\n");
    hosts.publish(json("[]"));
    wait_until(|| (dir.read("out") == "port 80\n").then_some(())).await;
}

#[tokio::test]
async fn failed_rendering_keeps_the_file() {
    let dir = TestDir::new();
    let app = TestSource::new("app");
    app.publish(json(r#"{"port": 80}"#));
    let settings = TemplateSettings::new("{{ value.port }}", dir.file("out"));
    let mut worker =
        spawn_worker(&[&app], Template::new(&settings).unwrap(), WorkerSettings::default());
    worker.delivered(1).await;
    app.publish(json("{}"));
    let status = worker.when(|status| status.state == SinkState::GivenUp).await;
    let expected = "`template`, line 1: undefined value: `value.port` is undefined; hint: guard ";
    let reason = status.failing.unwrap_or_default();
    assert!(reason.starts_with(expected), "{reason}");
    assert_eq!(dir.read("out"), "80");
    app.publish(json(r#"{"port": 80}"#));
    worker.delivered(3).await;
}

#[tokio::test]
async fn template_file_is_read_for_each_delivery() {
    let dir = TestDir::new();
    let path = dir.file("app.tmpl");
    fs::write(&path, "one {{ value }}").unwrap();
    let app = TestSource::with("app", "1");
    let settings = TemplateSettings::from_file(&path, dir.file("out"));
    let mut worker =
        spawn_worker(&[&app], Template::new(&settings).unwrap(), WorkerSettings::default());
    worker.delivered(1).await;
    assert_eq!(dir.read("out"), "one 1");
    fs::write(&path, "a\n{% endif %}").unwrap();
    app.set("2");
    let failure = worker.failure().await;
    assert!(
        failure.starts_with(&format!("`{}`, line 2: syntax error", path.display())),
        "{failure}"
    );
    fs::write(&path, "x".repeat((4 << 20) + 1)).unwrap();
    let status = worker
        .when(|status| status.failing.as_ref().is_some_and(|reason| reason.contains("larger")))
        .await;
    assert!(status.failing.unwrap().ends_with("is larger than 4 MiB"));
    fs::write(&path, "two {{ value }}").unwrap();
    worker.delivered(2).await;
    assert_eq!(dir.read("out"), "two 2");
}
