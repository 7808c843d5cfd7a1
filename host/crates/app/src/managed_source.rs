//! One source of the configuration at work: the source, its sinks, and how they are.

use crate::{
    change_histogram::Activity,
    handle::SourceCounts,
    persistence::Memory,
    prepare::Prepared,
    reload_triggers::AGAIN,
    sink_set::{Deliveries, Inputs, ONLY_LOGGED, SinkCounts, Sinks},
};
use reloader_api_types::{ListedSource, RefusedAccess, SourceDetail, SourceStatus, Totals};
use reloader_engine::types::{Failure, Outcome, Revision, Strategy};
use reloader_plugin_runtime::ConfigureError;
use reloader_source::{
    handle::Source,
    metrics::{Counters, Counts},
    provider::{Confinement, Provider},
    store::State,
};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};
use tokio::{task::AbortHandle, time::timeout};
use tracing::{error, info, warn};

/// A source at work.
pub(crate) struct Unit {
    pub(crate) source: Arc<Source>,
    sinks: Sinks,
    present: Mutex<Present>,
    counters: Arc<Counters>,
    activity: Arc<Activity>,
    /// Follows its value, and says why it has ended, if nobody has ended it.
    follower: AbortHandle,
    /// Held by whoever pins it, or has it followed again: what is remembered and what is published come in
    /// the same order.
    pub(crate) pinning: tokio::sync::Mutex<()>,
}

struct Present {
    /// What it runs with.
    prepared: Arc<Prepared>,
    /// What it is read from.
    origin: Arc<dyn Provider>,
    /// Why it does not run with what the configuration says now, if it does not.
    reverted: Option<String>,
}

impl Unit {
    /// Starts it, with what is known of it from before.
    pub(crate) async fn start(
        prepared: Prepared,
        memory: &Memory,
        deliveries: &Deliveries,
    ) -> Result<Self, ConfigureError> {
        let name = &prepared.config.name;
        let counters = Arc::<Counters>::default();
        let made = prepared.builder.clone().counters(Arc::clone(&counters)).make()?;
        let origin = Arc::clone(&made.origin);
        let past = memory.past(name);
        let resumed = past.resumed.as_ref().map_or_else(Revision::default, |past| past.revision);
        let source = Arc::new(Source::start_with(name.clone(), made, past));
        let activity = Arc::new(Activity::new(Instant::now()));
        let counted = (Arc::clone(&activity), resumed);
        let follower = follow(&source, counted, deliveries.clone(), &prepared);
        let prepared = Arc::new(prepared);
        let present = Mutex::new(Present { prepared, origin, reverted: None });
        let sinks = Sinks::default();
        memory.changes_before(source.name(), Arc::clone(&activity));
        let pinning = tokio::sync::Mutex::default();
        let unit = Self { source, sinks, present, counters, activity, follower, pinning };
        unit.set_sinks(memory, deliveries).await;
        Ok(unit)
    }

    /// What it runs with.
    pub(crate) fn prepared(&self) -> Arc<Prepared> {
        Arc::clone(&self.present().prepared)
    }

    /// Why it does not run with what the configuration says now, if it does not.
    pub(crate) fn reverted(&self) -> Option<String> {
        self.present().reverted.clone()
    }

    fn present(&self) -> MutexGuard<'_, Present> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets it be another one. What is the host's own affair it has at once: where its values go, whether
    /// they are waited for. Of what is new about the source, what concerns the plugin is tried beside it
    /// first; if that does not answer in time, the old one stays.
    pub(crate) async fn update(&self, new: Prepared, memory: &Memory, deliveries: &Deliveries) {
        let before = Arc::new(Prepared::clone(&self.prepared()).with_own_of(&new.config));
        self.present().prepared = Arc::clone(&before);
        self.set_sinks(memory, deliveries).await;
        if !before.is_same(&new)
            && let Err(why) = self.replace(&before, &new).await
        {
            return self.goes_on_as_it_was(why);
        }
        let mut present = self.present();
        present.reverted = None;
        present.prepared = Arc::new(new);
    }

    /// It cannot be what it should.
    pub(crate) fn goes_on_as_it_was(&self, why: String) {
        let mut present = self.present();
        if present.reverted.as_ref() != Some(&why) {
            let again = humantime::format_duration(AGAIN);
            warn!(
                source = %self.source.name(),
                "goes on as it was, and what is new is tried again every {again}: {why}"
            );
            present.reverted = Some(why);
        }
    }

