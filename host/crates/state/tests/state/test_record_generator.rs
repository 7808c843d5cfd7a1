//! Records that are a function of the source and of the revision, so that each one can be checked.

use reloader_engine::types::{Revision, Snapshot, SourceName};

/// Number of sources.
pub(crate) const SOURCES: u64 = 4;

/// Returns the value of a revision. Some revisions are removals, and some values are large.
pub(crate) fn value(source: u64, revision: u64) -> Option<Snapshot> {
    let length = if revision.is_multiple_of(11) { 300_000 } else { revision * 131 % 5000 };
    let content = format!("{source}/{revision} ").repeat(1 + length as usize / 8);
    (!revision.is_multiple_of(5)).then(|| Snapshot::new(content))
}

pub(crate) fn rolled_back_to(revision: u64) -> Option<Revision> {
    (revision % 7 == 1 && !revision.is_multiple_of(5)).then(|| (revision / 2).into())
}

pub(crate) fn name(source: u64) -> SourceName {
    SourceName::new(format!("source {source}"))
}
