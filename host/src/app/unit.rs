//! One source of the configuration at work: the source, its sinks, and how they are.

use super::{
    control::SourceStatus,
    memory::Memory,
    news::AGAIN,
    prepare::Prepared,
    sinks::{Deliveries, Inputs, Sinks},
};
use crate::{
    model::{Failure, Outcome, Revision, SourceName, Strategy},
    plugin::ConfigureError,
    source::Source,
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::{task::AbortHandle, time::timeout};
use tracing::{error, info, warn};

/// A source at work.
pub(super) struct Unit {
    pub(super) source: Arc<Source>,
    sinks: Sinks,
    present: Mutex<Present>,
    /// Says why it has ended, if nobody has ended it.
    obituary: AbortHandle,
}

struct Present {
    /// What it runs with.
    prepared: Arc<Prepared>,
    /// Why it does not run with what the configuration says now, if it does not.
    reverted: Option<String>,
}

impl Unit {
    /// Starts it, with what is known of it from before.
    pub(super) async fn start(
        prepared: Prepared,
        memory: &Memory,
        deliveries: &Deliveries,
    ) -> Result<Self, ConfigureError> {
        let name = &prepared.config.name;
        let source = Arc::new(prepared.builder.clone().start_after(memory.past(name))?);
        let has_sinks = !prepared.config.sinks.is_empty();
        let obituary = tell_of_its_end(name.clone(), &source, deliveries.clone(), has_sinks);
        let present = Mutex::new(Present { prepared: Arc::new(prepared), reverted: None });
        let unit = Self { source, sinks: Sinks::default(), present, obituary };
        unit.set_sinks(memory, deliveries).await;
        Ok(unit)
    }

    /// What it runs with.
    pub(super) fn prepared(&self) -> Arc<Prepared> {
        Arc::clone(&self.present().prepared)
    }

    /// Why it does not run with what the configuration says now, if it does not.
    pub(super) fn reverted(&self) -> Option<String> {
        self.present().reverted.clone()
    }

    fn present(&self) -> MutexGuard<'_, Present> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets it be another one. What is the host's own affair it has at once: where its values go, whether
    /// they are waited for. Of what is new about the source, what concerns the plugin is tried beside it
    /// first; if that does not answer in time, the old one stays.
    pub(super) async fn update(&self, new: Prepared, memory: &Memory, deliveries: &Deliveries) {
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
    pub(super) fn goes_on_as_it_was(&self, why: String) {
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
        let made = new.builder.clone().make().map_err(|error| error.to_string())?;
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
    pub(super) fn missing(&self) -> Vec<String> {
        let name = self.source.name();
        if self.source.subscribe().get().is_none() {
            return vec![format!("source `{name}`")];
        }
        let sinks = self.sinks.missing().into_iter();
        sinks.map(|sink| format!("sink `{name}/{sink}`")).collect()
    }

    /// How it is.
    pub(super) fn status(&self, memory: &Memory) -> SourceStatus {
        let prepared = self.prepared();
        let config = &prepared.config;
        let mut reader = self.source.subscribe();
        let state = reader.state();
        let known = state.revision.get() > 0;
        let ended = self.source.gave_up().map(ToString::to_string);
        let word = match (&state.value, &state.stale) {
            _ if ended.is_some() => "ended",
            (None, _) if !known => "waiting",
            (None, None) => "removed",
            (_, Some(_)) => "stale",
            (Some(_), None) => "current",
        };
        let refused = state
            .refused
            .as_ref()
            .map(|refused| format!("a value was refused: {}", refused.reason));
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
            trouble: ended.or(refused).or(stale).or(failing).or_else(|| self.reverted()),
            sinks: self.sinks.report(),
        }
    }

    /// Whether its source can never work, and has stopped by itself.
    pub(super) fn has_ended(&self) -> bool {
        self.source.gave_up().is_some()
    }

    /// Why it has, in a sentence.
    pub(super) fn end(&self) -> Option<String> {
        let failure = self.source.gave_up()?;
        Some(format!("source `{}` has ended: {failure}", self.source.name()))
    }

    /// Ends it, in order. If somebody asks it for something at this moment, its source ends after that.
    pub(super) async fn stop(self: Arc<Self>) {
        self.obituary.abort();
        self.sinks.stop().await;
        if let Some(unit) = Arc::into_inner(self)
            && let Some(source) = Arc::into_inner(unit.source)
        {
            source.stop().await;
        }
    }
}

/// A source that can never work ends; the others go on, and the log has the reason. What has no sinks of
/// its own is there, for who waits for it, when it is published.
fn tell_of_its_end(
    name: SourceName,
    source: &Arc<Source>,
    deliveries: Deliveries,
    has_sinks: bool,
) -> AbortHandle {
    let (mut reader, source) = (source.subscribe(), Arc::downgrade(source));
    let task = tokio::spawn(async move {
        let mut known = Revision::default();
        while reader.changed().await.is_ok() {
            let revision = std::mem::replace(&mut known, reader.state().revision);
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