    async fn replace(&self, before: &Prepared, new: &Prepared) -> Result<(), String> {
        let counters = Arc::clone(&self.counters);
        let made =
            new.builder.clone().counters(counters).make().map_err(|error| error.to_string())?;
        let limit = new.config.limits.call_timeout.saturating_mul(2);
        let known = self.source.subscribe().get().and_then(|value| value.cursor);
        let is_polled = made.settings.strategy == Strategy::Polling;
        if !before.reads_the_same(new) {
            let tried = async {
                // What it says is asked for again by the engine; here it only has to say something.
                let _: Outcome = made.origin.reader().read(known.clone()).await?;
                if !is_polled {
                    drop(made.origin.arm(known).await?);
                }
                Ok::<_, Failure>(())
            };
            match timeout(limit, tried).await {
                Ok(Ok(())) => {}
                Ok(Err(failure)) => return Err(format!("the new one failed: {failure}")),
                Err(_) => return Err(format!("the new one did not answer within {limit:?}")),
            }
        }
        self.present().origin = Arc::clone(&made.origin);
        self.source.replace(made).await;
        let source = &new.config.name;
        let now = &new.plugin;
        if before.plugin.description().digest == now.description().digest {
            info!(%source, "goes on with other settings");
        } else {
            info!(%source, sha256 = now.description().digest, "goes on with another plugin");
        }
        Ok(())
    }

    async fn set_sinks(&self, memory: &Memory, deliveries: &Deliveries) {
        let prepared = self.prepared();
        let name = &prepared.config.name;
        let readers = vec![(name.clone(), self.source.subscribe())];
        let inputs = Inputs { of: name.as_str(), readers, wait: None };
        self.sinks.set(&inputs, &prepared.config.sinks, memory, deliveries).await;
    }

    /// What keeps its value from being where it should be: it has none, or these sinks have not got it.
    pub(crate) fn missing(&self) -> Vec<String> {
        let name = self.source.name();
        if self.source.subscribe().get().is_none() {
            return vec![format!("source `{name}`")];
        }
        let sinks = self.sinks.missing().into_iter();
        sinks.map(|sink| format!("sink `{name}/{sink}`")).collect()
    }

    /// How it is.
    pub(crate) fn status(&self, memory: &Memory) -> SourceStatus {
        self.status_in(&self.source.subscribe().state(), memory)
    }

    fn status_in(&self, state: &State, memory: &Memory) -> SourceStatus {
        let prepared = self.prepared();
        let config = &prepared.config;
        let known = state.revision.get() > 0;
        let ended = self.source.gave_up().map(ToString::to_string);
        let word = match (&state.value, &state.stale) {
            _ if ended.is_some() => "ended",
            (None, _) if !known => "waiting",
            (None, None) => "removed",
            (_, Some(_)) => "stale",
            (Some(_), None) => "current",
        };
        // What is said of a secret may tell of it: how long it is, a line of it.
        let is_secret = !config.readable;
        let refused = state.refused.as_ref().map(|refused| match is_secret {
            true => format!("a value was refused; {ONLY_LOGGED}"),
            false => format!("a value was refused: {}", refused.reason),
        });
        let failing = state.failing.as_ref().map(ToString::to_string);
        let stale = state.stale.as_ref().map(|stale| stale.reason.to_string());
        SourceStatus {
            name: config.name.to_string(),
            plugin: config.plugin.clone(),
            state: word.into(),
            pinned: memory.pinned(&config.name).map(|revision| revision.get()),
            revision: state.revision.get(),
            at: known.then_some(state.at),
            last_success_at: Some(state.last_success_at).filter(|at| at.as_nanosecond() > 0),
            trouble: ended.or(refused).or(failing).or(stale).or_else(|| self.reverted()),
            sinks: self.sinks.report(is_secret),
        }
    }

    /// How it is, and how often it has changed of late.
    pub(crate) fn listed(&self, memory: &Memory) -> ListedSource {
        let activity = self.activity.read(Instant::now());
        ListedSource { status: self.status(memory), activity }
    }

    /// It, in numbers.
    pub(crate) fn counts(&self, memory: &Memory) -> SourceCounts {
        let state = self.source.subscribe().state();
        let status = self.status_in(&state, memory);
        SourceCounts {
            status,
            readable: self.prepared().config.readable,
            state,
            counts: self.counters.read(),
            confinement: self.confinement(),
        }
    }

