//! Sink that sends a signal to the process in a PID file. The host has not started this process.

use crate::{
    delivery_values::Update,
    process::signal_name::Signal,
    serial_blocking_jobs::{BlockingJobs, BlockingOperation},
    sink::{Delivered, Sink, SinkError},
};
use async_trait::async_trait;
use reloader_fs_watch::open;
use rustix::process::{Pid, kill_process};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
};

/// Settings of a signal that is sent for each change to the process in a PID file.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SignalSettings {
    /// Path of the PID file of the process. (For a program that the host starts, use `[command]`.)
    pub pid_file: PathBuf,
    /// Signal to send. Default: `SIGHUP`.
    #[serde(default = "hup")]
    pub signal: Signal,
    /// Name of the process, as `ps -o comm` shows it. A process with another name that has reused
    /// the PID is not signalled. Default: the name is not checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process_name: Option<String>,
}

fn hup() -> Signal {
    Signal::HUP
}

impl SignalSettings {
    /// Returns the default settings for the process in this PID file.
    pub fn new(pid_file: impl Into<PathBuf>) -> Self {
        Self { pid_file: pid_file.into(), signal: hup(), process_name: None }
    }
}

/// Sink that sends a signal to a process for each change.
#[derive(Debug)]
pub struct SignalSink {
    settings: SignalSettings,
    jobs: BlockingJobs,
}

/// Maximum number of bytes read from a PID file.
const MAX_PID_FILE_BYTES: u64 = 64;
/// Maximum length of a process name in the Linux kernel, in bytes.
const MAX_PROCESS_NAME_BYTES: usize = 15;

impl SignalSink {
    /// Returns a sink with these settings.
    #[must_use]
    pub fn new(settings: SignalSettings) -> Self {
        Self { settings, jobs: BlockingJobs::default() }
    }
}

impl SignalSettings {
    fn send(&self) -> Result<(), String> {
        let path = self.pid_file.display();
        let invalid = |reason| format!("PID file `{path}`: {reason}");
        let pid = read_pid(&self.pid_file).map_err(invalid)?;
        let process = Pid::from_raw(pid).ok_or_else(|| invalid("no process ID".into()))?;
        let not_running = || format!("process {pid} from `{path}` is not running");
        if let Some(expected) = &self.process_name {
            let name = fs::read_to_string(format!("/proc/{pid}/comm"));
            let name = name.map_err(|_| not_running())?;
            let truncated = &expected[..expected.floor_char_boundary(MAX_PROCESS_NAME_BYTES)];
            if name.trim_end() != truncated {
                let name = reloader_util::sanitize::sanitize(name.trim_end());
                return Err(format!("process {pid} from `{path}` is `{name}`, not `{expected}`"));
            }
        }
        let signal = self.signal;
        kill_process(process, signal.raw()).map_err(|error| match error {
            rustix::io::Errno::SRCH => not_running(),
            error => format!("cannot send {signal} to process {pid} from `{path}`: {error}"),
        })
    }
}

/// Reads a process ID. Rejects process 1, process groups (0 and negative numbers) and the host
/// itself.
fn read_pid(path: &Path) -> Result<i32, String> {
    let failed = |error: std::io::Error| error.to_string();
    let file = open(path).map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err("not a regular file".into());
    }
    let mut text = String::new();
    file.take(MAX_PID_FILE_BYTES).read_to_string(&mut text).map_err(failed)?;
    // Some programs write further lines after the PID.
    let line = text.lines().next().unwrap_or_default().trim();
    let digits = !line.is_empty() && line.bytes().all(|byte| byte.is_ascii_digit());
    match line.parse::<i32>() {
        Ok(number) if digits && u32::try_from(number) == Ok(std::process::id()) => {
            Err("it contains the process ID of the host itself".into())
        }
        Ok(number) if digits && number > 1 => Ok(number),
        _ => Err("the first line is not a process ID".into()),
    }
}

#[async_trait]
impl Sink for SignalSink {
    async fn deliver(&self, _: &Update) -> Result<Delivered, SinkError> {
        let settings = self.settings.clone();
        let reading = BlockingOperation::on_file("reading", &self.settings.pid_file);
        let sending = self.jobs.run(reading, move |()| settings.send()).await;
        let sent = sending.unwrap_or_else(|error| Err(error.to_string()));
        // Every failure is retried. A missing process may be starting, and may have read the old value before, so that
        // it needs the signal.
        sent.map(|()| Delivered::Changed).map_err(SinkError::transient)
    }

    fn blocking_operation(&self) -> Option<BlockingOperation> {
        self.jobs.operation()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pid_file_accepts_only_another_process() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pid");
        let own = std::process::id().to_string();
        for (text, expected) in [
            ("123", Some(123)),
            (" 123 \nmore", Some(123)),
            ("", None),
            ("0", None),
            ("1", None),
            ("-1", None),
            ("+5", None),
            ("12x", None),
            ("99999999999", None),
            (&own, None),
        ] {
            fs::write(&path, text).unwrap();
            assert_eq!(read_pid(&path).ok(), expected, "{text:?}");
        }
        assert!(read_pid(directory.path()).is_err_and(|reason| reason == "not a regular file"));
    }
}
