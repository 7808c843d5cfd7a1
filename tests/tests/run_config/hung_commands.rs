//! Commands whose programs are on a file system that does not answer, tested through the program.

use crate::config_text::source;
use e2e::{HungMount, TestHost, wait_until};
use std::fs;

/// Returns the process IDs of the children of a process.
fn children(process: u32) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap().flatten();
    let children = tasks
        .map(|task| fs::read_to_string(task.path().join("children")).unwrap_or_default())
        .collect::<String>();
    children.split_whitespace().map(Into::into).collect()
}

/// The host forks no child for a program on a hung file system, and runs other commands in time. Such a child would
/// hang before it executes its program, and hold the pipes of other commands, the control socket, and the lock of the
/// state directory.
#[test]
fn hung_programs_are_not_forked_and_delay_no_command() {
    const HUNG: usize = 80;
    let t = TestHost::new();
    fs::create_dir(t.path("hung")).unwrap();
    t.write("hung.in", "1");
    t.write("app.in", "1");
    let exec = |command: &str| {
        format!(
            "[[source.sink]]\ntype = \"exec\"\ncommand = {command}\ntimeout = \"30s\"\nretries = 0\n"
        )
    };
    let hung: String = (0..HUNG).map(|number| exec(&format!("[\"hung/{number}\"]"))).collect();
    let healthy = exec(r#"["/bin/sh", "-c", "cat > app.out.new && mv app.out.new app.out"]"#);
    let config = format!("{}{}", source("hung", &hung), source("app", &healthy));
    let Some(_mount) = HungMount::over(&t.path("hung")) else { return };
    t.write("reloader.toml", config);
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    t.wait_for_file("app.out", "1");
    host.wait_for_log("the file system has not answered for 10s");
    t.replace("app.in", "2");
    t.wait_for_file("app.out", "2");
    wait_until("the end of the healthy command", || children(host.id()).is_empty());
    host.kill();
    let mut next = t.run(&["run", "--config", "reloader.toml"]);
    t.replace("app.in", "3");
    t.wait_for_file("app.out", "3");
    assert_eq!(next.stop().code(), Some(0), "{}", next.stderr());
}
