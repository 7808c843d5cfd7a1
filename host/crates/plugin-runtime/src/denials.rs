//! What a source's plugin has been refused: said once, then counted.

use reloader_engine::types::SourceName;
use reloader_source::metrics::Counters;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tracing::{info, warn};

/// So many different refusals are said; what comes after them is counted together.
const SAID: usize = 16;

/// Of one source.
#[derive(Debug)]
pub(crate) struct Refusals {
    source: SourceName,
    counters: Arc<Counters>,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    /// How often each was refused, and whether that has been said.
    known: BTreeMap<String, (u64, bool)>,
    others: u64,
}

impl Refusals {
    pub(crate) fn new(source: SourceName, counters: Arc<Counters>) -> Self {
        Self { source, counters, counts: Mutex::default() }
    }

    /// One more was refused.
    pub(crate) fn count(&self, what: &str) {
        self.counters.refused_access();
        let mut counts = self.lock();
        let source = &self.source;
        if let Some((count, _)) = counts.known.get_mut(what) {
            *count += 1;
        } else if counts.known.len() < SAID {
            counts.known.insert(what.into(), (1, false));
        } else {
            if counts.others == 0 {
                warn!(%source, "{what}; what else is refused from here on is only counted");
            }
            counts.others += 1;
        }
    }

    /// Says what was refused, unless that has been said.
    pub(crate) fn say(&self, what: &str) {
        if let Some((_, said @ false)) = self.lock().known.get_mut(what) {
            *said = true;
            let source = &self.source;
            warn!(%source, "{what}");
        }
    }

    /// It has been said, as the reason of a failure.
    pub(crate) fn told(&self, what: &str) {
        if let Some((_, said)) = self.lock().known.get_mut(what) {
            *said = true;
        }
    }

    /// At the end: how often, if it was more often than it was said.
    pub(crate) fn sum_up(&self) {
        let counts = self.lock();
        let source = &self.source;
        for (what, (count, _)) in counts.known.iter().filter(|(_, (count, _))| *count > 1) {
            info!(%source, "{what}: {count} times");
        }
        if counts.others > 1 {
            info!(%source, "refused besides: {} times", counts.others);
        }
    }

    /// What was refused, and how often.
    pub(crate) fn all(&self) -> Vec<(String, u64)> {
        let counts = self.lock();
        let known = counts.known.iter().map(|(what, (count, _))| (what.clone(), *count));
        let others = (counts.others > 0).then(|| ("something else".to_owned(), counts.others));
        known.chain(others).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_counted_and_there_is_an_end_to_what_is_different() {
        let refusals = Refusals::new(SourceName::new("s"), Arc::default());
        for _ in 0..5 {
            refusals.count("refused");
            refusals.say("refused");
        }
        for number in 0..1_000 {
            refusals.count(&format!("refused {number}"));
        }
        assert_eq!(refusals.counters.read().refused_accesses, 1_005);
        let counts = refusals.counts.lock().unwrap();
        assert_eq!(counts.known["refused"], (5, true));
        assert_eq!(counts.known.len(), SAID);
        assert_eq!(counts.others, 1_000 - (SAID as u64 - 1));
    }
}
