//! What stands for a value: its `ETag`.

use jiff::Timestamp;
use reloader_engine::types::Snapshot;
use reloader_source::store::State;
use reloader_util::digest::Digest;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::{sync::OnceCell, task::spawn_blocking};

/// The tag of a value, in its quotes.
fn etag(revision: u64, content: &[u8]) -> String {
    let digest = Digest::of(content).to_string();
    format!("\"{revision}-{}\"", &digest[..16])
}

/// The tag of a value, made beside others' work if that takes its time.
pub(crate) async fn made(revision: u64, value: &Snapshot) -> Arc<str> {
    if value.content.len() <= HASHED_HERE {
        return etag(revision, &value.content).into();
    }
    let content = value.content.clone();
    let made = spawn_blocking(move || etag(revision, &content)).await;
    made.unwrap_or_else(|_| format!("\"{revision}\"")).into()
}

/// Larger values are not hashed between others' work, in bytes.
const HASHED_HERE: usize = 64 << 10;

/// Whether a value is one of those that `If-None-Match` lists.
pub(crate) fn matches(known: &str, tag: &str) -> bool {
    is_any(known) || listed(known).any(|one| one == tag)
}

/// Whether it can be one of those, as far as its revision says. Nothing is hashed for that.
pub(crate) fn may_match(known: &str, revision: u64) -> bool {
    let begin = format!("\"{revision}-");
    is_any(known) || listed(known).any(|one| one.starts_with(&begin))
}

fn is_any(known: &str) -> bool {
    listed(known).any(|one| one == "*")
}

fn listed(known: &str) -> impl Iterator<Item = &str> {
    known.split(',').map(|one| one.trim().trim_start_matches("W/"))
}

/// The tags of the present values, each made once for all who ask.
#[derive(Default)]
pub(crate) struct Tags(Mutex<HashMap<String, Tag>>);

/// A publication, and the tag of its value.
type Tag = ((u64, Timestamp), Arc<OnceCell<Arc<str>>>);

/// So many sources that are gone are kept besides those that are there.
const SPARE: usize = 1024;

impl Tags {
    /// That of the value in this state, which is the present one of this source.
    pub(crate) async fn of(&self, name: &str, state: &State) -> Option<Arc<str>> {
        let value = state.value.as_ref()?;
        let (revision, is) = (state.revision.get(), (state.revision.get(), state.at));
        let cell = {
            let mut tags = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match tags.get(name) {
                Some((of, cell)) if *of == is => Arc::clone(cell),
                before => {
                    if before.is_none() && tags.len() >= SPARE && tags.len() == tags.capacity() {
                        tags.clear();
                    }
                    let cell = Arc::new(OnceCell::new());
                    tags.insert(name.into(), (is, Arc::clone(&cell)));
                    cell
                }
            }
        };
        Some(Arc::clone(cell.get_or_init(|| made(revision, value)).await))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_tags_is_looked_through_and_a_revision_that_is_not_there_is_none_of_them() {
        let tag = etag(3, b"one");
        for known in [tag.clone(), format!("W/{tag}"), format!("\"2-0\", {tag}"), "*".into()] {
            assert!(matches(&known, &tag) && may_match(&known, 3), "{known}");
        }
        assert!(!matches("\"2-0\"", &tag) && !may_match("\"2-0\"", 3));
        assert!(!may_match("\"33-0\"", 3));
    }

    #[tokio::test]
    async fn a_value_that_is_published_again_has_another_tag() {
        let tags = Tags::default();
        let state = |revision: u64, content: &'static str| State {
            revision: revision.into(),
            value: Some(Snapshot::new(content)),
            ..State::default()
        };
        let one = tags.of("app", &state(1, "one")).await.expect("it has one");
        assert_eq!(tags.of("app", &state(1, "one")).await.as_ref(), Some(&one));
        assert_ne!(tags.of("app", &state(2, "one")).await.as_ref(), Some(&one));
        assert_eq!(tags.of("app", &State::default()).await, None);
    }
}
