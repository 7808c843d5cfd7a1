//! Signals that the program is sent.

use super::Failed;
use crate::app::Order;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};

/// SIGINT and SIGTERM, heard from the moment that this is made.
pub(super) struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    pub(super) fn listen() -> Result<Self, Failed> {
        let listen = |kind| signal(kind).map_err(Failed::runtime);
        let interrupt = listen(SignalKind::interrupt())?;
        Ok(Self { interrupt, terminate: listen(SignalKind::terminate())? })
    }

    pub(super) async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// What a host that runs many sources is told by signals: SIGHUP has it read its configuration again,
/// SIGINT and SIGTERM end it, and others are passed on to the program that uses the values.
pub(super) fn orders() -> Result<mpsc::Receiver<Order>, Failed> {
    let (sender, receiver) = mpsc::channel(16);
    for kind in [
        SignalKind::hangup(),
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::quit(),
        SignalKind::user_defined1(),
        SignalKind::user_defined2(),
        SignalKind::window_change(),
    ] {
        let mut heard = signal(kind).map_err(Failed::runtime)?;
        let order = match kind {
            kind if kind == SignalKind::hangup() => Order::Reload,
            kind if kind == SignalKind::interrupt() || kind == SignalKind::terminate() => Order::Stop,
            kind => Order::Forward(kind.as_raw_value()),
        };
        let sender = sender.clone();
        tokio::spawn(async move {
            while heard.recv().await.is_some() && sender.send(order).await.is_ok() {}
        });
    }
    Ok(receiver)
}
