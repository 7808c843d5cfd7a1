//! What the service manager is told (`sd_notify`): that all is there, that the configuration is read again,
//! that the host is alive, and that it ends. Without `$NOTIFY_SOCKET` nobody is told anything.

use reloader_app::{Handle, Phase};
use sd_notify::{NotifyState, notify, watchdog_enabled};
use std::{env, mem, time::Duration};
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tracing::{debug, warn};

/// How often is looked whether all is there.
const LOOK: Duration = Duration::from_millis(200);

/// Tells, for as long as the program runs.
pub(crate) fn tell(handle: Handle) {
    if env::var_os("NOTIFY_SOCKET").is_some() {
        tokio::spawn(keep_telling(handle));
    }
}

async fn keep_telling(handle: Handle) {
    // Twice as often as it has to be.
    let every = watchdog_enabled().map(|limit| limit / 2).filter(|every| !every.is_zero());
    let mut alive = Instant::now();
    let mut look = interval_at(Instant::now(), every.map_or(LOOK, |every| every.min(LOOK)));
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut phases = handle.phase();
    let (mut phase, mut is_ready) = (Phase::Running, false);
    loop {
        tokio::select! {
            _ = look.tick() => {}
            changed = phases.changed() => if changed.is_err() {
                return;
            },
        }
        let before = mem::replace(&mut phase, *phases.borrow_and_update());
        match phase {
            Phase::Reloading if before != phase && is_ready => {
                match NotifyState::monotonic_usec_now() {
                    Ok(at) => say(&[NotifyState::Reloading, at]),
                    Err(error) => warn!("the service manager is not told of a reload: {error}"),
                }
            }
            Phase::Stopping if before != phase => say(&[NotifyState::Stopping]),
            // What is new in the configuration may take its time to come.
            Phase::Running if is_ready && before == Phase::Reloading => say(&[NotifyState::Ready]),
            Phase::Running if !is_ready && handle.missing().is_empty() => {
                is_ready = true;
                say(&[NotifyState::Ready, NotifyState::Status("all values are there")]);
            }
            Phase::Running | Phase::Reloading | Phase::Stopping => {}
        }
        if let Some(every) = every
            && Instant::now() >= alive
        {
            alive = Instant::now() + every;
            say(&[NotifyState::Watchdog]);
        }
    }
}

fn say(what: &[NotifyState<'_>]) {
    if let Err(error) = notify(what) {
        debug!("the service manager could not be told: {error}");
    }
}
