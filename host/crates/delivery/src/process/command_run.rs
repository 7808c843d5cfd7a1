//! One run of a command: input, output, timeout and exit status.

use super::{
    command_settings::CommandSettings,
    output_log::{OutputLimit, OutputStreams},
    private_tempdir::PrivateTempDir,
    process_group::ProcessGroup,
    start_file_access::START_TIMEOUT,
};
use crate::serial_blocking_jobs::POOL;
use bytes::Bytes;
use reloader_fs_watch::access_within;
use reloader_util::child_process::{ChildStdin, Pipes};
use std::{
    env, io,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    time::Duration,
};
use tokio::{
    io::AsyncWriteExt,
    time::{Instant, sleep_until, timeout},
};

/// Input that a command gets: nothing, standard input, or files.
#[derive(Debug, Clone, Default)]
pub enum CommandInput {
    /// Empty standard input.
    #[default]
    Empty,
    /// Content of standard input. A command may leave it unread.
    Stdin(Bytes),
    /// Files in a private directory that is removed after the command.
    ///
    /// The environment variable `RELOADER_DIRECTORY` contains the path of the directory. `RELOADER_FILE`
    /// contains the path of the first file, or `/dev/null` if there are no files; the same path replaces
    /// `{file}` in the words of the command. File names must not contain `/`.
    Files(Vec<(String, Bytes)>),
    /// A file of the caller, as in [`Files`](Self::Files): its path is in `RELOADER_FILE` and replaces `{file}`.
    ExistingFile(PathBuf),
}

/// Reason why the run of a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The command could not be spawned.
    #[error("`{command}` cannot be started: {cause}")]
    Start {
        /// Program of the command.
        command: String,
        /// Error of the operating system.
        cause: io::Error,
    },
    /// The input files could not be written, or waiting for the process failed.
    #[error("`{command}` cannot be run: {cause}")]
    Io {
        /// Program of the command.
        command: String,
        /// Error of the operating system.
        cause: io::Error,
    },
    /// The command exited with a status other than 0, or was killed by a signal.
    #[error("`{command}` failed with {}{}", describe_status(*status), suffix(last_lines))]
    Failed {
        /// Program of the command.
        command: String,
        /// Exit status.
        status: ExitStatus,
        /// Last lines of the command's output.
        last_lines: String,
    },
    /// The command exceeded its timeout and was stopped.
    #[error("`{command}` timed out after {} (`timeout`){}",
        humantime::format_duration(*after), suffix(last_lines))]
    TimedOut {
        /// Program of the command.
        command: String,
        /// Timeout that the command exceeded.
        after: Duration,
        /// Last lines of the command's output.
        last_lines: String,
    },
}

/// Maximum time to read the remaining output of an exited command. Descendants of the command may
/// keep its output open.
const OUTPUT_DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
/// Time limit for writing the input files of a command.
const FILE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time without output after which the remaining output counts as read.
const OUTPUT_QUIET_PERIOD: Duration = Duration::from_millis(50);

impl CommandError {
    /// Returns whether the command rejected its input: it exited with a status other than 0, and was not killed.
    #[must_use]
    pub fn is_rejection(&self) -> bool {
        match self {
            Self::Failed { status, .. } => status.code().is_some(),
            Self::Start { .. } | Self::Io { .. } | Self::TimedOut { .. } => false,
        }
    }
}

fn describe_status(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "no status".into(),
    }
}

/// Returns the last lines as the end of an error message.
fn suffix(last_lines: &str) -> String {
    if last_lines.is_empty() { String::new() } else { format!(": {last_lines}") }
}

impl CommandSettings {
    /// Returns the maximum duration of a run, with the preparation, the grace period and the final read of the output.
    #[must_use]
    pub fn max_duration(&self) -> Duration {
        FILE_TIMEOUT + START_TIMEOUT + self.timeout.0 + self.kill_after.0 + OUTPUT_DRAIN_TIMEOUT
    }

