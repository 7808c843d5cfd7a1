//! What a sink is given.

use jiff::Timestamp;
use reloader_engine::types::{Revision, Snapshot, SourceName};
use reloader_source::store::Stale;
use reloader_util::digest::Digest;
use sha2::{Digest as _, Sha256};

/// What a sink is given: the newest values of all its sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    parts: Vec<Part>,
}

/// The newest value of one source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Whose value it is.
    pub source: SourceName,
    /// The host's number of it.
    pub revision: Revision,
    /// When it was published.
    pub at: Timestamp,
    /// Why it is older than its source promises, if it is. It is delivered all the same: a machine must
    /// be able to start.
    pub stale: Option<Stale>,
    /// The value; `None` if the source has none any more, and that is delivered, too.
    pub value: Option<Snapshot>,
}

impl Update {
    /// Of these parts, in the order of the sink's sources.
    #[must_use]
    pub fn new(parts: Vec<Part>) -> Self {
        Self { parts }
    }

    /// The newest value of each source.
    #[must_use]
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The only part, if the sink has one source.
    #[must_use]
    pub fn single(&self) -> Option<&Part> {
        match self.parts.as_slice() {
            [part] => Some(part),
            _ => None,
        }
    }

    /// `removed` if no source has a value any more, else `changed`.
    #[must_use]
    pub fn event(&self) -> &'static str {
        if self.parts.iter().all(|part| part.value.is_none()) { "removed" } else { "changed" }
    }

    /// Stands for these values in a sink with these settings, whichever their revisions are: the same
    /// digest, the same sources, values and settings.
    #[must_use]
    pub fn digest(&self, settings: &str) -> Digest {
        let mut hash = Hash::new(settings);
        for part in &self.parts {
            hash.part(part);
        }
        hash.end()
    }

    /// Names these values at this moment of their sources' lives: the same at each try, another one when
    /// the same values come again.
    #[must_use]
    pub fn id(&self) -> String {
        let mut hash = Hash::new("id");
        for part in &self.parts {
            hash.part(part);
            hash.field(&part.revision.get().to_be_bytes());
            // As it is remembered.
            hash.field(&part.at.as_millisecond().to_be_bytes());
        }
        hash.end().to_string()[..32].into()
    }

    /// How much there is of it, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.parts.iter().filter_map(|part| part.value.as_ref()).map(|it| it.content.len()).sum()
    }
}

/// Each field with its length, so that no two lists of fields look the same.
struct Hash(Sha256);

impl Hash {
    fn new(purpose: &str) -> Self {
        let mut hash = Self(Sha256::new());
        hash.field(purpose.as_bytes());
        hash
    }

    fn field(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
    }

    fn part(&mut self, part: &Part) {
        self.field(part.source.as_str().as_bytes());
        match &part.value {
            None => self.field(b"removed"),
            Some(value) => {
                self.field(b"changed");
                self.field(value.media_type.as_deref().unwrap_or_default().as_bytes());
                self.field(&value.content);
            }
        }
    }

    fn end(self) -> Digest {
        Digest::from(<[u8; 32]>::from(self.0.finalize()))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A value of a source; `None` for one that is gone.
    pub(crate) fn part(source: &str, revision: u64, value: Option<&str>) -> Part {
        Part {
            source: SourceName::new(source),
            revision: revision.into(),
            at: Timestamp::UNIX_EPOCH,
            stale: None,
            value: value.map(|value| Snapshot::new(value.to_owned())),
        }
    }

    fn update(parts: &[(&str, u64, Option<&str>)]) -> Update {
        Update::new(
            parts.iter().map(|&(source, number, value)| part(source, number, value)).collect(),
        )
    }

    #[test]
    fn a_digest_is_the_same_for_the_same_values_and_for_nothing_else() {
        let one = update(&[("a", 1, Some("x"))]);
        assert_eq!(one.digest("s"), update(&[("a", 9, Some("x"))]).digest("s"));
        for other in [
            update(&[("a", 1, Some("y"))]),
            update(&[("b", 1, Some("x"))]),
            update(&[("a", 1, None)]),
            update(&[("a", 1, Some("removed"))]),
            update(&[("a", 1, Some("x")), ("b", 1, Some(""))]),
        ] {
            assert_ne!(one.digest("s"), other.digest("s"), "{other:?}");
        }
        assert_ne!(one.digest("s"), one.digest("t"));
        let (ab, a_b) = (update(&[("a", 1, Some("bc"))]), update(&[("ab", 1, Some("c"))]));
        assert_ne!(ab.digest(""), a_b.digest(""));
    }

    #[test]
    fn an_id_is_another_when_the_same_value_comes_again() {
        let one = update(&[("a", 1, Some("x"))]);
        assert_eq!(one.id(), one.clone().id());
        assert_ne!(one.id(), update(&[("a", 3, Some("x"))]).id());
    }
}
