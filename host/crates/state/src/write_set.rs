//! What waits to be written of one source, and how it is written.

use super::{Record, Rejection, Settings};
use crate::{
    Digest,
    error::Fault,
    records::{self, Happened, Note, Source, What},
    writer::Then,
};
use jiff::Timestamp;
use redb::{ReadableTable as _, Table, WriteTransaction};
use reloader_engine::types::{Revision, SourceName};
use std::{
    collections::{BTreeMap, VecDeque},
    mem,
};

/// So many values of one source wait; then the newest takes the place of the one before it.
const WAITING: usize = 4;
/// Of so many sinks it is known what they got last, for each source.
const SINKS: usize = 64;
/// More of a refused value is not kept, in bytes.
const REFUSED: usize = 1 << 20;

/// What waits to be written of one source. It is written in the order of the fields.
#[derive(Default)]
pub(crate) struct Work {
    /// What is there is forgotten first; and who is to be told.
    pub(crate) forget: Option<Option<Then>>,
    pub(crate) records: VecDeque<(Record, Option<Then>)>,
    /// What is pinned after these.
    pub(crate) pinned: Option<Option<Revision>>,
    pub(crate) delivered: BTreeMap<String, Delivery>,
    pub(crate) refused: Option<Rejection>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Delivery {
    pub(crate) at: Timestamp,
    pub(crate) revision: Revision,
    pub(crate) digest: Digest,
}

impl Work {
    /// One more record. What had to make way for it: nothing, unless too much waits of this source, or
    /// of all of them (`is_full`).
    pub(crate) fn push(
        &mut self,
        record: Record,
        then: Then,
        is_full: bool,
    ) -> Option<(Record, Option<Then>)> {
        // A record says itself whether its value is pinned.
        self.pinned = None;
        let has_room = self.records.len() < WAITING && !is_full;
        let replaced = if has_room { None } else { self.records.pop_back() };
        self.records.push_back((record, Some(then)));
        replaced
    }

    pub(crate) fn is_empty(&self) -> bool {
        let Self { forget, records, pinned, delivered, refused } = self;
        let is_nothing = forget.is_none() && pinned.is_none() && refused.is_none();
        is_nothing && records.is_empty() && delivered.is_empty()
    }

    /// Of the values that are written.
    pub(crate) fn bytes(&self) -> usize {
        let refused = self.refused.as_ref().map_or(0, |refusal| refusal.value.content.len());
        let refused = if refused > REFUSED { 0 } else { refused };
        refused + self.records.iter().map(|(record, _)| record.size()).sum::<usize>()
    }

    /// Takes out what is written first: a value, at most, if there are several.
    pub(crate) fn first(&mut self) -> Self {
        if self.records.len() < 2 {
            return mem::take(self);
        }
        let records = self.records.pop_front().into_iter().collect();
        Self { forget: self.forget.take(), records, ..Self::default() }
    }

    /// Takes out who is to be told, in order.
    pub(crate) fn thens(&mut self) -> Vec<Then> {
        let forgotten = self.forget.as_mut().and_then(Option::take);
        let recorded = self.records.iter_mut().filter_map(|(_, then)| then.take());
        forgotten.into_iter().chain(recorded).collect()
    }

    /// Joins this and what has come since, without the values that newer ones have followed.
    pub(crate) fn and(&mut self, mut newer: Self) {
        let newest = newer.records.pop_back();
        newer.records = newest.into_iter().collect();
        if newer.forget.is_some() {
            *self = newer;
            return;
        }
        if !newer.records.is_empty() {
            (self.records, self.pinned) = (newer.records, newer.pinned);
        } else if newer.pinned.is_some() {
            self.pinned = newer.pinned;
        }
        for (sink, delivery) in newer.delivered {
            self.deliver(&sink, delivery);
        }
        self.refused = newer.refused.or(self.refused.take());
    }

    pub(crate) fn deliver(&mut self, sink: &str, delivery: Delivery) {
        if self.delivered.len() < SINKS || self.delivered.contains_key(sink) {
            self.delivered.insert(sink.to_owned(), delivery);
        }
    }
}

/// The tables, open for writing.
pub(crate) struct Tables<'a> {
    pub(crate) sources: Table<'a, &'static str, &'static [u8]>,
    history: Table<'a, (&'static str, u64), &'static [u8]>,
    contents: Table<'a, (&'static str, u64), &'static [u8]>,
    delivered: Table<'a, (&'static str, &'static str), &'static [u8]>,
    refused: Table<'a, &'static str, &'static [u8]>,
    refused_contents: Table<'a, &'static str, &'static [u8]>,
}

impl<'a> Tables<'a> {
    pub(crate) fn open(transaction: &'a WriteTransaction) -> Result<Self, Fault> {
        Ok(Self {
            sources: transaction.open_table(records::SOURCES)?,
            history: transaction.open_table(records::HISTORY)?,
            contents: transaction.open_table(records::CONTENTS)?,
            delivered: transaction.open_table(records::DELIVERED)?,
            refused: transaction.open_table(records::REFUSED)?,
            refused_contents: transaction.open_table(records::REFUSED_CONTENTS)?,
        })
    }

