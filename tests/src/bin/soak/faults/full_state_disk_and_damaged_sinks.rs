//! Faults of the files that the host writes: a full disk under the state store, and damaged files of sinks.

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
/// Number of large values that the sources get while the disk is full.
const LARGE_VALUES: usize = 6;
/// Size of such a large value.
const LARGE_VALUE_BYTES: usize = 512 << 10;
/// Number of sinks that are damaged at a time.
const DAMAGED_SINKS: usize = 3;
/// Maximum time for which a directory blocks the path of a sink's file. A sink whose retries are exhausted retries
/// only every five minutes, which is too late for this test.
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

/// Fills the disk, and changes sources to large values that do not fit into the already allocated space of the
/// state store's file.
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

/// Fills the disk, then kills and restarts the host, before or after the disk has free space again.
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

/// Damages the file of one sink, then changes the source. The next delivery must repair the file.
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
