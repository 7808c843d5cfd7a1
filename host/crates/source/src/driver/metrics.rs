//! What of a source's life is counted.

use super::now;
use crate::metrics::Counters;
use reloader_engine::{Effect, Input, Report, Role, types::Event};
use std::{sync::Arc, time::Instant};

/// Sees whatever goes into the engine and comes out of it.
pub(super) struct Counting {
    counters: Arc<Counters>,
    /// When the fetch in progress began.
    read_at: Option<Instant>,
    /// When the first sign was seen of a change that has not been published yet.
    noticed_at: Option<Instant>,
}

impl Counting {
    pub(super) fn new(counters: Arc<Counters>) -> Self {
        Self { counters, read_at: None, noticed_at: None }
    }

    /// Whether it is something that the source holds.
    pub(super) fn input<V>(&mut self, input: &Input<V>) -> bool {
        match input {
            Input::Fetched(..) => {
                if let Some(began) = self.read_at.take() {
                    self.counters.took_to_read(now().duration_since(began));
                }
            }
            Input::Watched(_, Event::Changed(_) | Event::Dirty | Event::Removed) => {
                self.noticed_at.get_or_insert_with(now);
            }
            // What was noticed is not what comes now.
            Input::Replaced(_) | Input::Pin(_) => self.noticed_at = None,
            _ => {}
        }
        matches!(input, Input::Fetched(_, Ok(_)) | Input::Watched(_, Event::Changed(_)))
    }

    /// What follows from such an input. If nothing does, there was no change in it: a value that was
    /// refused before, for example.
    pub(super) fn followed<V>(&mut self, effects: &[Effect<V>]) {
        let goes_on = |effect: &Effect<V>| {
            matches!(effect, Effect::Offer(..) | Effect::Fetch(..) | Effect::Publish(..))
        };
        if !effects.iter().any(goes_on) {
            self.noticed_at = None;
        }
    }

    pub(super) fn effect<V>(&mut self, effect: &Effect<V>) {
        match effect {
            Effect::Fetch(..) => self.read_at = Some(now()),
            Effect::CancelFetch => self.read_at = None,
            Effect::OpenWatch(..) => self.counters.opened_watch(),
            Effect::Publish(..) => {
                self.counters.changed();
                self.reacted();
            }
            Effect::PublishRemoved(_) => {
                self.counters.removed();
                self.reacted();
            }
            Effect::Confirmed => self.noticed_at = None,
            Effect::Report(report) => self.report(report),
            _ => {}
        }
    }

    fn reacted(&mut self) {
        if let Some(noticed) = self.noticed_at.take() {
            self.counters.took_to_react(now().duration_since(noticed));
        }
    }

    fn report(&mut self, report: &Report) {
        match report {
            Report::FetchFailed { failure, .. } => self.counters.read_failed(failure.kind),
            Report::WatchLost { failure, .. } => self.counters.watch_failed(failure.kind),
            Report::Quarantined { role, failure, .. } => {
                self.counters.quarantined();
                match role {
                    Role::Reading => self.counters.read_failed(failure.kind),
                    Role::Watching => self.counters.watch_failed(failure.kind),
                }
            }
            Report::Refused { .. } => {
                self.counters.refused_value();
                self.noticed_at = None;
            }
            _ => {}
        }
    }
}
