//! Commands whose programs are on a file system that does not answer, tested through the program.

use crate::config_text_helpers::source;
use e2e::{HungMount, TestHost, wait_until};
use std::fs;

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
    wait_until("the end of the healthy command", || host.children().is_empty());
    host.kill();
    let mut next = t.run(&["run", "--config", "reloader.toml"]);
    t.replace("app.in", "3");
    t.wait_for_file("app.out", "3");
    assert_eq!(next.stop().code(), Some(0), "{}", next.stderr());
}

/// A child gets no copy of a file that another thread has open. It would have to close the file before it executes its
/// program, and the file system of the file does not answer.
#[test]
fn command_starts_while_read_of_other_source_hangs() {
    let t = TestHost::new();
    fs::create_dir(t.path("hung")).unwrap();
    t.write("app.in", "1");
    let Some(mount) = HungMount::at_first_read(&t.path("hung")) else { return };
    let hung = "[[source]]\nname = \"hung\"\nplugin = \"file\"\nrequired = false\nconfig = { path = \"hung/file\" }\n";
    let exec = "[[source.sink]]\ntype = \"exec\"\ncommand = [\"/bin/sh\", \"-c\", \"cat > app.out.new && mv \
                app.out.new app.out\"]\n";
    t.write("reloader.toml", format!("{hung}{}", source("app", exec)));
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    t.wait_for_file("app.out", "1");
    wait_until("the read of the file", || {
        let open = fs::read_dir(format!("/proc/{}/fd", host.id())).unwrap().flatten();
        let mut targets = open.filter_map(|entry| fs::read_link(entry.path()).ok());
        targets.any(|target| target == mount.path().join("file"))
    });
    for value in ["2", "3"] {
        t.replace("app.in", value);
        t.wait_for_file("app.out", value);
    }
    drop(mount);
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
}

/// The supervised program is stopped while its start waits for the file system.
#[test]
fn hung_start_of_command_does_not_delay_stop() {
    let t = TestHost::new();
    fs::create_dir(t.path("hung")).unwrap();
    t.write("app.in", "1");
    let Some(_mount) = HungMount::over(&t.path("hung")) else { return };
    let config = format!("{}[command]\ncommand = [\"hung/program\"]\n", source("app", ""));
    t.write("reloader.toml", config);
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    host.wait_for_log("all required values available; starting the command");
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
}
