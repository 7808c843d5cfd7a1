//! Process group: a child process and its descendants, which are signalled and killed together.

use super::{signal_name::Signal, start_file_access};
use reloader_util::{
    child_process::{self, Child, Pipes},
    sync::Mutex,
};
use rustix::process::{Pid, kill_process, kill_process_group, test_kill_process_group};
use std::{collections::BTreeSet, io, process::ExitStatus, time::Duration};
use tokio::{
    process::Command,
    time::{Instant, sleep, timeout_at},
};

/// A running child process with its process group. Dropping it kills the group.
#[derive(Debug)]
pub(super) struct ProcessGroup {
    child: Child,
    leader: Option<Pid>,
    /// `true` if the child leads a process group of its own. Otherwise it is in the host's group.
    has_own_group: bool,
    /// `true` if dropping must not kill the group.
    is_released: bool,
}

/// Process IDs of the leaders of the groups that run.
static RUNNING: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

/// Kills all running commands with their process groups, before a program exits without stopping its tasks.
pub fn kill_running_groups() {
    for leader in &*RUNNING.lock() {
        if let Some(leader) = Pid::from_raw(*leader) {
            let _ = kill_process_group(leader, Signal::KILL.raw());
        }
    }
}

/// Interval at which [`ProcessGroup::stop`] checks whether the group still has processes. The kernel sends no
/// event when the last process of a group ends.
const GROUP_POLL_INTERVAL: Duration = Duration::from_millis(10);

impl ProcessGroup {
    /// Spawns the command as the leader of a new process group. On Linux, the child gets `death_signal`
    /// when the host dies.
    pub(super) async fn spawn(
        mut command: Command,
        pipes: Pipes,
        death_signal: Signal,
    ) -> io::Result<Self> {
        command.process_group(0);
        Self::new(command, pipes, death_signal, true).await
    }

    /// Spawns the command in the host's process group, for use on a terminal.
    ///
    /// A terminal can be read by its foreground process group only, and sends `SIGINT` to this group on Ctrl-C.
    pub(super) async fn spawn_in_host_group(
        command: Command,
        death_signal: Signal,
    ) -> io::Result<Self> {
        Self::new(command, Pipes::default(), death_signal, false).await
    }

    async fn new(
        command: Command,
        pipes: Pipes,
        death_signal: Signal,
        has_own_group: bool,
    ) -> io::Result<Self> {
        start_file_access::access_files(&command).await?;
        let child = child_process::spawn(command, pipes, death_signal.number()).await?;
        let leader = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
        if let Some(leader) = leader.filter(|_| has_own_group) {
            RUNNING.lock().insert(leader.as_raw_nonzero().get());
        }
        Ok(Self { child, leader, has_own_group, is_released: false })
    }

    pub(super) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Waits for the child to exit. Descendants may continue.
    pub(super) async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Lets the descendants of an exited child continue: dropping no longer kills the group.
    pub(super) fn release(mut self) {
        self.is_released = true;
    }

    /// Sends a signal to the child if it has not been reaped.
    pub(super) fn signal(&self, signal: Signal) {
        // `id` returns `None` after the child was reaped. Its PID may then belong to another process.
        if let (Some(leader), Some(_)) = (self.leader, self.child.id()) {
            let _ = kill_process(leader, signal.raw());
        }
    }

    /// Sends a signal to the process group, or to the child if it has no group of its own.
    fn signal_group(&self, signal: Signal) {
        match self.leader {
            Some(leader) if self.has_own_group => {
                // The kernel does not reuse the ID of a group while the group has a member.
                let _ = kill_process_group(leader, signal.raw());
            }
            _ => self.signal(signal),
        }
    }

    /// Sends `signal` to the group, and `SIGKILL` to the processes that still run after the grace period.
    /// Returns the status of the child.
    pub(super) async fn stop(
        mut self,
        signal: Signal,
        grace_period: Duration,
    ) -> io::Result<ExitStatus> {
        let end = Instant::now() + grace_period;
        self.signal_group(signal);
        let exited = timeout_at(end, self.child.wait()).await;
        while exited.is_ok() && self.has_own_group && self.has_processes() && Instant::now() < end {
            sleep(GROUP_POLL_INTERVAL).await;
        }
        self.signal_group(Signal::KILL);
        self.is_released = true;
        match exited {
            Ok(status) => status,
            Err(_) => self.child.wait().await,
        }
    }

    /// Returns whether the process group has any process.
    fn has_processes(&self) -> bool {
        self.leader.is_some_and(|leader| test_kill_process_group(leader).is_ok())
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        if let Some(leader) = self.leader {
            RUNNING.lock().remove(&leader.as_raw_nonzero().get());
        }
        if !self.is_released {
            self.signal_group(Signal::KILL);
        }
    }
}
