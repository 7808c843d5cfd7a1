//! Test bench: an engine whose effects the test answers.

use super::*;
use crate::types::{Cursor, FailureKind, Outcome};

/// Engine under test, its clock, and the effects of the last step.
pub(super) struct Bench {
    pub(super) engine: Engine,
    pub(super) now: Instant,
    pub(super) effects: Vec<Effect>,
    /// Number of confirmations since the test last reset it.
    pub(super) confirmations: usize,
    /// Validator; accepts every value by default.
    pub(super) validate: fn(&Snapshot) -> Result<(), Failure>,
}

pub(super) fn bench(strategy: Strategy) -> Bench {
    bench_with_settings(Settings::new(strategy, Duration::from_secs(10)), 7)
}

pub(super) fn bench_with_settings(settings: Settings, seed: u64) -> Bench {
    bench_with_mutations(settings, seed, Mutations::default())
}

pub(super) fn bench_with_mutations(settings: Settings, seed: u64, mutations: Mutations) -> Bench {
    let now = Instant::now();
    started(Engine::with_mutations(settings, seed, now, mutations), now)
}

/// Returns a polling bench with an interval of 10 s.
pub(super) fn polling_bench(mutations: Mutations) -> Bench {
    bench_with_mutations(Settings::new(Strategy::Polling, Duration::from_secs(10)), 7, mutations)
}

pub(super) fn started(mut engine: Engine, now: Instant) -> Bench {
    let effects = engine.start(now);
    Bench { engine, now, effects, confirmations: 0, validate: |_| Ok(()) }
}

pub(super) fn value(content: &str) -> Snapshot {
    Snapshot { cursor: Some(Cursor::new(content)), ..Snapshot::new(content.to_owned()) }
}

pub(super) fn changed(content: &str) -> Result<Outcome, Failure> {
    Ok(Outcome::Changed(value(content)))
}

pub(super) fn transient_failure() -> Failure {
    Failure::transient("broken")
}

pub(super) fn crash() -> Failure {
    Failure::new(FailureKind::Crashed, "the plugin trapped")
}

impl Bench {
    pub(super) fn step(&mut self, input: Input) -> &mut Self {
        self.effects.clear();
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            for effect in self.engine.step(self.now, input) {
                match effect {
                    Effect::Offer(session, value) => {
                        inputs.push(Input::Judged(session, (self.validate)(&value)));
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

    /// Advances the clock to the next deadline.
    pub(super) fn wait_for_deadline(&mut self) -> &mut Self {
        self.now = self.now.max(self.engine.deadline().expect("a scheduled deadline"));
        self.step(Input::Tick)
    }

    /// Advances the clock to the next fetch.
    pub(super) fn wait_for_fetch(&mut self) -> &mut Self {
        while self.fetch().is_none() {
            self.wait_for_deadline();
        }
        self
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
