//! Supervision of real programs: change notification, restart and stop.

use crate::harness::{TestDir, is_running, read_pid, reset_hangup_disposition, wait_until};
use reloader_delivery::process::{
    CommandLine, Exit, OnChange, RestartPolicy, Signal, Supervisor, SupervisorSettings,
};
use reloader_util::units::Time;
use std::{
    fs,
    io::IsTerminal,
    thread::sleep,
    time::{Duration, Instant},
};
use tokio::{task::spawn_blocking, time::pause};

/// Returns the settings of a program that logs the signals it receives, and exits with status 3 on `SIGTERM`.
fn program(dir: &TestDir) -> SupervisorSettings {
    shell(
        dir,
        "echo started >> log
        trap 'echo notified >> log' HUP
        trap 'echo usr1 >> log' USR1
        trap 'echo ended >> log; exit 3' TERM
        echo $$ > own
        while :; do sleep 0.01; done",
    )
}

/// Returns the settings of a shell program that runs in the directory of the test.
fn shell(dir: &TestDir, text: &str) -> SupervisorSettings {
    reset_hangup_disposition();
    let mut settings = SupervisorSettings::new(CommandLine::shell(text));
    settings.directory = Some(dir.path().into());
    settings
}

/// Waits until the program has installed its traps and written its process ID.
async fn wait_until_ready(dir: &TestDir) {
    read_pid(&dir.file("own")).await;
}

#[tokio::test]
async fn change_is_signalled_and_stop_is_graceful() {
    let dir = TestDir::new();
    let program = Supervisor::start(program(&dir));
    wait_until_ready(&dir).await;
    program.changed();
    dir.wait_for_lines("log", &["started", "notified"]).await;
    program.forward(Signal::USR1);
    dir.wait_for_lines("log", &["started", "notified", "usr1"]).await;
    assert_eq!(program.stop().await, Exit { code: 3 });
    assert_eq!(dir.lines("log"), ["started", "notified", "usr1", "ended"]);
}

#[tokio::test]
async fn change_restarts_the_program() {
    let dir = TestDir::new();
    let program =
        Supervisor::start(SupervisorSettings { on_change: OnChange::Restart, ..program(&dir) });
    wait_until_ready(&dir).await;
    program.changed();
    dir.wait_for_lines("log", &["started", "ended", "started"]).await;
    drop(program);
}

#[tokio::test]
async fn burst_causes_one_notification() {
    let dir = TestDir::new();
    let splay = Some(Time(Duration::from_millis(400)));
    let program = Supervisor::start(SupervisorSettings { splay, ..program(&dir) });
    wait_until_ready(&dir).await;
    for _ in 0..100 {
        program.changed();
    }
    wait_until(|| dir.lines("log").contains(&"notified".to_owned()).then_some(())).await;
    program.stop().await;
    assert!(dir.lines("log").len() <= 4, "{:?}", dir.lines("log"));
}

/// A service manager must not count the stop as a failure.
#[tokio::test]
async fn end_through_the_stop_signal_is_a_success() {
    let dir = TestDir::new();
    let program = Supervisor::start(shell(&dir, "echo $$ > own; exec sleep 3600"));
    wait_until_ready(&dir).await;
    assert_eq!(program.stop().await, Exit { code: 0 });
}

/// A notification before the program has installed its handler kills the program, and the supervisor starts it again.
/// This can happen after a boot: the restored value is published first, and the current value shortly after.
#[tokio::test]
async fn signal_before_handler_restarts_the_program() {
    let dir = TestDir::new();
    let slow = shell(
        &dir,
        "echo started >> log; echo $$ > own
        test -e second && trap 'echo notified >> log' HUP
        touch second
        while :; do sleep 0.01; done",
    );
    let program = Supervisor::start(slow);
    wait_until_ready(&dir).await;
    wait_until(|| dir.file("second").exists().then_some(())).await;
    program.changed();
    dir.wait_for_lines("log", &["started", "started"]).await;
    program.stop().await;
}

#[tokio::test]
async fn exit_has_status_or_signal_of_the_program() {
    let dir = TestDir::new();
    for (text, code) in [("exit 0", 0), ("exit 42", 42), ("kill -9 $$", 137), ("kill $$", 143)] {
        assert_eq!(Supervisor::start(shell(&dir, text)).ended().await, Exit { code }, "{text}");
    }
    let missing = SupervisorSettings::new(CommandLine::program(["/no/such"]));
    assert_eq!(Supervisor::start(missing).ended().await, Exit { code: 127 });
    let directory = SupervisorSettings::new(CommandLine::program(["/"]));
    assert_eq!(Supervisor::start(directory).ended().await, Exit { code: 126 });
}

#[tokio::test]
async fn crashing_program_is_restarted_up_to_the_limit() {
    let dir = TestDir::new();
    let crash = shell(&dir, "echo started >> log; exit 1");
    let mut program = Supervisor::start(SupervisorSettings {
        restart: RestartPolicy::OnFailure,
        restarts: 1,
        ..crash
    });
    assert_eq!(program.ended().await, Exit { code: 1 });
    assert_eq!(dir.lines("log"), ["started", "started"]);
    // Status 0 is no failure, so the program is not restarted.
    let success = SupervisorSettings { restart: RestartPolicy::OnFailure, ..shell(&dir, "exit 0") };
    assert_eq!(Supervisor::start(success).ended().await, Exit { code: 0 });
}

#[tokio::test]
async fn change_ends_the_restart_backoff() {
    let dir = TestDir::new();
    fs::write(dir.file("config"), "bad").unwrap();
    let text = "if grep -q good config; then echo good >> log; else echo bad >> log; exit 1; fi
        while :; do sleep 0.01; done";
    let settings = SupervisorSettings { restart: RestartPolicy::Always, ..shell(&dir, text) };
    let program = Supervisor::start(settings);
    dir.wait_for_lines("log", &["bad"; 3]).await;
    fs::write(dir.file("config"), "good").unwrap();
    // Pauses the clock, so that only a change can end the third backoff of four seconds. A paused clock does not
    // advance while the blocking job below runs.
    pause();
    let log = dir.file("log");
    let notifying = spawn_blocking(move || {
        let end = Instant::now() + Duration::from_secs(20);
        while !fs::read_to_string(&log).unwrap().ends_with("good\n") {
            assert!(Instant::now() < end, "timed out");
            // A change before the exit of the program does not end the backoff, so the change is repeated.
            program.changed();
            sleep(Duration::from_millis(5));
        }
        program
    });
    notifying.await.unwrap().stop().await;
}

#[tokio::test]
async fn group_is_killed_after_grace_period() {
    // On a terminal, the program has no process group of its own.
    if std::io::stdin().is_terminal() {
        return;
    }
    let dir = TestDir::new();
    let deaf = shell(&dir, "trap '' TERM; sleep 1000 & echo $! > child; echo $$ > own; wait; wait");
    let program = Supervisor::start(SupervisorSettings {
        kill_after: Time(Duration::from_millis(200)),
        ..deaf
    });
    wait_until_ready(&dir).await;
    let child = read_pid(&dir.file("child")).await;
    assert_eq!(program.stop().await, Exit { code: 137 });
    wait_until(|| (!is_running(child)).then_some(())).await;
}
