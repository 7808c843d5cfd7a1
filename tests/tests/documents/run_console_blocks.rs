//! Runs the `console` blocks of a document in an empty directory, as its reader does.
//!
//! - A line `$ COMMAND` is a command. The following lines are its output, standard error included, with the patterns of
//!   [`expected_output`](crate::expected_output).
//! - `host run` without `--once`, `host watch` and `curl -N` run in the background. Their output contains the
//!   following lines. Lines before the first command of a block are later output of a program in the background.
//! - `^C` ends the program that was started last. A new `host run` ends all programs in the background, and so does the
//!   end of the document.
//! - A read-only command whose output differs is repeated until a timeout: the host may need some time, and a person
//!   would repeat the command as well.
//! - `/path/to/reloader-host` is the directory of this repository, and `7878` a free port.

use crate::{
    expected_output::{lines, matches, matches_all},
    markdown::{Block, blocks, read, root},
};
use e2e::WAIT_TIMEOUT;
use rustix::process::{Pid, Signal, kill_process};
use std::{
    collections::BTreeSet,
    env, fs,
    io::Read,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// Commands that may be repeated, because they change nothing.
const READING: [&str; 8] = [
    "cat ",
    "curl ",
    "ls",
    "host status",
    "host get",
    "host history",
    "host check",
    "host inspect",
];
/// Commands that run until they are interrupted.
const ENDLESS: [&str; 3] = ["host run ", "host watch ", "curl -N "];

/// Runs a document of `docs/` from its first block to its last one.
pub(crate) fn run_document(name: &str) {
    let path = Path::new("docs").join(name);
    let mut session = Session::new(name);
    let mut commands = 0;
    for block in blocks(&read(&path)) {
        session.place = format!("{}:{}", path.display(), block.line);
        if block.language == "console" {
            commands += session.run_block(&block);
        } else if let Some(file) = block.file_name() {
            session.write(file, &block.text);
        }
    }
    assert!(commands > 0, "{name} shows no command");
}

/// Shell session in an empty directory.
struct Session {
    directory: TempDir,
    working_directory: PathBuf,
    port: String,
    running: Vec<Background>,
    /// Document and line of the present block, for messages.
    place: String,
}

impl Session {
    fn new(place: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let working_directory = directory.path().join("work");
        fs::create_dir(&working_directory).unwrap();
        fs::create_dir(directory.path().join("bin")).unwrap();
        std::os::unix::fs::symlink(e2e::program(), directory.path().join("bin/host")).unwrap();
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let (port, running) = (port.to_string(), Vec::new());
        Self { directory, working_directory, port, running, place: place.into() }
    }

    /// Replaces the repository path and the port in the text by those of this test.
    fn adapt(&self, text: &str) -> String {
        let root = root().display().to_string();
        text.replace("/path/to/reloader-host", &root).replace("7878", &self.port)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.working_directory.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, self.adapt(text)).unwrap();
    }

    /// Runs the commands of a block and returns their number.
    fn run_block(&mut self, block: &Block) -> usize {
        let text = self.adapt(&block.text);
        let mut parts = text.split("\n$ ").map(str::trim_end);
        let first = parts.next().unwrap_or_default();
        match first.strip_prefix("$ ") {
            Some(command) => self.run(command),
            None => self.expect(first),
        }
        1 + parts.map(|part| self.run(part)).count()
    }

    /// Runs a command, and compares its output with the lines after it.
    fn run(&mut self, part: &str) {
        let part = part.replace("\\\n", " ");
        let (command, mut expected) = part.split_once('\n').unwrap_or((&part, ""));
        let interrupt = expected.strip_suffix("^C").map(str::trim_end);
        expected = interrupt.unwrap_or(expected);
        if let Some(folder) = command.strip_prefix("cd ") {
            self.working_directory.push(folder);
        } else if ENDLESS.iter().any(|name| command.starts_with(name))
            && !command.contains("--once")
        {
            if command.starts_with("host run ") {
                self.running.clear();
            }
            let child = self.shell(&format!("exec {command}")).spawn().unwrap();
            self.running.push(Background::new(child));
            self.expect(expected);
        } else {
            self.finish(command, expected);
        }
        if interrupt.is_some() {
            self.running.pop().unwrap().stop();
        }
    }

    /// Runs a command to its end.
    fn finish(&self, command: &str, expected: &str) {
        if command.starts_with("curl ") && !e2e::have("curl") {
            return;
        }
        let start = Instant::now();
        loop {
            let output = self.shell(command).output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let fits = matches_all(&lines(expected), &lines(&text));
            if fits || expected.is_empty() && output.status.success() {
                return;
            }
            let may_repeat = READING.iter().any(|name| command.starts_with(name));
            if !may_repeat || start.elapsed() > WAIT_TIMEOUT {
                panic!(
                    "{}: $ {command}\n{text}\n{}, expected:\n{expected}\n{}",
                    self.place,
                    output.status,
                    self.running.iter().map(Background::output).collect::<Vec<_>>().join("\n")
                );
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits for lines in the output of the programs in the background.
    fn expect(&mut self, expected: &str) {
        let start = Instant::now();
        for wanted in lines(expected).iter().filter(|line| *line != "…") {
            while !self.running.iter_mut().any(|program| program.take(wanted)) {
                let outputs: Vec<_> = self.running.iter().map(Background::output).collect();
                let is_late = start.elapsed() > WAIT_TIMEOUT;
                assert!(!is_late, "{}: no `{wanted}` in {}", self.place, outputs.join("\n"));
                thread::sleep(Duration::from_millis(10));
            }
        }
    }

    /// Returns a shell that runs the command, with standard error redirected to standard output.
    fn shell(&self, command: &str) -> Command {
        if command.contains("cargo ") {
            self.prepare_cargo();
        }
        let path = env::var("PATH").unwrap();
        let mut shell = Command::new("sh");
        shell
            .args(["-c", &format!("exec 2>&1; {command}")])
            .current_dir(&self.working_directory)
            .env("PATH", format!("{}:{path}", self.directory.path().join("bin").display()))
            .env("XDG_CACHE_HOME", e2e::plugin_cache().parent().unwrap())
            .env("XDG_STATE_HOME", self.directory.path().join("state"))
            .env("CARGO_TERM_COLOR", "never")
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        for (name, _) in env::vars_os() {
            let text = name.to_string_lossy();
            let is_cargo = text.starts_with("CARGO") && text != "CARGO_HOME";
            if is_cargo && text != "CARGO_TERM_COLOR" || text == "RUSTFLAGS" || text == "RUST_LOG" {
                shell.env_remove(&name);
            }
        }
        shell
    }

    /// Lets cargo reuse the dependencies that were built for the bundled plugins: copies the lock file of the bundled
    /// plugins into a new package, and links its target directory to theirs.
    fn prepare_cargo(&self) {
        let lock = self.working_directory.join("Cargo.lock");
        if self.working_directory.join("Cargo.toml").exists() && !lock.exists() {
            fs::copy(root().join("plugins/Cargo.lock"), lock).unwrap();
            let target = e2e::program().ancestors().nth(2).unwrap().join("guests");
            fs::create_dir_all(&target).unwrap();
            std::os::unix::fs::symlink(target, self.working_directory.join("target")).unwrap();
        }
    }
}

/// Program in the background. It is stopped on drop.
struct Background {
    child: Child,
    output: Arc<Mutex<Vec<u8>>>,
    /// Indices of the output lines that have already matched an expected line.
    taken: BTreeSet<usize>,
}

impl Background {
    fn new(mut child: Child) -> Self {
        let output = Arc::new(Mutex::new(Vec::new()));
        let mut stdout = child.stdout.take().unwrap();
        let written = Arc::clone(&output);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = stdout.read(&mut buffer) {
                written.lock().unwrap().extend_from_slice(&buffer[..length]);
            }
        });
        Self { child, output, taken: BTreeSet::new() }
    }

    fn output(&self) -> String {
        String::from_utf8_lossy(&self.output.lock().unwrap()).into_owned()
    }

    /// Marks the first new output line that matches `expected`. Returns whether there is such a line.
    fn take(&mut self, expected: &str) -> bool {
        let output = self.output();
        let lines = lines(&output);
        let mut fresh = (0..lines.len()).filter(|index| !self.taken.contains(index));
        let found = fresh.find(|index| matches(expected, &lines[*index]));
        found.is_some_and(|index| self.taken.insert(index))
    }

    /// Stops the program by SIGTERM. SIGINT may have no effect: a shell without job control starts background programs
    /// with SIGINT ignored.
    fn stop(&mut self) {
        let start = Instant::now();
        if let Ok(None) = self.child.try_wait() {
            let id = Pid::from_raw(self.child.id().cast_signed()).unwrap();
            kill_process(id, Signal::TERM).unwrap();
        }
        while let Ok(None) = self.child.try_wait() {
            if start.elapsed() > WAIT_TIMEOUT {
                self.child.kill().unwrap();
                self.child.wait().unwrap();
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.stop();
    }
}
