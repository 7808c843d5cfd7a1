//! What is remembered, as it is looked up. Nothing here waits for the writer.

use crate::{
    Digest,
    error::Fault,
    records::{self, Happened, What, time},
};
use jiff::Timestamp;
use redb::{ReadTransaction, ReadableTable};
use reloader_engine::types::{Revision, Snapshot, SourceName};
use std::{collections::BTreeMap, sync::Arc};

/// What a source goes on from after a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resumed {
    /// The last revision.
    pub revision: Revision,
    /// The value of that revision. `None`: there was none, it was not stored, or it is damaged.
    pub value: Option<Snapshot>,
    /// Whether there was none.
    pub removed: bool,
    /// When it was published.
    pub at: Timestamp,
    /// Whether the value is pinned, and which revision it was rolled back to.
    pub pinned: Option<Revision>,
    /// What each sink has got last.
    pub delivered: BTreeMap<String, Delivered>,
}

/// What a sink has got last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivered {
    /// Of which revision.
    pub revision: Revision,
    /// The digest that the sink has named: of the value, or of what it made of it.
    pub digest: Digest,
    /// When.
    pub at: Timestamp,
}

/// A source that is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Its name.
    pub source: SourceName,
    /// The last revision.
    pub revision: Revision,
    /// Which revision it was rolled back to, if it is pinned.
    pub pinned: Option<Revision>,
    /// Whether its values are not stored.
    pub secret: bool,
    /// When it was configured last, as far as this host knows.
    pub configured_at: Timestamp,
}

/// One revision of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Which one.
    pub revision: Revision,
    /// When it was published.
    pub at: Timestamp,
    /// What happened.
    pub what: Happening,
    /// Of the content; `None` for a removal.
    pub digest: Option<Digest>,
    /// Of the content, in bytes.
    pub size: u64,
    /// What the content is, where the source says.
    pub media_type: Option<Arc<str>>,
    /// Whether the content can be had.
    pub is_stored: bool,
}

/// What happened with a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happening {
    /// The source had a new value.
    Changed,
    /// The source had no value any more.
    Removed,
    /// Somebody went back to the value of this revision.
    RolledBack {
        /// That revision.
        to: Revision,
    },
}

/// As it is called where people read it.
impl std::fmt::Display for Happening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Changed => "changed",
            Self::Removed => "removed",
            Self::RolledBack { .. } => "rolled-back",
        })
    }
}

/// A value that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedEntry {
    /// Why.
    pub reason: String,
    /// When.
    pub at: Timestamp,
    /// Of the content.
    pub digest: Digest,
    /// Of the content, in bytes.
    pub size: u64,
    /// What the content is, where the source says.
    pub media_type: Option<Arc<str>>,
    /// The content, if it is stored: one that is large is not, and no secret.
    pub content: Option<bytes::Bytes>,
}

pub(crate) fn resume(
    transaction: &ReadTransaction,
    name: &SourceName,
) -> Result<Option<Resumed>, Fault> {
    let Some(source) = source(transaction, name)? else { return Ok(None) };
    let name = name.as_str();
    let history = transaction.open_table(records::HISTORY)?;
    let key = (name, source.revision);
    // Whatever has become of the value, its number counts.
    let known = history.get(key)?.map(|happened| {
        let happened = records::decode(&described(name, source.revision), happened.value())?;
        let value = content(transaction, name, source.revision, &happened)?;
        Ok::<(Happened, Option<Snapshot>), Fault>((happened, value))
    });
    let lost = || Fault::Damaged(format!("source `{name}` has no revision {}", source.revision));
    let (mut value, at, removed) = match known.unwrap_or_else(|| Err(lost())) {
        Ok((happened, value)) => (value, time(happened.at), happened.what == What::Removed),
        Err(Fault::Damaged(what)) => {
            tracing::error!(source = name, "its last value is lost: {what}");
            (None, Timestamp::now(), false)
        }
        Err(other) => return Err(other),
    };
    if let (Some(value), Some(note)) = (&mut value, &source.cursor) {
        value.cursor = Some(note.cursor());
    }
    Ok(Some(Resumed {
        revision: source.revision.into(),
        value,
        removed,
        at,
        pinned: source.pinned.map(Revision::from),
        delivered: delivered(transaction, name)?,
    }))
}

pub(crate) fn value(
    transaction: &ReadTransaction,
    name: &SourceName,
    revision: Revision,
) -> Result<Option<Snapshot>, Fault> {
    let (name, revision) = (name.as_str(), revision.get());
    let history = transaction.open_table(records::HISTORY)?;
    let Some(record) = history.get((name, revision))? else { return Ok(None) };
    let happened: Happened = records::decode(&described(name, revision), record.value())?;
    content(transaction, name, revision, &happened)
}

