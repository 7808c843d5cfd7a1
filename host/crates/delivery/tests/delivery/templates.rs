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

/// An included file is read from the directory of the template, and a saved one is rendered again.
#[tokio::test]
async fn saved_include_is_rendered_again() {
    let dir = TestDir::new();
    fs::create_dir(dir.file("parts")).unwrap();
    fs::write(dir.file("app.j2"), "{% include 'parts/a.j2' %}!").unwrap();
    fs::write(dir.file("parts/a.j2"), "one {{ value }}").unwrap();
    let app = TestSource::with("app", "1");
    let settings = TemplateSettings::from_file(dir.file("app.j2"), dir.file("out"));
    let mut worker =
        spawn_worker(&[&app], Template::new(&settings).unwrap(), WorkerSettings::default());
    worker.delivered(1).await;
    assert_eq!(dir.read("out"), "one 1!");
    fs::write(dir.file("parts/a.j2"), "two {{ value }}").unwrap();
    wait_until(|| (dir.read("out") == "two 1!").then_some(())).await;
    fs::remove_file(dir.file("parts/a.j2")).unwrap();
    let failure = worker.failure().await;
    assert!(failure.contains("parts/a.j2"), "{failure}");
    fs::write(dir.file("parts/a.j2"), "three {{ value }}").unwrap();
    wait_until(|| (dir.read("out") == "three 1!").then_some(())).await;
    fs::write(dir.file("app.j2"), "{% include 'none.j2' ignore missing %}-").unwrap();
    wait_until(|| (dir.read("out") == "-").then_some(())).await;
    fs::write(dir.file("none.j2"), "now").unwrap();
    wait_until(|| (dir.read("out") == "now-").then_some(())).await;
}

#[tokio::test]
async fn include_outside_of_template_directory_is_rejected() {
    let dir = TestDir::new();
    fs::create_dir(dir.file("templates")).unwrap();
    fs::write(dir.file("secret"), "hidden").unwrap();
    for path in ["../secret", "/etc/hostname", "./x", ""] {
        fs::write(dir.file("templates/app.j2"), format!("{{% include '{path}' %}}")).unwrap();
        let app = TestSource::with("app", "1");
        let settings = TemplateSettings::from_file(dir.file("templates/app.j2"), dir.file("out"));
        let mut worker =
            spawn_worker(&[&app], Template::new(&settings).unwrap(), WorkerSettings::default());
        let failure = worker.failure().await;
        assert!(failure.contains("below the directory of the template file"), "{failure}");
    }
}

#[tokio::test]
async fn other_delimiters_leave_braces_as_text() {
    let dir = TestDir::new();
    let app = TestSource::new("app");
    app.publish(json(r#"{"p": 80}"#));
    let delimiters = Some(("[[".to_owned(), "]]".to_owned()));
    let text = "{{ $labels.instance }} above [[ app.p ]]{% if app.p %}.{% endif %}";
    let settings = TemplateSettings { delimiters, ..TemplateSettings::new(text, dir.file("out")) };
    let mut worker =
        spawn_worker(&[&app], Template::new(&settings).unwrap(), WorkerSettings::default());
    worker.delivered(1).await;
    assert_eq!(dir.read("out"), "{{ $labels.instance }} above 80.");
    for (start, end) in [("", "]]"), ("{%", "%}")] {
        let delimiters = Some((start.to_owned(), end.to_owned()));
        let settings = TemplateSettings { delimiters, ..TemplateSettings::new("x", "/x") };
        let error = Template::new(&settings).unwrap_err();
        assert!(error.message.starts_with("`delimiters`: "), "{error}");
    }
}

/// Dates and the order of the keys are those of the file.
#[tokio::test]
async fn toml_is_rendered_as_in_its_file() {
    let dir = TestDir::new();
    let app = TestSource::new("app");
    let toml = "d = 2026-01-02\nt = 2026-01-02T03:04:05Z\nz = 1\na = 2\n";
    let media_type = Some("application/toml".into());
    app.publish(Some(Snapshot { media_type, ..Snapshot::new(toml) }));
    let text = "{{ app.t }} {{ app.d }} {% for k in app %}{{ k }} {% endfor %}";
    let settings = TemplateSettings::new(text, dir.file("out"));
    let mut worker =
        spawn_worker(&[&app], Template::new(&settings).unwrap(), WorkerSettings::default());
    worker.delivered(1).await;
    assert_eq!(dir.read("out"), "2026-01-02T03:04:05Z 2026-01-02 d t z a ");
}
