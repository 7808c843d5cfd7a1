//! Tests of the sinks `exec` and `signal`, with real processes.

use crate::harness::{TestDir, TestSource, reset_hangup_disposition, spawn_worker, wait_until};
use reloader_delivery::{
    Exec, ExecInput, ExecSettings, OnRemoved, SignalSettings, SignalSink, SinkState,
    WorkerSettings, process::CommandLine,
};
use reloader_engine::types::Snapshot;
use std::{
    fs,
    process::{Child, Command},
    time::Duration,
};

const TIMEOUT: Duration = Duration::from_secs(20);

fn shell(dir: &TestDir, text: &str, input: ExecInput) -> Exec {
    let mut settings = ExecSettings::new(CommandLine::shell(text));
    settings.input = input;
    settings.directory = Some(dir.path().into());
    Exec::new("test", settings, TIMEOUT)
}

#[tokio::test]
async fn command_receives_value_and_environment() {
    let dir = TestDir::new();
    let app = TestSource::new("app");
    app.publish(Some(Snapshot { media_type: Some("text/plain".into()), ..Snapshot::new("value") }));
    let text = r#"cat > seen
        echo "$RELOADER_SOURCE $RELOADER_REVISION $RELOADER_EVENT $RELOADER_MEDIA_TYPE" > env"#;
    let settings = WorkerSettings { on_removed: OnRemoved::Clear, ..WorkerSettings::default() };
    let mut worker = spawn_worker(&[&app], shell(&dir, text, ExecInput::Stdin), settings);
    worker.delivered(1).await;
    assert_eq!(dir.read("seen"), "value");
    assert_eq!(dir.read("env"), "app 1 changed text/plain\n");
    app.remove();
    worker.delivered(2).await;
    assert_eq!(dir.read("seen"), "");
    assert_eq!(dir.read("env"), "app 2 removed \n");
}

#[tokio::test]
async fn command_receives_value_as_file() {
    let dir = TestDir::new();
    let app = TestSource::with("app", "value");
    let text = r#"cat "$RELOADER_FILE" > seen; cat >> seen"#;
    let settings = WorkerSettings { on_removed: OnRemoved::Clear, ..WorkerSettings::default() };
    let mut worker = spawn_worker(&[&app], shell(&dir, text, ExecInput::File), settings);
    worker.delivered(1).await;
    assert_eq!(dir.read("seen"), "value");
    app.remove();
    worker.delivered(2).await;
    assert_eq!(dir.read("seen"), "");
}

/// Prevents consul-template#1006: a command ran once per file. Here, one run receives the values of all sources.
#[tokio::test]
async fn command_receives_all_sources() {
    let dir = TestDir::new();
    let (a, b) = (TestSource::with("a", "1"), TestSource::with("b", "2"));
    let text = r#"echo run >> runs; echo "$RELOADER_SOURCE" > names
        for name in $RELOADER_SOURCE; do cat "$RELOADER_DIRECTORY/$name"; done > seen"#;
    let mut worker =
        spawn_worker(&[&a, &b], shell(&dir, text, ExecInput::File), WorkerSettings::default());
    worker.delivered(1).await;
    assert_eq!((dir.read("seen"), dir.read("names")), ("12".into(), "a\nb\n".into()));
    a.set("3");
    b.set("4");
    worker.delivered(2).await;
    assert_eq!((dir.read("seen"), dir.read("runs")), ("34".into(), "run\nrun\n".into()));

    let mut worker = spawn_worker(
        &[&a, &b],
        shell(&dir, "cat > json", ExecInput::Stdin),
        WorkerSettings::default(),
    );
    worker.delivered(2).await;
    let json: serde_json::Value = serde_json::from_str(&dir.read("json")).unwrap();
    assert_eq!(json["sources"][1]["content"], "4");
    assert_eq!(json["sources"][1]["source"], "b");
}