/// The newest first.
pub(crate) fn history(
    transaction: &ReadTransaction,
    name: &SourceName,
) -> Result<Vec<Entry>, Fault> {
    let name = name.as_str();
    let contents = transaction.open_table(records::CONTENTS)?;
    let mut entries = Vec::new();
    let table = transaction.open_table(records::HISTORY)?;
    for happened in table.range((name, 0)..=(name, u64::MAX))?.rev() {
        let (key, record) = happened?;
        let (_, revision) = key.value();
        let happened: Happened = records::decode(&described(name, revision), record.value())?;
        entries.push(Entry {
            revision: revision.into(),
            at: time(happened.at),
            what: match happened.what {
                What::Changed => Happening::Changed,
                What::Removed => Happening::Removed,
                What::RolledBack { to } => Happening::RolledBack { to: to.into() },
            },
            digest: happened.digest,
            size: happened.size,
            media_type: happened.media_type.map(Arc::from),
            is_stored: contents.get((name, revision))?.is_some(),
        });
    }
    Ok(entries)
}

pub(crate) fn sources(transaction: &ReadTransaction) -> Result<Vec<Summary>, Fault> {
    let mut sources = Vec::new();
    for source in transaction.open_table(records::SOURCES)?.iter()? {
        let (name, record) = source?;
        let what = format!("source `{}`", name.value());
        let source: records::Source = records::decode(&what, record.value())?;
        sources.push(Summary {
            source: SourceName::new(name.value()),
            revision: source.revision.into(),
            pinned: source.pinned.map(Revision::from),
            secret: source.secret,
            configured_at: time(source.configured),
        });
    }
    Ok(sources)
}

pub(crate) fn refused(
    transaction: &ReadTransaction,
    name: &SourceName,
) -> Result<Option<RefusedEntry>, Fault> {
    let name = name.as_str();
    let table = transaction.open_table(records::REFUSED)?;
    let Some(record) = table.get(name)? else { return Ok(None) };
    let what = format!("what was refused of source `{name}`");
    let refused: records::Refused = records::decode(&what, record.value())?;
    let contents = transaction.open_table(records::REFUSED_CONTENTS)?;
    let content = contents.get(name)?.map(|content| bytes::Bytes::copy_from_slice(content.value()));
    Ok(Some(RefusedEntry {
        reason: refused.reason,
        at: time(refused.at),
        digest: refused.digest,
        size: refused.size,
        media_type: refused.media_type.map(Arc::from),
        content,
    }))
}

fn source(
    transaction: &ReadTransaction,
    name: &SourceName,
) -> Result<Option<records::Source>, Fault> {
    let table = transaction.open_table(records::SOURCES)?;
    let Some(record) = table.get(name.as_str())? else { return Ok(None) };
    records::decode(&format!("source `{name}`"), record.value()).map(Some)
}

/// Without its cursor, which only the present value has.
fn content(
    transaction: &ReadTransaction,
    name: &str,
    revision: u64,
    happened: &Happened,
) -> Result<Option<Snapshot>, Fault> {
    let contents = transaction.open_table(records::CONTENTS)?;
    let Some(content) = contents.get((name, revision))? else { return Ok(None) };
    let content = content.value();
    if Some(Digest::of(content)) != happened.digest {
        let what = described(name, revision);
        return Err(Fault::Damaged(format!("the content of {what} is not what was written")));
    }
    Ok(Some(Snapshot {
        content: bytes::Bytes::copy_from_slice(content),
        media_type: happened.media_type.as_deref().map(Arc::from),
        cursor: None,
    }))
}

fn delivered(
    transaction: &ReadTransaction,
    name: &str,
) -> Result<BTreeMap<String, Delivered>, Fault> {
    let mut delivered = BTreeMap::new();
    for entry in transaction.open_table(records::DELIVERED)?.range((name, "")..)? {
        let (key, record) = entry?;
        let (source, sink) = key.value();
        if source != name {
            break;
        }
        let what = format!("sink `{sink}` of source `{name}`");
        let record: records::Delivered = records::decode(&what, record.value())?;
        let (revision, digest, at) = (record.revision.into(), record.digest, time(record.at));
        delivered.insert(sink.to_owned(), Delivered { revision, digest, at });
    }
    Ok(delivered)
}

/// What one sink has got last.
pub(crate) fn delivered_to(
    transaction: &ReadTransaction,
    of: &SourceName,
    sink: &str,
) -> Result<Option<Digest>, Fault> {
    let table = transaction.open_table(records::DELIVERED)?;
    let Some(record) = table.get((of.as_str(), sink))? else { return Ok(None) };
    let what = format!("sink `{sink}` of `{of}`");
    records::decode(&what, record.value()).map(|record: records::Delivered| Some(record.digest))
}

fn described(name: &str, revision: u64) -> String {
    format!("revision {revision} of source `{name}`")
}
