//! Faults that hit the host's process: SIGKILL, SIGSTOP and restarts.

use crate::{environment::Environment, host::Host};
use rustix::process::Signal;
use std::{thread, time::Duration};

/// Timeout for the start of the API of a new process.
const START_TIMEOUT: Duration = Duration::from_secs(60);

pub(crate) fn restart(environment: &Environment) -> Result<(), String> {
    let host = environment.host().take();
    let stopped = host.map_or(Ok(Duration::ZERO), Host::stop);
    start(environment)?;
    stopped.map(|_| ())
}

pub(crate) fn kill(environment: &Environment) -> Result<(), String> {
    let host = environment.host().take();
    if let Some(host) = host {
        host.kill(environment.t.directory());
    }
    start(environment)
}

fn start(environment: &Environment) -> Result<(), String> {
    environment.start_host();
    let listens = || environment.api().is_some();
    environment.wait_until("the API listens", START_TIMEOUT, listens).map(|_| ())
}

pub(crate) fn stop_and_continue(environment: &Environment, hold: Duration) -> Result<(), String> {
    let signal = |signal| environment.host().as_ref().map(|host| host.signal(signal));
    signal(Signal::STOP);
    thread::sleep(hold);
    signal(Signal::CONT);
    Ok(())
}
