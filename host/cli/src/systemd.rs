//! Notification of the service manager (`sd_notify`): readiness, reloads, watchdog, shutdown. Does nothing if
//! `$NOTIFY_SOCKET` is not set.

use reloader_app::{Handle, Phase};
use sd_notify::{NotifyState, notify, watchdog_enabled};
use std::{env, mem, time::Duration};
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tracing::{debug, warn};

/// Time between two readiness checks.
const READINESS_POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Spawns a task that notifies the service manager until the host stops.
pub(crate) fn spawn_notifier(handle: Handle) {
    if env::var_os("NOTIFY_SOCKET").is_some() {
        tokio::spawn(notify_changes(handle));
    }
}

async fn notify_changes(handle: Handle) {
    // Half of the watchdog timeout, as systemd recommends.
    let watchdog = watchdog_enabled().map(|limit| limit / 2).filter(|half| !half.is_zero());
    let mut watchdog_due = Instant::now();
    let poll_interval = watchdog.unwrap_or(READINESS_POLL_INTERVAL).min(READINESS_POLL_INTERVAL);
    let mut poll = interval_at(Instant::now(), poll_interval);
    poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut phases = handle.phase();
    let (mut phase, mut is_ready) = (Phase::Running, false);
    loop {
        tokio::select! {
            _ = poll.tick() => {}
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
            // A reload is complete although new sources may not have a value yet.
            Phase::Running if is_ready && before == Phase::Reloading => send(&[NotifyState::Ready]),
            Phase::Running if !is_ready && handle.missing().is_empty() => {
                is_ready = true;
                send(&[NotifyState::Ready, NotifyState::Status("all required values available")]);
            }
            Phase::Running | Phase::Reloading | Phase::Stopping => {}
        }
        if let Some(watchdog) = watchdog
            && Instant::now() >= watchdog_due
        {
            watchdog_due = Instant::now() + watchdog;
            send(&[NotifyState::Watchdog]);
        }
    }
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = notify(states) {
        debug!(%error, "cannot notify the service manager");
    }
}
