//! Waiting for a path's content to change.
//!
//! What is complete in itself (a rename, a writer that closes the file) is reported at once, and only
//! then it is found out whether the path leads somewhere else now; if so, and when all of that is
//! watched, it is reported again. A file that is written to is reported when its writer pauses.

use crate::{
    debounce::{MAX_WAIT, RECENT},
    notification::{Signal, Writing},
    poll::{Probing, probed},
    resolver::{Followed, Found},
    watcher::{LastWriter, Settings},
};
use std::{future::pending, io, mem::take, sync::Arc};
use tokio::{
    task::{JoinError, JoinHandle},
    time::{Instant, sleep_until},
};

/// Tells when the content of a path may have changed.
#[derive(Debug)]
pub struct PathWatch {
    signal: Arc<Signal>,
    settings: Settings,
    way: Way,
    /// Where the path leads must be found out again.
    due: bool,
    /// It is to be reported then, even if it leads where it led before.
    detour: bool,
    /// Where not every change is told.
    probing: Option<Probing>,
    /// When events are tried again, after the limits were reached.
    retry_at: Option<Instant>,
}

/// Where a path leads.
#[derive(Debug)]
enum Way {
    Known(Box<Followed>),
    /// Being found out, on another thread, so that a slow file system blocks nobody.
    Following(JoinHandle<(Box<Followed>, Found)>),
    /// Following has failed.
    Lost,
}

/// What was waited for.
enum Step {
    Woken,
    Followed(Result<(Box<Followed>, Found), JoinError>),
    Paused,
    Probed,
    Retry,
}

impl PathWatch {
    pub(crate) fn new(
        signal: Arc<Signal>,
        followed: Box<Followed>,
        found: Found,
        settings: Settings,
    ) -> Self {
        let way = Way::Lost;
        let mut watch = Self {
            signal,
            settings,
            way,
            due: false,
            detour: false,
            probing: None,
            retry_at: None,
        };
        watch.arrived(followed, found);
        watch
    }

    /// Waits until the content may have changed since the last call. Nothing is lost when the future
    /// is dropped.
    ///
    /// # Errors
    ///
    /// When the path can no longer be watched.
    pub async fn changed(&mut self) -> io::Result<()> {
        let signal = Arc::clone(&self.signal);
        // What the last call left to be done, even if there is something to report at once.
        if let Way::Following(following) = &mut self.way
            && following.is_finished()
        {
            let followed = following.await;
            if self.followed(followed)? {
                return Ok(());
            }
        }
        self.follow()?;
        loop {
            let woken = signal.wake.notified();
            let pending = signal.take();
            self.due |= pending.moved;
            self.detour |= pending.detour;
            if pending.changed {
                return Ok(());
            }
            self.follow()?;
            let step = tokio::select! {
                biased;
                () = woken => Step::Woken,
                followed = following(&mut self.way) => Step::Followed(followed),
                () = paused(pending.writing) => Step::Paused,
                () = probed(&mut self.probing) => Step::Probed,
                () = at(self.retry_at) => Step::Retry,
            };
            match step {
                Step::Woken => {}
                Step::Followed(followed) => {
                    if self.followed(followed)? {
                        return Ok(());
                    }
                }
                Step::Paused => {
                    if signal.has_paused(ended) {
                        return Ok(());
                    }
                }
                Step::Probed => {
                    signal.doubt();
                    return Ok(());
                }
                Step::Retry => {
                    self.retry_at = None;
                    self.due = true;
                }
            }
        }
    }

    /// What is known of the file's last writer, for [`FileWatcher::read`](super::FileWatcher::read).
    #[must_use]
    pub fn last_writer(&self) -> LastWriter {
        LastWriter::of(&self.signal)
    }

    /// Begins to find out whether the path leads somewhere else, if that is due.
    fn follow(&mut self) -> io::Result<()> {
        if !self.due {
            return Ok(());
        }
        match std::mem::replace(&mut self.way, Way::Lost) {
            Way::Known(mut followed) => {
                self.due = false;
                self.way = Way::Following(tokio::task::spawn_blocking(move || {
                    let found = followed.follow();
                    (followed, found)
                }));
                Ok(())
            }
            // What has begun may have missed it; it is done again afterwards.
            following @ Way::Following(_) => {
                self.way = following;
                Ok(())
            }
            Way::Lost => Err(io::Error::other("the path could not be followed")),
        }
    }

    /// Whether there is something to report now that it is known where the path leads.
    fn followed(
        &mut self,
        followed: Result<(Box<Followed>, Found), JoinError>,
    ) -> io::Result<bool> {
        self.way = Way::Lost;
        let (followed, found) = followed.map_err(io::Error::other)?;
        Ok(self.arrived(followed, found))
    }

    fn arrived(&mut self, followed: Box<Followed>, found: Found) -> bool {
        let probed = self.probing.is_some();
        match (&mut self.probing, found.unseen) {
            (Some(probing), Some(unseen)) => probing.set_blindly(unseen.blindly),
            (none @ None, Some(unseen)) => {
                let every = self.settings.probe_every;
                let (signature, blindly) = (unseen.signature, unseen.blindly);
                *none = Some(Probing::new(followed.path(), every, blindly, signature));
            }
            (probing, None) => *probing = None,
        }
        self.retry_at = found.limited.then(|| Instant::now() + self.settings.retry_every);
        self.way = Way::Known(followed);
        // Between one way of seeing and the other, something may have been overlooked.
        let detour = take(&mut self.detour);
        let changed = found.elsewhere || detour || probed != self.probing.is_some();
        if changed {
            self.signal.doubt();
        }
        changed
    }
}

async fn following(way: &mut Way) -> Result<(Box<Followed>, Found), JoinError> {
    match way {
        Way::Following(following) => following.await,
        Way::Known(_) | Way::Lost => pending().await,
    }
}

async fn paused(writing: Option<Writing>) {
    at(writing.map(ended)).await;
}

/// When a file that is written to is reported: when its writer has paused, or, if it never does, so long
/// after it began.
fn ended(writing: Writing) -> Instant {
    (writing.last + RECENT).min(writing.since + MAX_WAIT)
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => pending().await,
    }
}
