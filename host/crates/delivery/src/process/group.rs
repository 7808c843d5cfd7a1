//! A program and all that it starts: one group of processes, which ends together.

use super::Signal;
use rustix::process::{Pid, kill_process, kill_process_group, test_kill_process_group};
use std::{io, process::ExitStatus, time::Duration};
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep, timeout_at},
};

/// A running program. When this is dropped, nothing of it goes on.
#[derive(Debug)]
pub(super) struct Group {
    child: Child,
    leader: Option<Pid>,
    /// Whether the processes it starts are in a group of their own.
    own: bool,
    over: bool,
}

/// How often it is looked whether all of a group have ended; nobody tells.
const LOOK: Duration = Duration::from_millis(10);

impl Group {
    /// Starts it, as the leader of a group of its own.
    pub(super) fn start(command: &mut Command) -> io::Result<Self> {
        Self::new(command.process_group(0), true)
    }

    /// Starts it in the host's own group, for a terminal: whoever reads one has to be in the group that
    /// the terminal belongs to, and is told of Ctrl-C by it.
    pub(super) fn start_beside(command: &mut Command) -> io::Result<Self> {
        Self::new(command, false)
    }

    fn new(command: &mut Command, own: bool) -> io::Result<Self> {
        let child = command.kill_on_drop(true).spawn()?;
        let leader = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
        Ok(Self { child, leader, own, over: false })
    }

    pub(super) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Waits until the program itself has ended.
    pub(super) async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// The program has ended, and what it has left running is to go on.
    pub(super) fn leave(mut self) {
        self.over = true;
    }

    /// To the program, while it runs.
    pub(super) fn signal(&self, signal: Signal) {
        // Once it has been waited for, its number may be another's.
        if let (Some(leader), Some(_)) = (self.leader, self.child.id()) {
            let _ = kill_process(leader, signal.raw());
        }
    }

    /// To the program and all that it has started.
    fn signal_all(&self, signal: Signal) {
        match self.leader {
            Some(leader) if self.own => {
                // As long as one of them is left, the number is the group's.
                let _ = kill_process_group(leader, signal.raw());
            }
            _ => self.signal(signal),
        }
    }

    /// Asks all of them to end, and ends what is left after this time.
    pub(super) async fn stop(mut self, signal: Signal, after: Duration) -> io::Result<ExitStatus> {
        let end = Instant::now() + after;
        self.signal_all(signal);
        let ended = timeout_at(end, self.child.wait()).await;
        while ended.is_ok() && self.own && self.is_there() && Instant::now() < end {
            sleep(LOOK).await;
        }
        self.signal_all(Signal::KILL);
        self.over = true;
        match ended {
            Ok(status) => status,
            Err(_) => self.child.wait().await,
        }
    }

    fn is_there(&self) -> bool {
        self.leader.is_some_and(|leader| test_kill_process_group(leader).is_ok())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.over {
            self.signal_all(Signal::KILL);
        }
    }
}
