//! Benchmark of `host run`: latency from a change of a file to a line on stdout, compared with a
//! shell loop around `inotifywait`; and the time from the program start to the first value.
#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs, reason = "a benchmark")]

mod support;

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};
use support::{figure, median, replace, report, scratch, wait_for};

struct Process {
    child: Child,
    lines: Receiver<(Instant, String)>,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start(
    mut command: Command,
    value: impl Fn(String) -> Option<String> + Send + 'static,
) -> Process {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let stdout = child.stdout.take().unwrap();
    let (sender, lines) = channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let at = Instant::now();
            if let Some(value) = value(line)
                && sender.send((at, value)).is_err()
            {
                return;
            }
        }
    });
    Process { child, lines }
}

fn host(directory: &Path) -> Process {
    let mut command = Command::new(e2e::program());
    command
        .args(["run", "--plugin", "file", "--set", "path=value", "--format", "raw"])
        .current_dir(directory);
    start(command, Some)
}

fn shell_loop(directory: &Path) -> Process {
    let mut command = Command::new("sh");
    let script = "cat value; echo; \
        inotifywait -q -m -e close_write,moved_to --format %f . | \
        while read -r name; do if [ \"$name\" = value ]; then cat value; echo; fi; done";
    command.args(["-c", script]).current_dir(directory);
    start(command, |line| (!line.is_empty()).then_some(line))
}

fn main() {
    first_value();
    if !e2e::have("inotifywait") {
        return;
    }
    let (_keep, directory) = scratch();
    let mut contenders = Vec::new();
    for (name, start) in
        [("host run", host as fn(&Path) -> Process), ("inotifywait loop", shell_loop)]
    {
        let directory = directory.join(name);
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("value"), "first").unwrap();
        let process = start(&directory);
        wait_for(&process.lines, "first");
        contenders.push((name, directory.join("value"), process));
    }
    // The shell loop prints the first value before it watches the file.
    thread::sleep(Duration::from_secs(1));
    let mut times = vec![Vec::new(); contenders.len()];
    for number in 0..300 {
        for ((_, path, process), times) in contenders.iter().zip(&mut times) {
            let value = number.to_string();
            let before = replace(path, &value);
            times.push(wait_for(&process.lines, &value).saturating_duration_since(before));
            thread::sleep(Duration::from_millis(2));
        }
    }
    let figures: Vec<_> = contenders
        .iter()
        .zip(times)
        .map(|((name, ..), times)| figure(name, median(times)))
        .collect();
    report("rename of a file to line on stdout, median", "ms", &figures);
}

/// Measures the time from the program start to the first line, with a compiled plugin in the cache.
fn first_value() {
    let (_keep, directory) = scratch();
    fs::write(directory.join("value"), "first").unwrap();
    let times: Vec<Duration> = (0..20)
        .map(|_| {
            let before = Instant::now();
            let process = host(&directory);
            wait_for(&process.lines, "first").saturating_duration_since(before)
        })
        .collect();
    report(
        "start of the program to its first value, median",
        "ms",
        &[figure("host run", median(times))],
    );
}
