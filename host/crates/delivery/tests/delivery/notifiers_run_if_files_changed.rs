//! Notifiers beside sinks that write files: they run if and only if the content of a file has changed since they last
//! succeeded.

use crate::harness::{
    Answer, MemoryLog, RunningWorker, SinkScript, TestDir, TestSource, scripted_sink,
    spawn_notifier, spawn_worker,
};
use reloader_delivery::{Parse, SinkError, Template, TemplateSettings, WorkerSettings};
use std::{fs, time::Duration};

/// Time in which an unexpected run would have been seen.
const IDLE_TIME: Duration = Duration::from_millis(300);

/// Source whose value is rendered to the file `app` by the template file `app.j2`, and a notifier with a delivery
/// record.
struct Rendered {
    dir: TestDir,
    source: TestSource,
    records: MemoryLog,
}

/// Running sinks of [`Rendered`]: a template file, and a notifier that runs after it.
struct Sinks {
    file: RunningWorker,
    notifier: RunningWorker,
    script: SinkScript,
}

impl Rendered {
    /// The template uses the key `a` of the value only.
    fn new(value: &str) -> Self {
        let dir = TestDir::new();
        fs::write(dir.file("app.j2"), "a = {{ value.a }}").unwrap();
        Self { dir, source: TestSource::with("app", value), records: MemoryLog::default() }
    }

    /// Starts both sinks, as a start of the host does.
    fn start(&self) -> Sinks {
        let settings = TemplateSettings {
            template: None,
            parse: Parse::Json,
            template_file: Some(self.dir.file("app.j2")),
            ..TemplateSettings::new("", self.dir.file("app"))
        };
        let sink = Template::new(&settings).unwrap();
        // A retry would hide that a saved template is not noticed.
        let retry_later = Some(Duration::from_secs(3600));
        let settings = WorkerSettings { retries: 0, retry_later, ..WorkerSettings::default() };
        let file = spawn_worker(&[&self.source], sink, settings);
        let (sink, script) = scripted_sink();
        let notifier = spawn_notifier(&self.source, sink, &file, self.records.clone());
        Sinks { file, notifier, script }
    }
}

#[tokio::test]
async fn value_that_leaves_the_file_unchanged_runs_no_notifier() {
    let app = Rendered::new("{\"a\": 1, \"b\": 1}");
    let mut sinks = app.start();
    sinks.script.next().await;
    app.source.set("{\"a\": 1, \"b\": 2}");
    sinks.notifier.delivered(2).await;
    sinks.script.assert_idle(IDLE_TIME).await;
    app.source.set("{\"a\": 2, \"b\": 2}");
    assert_eq!(sinks.script.next().await, "{\"a\": 2, \"b\": 2}");
}

#[tokio::test]
async fn saved_template_is_rendered_and_notifier_runs() {
    let app = Rendered::new("{\"a\": 1}");
    let mut sinks = app.start();
    sinks.script.next().await;
    for text in ["A = {{ value.a }}", "AA = {{ value.a }}"] {
        fs::write(app.dir.file("new"), text).unwrap();
        fs::rename(app.dir.file("new"), app.dir.file("app.j2")).unwrap();
        sinks.script.next().await;
        assert_eq!(app.dir.read("app"), text.replace("{{ value.a }}", "1"));
    }
    // A changed template that renders the same content does not trigger the notifier.
    fs::write(app.dir.file("app.j2"), "AA = {{ value.a }}{# new #}").unwrap();
    sinks.file.when(|status| status.succeeded >= 4).await;
    sinks.script.assert_idle(IDLE_TIME).await;
}

/// A template with an error keeps the file, and the next one is rendered without a new value.
#[tokio::test]
async fn corrected_template_is_rendered() {
    let app = Rendered::new("{\"a\": 1}");
    let mut sinks = app.start();
    sinks.script.next().await;
    fs::write(app.dir.file("app.j2"), "{{ value.").unwrap();
    assert!(sinks.file.failure().await.contains("app.j2"));
    assert_eq!(app.dir.read("app"), "a = 1");
    fs::write(app.dir.file("app.j2"), "b = {{ value.a }}").unwrap();
    sinks.script.next().await;
    assert_eq!(app.dir.read("app"), "b = 1");
}

#[tokio::test]
async fn restart_with_the_same_file_runs_no_notifier() {
    let app = Rendered::new("{\"a\": 1}");
    let mut sinks = app.start();
    sinks.script.next().await;
    sinks.notifier.delivered(1).await;
    drop(sinks);
    app.source.set("{\"a\": 1, \"b\": 2}");
    let mut sinks = app.start();
    sinks.notifier.delivered(2).await;
    sinks.script.assert_idle(IDLE_TIME).await;
}

/// The template was edited while the host was stopped.
#[tokio::test]
async fn restart_with_another_template_runs_notifier() {
    let app = Rendered::new("{\"a\": 1}");
    let mut sinks = app.start();
    sinks.script.next().await;
    sinks.notifier.delivered(1).await;
    drop(sinks);
    fs::write(app.dir.file("app.j2"), "A = {{ value.a }}").unwrap();
    app.start().script.next().await;
    assert_eq!(app.dir.read("app"), "A = 1");
}

/// The host was killed after the file was written and before the notifier ran.
#[tokio::test]
async fn restart_after_a_missed_run_runs_notifier() {
    let app = Rendered::new("{\"a\": 1}");
    let mut sinks = app.start();
    sinks.script.next().await;
    sinks.notifier.delivered(1).await;
    sinks.notifier.task.abort();
    app.source.set("{\"a\": 2}");
    sinks.file.delivered(2).await;
    drop(sinks);
    assert_eq!(app.dir.read("app"), "a = 2");
    assert_eq!(app.start().script.next().await, "{\"a\": 2}");
}

/// Another program has changed the file while the host was stopped.
#[tokio::test]
async fn file_repaired_at_the_start_runs_notifier() {
    let app = Rendered::new("{\"a\": 1}");
    let mut sinks = app.start();
    sinks.script.next().await;
    sinks.notifier.delivered(1).await;
    drop(sinks);
    fs::write(app.dir.file("app"), "damaged").unwrap();
    app.start().script.next().await;
    assert_eq!(app.dir.read("app"), "a = 1");
}

/// A failed run is made up for by the next value, even if it leaves the file unchanged.
#[tokio::test]
async fn failed_run_is_repeated_for_the_next_value() {
    let app = Rendered::new("{\"a\": 1}");
    let mut sinks = app.start();
    sinks.script.answer(Answer::Fail(SinkError::permanent("no")));
    sinks.script.next().await;
    sinks.notifier.failure().await;
    sinks.script.answer(Answer::Deliver);
    app.source.set("{\"a\": 1, \"b\": 2}");
    assert_eq!(sinks.script.next().await, "{\"a\": 1, \"b\": 2}");
}
