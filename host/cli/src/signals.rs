//! Signals that the program is sent.

use super::Failed;
use reloader_app::Order;
use reloader_delivery::process;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};

/// SIGINT and SIGTERM, heard from the moment that this is made.
pub(crate) struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    pub(crate) fn listen() -> Result<Self, Failed> {
        let listen = |kind| signal(kind).map_err(Failed::runtime);
        let interrupt = listen(SignalKind::interrupt())?;
        Ok(Self { interrupt, terminate: listen(SignalKind::terminate())? })
    }

    pub(crate) async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// What a host that runs many sources is told by signals: SIGHUP has it read its configuration again,
/// SIGINT and SIGTERM end it, and others are passed on to the program that uses the values.
pub(crate) fn orders() -> Result<mpsc::Receiver<Order>, Failed> {
    let (sender, receiver) = mpsc::channel(16);
    let heard = [
        (SignalKind::hangup(), Order::Reload),
        (SignalKind::interrupt(), Order::Stop),
        (SignalKind::terminate(), Order::Stop),
        (SignalKind::quit(), Order::Forward(process::Signal::QUIT)),
        (SignalKind::user_defined1(), Order::Forward(process::Signal::USR1)),
        (SignalKind::user_defined2(), Order::Forward(process::Signal::USR2)),
        (SignalKind::window_change(), Order::Forward(process::Signal::WINCH)),
    ];
    for (kind, order) in heard {
        let mut signals = signal(kind).map_err(Failed::runtime)?;
        let sender = sender.clone();
        tokio::spawn(async move {
            while signals.recv().await.is_some() && sender.send(order).await.is_ok() {}
        });
    }
    Ok(receiver)
}
