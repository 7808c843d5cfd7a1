//! Phases of the soak test: start, faults with restarts of the host, faults in one host process, convergence, and
//! rest, in which no value changes.

use crate::{
    configuration,
    convergence::{mismatches, missed_events},
    environment::Environment,
    faults::Fault,
    growth::{Growth, growth},
    host::Host,
    host_log::Event,
    monitor::{Monitor, threads_by_name},
    random::Rng,
    report::{FaultStatistics, Report},
    subscriber::Subscriber,
};
use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

/// Timeout for the first delivery of all values.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// Timeout for the delivery of the last values after the last fault. The longest backoffs are shorter.
const CONVERGENCE_TIMEOUT: Duration = Duration::from_secs(120);
/// Timeout for the delivery of a new value after a fault.
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(60);
/// Shortest and longest pause between two changes of random sources.
const LOAD_PAUSE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(45));
/// Shortest and longest duration of the rest phase.
const REST: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(300));
/// Bounds of the maximum duration of a fault, which depends on the duration of the run.
const LONGEST_FAULT: (Duration, Duration) = (Duration::from_millis(1_500), Duration::from_secs(15));
/// Time without log lines after which the rest phase begins.
const QUIET_TIME: Duration = Duration::from_secs(2);
/// Timeout for the wait for [`QUIET_TIME`] without log lines.
const QUIET_TIMEOUT: Duration = Duration::from_secs(30);
/// Maximum number of log lines per hour in the rest phase.
const MAX_LINES_PER_HOUR_AT_REST: f64 = 100.0;

/// Settings of one run of the soak test.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) duration: Duration,
    pub(crate) seed: u64,
}

/// State that the threads of a run share.
struct Shared<'a> {
    environment: &'a Environment,
    monitor: &'a Monitor,
    subscriber: &'a Subscriber,
    changes: AtomicU64,
    load_done: AtomicBool,
    done: AtomicBool,
}

/// Runs the soak test. The caller creates the environment, and decides whether to keep its directory.
pub(crate) fn run(environment: &Environment, settings: Settings, rng: &mut Rng) -> Report {
    let mut signalled = configuration::start_signalled(&environment.t);
    environment.start_host();
    let converged = || mismatches(environment).is_empty();
    let start = environment.wait_until("all values are delivered", START_TIMEOUT, converged);
    let (monitor, subscriber) = (Monitor::default(), Subscriber::default());
    let shared = Shared {
        environment,
        monitor: &monitor,
        subscriber: &subscriber,
        changes: AtomicU64::new(0),
        load_done: AtomicBool::new(false),
        done: AtomicBool::new(false),
    };
    let mut load_rng = Rng::new(settings.seed ^ 1);
    let mut report = match start {
        Ok(start) => thread::scope(|scope| {
            scope.spawn(|| monitor.run(environment, &shared.done));
            scope.spawn(|| subscriber.run(environment, &shared.done));
            scope.spawn(|| shared.load(&mut load_rng));
            let report = shared.run_phases(settings, rng, start);
            shared.done.store(true, Ordering::Relaxed);
            report
        }),
        Err(error) => {
            environment.violation(format!("start: {error}"));
            Report::default()
        }
    };
    let host = environment.host().take();
    if let Some(Err(error)) = host.map(Host::stop) {
        environment.violation(format!("end: {error}"));
    }
    let _ = signalled.kill();
    let _ = signalled.wait();
    report.seed = settings.seed;
    report.duration = settings.duration;
    report.events = environment.log.counts();
    report_panics(environment, &report.events);
    report.violations = environment.violations();
    report
}

