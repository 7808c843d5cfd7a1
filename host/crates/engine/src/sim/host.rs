//! Simulated host: executes the effects of the engine, keeps the published value across restarts,
//! and advances the virtual clock.

use super::{
    faults::settings,
    faulty_environment::{Environment, EnvironmentEvent, Provenance},
    oracle::{Oracle, Violation},
    rng::SimRng,
    source::{Content, CursorKind, SimValue, Source},
};
use crate::{Effect, Engine, Input, Settings};
use std::time::{Duration, Instant};

/// Maximum number of steps of a simulation. More steps are a livelock.
const MAX_STEPS: u32 = 20_000;
/// Maximum number of consecutive steps without progress of the clock. More steps are a livelock.
const MAX_STEPS_PER_INSTANT: u32 = 60;

/// Simulated host with its source and its oracle.
pub(super) struct Host {
    seed: u64,
    settings: Settings,
    rng: SimRng,
    environment: Environment,
    oracle: Oracle,
    engine: Engine<SimValue>,
    start: Instant,
    clock: Instant,
    restarts: u64,
    steps: u32,
    steps_at_instant: u32,
    trace: Option<Vec<String>>,
}

impl Host {
    pub(super) fn new(seed: u64, trace: bool) -> Self {
        let mut rng = SimRng::new(seed);
        let settings = settings(&mut rng);
        let start = Instant::now();
        let environment = Environment::draw(&mut rng, start, &settings);
        let mut host = Self {
            seed,
            oracle: Oracle::new(&settings, start),
            engine: Engine::new(settings.clone(), seed, start),
            settings,
            rng,
            environment,
            start,
            clock: start,
            restarts: 0,
            steps: 0,
            steps_at_instant: 0,
            trace: trace.then(Vec::new),
        };
        host.trace_header();
        host
    }

