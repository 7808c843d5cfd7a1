//! Metrics recorder: derives the metrics of a source from the inputs and effects of its engine.

use super::clock_and_seed::now;
use crate::metrics::Counters;
use reloader_engine::{Effect, Input, Report, Role, types::Event};
use std::{sync::Arc, time::Instant};

/// Recorder that observes every input and effect of the engine.
pub(super) struct MetricsRecorder {
    counters: Arc<Counters>,
    /// Start of the fetch in progress.
    fetch_started_at: Option<Instant>,
    /// Time of the first event of a change that is not published yet.
    change_noticed_at: Option<Instant>,
}

impl MetricsRecorder {
    pub(super) fn new(counters: Arc<Counters>) -> Self {
        Self { counters, fetch_started_at: None, change_noticed_at: None }
    }

    /// Records an input. Returns whether it carries the current value of the source: a successful fetch or an event
    /// with a value. [`record_reaction_to_value`](Self::record_reaction_to_value) takes the effects of such an input.
    pub(super) fn record_input<V>(&mut self, input: &Input<V>) -> bool {
        match input {
            Input::Fetched(..) => {
                if let Some(started) = self.fetch_started_at.take() {
                    self.counters.observe_read(now().duration_since(started));
                }
            }
            Input::Watched(_, Event::Changed(_) | Event::Dirty | Event::Removed) => {
                self.change_noticed_at.get_or_insert_with(now);
            }
            // The next publication is a reaction to the command, not to the earlier event.
            Input::Replaced(_) | Input::Pin(_) => self.change_noticed_at = None,
            _ => {}
        }
        matches!(input, Input::Fetched(_, Ok(_)) | Input::Watched(_, Event::Changed(_)))
    }

    /// Ends the measurement of the reaction time if the value leads to no validation, fetch or publication. Such a
    /// value is not a change: for example, it was rejected before.
    pub(super) fn record_reaction_to_value<V>(&mut self, effects: &[Effect<V>]) {
        let is_reaction = |effect: &Effect<V>| {
            matches!(effect, Effect::Validate(..) | Effect::Fetch(..) | Effect::Publish(..))
        };
        if !effects.iter().any(is_reaction) {
            self.change_noticed_at = None;
        }
    }

    pub(super) fn record_effect<V>(&mut self, effect: &Effect<V>) {
        match effect {
            Effect::Fetch(..) => self.fetch_started_at = Some(now()),
            Effect::CancelFetch => self.fetch_started_at = None,
            Effect::OpenWatch(..) => self.counters.count_watch(),
            Effect::Publish(..) => {
                self.counters.count_change();
                self.record_reaction_time();
            }
            Effect::PublishRemoved(_) => {
                self.counters.count_removal();
                self.record_reaction_time();
            }
            Effect::Confirmed => self.change_noticed_at = None,
            Effect::Report(report) => self.record_report(report),
            _ => {}
        }
    }

    fn record_reaction_time(&mut self) {
        if let Some(noticed) = self.change_noticed_at.take() {
            self.counters.observe_reaction(now().duration_since(noticed));
        }
    }

    fn record_report(&mut self, report: &Report) {
        match report {
            Report::FetchFailed { failure, .. } => self.counters.count_read_failure(failure.kind),
            Report::WatchLost { failure, .. } => self.counters.count_watch_failure(failure.kind),
            Report::Quarantined { role, failure, .. } => {
                self.counters.count_quarantine();
                match role {
                    Role::Reading => self.counters.count_read_failure(failure.kind),
                    Role::Watching => self.counters.count_watch_failure(failure.kind),
                }
            }
            Report::Rejected { .. } => {
                self.counters.count_rejected_value();
                self.change_noticed_at = None;
            }
            _ => {}
        }
    }
}
