//! The program that uses the values: real ones, started, told of changes, restarted, stopped.
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

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        // A shell cannot listen to what was ignored when it was started, as below `nohup`; what is listened
        // to here is not ignored there.
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

    async fn until_lines(&self, name: &str, expected: &[&str]) {
        until(|| (self.lines(name) == expected).then_some(())).await;
    }

    /// A program that writes down what happens to it, until it is asked to end.
    fn program(&self) -> SupervisorSettings {
        self.shell(
            "echo started >> log
            trap 'echo told >> log' HUP
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

    /// It has written its number when it listens.
    async fn listening(&self) -> i32 {
        until(|| fs::read_to_string(self.file("own")).ok()?.trim().parse().ok()).await
    }
}

async fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < end, "it does not happen");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_change_is_told_by_a_signal_and_the_program_is_stopped_in_order() {
    let place = Place::new();
    let program = Supervisor::start(place.program());
    place.listening().await;
    program.changed();
    place.until_lines("log", &["started", "told"]).await;
    program.forward(Signal::USR1);
    place.until_lines("log", &["started", "told", "usr1"]).await;
    assert_eq!(program.stop().await, Exit { code: 3 });
    assert_eq!(place.lines("log"), ["started", "told", "usr1", "ended"]);
}

#[tokio::test]
async fn or_the_program_is_started_again() {
    let place = Place::new();
    let program =
        Supervisor::start(SupervisorSettings { on_change: OnChange::Restart, ..place.program() });
    place.listening().await;
    program.changed();
    place.until_lines("log", &["started", "ended", "started"]).await;
    drop(program);
}

#[tokio::test]
async fn many_changes_at_once_are_told_once() {
    let place = Place::new();
    let splay = Some(Time(Duration::from_millis(400)));
    let program = Supervisor::start(SupervisorSettings { splay, ..place.program() });
    place.listening().await;
    for _ in 0..100 {
        program.changed();
    }
    until(|| place.lines("log").contains(&"told".to_owned()).then_some(())).await;
    program.stop().await;
    assert!(place.lines("log").len() <= 4, "{:?}", place.lines("log"));
}

/// At the start of a machine the last good value comes first, and a moment later what the source says now.
#[tokio::test]
async fn a_change_that_comes_before_the_program_listens_does_not_end_it() {
    let place = Place::new();
    let slow = place.shell(
        "echo started >> log; echo $$ > own
        test -e second && trap 'echo told >> log' HUP
        touch second
        while :; do sleep 0.01; done",
    );
    let program = Supervisor::start(slow);
    place.listening().await;
    until(|| place.file("second").exists().then_some(())).await;
    program.changed();
    place.until_lines("log", &["started", "started"]).await;
    program.stop().await;
}

#[tokio::test]
async fn its_status_is_the_hosts_and_so_is_the_signal_that_ended_it() {
    let place = Place::new();
    for (text, code) in [("exit 0", 0), ("exit 42", 42), ("kill -9 $$", 137), ("kill $$", 143)] {
        assert_eq!(Supervisor::start(place.shell(text)).ended().await, Exit { code }, "{text}");
    }
    let missing = SupervisorSettings::new(CommandLine::program(["/no/such"]));
    assert_eq!(Supervisor::start(missing).ended().await, Exit { code: 127 });
    let directory = SupervisorSettings::new(CommandLine::program(["/"]));
    assert_eq!(Supervisor::start(directory).ended().await, Exit { code: 126 });
}

#[tokio::test]
async fn a_program_that_crashes_is_started_again_and_not_for_ever() {
    let place = Place::new();
    let crash = place.shell("echo started >> log; exit 1");
    let mut program =
        Supervisor::start(SupervisorSettings { restart: Restart::OnFailure, restarts: 1, ..crash });
    assert_eq!(program.ended().await, Exit { code: 1 });
    assert_eq!(place.lines("log"), ["started", "started"]);
    // One that ends well has done what it should.
    let well = SupervisorSettings { restart: Restart::OnFailure, ..place.shell("exit 0") };
    assert_eq!(Supervisor::start(well).ended().await, Exit { code: 0 });
}

