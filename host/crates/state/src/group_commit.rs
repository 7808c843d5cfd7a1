//! Group commit: decides which queued writes share a transaction.

use crate::{queued_source_writes::SourceWrites, write_request::Completion};
use reloader_engine::types::SourceName;
use std::{
    collections::{BTreeMap, btree_map::Entry},
    mem,
    ops::Bound,
};

/// Size above which the writes of a source are large and get transactions of their own, in bytes.
const LARGE_WRITES_BYTES: usize = 256 << 10;

/// Maximum size of the values that are kept while writes fail, in bytes. Beyond it, only the newest value of each
/// source is kept.
const MAX_UNWRITTEN_HISTORY_BYTES: usize = 16 << 20;
/// Maximum number of sources that a description of unwritten changes names.
const MAX_SOURCES_SHOWN: usize = 10;

/// Writes of several sources: the queue, or the content of one transaction.
#[derive(Default)]
pub(crate) struct WriteBatch {
    pub(crate) sources: BTreeMap<SourceName, SourceWrites>,
    /// Configured sources, if they change. The flag of a source is set if its values are secret.
    pub(crate) configured: Option<BTreeMap<SourceName, bool>>,
}

/// Round-robin position: transactions alternate between small and large writes, and large writes between sources.
#[derive(Default)]
pub(crate) struct RoundRobin {
    is_large_next: bool,
    /// Source whose large writes were taken last.
    last_large: Option<SourceName>,
}

impl WriteBatch {
    pub(crate) fn is_empty(&self) -> bool {
        self.sources.is_empty() && self.configured.is_none()
    }

    /// Returns the size of all values in the batch, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.sources.values().map(SourceWrites::bytes).sum()
    }

    pub(crate) fn take_completions(&mut self) -> Vec<Completion> {
        self.sources.values_mut().flat_map(SourceWrites::take_completions).collect()
    }

    /// Returns whether the batch has a record whose completion has already been taken, to report its outcome.
    pub(crate) fn has_completed_records(&self) -> bool {
        let mut records = self.sources.values().flat_map(|writes| &writes.records);
        records.any(|(_, completion)| completion.is_none())
    }

    /// Describes the writes for the operator: the first sources and their revisions.
    pub(crate) fn describe(&self) -> String {
        if self.sources.is_empty() {
            return "no source values".into();
        }
        let shown = self.sources.iter().take(MAX_SOURCES_SHOWN).map(describe_source);
        let shown: Vec<_> = shown.collect();
        let more = self.sources.len() - shown.len();
        let mut shown = shown.join(", ");
        if more > 0 {
            shown += &format!(" and changes of {more} more sources");
        }
        shown
    }

    /// Takes the content of the next transaction. Transactions alternate between two kinds: the writes of all sources
    /// with at most [`LARGE_WRITES_BYTES`], and the oldest record of one source with more.
    pub(crate) fn take_next(&mut self, position: &mut RoundRobin) -> Self {
        let is_large = |writes: &SourceWrites| writes.bytes() > LARGE_WRITES_BYTES;
        let has_small = self.configured.is_some() || !self.sources.values().all(is_large);
        if (position.is_large_next || !has_small)
            && let Some(name) = self.next_large(position.last_large.as_ref(), is_large)
            && let Entry::Occupied(mut large) = self.sources.entry(name.clone())
        {
            let first = large.get_mut().take_first();
            if large.get().is_empty() {
                large.remove();
            }
            *position = RoundRobin { is_large_next: false, last_large: Some(name.clone()) };
            return Self { sources: BTreeMap::from([(name, first)]), configured: None };
        }
        position.is_large_next = true;
        Self {
            sources: self.sources.extract_if(.., |_, writes| !is_large(writes)).collect(),
            configured: mem::take(&mut self.configured),
        }
    }

    /// Returns the next source with large writes after `last`, by name. After the last name, continues with the first.
    fn next_large(
        &self,
        last: Option<&SourceName>,
        is_large: impl Fn(&SourceWrites) -> bool,
    ) -> Option<SourceName> {
        let from = last.map_or(Bound::Unbounded, Bound::Excluded);
        let mut in_order = self.sources.range((from, Bound::Unbounded)).chain(&self.sources);
        in_order.find(|(_, writes)| is_large(writes)).map(|(name, _)| name.clone())
    }

    /// Adds newer writes to this batch.
    pub(crate) fn merge(&mut self, newer: Self) {
        for (name, writes) in newer.sources {
            self.sources.entry(name).or_default().merge(writes);
        }
        self.configured = newer.configured.or(self.configured.take());
    }

    /// Drops all records except the newest one of each source, if the size of all values exceeds
    /// [`MAX_UNWRITTEN_HISTORY_BYTES`].
    pub(crate) fn limit_history(&mut self) {
        if self.bytes() > MAX_UNWRITTEN_HISTORY_BYTES {
            self.sources.values_mut().for_each(|writes| writes.keep_newest_records(1));
        }
    }

    /// Returns whether the batch contains several records of any one source.
    pub(crate) fn has_history(&self) -> bool {
        self.sources.values().any(|writes| writes.records.len() > 1)
    }
}

