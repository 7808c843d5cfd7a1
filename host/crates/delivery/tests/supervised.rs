//! Supervision of real programs: change notification, restart, stop, and process 1.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use reloader_delivery::process::{
    CommandLine, Exit, OnChange, Restart, Signal, Supervisor, SupervisorSettings, pid1,
};
use reloader_util::units::Time;
use std::{
    env, fs,
    io::IsTerminal,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

/// Environment variable with the working directory of the helper process.
const DIRECTORY_VARIABLE: &str = "RELOADER_TEST_INIT";
/// Name of the helper process in the test binary.
const INIT: &str = "init_process";

/// Temporary directory of a test.
struct TestDir(tempfile::TempDir);

impl TestDir {
    fn new() -> Self {
        // A shell cannot trap a signal that it inherits as ignored, e.g. from `nohup`. Installing a
        // handler resets the disposition for child processes.
        drop(tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()));
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn lines(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.file(name)).unwrap_or_default();
        text.lines().map(Into::into).collect()
    }

    async fn wait_for_lines(&self, name: &str, expected: &[&str]) {
        wait_until(|| (self.lines(name) == expected).then_some(())).await;
    }

    /// Returns a program that logs the signals it receives, and exits with status 3 on `SIGTERM`.
    fn program(&self) -> SupervisorSettings {
        self.shell(
            "echo started >> log
            trap 'echo notified >> log' HUP
            trap 'echo usr1 >> log' USR1
            trap 'echo ended >> log; exit 3' TERM
            echo $$ > own
            while :; do sleep 0.01; done",
        )
    }

    fn shell(&self, text: &str) -> SupervisorSettings {
        let mut settings = SupervisorSettings::new(CommandLine::shell(text));
        settings.directory = Some(self.0.path().into());
        settings
    }

    /// Waits until the program has installed its traps and written its process ID.
    async fn wait_until_ready(&self) -> i32 {
        wait_until(|| fs::read_to_string(self.file("own")).ok()?.trim().parse().ok()).await
    }
}

/// Polls `probe` until it returns a value.
async fn wait_until<T>(mut probe: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(Instant::now() < end, "timed out");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn change_is_signalled_and_stop_is_graceful() {
    let dir = TestDir::new();
    let program = Supervisor::start(dir.program());
    dir.wait_until_ready().await;
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
        Supervisor::start(SupervisorSettings { on_change: OnChange::Restart, ..dir.program() });
    dir.wait_until_ready().await;
    program.changed();
    dir.wait_for_lines("log", &["started", "ended", "started"]).await;
    drop(program);
}

#[tokio::test]
async fn burst_causes_one_notification() {
    let dir = TestDir::new();
    let splay = Some(Time(Duration::from_millis(400)));
    let program = Supervisor::start(SupervisorSettings { splay, ..dir.program() });
    dir.wait_until_ready().await;
    for _ in 0..100 {
        program.changed();
    }
    wait_until(|| dir.lines("log").contains(&"notified".to_owned()).then_some(())).await;
    program.stop().await;
    assert!(dir.lines("log").len() <= 4, "{:?}", dir.lines("log"));
}

/// After a boot, the restored value is published first, and the current one shortly after it.
#[tokio::test]
async fn signal_before_handler_restarts_the_program() {
    let dir = TestDir::new();
    let slow = dir.shell(
        "echo started >> log; echo $$ > own
        test -e second && trap 'echo notified >> log' HUP
        touch second
        while :; do sleep 0.01; done",
    );
    let program = Supervisor::start(slow);
    dir.wait_until_ready().await;
    wait_until(|| dir.file("second").exists().then_some(())).await;
    program.changed();
    dir.wait_for_lines("log", &["started", "started"]).await;
    program.stop().await;
}

#[tokio::test]
async fn exit_has_status_or_signal_of_the_program() {
    let dir = TestDir::new();
    for (text, code) in [("exit 0", 0), ("exit 42", 42), ("kill -9 $$", 137), ("kill $$", 143)] {
        assert_eq!(Supervisor::start(dir.shell(text)).ended().await, Exit { code }, "{text}");
    }
    let missing = SupervisorSettings::new(CommandLine::program(["/no/such"]));
    assert_eq!(Supervisor::start(missing).ended().await, Exit { code: 127 });
    let directory = SupervisorSettings::new(CommandLine::program(["/"]));
    assert_eq!(Supervisor::start(directory).ended().await, Exit { code: 126 });
}

#[tokio::test]
async fn crashing_program_is_restarted_up_to_the_limit() {
    let dir = TestDir::new();
    let crash = dir.shell("echo started >> log; exit 1");
    let mut program =
        Supervisor::start(SupervisorSettings { restart: Restart::OnFailure, restarts: 1, ..crash });
    assert_eq!(program.ended().await, Exit { code: 1 });
    assert_eq!(dir.lines("log"), ["started", "started"]);
    // Status 0 is no failure.
    let success = SupervisorSettings { restart: Restart::OnFailure, ..dir.shell("exit 0") };
    assert_eq!(Supervisor::start(success).ended().await, Exit { code: 0 });
}

#[tokio::test]
async fn change_ends_the_restart_backoff() {
    let dir = TestDir::new();
    fs::write(dir.file("config"), "bad").unwrap();
    let text = "echo started >> log; grep -q good config || exit 1; while :; do sleep 0.01; done";
    let settings = SupervisorSettings { restart: Restart::Always, ..dir.shell(text) };
    let program = Supervisor::start(settings);
    // The third backoff takes four seconds.
    dir.wait_for_lines("log", &["started"; 3]).await;
    fs::write(dir.file("config"), "good").unwrap();
    let before = Instant::now();
    // The program may not have exited yet, so the change is repeated.
    wait_until(|| {
        program.changed();
        (dir.lines("log").len() >= 4).then_some(())
    })
    .await;
    assert!(before.elapsed() < Duration::from_secs(3));
    program.stop().await;
}

#[tokio::test]
async fn group_is_killed_after_grace_period() {
    // On a terminal, the program has no process group of its own.
    if std::io::stdin().is_terminal() {
        return;
    }
    let dir = TestDir::new();
    let deaf = dir.shell("trap '' TERM; sleep 1000 & echo $! > child; echo $$ > own; wait; wait");
    let program = Supervisor::start(SupervisorSettings {
        kill_after: Time(Duration::from_millis(200)),
        ..deaf
    });
    dir.wait_until_ready().await;
    let child = fs::read_to_string(dir.file("child")).unwrap();
    assert_eq!(program.stop().await, Exit { code: 137 });
    wait_until(|| (!is_running(child.trim())).then_some(())).await;
}

/// Returns whether a process runs. A zombie does not run.
fn is_running(process: &str) -> bool {
    state(process).is_some_and(|(state, _)| state != 'Z')
}

/// Returns the state and the parent of a process.
fn state(process: &str) -> Option<(char, String)> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let mut rest = stat.rsplit(')').next()?.split_whitespace();
    Some((rest.next()?.chars().next()?, rest.next()?.to_owned()))
}

