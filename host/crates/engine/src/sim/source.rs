//! The model source: what it holds, and when. All of it is drawn before the run, so that what was
//! true at any time can be looked up.

use super::rng::Dice;
use crate::{
    Settings,
    types::{Cursor, Failure, FailureKind, Value},
};
use std::time::{Duration, Instant};

/// What a value holds. 0 is empty, the others are told apart and nothing else …
pub(super) type Content = u8;
/// … but that the validator refuses some of them for good …
const REFUSED: std::ops::RangeInclusive<Content> = 6..=7;
/// … and others for a while.
const REFUSED_FOR_NOW: std::ops::RangeInclusive<Content> = 8..=9;

/// A value that knows which state of the source it came from. The engine does not look at that.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) content: Content,
    pub(super) state: usize,
    pub(super) cursor: Option<Cursor>,
}

impl Value for Held {
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

/// From one time on, the source says this.
#[derive(Debug)]
pub(super) struct State {
    pub(super) from: Instant,
    /// `None`: it has no value.
    pub(super) value: Option<Held>,
}

impl State {
    pub(super) fn content(&self) -> Option<Content> {
        self.value.as_ref().map(|value| value.content)
    }
}

/// What a source gives as the cursor of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cursors {
    /// A number that is never used again.
    Version,
    /// A hash of the content: the same for the same.
    Hash,
    /// The second of the last write: two quick ones look the same.
    Weak,
    None,
}

#[derive(Debug)]
pub(super) struct Source {
    pub(super) states: Vec<State>,
    /// When it cannot be reached at all.
    outages: Vec<(Instant, Instant)>,
    pub(super) cursors: Cursors,
    /// Up to here the validator refuses some contents.
    refuses_until: Instant,
    /// How often the validator fails for no reason.
    flaky: f64,
    /// What the validator says of contents that it refuses for good.
    refusal: FailureKind,
}

impl Source {
    /// Draws a source's whole life.
    pub(super) fn draw(dice: &mut Dice, start: Instant, settings: &Settings) -> Self {
        let cursors = dice.pick(&[Cursors::Version, Cursors::Hash, Cursors::Weak, Cursors::None]);
        let mut source = Self {
            states: Vec::new(),
            outages: Vec::new(),
            cursors,
            refuses_until: start,
            flaky: if dice.chance(0.1) { 0.1 } else { 0.0 },
            refusal: dice.pick(&[FailureKind::Permanent, FailureKind::Denied, FailureKind::Config]),
        };
        let mut at = start;
        source.write(at, dice.content());
        let period = settings.interval.min(Duration::from_secs(8));
        for _ in 0..2 + dice.below(9) {
            at += match dice.below(6) {
                0 | 1 => dice.up_to(Duration::from_millis(60)),
                2..=4 => dice.up_to(period * 2),
                _ => dice.up_to(period * 7),
            };
            match dice.below(12) {
                0..=5 => source.write(at, dice.content()),
                // It goes back to what it was before.
                6 => source.write(at, source.states[dice.below(source.states.len())].content()),
                // It is truncated, then written; or removed, then created.
                7 | 8 => {
                    source.write(at, dice.pick(&[Some(0), Some(5), None]));
                    at += dice.up_to(settings.confirm.mul_f64(0.9)) + Duration::from_millis(1);
                    source.write(at, dice.content());
                }
                // It flaps.
                9 => {
                    let (one, other) = (dice.content(), dice.content());
                    for turn in 0..3 + dice.below(4) {
                        source.write(at, if turn % 2 == 0 { one } else { other });
                        at += dice.up_to(period / 4) + Duration::from_millis(1);
                    }
                }
                // It is restarted: it cannot be reached, then it has not loaded its data yet.
                _ => {
                    let down_until = at + dice.up_to(period * 3);
                    source.outages.push((at, down_until));
                    let before = source.states[source.states.len() - 1].content();
                    source.write(down_until, dice.pick(&[None, Some(0), before]));
                    at = down_until + dice.up_to(settings.confirm_after_trouble.mul_f64(0.9));
                    at += Duration::from_millis(1);
                    let after = dice.content();
                    source.write(at, dice.pick(&[before, after]));
                }
            }
        }
        source.refuses_until = start + dice.up_to(at + period - start);
        source
    }

    fn write(&mut self, at: Instant, content: Option<Content>) {
        let state = self.states.len();
        let first = self.states.first().map_or(at, |first| first.from);
        let value = content.map(|content| Held {
            content,
            state,
            cursor: match self.cursors {
                Cursors::Version => Some(Cursor::new(format!("v{state}"))),
                Cursors::Hash => Some(Cursor::new(format!("#{content}"))),
                Cursors::Weak => Some(Cursor::new(format!("{}s", (at - first).as_secs()))),
                Cursors::None => None,
            },
        });
        self.states.push(State { from: at, value });
    }

    /// The number of the state at a time.
    pub(super) fn state_at(&self, at: Instant) -> usize {
        self.states.iter().rposition(|state| state.from <= at).unwrap_or(0)
    }

    pub(super) fn last(&self) -> &State {
        &self.states[self.states.len() - 1]
    }

    pub(super) fn is_out(&self, at: Instant) -> bool {
        self.outages.iter().any(|(from, to)| (*from..*to).contains(&at))
    }

    /// Whether the validator refuses this content for good.
    pub(super) fn refuses(content: Content) -> bool {
        REFUSED.contains(&content)
    }

    /// What the validator says.
    pub(super) fn judge(
        &self,
        content: Content,
        now: Instant,
        healed: bool,
        dice: &mut Dice,
    ) -> Result<(), Failure> {
        if Self::refuses(content) {
            return Err(Failure::new(self.refusal, "not fit"));
        }
        let for_now = REFUSED_FOR_NOW.contains(&content) && now < self.refuses_until;
        if !healed && (for_now || dice.chance(self.flaky)) {
            return Err(Failure::transient("not fit yet"));
        }
        Ok(())
    }
}
