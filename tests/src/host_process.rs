//! Starts the program `host` in a temporary directory, and waits for its output and files.

use crate::{
    paths::{cache_home, program},
    requirements::skip,
    wait::{WAIT_TIMEOUT, wait_until_or},
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::{
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// Maximum time from a stop request to the end of the host.
const MAX_STOP_TIME: Duration = Duration::from_secs(5);

/// Temporary directory in which a test runs host processes.
pub struct TestHost {
    directory: TempDir,
}

impl Default for TestHost {
    fn default() -> Self {
        Self::new()
    }
}

impl TestHost {
    /// Creates an empty temporary directory for host processes.
    #[must_use]
    pub fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    /// Returns the path of the directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Returns the path of a file in the directory.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Keeps the directory on disk and returns its path.
    #[must_use]
    pub fn keep(self) -> PathBuf {
        self.directory.keep()
    }

    /// Writes a file in place, like `echo … > name`.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).unwrap();
    }

    /// Replaces a file atomically, by renaming a new file over it.
    pub fn replace(&self, name: &str, content: impl AsRef<[u8]>) {
        let new = self.path(&format!("{name}.new"));
        fs::write(&new, content).unwrap();
        fs::rename(new, self.path(name)).unwrap();
    }

    /// Waits until a file has this content. Reads the file without a lock, as other programs do.
    pub fn wait_for_file(&self, name: &str, content: &str) {
        let path = self.path(name);
        let read = || fs::read_to_string(&path);
        let describe = || format!("{content:?} in `{name}`, which has {:?}", read());
        wait_until_or(describe, || read().is_ok_and(|now| now == content));
    }

    /// Returns the command that starts the host in the directory, with pipes for stdout and stderr.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.command_for(program());
        // Hints in error messages name the program as `argv[0]` does.
        command.arg0("host").args(arguments);
        command
    }

    fn command_for(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.directory.path())
            .env("XDG_CACHE_HOME", cache_home())
            .env("XDG_STATE_HOME", self.directory.path().join("xdg-state"))
            .env_remove("STATE_DIRECTORY")
            .env_remove("RUST_LOG")
            // Many containers set this variable. Error messages must not contain a backtrace nevertheless.
            .env("RUST_BACKTRACE", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs the host and waits for its exit.
    #[must_use]
    pub fn finish(&self, arguments: &[&str]) -> Finished {
        Self::finish_command(self.command(arguments))
    }

    /// Like [`finish`](Self::finish), with an environment variable.
    #[must_use]
    pub fn finish_with(&self, name: &str, value: &str, arguments: &[&str]) -> Finished {
        let mut command = self.command(arguments);
        command.env(name, value);
        Self::finish_command(command)
    }

    fn finish_command(mut command: Command) -> Finished {
        let mut running = Running::new(command.spawn().unwrap());
        let status = running.wait();
        let mut stdout = Vec::new();
        while let Ok(line) = running.lines.recv() {
            stdout.extend(line);
        }
        Finished {
            status: status.code(),
            stdout,
            stderr: running.stderr(),
            cpu_time: running.cpu_time,
        }
    }

    /// Like [`finish`](Self::finish), with another `/etc/hosts`. Returns `None` and [skips](skip) the
    /// test if this process may not create a mount namespace.
    ///
    /// # Panics
    ///
    /// If this process may not create a mount namespace and `REQUIRE_SERVERS=1` is set.
    #[must_use]
    pub fn finish_with_hosts(&self, hosts: &str, arguments: &[&str]) -> Option<Finished> {
        let mut unshare = Command::new("unshare");
        let may = unshare.args(["--mount", "true"]).stderr(Stdio::null()).status();
        if !may.is_ok_and(|status| status.success()) {
            skip("not permitted to create a mount namespace");
            return None;
        }
        self.write("hosts", hosts);
        let script = "mount --bind hosts /etc/hosts && exec \"$0\" \"$@\"";
        let mut command = self.command_for("unshare");
        command.args(["--mount", "sh", "-c", script]).arg(program()).args(arguments);
        Some(Self::finish_command(command))
    }

    /// Starts the host without the privileges of root, with an empty cache of compiled plugins.
    #[must_use]
    pub fn run_unprivileged(&self, arguments: &[&str]) -> Running {
        const NOBODY: u32 = 65_534;
        let mut command = self.command(arguments);
        command.env("XDG_CACHE_HOME", self.path("cache"));
        if rustix::process::geteuid().is_root() {
            chown(self.directory(), Some(NOBODY), Some(NOBODY)).unwrap();
            command.uid(NOBODY).gid(NOBODY);
        }
        Running::new(command.spawn().unwrap())
    }

    /// Starts the host with resource limits, given as arguments of the shell's `ulimit`.
    #[must_use]
    pub fn run_with_ulimit(&self, ulimit: &str, arguments: &[&str]) -> Running {
        let mut command = self.command_for("sh");
        command.args(["-c", &format!("ulimit {ulimit} && exec \"$0\" \"$@\"")]);
        Running::new(command.arg(program()).args(arguments).spawn().unwrap())
    }

    /// Runs the host as a user of its own, with this maximum number of processes and threads, and waits for its exit.
    /// Returns `None` and [skips](skip) the test if this process is not root.
    ///
    /// # Panics
    ///
    /// If this process is not root and `REQUIRE_SERVERS=1` is set.
    #[must_use]
    pub fn finish_with_process_limit(&self, limit: u32, arguments: &[&str]) -> Option<Finished> {
        if !rustix::process::geteuid().is_root() {
            skip("not permitted to run a process as another user");
            return None;
        }
        // The limit counts all processes of the user.
        let user = 1_000_000 + std::process::id();
        chown(self.directory(), Some(user), Some(user)).unwrap();
        let mut command = self.command_for("prlimit");
        command.arg(format!("--nproc={limit}")).arg(program()).args(arguments);
        command.env("XDG_CACHE_HOME", self.path("cache")).uid(user).gid(user);
        Some(Self::finish_command(command))
    }

    /// Starts the host.
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> Running {
        Running::new(self.command(arguments).spawn().unwrap())
    }

    /// Starts the host with an environment variable.
    #[must_use]
    pub fn run_with(&self, name: &str, value: &Path, arguments: &[&str]) -> Running {
        self.run_with_all(&[(name, value.to_str().unwrap())], arguments)
    }

    /// Starts the host with several environment variables.
    #[must_use]
    pub fn run_with_all(&self, variables: &[(&str, &str)], arguments: &[&str]) -> Running {
        let mut command = self.command(arguments);
        command.envs(variables.iter().copied());
        Running::new(command.spawn().unwrap())
    }
}

/// Result of a host process that has exited.
#[derive(Debug)]
pub struct Finished {
    /// Exit status; `None` if a signal ended the process.
    pub status: Option<i32>,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error: the log.
    pub stderr: String,
    /// CPU time of the process and of its child processes. Unlike the duration, it does not depend on
    /// the load of the machine.
    pub cpu_time: Duration,
}

impl Finished {
    /// Returns the standard output as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8(self.stdout.clone()).unwrap()
    }

    /// Returns the exit status and standard error. Asserts that standard output is empty, and that
    /// standard error contains neither a panic message nor a backtrace.
    #[must_use]
    pub fn status_and_error(&self) -> (Option<i32>, &str) {
        assert!(self.stdout.is_empty(), "{self:?}");
        assert!(!self.stderr.contains("panicked"), "{self:?}");
        assert!(!self.stderr.to_lowercase().contains("backtrace"), "{self:?}");
        (self.status, self.stderr.trim_end())
    }
}

