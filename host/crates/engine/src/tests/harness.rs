//! Test bench: the test takes the role of the driver, and answers the effects of the engine. Only
//! the test advances the clock.

use crate::{
    Effect, Engine, Input, Session, Settings,
    types::{Cursor, Failure, FailureKind, Outcome, Snapshot, Strategy},
};
use std::time::{Duration, Instant};

pub(super) const FIVE_MINUTES: Duration = Duration::from_secs(300);
pub(super) const HOUR: Duration = Duration::from_secs(3600);

/// Maximum number of deadlines that a bench waits for. More are a livelock, or the awaited effect
/// never happens.
const MAX_DEADLINES: usize = 1_000;

/// Engine under test, its clock, and the effects of the last step.
pub(super) struct Bench {
    pub(super) engine: Engine,
    pub(super) now: Instant,
    pub(super) effects: Vec<Effect>,
    /// Number of confirmations since the test last reset it.
    pub(super) confirmations: usize,
    /// Validator that answers the validation requests of the engine. The default accepts every value.
    pub(super) validate: fn(&Snapshot) -> Result<(), Failure>,
}

/// Returns the settings of [`bench`]: a poll interval of 10 s, otherwise the defaults.
pub(super) fn settings(strategy: Strategy) -> Settings {
    Settings::new(strategy, Duration::from_secs(10))
}

pub(super) fn bench(strategy: Strategy) -> Bench {
    bench_with_settings(settings(strategy))
}

pub(super) fn bench_with_settings(settings: Settings) -> Bench {
    let now = Instant::now();
    started(Engine::new(settings, 7, now), now)
}

/// Returns a bench with the value `a` published, and the session of its live watch.
pub(super) fn watching_bench(strategy: Strategy) -> (Bench, Session) {
    let mut bench = bench(strategy);
    let watch = bench.settle().expect("strategy with a watch");
    (bench, watch)
}

pub(super) fn started(mut engine: Engine, now: Instant) -> Bench {
    let effects = engine.start(now);
    Bench { engine, now, effects, confirmations: 0, validate: |_| Ok(()) }
}

/// Returns a value whose cursor equals its content.
pub(super) fn value(content: &str) -> Snapshot {
    Snapshot { cursor: Some(Cursor::new(content)), ..Snapshot::new(content.to_owned()) }
}

pub(super) fn changed(content: &str) -> Result<Outcome, Failure> {
    Ok(Outcome::Changed(value(content)))
}

pub(super) fn transient_failure() -> Failure {
    Failure::transient("broken")
}

/// Returns a transient failure with a `retry-after`.
pub(super) fn busy(retry_after: Duration) -> Failure {
    Failure::new(FailureKind::Transient { retry_after: Some(retry_after) }, "busy")
}

pub(super) fn crash() -> Failure {
    Failure::new(FailureKind::Crashed, "the plugin trapped")
}

/// Returns the session of the fetch that the effects start.
pub(super) fn fetch_session(effects: &[Effect]) -> Session {
    let fetch = effects.iter().find_map(|effect| match effect {
        Effect::Fetch(session, _) => Some(*session),
        _ => None,
    });
    fetch.expect("a fetch")
}

impl Bench {
    pub(super) fn step(&mut self, input: Input) -> &mut Self {
        self.effects.clear();
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            for effect in self.engine.step(self.now, input) {
                match effect {
                    Effect::Validate(session, value) => {
                        inputs.push(Input::Validated(session, (self.validate)(&value)));
                    }
                    Effect::Confirmed => self.confirmations += 1,
                    effect => self.effects.push(effect),
                }
            }
        }
        self
    }

    pub(super) fn wait(&mut self, duration: Duration) -> &mut Self {
        self.now += duration;
        self.step(Input::Tick)
    }

    /// Advances the clock to the next deadline of the engine, and steps the engine.
    pub(super) fn wait_for_deadline(&mut self) -> &mut Self {
        self.now = self.now.max(self.engine.deadline().expect("a scheduled deadline"));
        self.step(Input::Tick)
    }

    /// Advances the clock until the engine starts a fetch.
    pub(super) fn wait_for_fetch(&mut self) -> &mut Self {
        self.wait_until(|bench| bench.fetch().is_some())
    }

    /// Advances the clock to the next opening of the watch. Returns the session of the watch.
    pub(super) fn wait_for_opening(&mut self) -> Session {
        self.wait_until(|bench| bench.opening().is_some()).opening().expect("opening")
    }

    /// Advances the clock to the first deadline at which the condition holds.
    pub(super) fn wait_until(&mut self, condition: impl Fn(&Self) -> bool) -> &mut Self {
        for _ in 0..MAX_DEADLINES {
            if condition(self) {
                return self;
            }
            self.wait_for_deadline();
        }
        panic!("the awaited effect does not happen");
    }

    /// Advances the clock to the next fetch, while the watch reports that nothing has changed.
    pub(super) fn wait_for_fetch_with_alive_events(&mut self, watch: Session) -> &mut Self {
        const ALIVE_INTERVAL: Duration = Duration::from_secs(30);
        for _ in 0..MAX_DEADLINES {
            self.now += ALIVE_INTERVAL;
            if self.step(Input::Watched(watch, crate::types::Event::Alive)).fetch().is_some() {
                return self;
            }
        }
        panic!("no fetch while the watch is live");
    }

    pub(super) fn fetch(&self) -> Option<(Session, Option<Cursor>)> {
        self.effects.iter().find_map(|effect| match effect {
            Effect::Fetch(session, known) => Some((*session, known.clone())),
            _ => None,
        })
    }

    pub(super) fn opening(&self) -> Option<Session> {
        self.effects.iter().find_map(|effect| match effect {
            Effect::OpenWatch(session, _) => Some(*session),
            _ => None,
        })
    }

    pub(super) fn published(&self) -> Vec<String> {
        self.effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Publish(_, snapshot) => {
                    Some(String::from_utf8_lossy(&snapshot.content).into_owned())
                }
                Effect::PublishRemoved(_) => Some("(removed)".into()),
                _ => None,
            })
            .collect()
    }

    /// Returns the reasons for staleness in the last step.
    pub(super) fn stale_reasons(&self) -> Vec<String> {
        let reason = |effect: &Effect| match effect {
            Effect::Stale(failure) => Some(failure.message.to_string()),
            _ => None,
        };
        self.effects.iter().filter_map(reason).collect()
    }

    /// Returns the delay until the next fetch.
    pub(super) fn next_fetch_in(&self) -> Duration {
        self.engine.next_fetch().expect("a scheduled fetch") - self.now
    }

    pub(super) fn answer(&mut self, result: Result<Outcome, Failure>) -> &mut Self {
        let (session, _) = self.fetch().expect("a fetch is in flight");
        self.step(Input::Fetched(session, result))
    }

    /// Publishes the value `a`, and arms the watch if the strategy has one. Returns the session of
    /// the watch.
    pub(super) fn settle(&mut self) -> Option<Session> {
        let watch = self.answer(changed("a")).opening();
        if let Some(session) = watch {
            self.step(Input::Armed(session)).answer(changed("a"));
        }
        watch
    }
}
