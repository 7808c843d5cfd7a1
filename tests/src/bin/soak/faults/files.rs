//! Faults of the files that the host writes: the state on a full disk, and files of sinks.

use super::UNAFFECTED_TIMEOUT;
use crate::{
    environment::Environment,
    random::Rng,
    sources::{PROBE, Source},
};
use std::{fs, sync::Arc, thread, time::Duration};

/// Timeout for the first successful write to the state store when its disk has space again.
const WRITABLE_TIMEOUT: Duration = Duration::from_secs(90);
/// Number of sinks that are damaged at a time.
const DAMAGED_SINKS: usize = 3;
/// Maximum time for which a directory is in the place of a file. A sink gives up after some minutes.
const MAX_BLOCKED_TIME: Duration = Duration::from_secs(5);

pub(crate) fn fill_state_disk(environment: &Environment, hold: Duration) -> Result<(), String> {
    let Some(disk) = &environment.state_disk else { return Ok(()) };
    let log = &environment.log;
    let outages = || log.count("state write failed");
    let recoveries = || log.count("state store writable again");
    disk.fill();
    let unaffected = environment.probe(UNAFFECTED_TIMEOUT);
    thread::sleep(hold);
    disk.release();
    environment.wait_until("the state store is writable again", WRITABLE_TIMEOUT, || {
        recoveries() >= outages()
    })?;
    unaffected.map(|_| ())
}

pub(crate) fn damage_sinks(
    environment: &Environment,
    rng: &mut Rng,
    hold: Duration,
) -> Result<(), String> {
    let sources = environment.sources();
    let mut sources: Vec<_> =
        sources.iter().filter(|source| source.is_file() && source.name != PROBE).collect();
    rng.shuffle(&mut sources);
    for source in sources.into_iter().take(DAMAGED_SINKS) {
        damage_sink(environment, rng, source, hold);
    }
    Ok(())
}

/// Damages the file of one sink. A file is repaired by the next delivery.
fn damage_sink(environment: &Environment, rng: &mut Rng, source: &Arc<Source>, hold: Duration) {
    let stores = environment.stores();
    let out = environment.t.path(&format!("out/{}", source.name));
    match rng.below(3) {
        // The host may replace the file at the same time, so each step may fail.
        0 => drop(fs::write(&out, "damaged")),
        1 => drop(fs::remove_file(&out)),
        _ => {
            let _ = fs::remove_file(&out);
            if fs::create_dir(&out).is_ok() {
                stores.replace_file(source);
                thread::sleep(hold.min(MAX_BLOCKED_TIME));
                let _ = fs::remove_dir(&out);
            }
        }
    }
    stores.replace_file(source);
}
