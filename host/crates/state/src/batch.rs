//! What waits to be written, and what of it goes into one transaction.

use crate::{write_set::Work, writer::Then};
use reloader_engine::types::SourceName;
use std::{
    collections::{BTreeMap, btree_map::Entry},
    mem,
    ops::Bound,
};

/// A source of which more than this waits is large, in bytes: the others do not wait for it.
const LARGE: usize = 256 << 10;

/// What waits, or goes into one transaction.
#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) sources: BTreeMap<SourceName, Work>,
    pub(crate) configured: Option<BTreeMap<SourceName, bool>>,
}

/// Whose turn it is.
#[derive(Default)]
pub(crate) struct Turn {
    is_of_large: bool,
    /// It had its turn last.
    large: Option<SourceName>,
}

impl Batch {
    pub(crate) fn is_empty(&self) -> bool {
        self.sources.is_empty() && self.configured.is_none()
    }

    /// Of the values.
    pub(crate) fn bytes(&self) -> usize {
        self.sources.values().map(Work::bytes).sum()
    }

    pub(crate) fn thens(&mut self) -> Vec<Then> {
        self.sources.values_mut().flat_map(Work::thens).collect()
    }

    /// Takes what is written next: all that is small, or, in turns with that, one large value.
    pub(crate) fn next(&mut self, turn: &mut Turn) -> Self {
        let is_large = |work: &Work| work.bytes() > LARGE;
        let has_small = self.configured.is_some() || !self.sources.values().all(is_large);
        if (turn.is_of_large || !has_small)
            && let Some(name) = self.next_large(turn.large.as_ref(), is_large)
            && let Entry::Occupied(mut large) = self.sources.entry(name.clone())
        {
            let first = large.get_mut().first();
            if large.get().is_empty() {
                large.remove();
            }
            *turn = Turn { is_of_large: false, large: Some(name.clone()) };
            return Self { sources: BTreeMap::from([(name, first)]), configured: None };
        }
        turn.is_of_large = true;
        Self {
            sources: self.sources.extract_if(.., |_, work| !is_large(work)).collect(),
            configured: mem::take(&mut self.configured),
        }
    }

    /// The next one by name, so that each has a turn.
    fn next_large(
        &self,
        after: Option<&SourceName>,
        is_large: impl Fn(&Work) -> bool,
    ) -> Option<SourceName> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut in_turn = self.sources.range((from, Bound::Unbounded)).chain(&self.sources);
        in_turn.find(|(_, work)| is_large(work)).map(|(name, _)| name.clone())
    }

    /// Joins this and what has come since.
    pub(crate) fn and(&mut self, newer: Self) {
        for (name, work) in newer.sources {
            self.sources.entry(name).or_default().and(work);
        }
        self.configured = newer.configured.or(self.configured.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Record, Saved};
    use reloader_engine::types::Snapshot;

    fn wait(batch: &mut Batch, name: &str, revision: u64, bytes: usize) {
        let record = Record::new(revision.into(), Some(Snapshot::new(vec![0; bytes])));
        let work = batch.sources.entry(SourceName::new(name)).or_default();
        assert!(work.push(record, Box::new(|_: Saved| ()), false).is_none());
    }

    /// The names and revisions of what is written next.
    fn next(batch: &mut Batch, turn: &mut Turn) -> Vec<(String, u64)> {
        let next = batch.next(turn);
        let records = |(name, work): (SourceName, Work)| {
            let revisions = work.records.into_iter().map(|(record, _)| record.revision.get());
            revisions.map(move |revision| (name.to_string(), revision)).collect::<Vec<_>>()
        };
        next.sources.into_iter().flat_map(records).collect()
    }

    #[test]
    fn what_is_small_waits_for_one_large_value_at_most_and_each_has_its_turn() {
        let (mut batch, mut turn) = (Batch::default(), Turn::default());
        for (name, revision, bytes) in [
            ("a", 1, LARGE + 1),
            ("a", 2, LARGE + 1),
            ("b", 1, 1),
            ("c", 1, LARGE + 1),
            ("d", 1, 1),
        ] {
            wait(&mut batch, name, revision, bytes);
        }
        let of = |name: &str, revision| (name.to_owned(), revision);
        assert_eq!(next(&mut batch, &mut turn), [of("b", 1), of("d", 1)]);
        assert_eq!(next(&mut batch, &mut turn), [of("a", 1)]);
        wait(&mut batch, "b", 2, 1);
        assert_eq!(next(&mut batch, &mut turn), [of("b", 2)]);
        wait(&mut batch, "b", 3, 1);
        assert_eq!(next(&mut batch, &mut turn), [of("c", 1)]);
        assert_eq!(next(&mut batch, &mut turn), [of("b", 3)]);
        assert_eq!(next(&mut batch, &mut turn), [of("a", 2)]);
        assert!(batch.is_empty());
    }

    #[test]
    fn what_is_large_in_all_is_written_a_value_at_a_time_and_in_order() {
        let (mut batch, mut turn) = (Batch::default(), Turn::default());
        for revision in 1..=3 {
            wait(&mut batch, "a", revision, LARGE / 2);
        }
        let a = SourceName::new("a");
        batch.sources.get_mut(&a).unwrap().pinned = Some(None);
        assert_eq!(next(&mut batch, &mut turn), [("a".to_owned(), 1)]);
        assert_eq!(batch.sources.get(&a).unwrap().pinned, Some(None), "after those that wait");
        let rest = [("a".to_owned(), 2), ("a".to_owned(), 3)];
        assert_eq!(next(&mut batch, &mut turn), rest, "it is small by now");
        assert!(batch.is_empty());
    }
}
