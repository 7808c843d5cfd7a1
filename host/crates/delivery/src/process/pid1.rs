//! The first process of a container: it starts the host proper, hands on signals, and buries whom nobody
//! else does.
//!
//! Whoever is process 1 inherits all processes whose parents have ended, and has to wait for each of them,
//! or they stay as zombies. But who waits for any child also takes away the statuses of those that
//! somebody in the same program waits for. So the two are kept apart: process 1 only waits, and the host
//! is a child of it.

use super::{Exit, Signal};
use rustix::process::{Pid, WaitOptions, getpid, kill_process, set_child_subreaper, wait};
use std::{
    ffi::OsStr,
    io::{self, IsTerminal},
    os::unix::process::{CommandExt, ExitStatusExt},
    path::Path,
    process::{Command, ExitStatus},
};
use tokio::signal::unix::{Signal as Listener, SignalKind, signal};

/// Whether this process is the first one, so that [`run`] is what it should do.
#[must_use]
pub fn is_needed() -> bool {
    getpid() == Pid::INIT
}

/// What is handed on.
const HANDED_ON: [Signal; 8] = [
    Signal::TERM,
    Signal::INT,
    Signal::HUP,
    Signal::QUIT,
    Signal::USR1,
    Signal::USR2,
    Signal::WINCH,
    Signal::CONT,
];

/// Starts a program, and gives its status when it has ended. Until then signals are handed on to it, and
/// each process is waited for whose parent has ended. Nothing else may be done in this process, since it
/// would not learn how its children end.
///
/// # Errors
///
/// When the program cannot be started, or signals cannot be listened to.
pub fn run<A: AsRef<OsStr>>(
    program: &Path,
    arguments: impl IntoIterator<Item = A>,
) -> io::Result<Exit> {
    if !is_needed() {
        // Somebody wants the same for a part of the system.
        set_child_subreaper(Some(getpid()))?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut ended = signal(SignalKind::child())?;
        let mut listeners = Vec::new();
        for signal_of in HANDED_ON {
            listeners.push((signal(SignalKind::from_raw(signal_of.number()))?, signal_of));
        }
        let mut command = Command::new(program);
        command.args(arguments);
        // On a terminal, both are told of Ctrl-C by it; elsewhere nobody but this process hands on signals.
        let on_a_terminal = io::stdin().is_terminal();
        if !on_a_terminal {
            command.process_group(0);
        }
        let host = command.spawn()?;
        let host = i32::try_from(host.id()).ok().and_then(Pid::from_raw);
        loop {
            if let Some(exit) = bury(host) {
                return Ok(exit);
            }
            tokio::select! {
                _ = ended.recv() => {}
                signal = next(&mut listeners) => {
                    let by_it = [Signal::INT, Signal::QUIT, Signal::WINCH].contains(&signal);
                    if let (Some(host), false) = (host, on_a_terminal && by_it) {
                        let _ = kill_process(host, signal.raw());
                    }
                }
            }
        }
    })
}

/// Waits for all that have ended; how the host has, if it is among them.
fn bury(host: Option<Pid>) -> Option<Exit> {
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        if Some(pid) == host {
            return Some(ExitStatus::from_raw(status.as_raw()).into());
        }
    }
    None
}

async fn next(listeners: &mut [(Listener, Signal)]) -> Signal {
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
