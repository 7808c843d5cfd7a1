//! Child process that is started on one of the threads of [`child_spawning_threads`](crate::child_spawning_threads), and its pipes.

use crate::{
    child_spawning_threads::{self, Start},
    piped_streams::Pipes,
};
use rustix::process::{Pid, Signal, kill_process_group};
use std::{
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    process::{self, Command, ExitStatus},
};
use tokio::{
    net::unix::pipe::{self, Receiver, Sender},
    runtime::Handle,
    signal::unix::{self, SignalKind, signal},
    sync::oneshot,
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
    child_exited: unix::Signal,
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

impl Drop for Child {
    /// Kills the process, and reads its status in a task, so that it does not remain as a zombie.
    fn drop(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        if process.status.is_some() || matches!(process.child.try_wait(), Ok(Some(_))) {
            return;
        }
        // Also kills what the process has started, if it leads a group of its own. The ID is not reused before the status
        // is read.
        if let Some(id) = i32::try_from(process.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(id, Signal::KILL);
        }
        let _ = process.child.kill();
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move { process.wait().await });
        }
    }
}

/// Starts the command. `release` is dropped when the start has returned, even if the caller has given up earlier. `id_pipe`
/// is the pipe to which the child writes its process ID.
pub(crate) async fn start(
    command: Command,
    pipes: Pipes,
    id_pipe: OwnedFd,
    release: impl Send + 'static,
) -> io::Result<Child> {
    let child_exited = signal(SignalKind::child())?;
    let mut descriptors = Vec::new();
    let (mut stdin, mut stdout, mut stderr) = (None, None, None);
    if pipes.stdin {
        let (sender, receiver) = pipe::pipe()?;
        descriptors.push(receiver.into_blocking_fd()?);
        stdin = Some(sender);
    } else if !pipes.output {
        descriptors.push(duplicate(io::stdin().as_fd())?);
    }
    let has_stdin = !descriptors.is_empty();
    if pipes.output {
        for stream in [&mut stdout, &mut stderr] {
            let (sender, receiver) = pipe::pipe()?;
            descriptors.push(sender.into_blocking_fd()?);
            *stream = Some(receiver);
        }
    } else {
        descriptors.push(duplicate(io::stdout().as_fd())?);
        descriptors.push(duplicate(io::stderr().as_fd())?);
    }
    descriptors.push(id_pipe);
    let runtime = Handle::current();
    let (sender, receiver) = oneshot::channel();
    let complete = Box::new(move |started: io::Result<process::Child>| {
        // A child that the caller does not receive is dropped in this context. It is killed before its standard input is
        // closed.
        let _context = runtime.enter();
        let child = started.map(|child| {
            let process = Some(Process { child, status: None, child_exited });
            Child { stdin, stdout, stderr, process }
        });
        let _ = sender.send(child);
        drop(release);
    });
    child_spawning_threads::run(Start { command, has_stdin, complete }, &descriptors)?;
    // The child has the only open ends.
    drop(descriptors);
    receiver.await.unwrap_or_else(|_| Err(io::Error::other("the start has been abandoned")))
}

/// Returns a duplicate of a stream of this process; `/dev/null` if the stream is closed.
fn duplicate(stream: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let duplicate = rustix::io::fcntl_dupfd_cloexec(stream, 3);
    duplicate.or_else(|_| {
        let null = File::options().read(true).write(true).open("/dev/null");
        null.map(OwnedFd::from)
    })
}