    /// Writes what waits of one source.
    pub(crate) fn write(
        &mut self,
        name: &SourceName,
        work: &Work,
        settings: &Settings,
        now: Timestamp,
    ) -> Result<(), Fault> {
        let name = name.as_str();
        if work.forget.is_some() {
            self.forget(name)?;
        }
        let source = self.source(name)?;
        let is_new = source.is_none();
        let before = source.unwrap_or_default();
        let mut after = before.clone();
        for (record, _) in &work.records {
            self.record(name, &mut after, record, settings)?;
        }
        if !work.records.is_empty() {
            self.trim(name, &after, settings)?;
            after.configured = now.as_millisecond();
        }
        if let Some(pinned) = work.pinned {
            after.pinned = pinned.map(Revision::get);
        }
        let has_something = !work.records.is_empty() || work.pinned.is_some();
        if after != before && (has_something || !is_new) {
            self.put(name, &after)?;
        }
        // A group has no values of its own, and of a source the first one may be refused.
        self.deliveries(name, &work.delivered)?;
        if let Some(refusal) = &work.refused {
            self.refuse(name, before.secret || after.secret, refusal, settings)?;
        }
        Ok(())
    }

    pub(crate) fn source(&self, name: &str) -> Result<Option<Source>, Fault> {
        let Some(record) = self.sources.get(name)? else { return Ok(None) };
        records::decode(&format!("source `{name}`"), record.value()).map(Some)
    }

    pub(crate) fn put(&mut self, name: &str, source: &Source) -> Result<(), Fault> {
        self.sources.insert(name, &records::encode(source)?[..])?;
        Ok(())
    }

    fn record(
        &mut self,
        name: &str,
        source: &mut Source,
        record: &Record,
        settings: &Settings,
    ) -> Result<(), Fault> {
        let to = record.rolled_back_to.map(Revision::get);
        let happened = Happened::new(record.at, record.value.as_ref(), to);
        // What was written before a failure, or without it, is not lower than this.
        let said = record.revision.get();
        let revision = if said > source.revision {
            said
        } else if self
            .happened(name, source.revision)?
            .is_some_and(|known| known.is_same(&happened))
        {
            source.revision
        } else {
            tracing::debug!(source = name, "revision {said} comes after {}", source.revision);
            source.revision.saturating_add(1)
        };
        // Only a new configuration ends it.
        let secret = record.secret || source.secret || !settings.store_values;
        if secret && !source.secret {
            self.forget_values(name)?;
        }
        source.revision = revision;
        source.pinned = to;
        source.secret = secret;
        source.cursor = None;
        self.history.insert((name, revision), &records::encode(&happened)?[..])?;
        if let (Some(value), false) = (&record.value, secret) {
            source.cursor = value.cursor.as_ref().map(Note::of);
            self.contents.insert((name, revision), &value.content[..])?;
        }
        Ok(())
    }

    fn happened(&self, name: &str, revision: u64) -> Result<Option<Happened>, Fault> {
        let Some(record) = self.history.get((name, revision))? else { return Ok(None) };
        let what = format!("revision {revision} of source `{name}`");
        records::decode(&what, record.value()).map(Some)
    }

    /// The oldest are forgotten, the present one never.
    fn trim(&mut self, name: &str, source: &Source, settings: &Settings) -> Result<(), Fault> {
        let (mut number, mut bytes, mut old) = (0_u32, 0_u64, Vec::new());
        for happened in self.history.range((name, 0)..=(name, source.revision))?.rev() {
            let (key, record) = happened?;
            let (_, revision) = key.value();
            let what = format!("revision {revision} of source `{name}`");
            let happened: Happened = records::decode(&what, record.value())?;
            number += 1;
            bytes = bytes.saturating_add(if source.secret { 0 } else { happened.size });
            let fits = number <= settings.history && bytes <= settings.history_size.0;
            if !fits && revision != source.revision {
                old.push(revision);
            }
        }
        for revision in old {
            self.history.remove((name, revision))?;
            self.contents.remove((name, revision))?;
        }
        Ok(())
    }

    fn deliveries(
        &mut self,
        name: &str,
        delivered: &BTreeMap<String, Delivery>,
    ) -> Result<(), Fault> {
        if delivered.is_empty() {
            return Ok(());
        }
        for (sink, Delivery { at, revision, digest }) in delivered {
            let at = at.as_millisecond();
            let record = records::Delivered { at, revision: revision.get(), digest: *digest };
            self.delivered.insert((name, &sink[..]), &records::encode(&record)?[..])?;
        }
        let mut known = Vec::new();
        for delivered in self.delivered.range((name, "")..)? {
            let (key, record) = delivered?;
            let (source, sink) = key.value();
            if source != name {
                break;
            }
            let record: records::Delivered =
                records::decode(&format!("sink `{sink}`"), record.value())?;
            known.push((record.at, sink.to_owned()));
        }
        known.sort();
        let old = known.len().saturating_sub(SINKS);
        for (_, sink) in &known[..old] {
            self.delivered.remove((name, &sink[..]))?;
        }
        Ok(())
    }