    /// What its sinks have done.
    pub(crate) fn sink_counts(&self) -> Vec<SinkCounts> {
        self.sinks.counts(self.source.name().as_str())
    }

    fn confinement(&self) -> Confinement {
        let origin = Arc::clone(&self.present().origin);
        origin.confinement().unwrap_or_default()
    }

    /// It, in all detail.
    pub(crate) fn detail(&self, memory: &Memory) -> SourceDetail {
        let SourceCounts { status, readable, state, counts, confinement } = self.counts(memory);
        let prepared = self.prepared();
        let strategy = prepared.config.strategy;
        let strategy = strategy.unwrap_or_else(|| prepared.plugin.default_strategy());
        let value = state.value.filter(|_| readable);
        let refused = confinement.refused.into_iter();
        SourceDetail {
            status,
            strategy: strategy.to_string(),
            readable,
            media_type: value
                .as_ref()
                .and_then(|value| value.media_type.as_deref().map(Into::into)),
            size: value.map(|value| value.content.len() as u64),
            counters: totals(&counts, confinement.memory),
            granted: confinement.granted,
            refused: refused.map(|(what, count)| RefusedAccess { what, count }).collect(),
            activity: self.activity.read(Instant::now()),
        }
    }

    /// Whether its source can never work, and has stopped by itself.
    pub(crate) fn has_ended(&self) -> bool {
        self.source.gave_up().is_some()
    }

    /// Why it has, in a sentence.
    pub(crate) fn end(&self) -> Option<String> {
        let failure = self.source.gave_up()?;
        Some(format!("source `{}` has ended: {failure}", self.source.name()))
    }

    /// Ends it, in order. If somebody asks it for something at this moment, its source ends after that.
    pub(crate) async fn stop(self: Arc<Self>) {
        self.follower.abort();
        self.sinks.stop().await;
        if let Some(unit) = Arc::into_inner(self)
            && let Some(source) = Arc::into_inner(unit.source)
        {
            source.stop().await;
        }
    }
}

fn totals(counts: &Counts, memory: usize) -> Totals {
    let all = |failures: &[(_, u64)]| failures.iter().map(|(_, count)| count).sum();
    let crashes = [&counts.read_failures, &counts.watch_failures].into_iter().flatten();
    let crashes = crashes.filter(|(kind, _)| *kind == "crashed").map(|(_, count)| count).sum();
    let reactions = counts.reactions.count();
    Totals {
        changes: counts.changes,
        removals: counts.removals,
        refused_values: counts.refused_values,
        reads: counts.reads.count(),
        read_failures: all(&counts.read_failures),
        watches: counts.watches,
        watch_failures: all(&counts.watch_failures),
        crashes,
        refused_accesses: counts.refused_accesses,
        cpu_seconds: counts.cpu.as_secs_f64(),
        memory: memory as u64,
        reaction_seconds: (reactions > 0)
            .then(|| counts.reactions.sum.as_secs_f64() / reactions as f64),
    }
}

/// Its changes are counted. A source that can never work ends; the others go on, and the log has the
/// reason. What has no sinks of its own is there, for who waits for it, when it is published.
fn follow(
    source: &Arc<Source>,
    (activity, resumed): (Arc<Activity>, Revision),
    deliveries: Deliveries,
    prepared: &Prepared,
) -> AbortHandle {
    let (name, has_sinks) = (source.name().clone(), !prepared.config.sinks.is_empty());
    let (mut reader, source) = (source.subscribe(), Arc::downgrade(source));
    let task = tokio::spawn(async move {
        // What was there before the start is not a change.
        let (mut known, mut counted) = (Revision::default(), resumed.get());
        while reader.changed().await.is_ok() {
            let revision = std::mem::replace(&mut known, reader.state().revision);
            activity.add(known.get().saturating_sub(counted), Instant::now());
            counted = known.get();
            if revision != known && !has_sinks {
                deliveries.send_modify(|count| {
                    count.arrivals += 1;
                    count.changes += 1;
                });
            }
        }
        if let Some(failure) = source.upgrade().as_deref().and_then(Source::gave_up) {
            error!(source = %name, "has ended: {failure}");
            deliveries.send_modify(|count| count.ended += 1);
        }
    });
    task.abort_handle()
}
