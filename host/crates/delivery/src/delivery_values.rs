//! [`Update`]: the values of one delivery.

use jiff::Timestamp;
use reloader_engine::types::{Revision, Snapshot, SourceName};
use reloader_source::latest_value::Stale;
use reloader_util::digest::Digest;
use sha2::{Digest as _, Sha256};

/// The values of one delivery: the latest value of each source of a sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    parts: Vec<Part>,
}

/// Part of an update: the latest value of one source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Name of the source.
    pub source: SourceName,
    /// Revision of the value.
    pub revision: Revision,
    /// Time of publication.
    pub at: Timestamp,
    /// Reason for staleness, if the value is stale. Stale values are delivered as well, so that a
    /// system can start while a source is down.
    pub stale: Option<Stale>,
    /// The value; `None` if the source has removed it.
    pub value: Option<Snapshot>,
}

impl Part {
    /// Returns the part of an optional source that has no value yet.
    #[must_use]
    pub fn absent(source: SourceName) -> Self {
        Self {
            source,
            revision: Revision::default(),
            at: Timestamp::UNIX_EPOCH,
            stale: None,
            value: None,
        }
    }

    /// Returns the event of the source: `removed` if it has no value, `changed` otherwise.
    pub(crate) fn event(&self) -> &'static str {
        if self.value.is_some() { "changed" } else { "removed" }
    }
}

impl Update {
    /// Returns an update with `parts`, in the order of the sink's sources.
    #[must_use]
    pub fn new(parts: Vec<Part>) -> Self {
        Self { parts }
    }

    /// Returns the latest value of each source.
    #[must_use]
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Returns the only part, or `None` if the sink has several sources.
    #[must_use]
    pub fn single(&self) -> Option<&Part> {
        match self.parts.as_slice() {
            [part] => Some(part),
            _ => None,
        }
    }

    /// Returns the event of the update: `removed` if no source has a value, `changed` otherwise.
    #[must_use]
    pub fn event(&self) -> &'static str {
        if self.parts.iter().all(|part| part.value.is_none()) { "removed" } else { "changed" }
    }

    /// Returns the digest of the source names, the values and `settings`. The digest does not depend on
    /// revisions.
    #[must_use]
    pub fn digest(&self, settings: &str) -> Digest {
        let mut hash = Hash::new(settings);
        for part in &self.parts {
            hash.part(part);
        }
        hash.finish()
    }

    /// Returns the idempotency key of the update. All attempts to deliver the update have the same key. A new
    /// publication of the same values has a different key.
    #[must_use]
    pub fn id(&self) -> String {
        let mut hash = Hash::new("id");
        for part in &self.parts {
            hash.part(part);
            hash.field(&part.revision.get().to_be_bytes());
            // In milliseconds, because the state store keeps no finer times: the ID is the same after a restart.
            hash.field(&part.at.as_millisecond().to_be_bytes());
        }
        hash.finish().to_string()[..32].into()
    }

    /// Returns the total size of the values, in bytes.
    pub(crate) fn size_bytes(&self) -> usize {
        self.parts.iter().filter_map(|part| part.value.as_ref()).map(|it| it.content.len()).sum()
    }
}

/// SHA-256 of a list of fields. Each field has a length prefix, so that the fields `a`, `bc` and the fields `ab`,
/// `c` have different digests.
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

    fn finish(self) -> Digest {
        Digest::from(<[u8; 32]>::from(self.0.finalize()))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Returns a part with this value; `None` is a removal.
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
    fn digest_depends_on_names_values_and_settings() {
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
    fn id_differs_for_a_republished_value() {
        let one = update(&[("a", 1, Some("x"))]);
        assert_eq!(one.id(), one.clone().id());
        assert_ne!(one.id(), update(&[("a", 3, Some("x"))]).id());
    }
}
