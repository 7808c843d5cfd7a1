//! What goes wrong in a world, and how its source is set.

use super::rng::Dice;
use crate::{Settings, types::Strategy};
use std::time::Duration;

/// What goes wrong, and how often. Drawn for each world: most have only some of it.
#[derive(Debug)]
pub(super) struct Faults {
    pub(super) fail: f64,
    pub(super) hang: f64,
    pub(super) slow: f64,
    /// Events are lost …
    pub(super) lose: f64,
    /// … come twice, late, or in another order …
    pub(super) disorder: f64,
    /// … or say what was true long ago.
    pub(super) lie: f64,
    pub(super) mute: f64,
    pub(super) die: f64,
    /// Calls crash: often enough to do so many times in a row.
    pub(super) crash: f64,
    pub(super) backstep: f64,
    /// Also failures that do not go away by themselves.
    pub(super) harsh: bool,
    pub(super) longest_pause: Duration,
    pub(super) judging: Duration,
}

impl Faults {
    pub(super) fn draw(dice: &mut Dice) -> Self {
        let seconds = Duration::from_secs;
        let mut some = |share: f64, most: f64| {
            if dice.chance(share) { most * dice.below(100) as f64 / 100.0 } else { 0.0 }
        };
        Self {
            fail: some(0.7, 0.6),
            hang: some(0.4, 0.2),
            slow: some(0.5, 0.5),
            lose: some(0.4, 0.6),
            disorder: some(0.3, 0.5),
            lie: some(0.2, 0.3),
            mute: some(0.4, 0.2),
            die: some(0.6, 0.3),
            crash: some(0.3, 1.0),
            backstep: some(0.2, 0.1),
            harsh: dice.chance(0.3),
            longest_pause: dice.pick(&[1, 1, 1, 20, 20, 20, 100, 7200].map(seconds)),
            judging: dice.pick(&[0, 0, 0, 0, 0, 0, 0, 20, 3000].map(Duration::from_millis)),
        }
    }
}

/// Draws the settings of a source.
pub(super) fn settings(dice: &mut Dice) -> Settings {
    let milliseconds = Duration::from_millis;
    let strategy = dice.pick(&[Strategy::Polling, Strategy::Realtime, Strategy::Hybrid]);
    let interval = dice.between(milliseconds(500), milliseconds(20_000));
    let seconds = Duration::from_secs;
    let confirm = dice.pick(&[milliseconds(0), milliseconds(200), milliseconds(200), seconds(1)]);
    Settings {
        strategy,
        interval,
        reconcile: interval * (1 + dice.below(8)) as u32,
        stale_after: interval.mul_f64(1.3) + dice.between(seconds(1), seconds(40)),
        liveness: if dice.chance(0.2) {
            Duration::MAX
        } else {
            dice.between(seconds(3), seconds(60))
        },
        timeout: dice.between(milliseconds(500), seconds(20)),
        confirm,
        confirm_after_trouble: confirm + dice.between(milliseconds(0), seconds(4)),
        force_reload: dice.chance(0.1),
        crashes_allowed: 1 + dice.below(5) as u32,
        quarantine: dice.between(seconds(1), seconds(30)),
        timeout_limit: None,
        silence_is_crash: dice.chance(0.8),
    }
}