/// Returns the children of a process with their states.
fn children(parent: &str) -> Vec<(String, char)> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter_map(|process| Some((state(&process)?, process)))
        .filter(|((_, its_parent), _)| its_parent == parent)
        .map(|((state, _), process)| (process, state))
        .collect()
}

/// Helper process of `pid1_reaps_orphans_and_forwards_signals`: acts as process 1 of a container.
#[test]
#[ignore = "helper process of another test"]
fn init_process() {
    let Some(directory) = env::var_os(DIRECTORY_VARIABLE) else { return };
    env::set_current_dir(&directory).unwrap();
    // Creates twenty orphans, and waits for one child of its own.
    let host = "
        trap 'echo term >> log; exit 9' TERM
        for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
            sh -c 'sh -c \"echo orphan >> orphans\" & exit 0'
        done
        sh -c 'exit 42'; echo $? > own
        while :; do sleep 0.01; done";
    let exit = pid1::run(Path::new("/bin/sh"), ["-c", host]).unwrap();
    std::process::exit(exit.code.into());
}

#[tokio::test]
async fn pid1_reaps_orphans_and_forwards_signals() {
    let dir = TestDir::new();
    let mut init = Command::new(env::current_exe().unwrap())
        .args(["--exact", INIT, "--ignored", "--nocapture"])
        .env(DIRECTORY_VARIABLE, dir.0.path())
        .stdin(std::process::Stdio::null())
        .spawn()
        .unwrap();
    assert_eq!(dir.wait_until_ready().await, 42, "status of the host's own child");
    wait_until(|| (dir.lines("orphans").len() == 20).then_some(())).await;
    let own = init.id().to_string();
    wait_until(|| (children(&own).len() == 1).then_some(())).await;
    assert!(children(&own)[0].1 != 'Z', "only the host remains");
    let number = rustix::process::Pid::from_raw(init.id().try_into().unwrap()).unwrap();
    rustix::process::kill_process(number, rustix::process::Signal::TERM).unwrap();
    let status = wait_until(|| init.try_wait().unwrap()).await;
    assert_eq!(status.code(), Some(9));
    assert_eq!(dir.lines("log"), ["term"]);
}