impl Shared<'_> {
    /// Changes random sources until `load_done` is set, then gives each source a valid value.
    fn load(&self, rng: &mut Rng) {
        let stores = self.environment.stores();
        while !self.load_done.load(Ordering::Relaxed) {
            let sources = self.environment.sources();
            let source = rng.pick(&sources);
            if source.name != crate::sources::PROBE && stores.change(source, rng) {
                self.changes.fetch_add(1, Ordering::Relaxed);
            }
            thread::sleep(rng.duration(LOAD_PAUSE.0, LOAD_PAUSE.1));
        }
        stores.make_valid(&self.environment.sources(), rng);
    }

    fn run_phases(&self, settings: Settings, rng: &mut Rng, start: Duration) -> Report {
        let environment = self.environment;
        let rest = (settings.duration / 12).clamp(REST.0, REST.1);
        let faults = settings.duration.saturating_sub(rest);
        let longest = (settings.duration / 40).clamp(LONGEST_FAULT.0, LONGEST_FAULT.1);
        let lines_before = environment.log.lines();
        let mut statistics = BTreeMap::new();

        let (restarts, others): (Vec<_>, Vec<_>) =
            Fault::possible(environment).into_iter().partition(|fault| fault.ends_process());
        let end = Instant::now() + faults * 2 / 5;
        self.inject_until(end, longest, &[&restarts, &others], rng, &mut statistics);
        let steady = Instant::now();
        let end = steady + faults * 3 / 5;
        self.inject_until(end, longest, &[&others], rng, &mut statistics);
        let growth = self.check_growth(steady);
        let threads = environment.host_id().map(threads_by_name).unwrap_or_default();

        self.load_done.store(true, Ordering::Relaxed);
        let changes = self.changes.load(Ordering::Relaxed);
        let converged = self.check_convergence();
        let lines_under_load = environment.log.lines() - lines_before;
        if lines_under_load > changes {
            environment.violation(format!("{lines_under_load} log lines for {changes} changes"));
        }
        self.wait_for_quiet_log();
        let lines_at_rest = self.check_rest(rest);
        for failure in environment.server.take_failures() {
            environment.violation(failure);
        }
        Report {
            start,
            statistics,
            growth,
            threads,
            changes,
            converged,
            lines_under_load,
            lines_at_rest,
            rest,
            ..Report::default()
        }
    }

    /// Injects faults until `end`. Takes one fault from the first list in `kinds`, then one from the next list, and so
    /// on. The order within a list is random. A fault is repeated only after all faults of its list.
    fn inject_until(
        &self,
        end: Instant,
        longest: Duration,
        kinds: &[&[Fault]],
        rng: &mut Rng,
        statistics: &mut BTreeMap<Fault, FaultStatistics>,
    ) {
        let mut decks = vec![Vec::new(); kinds.len()];
        for kind in (0..kinds.len()).cycle() {
            if Instant::now() >= end {
                return;
            }
            let deck = &mut decks[kind];
            if deck.is_empty() {
                deck.extend_from_slice(kinds[kind]);
                rng.shuffle(deck);
            }
            let Some(fault) = deck.pop() else { continue };
            let hold = rng.duration(Duration::from_millis(200), longest);
            self.inject(fault, hold, rng, statistics.entry(fault).or_default());
            thread::sleep(rng.duration(Duration::from_millis(300), longest));
        }
    }

    fn inject(
        &self,
        fault: Fault,
        hold: Duration,
        rng: &mut Rng,
        statistics: &mut FaultStatistics,
    ) {
        let environment = self.environment;
        self.monitor.fault.store(true, Ordering::Relaxed);
        let injected = fault.inject(environment, rng, hold);
        let recovered = environment.probe(RECOVERY_TIMEOUT);
        self.monitor.fault.store(false, Ordering::Relaxed);
        statistics.count += 1;
        if let Ok(recovery) = recovered {
            statistics.longest_recovery = statistics.longest_recovery.max(recovery);
        }
        if let Err(error) = injected.and(recovered.map(|_| ())) {
            statistics.failures += 1;
            environment.violation(format!("{fault:?}: {error}"));
        }
        let exited = environment.host().as_mut().and_then(Host::exit_status);
        if let Some(status) = exited {
            environment.violation(format!("{fault:?}: the host has exited: {status}"));
            environment.start_host();
        }
    }

    /// Checks that memory, threads and open files of one host process do not grow since `start`. Ignores the first
    /// tenth of the time as warm-up.
    fn check_growth(&self, start: Instant) -> Vec<Growth> {
        let warm_up = start.elapsed() / 10;
        let mut samples = self.monitor.samples_since(start + warm_up);
        // If the host has crashed, only the samples of the last process are compared.
        let process = samples.last().map(|sample| sample.process);
        samples.retain(|sample| Some(sample.process) == process);
        let growth = growth(&samples);
        for growth in growth.iter().filter(|growth| !growth.is_flat()) {
            let Growth { resource, first, last, allowed } = growth;
            self.environment
                .violation(format!("{resource} grew from {first} to {last}, more than {allowed}"));
        }
        growth
    }

    /// Waits until all sinks contain the present values, and the last event of each source has arrived.
    fn check_convergence(&self) -> Option<Duration> {
        let environment = self.environment;
        let mut last = Vec::new();
        let converged =
            environment.wait_until("all values are delivered", CONVERGENCE_TIMEOUT, || {
                last = mismatches(environment);
                if last.is_empty() {
                    last = missed_events(environment, self.monitor, self.subscriber);
                }
                last.is_empty()
            });
        if let Err(error) = &converged {
            environment.violation(format!("end: {error}"));
            last.into_iter().for_each(|mismatch| environment.violation(mismatch));
        }
        converged.ok()
    }

    /// Waits until the host has logged nothing for [`QUIET_TIME`], at most [`QUIET_TIMEOUT`]. Some log events follow
    /// the last deliveries.
    fn wait_for_quiet_log(&self) {
        let start = Instant::now();
        let mut lines = self.environment.log.lines();
        let mut last_line = Instant::now();
        while last_line.elapsed() < QUIET_TIME && start.elapsed() < QUIET_TIMEOUT {
            thread::sleep(Duration::from_millis(50));
            if self.environment.log.lines() != lines {
                lines = self.environment.log.lines();
                last_line = Instant::now();
            }
        }
    }

    /// Checks that, while no value changes, the host logs little and the content of the sinks stays correct.
    fn check_rest(&self, rest: Duration) -> u64 {
        let environment = self.environment;
        let before = environment.log.lines();
        thread::sleep(rest);
        let lines = environment.log.lines() - before;
        let allowed = MAX_LINES_PER_HOUR_AT_REST * rest.as_secs_f64() / 3_600.0;
        if lines as f64 > allowed.ceil() {
            environment.violation(format!("{lines} log lines at rest in {rest:?}"));
        }
        mismatches(environment).into_iter().for_each(|mismatch| environment.violation(mismatch));
        lines
    }
}

fn report_panics(environment: &Environment, events: &BTreeMap<Event, u64>) {
    for (level, phrase) in events.keys() {
        if phrase.contains("panicked") {
            environment.violation(format!("the log contains: {level} {phrase}"));
        }
    }
}