#[tokio::test]
async fn a_change_ends_the_pause_of_a_program_that_has_crashed() {
    let place = Place::new();
    fs::write(place.file("config"), "bad").unwrap();
    let text = "echo started >> log; grep -q good config || exit 1; while :; do sleep 0.01; done";
    let settings = SupervisorSettings { restart: Restart::Always, ..place.shell(text) };
    let program = Supervisor::start(settings);
    // The third pause takes four seconds.
    place.until_lines("log", &["started"; 3]).await;
    fs::write(place.file("config"), "good").unwrap();
    let before = Instant::now();
    // It may be on its way out still.
    until(|| {
        program.changed();
        (place.lines("log").len() >= 4).then_some(())
    })
    .await;
    assert!(before.elapsed() < Duration::from_secs(3));
    program.stop().await;
}

#[tokio::test]
async fn one_that_does_not_want_to_end_is_killed_with_its_children() {
    // On a terminal it is not in a group of its own.
    if std::io::stdin().is_terminal() {
        return;
    }
    let place = Place::new();
    let deaf = place.shell("trap '' TERM; sleep 1000 & echo $! > child; echo $$ > own; wait; wait");
    let program = Supervisor::start(SupervisorSettings {
        kill_after: Time(Duration::from_millis(200)),
        ..deaf
    });
    place.listening().await;
    let child = fs::read_to_string(place.file("child")).unwrap();
    assert_eq!(program.stop().await, Exit { code: 137 });
    until(|| (!runs(child.trim())).then_some(())).await;
}

/// Whether it runs: one that has ended, but nobody has waited for, does not.
fn runs(process: &str) -> bool {
    state(process).is_some_and(|(state, _)| state != 'Z')
}

/// Its state, and its parent.
fn state(process: &str) -> Option<(char, String)> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let mut rest = stat.rsplit(')').next()?.split_whitespace();
    Some((rest.next()?.chars().next()?, rest.next()?.to_owned()))
}

/// The processes whose parent this is.
fn children(parent: &str) -> Vec<(String, char)> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter_map(|process| Some((state(&process)?, process)))
        .filter(|((_, of), _)| of == parent)
        .map(|((state, _), process)| (process, state))
        .collect()
}

/// Not a test of its own: what process 1 of a container would do, in a process of its own.
#[test]
fn first_process() {
    let Some(directory) = env::var_os("RELOADER_TEST_INIT") else { return };
    env::set_current_dir(&directory).unwrap();
    // Twenty processes lose their parent; the host proper waits for one of its own, and gets its status.
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

/// As the first process of a container: nobody else would wait for orphans.
#[tokio::test]
async fn the_first_process_buries_orphans_and_hands_on_signals_and_the_status() {
    let place = Place::new();
    let mut init = Command::new(env::current_exe().unwrap())
        .args(["--exact", "first_process", "--nocapture"])
        .env("RELOADER_TEST_INIT", place.0.path())
        .stdin(std::process::Stdio::null())
        .spawn()
        .unwrap();
    assert_eq!(place.listening().await, 42, "nobody has taken the status away");
    until(|| (place.lines("orphans").len() == 20).then_some(())).await;
    let own = init.id().to_string();
    until(|| (children(&own).len() == 1).then_some(())).await;
    assert!(children(&own)[0].1 != 'Z', "what is left is the host");
    let number = rustix::process::Pid::from_raw(init.id().try_into().unwrap()).unwrap();
    rustix::process::kill_process(number, rustix::process::Signal::TERM).unwrap();
    let status = until(|| init.try_wait().unwrap()).await;
    assert_eq!(status.code(), Some(9));
    assert_eq!(place.lines("log"), ["term"]);
}
