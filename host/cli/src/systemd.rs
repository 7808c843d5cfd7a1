//! Notification of the service manager (`sd_notify`): readiness, reloads, watchdog, shutdown. Does nothing if
//! `$NOTIFY_SOCKET` is not set.

use reloader_app::{Handle, Phase};
use sd_notify::{NotifyState, notify, watchdog_enabled};
use std::{env, mem};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, warn};

/// Spawns a task that notifies the service manager until the host stops.
pub(crate) fn spawn_notifier(handle: Handle) {
    if env::var_os("NOTIFY_SOCKET").is_some() {
        tokio::spawn(notify_changes(handle));
    }
}

async fn notify_changes(handle: Handle) {
    // Interval of the watchdog notifications: half of the watchdog timeout, as systemd recommends.
    let watchdog = watchdog_enabled().map(|limit| limit / 2).filter(|half| !half.is_zero());
    let mut watchdog_due = watchdog.map(|_| Instant::now());
    let mut readiness = handle.readiness();
    let mut phases = handle.phase();
    let (mut phase, mut is_ready) = (Phase::Running, false);
    loop {
        if !is_ready && *phases.borrow() == Phase::Running && *readiness.borrow_and_update() {
            is_ready = true;
            send(&[NotifyState::Ready, NotifyState::Status("all required values available")]);
        }
        tokio::select! {
            () = reach(watchdog_due) => {
                watchdog_due = watchdog.map(|interval| Instant::now() + interval);
                send(&[NotifyState::Watchdog]);
            }
            changed = readiness.changed(), if !is_ready => if changed.is_err() {
                return;
            },
            changed = phases.changed() => if changed.is_err() {
                return;
            },
        }
        let before = mem::replace(&mut phase, *phases.borrow_and_update());
        match phase {
            Phase::Reloading if before != phase && is_ready => {
                match NotifyState::monotonic_usec_now() {
                    Ok(at) => send(&[NotifyState::Reloading, at]),
                    Err(error) => warn!(%error, "cannot notify the service manager of a reload"),
                }
            }
            Phase::Stopping if before != phase => send(&[NotifyState::Stopping]),
            // systemd expects `READY=1` at the end of a reload. It is sent even if new sources have no value yet.
            Phase::Running if is_ready && before == Phase::Reloading => send(&[NotifyState::Ready]),
            Phase::Running | Phase::Reloading | Phase::Stopping => {}
        }
    }
}

/// Waits until an instant. Never completes if `at` is `None`.
async fn reach(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = notify(states) {
        debug!(%error, "cannot notify the service manager");
    }
}
