//! Files that are rendered from values.

use crate::site::{Given, Place, until, work};
use reloader_delivery::{SinkState, Template, TemplateSettings, WorkerSettings};
use reloader_engine::types::Snapshot;
use std::fs;

fn json(text: &'static str) -> Option<Snapshot> {
    Some(Snapshot { media_type: Some("application/json".into()), ..Snapshot::new(text) })
}

#[tokio::test]
async fn a_file_is_rendered_from_several_sources() {
    let place = Place::new();
    let (app, hosts) = (Given::new("app"), Given::new("hosts"));
    let text = "port {{ app.port }}\n{% for host in hosts %}\nserver {{ host }}\n{% endfor %}\n";
    let template = Template::new(&TemplateSettings::new(text, place.file("out"))).unwrap();
    let mut working = work(&[&app, &hosts], template, WorkerSettings::default());
    app.publish(json(r#"{"port": 80}"#));
    hosts.publish(json(r#"["a", "b"]"#));
    working.has(1).await;
    assert_eq!(place.read("out"), "port 80\nserver a\nserver b\n");
    hosts.publish(json("[]"));
    until(|| (place.read("out") == "port 80\n").then_some(())).await;
}

#[tokio::test]
async fn a_value_that_does_not_fit_the_template_leaves_the_file_as_it_was() {
    let place = Place::new();
    let app = Given::new("app");
    app.publish(json(r#"{"port": 80}"#));
    let settings = TemplateSettings::new("{{ value.port }}", place.file("out"));
    let mut working = work(&[&app], Template::new(&settings).unwrap(), WorkerSettings::default());
    working.has(1).await;
    app.publish(json("{}"));
    let status = working.when(|status| status.state == SinkState::GivenUp).await;
    let expected = "`template`, line 1: undefined value: `value.port` is undefined";
    assert_eq!(status.failing.as_deref(), Some(expected));
    assert_eq!(place.read("out"), "80");
    app.publish(json(r#"{"port": 80}"#));
    working.has(3).await;
}

#[tokio::test]
async fn a_template_in_a_file_is_read_again_and_named_when_it_is_wrong() {
    let place = Place::new();
    let path = place.file("app.tmpl");
    fs::write(&path, "one {{ value }}").unwrap();
    let app = Given::with("app", "1");
    let settings = TemplateSettings::from_file(&path, place.file("out"));
    let mut working = work(&[&app], Template::new(&settings).unwrap(), WorkerSettings::default());
    working.has(1).await;
    assert_eq!(place.read("out"), "one 1");
    fs::write(&path, "a\n{% endif %}").unwrap();
    app.set("2");
    let failure = working.failure().await;
    assert!(
        failure.starts_with(&format!("`{}`, line 2: syntax error", path.display())),
        "{failure}"
    );
    fs::write(&path, "x".repeat((4 << 20) + 1)).unwrap();
    let status = working
        .when(|status| status.failing.as_ref().is_some_and(|why| why.contains("longer")))
        .await;
    assert!(status.failing.unwrap().ends_with("is longer than 4 MiB"));
    fs::write(&path, "two {{ value }}").unwrap();
    working.has(2).await;
    assert_eq!(place.read("out"), "two 2");
}
