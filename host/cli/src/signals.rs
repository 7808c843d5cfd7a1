//! Signals that the program receives.

use crate::cli_error::CliError;
use reloader_app::ControlRequest;
use reloader_delivery::process;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};

/// Receiver of SIGINT and SIGTERM.
pub(crate) struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    /// Installs the signal handlers.
    pub(crate) fn listen() -> Result<Self, CliError> {
        let listen = |kind| signal(kind).map_err(CliError::runtime);
        let interrupt = listen(SignalKind::interrupt())?;
        Ok(Self { interrupt, terminate: listen(SignalKind::terminate())? })
    }

    /// Waits for a signal.
    pub(crate) async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Installs the signal handlers of a host with a configuration file, and returns the requests that the signals cause:
/// SIGHUP reloads the configuration, SIGINT and SIGTERM stop the host, and SIGQUIT, SIGUSR1, SIGUSR2 and SIGWINCH are
/// forwarded to the command.
pub(crate) fn control_requests() -> Result<mpsc::Receiver<ControlRequest>, CliError> {
    let (sender, receiver) = mpsc::channel(16);
    let handled = [
        (SignalKind::hangup(), ControlRequest::Reload),
        (SignalKind::interrupt(), ControlRequest::Stop),
        (SignalKind::terminate(), ControlRequest::Stop),
        (SignalKind::quit(), ControlRequest::Forward(process::Signal::QUIT)),
        (SignalKind::user_defined1(), ControlRequest::Forward(process::Signal::USR1)),
        (SignalKind::user_defined2(), ControlRequest::Forward(process::Signal::USR2)),
        (SignalKind::window_change(), ControlRequest::Forward(process::Signal::WINCH)),
    ];
    for (kind, request) in handled {
        let mut signals = signal(kind).map_err(CliError::runtime)?;
        let sender = sender.clone();
        tokio::spawn(async move {
            while signals.recv().await.is_some() && sender.send(request).await.is_ok() {}
        });
    }
    Ok(receiver)
}
