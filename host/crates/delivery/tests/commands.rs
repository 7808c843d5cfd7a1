//! Runs of real commands: input, output, timeout and process groups.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use bytes::Bytes;
use reloader_delivery::process::{
    CommandError, CommandInput, CommandLine, CommandSettings, Signal,
};
use reloader_util::units::Time;
use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

fn shell(text: &str) -> CommandSettings {
    CommandSettings::new(CommandLine::shell(text))
}

async fn run(settings: &CommandSettings, input: CommandInput) -> Result<(), CommandError> {
    settings.run("test", input, &[]).await
}

/// Waits for a file with a process ID.
async fn read_pid(path: &Path) -> i32 {
    wait_until(|| fs::read_to_string(path).ok()?.trim().parse().ok()).await
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

/// Returns whether a process runs. A zombie does not run.
fn is_running(process: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit(')').next().and_then(|rest| rest.trim().chars().next()).is_some_and(|it| it != 'Z')
}

/// Temporary directory of a test.
struct TestDir(tempfile::TempDir);

impl TestDir {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

#[tokio::test]
async fn value_is_passed_on_standard_input() {
    let dir = TestDir::new();
    let command = shell(&format!("cat > {}", dir.file("seen").display()));
    // More than the capacity of a pipe.
    let large = Bytes::from(vec![b'x'; 1 << 20]);
    run(&command, CommandInput::Stdin(large.clone())).await.unwrap();
    assert_eq!(fs::read(dir.file("seen")).unwrap(), large);
}

#[tokio::test]
async fn unread_input_is_no_error() {
    run(&shell("exit 0"), CommandInput::Stdin(Bytes::from(vec![b'x'; 1 << 20]))).await.unwrap();
}

#[tokio::test]
async fn input_file_is_private_and_removed() {
    let dir = TestDir::new();
    let copy = dir.file("copy").display().to_string();
    let words = [
        "/bin/sh",
        "-c",
        r#"test "$1" = "$RELOADER_FILE" && stat -c %a "$1" > "$2" && cat "$1" >> "$2" && echo "$1" >> "$2""#,
        "sh",
        "{file}",
        &copy,
    ];
    let command = CommandSettings::new(CommandLine::program(words));
    let input = CommandInput::Files(vec![("app".into(), Bytes::from_static(b"value\n"))]);
    run(&command, input).await.unwrap();
    let seen = fs::read_to_string(dir.file("copy")).unwrap();
    let lines: Vec<&str> = seen.lines().collect();
    assert_eq!(lines[..2], ["600", "value"]);
    let path = PathBuf::from(lines[2]);
    assert!(path.ends_with("app"));
    wait_until(|| (!path.exists()).then_some(())).await;
}

#[tokio::test]
async fn list_is_run_without_shell() {
    let dir = TestDir::new();
    let target = dir.file("a b; $(touch x)").display().to_string();
    run(&CommandSettings::new(CommandLine::program(["touch", &target])), CommandInput::Empty)
        .await
        .unwrap();
    assert!(Path::new(&target).exists());
}

#[tokio::test]
async fn environment_extends_that_of_the_host() {
    let mut command = shell(r#"test -n "$PATH" && test "$A" = 1 && test "$B" = 2"#);
    command.env.insert("A".into(), "1".into());
    command.run("test", CommandInput::Empty, &[("B", "2".into())]).await.unwrap();
}

#[tokio::test]
async fn failure_reports_status_and_last_lines() {
    let error = run(&shell("echo one; echo 'line 3: no' >&2; exit 7"), CommandInput::Empty).await;
    let error = error.unwrap_err();
    assert!(error.is_rejection());
    let text = error.to_string();
    assert!(text.starts_with("`echo` failed with status 7: "), "{text}");
    assert!(text.contains("line 3: no"), "{text}");
    let error = run(&shell("kill -9 $$"), CommandInput::Empty).await.unwrap_err();
    assert_eq!(error.to_string(), "`kill` failed with signal 9");
    assert!(!error.is_rejection());
}

#[tokio::test]
async fn missing_program_is_named() {
    let error =
        run(&CommandSettings::new(CommandLine::program(["/no/such"])), CommandInput::Empty).await;
    assert_eq!(
        error.unwrap_err().to_string(),
        "`/no/such` cannot be started: No such file or directory (os error 2)"
    );
}

/// Prevents thanos#6519: a hanging reload blocked forever.
#[tokio::test]
async fn timeout_stops_the_process_group() {
    let dir = TestDir::new();
    let child = dir.file("child");
    let mut command = shell(&format!("sleep 1000 & echo $! > {}; wait", child.display()));
    command.timeout = Time(Duration::from_millis(300));
    let error = run(&command, CommandInput::Empty).await.unwrap_err();
    let text = error.to_string();
    assert_eq!(text, "`sleep` timed out after 300ms (`timeout`)");
    let child = read_pid(&child).await;
    wait_until(|| (!is_running(child)).then_some(())).await;
}

#[tokio::test]
async fn group_is_killed_after_grace_period() {
    let dir = TestDir::new();
    let child = dir.file("child");
    // Both processes ignore the signal.
    let deaf = format!(
        "trap '' TERM; sh -c 'trap \"\" TERM; echo $$ > {}; while :; do sleep 1; done' & wait",
        child.display()
    );
    let mut command = shell(&deaf);
    command.timeout = Time(Duration::from_millis(500));
    command.kill_after = Time(Duration::from_millis(200));
    let before = Instant::now();
    run(&command, CommandInput::Empty).await.unwrap_err();
    assert!(before.elapsed() < Duration::from_secs(10));
    let child = read_pid(&child).await;
    wait_until(|| (!is_running(child)).then_some(())).await;
}

#[tokio::test]
async fn kill_signal_stops_the_command() {
    let dir = TestDir::new();
    let seen = dir.file("seen");
    let mut command = shell(&format!(
        "trap 'echo usr1 > {}; exit 1' USR1; while :; do sleep 0.01; done",
        seen.display()
    ));
    command.timeout = Time(Duration::from_millis(300));
    command.kill_signal = Signal::USR1;
    run(&command, CommandInput::Empty).await.unwrap_err();
    assert_eq!(fs::read_to_string(seen).unwrap(), "usr1\n");
}

#[tokio::test]
async fn dropped_run_kills_the_process_group() {
    let dir = TestDir::new();
    let (own, child) = (dir.file("own"), dir.file("child"));
    let text =
        format!("sleep 1000 & echo $! > {}; echo $$ > {}; wait", child.display(), own.display());
    let running = tokio::spawn(async move { run(&shell(&text), CommandInput::Empty).await });
    let processes = [read_pid(&own).await, read_pid(&child).await];
    running.abort();
    wait_until(|| (!processes.into_iter().any(is_running)).then_some(())).await;
}

#[tokio::test]
async fn background_process_survives_its_command() {
    let dir = TestDir::new();
    let child = dir.file("child");
    let before = Instant::now();
    run(&shell(&format!("sleep 60 & echo $! > {}", child.display())), CommandInput::Empty)
        .await
        .unwrap();
    assert!(before.elapsed() < Duration::from_secs(10), "the run waits for the background process");
    let child = read_pid(&child).await;
    assert!(is_running(child));
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(child).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
}

#[tokio::test]
async fn large_output_does_not_block() {
    let command = shell("head -c 20000000 /dev/zero | tr '\\0' x; yes | head -n 200000; echo end");
    run(&command, CommandInput::Empty).await.unwrap();
}
