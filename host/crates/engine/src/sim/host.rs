//! The engine's driver in the model: carries out effects, keeps what is published across restarts,
//! and moves the clock.

use super::{
    faults::settings,
    oracle::{Oracle, Violation},
    rng::Dice,
    source::{Content, Cursors, Held, Source},
    world::{About, Happening, World},
};
use crate::{
    Effect, Engine, Input, Settings,
    mutations::{Bug, Bugs},
};
use std::time::{Duration, Instant};

/// No world needs more; what does, loops.
const STEPS: u32 = 20_000;
/// As many steps at one moment are a loop.
const AT_ONCE: u32 = 60;

pub(super) struct Host {
    seed: u64,
    settings: Settings,
    bugs: Bugs,
    dice: Dice,
    world: World,
    oracle: Oracle,
    engine: Engine<Held>,
    start: Instant,
    clock: Instant,
    restarts: u64,
    steps: u32,
    at_once: u32,
    trace: Option<Vec<String>>,
}

impl Host {
    pub(super) fn new(seed: u64, bug: Option<Bug>, trace: bool) -> Self {
        let mut dice = Dice::new(seed);
        let settings = settings(&mut dice);
        let start = Instant::now();
        let bugs = Bugs { on: bug };
        let world = World::draw(&mut dice, start, &settings);
        let mut host = Self {
            seed,
            bugs,
            oracle: Oracle::new(&settings, start),
            engine: Engine::with_bugs(settings.clone(), seed, start, bugs),
            settings,
            dice,
            world,
            start,
            clock: start,
            restarts: 0,
            steps: 0,
            at_once: 0,
            trace: trace.then(Vec::new),
        };
        host.introduce();
        host
    }

