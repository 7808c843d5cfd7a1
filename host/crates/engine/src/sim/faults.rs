//! Fault probabilities of a simulation, and random settings.

use super::rng::SimRng;
use crate::{Settings, types::Strategy};
use std::time::Duration;

/// Probabilities of the faults in one simulation. Most simulations have only some kinds of faults.
#[derive(Debug)]
pub(super) struct Faults {
    /// Probability that a call to the source fails.
    pub(super) fail: f64,
    /// Probability that a call exceeds its deadline.
    pub(super) hang: f64,
    /// Probability that a call is slow, but within its deadline.
    pub(super) slow: f64,
    /// Probability that a watch event is lost.
    pub(super) lose_event: f64,
    /// Probability that an event is duplicated, delayed or reordered.
    pub(super) reorder_event: f64,
    /// Probability that an event carries an outdated state.
    pub(super) outdated_event: f64,
    /// Probability that a watch falls silent without an error.
    pub(super) silence_watch: f64,
    /// Probability that a watch ends with an error.
    pub(super) end_watch: f64,
    /// Probability that a call crashes. It can be close to 1, so that repeated crashes cause a
    /// quarantine.
    pub(super) crash: f64,
    /// Probability that the time passed to the engine is up to 5 ms earlier than the virtual clock.
    pub(super) clock_backstep: f64,
    /// Set if failures may also be permanent failures, denials or configuration errors.
    pub(super) permanent_failures: bool,
    /// Maximum `retry-after` that a failure requests.
    pub(super) max_retry_after: Duration,
    /// Maximum delay of a validation result until the faults end. After that, it is at most 20 ms.
    pub(super) max_validation_delay: Duration,
}

impl Faults {
    pub(super) fn draw(rng: &mut SimRng) -> Self {
        let seconds = Duration::from_secs;
        let mut rate = |probability: f64, max: f64| {
            if rng.chance(probability) { max * rng.below(100) as f64 / 100.0 } else { 0.0 }
        };
        Self {
            fail: rate(0.7, 0.6),
            hang: rate(0.4, 0.2),
            slow: rate(0.5, 0.5),
            lose_event: rate(0.4, 0.6),
            reorder_event: rate(0.3, 0.5),
            outdated_event: rate(0.2, 0.3),
            silence_watch: rate(0.4, 0.2),
            end_watch: rate(0.6, 0.3),
            crash: rate(0.3, 1.0),
            clock_backstep: rate(0.2, 0.1),
            permanent_failures: rng.chance(0.3),
            max_retry_after: rng.pick(&[1, 1, 1, 20, 20, 20, 100, 7200].map(seconds)),
            max_validation_delay: rng
                .pick(&[0, 0, 0, 0, 0, 0, 0, 20, 3000].map(Duration::from_millis)),
        }
    }
}

/// Returns random engine settings for one simulation.
pub(super) fn settings(rng: &mut SimRng) -> Settings {
    let milliseconds = Duration::from_millis;
    let strategy = rng.pick(&[Strategy::Polling, Strategy::Realtime, Strategy::Hybrid]);
    let interval = rng.between(milliseconds(500), milliseconds(20_000));
    let seconds = Duration::from_secs;
    let confirm = rng.pick(&[milliseconds(0), milliseconds(200), milliseconds(200), seconds(1)]);
    Settings {
        strategy,
        interval,
        reconcile: interval * (1 + rng.below(8)) as u32,
        stale_after: interval.mul_f64(1.3) + rng.between(seconds(1), seconds(40)),
        liveness: if rng.chance(0.2) {
            Duration::MAX
        } else {
            rng.between(seconds(3), seconds(60))
        },
        timeout: rng.between(milliseconds(500), seconds(20)),
        confirm,
        confirm_after_outage: confirm + rng.between(milliseconds(0), seconds(4)),
        force_reload: rng.chance(0.1),
        crashes_allowed: 1 + rng.below(5) as u32,
        quarantine: rng.between(seconds(1), seconds(30)),
        timeout_limit: None,
        silence_is_crash: rng.chance(0.8),
    }
}
