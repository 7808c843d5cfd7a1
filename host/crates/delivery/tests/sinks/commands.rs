//! Commands and signals for a value.

use crate::site::{Given, Place, until, work};
use reloader_delivery::{
    Exec, ExecInput, ExecSettings, OnRemoved, SignalSettings, SignalTo, SinkState, WorkerSettings,
    process::CommandLine,
};
use reloader_engine::types::Snapshot;
use std::{
    fs,
    process::{Child, Command},
    time::Duration,
};

const LIMIT: Duration = Duration::from_secs(20);

fn shell(place: &Place, text: &str, input: ExecInput) -> Exec {
    let mut settings = ExecSettings::new(CommandLine::shell(text));
    settings.input = input;
    settings.directory = Some(place.path().into());
    Exec::new("test", settings, LIMIT)
}

#[tokio::test]
async fn a_command_is_told_what_has_changed() {
    let place = Place::new();
    let app = Given::new("app");
    app.publish(Some(Snapshot { media_type: Some("text/plain".into()), ..Snapshot::new("value") }));
    let text = r#"cat > seen
        echo "$RELOADER_SOURCE $RELOADER_REVISION $RELOADER_EVENT $RELOADER_MEDIA_TYPE" > env"#;
    let settings = WorkerSettings { on_removed: OnRemoved::Clear, ..WorkerSettings::default() };
    let mut working = work(&[&app], shell(&place, text, ExecInput::Stdin), settings);
    working.has(1).await;
    assert_eq!(place.read("seen"), "value");
    assert_eq!(place.read("env"), "app 1 changed text/plain\n");
    app.remove();
    working.has(2).await;
    assert_eq!(place.read("seen"), "");
    assert_eq!(place.read("env"), "app 2 removed \n");
}

#[tokio::test]
async fn a_command_may_want_a_file() {
    let place = Place::new();
    let app = Given::with("app", "value");
    let text = r#"cat "$RELOADER_FILE" > seen; cat >> seen"#;
    let settings = WorkerSettings { on_removed: OnRemoved::Clear, ..WorkerSettings::default() };
    let mut working = work(&[&app], shell(&place, text, ExecInput::File), settings);
    working.has(1).await;
    assert_eq!(place.read("seen"), "value");
    app.remove();
    working.has(2).await;
    assert_eq!(place.read("seen"), "");
}

/// consul-template#1006: one command for several sources, with all of them.
#[tokio::test]
async fn a_command_of_several_sources_gets_all_of_them() {
    let place = Place::new();
    let (a, b) = (Given::with("a", "1"), Given::with("b", "2"));
    let text = r#"echo run >> runs; echo "$RELOADER_SOURCE" > names
        for name in $RELOADER_SOURCE; do cat "$RELOADER_DIRECTORY/$name"; done > seen"#;
    let mut working =
        work(&[&a, &b], shell(&place, text, ExecInput::File), WorkerSettings::default());
    working.has(1).await;
    assert_eq!((place.read("seen"), place.read("names")), ("12".into(), "a\nb\n".into()));
    a.set("3");
    b.set("4");
    working.has(2).await;
    assert_eq!((place.read("seen"), place.read("runs")), ("34".into(), "run\nrun\n".into()));

    let mut working =
        work(&[&a, &b], shell(&place, "cat > json", ExecInput::Stdin), WorkerSettings::default());
    working.has(2).await;
    let json: serde_json::Value = serde_json::from_str(&place.read("json")).unwrap();
    assert_eq!(json["sources"][1]["content"], "4");
    assert_eq!(json["sources"][1]["source"], "b");
}

/// consul-template#2030: a command that fails is run again, and what it says is said.
#[tokio::test]
async fn a_command_that_fails_is_run_again_and_not_for_ever() {
    let place = Place::new();
    let app = Given::with("app", "bad");
    let text = r#"echo run >> runs; read value || :
        test "$value" = good || { echo "no such thing as $value" >&2; exit 3; }"#;
    let settings = WorkerSettings { retries: 2, ..WorkerSettings::default() };
    let mut working = work(&[&app], shell(&place, text, ExecInput::Stdin), settings);
    let status = working.when(|status| status.state == SinkState::GivenUp).await;
    assert_eq!(status.attempts, 3);
    let expected = "`echo` failed with status 3: no such thing as bad";
    assert_eq!(status.failing.as_deref(), Some(expected));
    assert_eq!(place.read("runs"), "run\nrun\nrun\n");
    app.set("good");
    assert_eq!(working.has(2).await.failing, None);
}

