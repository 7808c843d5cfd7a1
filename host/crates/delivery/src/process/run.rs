//! One run of a command: what it is given, what it says, and how it ends.

use super::{CommandLine, CommandSettings, group::Group, output::Streams, private_tempdir::Staged};
use bytes::Bytes;
use std::{
    io,
    process::{ExitStatus, Stdio},
    time::Duration,
};
use tokio::{
    io::AsyncWriteExt,
    process::ChildStdin,
    time::{Instant, sleep_until, timeout},
};

/// How a command gets what it is run for.
#[derive(Debug, Clone, Default)]
pub enum Given {
    /// Not at all: its standard input is empty.
    #[default]
    Nothing,
    /// On its standard input. A command need not read it.
    Stdin(Bytes),
    /// As files in a private directory, which is removed when the command has ended. The directory's path
    /// is in `RELOADER_DIRECTORY`; the path of the first file in `RELOADER_FILE`, and where a word of the
    /// command has `{file}`. Without any file, that is `/dev/null`. Names are without `/`.
    Files(Vec<(String, Bytes)>),
}

/// A command has not done what it was run for.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It could not be started.
    #[error("`{command}` cannot be started: {cause}")]
    Start {
        /// The program.
        command: String,
        /// Why.
        cause: io::Error,
    },
    /// What it is given could not be written to a file, or the system did not say how it ended.
    #[error("`{command}` cannot be run: {cause}")]
    Io {
        /// The program.
        command: String,
        /// Why.
        cause: io::Error,
    },
    /// It has ended, and not well.
    #[error("`{command}` failed with {}{}", ended(*status), said(last_words))]
    Failed {
        /// The program.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// The last lines of its output.
        last_words: String,
    },
    /// It took too long, and was stopped.
    #[error("`{command}` took longer than {} and was stopped (`timeout`){}",
        humantime::format_duration(*after), said(last_words))]
    TimedOut {
        /// The program.
        command: String,
        /// The time that it had.
        after: Duration,
        /// The last lines of its output.
        last_words: String,
    },
}

/// So long a program that has ended may be waited for until its output is read: processes that it has left
/// running may hold it open.
pub(super) const AFTERWARDS: Duration = Duration::from_secs(1);
/// So long nobody has written anything then.
const QUIET: Duration = Duration::from_millis(50);

impl CommandError {
    /// Whether the command itself was run, and has refused what it was given, by its exit status.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Failed { status, .. } => status.code().is_some(),
            Self::Start { .. } | Self::Io { .. } | Self::TimedOut { .. } => false,
        }
    }
}

fn ended(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "no status".into(),
    }
}

fn said(last_words: &str) -> String {
    if last_words.is_empty() { String::new() } else { format!(": {last_words}") }
}

impl CommandSettings {
    /// Runs it. Its output goes into the log, marked with this label; its exit status decides. When this
    /// is dropped, the command is killed with all that it has started. What it has left running when it
    /// ends by itself goes on.
    ///
    /// # Errors
    ///
    /// [`CommandError`] when it cannot be started, does not end with status 0, or not in time.
    pub async fn run(
        &self,
        label: &str,
        given: Given,
        env: &[(&str, String)],
    ) -> Result<(), CommandError> {
        let name = || self.command.to_string();
        let io = |cause| CommandError::Io { command: name(), cause };
        let (staged, input) = match given {
            Given::Nothing => (None, None),
            Given::Stdin(content) => (None, Some(content)),
            Given::Files(files) => {
                let staging = tokio::task::spawn_blocking(move || {
                    let staged = Staged::new(&files)?;
                    // Without any, it is one that has nothing in it.
                    let first = files.first().map(|(name, _)| staged.file(name));
                    Ok((first.unwrap_or_else(|| "/dev/null".into()), staged))
                });
                let staged = staging.await.unwrap_or_else(|error| Err(io::Error::other(error)));
                (Some(staged.map_err(io)?), None)
            }
        };
        let file = staged.as_ref().map(|(first, _)| first.display().to_string());
        let mut command = self.command.to_command(|word| match &file {
            Some(file) => word.replace("{file}", file),
            None => word.to_owned(),
        });
        if let (Some(file), Some((_, staged))) = (&file, &staged) {
            command.env("RELOADER_FILE", file).env("RELOADER_DIRECTORY", staged.directory());
        }
        command
            .envs(env.iter().map(|(name, value)| (name, value)))
            .envs(&self.env)
            .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        let group = Group::start(&mut command)
            .map_err(|cause| CommandError::Start { command: name(), cause })?;
        let ended = self.attend(label, group, input).await;
        // Removing files takes its time, too; and nobody waits for it.
        tokio::task::spawn_blocking(move || drop(staged));
        match ended.map_err(io)? {
            (Some(status), _) if status.success() => Ok(()),
            (Some(status), last_words) => {
                Err(CommandError::Failed { command: name(), status, last_words })
            }
            (None, last_words) => {
                Err(CommandError::TimedOut { command: name(), after: self.timeout.0, last_words })
            }
        }
    }

    /// Until it has ended: its status, if it has ended in time, and what it has said last.
    async fn attend(
        &self,
        label: &str,
        mut group: Group,
        input: Option<Bytes>,
    ) -> io::Result<(Option<ExitStatus>, String)> {
        let deadline = Instant::now() + self.timeout.0;
        let mut streams = Streams::new(label, group.child());
        let mut writing = std::pin::pin!(write(group.child().stdin.take(), input));
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
            group.leave();
        } else {
            let mut stopping = std::pin::pin!(group.stop(self.kill_signal, self.kill_after.0));
            loop {
                tokio::select! {
                    // Otherwise it might wait for that on its way out.
                    () = streams.read(), if streams.is_open() => {}
                    stopped = &mut stopping => { stopped?; break }
                }
            }
        }
        // What is in the pipes already. Whoever it has left running may go on writing for ever.
        let rest =
            async { while streams.is_open() && timeout(QUIET, streams.read()).await.is_ok() {} };
        let _ = timeout(AFTERWARDS, rest).await;
        Ok((status, streams.end()))
    }
}

/// Gives it its input. One that does not want it, or not all of it, is free to do so.
async fn write(stdin: Option<ChildStdin>, input: Option<Bytes>) {
    if let (Some(mut stdin), Some(input)) = (stdin, input) {
        let _ = stdin.write_all(&input).await;
        let _ = stdin.shutdown().await;
    }
}

/// So that `Given` can be made from what is at hand.
impl From<CommandLine> for CommandSettings {
    fn from(command: CommandLine) -> Self {
        Self::new(command)
    }
}