/// Prevents consul-template#2030: a failed command was not retried. The reported failure contains its output.
#[tokio::test]
async fn failed_command_is_retried_up_to_the_limit() {
    let dir = TestDir::new();
    let app = TestSource::with("app", "bad");
    let text = r#"echo run >> runs; read value || :
        test "$value" = good || { echo "no such thing as $value" >&2; exit 3; }"#;
    let settings = WorkerSettings { retries: 2, ..WorkerSettings::default() };
    let mut worker = spawn_worker(&[&app], shell(&dir, text, ExecInput::Stdin), settings);
    let status = worker.when(|status| status.state == SinkState::GivenUp).await;
    assert_eq!(status.attempts, 3);
    let expected = "`echo` failed with status 3: no such thing as bad";
    assert_eq!(status.failing.as_deref(), Some(expected));
    assert_eq!(dir.read("runs"), "run\nrun\nrun\n");
    app.set("good");
    assert_eq!(worker.delivered(2).await.failing, None);
}

/// Prevents vault#26283: a hanging command blocked other sinks.
#[tokio::test]
async fn hanging_command_blocks_no_other_sink() {
    let dir = TestDir::new();
    let app = TestSource::with("app", "1");
    let hangs = ExecSettings::new(CommandLine::program(["sleep", "1000"]));
    let hangs = Exec::new("hangs", hangs, Duration::from_millis(300));
    let settings = WorkerSettings { retries: 0, ..WorkerSettings::default() };
    let mut hanging = spawn_worker(&[&app], hangs, settings);
    let mut good = spawn_worker(
        &[&app],
        shell(&dir, "cat > seen", ExecInput::Stdin),
        WorkerSettings::default(),
    );
    good.delivered(1).await;
    let failure = hanging.failure().await;
    assert_eq!(failure, "`sleep` timed out after 300ms (`timeout`)");
    app.set("2");
    good.delivered(2).await;
}

#[tokio::test]
async fn missing_program_is_not_retried() {
    let app = TestSource::with("app", "1");
    let missing = ExecSettings::new(CommandLine::program(["/no/such"]));
    let mut worker =
        spawn_worker(&[&app], Exec::new("test", missing, TIMEOUT), WorkerSettings::default());
    let status = worker.when(|status| status.state == SinkState::GivenUp).await;
    assert_eq!(status.attempts, 1);
    assert!(status.failing.unwrap().starts_with("`/no/such` cannot be started"));
}

/// Program with a PID file. Dropping it kills the program.
struct Daemon(Child);

impl Daemon {
    async fn start(dir: &TestDir) -> Self {
        reset_hangup_disposition();
        let text = "trap 'echo notified >> log' HUP; echo $$ > pid; while :; do sleep 0.01; done";
        let child =
            Command::new("/bin/sh").args(["-c", text]).current_dir(dir.path()).spawn().unwrap();
        wait_until(|| dir.read("pid").ends_with('\n').then_some(())).await;
        Self(child)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn each_change_signals_the_process() {
    let dir = TestDir::new();
    let daemon = Daemon::start(&dir).await;
    let app = TestSource::with("app", "1");
    let mut settings = SignalSettings::new(dir.file("pid"));
    settings.process_name = Some("sh".into());
    let mut worker = spawn_worker(&[&app], SignalSink::new(settings), WorkerSettings::default());
    worker.delivered(1).await;
    wait_until(|| (dir.read("log") == "notified\n").then_some(())).await;
    app.set("2");
    wait_until(|| (dir.read("log") == "notified\nnotified\n").then_some(())).await;
    drop(daemon);
    app.set("3");
    assert!(worker.failure().await.ends_with("is not running"));
}

#[tokio::test]
async fn process_with_other_name_is_not_signalled() {
    let dir = TestDir::new();
    let _daemon = Daemon::start(&dir).await;
    let app = TestSource::with("app", "1");
    let mut settings = SignalSettings::new(dir.file("pid"));
    settings.process_name = Some("nginx".into());
    let mut worker = spawn_worker(&[&app], SignalSink::new(settings), WorkerSettings::default());
    let failure = worker.failure().await;
    assert!(failure.ends_with("is `sh`, not `nginx`"), "{failure}");
    assert_eq!(dir.read("log"), "");
}

#[tokio::test]
async fn invalid_pid_file_is_rejected() {
    let dir = TestDir::new();
    for text in ["-1", "0", "1", "many"] {
        fs::write(dir.file("pid"), text).unwrap();
        let app = TestSource::with("app", "1");
        let sink = SignalSink::new(SignalSettings::new(dir.file("pid")));
        let mut worker = spawn_worker(&[&app], sink, WorkerSettings::default());
        let failure = worker.failure().await;
        assert!(failure.ends_with("the first line is not a process ID"), "{failure}");
    }
}
