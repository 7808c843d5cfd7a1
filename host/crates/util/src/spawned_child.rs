//! Child process that is started on one of the threads of [`child_spawning_threads`](crate::child_spawning_threads), and its pipes.

use crate::{
    child_process::Pipes,
    child_spawning_threads::{self, Start},
};
use std::{
    io,
    process::{self, Command, ExitStatus},
};
use tokio::{
    net::unix::pipe::{self, Receiver, Sender},
    runtime::Handle,
    signal::unix::{Signal, SignalKind, signal},
    sync::{SemaphorePermit, oneshot},
};

/// Pipe to the standard input of a child.
pub type ChildStdin = Sender;
/// Pipe from the standard output of a child.
pub type ChildStdout = Receiver;
/// Pipe from the standard error of a child.
pub type ChildStderr = Receiver;

/// Running child process. Dropping it kills the process.
#[derive(Debug)]
pub struct Child {
    /// Pipe to its standard input, if one was requested.
    pub stdin: Option<ChildStdin>,
    /// Pipe from its standard output, if one was requested.
    pub stdout: Option<ChildStdout>,
    /// Pipe from its standard error, if one was requested.
    pub stderr: Option<ChildStderr>,
    /// `None` after a drop.
    process: Option<Process>,
}

#[derive(Debug)]
struct Process {
    child: process::Child,
    status: Option<ExitStatus>,
    /// `SIGCHLD`, which the kernel sends when any child exits.
    child_exited: Signal,
}

impl Child {
    /// Returns the process ID. `None` after [`wait`](Self::wait) has returned the status: the system may then give the ID
    /// to another process.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.process.as_ref().filter(|process| process.status.is_none()).map(|p| p.child.id())
    }

    /// Closes standard input, and waits until the process exits. Cancel-safe. Later calls return the same status.
    ///
    /// # Errors
    ///
    /// The status cannot be read, for example because other code of this program waits for all children.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        drop(self.stdin.take());
        match &mut self.process {
            Some(process) => process.wait().await,
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

impl Process {
    async fn wait(&mut self) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = self.status {
                return Ok(status);
            }
            self.status = self.child.try_wait()?;
            // A signal that arrives before this call is not lost, since the stream is older than the process.
            if self.status.is_none() && self.child_exited.recv().await.is_none() {
                return Err(io::Error::other("the async runtime is shutting down"));
            }
        }
    }
}

impl From<Process> for Child {
    fn from(process: Process) -> Self {
        Self { stdin: None, stdout: None, stderr: None, process: Some(process) }
    }
}

impl Drop for Child {
    /// Kills the process, and reads its status in a task, so that it does not remain as a zombie.
    fn drop(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        if process.status.is_some() || matches!(process.child.try_wait(), Ok(Some(_))) {
            return;
        }
        let _ = process.child.kill();
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move { process.wait().await });
        }
    }
}

/// Starts the command, and holds the permit until the process has started.
pub(crate) async fn start(
    command: Command,
    pipes: Pipes,
    permit: SemaphorePermit<'static>,
) -> io::Result<Child> {
    let child_exited = signal(SignalKind::child())?;
    let mut descriptors = Vec::new();
    let stdin = if pipes.stdin {
        let (sender, receiver) = pipe::pipe()?;
        descriptors.push(receiver.into_blocking_fd()?);
        Some(sender)
    } else {
        None
    };
    let (stdout, stderr) = if pipes.output {
        let (stdout, stderr) = (pipe::pipe()?, pipe::pipe()?);
        descriptors.push(stdout.0.into_blocking_fd()?);
        descriptors.push(stderr.0.into_blocking_fd()?);
        (Some(stdout.1), Some(stderr.1))
    } else {
        (None, None)
    };
    let runtime = Handle::current();
    let (sender, receiver) = oneshot::channel();
    let complete = Box::new(move |started: io::Result<process::Child>| {
        let _permit = permit;
        // A child that the caller does not receive is dropped in this context.
        let _context = runtime.enter();
        let _ =
            sender.send(started.map(|child| Process { child, status: None, child_exited }.into()));
    });
    child_spawning_threads::run(Start { command, pipes, complete }, &descriptors)?;
    // The child has the only open ends.
    drop(descriptors);
    let started: Result<io::Result<Child>, _> = receiver.await;
    let mut child =
        started.unwrap_or_else(|_| Err(io::Error::other("the start has been abandoned")))?;
    (child.stdin, child.stdout, child.stderr) = (stdin, stdout, stderr);
    Ok(child)
}
