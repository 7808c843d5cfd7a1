//! `ETag` of a value, for conditional requests (`If-None-Match`).
//!
//! The tag is the revision and the first 16 hexadecimal digits of the SHA-256 digest: `"7-9f86d081884c7d65"`.

use crate::blocking_operation_pool::POOL;
use jiff::Timestamp;
use reloader_engine::types::Snapshot;
use reloader_source::latest_value::SourceState;
use reloader_util::{digest::Digest, sync::Mutex};
use std::{collections::HashMap, sync::Arc};
use tokio::sync::OnceCell;

/// Returns the tag of a value, in quotes.
fn etag(revision: u64, content: &[u8]) -> String {
    let digest = Digest::of(content).to_string();
    format!("\"{revision}-{}\"", &digest[..16])
}

/// Returns the tag of a value. Large values are hashed on another thread.
pub(crate) async fn compute(revision: u64, value: &Snapshot) -> Arc<str> {
    if value.content.len() <= MAX_INLINE_HASH_BYTES {
        return etag(revision, &value.content).into();
    }
    let content = value.content.clone();
    let tag = POOL.spawn(move || etag(revision, &content)).await;
    // Without a thread, the value is hashed here: a slow response is better than none.
    tag.unwrap_or_else(|_| etag(revision, &value.content)).into()
}

/// Maximum size of a value that is hashed on an async worker thread, in bytes.
const MAX_INLINE_HASH_BYTES: usize = 64 << 10;

/// Returns `true` if the list in `If-None-Match` contains the tag, or `*`.
pub(crate) fn matches(if_none_match: &str, tag: &str) -> bool {
    matches_any(if_none_match) || listed_tags(if_none_match).any(|listed| listed == tag)
}

/// Returns `false` if no tag in the list can be the tag of this revision. Computes no hash.
pub(crate) fn may_match(if_none_match: &str, revision: u64) -> bool {
    let prefix = format!("\"{revision}-");
    matches_any(if_none_match) || listed_tags(if_none_match).any(|tag| tag.starts_with(&prefix))
}

fn matches_any(if_none_match: &str) -> bool {
    listed_tags(if_none_match).any(|tag| tag == "*")
}

/// Returns the tags of the list, without the prefix of weak tags.
fn listed_tags(if_none_match: &str) -> impl Iterator<Item = &str> {
    if_none_match.split(',').map(|tag| tag.trim().trim_start_matches("W/"))
}

/// Cache of the tags of the current values, by source. Concurrent requests compute a tag once.
#[derive(Default)]
pub(crate) struct Tags(Mutex<HashMap<String, CachedTag>>);

/// Revision and time of a publication, and the tag of its value.
type CachedTag = ((u64, Timestamp), Arc<OnceCell<Arc<str>>>);

/// Number of cached tags from which the cache is cleared before it grows. Clearing drops the tags of removed sources.
const MIN_TAGS_BEFORE_CLEAR: usize = 1024;

impl Tags {
    /// Returns the tag of the current value of a source; `None` if it has no value. `state` is the current state
    /// of the source `name`.
    pub(crate) async fn get(&self, name: &str, state: &SourceState) -> Option<Arc<str>> {
        let value = state.value.as_ref()?;
        let (revision, publication) = (state.revision.get(), (state.revision.get(), state.at));
        let cell = {
            let mut tags = self.0.lock();
            match tags.get(name) {
                Some((cached, cell)) if *cached == publication => Arc::clone(cell),
                cached => {
                    let is_new = cached.is_none();
                    let is_full = tags.len() == tags.capacity();
                    if is_new && tags.len() >= MIN_TAGS_BEFORE_CLEAR && is_full {
                        tags.clear();
                    }
                    let cell = Arc::new(OnceCell::new());
                    tags.insert(name.into(), (publication, Arc::clone(&cell)));
                    cell
                }
            }
        };
        Some(Arc::clone(cell.get_or_init(|| compute(revision, value)).await))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn if_none_match_accepts_lists_and_weak_tags() {
        let tag = etag(3, b"one");
        for list in [tag.clone(), format!("W/{tag}"), format!("\"2-0\", {tag}"), "*".into()] {
            assert!(matches(&list, &tag) && may_match(&list, 3), "{list}");
        }
        assert!(!matches("\"2-0\"", &tag) && !may_match("\"2-0\"", 3));
        assert!(!may_match("\"33-0\"", 3));
    }

    #[tokio::test]
    async fn new_revision_has_new_tag() {
        let tags = Tags::default();
        let state = |revision: u64, content: &'static str| SourceState {
            revision: revision.into(),
            value: Some(Snapshot::new(content)),
            ..SourceState::default()
        };
        let first = tags.get("app", &state(1, "one")).await.expect("a value has a tag");
        assert_eq!(tags.get("app", &state(1, "one")).await.as_ref(), Some(&first));
        assert_ne!(tags.get("app", &state(2, "one")).await.as_ref(), Some(&first));
        assert_eq!(tags.get("app", &SourceState::default()).await, None);
    }
}
