//! Queued writes of one source.

use crate::{
    delivery_records::MAX_DELIVERY_RECORDS_PER_SOURCE,
    last_rejected_value::MAX_REJECTED_CONTENT_BYTES,
    write_request::{Completion, Delivery, Record, RejectedValue},
};
use reloader_engine::types::Revision;
use std::{
    collections::{BTreeMap, VecDeque},
    mem,
};

/// Maximum number of queued records of one source. A further record replaces the newest queued one.
const MAX_QUEUED_RECORDS: usize = 4;

/// Maximum number of records of one source that are kept while writes fail. The oldest ones are dropped.
const MAX_UNWRITTEN_RECORDS: usize = 8;

/// Queued writes of one source. They are applied in the order of the fields.
#[derive(Default)]
pub(crate) struct SourceWrites {
    /// Deletion of the stored state, with its completion. The inner option is `None` after the completion is taken.
    pub(crate) forget: Option<Option<Completion>>,
    /// Last revision that was published before a crash but not stored. Its value is lost.
    pub(crate) lost: Option<Revision>,
    /// Records, each with its completion. The option is `None` after the completion is taken.
    pub(crate) records: VecDeque<(Record, Option<Completion>)>,
    /// New pin, which takes effect after the records; `None` if the pin does not change.
    pub(crate) pinned: Option<Option<Revision>>,
    /// Deliveries to record, by sink name.
    pub(crate) deliveries: BTreeMap<String, Delivery>,
    pub(crate) rejected: Option<RejectedValue>,
}

impl SourceWrites {
    /// Adds a record. If this source has [`MAX_QUEUED_RECORDS`] queued records, or the queue of all sources is full
    /// (`is_full`), removes the newest queued record of this source and returns that record.
    pub(crate) fn push(
        &mut self,
        record: Record,
        completion: Completion,
        is_full: bool,
    ) -> Option<(Record, Option<Completion>)> {
        // Drops an earlier change of the pin: the new record itself states whether its value is pinned.
        self.pinned = None;
        let has_room = self.records.len() < MAX_QUEUED_RECORDS && !is_full;
        let replaced = if has_room { None } else { self.records.pop_back() };
        self.records.push_back((record, Some(completion)));
        replaced
    }

    pub(crate) fn is_empty(&self) -> bool {
        let Self { forget, lost, records, pinned, deliveries, rejected } = self;
        let has_no_option = forget.is_none() && lost.is_none() && pinned.is_none();
        has_no_option && rejected.is_none() && records.is_empty() && deliveries.is_empty()
    }

    /// Returns the size of the values to be written, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let rejected = self.rejected.as_ref().map_or(0, |rejected| rejected.value.content.len());
        let rejected = if rejected > MAX_REJECTED_CONTENT_BYTES { 0 } else { rejected };
        rejected + self.records.iter().map(|(record, _)| record.size()).sum::<usize>()
    }

    /// Returns the highest revision that these writes publish.
    pub(crate) fn last_revision(&self) -> Option<Revision> {
        let recorded = self.records.back().map(|(record, _)| record.revision);
        recorded.max(self.lost.map(|lost| lost.next()))
    }

    /// Takes the writes for the next transaction: the oldest record if several are queued, else all writes.
    pub(crate) fn take_first(&mut self) -> Self {
        if self.records.len() < 2 {
            return mem::take(self);
        }
        let records = self.records.pop_front().into_iter().collect();
        Self { forget: self.forget.take(), lost: self.lost.take(), records, ..Self::default() }
    }

    /// Takes the completions, in the order in which they must be called.
    pub(crate) fn take_completions(&mut self) -> Vec<Completion> {
        let forgotten = self.forget.as_mut().and_then(Option::take);
        let recorded = self.records.iter_mut().filter_map(|(_, completion)| completion.take());
        forgotten.into_iter().chain(recorded).collect()
    }

    /// Adds newer writes. Keeps only the newest [`MAX_UNWRITTEN_RECORDS`] records.
    pub(crate) fn merge(&mut self, mut newer: Self) {
        if newer.forget.is_some() {
            *self = newer;
            return;
        }
        self.lost = self.lost.max(newer.lost);
        if !newer.records.is_empty() {
            self.records.append(&mut newer.records);
            self.keep_newest_records(MAX_UNWRITTEN_RECORDS);
            self.pinned = newer.pinned;
        } else if newer.pinned.is_some() {
            self.pinned = newer.pinned;
        }
        for (sink, delivery) in newer.deliveries {
            self.deliver(&sink, delivery);
        }
        self.rejected = newer.rejected.or(self.rejected.take());
    }

    /// Drops the oldest records beyond `count`.
    pub(crate) fn keep_newest_records(&mut self, count: usize) {
        self.records.drain(..self.records.len().saturating_sub(count));
    }

    pub(crate) fn deliver(&mut self, sink: &str, delivery: Delivery) {
        if self.deliveries.len() < MAX_DELIVERY_RECORDS_PER_SOURCE
            || self.deliveries.contains_key(sink)
        {
            self.deliveries.insert(sink.to_owned(), delivery);
        }
    }
}
