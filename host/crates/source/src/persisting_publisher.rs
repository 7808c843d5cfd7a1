//! Publisher of a source: stores each publication before it reaches the subscriptions.

use crate::{
    driver::Publish,
    latest_value::Writer,
    persistence::{Persistence, Publication},
};
use jiff::Timestamp;
use reloader_engine::types::{Revision, Snapshot};
use reloader_util::panics;
use std::{convert::Infallible, sync::Arc, time::Duration};
use tracing::warn;

/// Publisher that stores each publication before it reaches the subscriptions.
pub(crate) struct PersistingPublisher {
    pub(crate) writer: Arc<Writer>,
    pub(crate) persistence: Option<Arc<dyn Persistence>>,
    /// Last revision before a restart, if its value was not stored.
    pub(crate) unstored_revision: Option<Revision>,
}

impl Publish for PersistingPublisher {
    type Value = Snapshot;
    type Error = Infallible;

    fn publish(&self, revision: Revision, value: Option<Snapshot>) -> Result<(), Infallible> {
        let at = Timestamp::now();
        match &self.persistence {
            None => self.writer.publish_at(revision, value, at),
            Some(persistence) => {
                let publication = Publication { revision, value: value.clone(), at };
                let (writer, stored) = (Arc::clone(&self.writer), value.clone());
                let publish = Box::new(move || writer.publish_at(revision, stored, at));
                let stored = panics::catch(|| persistence.store(publication, publish));
                if let Err(error) = stored {
                    // A value that cannot be stored is published nevertheless.
                    warn!(%revision, error, "value storage panicked, publishing the value");
                    self.writer.publish_at(revision, value, at);
                }
            }
        }
        Ok(())
    }

    fn confirmed(&self) {
        // The value from before the restart was not stored. If nothing has been published since, the source confirms
        // that it has no value, so a removal is published. Otherwise `publish_at` ignores this revision, which is then
        // too old.
        if let Some(revision) = self.unstored_revision {
            self.writer.publish_at(revision, None, Timestamp::now());
        }
        self.writer.confirmed();
    }

    fn stale(&self, reason: Option<Arc<str>>) {
        self.writer.stale(reason);
    }

    fn failing(&self, reason: Option<Arc<str>>) {
        self.writer.failing(reason);
    }

    fn rejected(&self, value: &Snapshot, reason: Arc<str>, retry_in: Option<Duration>) {
        if let Some(persistence) = &self.persistence {
            let stored = panics::catch(|| persistence.rejected(value, &reason));
            if let Err(error) = stored {
                warn!(error, "storage of a rejected value panicked");
            }
        }
        self.writer.rejected(value.clone(), reason, retry_in);
    }
}