    fn refuse(
        &mut self,
        name: &str,
        secret_before: bool,
        refusal: &Rejection,
        settings: &Settings,
    ) -> Result<(), Fault> {
        let Rejection { value, at, reason, secret } = refusal;
        // A reason may quote the value.
        let secret = *secret || secret_before || !settings.store_values;
        let reason = if secret { "(not stored)" } else { reason };
        let record = records::Refused {
            at: at.as_millisecond(),
            reason: reloader_util::sanitize::sanitize(reason),
            size: value.content.len() as u64,
            digest: Digest::of(&value.content),
            media_type: value.media_type.as_deref().map(str::to_owned),
        };
        self.refused.insert(name, &records::encode(&record)?[..])?;
        if secret || value.content.len() > REFUSED {
            self.refused_contents.remove(name)?;
        } else {
            self.refused_contents.insert(name, &value.content[..])?;
        }
        Ok(())
    }

    /// All that is known of a source, its revision as well.
    pub(crate) fn forget(&mut self, name: &str) -> Result<(), Fault> {
        self.forget_values(name)?;
        let mut revisions = Vec::new();
        for happened in self.history.range((name, 0)..=(name, u64::MAX))? {
            revisions.push(happened?.0.value().1);
        }
        for revision in revisions {
            self.history.remove((name, revision))?;
        }
        let mut sinks = Vec::new();
        for delivered in self.delivered.range((name, "")..)? {
            let (key, _) = delivered?;
            let (source, sink) = key.value();
            if source != name {
                break;
            }
            sinks.push(sink.to_owned());
        }
        for sink in sinks {
            self.delivered.remove((name, &sink[..]))?;
        }
        self.refused.remove(name)?;
        self.sources.remove(name)?;
        Ok(())
    }

    /// All its contents: they are secret from now on.
    pub(crate) fn forget_values(&mut self, name: &str) -> Result<(), Fault> {
        let mut revisions = Vec::new();
        for content in self.contents.range((name, 0)..=(name, u64::MAX))? {
            revisions.push(content?.0.value().1);
        }
        for revision in revisions {
            self.contents.remove((name, revision))?;
        }
        self.refused_contents.remove(name)?;
        Ok(())
    }
}

impl Happened {
    /// Whether it is the same value, whenever that was.
    fn is_same(&self, other: &Self) -> bool {
        let gone = |it: &Self| it.what == What::Removed;
        self.digest == other.digest
            && self.media_type == other.media_type
            && gone(self) == gone(other)
    }
}

impl Tables<'_> {
    /// What was delivered or refused of what is neither configured nor has values is forgotten.
    fn forget_strangers(&mut self, configured: &BTreeMap<SourceName, bool>) -> Result<(), Fault> {
        let mut strangers = Vec::new();
        let mut look = |name: &str| {
            if !configured.contains_key(&SourceName::new(name)) && self.source(name)?.is_none() {
                strangers.push(name.to_owned());
            }
            Ok::<(), Fault>(())
        };
        for delivered in self.delivered.iter()? {
            look(delivered?.0.value().0)?;
        }
        for refused in self.refused.iter()? {
            look(refused?.0.value())?;
        }
        strangers.dedup();
        for name in strangers {
            self.forget(&name)?;
        }
        Ok(())
    }

    /// Takes note of the sources that are configured now, and forgets those that have not been for long.
    pub(crate) fn configured(
        &mut self,
        configured: &BTreeMap<SourceName, bool>,
        settings: &Settings,
        now: Timestamp,
    ) -> Result<(), Fault> {
        let now = now.as_millisecond();
        let (mut known, mut others) = (Vec::new(), Vec::new());
        for source in self.sources.iter()? {
            let (name, record) = source?;
            let source: Source =
                records::decode(&format!("source `{}`", name.value()), record.value())?;
            match configured.get(&SourceName::new(name.value())) {
                Some(secret) => known.push((name.value().to_owned(), source, *secret)),
                None => others.push((source.configured, name.value().to_owned())),
            }
        }
        for (name, mut source, secret) in known {
            if secret && !source.secret {
                self.forget_values(&name)?;
                source.cursor = None;
            }
            source.secret = secret;
            source.configured = now;
            self.put(&name, &source)?;
        }
        self.forget_strangers(configured)?;
        others.sort();
        let keep = i64::try_from(settings.keep_removed.0.as_millis()).unwrap_or(i64::MAX);
        let too_many = others.len().saturating_sub(settings.max_removed as usize);
        for (number, (seen, name)) in others.iter().enumerate() {
            if number < too_many || seen.saturating_add(keep) < now {
                tracing::info!(source = %name, "it is not configured any more, and is forgotten");
                self.forget(name)?;
            }
        }
        Ok(())
    }
}
