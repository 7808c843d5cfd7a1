//! Commands that are run with a value: real ones, which misbehave.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use bytes::Bytes;
use reloader_delivery::process::{CommandError, CommandLine, CommandSettings, Given, Signal};
use reloader_util::units::Time;
use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

fn shell(text: &str) -> CommandSettings {
    CommandSettings::new(CommandLine::shell(text))
}

async fn run(settings: &CommandSettings, given: Given) -> Result<(), CommandError> {
    settings.run("test", given, &[]).await
}

/// The number of a process that has written it to a file.
async fn number_in(path: &Path) -> i32 {
    until(|| fs::read_to_string(path).ok()?.trim().parse().ok()).await
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

/// Whether it runs: one that has ended, but nobody has waited for, does not.
fn runs(process: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit(')').next().and_then(|rest| rest.trim().chars().next()).is_some_and(|it| it != 'Z')
}

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

#[tokio::test]
async fn a_value_comes_on_standard_input() {
    let place = Place::new();
    let command = shell(&format!("cat > {}", place.file("seen").display()));
    // More than a pipe takes at once.
    let large = Bytes::from(vec![b'x'; 1 << 20]);
    run(&command, Given::Stdin(large.clone())).await.unwrap();
    assert_eq!(fs::read(place.file("seen")).unwrap(), large);
}

#[tokio::test]
async fn a_command_need_not_read_what_it_is_given() {
    run(&shell("exit 0"), Given::Stdin(Bytes::from(vec![b'x'; 1 << 20]))).await.unwrap();
}

#[tokio::test]
async fn a_value_comes_as_a_private_file_that_is_gone_afterwards() {
    let place = Place::new();
    let copy = place.file("copy").display().to_string();
    let words = [
        "/bin/sh",
        "-c",
        r#"test "$1" = "$RELOADER_FILE" && stat -c %a "$1" > "$2" && cat "$1" >> "$2" && echo "$1" >> "$2""#,
        "sh",
        "{file}",
        &copy,
    ];
    let command = CommandSettings::new(CommandLine::program(words));
    let given = Given::Files(vec![("app".into(), Bytes::from_static(b"value\n"))]);
    run(&command, given).await.unwrap();
    let seen = fs::read_to_string(place.file("copy")).unwrap();
    let lines: Vec<&str> = seen.lines().collect();
    assert_eq!(lines[..2], ["600", "value"]);
    let path = PathBuf::from(lines[2]);
    assert!(path.ends_with("app"));
    until(|| (!path.exists()).then_some(())).await;
}

#[tokio::test]
async fn no_shell_looks_at_a_list() {
    let place = Place::new();
    let target = place.file("a b; $(touch x)").display().to_string();
    run(&CommandSettings::new(CommandLine::program(["touch", &target])), Given::Nothing)
        .await
        .unwrap();
    assert!(Path::new(&target).exists());
}

#[tokio::test]
async fn the_environment_is_the_hosts_and_what_is_given_besides() {
    let mut command = shell(r#"test -n "$PATH" && test "$A" = 1 && test "$B" = 2"#);
    command.env.insert("A".into(), "1".into());
    command.run("test", Given::Nothing, &[("B", "2".into())]).await.unwrap();
}

#[tokio::test]
async fn a_failure_says_its_status_and_what_the_command_has_said_last() {
    let error = run(&shell("echo one; echo 'line 3: no' >&2; exit 7"), Given::Nothing).await;
    let error = error.unwrap_err();
    assert!(error.is_refusal());
    let text = error.to_string();
    assert!(text.starts_with("`echo` failed with status 7: "), "{text}");
    assert!(text.contains("line 3: no"), "{text}");
    let error = run(&shell("kill -9 $$"), Given::Nothing).await.unwrap_err();
    assert_eq!(error.to_string(), "`kill` failed with signal 9");
    assert!(!error.is_refusal());
}

#[tokio::test]
async fn one_that_is_not_there_is_named() {
    let error =
        run(&CommandSettings::new(CommandLine::program(["/no/such"])), Given::Nothing).await;
    assert_eq!(
        error.unwrap_err().to_string(),
        "`/no/such` cannot be started: No such file or directory (os error 2)"
    );
}

/// thanos#6519: a reload that did not come back hung for ever.
#[tokio::test]
async fn one_that_takes_too_long_is_stopped_with_all_that_it_has_started() {
    let place = Place::new();
    let child = place.file("child");
    let mut command = shell(&format!("sleep 1000 & echo $! > {}; wait", child.display()));
    command.timeout = Time(Duration::from_millis(300));
    let error = run(&command, Given::Nothing).await.unwrap_err();
    let text = error.to_string();
    assert_eq!(text, "`sleep` took longer than 300ms and was stopped (`timeout`)");
    let child = number_in(&child).await;
    until(|| (!runs(child)).then_some(())).await;
}

#[tokio::test]
async fn one_that_does_not_want_to_end_is_killed_and_so_are_its_children() {
    let place = Place::new();
    let child = place.file("child");
    // Neither listens to the signal; the shell waits for ever.
    let deaf = format!(
        "trap '' TERM; sh -c 'trap \"\" TERM; echo $$ > {}; while :; do sleep 1; done' & wait",
        child.display()
    );
    let mut command = shell(&deaf);
    command.timeout = Time(Duration::from_millis(500));
    command.kill_after = Time(Duration::from_millis(200));
    let before = Instant::now();
    run(&command, Given::Nothing).await.unwrap_err();
    assert!(before.elapsed() < Duration::from_secs(10));
    let child = number_in(&child).await;
    until(|| (!runs(child)).then_some(())).await;
}

#[tokio::test]
async fn it_is_stopped_with_the_signal_that_it_understands() {
    let place = Place::new();
    let seen = place.file("seen");
    let mut command = shell(&format!(
        "trap 'echo usr1 > {}; exit 1' USR1; while :; do sleep 0.01; done",
        seen.display()
    ));
    command.timeout = Time(Duration::from_millis(300));
    command.kill_signal = Signal::USR1;
    run(&command, Given::Nothing).await.unwrap_err();
    assert_eq!(fs::read_to_string(seen).unwrap(), "usr1\n");
}

#[tokio::test]
async fn who_is_not_waited_for_any_more_is_killed() {
    let place = Place::new();
    let (own, child) = (place.file("own"), place.file("child"));
    let text =
        format!("sleep 1000 & echo $! > {}; echo $$ > {}; wait", child.display(), own.display());
    let running = tokio::spawn(async move { run(&shell(&text), Given::Nothing).await });
    let processes = [number_in(&own).await, number_in(&child).await];
    running.abort();
    until(|| (!processes.into_iter().any(runs)).then_some(())).await;
}

#[tokio::test]
async fn what_it_leaves_running_goes_on_and_does_not_hold_it_up() {
    let place = Place::new();
    let child = place.file("child");
    let before = Instant::now();
    run(&shell(&format!("sleep 60 & echo $! > {}", child.display())), Given::Nothing)
        .await
        .unwrap();
    assert!(before.elapsed() < Duration::from_secs(10), "it holds the output open");
    let child = number_in(&child).await;
    assert!(runs(child));
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(child).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
}

#[tokio::test]
async fn a_flood_of_output_neither_blocks_nor_stays() {
    let command = shell("head -c 20000000 /dev/zero | tr '\\0' x; yes | head -n 200000; echo end");
    run(&command, Given::Nothing).await.unwrap();
}
