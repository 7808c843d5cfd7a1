//! Entries of the event log: the latest event of each source, ordered by sequence number.

use bytes::Bytes;
use reloader_api_types::Event;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Maximum number of entries of removed sources. These entries tell reconnecting clients which sources were removed.
const MAX_REMOVED_ENTRIES: usize = 1024;

/// Entries by source, and the sources by sequence number.
#[derive(Default)]
pub(crate) struct Entries {
    pub(crate) by_source: HashMap<String, Entry>,
    pub(crate) order: BTreeMap<u64, String>,
    /// Sequence numbers of the entries of removed sources.
    removed: BTreeSet<u64>,
    pub(crate) last_number: u64,
    /// Sequence number of the newest entry of a removed source that was dropped.
    pub(crate) last_dropped: u64,
}

/// Entry of the event log: the latest event of one source.
pub(crate) struct Entry {
    pub(crate) number: u64,
    /// Content of the event; `None` if the source was removed from the configuration.
    event: Option<Event>,
    /// Event in the wire format of server-sent events.
    pub(crate) frame: Bytes,
}

impl Entries {
    /// Replaces the entry of a source, if the event differs from the previous one. Returns the sequence number of
    /// the new entry.
    pub(crate) fn append(&mut self, boot: &str, name: &str, event: Option<Event>) -> Option<u64> {
        let previous = self.by_source.get(name);
        if previous.map_or(event.is_none(), |previous| previous.event == event) {
            return None;
        }
        if let Some(previous) = previous.map(|previous| previous.number) {
            self.order.remove(&previous);
            self.removed.remove(&previous);
        }
        self.last_number += 1;
        let number = self.last_number;
        let frame = frame(boot, number, name, event.as_ref());
        if event.is_none() {
            self.removed.insert(number);
        }
        self.order.insert(number, name.into());
        self.by_source.insert(name.into(), Entry { number, event, frame });
        if self.removed.len() > MAX_REMOVED_ENTRIES {
            self.drop_oldest_removed();
        }
        Some(number)
    }

    fn drop_oldest_removed(&mut self) {
        if let Some(number) = self.removed.pop_first() {
            if let Some(name) = self.order.remove(&number) {
                self.by_source.remove(&name);
            }
            self.last_dropped = number;
        }
    }
}

/// Encodes an event in the wire format of server-sent events.
fn frame(boot: &str, number: u64, name: &str, event: Option<&Event>) -> Bytes {
    let (kind, data) = match event {
        Some(event) => ("source", serde_json::to_string(event)),
        None => ("gone", serde_json::to_string(&serde_json::json!({ "source": name }))),
    };
    // Compact JSON contains no line breaks, which would end the `data` field.
    let data = data.unwrap_or_default();
    format!("id: {boot}-{number}\nevent: {kind}\ndata: {data}\n\n").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str) -> Option<Event> {
        Some(Event {
            source: name.into(),
            state: "current".into(),
            revision: 1,
            at: None,
            pinned: None,
            etag: None,
            size: None,
            error: None,
            sinks: Vec::new(),
        })
    }

    #[test]
    fn equal_event_appends_nothing() {
        let mut entries = Entries::default();
        assert_eq!(entries.append("boot", "a", None), None, "the source was never there");
        assert_eq!(entries.append("boot", "a", event("a")), Some(1));
        assert_eq!(entries.append("boot", "a", event("a")), None);
        assert_eq!(entries.append("boot", "a", None), Some(2));
        assert_eq!(entries.append("boot", "a", event("a")), Some(3));
        assert_eq!((entries.order.len(), entries.removed.len()), (1, 0));
    }

    #[test]
    fn entries_of_removed_sources_are_bounded() {
        let mut entries = Entries::default();
        entries.append("boot", "first", event("first"));
        let removed = MAX_REMOVED_ENTRIES as u64 + 1;
        for number in 0..removed {
            let name = format!("source-{number}");
            entries.append("boot", &name, event(&name));
            entries.append("boot", &name, None);
        }
        assert_eq!(entries.order.len(), MAX_REMOVED_ENTRIES + 1);
        assert_eq!(entries.by_source.len(), MAX_REMOVED_ENTRIES + 1);
        assert_eq!(entries.last_dropped, 3, "the removal of the first source that was removed");
        assert!(entries.by_source.contains_key("first"));
    }
}
