//! Model of the source and of the validator. The timeline of the source is drawn before the run, so
//! that the oracle can look up the state of the source at any time.

use super::rng::SimRng;
use crate::{
    Settings,
    types::{Cursor, Failure, FailureKind, Value},
};
use std::time::{Duration, Instant};

/// Content of a value; 0 stands for an empty value.
pub(super) type Content = u8;
/// Contents that the validator always rejects.
const REJECTED_PERMANENTLY: std::ops::RangeInclusive<Content> = 6..=7;
/// Contents that the validator rejects until [`Source::rejects_until`].
const REJECTED_TEMPORARILY: std::ops::RangeInclusive<Content> = 8..=9;

/// Value with the index of the source's state that it comes from. Only the oracle uses the index.
#[derive(Debug, Clone)]
pub(super) struct SimValue {
    pub(super) content: Content,
    pub(super) state: usize,
    pub(super) cursor: Option<Cursor>,
}

impl Value for SimValue {
    fn same_value(&self, other: &Self) -> bool {
        self.content == other.content
    }

    fn is_empty(&self) -> bool {
        self.content == 0
    }

    fn cursor(&self) -> Option<&Cursor> {
        self.cursor.as_ref()
    }
}

/// State of the source, from the time `from` until the next state.
#[derive(Debug)]
pub(super) struct State {
    pub(super) from: Instant,
    /// Value of the source; `None` if it is absent.
    pub(super) value: Option<SimValue>,
}

impl State {
    pub(super) fn content(&self) -> Option<Content> {
        self.value.as_ref().map(|value| value.content)
    }
}

/// Kind of the cursors of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CursorKind {
    /// Version number: each write has a different cursor.
    Version,
    /// Hash of the content: equal contents have equal cursors.
    Hash,
    /// Second of the last write: two writes in the same second have equal cursors.
    Weak,
    None,
}

/// Model of the source and of its validator.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) states: Vec<State>,
    /// Periods in which the source is unreachable.
    outages: Vec<(Instant, Instant)>,
    pub(super) cursor_kind: CursorKind,
    /// Time until which the validator rejects the contents in [`REJECTED_TEMPORARILY`].
    rejects_until: Instant,
    /// Probability that a validation fails transiently, without a decision on the value.
    validator_failure_rate: f64,
    /// Failure kind of a rejection of the contents in [`REJECTED_PERMANENTLY`].
    rejection_kind: FailureKind,
}

impl Source {
    /// Creates a source with a random timeline of writes and outages.
    pub(super) fn draw(rng: &mut SimRng, start: Instant, settings: &Settings) -> Self {
        let cursor_kind =
            rng.pick(&[CursorKind::Version, CursorKind::Hash, CursorKind::Weak, CursorKind::None]);
        let mut source = Self {
            states: Vec::new(),
            outages: Vec::new(),
            cursor_kind,
            rejects_until: start,
            validator_failure_rate: if rng.chance(0.1) { 0.1 } else { 0.0 },
            rejection_kind: rng.pick(&[
                FailureKind::Permanent,
                FailureKind::Denied,
                FailureKind::Config,
            ]),
        };
        let mut at = start;
        source.write(at, draw_content(rng));
        let period = settings.interval.min(Duration::from_secs(8));
        for _ in 0..2 + rng.below(9) {
            at += match rng.below(6) {
                0 | 1 => rng.up_to(Duration::from_millis(60)),
                2..=4 => rng.up_to(period * 2),
                _ => rng.up_to(period * 7),
            };
            match rng.below(12) {
                0..=5 => source.write(at, draw_content(rng)),
                // The source changes back to an earlier content.
                6 => source.write(at, source.states[rng.below(source.states.len())].content()),
                // Update in two writes: the value is empty, incomplete or absent in between.
                7 | 8 => {
                    source.write(at, rng.pick(&[Some(0), Some(5), None]));
                    at += rng.up_to(settings.confirm.mul_f64(0.9)) + Duration::from_millis(1);
                    source.write(at, draw_content(rng));
                }
                // The source alternates between two contents.
                9 => {
                    let (one, other) = (draw_content(rng), draw_content(rng));
                    for turn in 0..3 + rng.below(4) {
                        source.write(at, if turn % 2 == 0 { one } else { other });
                        at += rng.up_to(period / 4) + Duration::from_millis(1);
                    }
                }
                // Restart of the source: it is unreachable, and then reports no value, an empty one or
                // the previous one until it has loaded its data.
                _ => {
                    let down_until = at + rng.up_to(period * 3);
                    source.outages.push((at, down_until));
                    let before = source.states[source.states.len() - 1].content();
                    source.write(down_until, rng.pick(&[None, Some(0), before]));
                    at = down_until + rng.up_to(settings.confirm_after_outage.mul_f64(0.9));
                    at += Duration::from_millis(1);
                    let after = draw_content(rng);
                    source.write(at, rng.pick(&[before, after]));
                }
            }
        }
        source.rejects_until = start + rng.up_to(at + period - start);
        source
    }

    fn write(&mut self, at: Instant, content: Option<Content>) {
        let state = self.states.len();
        let first = self.states.first().map_or(at, |first| first.from);
        let value = content.map(|content| SimValue {
            content,
            state,
            cursor: match self.cursor_kind {
                CursorKind::Version => Some(Cursor::new(format!("v{state}"))),
                CursorKind::Hash => Some(Cursor::new(format!("#{content}"))),
                CursorKind::Weak => Some(Cursor::new(format!("{}s", (at - first).as_secs()))),
                CursorKind::None => None,
            },
        });
        self.states.push(State { from: at, value });
    }

    /// Returns the index of the state at a time.
    pub(super) fn state_at(&self, at: Instant) -> usize {
        self.states.iter().rposition(|state| state.from <= at).unwrap_or(0)
    }

    pub(super) fn last(&self) -> &State {
        &self.states[self.states.len() - 1]
    }

    pub(super) fn is_unreachable(&self, at: Instant) -> bool {
        self.outages.iter().any(|(from, to)| (*from..*to).contains(&at))
    }

    /// Returns whether the validator always rejects this content.
    pub(super) fn is_rejected(content: Content) -> bool {
        REJECTED_PERMANENTLY.contains(&content)
    }

    /// Returns the answer of the simulated validator to a content.
    pub(super) fn validate(
        &self,
        content: Content,
        now: Instant,
        healed: bool,
        rng: &mut SimRng,
    ) -> Result<(), Failure> {
        if Self::is_rejected(content) {
            return Err(Failure::new(self.rejection_kind, "rejected"));
        }
        let temporarily = REJECTED_TEMPORARILY.contains(&content) && now < self.rejects_until;
        if !healed && (temporarily || rng.chance(self.validator_failure_rate)) {
            return Err(Failure::transient("rejected for now"));
        }
        Ok(())
    }
}

/// Draws the content of a write; most contents are valid.
fn draw_content(rng: &mut SimRng) -> Option<Content> {
    match rng.below(20) {
        0 => None,
        1 => Some(0),
        2 => Some(6),
        3 => Some(7),
        4 => Some(8),
        5 => Some(9),
        other => Some((other % 4) as Content + 1),
    }
}
