//! Tests of the first process of a container: it starts a program, forwards signals to it, and reaps orphans.

use crate::harness::{TestDir, children, read_pid, wait_until};
use std::process::{Command, Stdio};

/// Shell script in place of the host: creates twenty orphans, waits for one child of its own, and logs `SIGTERM`.
const HOST: &str = "
    trap 'echo term >> log; exit 9' TERM
    for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        sh -c 'sh -c \"echo orphan >> orphans\" & exit 0'
    done
    sh -c 'exit 42'; echo $? > own
    while :; do sleep 0.01; done";

/// A program that selects its command by `argv[0]`, such as `busybox`, must get its own path there, and not that of
/// process 1.
#[test]
fn pid1_child_has_path_as_argv0() {
    let init = Command::new(env!("CARGO_BIN_EXE_delivery-test-process"))
        .args(["pid1", "/bin/sh", "-c", "cat /proc/$$/cmdline; true"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let command_line = String::from_utf8(init.stdout).unwrap();
    assert_eq!(command_line.split('\0').next(), Some("/bin/sh"), "{command_line:?}");
}

#[tokio::test]
async fn pid1_reaps_orphans_and_forwards_signals() {
    let dir = TestDir::new();
    let mut init = Command::new(env!("CARGO_BIN_EXE_delivery-test-process"))
        .args(["pid1", "/bin/sh", "-c", HOST])
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    assert_eq!(read_pid(&dir.file("own")).await, 42, "status of the host's own child");
    wait_until(|| (dir.lines("orphans").len() == 20).then_some(())).await;
    let own = init.id().try_into().unwrap();
    wait_until(|| (children(own).len() == 1).then_some(())).await;
    assert!(children(own)[0].1 != 'Z', "only the host remains");
    let pid = rustix::process::Pid::from_raw(own).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let status = wait_until(|| init.try_wait().unwrap()).await;
    assert_eq!(status.code(), Some(9));
    assert_eq!(dir.lines("log"), ["term"]);
}
