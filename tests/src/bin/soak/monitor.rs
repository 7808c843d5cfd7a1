//! Monitor of the running host: memory, threads, open files, and revisions that must not fall.

use crate::environment::Environment;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// Interval between two samples.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(250);
/// Timeout of a status request. The host may be stopped or not running.
const STATUS_TIMEOUT: Duration = Duration::from_secs(2);

/// Resources of the host's process at one time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) at: Instant,
    pub(crate) process: u32,
    pub(crate) resident_kib: u64,
    pub(crate) threads: u64,
    pub(crate) open_files: u64,
}

/// Monitor that samples the memory, threads and open files of the running host, and checks its revisions.
#[derive(Default)]
pub(crate) struct Monitor {
    /// `true` while a fault is injected. The monitor takes no samples in that time.
    pub(crate) fault: AtomicBool,
    samples: Mutex<Vec<Sample>>,
    revisions: Mutex<Revisions>,
}

/// Last revision of each source that a reader has seen, over all processes of the host.
#[derive(Default)]
pub(crate) struct Revisions(BTreeMap<String, u64>);

impl Revisions {
    /// Stores a revision. Returns a violation if it is lower than an earlier one. Revision 0 means that the source has
    /// no value yet, such as a source with `store = false` after a restart.
    pub(crate) fn see(&mut self, reader: &str, source: &str, revision: u64) -> Option<String> {
        if revision == 0 {
            return None;
        }
        let before = self.0.insert(source.into(), revision).unwrap_or_default();
        (before > revision)
            .then(|| format!("revision of `{source}` in {reader} fell from {before} to {revision}"))
    }

    pub(crate) fn of(&self, source: &str) -> u64 {
        self.0.get(source).copied().unwrap_or_default()
    }
}

impl Monitor {
    /// Takes samples and reads the status until `done` is set.
    pub(crate) fn run(&self, environment: &Environment, done: &AtomicBool) {
        while !done.load(Ordering::Relaxed) {
            let process = environment.host_id();
            if !self.fault.load(Ordering::Relaxed)
                && let Some(sample) = process.and_then(sample)
                // A sample is discarded if a fault began while it was taken.
                && !self.fault.load(Ordering::Relaxed)
            {
                self.samples.lock().unwrap_or_else(PoisonError::into_inner).push(sample);
            }
            self.read_status(environment);
            thread::sleep(SAMPLE_INTERVAL);
        }
    }

    /// Reads the status of all sources, and checks their revisions.
    pub(crate) fn read_status(&self, environment: &Environment) {
        let Ok(body) = environment.get("/v1/sources", STATUS_TIMEOUT) else { return };
        let Ok(status) = serde_json::from_str::<Value>(&body) else {
            environment.violation(format!("/v1/sources is not JSON: {body:.200}"));
            return;
        };
        let mut revisions = self.revisions.lock().unwrap_or_else(PoisonError::into_inner);
        for source in status["sources"].as_array().into_iter().flatten() {
            let name = source["name"].as_str().unwrap_or_default();
            let revision = source["revision"].as_u64().unwrap_or_default();
            if let Some(violation) = revisions.see("/v1/sources", name, revision) {
                environment.violation(violation);
            }
        }
    }

    /// Returns the last revision of a source that this monitor has seen.
    pub(crate) fn revision(&self, source: &str) -> u64 {
        self.revisions.lock().unwrap_or_else(PoisonError::into_inner).of(source)
    }

    /// Returns the samples since `start`.
    pub(crate) fn samples_since(&self, start: Instant) -> Vec<Sample> {
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        samples.iter().filter(|sample| sample.at >= start).copied().collect()
    }
}

/// Reads the resources of a process, or returns `None` if it has exited.
fn sample(process: u32) -> Option<Sample> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    Some(Sample {
        at: Instant::now(),
        process,
        resident_kib: field("VmRSS:")?,
        threads: field("Threads:")?,
        open_files: fs::read_dir(format!("/proc/{process}/fd")).ok()?.count() as u64,
    })
}

/// Returns the number of threads of a process by name.
pub(crate) fn threads_by_name(process: u32) -> BTreeMap<String, u64> {
    let mut threads = BTreeMap::new();
    let tasks = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    for task in tasks {
        let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        *threads.entry(name.trim().to_owned()).or_default() += 1;
    }
    threads
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lower_revision_is_violation() {
        let mut revisions = Revisions::default();
        assert_eq!(revisions.see("status", "a", 2), None);
        assert_eq!(revisions.see("status", "a", 0), None);
        let violation = revisions.see("status", "a", 1);
        assert_eq!(violation.unwrap(), "revision of `a` in status fell from 2 to 1");
    }
}