    fn introduce(&mut self) {
        let Self { settings, world, start, .. } = self;
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{settings:?}"));
            trace.push(format!("{:?}, {:?}", world.faults, world.source.cursors));
            for (number, state) in world.source.states.iter().enumerate() {
                let at = (state.from - *start).as_secs_f64();
                trace.push(format!("{at:>10.3}  source: state {number}: {:?}", state.value));
            }
            let at = (world.heal_at - *start).as_secs_f64();
            trace.push(format!("{at:>10.3}  healed"));
        }
    }

    pub(super) fn into_trace(self) -> Vec<String> {
        self.trace.unwrap_or_default()
    }

    pub(super) fn steps(&self) -> u32 {
        self.steps
    }

    /// Lives through it all.
    pub(super) fn run(&mut self) -> Result<(), Violation> {
        let heal_at = self.world.heal_at;
        let bound = self.bound();
        self.step(Input::Tick, self.nothing());
        // Once all is well, it has to stay so.
        let mut calm = 0;
        while calm < 8 {
            self.advance();
            if let Some(violation) = self.oracle.violation.take() {
                return Err(violation);
            }
            if self.oracle.gave_up {
                return Ok(());
            }
            if self.steps > STEPS {
                self.oracle.violated(8, "too many steps");
            }
            if self.clock > heal_at.max(self.world.calm_at) {
                match self.unsettled() {
                    None => calm += 1,
                    Some(why) if calm > 0 || self.clock > self.well_at() + bound => {
                        self.oracle.violated(1, format!("healed, and {why}"));
                    }
                    Some(_) => {}
                }
            }
        }
        let clock = self.clock;
        self.oracle.rate(clock);
        self.oracle.violation.take().map_or(Ok(()), Err)
    }

    /// When nothing goes wrong any more, and nothing is in quarantine.
    fn well_at(&self) -> Instant {
        self.oracle.quarantined_until.unwrap_or(self.start).max(self.world.heal_at)
    }

    /// How long after that everything may take at most: what hangs is given up, the
    /// watch falls silent and is closed, each of the two is tried again after the longest pause, then
    /// the source is read, perhaps once more, and what it says is doubted or refused for a while.
    fn bound(&self) -> Duration {
        let Settings { interval, reconcile, stale_after, timeout, .. } = self.settings;
        let finite = |time: Duration| if time == Duration::MAX { Duration::ZERO } else { time };
        let harsh = if self.world.faults.harsh { 300 } else { 10 };
        let asked = self.world.faults.longest_pause.min(Duration::from_secs(3600));
        let pause = Duration::from_secs(harsh).max(asked);
        let liveness = finite(self.settings.liveness);
        let promise = stale_after.max(liveness.min(reconcile) * 2).max(reconcile * 2);
        timeout * 3
            + liveness
            + pause * 2
            + interval.max(reconcile).mul_f64(1.05) * 2
            + self.settings.confirm_after_trouble * 3
            + promise
            + Duration::from_secs(60)
    }

    /// To the next thing that happens, or that the engine wants to do.
    fn advance(&mut self) {
        let due = self.engine.deadline();
        let next = self.world.next_at();
        let tick_first = match (due, next) {
            (Some(due), Some(next)) => {
                // Of two things that are late already, either may come first.
                let both = due <= self.clock && next <= self.clock;
                if both { self.dice.chance(0.5) } else { due <= next }
            }
            (Some(_), None) => true,
            (None, _) => false,
        };
        let at = if tick_first { due } else { next }.unwrap_or(self.clock);
        let now = self.world.awake_at(at.max(self.clock));
        self.at_once = if now > self.clock { 0 } else { self.at_once + 1 };
        if self.at_once > AT_ONCE {
            self.oracle.violated(8, "a loop at one moment");
        }
        self.clock = now;
        if tick_first {
            return self.step(Input::Tick, self.nothing());
        }
        match self.world.pop(&mut self.dice, now) {
            Happening::Input(input, about) => self.step(input, about),
            Happening::Restart => self.restart(),
            Happening::Nothing => {}
        }
    }

    fn nothing(&self) -> About {
        About { said_at: self.clock, state: 0 }
    }

    fn restart(&mut self) {
        self.world.restart();
        if self.dice.chance(0.5) {
            self.clock += self.dice.up_to(Duration::from_secs(5));
        }
        self.note(|| "---- the host starts anew".into());
        self.oracle.restart(self.clock);
        self.restarts += 1;
        let seed = self.seed + (self.restarts << 32);
        let engine = Engine::with_bugs(self.settings.clone(), seed, self.clock, self.bugs);
        let engine = engine.resume(self.oracle.revision, self.oracle.published.clone());
        self.engine = if self.oracle.pinned.is_some() { engine.pinned() } else { engine };
        self.step(Input::Tick, self.nothing());
    }

    /// Tells the engine, and does what it wants.
    fn step(&mut self, input: Input<Held>, about: About) {
        // The clocks of two processors may differ a little.
        let back = self.clock < self.world.heal_at && self.dice.chance(self.world.faults.backstep);
        let now = if back && self.clock > self.start + Duration::from_secs(1) {
            self.clock - self.dice.up_to(Duration::from_millis(5))
        } else {
            self.clock
        };
        self.told(now, input, about);
        self.oracle.settled(now, &self.engine);
    }

    fn told(&mut self, now: Instant, input: Input<Held>, about: About) {
        // What is judged at once is answered when all that was to be done has been done.
        let mut next = Some((input, about));
        while let Some((input, about)) = next.take() {
            self.steps += 1;
            self.note(|| format!("> {input:?}"));
            let mut step = self.oracle.input(now, &input, about, &self.world);
            for effect in self.engine.step(now, input) {
                self.note(|| format!("    {effect:?}"));
                self.oracle.effect(now, &mut step, &effect, &self.world);
                if let Some(verdict) = self.carry_out(effect) {
                    next = Some((verdict, self.nothing()));
                }
                if self.oracle.violation.is_some() {
                    return;
                }
            }
        }
    }

    /// Does it; and what has come of it, if that is known at once.
    fn carry_out(&mut self, effect: Effect<Held>) -> Option<Input<Held>> {
        let Self { world, dice, clock, .. } = self;
        match effect {
            Effect::Fetch(session, known) => world.fetch(dice, *clock, session, known.as_ref()),
            Effect::OpenWatch(session, _) => world.open(dice, *clock, session),
            Effect::CloseWatch => world.close(dice, *clock),
            Effect::Offer(session, held) => {
                let healed = *clock >= world.heal_at;
                let verdict = world.source.judge(held.content, *clock, healed, dice);
                if world.faults.judging.is_zero() {
                    return Some(Input::Judged(session, verdict));
                }
                world.judged(dice, *clock, session, verdict);
            }
            // What was cancelled may arrive all the same.
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

    /// What is not yet as it shall be in the end.
    fn unsettled(&self) -> Option<&'static str> {
        let oracle = &self.oracle;
        let wanted = self.world.source.last().content();
        if !oracle.listens() || self.world.has_mute_watch() {
            return Some("the source is not watched");
        }
        if oracle.asked_at().is_some_and(|at| at < self.world.heal_at) {
            return Some("a fetch hangs");
        }
        if oracle.pinned.is_some() {
            return if oracle.trouble || oracle.announced.is_some() {
                Some("it has not recovered")
            } else {
                oracle.stale.then_some("the pinned value is stale")
            };
        }
        if self.is_excused(wanted) {
            return None;
        }
        if oracle.last_told != Some(wanted) {
            return Some("the source has not been read");
        }
        if wanted.is_some_and(Source::refuses) {
            if oracle.published.is_none() || oracle.stale {
                return None;
            }
            // It may have been pinned before: what is pinned is not judged.
            if oracle.content() != wanted {
                return Some("what is published is not said to be stale");
            }
        }
        if oracle.content() != wanted {
            return Some("the last value is not published");
        }
        if oracle.trouble || oracle.announced.is_some() {
            return Some("it has not recovered");
        }
        oracle.stale.then_some("the value is stale")
    }

    /// A weak cursor hides a change of which nothing has told. To find it, each poll would have to
    /// read everything: that is what a cursor is there to avoid.
    fn is_excused(&self, wanted: Option<Content>) -> bool {
        let Self { oracle, world, .. } = self;
        let last = world.source.last();
        let misled_at = oracle.crooked_at.map_or(last.from, |at| at.max(last.from));
        world.source.cursors == Cursors::Weak
            && oracle.content() != wanted
            && oracle.announced_at < misled_at
            && last
                .value
                .as_ref()
                .and_then(|held| held.cursor.as_ref())
                .is_some_and(|cursor| oracle.cursors.contains(cursor))
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            let at = (self.clock - self.start).as_secs_f64();
            trace.push(format!("{at:>10.3}  {}", line()));
        }
    }
}
