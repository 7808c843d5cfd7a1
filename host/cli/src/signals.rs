//! Signals that the program receives. A separate thread handles them, so that the program can be stopped even if all
//! other threads are blocked.

use crate::{
    cli_error::CliError,
    shutdown_deadline::{self, exit_after},
    thread_start_error::cannot_start,
};
use reloader_app::ControlRequest;
use reloader_delivery::process;
use std::{io, sync::mpsc as blocking_mpsc, thread, time::Duration};
use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, watch},
    task::JoinSet,
};

/// Time from a stop request until the program exits, even if a thread or a task blocks.
pub(crate) const STOP_LIMIT: Duration = Duration::from_millis(4800);
/// Exit status of a program that does not stop in time.
const STOP_TIMED_OUT: i32 = 1;
/// Maximum number of control requests that wait for the host.
const MAX_QUEUED_REQUESTS: usize = 16;

/// Receiver of the stop signals SIGINT and SIGTERM, for commands other than `run --config`.
pub(crate) struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Installs handlers of SIGINT and SIGTERM. A signal also starts the deadline of the shutdown.
    pub(crate) fn listen() -> Result<Self, CliError> {
        let (sender, receiver) = watch::channel(false);
        let kinds = vec![(SignalKind::interrupt(), ()), (SignalKind::terminate(), ())];
        handle_signals(kinds, move |()| {
            sender.send_replace(true);
            exit_after(STOP_LIMIT, STOP_TIMED_OUT);
        })?;
        Ok(Self(receiver))
    }

    /// Waits for a signal. Completes at once if a signal has already arrived.
    pub(crate) async fn wait(&mut self) {
        // An error would mean that the signal thread has ended. The thread runs until the program exits.
        if self.0.wait_for(|stopped| *stopped).await.is_err() {
            std::future::pending().await
        }
    }
}

/// Installs the signal handlers of a host with a configuration file, and returns the requests that the signals cause:
/// SIGHUP reloads the configuration, SIGINT and SIGTERM stop the host, and SIGQUIT, SIGUSR1, SIGUSR2 and SIGWINCH are
/// forwarded to the command. The program exits at the latest `stop_limit` after the first stop request. The limit is
/// read when the request arrives. With a limit of zero, nothing is running yet: the program exits at once with status 0.
pub(crate) fn control_requests(
    stop_limit: watch::Receiver<Duration>,
) -> Result<mpsc::Receiver<ControlRequest>, CliError> {
    let (sender, receiver) = mpsc::channel(MAX_QUEUED_REQUESTS);
    let handled = vec![
        (SignalKind::hangup(), ControlRequest::Reload),
        (SignalKind::interrupt(), ControlRequest::Stop),
        (SignalKind::terminate(), ControlRequest::Stop),
        (SignalKind::quit(), ControlRequest::Forward(process::Signal::QUIT)),
        (SignalKind::user_defined1(), ControlRequest::Forward(process::Signal::USR1)),
        (SignalKind::user_defined2(), ControlRequest::Forward(process::Signal::USR2)),
        (SignalKind::window_change(), ControlRequest::Forward(process::Signal::WINCH)),
    ];
    handle_signals(handled, move |request| {
        if request == ControlRequest::Stop {
            let limit = *stop_limit.borrow();
            exit_after(limit, if limit.is_zero() { 0 } else { STOP_TIMED_OUT });
        }
        // If the queue is full, the request is lost. After a lost stop request, `exit_after` ends the program.
        let _ = sender.try_send(request);
    })?;
    Ok(receiver)
}

/// Starts a thread that receives the signals in `kinds`. For each received signal, the thread calls `handle` with the
/// value that `kinds` pairs with the signal.
fn handle_signals<T: Copy + Send + 'static>(
    kinds: Vec<(SignalKind, T)>,
    handle: impl Fn(T) + Send + 'static,
) -> Result<(), CliError> {
    shutdown_deadline::start()
        .map_err(|error| cannot_start("the thread of the shutdown deadline", &error))?;
    let (sender, installed) = blocking_mpsc::channel();
    let run = move || {
        // The runtime is built on this thread, since it must not be dropped by a thread of another runtime.
        let (runtime, listeners) = match install_handlers(kinds) {
            Ok(handlers) => handlers,
            Err(error) => {
                let _ = sender.send(Err(error));
                return;
            }
        };
        let _ = sender.send(Ok(()));
        runtime.block_on(async {
            let mut waiting = JoinSet::new();
            for (mut listener, value) in listeners {
                waiting.spawn(async move { listener.recv().await.map(|()| (listener, value)) });
            }
            while let Some(received) = waiting.join_next().await {
                if let Ok(Some((mut listener, value))) = received {
                    handle(value);
                    waiting.spawn(async move { listener.recv().await.map(|()| (listener, value)) });
                }
            }
        });
    };
    thread::Builder::new()
        .name("reloader-signals".into())
        .spawn(run)
        .map_err(|error| cannot_start("the signal thread", &error))?;
    let installed = installed.recv().unwrap_or_else(|error| Err(io::Error::other(error)));
    installed.map_err(|error| CliError::Runtime(format!("cannot receive signals: {error}")))
}

/// Installs the handlers of these signals, and returns their receivers with the runtime that drives them.
fn install_handlers<T>(kinds: Vec<(SignalKind, T)>) -> io::Result<(Runtime, Vec<(Signal, T)>)> {
    let runtime = Builder::new_current_thread().enable_io().build()?;
    let guard = runtime.enter();
    let mut listeners = Vec::new();
    for (kind, value) in kinds {
        listeners.push((signal(kind)?, value));
    }
    drop(guard);
    Ok((runtime, listeners))
}