/// Running host process. It is killed on drop.
pub struct Running {
    child: Child,
    lines: Receiver<Vec<u8>>,
    stderr: Arc<Mutex<String>>,
    stderr_reader: Option<thread::JoinHandle<()>>,
    seen: Vec<String>,
    exit_status: Option<ExitStatus>,
    cpu_time: Duration,
}

impl Running {
    fn new(mut child: Child) -> Self {
        let (sender, lines) = channel();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || {
            let mut line = Vec::new();
            while stdout.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                if sender.send(std::mem::take(&mut line)).is_err() {
                    break;
                }
            }
        });
        let stderr = Arc::new(Mutex::new(String::new()));
        let mut errors = child.stderr.take().unwrap();
        let log = Arc::clone(&stderr);
        let stderr_reader = thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = errors.read(&mut buffer) {
                log.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..length]));
            }
        });
        let stderr_reader = Some(stderr_reader);
        Self {
            child,
            lines,
            stderr,
            stderr_reader,
            seen: Vec::new(),
            exit_status: None,
            cpu_time: Duration::ZERO,
        }
    }

    /// Waits for the next line on stdout and returns it.
    ///
    /// # Panics
    ///
    /// If no line arrives within [`WAIT_TIMEOUT`].
    pub fn line(&mut self) -> String {
        match self.lines.recv_timeout(WAIT_TIMEOUT) {
            Ok(line) => {
                let line = String::from_utf8(line).unwrap().trim_end().to_owned();
                self.seen.push(line.clone());
                line
            }
            Err(RecvTimeoutError::Timeout) => panic!("no line; {}", self.diagnostics()),
            Err(RecvTimeoutError::Disconnected) => panic!("the host ended; {}", self.diagnostics()),
        }
    }

    /// Waits for the next line on stdout and parses it as JSON.
    pub fn event(&mut self) -> Value {
        serde_json::from_str(&self.line()).unwrap()
    }

    /// Waits for a line on stdout with this event and returns it. Skips other lines.
    pub fn wait_for_event(&mut self, event: &str) -> Value {
        loop {
            let line = self.event();
            if line["event"] == event {
                return line;
            }
        }
    }

    /// Waits for a line on stdout that publishes this value and returns it. Skips other lines.
    pub fn wait_for_value(&mut self, content: &str) -> Value {
        loop {
            let line = self.event();
            if line["event"] == "changed" && line["content"] == content {
                return line;
            }
        }
    }

    /// Waits until the log contains a text.
    pub fn wait_for_log(&self, text: &str) {
        let describe = || format!("{text:?} in the log; {}", self.diagnostics());
        wait_until_or(describe, || self.stderr.lock().unwrap().contains(text));
    }

    /// Returns the standard error of the process so far, which is its log.
    #[must_use]
    pub fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    /// Reads the next line on stdout if there is one, without waiting. Returns whether there was one.
    pub fn has_line(&mut self) -> bool {
        match self.lines.try_recv() {
            Ok(line) => {
                self.seen.push(String::from_utf8_lossy(&line).trim_end().to_owned());
                true
            }
            Err(_) => false,
        }
    }

    /// Waits for the end of stdout and returns the lines that have not been read.
    pub fn remaining_lines(&mut self) -> Vec<String> {
        let text = |line: Vec<u8>| String::from_utf8_lossy(&line).trim_end().to_owned();
        self.lines.iter().map(text).collect()
    }

    /// Returns the process ID.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns the peak resident memory of the running process, in MiB.
    ///
    /// # Panics
    ///
    /// If the process is not running.
    #[must_use]
    pub fn peak(&self) -> u64 {
        self.memory_mib("VmHWM:")
    }

    /// Returns the resident memory of the running process, in MiB.
    ///
    /// # Panics
    ///
    /// If the process is not running.
    #[must_use]
    pub fn resident_mib(&self) -> u64 {
        self.memory_mib("VmRSS:")
    }

    fn memory_mib(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        line.trim_end_matches("kB").trim().parse::<u64>().unwrap() / 1024
    }

    /// Returns the process IDs of the child processes.
    ///
    /// # Panics
    ///
    /// If `/proc` is not available.
    #[must_use]
    pub fn children(&self) -> Vec<u32> {
        let parent = format!("PPid:\t{}\n", self.child.id());
        let processes = fs::read_dir("/proc").unwrap();
        let numbers = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        numbers
            .filter(|number| process_status(*number).is_some_and(|s| s.contains(&parent)))
            .collect()
    }

    /// Returns the names of the threads.
    ///
    /// # Panics
    ///
    /// If `/proc` is not available, or the process does not exist.
    #[must_use]
    pub fn thread_names(&self) -> Vec<String> {
        let threads = fs::read_dir(format!("/proc/{}/task", self.id())).unwrap().flatten();
        let names =
            threads.filter_map(|thread| fs::read_to_string(thread.path().join("comm")).ok());
        names.map(|name| name.trim_end().to_owned()).collect()
    }

    /// Sends SIGTERM and waits for the exit.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM)
    }

    /// Sends SIGTERM, and asserts that the host exits in time, whatever hangs.
    ///
    /// # Panics
    ///
    /// If the host runs for more than five seconds after the signal.
    pub fn stop_in_time(&mut self) -> ExitStatus {
        let start = Instant::now();
        let status = self.stop();
        let time = start.elapsed();
        assert!(time < MAX_STOP_TIME, "stopped after {time:?}: {}", self.stderr());
        status
    }

    /// Sends SIGINT and waits for the exit.
    pub fn interrupt(&mut self) -> ExitStatus {
        self.signal(Signal::INT)
    }

    /// Sends SIGKILL and waits for the exit.
    pub fn kill(&mut self) -> ExitStatus {
        self.signal(Signal::KILL)
    }

    /// Sends SIGHUP, which reloads the configuration.
    ///
    /// # Panics
    ///
    /// If the process is not running.
    pub fn hang_up(&self) {
        kill_process(Pid::from_child(&self.child), Signal::HUP).unwrap();
    }

    fn signal(&mut self, signal: Signal) -> ExitStatus {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap();
        self.wait()
    }

    /// Waits for the exit of the process.
    pub fn wait(&mut self) -> ExitStatus {
        if let Some(status) = self.exit_status {
            return status;
        }
        let mut cpu_time = None;
        let describe = || format!("the end of the host; {}", self.diagnostics());
        wait_until_or(describe, || {
            cpu_time = cpu_time_of_zombie(self.child.id());
            cpu_time.is_some()
        });
        self.cpu_time = cpu_time.unwrap();
        let status = self.child.wait().unwrap();
        if let Some(reader) = self.stderr_reader.take() {
            reader.join().unwrap();
        }
        self.exit_status = Some(status);
        status
    }

    fn diagnostics(&self) -> String {
        format!("printed so far: {:#?}\nlogged: {}", self.seen, self.stderr())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the CPU time of a zombie process and of its reaped child processes. Returns `None` if the
/// process is still running.
fn cpu_time_of_zombie(process: u32) -> Option<Duration> {
    /// Duration of a clock tick (`USER_HZ`), which is the same on all supported systems.
    const CLOCK_TICK: Duration = Duration::from_millis(10);
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    // The command name, in parentheses, may contain spaces. The fields after it begin with the state.
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks = || fields[11..15].iter().map(|field| field.parse::<u32>().unwrap()).sum::<u32>();
    (fields[0] == "Z").then(|| CLOCK_TICK * ticks())
}

/// Returns `/proc/PID/status`, or `None` if the process is not running.
#[must_use]
pub fn process_status(process: u32) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    (!status.contains("\nState:\tZ")).then_some(status)
}
