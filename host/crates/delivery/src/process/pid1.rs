//! Process 1 of a container: spawns the host, forwards signals, and reaps orphans.
//!
//! The kernel makes process 1 the parent of all orphaned processes. Process 1 must reap them, or they
//! remain as zombies. To reap orphans, a process waits for any child (`waitpid(-1)`). Such a wait
//! also consumes the exit statuses of children for which other code in the same process waits. Therefore
//! process 1 runs no commands: it only reaps and forwards signals, and the host is its child.

use super::{signal_name::Signal, supervisor::Exit};
use rustix::process::{Pid, WaitOptions, getpid, kill_process, set_child_subreaper, wait};
use std::{
    ffi::OsStr,
    io::{self, IsTerminal},
    os::unix::process::{CommandExt, ExitStatusExt},
    path::Path,
    process::{Command, ExitStatus},
};
use tokio::signal::unix::{Signal as Listener, SignalKind, signal};

/// Returns whether this process is process 1, so that [`run`] is needed.
#[must_use]
pub fn is_needed() -> bool {
    getpid() == Pid::INIT
}

/// Signals that process 1 forwards to the host.
const FORWARDED_SIGNALS: [Signal; 8] = [
    Signal::TERM,
    Signal::INT,
    Signal::HUP,
    Signal::QUIT,
    Signal::USR1,
    Signal::USR2,
    Signal::WINCH,
    Signal::CONT,
];

/// Runs a program, forwards signals to it, and reaps orphans. Returns the status of the program.
///
/// `arg0` is the `argv[0]` of the program. `None` passes the path of the program, as a shell does; programs
/// such as `busybox` select their command by `argv[0]`.
///
/// Other code in the process must not wait for child processes, because this function consumes their exit statuses.
///
/// # Errors
///
/// Returns an error if the program cannot be spawned or a signal handler cannot be installed.
pub fn run<A: AsRef<OsStr>>(
    program: &Path,
    arg0: Option<&OsStr>,
    arguments: impl IntoIterator<Item = A>,
) -> io::Result<Exit> {
    if !is_needed() {
        // Orphans are inherited only by process 1 or a subreaper.
        set_child_subreaper(Some(getpid()))?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut child_exited = signal(SignalKind::child())?;
        let mut listeners = Vec::new();
        for forwarded in FORWARDED_SIGNALS {
            listeners.push((signal(SignalKind::from_raw(forwarded.number()))?, forwarded));
        }
        let mut command = Command::new(program);
        command.args(arguments);
        if let Some(arg0) = arg0 {
            command.arg0(arg0);
        }
        // On Ctrl-C, a terminal sends `SIGINT` to the whole foreground group, i.e. to this process and to the
        // host. Without a terminal, the host is in a group of its own, and only this process signals it.
        let has_terminal = io::stdin().is_terminal();
        if !has_terminal {
            command.process_group(0);
        }
        let host = command.spawn()?;
        let host = i32::try_from(host.id()).ok().and_then(Pid::from_raw);
        loop {
            if let Some(exit) = reap(host) {
                return Ok(exit);
            }
            tokio::select! {
                _ = child_exited.recv() => {}
                signal = next_signal(&mut listeners) => {
                    let is_sent_to_host = has_terminal && signal.is_sent_by_terminal();
                    if let (Some(host), false) = (host, is_sent_to_host) {
                        let _ = kill_process(host, signal.raw());
                    }
                }
            }
        }
    })
}

/// Reaps exited children. Returns the exit of the host if the host is one of them.
fn reap(host: Option<Pid>) -> Option<Exit> {
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        if Some(pid) == host {
            return Some(ExitStatus::from_raw(status.as_raw()).into());
        }
    }
    None
}

/// Waits for the next signal of any listener. Returns the signal to forward.
async fn next_signal(listeners: &mut [(Listener, Signal)]) -> Signal {
    std::future::poll_fn(|context| {
        for (listener, signal) in listeners.iter_mut() {
            if listener.poll_recv(context).is_ready() {
                return std::task::Poll::Ready(*signal);
            }
        }
        std::task::Poll::Pending
    })
    .await
}
