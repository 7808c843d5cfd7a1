//! Faults of the files that the host writes: the state on a full disk, and files of sinks.

use super::{UNAFFECTED_TIMEOUT, processes};
use crate::{
    environment::Environment,
    random::Rng,
    sources::{PROBE, Source},
    state_disk::StateDisk,
};
use std::{fs, sync::Arc, thread, time::Duration};

/// Timeout for the first successful write to the state store when its disk has space again.
const WRITABLE_TIMEOUT: Duration = Duration::from_secs(90);
/// Number and size of the values that are written while the disk is full.
const LARGE_VALUES: usize = 6;
const LARGE_VALUE_BYTES: usize = 512 << 10;
/// Number of sinks that are damaged at a time.
const DAMAGED_SINKS: usize = 3;
/// Maximum time for which a directory is in the place of a file. A sink gives up after some minutes.
const MAX_BLOCKED_TIME: Duration = Duration::from_secs(5);

pub(crate) fn fill_state_disk(environment: &Environment, hold: Duration) -> Result<(), String> {
    let Some(disk) = &environment.state_disk else { return Ok(()) };
    fill(environment, disk);
    let unaffected = environment.probe(UNAFFECTED_TIMEOUT);
    thread::sleep(hold);
    disk.release();
    wait_until_writable(environment)?;
    unaffected.map(|_| ())
}

/// Fills the disk, and writes values that do not fit into the space which the state store has allocated.
fn fill(environment: &Environment, disk: &StateDisk) {
    disk.fill();
    let sources = environment.sources();
    let files = sources.iter().filter(|source| source.is_file() && source.name != PROBE);
    for source in files.take(LARGE_VALUES) {
        environment.stores().replace_file_padded(source, LARGE_VALUE_BYTES);
    }
}

fn wait_until_writable(environment: &Environment) -> Result<(), String> {
    let writable = || !environment.log.has_state_outage();
    let what = "the state store is writable again";
    environment.wait_until(what, WRITABLE_TIMEOUT, writable).map(|_| ())
}

/// Kills the host on a full disk, and starts it before or after the disk has space again.
pub(crate) fn kill_on_full_state_disk(
    environment: &Environment,
    rng: &mut Rng,
    hold: Duration,
) -> Result<(), String> {
    let Some(disk) = &environment.state_disk else { return Ok(()) };
    fill(environment, disk);
    let unaffected = environment.probe(UNAFFECTED_TIMEOUT);
    thread::sleep(hold);
    let killed = if rng.below(2) == 0 {
        let killed = processes::kill(environment);
        disk.release();
        killed
    } else {
        disk.release();
        processes::kill(environment)
    };
    let writable = wait_until_writable(environment);
    unaffected.map(|_| ()).and(killed).and(writable)
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
