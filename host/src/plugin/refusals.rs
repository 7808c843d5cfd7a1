//! What a source's plugin has been refused: said once, then counted.

use crate::model::SourceName;
use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};
use tracing::{info, warn};

/// So many different refusals are said; what comes after them is counted together.
const SAID: usize = 16;

/// Of one source.
#[derive(Debug)]
pub(super) struct Refusals {
    source: SourceName,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    /// How often each was refused.
    known: BTreeMap<String, u64>,
    others: u64,
}

impl Refusals {
    pub(super) fn new(source: SourceName) -> Self {
        Self { source, counts: Mutex::default() }
    }

    /// Counts a refusal, and says it the first time; unless it is `told` already, as the reason of a
    /// failure.
    pub(super) fn add(&self, what: &str, told: bool) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let source = &self.source;
        if let Some(count) = counts.known.get_mut(what) {
            *count += 1;
        } else if counts.known.len() < SAID {
            counts.known.insert(what.into(), 1);
            if !told {
                warn!(%source, "{what}");
            }
        } else {
            if counts.others == 0 {
                warn!(%source, "{what}; what else is refused from here on is only counted");
            }
            counts.others += 1;
        }
    }
}

/// How often, if it was more often than it was said.
impl Drop for Refusals {
    fn drop(&mut self) {
        let counts = self.counts.get_mut().unwrap_or_else(PoisonError::into_inner);
        let source = &self.source;
        for (what, count) in counts.known.iter().filter(|(_, count)| **count > 1) {
            info!(%source, "{what}: {count} times");
        }
        if counts.others > 1 {
            info!(%source, "refused besides: {} times", counts.others);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_counted_and_there_is_an_end_to_what_is_different() {
        let refusals = Refusals::new(SourceName::new("s"));
        for _ in 0..5 {
            refusals.add("refused", false);
        }
        for number in 0..1_000 {
            refusals.add(&format!("refused {number}"), false);
        }
        let counts = refusals.counts.lock().unwrap();
        assert_eq!(counts.known["refused"], 5);
        assert_eq!(counts.known.len(), SAID);
        assert_eq!(counts.others, 1_000 - (SAID as u64 - 1));
    }
}