/// vault#26283: others go on while one command hangs.
#[tokio::test]
async fn a_command_that_hangs_is_killed_and_holds_up_no_other() {
    let place = Place::new();
    let app = Given::with("app", "1");
    let hangs = ExecSettings::new(CommandLine::program(["sleep", "1000"]));
    let hangs = Exec::new("hangs", hangs, Duration::from_millis(300));
    let settings = WorkerSettings { retries: 0, ..WorkerSettings::default() };
    let mut hanging = work(&[&app], hangs, settings);
    let mut good =
        work(&[&app], shell(&place, "cat > seen", ExecInput::Stdin), WorkerSettings::default());
    good.has(1).await;
    let failure = hanging.failure().await;
    assert_eq!(failure, "`sleep` took longer than 300ms and was stopped (`timeout`)");
    app.set("2");
    good.has(2).await;
}

#[tokio::test]
async fn a_program_that_is_not_there_is_not_asked_for_again() {
    let app = Given::with("app", "1");
    let missing = ExecSettings::new(CommandLine::program(["/no/such"]));
    let mut working = work(&[&app], Exec::new("test", missing, LIMIT), WorkerSettings::default());
    let status = working.when(|status| status.state == SinkState::GivenUp).await;
    assert_eq!(status.attempts, 1);
    assert!(status.failing.unwrap().starts_with("`/no/such` cannot be started"));
}

/// A program with a pid file, which is killed in the end.
struct Daemon(Child);

impl Daemon {
    async fn start(place: &Place) -> Self {
        // A shell cannot listen to what was ignored when it was started, as below `nohup`; what is listened
        // to here is not ignored there.
        drop(tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()));
        let text = "trap 'echo told >> log' HUP; echo $$ > pid; while :; do sleep 0.01; done";
        let child =
            Command::new("/bin/sh").args(["-c", text]).current_dir(place.path()).spawn().unwrap();
        until(|| place.read("pid").ends_with('\n').then_some(())).await;
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
async fn a_program_with_a_pid_file_is_told_of_each_change() {
    let place = Place::new();
    let daemon = Daemon::start(&place).await;
    let app = Given::with("app", "1");
    let mut settings = SignalSettings::new(place.file("pid"));
    settings.process_name = Some("sh".into());
    let mut working = work(&[&app], SignalTo::new(settings), WorkerSettings::default());
    working.has(1).await;
    until(|| (place.read("log") == "told\n").then_some(())).await;
    app.set("2");
    until(|| (place.read("log") == "told\ntold\n").then_some(())).await;
    drop(daemon);
    app.set("3");
    assert!(working.failure().await.ends_with("does not run"));
}

#[tokio::test]
async fn another_program_that_has_got_the_number_is_let_be() {
    let place = Place::new();
    let _daemon = Daemon::start(&place).await;
    let app = Given::with("app", "1");
    let mut settings = SignalSettings::new(place.file("pid"));
    settings.process_name = Some("nginx".into());
    let mut working = work(&[&app], SignalTo::new(settings), WorkerSettings::default());
    let failure = working.failure().await;
    assert!(failure.ends_with("is `sh`, not `nginx`"), "{failure}");
    assert_eq!(place.read("log"), "");
}

#[tokio::test]
async fn a_pid_file_with_anything_else_is_refused() {
    let place = Place::new();
    for text in ["-1", "0", "1", "many"] {
        fs::write(place.file("pid"), text).unwrap();
        let app = Given::with("app", "1");
        let sink = SignalTo::new(SignalSettings::new(place.file("pid")));
        let mut working = work(&[&app], sink, WorkerSettings::default());
        let failure = working.failure().await;
        assert!(failure.ends_with("does not begin with the number of a process"), "{failure}");
    }
}
