//! What has happened to one watched path, from who listens to whoever waits.

use crate::symlink_chain::{Device, Role};
use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};
use tokio::{sync::Notify, time::Instant};

/// What the system says of a directory entry, or of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Happening {
    /// Made here: by `open`, which is followed by writing; or as a link.
    Created,
    /// Renamed to here.
    Placed,
    /// Removed, or renamed away.
    Removed,
    Written,
    /// A writer has closed it.
    Closed,
    /// Who may read it, or how many names it has.
    Attributes,
    /// The directory that is watched, or the file, has itself been moved, removed or changed.
    Itself,
    /// Its file system is no longer there.
    Unmounted,
}

/// What a [`PathWatch`](super::PathWatch) waits for.
#[derive(Debug)]
pub(crate) struct Signal {
    /// Tells it from all others.
    pub(crate) id: u64,
    pub(crate) wake: Notify,
    state: Mutex<Pending>,
    /// The writer that was seen last is done: what is read now is complete.
    complete: AtomicBool,
    /// Where the file was when it was last looked for.
    device: Mutex<Option<Device>>,
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Pending {
    /// Something happened that is complete in itself.
    pub(crate) changed: bool,
    /// The path may lead somewhere else.
    pub(crate) moved: bool,
    /// It has led somewhere else, if only for a moment: whoever read then has read something else.
    pub(crate) detour: bool,
    /// Somebody is writing.
    pub(crate) writing: Option<Writing>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Writing {
    pub(crate) since: Instant,
    pub(crate) last: Instant,
}

impl Default for Signal {
    fn default() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            wake: Notify::new(),
            state: Mutex::default(),
            complete: AtomicBool::new(false),
            device: Mutex::default(),
        }
    }
}

impl Signal {
    pub(crate) fn happened(&self, role: Role, what: Happening) {
        use Happening::{Attributes, Closed, Created, Itself, Placed, Removed, Unmounted, Written};
        match (role, what) {
            // Complete as it is: a file, or a directory or a link on the way. What is here now may be
            // a link.
            (Role::Way | Role::Content, Placed) | (Role::Content, Removed) => {
                self.finished(|state| (state.changed, state.moved) = (true, true));
            }
            (Role::Way, Created | Removed) => {
                self.update(|state| (state.moved, state.detour) = (true, true));
            }
            (Role::Way, Attributes | Itself)
            | (Role::Content, Itself)
            | (Role::Names, Attributes | Itself)
            | (Role::File, Itself)
            | (_, Unmounted) => self.moved(),
            (Role::Content, Created) => {
                self.writes();
                self.moved();
            }
            (Role::Content | Role::File, Written) => self.writes(),
            (Role::Content | Role::File, Closed) => {
                self.finished(|state| (state.changed, state.writing) = (true, None));
            }
            // It may be readable now, so that it can be watched itself; or have another name.
            (Role::Content | Role::File, Attributes) => {
                self.update(|state| (state.changed, state.moved) = (true, true));
            }
            // Told by the directory; or of a file that is on the way, in the place of a directory.
            (Role::File | Role::Names, Created | Placed | Removed)
            | (Role::Way | Role::Names, Written | Closed) => {}
        }
    }

    /// What has happened, taken; but not that somebody is writing, which ends by itself.
    pub(crate) fn take(&self) -> Pending {
        let mut state = lock(&self.state);
        let pending = *state;
        *state = Pending { writing: state.writing, ..Pending::default() };
        pending
    }

    /// The path may lead somewhere else.
    pub(crate) fn moved(&self) {
        self.update(|state| state.moved = true);
    }

    /// Events were lost: anything may have happened.
    pub(crate) fn lost(&self) {
        self.doubt();
        self.update(|state| (state.changed, state.moved) = (true, true));
    }

    /// Whether the writer has paused for long enough, which is asked once: `end` says until when.
    pub(crate) fn has_paused(&self, end: impl FnOnce(Writing) -> Instant) -> bool {
        let writing = &mut lock(&self.state).writing;
        writing.take_if(|writing| end(*writing) <= Instant::now()).is_some()
    }

    /// Nothing is known of the last writer.
    pub(crate) fn doubt(&self) {
        self.complete.store(false, Ordering::Release);
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.complete.load(Ordering::Acquire)
    }

    pub(crate) fn device(&self) -> Option<Device> {
        *lock(&self.device)
    }

    pub(crate) fn set_device(&self, device: Option<Device>) {
        *lock(&self.device) = device;
    }

    fn finished(&self, f: impl FnOnce(&mut Pending)) {
        self.complete.store(true, Ordering::Release);
        self.update(f);
    }

    /// Wakes for the first of many writes only: who waits for a pause looks again when it is due.
    fn writes(&self) {
        self.doubt();
        let now = Instant::now();
        let mut state = lock(&self.state);
        match &mut state.writing {
            Some(writing) => writing.last = now,
            None => {
                state.writing = Some(Writing { since: now, last: now });
                drop(state);
                self.wake.notify_one();
            }
        }
    }

    fn update(&self, f: impl FnOnce(&mut Pending)) {
        f(&mut lock(&self.state));
        self.wake.notify_one();
    }
}

/// A panic while the lock was held leaves nothing half done here.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is known after something has happened: `changed`, `moved`, `writing`, `complete`.
    fn after(role: Role, what: Happening) -> String {
        let signal = Signal::default();
        signal.happened(role, what);
        let pending = signal.take();
        let words = [
            (pending.changed, "changed"),
            (pending.moved, "moved"),
            (pending.detour, "detour"),
            (pending.writing.is_some(), "writing"),
            (signal.is_complete(), "complete"),
        ];
        let words = words.into_iter().filter(|(is, _)| *is).map(|(_, word)| word);
        words.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn each_happening_has_its_meaning() {
        use Happening::{Attributes, Closed, Created, Itself, Placed, Removed, Unmounted, Written};
        use Role::{Content, File, Names, Way};
        for (role, what, meaning) in [
            (Way, Placed, "changed moved complete"),
            (Way, Created, "moved detour"),
            (Way, Removed, "moved detour"),
            (Way, Attributes, "moved"),
            (Way, Itself, "moved"),
            (Way, Written, ""),
            (Content, Placed, "changed moved complete"),
            (Content, Removed, "changed moved complete"),
            (Content, Created, "moved writing"),
            (Content, Written, "writing"),
            (Content, Closed, "changed complete"),
            (Content, Attributes, "changed moved"),
            (Content, Itself, "moved"),
            (File, Written, "writing"),
            (File, Closed, "changed complete"),
            (File, Attributes, "changed moved"),
            (File, Itself, "moved"),
            (File, Unmounted, "moved"),
            (Names, Attributes, "moved"),
            (Names, Written, ""),
        ] {
            assert_eq!(after(role, what), meaning, "{role:?} {what:?}");
        }
    }

    #[test]
    fn what_is_taken_is_taken_but_for_who_is_writing() {
        let signal = Signal::default();
        signal.happened(Role::Content, Happening::Written);
        signal.lost();
        let Pending { changed, moved, writing, .. } = signal.take();
        assert!(changed && moved && writing.is_some());
        let Pending { changed, moved, writing, .. } = signal.take();
        assert!(!changed && !moved && writing.is_some());
        assert!(!signal.has_paused(|writing| writing.last + std::time::Duration::from_secs(60)));
        assert!(signal.has_paused(|writing| writing.last));
        assert!(!signal.has_paused(|writing| writing.last));
    }
}
