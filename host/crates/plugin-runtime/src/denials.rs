//! Denied accesses of one source's plugin: each is counted, and each distinct one is logged once.

use reloader_engine::types::SourceName;
use reloader_source::metrics::Counters;
use reloader_util::sync::Mutex;
use std::{collections::BTreeMap, sync::Arc};
use tracing::{info, warn};

/// Maximum number of distinct denials that are kept and logged. Further distinct denials are counted in one total.
const MAX_DISTINCT_DENIALS: usize = 16;

/// Prefix of the messages of denials. The log omits the prefix, because the event is `access denied`.
pub(crate) const DENIED: &str = "denied: ";
/// Prefix of the messages of exceeded rate limits. The log omits the prefix, because the event is
/// `plugin exceeded a rate limit`.
pub(crate) const RATE_LIMITED: &str = "rate limited: ";

/// Denials of one source, by their message. Exceeded rate limits count as denials.
#[derive(Debug)]
pub(crate) struct Denials {
    source: SourceName,
    counters: Arc<Counters>,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    by_message: BTreeMap<String, Denial>,
    /// Number of denials that were not added to `by_message`, because the map has [`MAX_DISTINCT_DENIALS`] entries.
    others: u64,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Denial {
    count: u64,
    /// True after the denial was logged, or reported with a failure.
    is_reported: bool,
}

impl Denials {
    pub(crate) fn new(source: SourceName, counters: Arc<Counters>) -> Self {
        Self { source, counters, counts: Mutex::default() }
    }

    /// Counts a denied access of the source, by its message.
    pub(crate) fn count(&self, message: &str) {
        self.counters.count_denied_access();
        let mut counts = self.counts.lock();
        let source = &self.source;
        if let Some(denial) = counts.by_message.get_mut(message) {
            denial.count += 1;
        } else if counts.by_message.len() < MAX_DISTINCT_DENIALS {
            counts.by_message.insert(message.into(), Denial { count: 1, is_reported: false });
        } else {
            if counts.others == 0 {
                let reason = reason(message);
                warn!(%source, reason, "access denied, further denials are logged only as a total");
            }
            counts.others += 1;
        }
    }

    /// Counts an exceeded rate limit, and logs it if it has not been reported.
    pub(crate) fn count_rate_limited(&self, message: &str) {
        self.count(message);
        if self.mark_reported(message) {
            warn!(source = %self.source, reason = reason(message), "plugin exceeded a rate limit");
        }
    }

    /// Logs a denial, if it has not been reported.
    pub(crate) fn log(&self, message: &str) {
        if self.mark_reported(message) {
            warn!(source = %self.source, reason = reason(message), "access denied");
        }
    }

    /// Marks a denial as reported. Returns `true` if it had not been reported yet.
    pub(crate) fn mark_reported(&self, message: &str) -> bool {
        let mut counts = self.counts.lock();
        let denial = counts.by_message.get_mut(message);
        denial.is_some_and(|denial| !std::mem::replace(&mut denial.is_reported, true))
    }

    /// Logs how often each denial occurred, for those that occurred more than once.
    pub(crate) fn log_totals(&self) {
        let counts = self.counts.lock();
        let source = &self.source;
        for (message, Denial { count, .. }) in &counts.by_message {
            if *count > 1 && message.starts_with(RATE_LIMITED) {
                info!(%source, count, reason = reason(message), "total of repeated rate limit violations");
            } else if *count > 1 {
                info!(%source, count, reason = reason(message), "total of repeated access denials");
            }
        }
        if counts.others > 1 {
            info!(%source, count = counts.others, "further access denials, not logged individually");
        }
    }

    /// Returns the message and the number of each denial.
    pub(crate) fn all(&self) -> Vec<(String, u64)> {
        let counts = self.counts.lock();
        let known =
            counts.by_message.iter().map(|(message, denial)| (message.clone(), denial.count));
        let others = (counts.others > 0).then(|| ("other denials".to_owned(), counts.others));
        known.chain(others).collect()
    }
}

/// Returns a message without the prefix [`DENIED`] or [`RATE_LIMITED`].
fn reason(message: &str) -> &str {
    let reason = message.strip_prefix(DENIED).or_else(|| message.strip_prefix(RATE_LIMITED));
    reason.unwrap_or(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distinct_denials_are_bounded() {
        let denials = Denials::new(SourceName::new("s"), Arc::default());
        for _ in 0..5 {
            denials.count("denied: a");
            denials.log("denied: a");
        }
        for number in 0..1_000 {
            denials.count(&format!("denied: {number}"));
        }
        assert_eq!(denials.counters.read().denied_accesses, 1_005);
        let counts = denials.counts.lock();
        assert_eq!(counts.by_message["denied: a"], Denial { count: 5, is_reported: true });
        assert_eq!(counts.by_message.len(), MAX_DISTINCT_DENIALS);
        assert_eq!(counts.others, 1_000 - (MAX_DISTINCT_DENIALS as u64 - 1));
    }
}