    fn trace_header(&mut self) {
        let Self { settings, environment, start, .. } = self;
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{settings:?}"));
            trace.push(format!("{:?}, {:?}", environment.faults, environment.source.cursor_kind));
            for (number, state) in environment.source.states.iter().enumerate() {
                let at = (state.from - *start).as_secs_f64();
                trace.push(format!("{at:>10.3}  source: state {number}: {:?}", state.value));
            }
            let at = (environment.heal_at - *start).as_secs_f64();
            trace.push(format!("{at:>10.3}  healed"));
        }
    }

    pub(super) fn into_trace(self) -> Vec<String> {
        self.trace.unwrap_or_default()
    }

    pub(super) fn steps(&self) -> u32 {
        self.steps
    }

    /// Runs the simulation to the end. Returns the first violation.
    pub(super) fn run(&mut self) -> Result<(), Violation> {
        let heal_at = self.environment.heal_at;
        let convergence_limit = self.convergence_limit();
        self.step(Input::Tick, self.no_provenance());
        // The engine has to stay converged for eight more steps.
        let mut converged_steps = 0;
        while converged_steps < 8 {
            self.advance();
            if let Some(violation) = self.oracle.violation.take() {
                return Err(violation);
            }
            if self.oracle.gave_up {
                return Ok(());
            }
            if self.steps > MAX_STEPS {
                self.oracle.record_violation(8, "too many steps");
            }
            if self.clock > heal_at.max(self.environment.settled_at) {
                match self.unconverged_reason() {
                    None => converged_steps += 1,
                    Some(why)
                        if converged_steps > 0
                            || self.clock > self.healthy_at() + convergence_limit =>
                    {
                        self.oracle.record_violation(
                            1,
                            format!("not converged after the faults ended: {why}"),
                        );
                    }
                    Some(_) => {}
                }
            }
        }
        let clock = self.clock;
        self.oracle.check_fetch_rate(clock);
        self.oracle.violation.take().map_or(Ok(()), Err)
    }

    /// Returns the time from which no fault and no quarantine is active.
    fn healthy_at(&self) -> Instant {
        self.oracle.quarantined_until.unwrap_or(self.start).max(self.environment.heal_at)
    }

    /// Returns the maximum time to convergence after the faults ended. It is the sum of the deadlines,
    /// the liveness limit, the longest retry delays, the fetch periods, the removal confirmations
    /// and the staleness limit.
    fn convergence_limit(&self) -> Duration {
        let Settings { interval, reconcile, stale_after, timeout, .. } = self.settings;
        let finite = |time: Duration| if time == Duration::MAX { Duration::ZERO } else { time };
        let max_backoff = if self.environment.faults.permanent_failures { 300 } else { 10 };
        let max_retry_after =
            self.environment.faults.max_retry_after.min(Duration::from_secs(3600));
        let max_delay = Duration::from_secs(max_backoff).max(max_retry_after);
        let liveness = finite(self.settings.liveness);
        let max_age = stale_after.max(liveness.min(reconcile) * 2).max(reconcile * 2);
        timeout * 3
            + liveness
            + max_delay * 2
            + interval.max(reconcile).mul_f64(1.05) * 2
            + self.settings.confirm_after_outage * 3
            + max_age
            + Duration::from_secs(60)
    }

    /// Advances the clock to the next environment event or engine deadline.
    fn advance(&mut self) {
        let due = self.engine.deadline();
        let next = self.environment.next_at();
        let tick_first = match (due, next) {
            (Some(due), Some(next)) => {
                // If the deadline and the event are overdue, either may come first.
                let both = due <= self.clock && next <= self.clock;
                if both { self.rng.chance(0.5) } else { due <= next }
            }
            (Some(_), None) => true,
            (None, _) => false,
        };
        let at = if tick_first { due } else { next }.unwrap_or(self.clock);
        let now = self.environment.awake_at(at.max(self.clock));
        self.steps_at_instant = if now > self.clock { 0 } else { self.steps_at_instant + 1 };
        if self.steps_at_instant > MAX_STEPS_PER_INSTANT {
            self.oracle.record_violation(8, "livelock: the clock does not advance");
        }
        self.clock = now;
        if tick_first {
            return self.step(Input::Tick, self.no_provenance());
        }
        match self.environment.pop(&mut self.rng, now) {
            EnvironmentEvent::Input(input, provenance) => self.step(input, provenance),
            EnvironmentEvent::Restart => self.restart(),
            EnvironmentEvent::None => {}
        }
    }

    fn no_provenance(&self) -> Provenance {
        Provenance { reported_at: self.clock, state: 0 }
    }

    fn restart(&mut self) {
        self.environment.restart();
        if self.rng.chance(0.5) {
            self.clock += self.rng.up_to(Duration::from_secs(5));
        }
        self.trace_line(|| "---- host restarted".into());
        self.oracle.restart(self.clock);
        self.restarts += 1;
        let seed = self.seed + (self.restarts << 32);
        let engine = Engine::new(self.settings.clone(), seed, self.clock);
        let engine = engine.resume(self.oracle.revision, self.oracle.published.clone());
        self.engine = if self.oracle.pinned.is_some() { engine.pinned() } else { engine };
        self.step(Input::Tick, self.no_provenance());
    }

    /// Passes an input to the engine, and executes the effects that the engine returns.
    fn step(&mut self, input: Input<SimValue>, provenance: Provenance) {
        // The time passed to the engine may be slightly behind, because the clocks of different
        // processors may differ.
        let back = self.clock < self.environment.heal_at
            && self.rng.chance(self.environment.faults.clock_backstep);
        let now = if back && self.clock > self.start + Duration::from_secs(1) {
            self.clock - self.rng.up_to(Duration::from_millis(5))
        } else {
            self.clock
        };
        self.deliver(now, input, provenance);
        self.oracle.check_between_steps(now, &self.engine);
    }

    fn deliver(&mut self, now: Instant, input: Input<SimValue>, provenance: Provenance) {
        // A validation without delay answers after all effects of the step are executed.
        let mut next = Some((input, provenance));
        while let Some((input, provenance)) = next.take() {
            self.steps += 1;
            self.trace_line(|| format!("> {input:?}"));
            let mut step = self.oracle.input(now, &input, provenance, &self.environment);
            for effect in self.engine.step(now, input) {
                self.trace_line(|| format!("    {effect:?}"));
                self.oracle.effect(now, &mut step, &effect, &self.environment);
                if let Some(result) = self.execute(effect) {
                    next = Some((result, self.no_provenance()));
                }
                if self.oracle.violation.is_some() {
                    return;
                }
            }
        }
    }

    /// Executes an effect. Returns the validation result if it is available immediately.
    fn execute(&mut self, effect: Effect<SimValue>) -> Option<Input<SimValue>> {
        let Self { environment, rng, clock, .. } = self;
        match effect {
            Effect::Fetch(session, cursor) => {
                environment.fetch(rng, *clock, session, cursor.as_ref())
            }
            Effect::OpenWatch(session, _) => environment.open(rng, *clock, session),
            Effect::CloseWatch => environment.close(rng, *clock),
            Effect::Validate(session, sim_value) => {
                let healed = *clock >= environment.heal_at;
                let result = environment.source.validate(sim_value.content, *clock, healed, rng);
                if environment.faults.max_validation_delay.is_zero() {
                    return Some(Input::Validated(session, result));
                }
                environment.schedule_validation_result(rng, *clock, session, result);
            }
            // `CancelFetch`: the queued result of the fetch stays, so that it arrives late.
            Effect::CancelFetch
            | Effect::Publish(..)
            | Effect::PublishRemoved(_)
            | Effect::Confirmed
            | Effect::Stale(_)
            | Effect::Fresh
            | Effect::Report(_)
            | Effect::GiveUp(_) => {}
        }
        None
    }

    /// Returns the reason why the engine has not converged, or `None` if it has converged.
    fn unconverged_reason(&self) -> Option<&'static str> {
        let oracle = &self.oracle;
        let expected = self.environment.source.last().content();
        if !oracle.is_watching() || self.environment.has_silent_watch() {
            return Some("no live watch");
        }
        if oracle.fetch_started_at().is_some_and(|at| at < self.environment.heal_at) {
            return Some("a fetch from before the end of the faults is in flight");
        }
        if oracle.pinned.is_some() {
            return if oracle.failing || oracle.dirty_since_step.is_some() {
                Some("the failure is not resolved")
            } else {
                oracle.stale.then_some("the pinned value is stale")
            };
        }
        if self.is_hidden_by_weak_cursor(expected) {
            return None;
        }
        if oracle.last_reported != Some(expected) {
            return Some("the source has not been fetched");
        }
        if expected.is_some_and(Source::is_rejected) {
            if oracle.published.is_none() || oracle.stale {
                return None;
            }
            // The source reports a value that the validator rejects. The published value is then
            // stale, unless it is this same value, which an earlier pin published without validation.
            if oracle.content() != expected {
                return Some("the published value differs and is not stale");
            }
        }
        if oracle.content() != expected {
            return Some("the last value is not published");
        }
        if oracle.failing || oracle.dirty_since_step.is_some() {
            return Some("the failure is not resolved");
        }
        oracle.stale.then_some("the value is stale")
    }

    /// Returns whether a weak cursor hides the last change. The engine does not promise to find a
    /// change that no watch event announced and that does not change the cursor: only a fetch
    /// without a cursor would find such a change.
    fn is_hidden_by_weak_cursor(&self, expected: Option<Content>) -> bool {
        let Self { oracle, environment, .. } = self;
        let last = environment.source.last();
        let last_change_at = oracle.order_broken_at.map_or(last.from, |at| at.max(last.from));
        environment.source.cursor_kind == CursorKind::Weak
            && oracle.content() != expected
            && oracle.dirty_at < last_change_at
            && last
                .value
                .as_ref()
                .and_then(|sim_value| sim_value.cursor.as_ref())
                .is_some_and(|cursor| oracle.cursors.contains(cursor))
    }

    fn trace_line(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            let at = (self.clock - self.start).as_secs_f64();
            trace.push(format!("{at:>10.3}  {}", line()));
        }
    }
}
