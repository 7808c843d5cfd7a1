//! Start, restart and kill of the host under test.

use crate::host_log::HostLog;
use e2e::TestHost;
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs,
    path::Path,
    process::{Child, ExitStatus, Stdio},
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// Timeout for the exit of a process after SIGTERM.
const STOP_TIMEOUT: Duration = Duration::from_secs(40);

/// Running process of the host. It is killed on drop.
pub(crate) struct Host {
    child: Child,
    log_reader: Option<JoinHandle<()>>,
}

impl Host {
    pub(crate) fn start(t: &TestHost, log: &Arc<HostLog>) -> Self {
        log.forget_process();
        let mut command = t.command(&[
            "run",
            "--config",
            "reloader.toml",
            "--listen",
            "127.0.0.1:0",
            "--log-format",
            "json",
        ]);
        let mut child = command.stdout(Stdio::null()).spawn().expect("the host can be started");
        let stderr = child.stderr.take().expect("stderr is a pipe");
        let log = Arc::clone(log);
        let log_reader = Some(thread::spawn(move || log.read(stderr)));
        Self { child, log_reader }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        // An error means that the process has exited. `exit_status` reports that.
        let _ = kill_process(Pid::from_child(&self.child), signal);
    }

    /// Returns the exit status if the process has exited.
    pub(crate) fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Stops the process by SIGTERM.
    ///
    /// # Errors
    ///
    /// If the process does not exit in time, or exits with another status than 0.
    pub(crate) fn stop(mut self) -> Result<Duration, String> {
        let start = Instant::now();
        self.signal(Signal::TERM);
        let status = loop {
            if let Some(status) = self.exit_status() {
                break status;
            }
            if start.elapsed() > STOP_TIMEOUT {
                return Err(format!("no exit within {STOP_TIMEOUT:?} after SIGTERM"));
            }
            thread::sleep(Duration::from_millis(10));
        };
        if let Some(reader) = self.log_reader.take() {
            let _ = reader.join();
        }
        if status.success() {
            Ok(start.elapsed())
        } else {
            Err(format!("exit after SIGTERM: {status}"))
        }
    }

    /// Kills the process, and its `[command]`. On Linux, the `[command]` ends with the host. On other systems it
    /// survives the SIGKILL of the host.
    pub(crate) fn kill(mut self, directory: &Path) {
        self.end();
        let pid = fs::read_to_string(directory.join("consumer.pid")).unwrap_or_default();
        if let Some(pid) = pid.trim().parse().ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // The reader is not joined: children of the killed host may hold the pipe.
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.end();
    }
}