    /// Runs the command. Its output is logged with `label`. `limit` is the rate limit of the logged lines, which all
    /// runs of the command share.
    ///
    /// Dropping the future kills the process group of the command. Background processes that still run when
    /// the command exits are not killed. If the host dies, the command gets
    /// [`kill_signal`](Self::kill_signal) (on Linux).
    ///
    /// # Errors
    ///
    /// Returns an error if the command cannot be spawned, does not exit with status 0, or exceeds its
    /// timeout.
    pub async fn run(
        &self,
        label: &str,
        limit: &OutputLimit,
        input: CommandInput,
        env: &[(&str, String)],
    ) -> Result<(), CommandError> {
        let name = || self.command.to_string();
        let io = |cause| CommandError::Io { command: name(), cause };
        let mut existing = None;
        let (files, input) = match input {
            CommandInput::Empty => (None, None),
            CommandInput::Stdin(content) => (None, Some(content)),
            CommandInput::ExistingFile(path) => {
                existing = Some(path);
                (None, None)
            }
            CommandInput::Files(files) => {
                let parent = env::temp_dir();
                let writing = access_within(&parent, FILE_TIMEOUT, move || {
                    let directory = PrivateTempDir::new(&files)?;
                    let first = files.first().map(|(name, _)| directory.file(name));
                    Ok((first.unwrap_or_else(|| "/dev/null".into()), directory))
                });
                let written = writing.await.unwrap_or_else(|error| Err(error.into()));
                (Some(written.map_err(io)?), None)
            }
        };
        let file = files.as_ref().map(|(first, _)| first).or(existing.as_ref());
        let file = file.map(|path| path.display().to_string());
        let mut command = self.command.to_command(|word| match &file {
            Some(file) => word.replace("{file}", file),
            None => word.to_owned(),
        });
        if let Some(file) = &file {
            command.env("RELOADER_FILE", file);
        }
        if let Some((_, directory)) = &files {
            command.env("RELOADER_DIRECTORY", directory.path());
        }
        command
            .envs(env.iter().map(|(name, value)| (name, value)))
            .envs(&self.env)
            .stdin(Stdio::null());
        let pipes = Pipes { stdin: input.is_some(), output: true };
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        let group = ProcessGroup::spawn(command, pipes, self.kill_signal)
            .await
            .map_err(|cause| CommandError::Start { command: name(), cause })?;
        let ended = self.wait(label, limit, group, input).await;
        // Removes the input files on a pool thread, because the removal may block.
        drop(POOL.spawn(move || drop(files)));
        match ended.map_err(io)? {
            (Some(status), _) if status.success() => Ok(()),
            (Some(status), last_lines) => {
                Err(CommandError::Failed { command: name(), status, last_lines })
            }
            (None, last_lines) => {
                Err(CommandError::TimedOut { command: name(), after: self.timeout.0, last_lines })
            }
        }
    }

    /// Writes the input, reads the output, and waits for the end of the command.
    ///
    /// Returns the exit status (`None` after a timeout) and the last lines of the output.
    async fn wait(
        &self,
        label: &str,
        limit: &OutputLimit,
        mut group: ProcessGroup,
        input: Option<Bytes>,
    ) -> io::Result<(Option<ExitStatus>, String)> {
        let deadline = Instant::now() + self.timeout.0;
        let mut streams = OutputStreams::new(label, limit, group.child());
        let mut writing = std::pin::pin!(write_input(group.child().stdin.take(), input));
        let mut written = false;
        let status = loop {
            tokio::select! {
                () = &mut writing, if !written => written = true,
                () = streams.read(), if streams.is_open() => {}
                status = group.wait() => break Some(status?),
                () = sleep_until(deadline) => break None,
            }
        };
        if status.is_some() {
            group.release();
        } else {
            let mut stopping = std::pin::pin!(group.stop(self.kill_signal, self.kill_after.0));
            loop {
                tokio::select! {
                    // Reads on, because a command that blocks on a full pipe could not exit.
                    () = streams.read(), if streams.is_open() => {}
                    stopped = &mut stopping => { stopped?; break }
                }
            }
        }
        // Reads the output that is already in the pipes, with a timeout because descendants may keep writing.
        let drain = async {
            while streams.is_open() && timeout(OUTPUT_QUIET_PERIOD, streams.read()).await.is_ok() {}
        };
        let _ = timeout(OUTPUT_DRAIN_TIMEOUT, drain).await;
        Ok((status, streams.finish()))
    }
}

/// Writes the input and closes the pipe. A command that closes its standard input early causes no
/// error.
async fn write_input(stdin: Option<ChildStdin>, input: Option<Bytes>) {
    if let (Some(mut stdin), Some(input)) = (stdin, input) {
        let _ = stdin.write_all(&input).await;
        let _ = stdin.shutdown().await;
    }
}