fn describe_source((name, writes): (&SourceName, &SourceWrites)) -> String {
    match writes.last_revision() {
        Some(revision) => format!("revision {revision} of `{name}`"),
        None => format!("pin, deliveries or rejected value of `{name}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Record, Saved};
    use reloader_engine::types::Snapshot;

    fn push(batch: &mut WriteBatch, name: &str, revision: u64, bytes: usize) {
        let record = Record::new(revision.into(), Some(Snapshot::new(vec![0; bytes])));
        let writes = batch.sources.entry(SourceName::new(name)).or_default();
        assert!(writes.push(record, Box::new(|_: Saved| ()), false).is_none());
    }

    /// Takes the next transaction, and returns its source names and revisions.
    fn take_next(batch: &mut WriteBatch, position: &mut RoundRobin) -> Vec<(String, u64)> {
        let next = batch.take_next(position);
        let records = |(name, writes): (SourceName, SourceWrites)| {
            let revisions = writes.records.into_iter().map(|(record, _)| record.revision.get());
            revisions.map(move |revision| (name.to_string(), revision)).collect::<Vec<_>>()
        };
        next.sources.into_iter().flat_map(records).collect()
    }

    /// A small write waits for at most one large value, and large values of different sources alternate.
    #[test]
    fn large_values_alternate_with_small_writes() {
        let (mut batch, mut position) = (WriteBatch::default(), RoundRobin::default());
        for (name, revision, bytes) in [
            ("a", 1, LARGE_WRITES_BYTES + 1),
            ("a", 2, LARGE_WRITES_BYTES + 1),
            ("b", 1, 1),
            ("c", 1, LARGE_WRITES_BYTES + 1),
            ("d", 1, 1),
        ] {
            push(&mut batch, name, revision, bytes);
        }
        let entry = |name: &str, revision| (name.to_owned(), revision);
        assert_eq!(take_next(&mut batch, &mut position), [entry("b", 1), entry("d", 1)]);
        assert_eq!(take_next(&mut batch, &mut position), [entry("a", 1)]);
        push(&mut batch, "b", 2, 1);
        assert_eq!(take_next(&mut batch, &mut position), [entry("b", 2)]);
        push(&mut batch, "b", 3, 1);
        assert_eq!(take_next(&mut batch, &mut position), [entry("c", 1)]);
        assert_eq!(take_next(&mut batch, &mut position), [entry("b", 3)]);
        assert_eq!(take_next(&mut batch, &mut position), [entry("a", 2)]);
        assert!(batch.is_empty());
    }

    #[test]
    fn large_writes_are_split_in_order() {
        let (mut batch, mut position) = (WriteBatch::default(), RoundRobin::default());
        for revision in 1..=3 {
            push(&mut batch, "a", revision, LARGE_WRITES_BYTES / 2);
        }
        let a = SourceName::new("a");
        batch.sources.get_mut(&a).unwrap().pinned = Some(None);
        assert_eq!(take_next(&mut batch, &mut position), [("a".to_owned(), 1)]);
        let pinned = batch.sources.get(&a).unwrap().pinned;
        assert_eq!(pinned, Some(None), "the pin is written after the queued records");
        let rest = [("a".to_owned(), 2), ("a".to_owned(), 3)];
        assert_eq!(take_next(&mut batch, &mut position), rest, "the remaining writes are small");
        assert!(batch.is_empty());
    }
}
