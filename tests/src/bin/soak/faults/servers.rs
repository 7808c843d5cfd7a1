//! Faults of the servers that the sources read from. Sources that read from elsewhere must not be affected.

use super::UNAFFECTED_TIMEOUT;
use crate::{environment::Environment, value_server::Behaviour};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    sync::PoisonError,
    thread,
    time::{Duration, Instant},
};

pub(crate) fn misbehave(
    environment: &Environment,
    behaviour: Behaviour,
    hold: Duration,
) -> Result<(), String> {
    environment.server.behave(behaviour);
    let unaffected = environment.probe(UNAFFECTED_TIMEOUT);
    thread::sleep(hold);
    environment.server.behave(Behaviour::Normal);
    unaffected.map(|_| ())
}

pub(crate) fn stop_and_continue_redis(
    environment: &Environment,
    hold: Duration,
) -> Result<(), String> {
    let Some(redis) = &environment.redis else { return Ok(()) };
    let redis = redis.lock().unwrap_or_else(PoisonError::into_inner);
    let signal = |signal| {
        let pid = i32::try_from(redis.id()).ok().and_then(Pid::from_raw);
        pid.map(|pid| kill_process(pid, signal))
    };
    let start = Instant::now();
    signal(Signal::STOP);
    let unaffected = environment.probe(UNAFFECTED_TIMEOUT);
    thread::sleep(hold.saturating_sub(start.elapsed()));
    signal(Signal::CONT);
    unaffected.map(|_| ())
}

/// Kills the server, which loses its data, and starts it with the present values.
pub(crate) fn restart_redis(environment: &Environment) -> Result<(), String> {
    let Some(redis) = &environment.redis else { return Ok(()) };
    let mut redis = redis.lock().unwrap_or_else(PoisonError::into_inner);
    redis.kill();
    let unaffected = environment.probe(UNAFFECTED_TIMEOUT);
    redis.launch();
    environment.stores().restore_keys(&redis, &environment.sources());
    unaffected.map(|_| ())
}
