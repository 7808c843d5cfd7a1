//! Whether what is published is current, and what readers are told of that.

use super::{Effect, Engine, Report, Settings};
use crate::mutations::Bug;
use crate::types::{Failure, Value};
use std::time::Instant;

/// The reason of [`Effect::Stale`] for a value from before a restart, until the source stands for it or
/// there is a better reason: a part of every start, and not a failure.
pub const UNCONFIRMED: &str = "the source has not confirmed it since the start";

/// What readers have been told of the published value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Freshness {
    Current,
    /// It is from before a restart, and nothing has been said yet.
    Resumed,
    /// That it has not been confirmed since the start.
    Unconfirmed,
    /// That it is stale, for a reason of its own.
    Stale,
}

impl Freshness {
    /// Whether it is stale, for a reason that has something to do with the source.
    pub(crate) fn has_a_reason(self) -> bool {
        match self {
            Self::Stale => true,
            Self::Current | Self::Resumed | Self::Unconfirmed => false,
        }
    }
}

impl<V: Value> Engine<V> {
    /// The source agrees with what is published, or answers while a value is pinned.
    pub(crate) fn good(&mut self, now: Instant, effects: &mut Vec<Effect<V>>) {
        self.good_at = now;
        self.has_agreed = true;
        effects.push(Effect::Confirmed);
        if self.trouble.take().is_some() {
            effects.push(Effect::Report(Report::Recovered));
        }
        match std::mem::replace(&mut self.freshness, Freshness::Current) {
            Freshness::Current | Freshness::Resumed => {}
            Freshness::Unconfirmed | Freshness::Stale => effects.push(Effect::Fresh),
        }
    }

    /// Says that the value is stale, if it has become so; and why, if that was not known before.
    pub(crate) fn grow_stale(&mut self, now: Instant, effects: &mut Vec<Effect<V>>) {
        match self.freshness {
            Freshness::Current => {
                if self.stale_at().is_some_and(|at| at <= now) {
                    self.is_stale(self.why_stale(), effects);
                }
            }
            Freshness::Resumed => {
                self.freshness = Freshness::Unconfirmed;
                effects.push(Effect::Stale(Failure::transient(UNCONFIRMED)));
            }
            Freshness::Unconfirmed => {
                if self.trouble.is_some() && !self.bugs.has(Bug::UnconfirmedForNoReason) {
                    self.is_stale(self.why_stale(), effects);
                }
            }
            Freshness::Stale => {}
        }
    }

    pub(crate) fn is_stale(&mut self, reason: Failure, effects: &mut Vec<Effect<V>>) {
        self.freshness = Freshness::Stale;
        effects.push(Effect::Stale(reason));
    }

    /// When the value becomes stale if nothing happens.
    pub(crate) fn stale_at(&self) -> Option<Instant> {
        let is_current = self.freshness == Freshness::Current;
        if !is_current || self.ledger.value().is_none() || self.bugs.has(Bug::NeverStale) {
            return None;
        }
        let Settings { stale_after, liveness, reconcile, .. } = self.settings;
        // A watch that is live speaks for the value as often as its liveness limit wants it to, or,
        // if it need not, as often as the source is read all the same.
        let promise = if self.watch.is_live() && self.trouble.is_none() {
            stale_after.max(liveness.min(reconcile) * 2)
        } else {
            stale_after
        };
        Some(self.good_at + promise)
    }

    pub(crate) fn why_stale(&self) -> Failure {
        if self.ledger.believe_at().is_some() {
            return Failure::transient("the source says that there is nothing, which is doubted");
        }
        let reason = self.fetch.quarantine().or(self.trouble.as_ref()).or(self.watch.quarantine());
        let silence = || Failure::transient("the source has not answered");
        reason.cloned().unwrap_or_else(silence)
    }
}
