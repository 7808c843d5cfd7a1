//! Signals to programs that somebody else has started.

use super::{Delivered, Sink, SinkError, Update};
use crate::process::Signal;
use async_trait::async_trait;
use rustix::process::{Pid, kill_process};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

/// A signal for each change, to the process whose number is in a file.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SignalSettings {
    /// The file that has the number of the process, as programs write it for this. (For a program that
    /// the host starts itself, see `[command]`.)
    pub pid_file: PathBuf,
    /// What is sent. Default: `SIGHUP`.
    #[serde(default = "hup")]
    pub signal: Signal,
    /// The name of the program, as `ps -o comm` shows it: another one that has got the number since is
    /// let be. Default: whichever has the number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process_name: Option<String>,
}

fn hup() -> Signal {
    Signal::HUP
}

impl SignalSettings {
    /// The process whose number is in this file, with all else as it is by default.
    pub fn new(pid_file: impl Into<PathBuf>) -> Self {
        Self { pid_file: pid_file.into(), signal: hup(), process_name: None }
    }
}

/// Sends a signal for each change.
#[derive(Debug)]
pub struct SignalTo {
    settings: SignalSettings,
}

/// A number is not longer than this, in bytes.
const NUMBER_MAX: u64 = 64;

impl SignalTo {
    /// With these settings.
    #[must_use]
    pub fn new(settings: SignalSettings) -> Self {
        Self { settings }
    }
}

impl SignalSettings {
    fn send(&self) -> Result<(), String> {
        let path = self.pid_file.display();
        let number = number_in(&self.pid_file).map_err(|why| format!("`{path}` {why}"))?;
        let process = Pid::from_raw(number).ok_or_else(|| format!("`{path}` has no number"))?;
        if let Some(expected) = &self.process_name {
            let name = fs::read_to_string(format!("/proc/{number}/comm"));
            let name = name.map_err(|_| format!("process {number} of `{path}` does not run"))?;
            // The system keeps so much of a name.
            let kept = &expected[..expected.floor_char_boundary(15)];
            if name.trim_end() != kept {
                let name = reloader_util::sanitize::sanitize(name.trim_end());
                return Err(format!("process {number} of `{path}` is `{name}`, not `{expected}`"));
            }
        }
        let signal = self.signal;
        kill_process(process, signal.raw()).map_err(|error| match error {
            rustix::io::Errno::SRCH => format!("process {number} of `{path}` does not run"),
            error => format!("process {number} of `{path}` cannot be sent {signal}: {error}"),
        })
    }
}

/// The number of a process that may be meant: not the first one, nor all of them, nor this one.
fn number_in(path: &Path) -> Result<i32, String> {
    let failed = |error: std::io::Error| format!("cannot be read: {error}");
    // Opening a pipe would wait for who writes to it.
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err("is not a file".into());
    }
    let mut text = String::new();
    File::open(path).map_err(failed)?.take(NUMBER_MAX).read_to_string(&mut text).map_err(failed)?;
    // Some programs write more below it.
    let line = text.lines().next().unwrap_or_default().trim();
    let digits = !line.is_empty() && line.bytes().all(|byte| byte.is_ascii_digit());
    match line.parse::<i32>() {
        Ok(number) if digits && u32::try_from(number) == Ok(std::process::id()) => {
            Err("has the number of this very process".into())
        }
        Ok(number) if digits && number > 1 => Ok(number),
        _ => Err("does not begin with the number of a process".into()),
    }
}

#[async_trait]
impl Sink for SignalTo {
    async fn deliver(&self, _: &Update) -> Result<Delivered, SinkError> {
        let settings = self.settings.clone();
        let sending = tokio::task::spawn_blocking(move || settings.send()).await;
        let sent = sending.unwrap_or_else(|error| Err(error.to_string()));
        // A program that does not run reads what is new when it starts; but it may be starting just now.
        sent.map(|()| Delivered::Changed).map_err(SinkError::passing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_number_of_one_other_process_is_taken() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("pid");
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
            assert_eq!(number_in(&path).ok(), expected, "{text:?}");
        }
        assert!(number_in(place.path()).is_err_and(|why| why == "is not a file"));
    }
}
