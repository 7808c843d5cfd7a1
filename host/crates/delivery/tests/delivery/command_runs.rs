//! Runs of real commands: input, output, timeout and process groups.

use crate::harness::{TestDir, is_running, read_pid, wait_until};
use bytes::Bytes;
use reloader_delivery::process::{
    CommandError, CommandInput, CommandLine, CommandSettings, OutputLimit, Signal,
};
use reloader_util::units::Time;
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

/// Timeout of a command that leaves enough time for its shell to start, also on a busy machine.
const STARTUP_TIMEOUT: Time = Time(Duration::from_secs(2));

fn shell(text: &str) -> CommandSettings {
    CommandSettings::new(CommandLine::shell(text))
}

async fn run(settings: &CommandSettings, input: CommandInput) -> Result<(), CommandError> {
    settings.run("test", &OutputLimit::default(), input, &[]).await
}

#[tokio::test]
async fn value_is_passed_on_standard_input() {
    let dir = TestDir::new();
    let command = shell(&format!("cat > {}", dir.file("seen").display()));
    // Larger than the capacity of a pipe, so the host must write while the command reads.
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
    let limit = OutputLimit::default();
    command.run("test", &limit, CommandInput::Empty, &[("B", "2".into())]).await.unwrap();
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

/// Prevents a bug of Thanos (thanos#6519): the host would wait forever for a reload that hangs.
#[tokio::test]
async fn timeout_stops_the_process_group() {
    let dir = TestDir::new();
    let child = dir.file("child");
    let mut command = shell(&format!("sleep 1000 & echo $! > {}; wait", child.display()));
    command.timeout = STARTUP_TIMEOUT;
    let error = run(&command, CommandInput::Empty).await.unwrap_err();
    let text = error.to_string();
    assert_eq!(text, "`sleep` timed out after 2s (`timeout`)");
    let child = read_pid(&child).await;
    wait_until(|| (!is_running(child)).then_some(())).await;
}

#[tokio::test]
async fn group_is_killed_after_grace_period() {
    let dir = TestDir::new();
    let child = dir.file("child");
    // The shell and its child both ignore `SIGTERM`.
    let deaf = format!(
        "trap '' TERM; sh -c 'trap \"\" TERM; echo $$ > {}; while :; do sleep 1; done' & wait",
        child.display()
    );
    let mut command = shell(&deaf);
    command.timeout = STARTUP_TIMEOUT;
    command.kill_after = Time(Duration::from_millis(200));
    // The loop of the child has no end, so the run ends only if the group is killed.
    run(&command, CommandInput::Empty).await.unwrap_err();
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
    command.timeout = STARTUP_TIMEOUT;
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
    // The background process has no end, so the run ends only if it does not wait for that process.
    run(&shell(&format!("sleep infinity & echo $! > {}", child.display())), CommandInput::Empty)
        .await
        .unwrap();
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
