//! An engine on the bench, for its tests: what it asks for is answered by hand.

use super::*;
use crate::types::{Cursor, FailureKind, Outcome};

/// An engine under test, its clock, and what it has asked for and not been answered.
pub(super) struct Bench {
    pub(super) engine: Engine,
    pub(super) now: Instant,
    pub(super) effects: Vec<Effect>,
    /// How often the source has stood for what is published, since this was looked at last.
    pub(super) confirmed: usize,
    /// Judges what is offered; accepts it by default.
    pub(super) judge: fn(&Snapshot) -> Result<(), Failure>,
}

pub(super) fn bench(strategy: Strategy) -> Bench {
    bench_of(Settings::new(strategy, Duration::from_secs(10)), 7)
}

pub(super) fn bench_of(settings: Settings, seed: u64) -> Bench {
    bench_with(settings, seed, Bugs::default())
}

pub(super) fn bench_with(settings: Settings, seed: u64, bugs: Bugs) -> Bench {
    let now = Instant::now();
    started(Engine::with_bugs(settings, seed, now, bugs), now)
}

/// With an interval of ten seconds.
pub(super) fn polling_with(bugs: Bugs) -> Bench {
    bench_with(Settings::new(Strategy::Polling, Duration::from_secs(10)), 7, bugs)
}

pub(super) fn started(mut engine: Engine, now: Instant) -> Bench {
    let effects = engine.start(now);
    Bench { engine, now, effects, confirmed: 0, judge: |_| Ok(()) }
}

pub(super) fn value(content: &str) -> Snapshot {
    Snapshot { cursor: Some(Cursor::new(content)), ..Snapshot::new(content.to_owned()) }
}

pub(super) fn changed(content: &str) -> Result<Outcome, Failure> {
    Ok(Outcome::Changed(value(content)))
}

pub(super) fn broken() -> Failure {
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
                        inputs.push(Input::Judged(session, (self.judge)(&value)));
                    }
                    Effect::Confirmed => self.confirmed += 1,
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

    /// Goes to the next deadline.
    pub(super) fn wait_for_deadline(&mut self) -> &mut Self {
        self.now = self.now.max(self.engine.deadline().expect("something is due"));
        self.step(Input::Tick)
    }

    /// Goes to when the source is read next.
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

    /// With the value `a` published, and the watch (if there is one) live and confirmed.
    pub(super) fn settled(&mut self) -> Option<Session> {
        let watch = self.answer(changed("a")).opening();
        if let Some(session) = watch {
            self.step(Input::Armed(session)).answer(changed("a"));
        }
        watch
    }
}
